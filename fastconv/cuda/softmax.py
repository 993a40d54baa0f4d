"""Softmax and log-softmax along one axis of arrays of any rank and memory order.

In memory order an array is (outer, count, inner) with the classes on the middle axis; the classes of one softmax are a
*column*. A block has some columns and ``width`` threads for each: neighbouring threads read neighbours in memory,
which are classes of one column where inner is 1, and columns elsewhere. Sums are formed in an order that the shape
decides.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastconv.cuda import layout
from fastconv.cuda._jit import cuda, device, i64, kernel, launch, storage_and_sum, u32
from fastconv.cuda.arrays import Array, empty
from fastconv.cuda.elements import THREADS
from fastconv.cuda.folds import folds


# ------------------------------------------------------------------------------------------------------------- columns
class Columns(NamedTuple):
    """An array as (outer, count, inner) in memory order, with the axis in question in the middle."""

    axes: tuple[int, ...]
    classes: int
    inner: int
    width: int
    number: int

    @property
    def blocks(self) -> int:
        return -(-self.number * self.width // THREADS) if self.classes else 0


def columns_of(x: Array, axis: int) -> Columns:
    axes = layout.memory_axes(x)
    inner = math.prod(x.shape[a] for a in axes[axes.index(axis) + 1 :])
    count = x.shape[axis]
    width = 1 if inner > 1 else 32 if count <= 1024 else THREADS
    return Columns(axes, count, inner, width, x.size // max(count, 1))


@lru_cache(maxsize=64)
def place_of(width: int) -> Any:
    """The function that says this thread's column, where that begins, and the thread's number in it."""

    @device
    def place(count, inner):
        t = u32(cuda.threadIdx.x)
        column = u32(u32(u32(cuda.blockIdx.x) * u32(THREADS // width)) + u32(t // u32(width)))
        outer = u32(column // u32(inner))
        start = u32(u32(u32(outer * u32(count)) * u32(inner)) + u32(column - u32(outer * u32(inner))))
        return column, start, u32(t % u32(width))

    return place


@lru_cache(maxsize=64)
def statistics_of(dtype: np.dtype[Any], width: int) -> Any:
    """The function that gives a column's maximum, NaN not counted, and the sum of e^(x - maximum) less the 1 of that.

    Leaving the 1 out keeps the digits of a small remainder: the loss of a confident prediction is log(1 + tail).
    """
    _, value = storage_and_sum(dtype)
    largest, total = folds(width)

    @device
    def statistics(x, shared, start, lane, count, inner, inside):
        peak = value(-math.inf)
        if inside:
            for k in range(i64(lane), count, width):
                v = value(x[u32(start + u32(u32(k) * u32(inner)))])
                peak = v if v > peak else peak
        peak = largest(shared, peak)
        tail, ones = value(0), value(0)
        if inside:
            for k in range(i64(lane), count, width):
                e = math.exp(value(x[u32(start + u32(u32(k) * u32(inner)))]) - peak)
                if e == value(1):
                    ones += value(1)
                else:
                    tail += e
        tail = total(shared, tail)
        return peak, (total(shared, ones) - value(1)) + tail

    return statistics


# ------------------------------------------------------------------------------------------------- softmax and its kin
@lru_cache(maxsize=64)
def _softmax(dtype: np.dtype[Any], width: int, logarithm: bool) -> Any:
    storage, value = storage_and_sum(dtype)
    place, statistics = place_of(width), statistics_of(dtype, width)

    @kernel
    def softmax(x, y, count, inner, number):
        """y = e^(x - peak) / sum, or (x - peak) - log(sum)."""
        shared = cuda.shared.array(THREADS, value)
        column, start, lane = place(count, inner)
        inside = column < u32(number)
        peak, tail = statistics(x, shared, start, lane, count, inner, inside)
        log = math.log1p(tail) if logarithm else value(0)
        if inside:
            for k in range(i64(lane), count, width):
                i = u32(start + u32(u32(k) * u32(inner)))
                v = value(x[i]) - peak
                y[i] = storage(v - log) if logarithm else storage(math.exp(v) / (value(1) + tail))

    return softmax


@lru_cache(maxsize=64)
def _softmax_backward(dtype: np.dtype[Any], width: int, logarithm: bool) -> Any:
    storage, value = storage_and_sum(dtype)
    place, (_, total) = place_of(width), folds(width)

    @kernel
    def softmax_backward(grad_out, y, grad_x, count, inner, number):
        """grad_x = y (grad_out - sum of grad_out y), or grad_out - e^y (sum of grad_out)."""
        shared = cuda.shared.array(THREADS, value)
        column, start, lane = place(count, inner)
        inside = column < u32(number)
        dot = value(0)
        if inside:
            for k in range(i64(lane), count, width):
                i = u32(start + u32(u32(k) * u32(inner)))
                dot += value(grad_out[i]) if logarithm else value(grad_out[i]) * value(y[i])
        dot = total(shared, dot)
        if inside:
            for k in range(i64(lane), count, width):
                i = u32(start + u32(u32(k) * u32(inner)))
                g, v = value(grad_out[i]), value(y[i])
                grad_x[i] = storage(g - math.exp(v) * dot) if logarithm else storage(v * (g - dot))

    return softmax_backward


def softmax_forward(x: Array, axis: int) -> Array:
    return _forward(x, axis, False)


def log_softmax_forward(x: Array, axis: int) -> Array:
    return _forward(x, axis, True)


def softmax_backward(grad_out: Array, y: Array, axis: int) -> Array:
    return _backward(grad_out, y, axis, False)


def log_softmax_backward(grad_out: Array, y: Array, axis: int) -> Array:
    return _backward(grad_out, y, axis, True)


def _forward(x: Array, axis: int, logarithm: bool) -> Array:
    columns = columns_of(x, axis)
    y = empty(x, x.shape, x.dtype, columns.axes)
    run = _softmax(x.dtype, columns.width, logarithm)
    flat = layout.flat(x, columns.axes), layout.flat(y, columns.axes)
    launch(run, columns.blocks, THREADS, x.stream, *flat, columns.classes, columns.inner, columns.number)
    return y


def _backward(grad_out: Array, y: Array, axis: int, logarithm: bool) -> Array:
    columns = columns_of(y, axis)
    grad_x = empty(y, y.shape, y.dtype, columns.axes)
    run = _softmax_backward(y.dtype, columns.width, logarithm)
    flat = [layout.flat(a, columns.axes) for a in (grad_out, y, grad_x)]
    launch(run, columns.blocks, THREADS, y.stream, *flat, columns.classes, columns.inner, columns.number)
    return grad_x
