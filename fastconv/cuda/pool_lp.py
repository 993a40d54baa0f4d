"""Power-norm pooling: an average of powers, between two kernels for the powers."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from fastconv._window import Window
from fastconv.cuda import layout
from fastconv.cuda._jit import device, kernel, storage_and_sum, u32
from fastconv.cuda.arrays import Array, empty
from fastconv.cuda.elements import each, element
from fastconv.cuda.pool_sum import sum_pool_backward, sum_pool_forward


@lru_cache(maxsize=64)
def _power(exponent: float, value: Any) -> Any:
    """The function x -> x^exponent; the usual exponents are single operations."""

    @device
    def usual(x):
        if exponent == 0.0:
            return value(1)
        return x if exponent == 1.0 else x * x

    @device
    def inverse(x):
        return value(1) / x

    @device
    def root(x):
        return math.sqrt(x)

    @device
    def power(x):
        return x ** value(exponent)

    return {0.0: usual, 1.0: usual, 2.0: usual, 0.5: root, -1.0: inverse}.get(exponent, power)


@lru_cache(maxsize=64)
def _scaled_power(source: np.dtype[Any], result: np.dtype[Any], exponent: float) -> Any:
    storage, value = storage_and_sum(result)
    power = _power(exponent, value)

    @kernel
    def scaled_power(x, y, factor, count):
        """y = (factor x)^exponent."""
        i = element()
        if i < u32(count):
            y[i] = storage(power(value(x[i]) * value(factor)))

    return scaled_power


@lru_cache(maxsize=64)
def _shares(source: np.dtype[Any], result: np.dtype[Any], exponent: float) -> Any:
    storage, value = storage_and_sum(result)
    power = _power(exponent, value)

    @kernel
    def shares(grad_out, y, share, factor, count):
        """share = factor grad_out y^exponent, and 0 where y is."""
        i = element()
        if i < u32(count):
            v = value(y[i])
            share[i] = storage(0) if v == value(0) else storage(value(grad_out[i]) * power(v) * value(factor))

    return shares


@lru_cache(maxsize=64)
def _product(source: np.dtype[Any], result: np.dtype[Any], exponent: float) -> Any:
    storage, value = storage_and_sum(result)
    power = _power(exponent, value)

    @kernel
    def product(sums, x, grad_x, count):
        """grad_x = sums x^exponent, and 0 where the sum is."""
        i = element()
        if i < u32(count):
            g = value(sums[i])
            grad_x[i] = storage(0) if g == value(0) else storage(g * power(value(x[i])))

    return product


def _wide(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type of what stands between: powers leave the range of float16."""
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def lp_pool_forward(x: Array, window: Window, exponent: float, elements: int) -> Array:
    """The norm of each window of x (N, C, *spatial); a window that is cut off counts for ``elements``."""
    axes, wide = layout.memory_axes(x), _wide(x.dtype)
    powers = empty(x, x.shape, wide, axes)
    flat = layout.flat(x, axes), layout.flat(powers, axes)
    each(_scaled_power(x.dtype, wide, exponent), powers, *flat, 1.0, powers.size)
    means = sum_pool_forward(powers, window, True, None, None)
    order = layout.memory_axes(means)
    y = empty(x, means.shape, x.dtype, order)
    flat = layout.flat(means, order), layout.flat(y, order)
    each(_scaled_power(wide, x.dtype, 1 / exponent), y, *flat, float(elements), y.size)
    return y


def lp_pool_backward(grad_out: Array, x: Array, window: Window, exponent: float, elements: int) -> Array:
    """From y^p = K mean(x^p) follows p y^(p-1) dy = K mean(p x^(p-1) dx)."""
    y, wide = lp_pool_forward(x, window, exponent, elements), _wide(x.dtype)
    order = layout.memory_axes(y)
    share = empty(x, y.shape, wide, order)
    flat = [layout.flat(a, order) for a in (grad_out, y, share)]
    each(_shares(x.dtype, wide, 1 - exponent), share, *flat, float(elements), share.size)
    sums = sum_pool_backward(share, x.shape, window, True, None)
    axes = layout.memory_axes(sums)
    grad_x = empty(x, x.shape, x.dtype, axes)
    flat = [layout.flat(a, axes) for a in (sums, x, grad_x)]
    each(_product(x.dtype, x.dtype, exponent - 1), grad_x, *flat, grad_x.size)
    return grad_x
