"""Algorithms, and weights that are packed for one."""

from __future__ import annotations

from typing import Any

from fastconv._checks.arrays import array
from fastconv._checks.numbers import integer, integers, option
from fastconv._checks.windows import convolution
from fastconv._window import LARGEST_DILATION, LARGEST_KERNEL, LONGEST_ROW, Window, is_row, is_tileable

ALGORITHMS = ("auto", "direct", "winograd", "fft")


def algorithm(value: Any, window: Window, rank: int) -> None:
    """The algorithm is known, and there for convolution of ``rank`` axes with this window."""
    option("algorithm", value, ALGORITHMS)
    if value == "fft" and not is_row(window):
        padding = tuple(zip(window.padding_before, window.padding_after, strict=True))[-rank:]
        raise ValueError(
            f'algorithm "fft" cannot serve these arguments: it is for kernels of up to {LONGEST_ROW} elements along '
            f"the last axis, of stride and dilation 1 and without padding on other axes, got {_steps(window, rank)}, "
            f"padding {padding}"
        )
    if value == "winograd" and not is_tileable(window):
        raise ValueError(
            f'algorithm "winograd" cannot serve these arguments: it is for kernels of up to {LARGEST_KERNEL} elements '
            f"on an axis, more than one on the last two axes together, of stride 1 and dilation up to "
            f"{LARGEST_DILATION}, got {_steps(window, rank)}"
        )


def _steps(window: Window, rank: int) -> str:
    return ", ".join(f"{name} {getattr(window, name)[-rank:]}" for name in ("kernel_size", "stride", "dilation"))


def packing(
    weight: Any, stride: Any, dilation: Any, groups: Any, name: Any
) -> tuple[tuple[int, ...], tuple[int, ...], int, str]:
    """A weight can be packed for these; stride and dilation with one int per axis, groups and the algorithm."""
    array("weight", weight, (2, 3, 4, 5))
    count = weight.ndim - 2
    strides, dilations = integers("stride", stride, max(count, 1), 1), integers("dilation", dilation, max(count, 1), 1)
    groups = integer("groups", groups, 1)
    if count == 0:
        option("algorithm", name, ALGORITHMS)
        if (strides, dilations, groups) != ((1,), (1,), 1) or name not in ("auto", "direct"):
            raise ValueError(
                'a weight of 2 dimensions, of a dense layer, has stride, dilation and groups 1 and algorithm "auto" or '
                f'"direct", got stride {stride!r}, dilation {dilation!r}, groups {groups} and algorithm "{name}"'
            )
        return (), (), 1, name
    # Any input will do that the window fits into.
    size = tuple(d * (max(k, 1) - 1) + 1 for d, k in zip(dilations, weight.shape[2:], strict=True))
    input_shape = (weight.shape[1] * groups, *size)
    window, _, _ = convolution("x", input_shape, "weight.shape", weight.shape, strides, 0, dilations, groups)
    algorithm(name, window, count)
    return strides, dilations, groups, name


def packed(weight: Any, stride: Any, dilation: Any, groups: Any, name: Any) -> None:
    """A call has the stride, dilation, groups and algorithm that its weight was packed for."""
    count = weight.ndim - 2
    given = {
        "stride": integers("stride", stride, count, 1),
        "dilation": integers("dilation", dilation, count, 1),
        "groups": integer("groups", groups, 1),
    }
    for argument, value in given.items():
        if value != getattr(weight, argument):
            raise ValueError(
                f"{argument} must be {getattr(weight, argument)}, which weight was packed for, got {value}"
            )
    option("algorithm", name, ALGORITHMS)
    if name not in ("auto", weight.algorithm):
        raise ValueError(f'algorithm must be "auto" or "{weight.algorithm}", as weight was packed, got "{name}"')
