"""Arrays with any strides as kernels take them: their memory, one-dimensional, and where the elements are in it."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.cuda import arrays, layout
from fastconv.cuda._jit import from_dtype
from fastconv.cuda.arrays import Array
from fastconv.cuda.geometry import COUNT, Filters, Images


def types_of(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Numba's type of the elements, and that of sums of them."""
    return from_dtype(dtype), from_dtype(sum_dtype(dtype))


def sum_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """float16 is summed in float32."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def steps(x: Array) -> tuple[int, ...]:
    """Strides in elements."""
    return tuple(stride // x.itemsize for stride in x.strides)


def span(x: Array) -> tuple[Array, int]:
    """All memory between the elements of ``x``, one-dimensional, and where its first element is in there."""
    low, high = layout.extent(x)
    count = (high - low) // x.itemsize
    if count >= COUNT:
        raise ValueError(f"a CUDA array must span fewer than 2**31 elements, got {x.shape} with strides {x.strides}")
    first = (x.pointer - low) // x.itemsize
    return view(x, (count,), (1,), -first), first


def aligned(x: Array) -> Array:
    """``x``, copied where its elements are not where elements can be read."""
    return layout.contiguous(x) if _is_askew(x) else x


def _is_askew(x: Array) -> bool:
    return any((x.pointer | abs(stride)) % x.itemsize for stride in (0, *x.strides))


def view(x: Array, shape: tuple[int, ...], steps: tuple[int, ...], start: int = 0) -> Array:
    """The memory of ``x`` from its element ``start`` on, seen in another way."""
    strides = tuple(step * x.itemsize for step in steps)
    return Array(x.owner, x.pointer + start * x.itemsize, shape, strides, x.dtype, x.stream, x.read_only)


def scratch(like: Array, count: int, dtype: np.dtype[Any] | None = None) -> Array:
    """Memory for the time of a call."""
    if count >= COUNT:
        raise ValueError(f"CUDA arrays must have fewer than 2**31 elements, this call needs one of {count}")
    return arrays.empty(like, (count,), like.dtype if dtype is None else dtype)


def target(out: Array | None, shape: tuple[int, ...], like: Array, *inputs: Array | None) -> Array:
    """What kernels write: ``out`` where no input overlaps it, or else a new array in the memory order of ``like``.

    Unlike :func:`fastconv.cuda.layout.target` it may have any strides.
    """
    if out is not None and not _is_askew(out) and not any(layout.overlap(out, x) for x in inputs if x is not None):
        return out
    return layout.empty_channels(like, shape, like.dtype, len(shape) == like.ndim and layout.is_channels_last(like))


def images(x: Array) -> tuple[Array, Images]:
    """A one-dimensional view of the memory of ``x`` (N, C, *spatial), and where its elements are."""
    x = aligned(x)
    data, first = span(x)
    image, channel, *axes = steps(x)
    return data, Images(first, image, channel, *(0,) * (3 - len(axes)), *axes)


def filters(weight: Array, groups: int, backward: bool) -> tuple[Array, Filters]:
    """The same of a weight (O, C // groups, *K). Rows are output channels, or input channels of the input gradient."""
    weight = aligned(weight)
    data, first = span(weight)
    out, channel, *axes = steps(weight)
    row, column = (channel, out) if backward else (out, channel)
    group = weight.shape[0] // groups * out
    return data, Filters(first, group, row, column, *(0,) * (3 - len(axes)), *axes)
