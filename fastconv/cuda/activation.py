"""ReLU and leaky ReLU, forward and backward, at the speed of memory."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from fastconv.cuda import layout
from fastconv.cuda._jit import kernel, storage_and_sum, u32
from fastconv.cuda.arrays import Array, empty
from fastconv.cuda.elements import each, element


@lru_cache(maxsize=16)
def _relu(dtype: np.dtype[Any]) -> Any:
    storage, value = storage_and_sum(dtype)

    @kernel
    def relu(x, y, count):
        """y = 0 where x < 0, else x: NaN and -0 stay, which the hardware's maximum would not let them."""
        i = element()
        if i < u32(count):
            v = value(x[i])
            y[i] = storage(0) if v < value(0) else storage(v)

    return relu


@lru_cache(maxsize=16)
def _relu_backward(dtype: np.dtype[Any]) -> Any:
    storage, value = storage_and_sum(dtype)

    @kernel
    def relu_backward(grad_out, y, grad_x, count):
        """grad_x = 0 where y <= 0, else grad_out."""
        i = element()
        if i < u32(count):
            grad_x[i] = storage(0) if value(y[i]) <= value(0) else grad_out[i]

    return relu_backward


@lru_cache(maxsize=16)
def _leaky_relu(dtype: np.dtype[Any]) -> Any:
    storage, value = storage_and_sum(dtype)

    @kernel
    def leaky_relu(x, y, slope, count):
        """y = x where x > 0, else slope x."""
        i = element()
        if i < u32(count):
            v = value(x[i])
            y[i] = storage(v) if v > value(0) else storage(value(slope) * v)

    return leaky_relu


@lru_cache(maxsize=16)
def _leaky_relu_backward(dtype: np.dtype[Any]) -> Any:
    storage, value = storage_and_sum(dtype)

    @kernel
    def leaky_relu_backward(grad_out, x, grad_x, slope, count):
        """grad_x = grad_out where x > 0, else slope grad_out."""
        i = element()
        if i < u32(count):
            g = value(grad_out[i])
            grad_x[i] = storage(g) if value(x[i]) > value(0) else storage(value(slope) * g)

    return leaky_relu_backward


# ----------------------------------------------------------------------------------------------------- entry functions
def relu_forward(x: Array, out: Array | None = None) -> Array:
    return _forward(_relu(x.dtype), x, out)


def relu_backward(grad_out: Array, y: Array) -> Array:
    return _backward(_relu_backward(y.dtype), grad_out, y)


def leaky_relu_forward(x: Array, negative_slope: float, out: Array | None = None) -> Array:
    return _forward(_leaky_relu(x.dtype), x, out, negative_slope)


def leaky_relu_backward(grad_out: Array, x: Array, negative_slope: float) -> Array:
    return _backward(_leaky_relu_backward(x.dtype), grad_out, x, negative_slope)


def _forward(kernel: Any, x: Array, out: Array | None, *options: float) -> Array:
    axes = layout.memory_axes(x)
    source = layout.flat(x, axes)
    same = out is not None and out.pointer == source.pointer and layout.is_target(out, axes)
    result = out if same and out is not None else layout.target(out, x, x.shape, axes, x)
    each(kernel, result, source, layout.flat(result, axes), *options, result.size)
    return layout.deliver(result, out)


def _backward(kernel: Any, grad_out: Array, x: Array, *options: float) -> Array:
    axes = layout.memory_axes(x)
    grad_x = empty(x, x.shape, x.dtype, axes)
    each(kernel, grad_x, layout.flat(grad_out, axes), layout.flat(x, axes), layout.flat(grad_x, axes), *options, x.size)
    return grad_x
