"""Window geometry: kernel, stride, padding and dilation on three spatial axes.

Every operation that slides a window (convolution, pooling) describes it with one :class:`Window`. One and two spatial
axes are three with leading unit axes, so that every kernel is written once for any rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
import numpy.typing as npt

# What public functions take: one int for all spatial axes or one each; for padding also pairs and names.
Sizes = SupportsIndex | Sequence[SupportsIndex]
Padding = Sizes | Sequence[tuple[SupportsIndex, SupportsIndex]] | str

Triple = tuple[int, int, int]
Pairs = tuple[tuple[int, int], ...]


class Window(NamedTuple):
    """A sliding window on the axes (depth, height, width): seven triples of ints.

    A kernel size of 0 says that the windows do not slide, but share the axis among them (:func:`shared_window`).
    """

    input_size: Triple
    kernel_size: Triple
    stride: Triple
    padding_before: Triple
    padding_after: Triple
    dilation: Triple
    output_size: Triple

    def packed(self) -> npt.NDArray[np.int64]:
        """The same numbers as an int64 array of shape (7, 3), the form that compiled kernels take."""
        return _packed(self)


LARGEST_KERNEL, LARGEST_DILATION = 15, 16  # on an axis, that Winograd's algorithm is made for


def is_tileable(window: Window) -> bool:
    """Whether Winograd's algorithm is made for it: steps of 1, and kernels that extend along the last two axes."""
    small = max(window.kernel_size) <= LARGEST_KERNEL and max(window.dilation) <= LARGEST_DILATION
    return small and window.stride == (1, 1, 1) and window.kernel_size[1:] != (1, 1)


LONGEST_ROW = 2**15  # elements of the longest kernel that Fourier transforms are made for


def is_row(window: Window) -> bool:
    """Whether only the last axis has a kernel and padding, of stride and dilation 1: what transforms here are for."""
    axes = zip(window.kernel_size, window.padding_before, window.padding_after, strict=True)
    steps = (window.stride, window.dilation) == ((1, 1, 1), (1, 1, 1))
    return steps and list(axes)[:2] == [(1, 0, 0)] * 2 and window.kernel_size[2] <= LONGEST_ROW


@lru_cache(maxsize=1024)
def _packed(window: Window) -> npt.NDArray[np.int64]:
    table = np.array(window, dtype=np.int64)
    table.setflags(write=False)
    return table


def output_size(
    size: int, kernel: int, stride: int, before: int, after: int, dilation: int, *, ceil_mode: bool = False
) -> int:
    """Number of window positions on one axis; zero or less where the window does not fit.

    With ``ceil_mode`` a last, partial window counts unless it would start in the padding after the input (the rule of
    PyTorch and of ONNX 22). One that fits is not partial, and counts wherever it starts: with a padding of more than
    half a window, which those two refuse.
    """
    span = size + before + after - dilation * (kernel - 1) - 1
    whole = span // stride + 1
    if not ceil_mode or span % stride == 0 or whole * stride >= size + before:
        return whole
    return whole + 1


def same_padding(size: int, kernel: int, stride: int, dilation: int, *, lower: bool = False) -> tuple[int, int]:
    """The (before, after) pair that gives ``ceil(size / stride)`` outputs; the odd element goes after (or before)."""
    count = -(-size // stride)
    total = max((count - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
    small, large = total // 2, total - total // 2
    return (large, small) if lower else (small, large)


@lru_cache(maxsize=1024)
def make_window(
    input_size: tuple[int, ...],
    kernel_size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: Pairs | str,
    dilation: tuple[int, ...],
    ceil_mode: bool = False,
) -> Window:
    """Build the :class:`Window` of arguments that are already checked; ``padding`` is pairs, "same" or "same_lower"."""
    if isinstance(padding, str):
        lower = padding == "same_lower"
        padding = tuple(
            same_padding(*axis, lower=lower) for axis in zip(input_size, kernel_size, stride, dilation, strict=True)
        )
    before, after = zip(*padding, strict=True)
    count = tuple(
        output_size(*axis, ceil_mode=ceil_mode)
        for axis in zip(input_size, kernel_size, stride, before, after, dilation, strict=True)
    )
    return _on_three_axes(input_size, kernel_size, stride, before, after, dilation, count)


@lru_cache(maxsize=1024)
def shared_window(input_size: tuple[int, ...], output_size: tuple[int, ...]) -> Window:
    """The :class:`Window` of ``output_size`` windows that share the input among them, as evenly as can be.

    Window i of m covers the elements from ``floor(i * n / m)`` to ``ceil((i + 1) * n / m)`` of n. Where m divides n
    it slides.
    """
    step = tuple(n // m if n % m == 0 else 0 for n, m in zip(input_size, output_size, strict=True))
    ones, zeros = (1,) * len(step), (0,) * len(step)
    return _on_three_axes(input_size, step, step, zeros, zeros, ones, output_size)


def _on_three_axes(*fields: Any) -> Window:
    """The :class:`Window` of these fields: one or two axes are three with leading ones, as narrow as can be."""
    ones, zeros = (1,) * (3 - len(fields[0])), (0,) * (3 - len(fields[0]))
    leading = (ones, ones, ones, zeros, zeros, ones, ones)
    return Window(*(lead + axes for lead, axes in zip(leading, fields, strict=True)))
