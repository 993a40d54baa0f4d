"""Cross-entropy, forward and backward: kernels over columns of classes (see ``columns``)."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.cpu import _jit, order
from fastconv.cpu.columns import (
    Array,
    by_float32,
    columns_of,
    group_at,
    groups_in,
    peak_of,
    rounded,
    run_columns,
    tail_of,
    wide,
)
from fastconv.cpu.elementary import log1p
from fastconv.cpu.memory import empty
from fastconv.cpu.pointers import lanes_at, pointer
from fastconv.cpu.softmax import softmax_core
from fastconv.cpu.vector import store_first


# -------------------------------------------------------------------------------------------------------------- kernels
@_jit.flushing
def _cross_entropy(worker, workers, x, count, inner, labels, losses):
    """losses = log(sum of e^(x - peak)) + (peak - x[label]); 0 where the label is -1."""
    source = pointer(x, 0)
    lanes = lanes_at(source)
    peaks, logs = empty(lanes, x.dtype), empty(lanes, x.dtype)
    groups = groups_in(x.size, count, inner, lanes)
    for index in range(worker * groups // workers, (worker + 1) * groups // workers):
        group = group_at(index, count, inner, lanes)
        peak = peak_of(source, group, inner)
        store_first(pointer(peaks, 0), peak, lanes)
        tail, top = tail_of(source, group, inner, peak, source, False)
        store_first(pointer(logs, 0), log1p(tail / top), lanes)
        for i in range(group.columns):
            label = labels[group.column + i]
            here = group.start + i + max(label, 0) * inner
            losses[group.column + i] = logs[i] + (peaks[i] - x[here]) if label >= 0 else 0


@_jit.compiled
def _total(worker, workers, losses, divisor, result):
    """result = sum of losses / divisor, formed in float64; NaN for the mean of nothing."""
    total = np.float64(0)
    for i in range(losses.size):
        total += losses[i]
    result[0] = total / divisor


@_jit.compiled
def _check_labels(worker, workers, labels, classes, outside):
    """outside = 1 if a label names no class."""
    for i in range(labels.size):
        if labels[i] < 0 or labels[i] >= classes:
            outside[0] = 1


# ------------------------------------------------------------------------------------------------------ entry functions
def cross_entropy_forward(logits: Array, labels: Array, ignore_index: int, reduction: str) -> Any:
    """The losses in the shape of the labels, or their mean or sum; checked logits (N, K, *spatial) or (K,)."""
    columns, classes, counted = _items(logits, labels, ignore_index)
    losses = _losses(wide(columns), classes)
    if reduction == "none":
        return rounded(losses, logits.dtype).reshape(labels.shape)
    return _total_of(losses, counted if reduction == "mean" else 1, logits.dtype)


def cross_entropy_backward(logits: Array, labels: Array, ignore_index: int, reduction: str) -> Array:
    """The gradient of the losses, their sum or their mean with respect to the logits."""
    columns, classes, counted = _items(logits, labels, ignore_index)
    weight = 1.0 / max(counted, 1) if reduction == "mean" else 1.0
    return _gradient(columns, classes, weight).reshape(logits.shape)


def _items(logits: Array, labels: Array, ignore_index: int) -> tuple[Array, Array, int]:
    """Logits with a batch axis, labels as int64 with -1 for the ignored, and the number of the others."""
    classes = labels.astype(np.int64, copy=False)
    ignored = classes == ignore_index
    counted = labels.size - int(np.count_nonzero(ignored))
    if counted < labels.size or 0 <= ignore_index < logits.shape[min(logits.ndim - 1, 1)]:
        _jit.once("labels are ignored, or may be in another call")
        classes = np.where(ignored, -1, classes)
    return (logits, classes, counted) if logits.ndim > 1 else (logits[np.newaxis], classes[np.newaxis], counted)


def _losses(logits: Array, labels: Array) -> Array:
    columns = columns_of(logits, 1)
    names = _expected(labels, columns.others, logits.shape[1])
    losses = order.empty(labels.shape, logits.dtype, columns.others)
    if logits.size == 0:
        losses[...] = 0
        return losses
    flat = order.flat(logits, columns.axes), columns.classes, columns.inner, names
    _jit.launch(_cross_entropy, columns.tasks, *flat, order.flat_target(losses, columns.others))
    return losses


@by_float32
def _gradient(logits: Array, labels: Array, weight: float) -> Array:
    columns = columns_of(logits, 1)
    return run_columns(softmax_core, columns, (logits,), _expected(labels, columns.others, logits.shape[1]), weight)


def _total_of(losses: Array, divisor: int, dtype: np.dtype[Any]) -> Any:
    """The sum of the losses over ``divisor``, rounded once."""
    result = _jit.made(np.empty(1, losses.dtype))
    _jit.launch(_total, 1, order.flat(losses, order.memory_axes(losses)), divisor, result)
    return _jit.scalar(rounded(result, dtype))


def _expected(labels: Array, axes: tuple[int, ...], classes: int) -> Array:
    """Labels, flat; what was said by looking at them holds for others as long as all of them name a class."""
    flat = order.flat(labels, axes)
    _jit.done(_check_labels, flat, classes, _jit.flag())
    return flat
