"""ReLU and leaky ReLU: elementwise, at the speed of memory, for arrays of any rank and memory order."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv.cpu import _jit, order

Array = npt.NDArray[Any]

_SHARE = 1 << 16  # elements that are worth a thread


# ------------------------------------------------------------------------------------------------------------- kernels
@_jit.inlined
def _share(worker, workers, size):
    """The elements of one worker: equal runs of whole cache lines."""
    lines = (size + 15) // 16
    return min(worker * lines // workers * 16, size), min((worker + 1) * lines // workers * 16, size)


@_jit.compiled
def _relu(worker, workers, x, y):
    """y = 0 where x < 0, else x: NaN and -0 stay as they are."""
    zero = x.dtype.type(0)
    start, stop = _share(worker, workers, x.size)
    xs, ys = x[start:stop], y[start:stop]
    for i in range(xs.size):
        ys[i] = zero if xs[i] < zero else xs[i]


@_jit.compiled
def _relu_in_place(worker, workers, y):
    """The same on one array: where two may overlap, the compiler's loop falls back to one element at a time."""
    zero = y.dtype.type(0)
    start, stop = _share(worker, workers, y.size)
    ys = y[start:stop]
    for i in range(ys.size):
        ys[i] = zero if ys[i] < zero else ys[i]


@_jit.compiled
def _relu_backward(worker, workers, grad_out, y, grad_x):
    """grad_x = 0 where y <= 0, else grad_out."""
    zero = y.dtype.type(0)
    start, stop = _share(worker, workers, y.size)
    gs, ys, xs = grad_out[start:stop], y[start:stop], grad_x[start:stop]
    for i in range(ys.size):
        xs[i] = zero if ys[i] <= zero else gs[i]


@_jit.compiled
def _leaky_relu(worker, workers, x, slope, y):
    """y = x where x > 0, else slope[0] x."""
    zero, factor = x.dtype.type(0), slope[0]
    start, stop = _share(worker, workers, x.size)
    xs, ys = x[start:stop], y[start:stop]
    for i in range(xs.size):
        ys[i] = xs[i] if xs[i] > zero else factor * xs[i]


@_jit.compiled
def _leaky_relu_backward(worker, workers, grad_out, x, slope, grad_x):
    """grad_x = grad_out where x > 0, else slope[0] grad_out."""
    zero, factor = x.dtype.type(0), slope[0]
    start, stop = _share(worker, workers, x.size)
    gs, xs, ds = grad_out[start:stop], x[start:stop], grad_x[start:stop]
    for i in range(xs.size):
        ds[i] = gs[i] if xs[i] > zero else factor * gs[i]


# ----------------------------------------------------------------------------------------------------- entry functions
def relu_forward(x: Array, out: Array | None = None) -> Array:
    if out is x and order.fits(x, axes := order.memory_axes(x), x):
        _jit.launch(_relu_in_place, x.size // _SHARE, order.flat_target(x, axes))
        return x
    return _forward(_relu, x, out)


def relu_backward(grad_out: Array, y: Array) -> Array:
    return _backward(_relu_backward, grad_out, y)


def leaky_relu_forward(x: Array, negative_slope: float, out: Array | None = None) -> Array:
    return _forward(_leaky_relu, x, out, np.array([negative_slope], x.dtype))


def leaky_relu_backward(grad_out: Array, x: Array, negative_slope: float) -> Array:
    return _backward(_leaky_relu_backward, grad_out, x, np.array([negative_slope], x.dtype))


def _forward(core: Any, x: Array, out: Array | None, *options: Array) -> Array:
    axes = order.memory_axes(x)
    result = out if out is not None and order.fits(out, axes, x) else order.empty(x.shape, x.dtype, axes)
    _jit.launch(core, x.size // _SHARE, order.flat(x, axes), *options, order.flat_target(result, axes))
    if out is None or result is out:
        return result
    out[...] = result
    return out


def _backward(core: Any, grad_out: Array, x: Array, *options: Array) -> Array:
    axes = order.memory_axes(x)
    grad_x = order.empty(x.shape, x.dtype, axes)
    inputs = order.flat(grad_out, axes), order.flat(x, axes)
    _jit.launch(core, x.size // _SHARE, *inputs, *options, order.flat_target(grad_x, axes))
    return grad_x
