"""Pooling for any number of spatial axes: what each public function of pooling is one line over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from types import ModuleType, NoneType
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
import numpy.typing as npt

from fastconv import _checks, _dispatch
from fastconv._batch import with_batch, without_batch
from fastconv._window import Padding, Sizes, Window, shared_window

Array = npt.NDArray[Any]
OutputSizes = SupportsIndex | Sequence[SupportsIndex | None] | None
INDICES = (np.dtype(np.int64),)
ORDERED = _checks.STORED + _checks.INTEGERS  # dtypes that have a maximum


class MaxPooled(NamedTuple):
    """Result of max pooling with ``return_indices=True``: maxima, and where each is in its plane of the input."""

    values: Array
    indices: Array


_PLAIN = frozenset((int, bool, str, NoneType))


# ------------------------------------------------------------------------------------------------------------- windows
def window(name: str, sizes: tuple[int, ...], *arguments: Any) -> Window:
    """Check the window of these arguments: kernel_size, stride, padding, dilation and ceil_mode, as they were given."""
    plain = _PLAIN.issuperset(map(type, arguments))
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
def pooled_shape(shape: Sequence[int], sizes: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """A whole shape, with or without a batch, whose last ``rank`` axes have other sizes."""
    return (*shape[: len(shape) - rank], *sizes[len(sizes) - rank :])


def check_indices(indices: Array, shape: tuple[int, ...]) -> None:
    """One position for each element of an array of this shape."""
    _checks.array("indices", indices, (len(shape),), INDICES)
    _checks.shape("indices", indices, shape)


def placed(result: Array | None, indices: Array, sizes: tuple[int, ...]) -> Array:
    """Refuse indices of which one was outside of its plane."""
    if result is None:
        size = math.prod(sizes)
        outside = indices[(indices < 0) | (indices >= size)].flat[0]
        raise ValueError(f"indices must be at least 0 and below {size}, the size of a plane of {sizes}, got {outside}")
    return result


# ------------------------------------------------------------------------------------------------------------- maximum
@_dispatch.operation
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
    _checks.array("x", x, (rank + 2, rank + 1), ORDERED)
    sliding = window("x", x.shape[-rank:], kernel_size, stride, padding, dilation, ceil_mode)
    _checks.output(out, pooled_shape(x.shape, sliding.output_size, rank), x.dtype)
    return _maxima(backend, rank, x, sliding, return_indices, out)


def _maxima(
    backend: ModuleType, rank: int, x: Array, windows: Window, return_indices: bool, out: Array | None
) -> Array | MaxPooled:
    unbatched = x.ndim == rank + 1
    y, indices = backend.max_pool_forward(
        with_batch(x, unbatched), windows, bool(return_indices), with_batch(out, unbatched)
    )
    y = without_batch(y, unbatched, out)
    return MaxPooled(y, without_batch(indices, unbatched)) if return_indices else y


@_dispatch.operation
def max_pool_backward(rank: int, grad_out: Array, indices: Array, input_shape: Sequence[int]) -> Array:
    backend = _dispatch.backend(grad_out=grad_out, indices=indices)
    shape = _checks.shape_argument("input_shape", input_shape, (rank + 2, rank + 1))
    _checks.array("grad_out", grad_out, (len(shape),))
    check_indices(indices, grad_out.shape)
    _checks.shape("grad_out", grad_out, pooled_shape(shape, grad_out.shape, rank))
    unbatched = len(shape) == rank + 1
    operands = with_batch(grad_out, unbatched), with_batch(indices, unbatched)
    grad_x = placed(backend.max_pool_backward(*operands, (1, *shape) if unbatched else shape), indices, shape[-rank:])
    return without_batch(grad_x, unbatched)


# ----------------------------------------------------------------------------------------------------- sums and means
@_dispatch.operation
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
    return without_batch(y, unbatched, out)


@_dispatch.operation
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
    return without_batch(grad_x, unbatched)


# ------------------------------------------------------------------------------------------------ windows that share x
def _shared(x_name: str, sizes: tuple[int, ...], output_size: OutputSizes) -> Window:
    """The windows of an adaptive pooling; None stands for the size of the input on an axis."""
    occupied(x_name, sizes)
    wanted: Any = sizes if output_size is None else output_size
    if isinstance(wanted, (tuple, list)) and len(wanted) == len(sizes):
        wanted = tuple(size if number is None else number for size, number in zip(sizes, wanted, strict=True))
    return shared_window(sizes, _checks.integers("output_size", wanted, len(sizes), 1))


@_dispatch.operation
def adaptive_avg_pool(rank: int, x: Array, output_size: OutputSizes) -> Array:
    backend = _dispatch.backend(x=x)
    _checks.array("x", x, (rank + 2, rank + 1))
    windows, unbatched = _shared("x", x.shape[-rank:], output_size), x.ndim == rank + 1
    y: Array = backend.sum_pool_forward(with_batch(x, unbatched), windows, False, None, None)
    return without_batch(y, unbatched)


@_dispatch.operation
def adaptive_avg_pool_backward(rank: int, grad_out: Array, input_shape: Sequence[int]) -> Array:
    backend = _dispatch.backend(grad_out=grad_out)
    shape = _checks.shape_argument("input_shape", input_shape, (rank + 2, rank + 1))
    _checks.array("grad_out", grad_out, (len(shape),))
    _checks.shape("grad_out", grad_out, pooled_shape(shape, grad_out.shape, rank))
    occupied("grad_out", grad_out.shape[-rank:])
    windows, unbatched = _shared("input_shape", shape[-rank:], grad_out.shape[-rank:]), len(shape) == rank + 1
    full = (1, *shape) if unbatched else shape
    grad_x: Array = backend.sum_pool_backward(with_batch(grad_out, unbatched), full, windows, False, None)
    return without_batch(grad_x, unbatched)


@_dispatch.operation
def adaptive_max_pool(rank: int, x: Array, output_size: OutputSizes, return_indices: bool) -> Array | MaxPooled:
    backend = _dispatch.backend(x=x)
    _checks.array("x", x, (rank + 2, rank + 1), ORDERED)
    return _maxima(backend, rank, x, _shared("x", x.shape[-rank:], output_size), return_indices, None)


# ------------------------------------------------------------------------------------------------------------ unpooling
@_dispatch.operation
def max_unpool(rank: int, x: Array, indices: Array, output_shape: Sequence[int]) -> Array:
    backend = _dispatch.backend(x=x, indices=indices)
    shape = _checks.shape_argument("output_shape", output_shape, (rank + 2, rank + 1))
    _checks.array("x", x, (len(shape),), ORDERED)
    check_indices(indices, x.shape)
    _checks.shape("x", x, pooled_shape(shape, x.shape, rank))
    unbatched = len(shape) == rank + 1
    operands = with_batch(x, unbatched), with_batch(indices, unbatched)
    y = placed(backend.max_unpool_forward(*operands, (1, *shape) if unbatched else shape), indices, shape[-rank:])
    return without_batch(y, unbatched)


@_dispatch.operation
def max_unpool_backward(rank: int, grad_out: Array, indices: Array) -> Array:
    backend = _dispatch.backend(grad_out=grad_out, indices=indices)
    _checks.array("grad_out", grad_out, (rank + 2, rank + 1), ORDERED)
    check_indices(indices, pooled_shape(grad_out.shape, indices.shape[-rank:], rank))
    unbatched = grad_out.ndim == rank + 1
    operands = with_batch(grad_out, unbatched), with_batch(indices, unbatched)
    grad_x = placed(backend.max_unpool_backward(*operands), indices, grad_out.shape[-rank:])
    return without_batch(grad_x, unbatched)


# --------------------------------------------------------------------------------------------------------- power means
@_dispatch.operation
def lp_pool(rank: int, x: Array, norm_type: float, kernel_size: Sizes, stride: Sizes | None, ceil_mode: bool) -> Array:
    backend, p = _dispatch.backend(x=x), _exponent(norm_type)
    _checks.array("x", x, (rank + 2, rank + 1))
    sliding, unbatched = window("x", x.shape[-rank:], kernel_size, stride, 0, 1, ceil_mode), x.ndim == rank + 1
    y: Array = backend.lp_pool_forward(with_batch(x, unbatched), sliding, p, math.prod(sliding.kernel_size))
    return without_batch(y, unbatched)


@_dispatch.operation
def lp_pool_backward(
    rank: int,
    grad_out: Array,
    x: Array,
    norm_type: float,
    kernel_size: Sizes,
    stride: Sizes | None,
    ceil_mode: bool,
) -> Array:
    backend, p = _dispatch.backend(grad_out=grad_out, x=x), _exponent(norm_type)
    _checks.array("x", x, (rank + 2, rank + 1))
    sliding, unbatched = window("x", x.shape[-rank:], kernel_size, stride, 0, 1, ceil_mode), x.ndim == rank + 1
    _checks.same_dtype("grad_out", grad_out, "x", x)
    _checks.shape("grad_out", grad_out, pooled_shape(x.shape, sliding.output_size, rank))
    operands = with_batch(grad_out, unbatched), with_batch(x, unbatched)
    grad_x: Array = backend.lp_pool_backward(*operands, sliding, p, math.prod(sliding.kernel_size))
    return without_batch(grad_x, unbatched)


def _exponent(norm_type: Any) -> float:
    p = _checks.real("norm_type", norm_type)
    if not 0 < p < math.inf:
        raise ValueError(f"norm_type must be positive and finite, got {norm_type!r}")
    return p
