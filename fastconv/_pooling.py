"""Pooling for any number of spatial axes: what each public function of pooling is one line over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from types import NoneType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastconv import _checks, _dispatch
from fastconv._window import Padding, Sizes, Window

Array = npt.NDArray[Any]
INDICES = (np.dtype(np.int64),)


class MaxPooled(NamedTuple):
    """Result of max pooling with ``return_indices=True``: maxima, and where each is in its plane of the input."""

    values: Array
    indices: Array


# ------------------------------------------------------------------------------------------------------------- windows
def window(name: str, sizes: tuple[int, ...], *arguments: Any) -> Window:
    """Check the window of these arguments: kernel_size, stride, padding, dilation and ceil_mode, as they were given."""
    plain = all(type(argument) in (int, bool, str, NoneType) for argument in arguments)
    return (_window_of_plain_arguments if plain else _checked_window)(name, sizes, *arguments)


def _checked_window(
    name: str, sizes: tuple[int, ...], kernel_size: Sizes, stride: Sizes | None, *options: Any
) -> Window:
    occupied(name, sizes)
    kernel = _checks.integers("kernel_size", kernel_size, len(sizes), 1)
    return _checks.window(sizes, kernel, kernel if stride is None else stride, *options)


# The usual arguments are single numbers; checking them again each time would take as long as pooling small arrays does.
_window_of_plain_arguments = lru_cache(maxsize=1024, typed=True)(_checked_window)


def occupied(name: str, sizes: tuple[int, ...]) -> None:
    """There is something to pool."""
    if min(sizes) < 1:
        raise ValueError(f"{name} must have at least 1 element on each spatial axis, got {sizes}")


# -------------------------------------------------------------------------------------------------------------- arrays
def with_batch(array: Array | None, unbatched: bool) -> Any:
    """An array with its batch axis, which one without a batch gets here."""
    return array[np.newaxis] if unbatched and array is not None else array


def pooled_shape(shape: Sequence[int], sizes: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """A whole shape, with or without a batch, whose last ``rank`` axes have other sizes."""
    return (*shape[: len(shape) - rank], *sizes[len(sizes) - rank :])


def placed(result: Array | None, indices: Array, sizes: tuple[int, ...]) -> Array:
    """Refuse indices of which one was outside of its plane."""
    if result is None:
        size = math.prod(sizes)
        outside = indices[(indices < 0) | (indices >= size)].flat[0]
        raise ValueError(f"indices must be at least 0 and below {size}, the size of a plane of {sizes}, got {outside}")
    return result


# ------------------------------------------------------------------------------------------------------------- maximum
def max_pool(
    rank: int,
    x: Array,
    kernel_size: Sizes,
    stride: Sizes | None,
    padding: Padding,
    dilation: Sizes,
    ceil_mode: bool,
    return_indices: bool,
    out: Array | None,
) -> Array | MaxPooled:
    backend = _dispatch.backend(x=x, out=out)
    _checks.array("x", x, (rank + 2, rank + 1))
    sliding = window("x", x.shape[-rank:], kernel_size, stride, padding, dilation, ceil_mode)
    _checks.output(out, pooled_shape(x.shape, sliding.output_size, rank), x.dtype)
    unbatched = x.ndim == rank + 1
    y, indices = backend.max_pool_forward(
        with_batch(x, unbatched), sliding, bool(return_indices), with_batch(out, unbatched)
    )
    if unbatched:
        y, indices = y[0] if out is None else out, indices[0] if return_indices else None
    return MaxPooled(y, indices) if return_indices else y


def max_pool_backward(rank: int, grad_out: Array, indices: Array, input_shape: Sequence[int]) -> Array:
    backend = _dispatch.backend(grad_out=grad_out, indices=indices)
    shape = _checks.shape_argument("input_shape", input_shape, (rank + 2, rank + 1))
    _checks.array("grad_out", grad_out, (len(shape),))
    _checks.array("indices", indices, (len(shape),), INDICES)
    _checks.shape("indices", indices, grad_out.shape)
    _checks.shape("grad_out", grad_out, pooled_shape(shape, grad_out.shape, rank))
    if len(shape) == rank + 2:
        return placed(backend.max_pool_backward(grad_out, indices, shape), indices, shape[-rank:])
    grad_x = backend.max_pool_backward(grad_out[np.newaxis], indices[np.newaxis], (1, *shape))
    return placed(grad_x, indices, shape[-rank:])[0]  # type: ignore[no-any-return]


# ----------------------------------------------------------------------------------------------------- sums and means
def avg_pool(
    rank: int,
    x: Array,
    kernel_size: Sizes,
    stride: Sizes | None,
    padding: Padding,
    dilation: Sizes,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
    out: Array | None,
) -> Array:
    backend = _dispatch.backend(x=x, out=out)
    _checks.array("x", x, (rank + 2, rank + 1))
    sliding = window("x", x.shape[-rank:], kernel_size, stride, padding, dilation, ceil_mode)
    divisor = None if divisor is None else _checks.integer("divisor_override", divisor, 1)
    _checks.output(out, pooled_shape(x.shape, sliding.output_size, rank), x.dtype)
    unbatched = x.ndim == rank + 1
    y: Array = backend.sum_pool_forward(
        with_batch(x, unbatched), sliding, bool(count_include_pad), divisor, with_batch(out, unbatched)
    )
    if not unbatched:
        return y
    return y[0] if out is None else out


def avg_pool_backward(
    rank: int,
    grad_out: Array,
    input_shape: Sequence[int],
    kernel_size: Sizes,
    stride: Sizes | None,
    padding: Padding,
    dilation: Sizes,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Array:
    backend = _dispatch.backend(grad_out=grad_out)
    shape = _checks.shape_argument("input_shape", input_shape, (rank + 2, rank + 1))
    _checks.array("grad_out", grad_out, (len(shape),))
    sliding = window("input_shape", shape[-rank:], kernel_size, stride, padding, dilation, ceil_mode)
    divisor = None if divisor is None else _checks.integer("divisor_override", divisor, 1)
    _checks.shape("grad_out", grad_out, pooled_shape(shape, sliding.output_size, rank))
    unbatched = len(shape) == rank + 1
    grad_x: Array = backend.sum_pool_backward(
        with_batch(grad_out, unbatched), (1, *shape) if unbatched else shape, sliding, bool(count_include_pad), divisor
    )
    return grad_x[0] if unbatched else grad_x
