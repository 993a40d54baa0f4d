"""Power-norm pooling, forward and backward: averages of powers, which NumPy takes at the speed of memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv._window import Window
from fastconv.cpu import layout
from fastconv.cpu.half import is_half, narrowed, widen
from fastconv.cpu.pool_sum import sum_pool_backward, sum_pool_forward

Array = layout.Array


def lp_pool_forward(x: Array, window: Window, exponent: float, elements: int) -> Array:
    """The norm of each window of x (N, C, *spatial); one that is cut off counts for ``elements``."""
    if is_half(x.dtype):  # squares leave the range of float16
        return narrowed(lp_pool_forward(widen(x), window, exponent, elements), x.dtype)
    with np.errstate(all="ignore"):
        mean = sum_pool_forward(_power(x, exponent), window, True, None, None)
        norm: Array = _power(mean * mean.dtype.type(elements), 1 / exponent)
    return norm


def lp_pool_backward(grad_out: Array, x: Array, window: Window, exponent: float, elements: int) -> Array:
    """From y^p = K mean(x^p) follows p y^(p-1) dy = K mean(p x^(p-1) dx)."""
    if is_half(x.dtype):
        return narrowed(lp_pool_backward(widen(grad_out), widen(x), window, exponent, elements), x.dtype)
    y = lp_pool_forward(x, window, exponent, elements)
    with np.errstate(all="ignore"):
        share = grad_out * _power(y, 1 - exponent) * x.dtype.type(elements)
        share[y == 0] = 0  # where the norm has no derivative
        grad_x = sum_pool_backward(share, x.shape, window, True, None)
        np.multiply(grad_x, _power(x, exponent - 1), out=grad_x, where=grad_x != 0)
    return grad_x


def _power(x: Any, exponent: float) -> Any:
    """x^p; the usual exponents are single operations."""
    if exponent == 1:
        return x
    if exponent == 2:
        return np.square(x)
    if exponent == 0.5:
        return np.sqrt(x)
    return np.power(x, x.dtype.type(exponent))
