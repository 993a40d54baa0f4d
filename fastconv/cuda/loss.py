"""The cross-entropy loss. Labels are not looked at before the kernels run: that would wait for the device. A label
that is neither a class nor ignored makes the loss and the gradient of its item NaN.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from fastconv.cuda import layout
from fastconv.cuda._jit import cuda, i64, kernel, launch, storage_and_sum, types, u32
from fastconv.cuda.arrays import Array, empty
from fastconv.cuda.elements import THREADS, each, element
from fastconv.cuda.folds import folds
from fastconv.cuda.softmax import Columns, columns_of, place_of, statistics_of


@lru_cache(maxsize=64)
def _losses(dtype: np.dtype[Any], width: int) -> Any:
    _, value = storage_and_sum(dtype)
    place, statistics = place_of(width), statistics_of(dtype, width)

    @kernel
    def losses(x, labels, y, ignored, count, inner, number):
        """y = log(sum of e^(x - peak)) + (peak - x[label]), in float32 for float16; 0 where the label is ignored."""
        shared = cuda.shared.array(THREADS, value)
        column, start, lane = place(count, inner)
        inside = column < u32(number)
        peak, tail = statistics(x, shared, start, lane, count, inner, inside)
        if inside and lane == u32(0):
            label = i64(labels[column])
            loss = value(0)
            if label != i64(ignored):
                loss = value(math.nan)
                if label >= i64(0) and label < i64(count):
                    here = value(x[u32(start + u32(u32(label) * u32(inner)))])
                    loss = math.log1p(tail) + (peak - here)
            y[column] = loss

    return losses


@lru_cache(maxsize=64)
def _gradient(dtype: np.dtype[Any], width: int) -> Any:
    storage, value = storage_and_sum(dtype)
    place, statistics = place_of(width), statistics_of(dtype, width)

    @kernel
    def gradient(x, labels, weights, y, ignored, count, inner, number):
        """y = weight (softmax(x) - [k = label]); at the label less than nothing of its digits is lost."""
        shared = cuda.shared.array(THREADS, value)
        column, start, lane = place(count, inner)
        inside = column < u32(number)
        peak, tail = statistics(x, shared, start, lane, count, inner, inside)
        if inside:
            label, weight = i64(labels[column]), value(weights[u32(0)])
            if label == i64(ignored):
                weight = value(0)
            elif label < i64(0) or label >= i64(count):
                weight = value(math.nan)
            for k in range(i64(lane), count, width):
                i = u32(start + u32(u32(k) * u32(inner)))
                v = value(x[i])
                g = math.exp(v - peak) / (value(1) + tail)
                if i64(k) == label:
                    g = -(tail / (value(1) + tail)) if v == peak else g - value(1)
                y[i] = storage(0) if label == i64(ignored) else storage(weight * g)

    return gradient


@lru_cache(maxsize=32)
def _total(dtype: np.dtype[Any], mean: bool) -> Any:
    storage, _ = storage_and_sum(dtype)
    _, fold = folds(THREADS)

    @kernel
    def total(losses, labels, y, ignored, number):
        """The sum of the losses in float64, or their mean over the items that are not ignored; one block."""
        sums = cuda.shared.array(THREADS, types.float64)
        counts = cuda.shared.array(THREADS, types.int64)
        t = u32(cuda.threadIdx.x)
        mine, counted = types.float64(0), i64(0)
        for k in range(i64(t), number, THREADS):
            mine += types.float64(losses[u32(k)])
            counted += i64(1) if i64(labels[u32(k)]) != i64(ignored) else i64(0)
        mine, counted = fold(sums, mine), fold(counts, counted)
        if t == u32(0):
            y[u32(0)] = storage(mine / types.float64(counted)) if mean else storage(mine)

    return total


@lru_cache(maxsize=1)
def _weight() -> Any:
    _, fold = folds(THREADS)

    @kernel
    def weight(labels, y, ignored, number):
        """y = 1 / max(number of items that are not ignored, 1); one block."""
        counts = cuda.shared.array(THREADS, types.int64)
        t = u32(cuda.threadIdx.x)
        counted = i64(0)
        for k in range(i64(t), number, THREADS):
            counted += i64(1) if i64(labels[u32(k)]) != i64(ignored) else i64(0)
        counted = fold(counts, counted)
        if t == u32(0):
            y[u32(0)] = types.float64(1) / types.float64(max(counted, i64(1)))

    return weight


@lru_cache(maxsize=16)
def _filled(dtype: np.dtype[Any]) -> Any:
    storage, _ = storage_and_sum(dtype)

    @kernel
    def filled(y, number, count):
        i = element()
        if i < u32(count):
            y[i] = storage(number)

    return filled


# ----------------------------------------------------------------------------------------------------- entry functions
def cross_entropy_forward(logits: Array, labels: Array, ignore_index: int, reduction: str) -> Array:
    """The losses in the shape of the labels, or their mean or sum as an array without axes."""
    columns, classes, label_axes = _items(logits, labels)
    sums = np.dtype(np.float32) if logits.dtype == np.float16 else logits.dtype
    kept = logits.dtype if reduction == "none" else sums
    losses = empty(logits, labels.shape, kept, label_axes)
    flat = layout.flat(losses, label_axes)
    if columns.classes == 0:
        each(_filled(kept), losses, flat, 0.0, losses.size)
    arguments = layout.flat(_batched(logits), columns.axes), classes, flat, ignore_index
    counts = columns.classes, columns.inner, columns.number
    launch(_losses(logits.dtype, columns.width), columns.blocks, THREADS, logits.stream, *arguments, *counts)
    if reduction == "none":
        return losses
    result = empty(logits, (), logits.dtype)
    total = _total(logits.dtype, reduction == "mean")
    launch(total, 1, THREADS, logits.stream, flat, classes, result.reshape(1), ignore_index, losses.size)
    return result


def cross_entropy_backward(logits: Array, labels: Array, ignore_index: int, reduction: str) -> Array:
    """The gradient of the losses, their sum or their mean with respect to the logits."""
    columns, classes, _ = _items(logits, labels)
    axes = layout.memory_axes(logits)
    grads = empty(logits, logits.shape, logits.dtype, axes)
    weight = empty(logits, (1,), np.float64)
    if reduction == "mean":
        launch(_weight(), 1, THREADS, logits.stream, classes, weight, ignore_index, classes.size)
    else:
        each(_filled(weight.dtype), weight, weight, 1.0, 1)
    source, target = layout.flat(_batched(logits), columns.axes), layout.flat(_batched(grads), columns.axes)
    arguments = source, classes, weight, target, ignore_index, columns.classes, columns.inner, columns.number
    launch(_gradient(logits.dtype, columns.width), columns.blocks, THREADS, logits.stream, *arguments)
    return grads


def _batched(logits: Array) -> Array:
    return logits if logits.ndim > 1 else logits[None]


def _items(logits: Array, labels: Array) -> tuple[Columns, Array, tuple[int, ...]]:
    """The logits' columns, their labels in the same order, and the axes of the labels in it."""
    columns = columns_of(_batched(logits), 1)
    label_axes = tuple(axis - (axis > 1) for axis in columns.axes if axis != 1)[: max(labels.ndim, 0)]
    return columns, layout.flat(labels, label_axes), label_axes
