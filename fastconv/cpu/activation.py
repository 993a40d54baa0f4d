"""ReLU and leaky ReLU: elementwise, at the speed of memory, for arrays of any rank and memory order."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv.cpu import _jit, half, order
from fastconv.cpu.memory import empty

Array = npt.NDArray[Any]

_SHARE = 1 << 16  # elements that are worth a thread
BLOCK = 2048  # elements of 16-bit floats that are computed with at a time
_NO_SLOPE = np.empty(0, np.float32)


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


# ------------------------------------------------------------------------------------------------------- 16-bit floats
@_jit.compiled
def _forward_half(worker, workers, x, brain, slope, y):
    """ReLU, or leaky ReLU where there is a slope, of 16-bit floats: by blocks in L1, which are float32."""
    wide, result = empty(BLOCK, np.float32), empty(BLOCK, np.float32)
    start, stop = _share(worker, workers, x.size)
    for first in range(start, stop, BLOCK):
        count = min(BLOCK, stop - first)
        half.widen_run(0, 1, x[first : first + count], brain, wide)
        if slope.size:
            _leaky_relu(0, 1, wide[:count], slope, result)
        else:
            _relu(0, 1, wide[:count], result)
        half.narrow_run(0, 1, result[:count], brain, y[first : first + count])


@_jit.compiled
def _backward_half(worker, workers, grad_out, x, brain, slope, grad_x):
    """The gradient of either."""
    grads, wide, result = empty(BLOCK, np.float32), empty(BLOCK, np.float32), empty(BLOCK, np.float32)
    start, stop = _share(worker, workers, x.size)
    for first in range(start, stop, BLOCK):
        count = min(BLOCK, stop - first)
        half.widen_run(0, 1, grad_out[first : first + count], brain, grads)
        half.widen_run(0, 1, x[first : first + count], brain, wide)
        if slope.size:
            _leaky_relu_backward(0, 1, grads, wide[:count], slope, result)
        else:
            _relu_backward(0, 1, grads, wide[:count], result)
        half.narrow_run(0, 1, result[:count], brain, grad_x[first : first + count])


# ----------------------------------------------------------------------------------------------------- entry functions
def relu_forward(x: Array, out: Array | None = None) -> Array:
    if out is x and not half.is_half(x.dtype) and order.fits(x, axes := order.memory_axes(x), x):
        _jit.launch(_relu_in_place, x.size // _SHARE, order.flat_target(x, axes))
        return x
    return _forward(_relu, x, out)


def relu_backward(grad_out: Array, y: Array) -> Array:
    return _backward(_relu_backward, grad_out, y)


def leaky_relu_forward(x: Array, negative_slope: float, out: Array | None = None) -> Array:
    return _forward(_leaky_relu, x, out, _slope(negative_slope, x.dtype))


def leaky_relu_backward(grad_out: Array, x: Array, negative_slope: float) -> Array:
    return _backward(_leaky_relu_backward, grad_out, x, _slope(negative_slope, x.dtype))


@lru_cache(maxsize=64)
def _slope(negative_slope: float, dtype: np.dtype[Any]) -> Array:
    return np.array([negative_slope], np.float32 if half.is_half(dtype) else dtype)


def _forward(core: Any, x: Array, out: Array | None, *slope: Array) -> Array:
    axes = order.memory_axes(x)
    result = out if out is not None and order.fits(out, axes, x) else order.empty(x.shape, x.dtype, axes)
    source, target = order.flat(x, axes), order.flat_target(result, axes)
    if half.is_half(x.dtype):
        _launch_half(_forward_half, (source,), slope, target)
    else:
        _jit.launch(core, x.size // _SHARE, source, *slope, target)
    if out is None or result is out:
        return result
    out[...] = result
    return out


def _backward(core: Any, grad_out: Array, x: Array, *slope: Array) -> Array:
    axes = order.memory_axes(x)
    grad_x = order.empty(x.shape, x.dtype, axes)
    grads, source, target = order.flat(grad_out, axes), order.flat(x, axes), order.flat_target(grad_x, axes)
    if half.is_half(x.dtype):
        _launch_half(_backward_half, (grads, source), slope, target)
    else:
        _jit.launch(core, x.size // _SHARE, grads, source, *slope, target)
    return grad_x


def _launch_half(core: Any, inputs: tuple[Array, ...], slope: tuple[Array, ...], target: Array) -> None:
    bits = (array.view(np.uint16) for array in inputs)
    brain, slope = half.is_brain(target.dtype), slope or (_NO_SLOPE,)
    _jit.launch(core, target.size // _SHARE, *bits, brain, *slope, target.view(np.uint16))
