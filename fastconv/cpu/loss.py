"""Softmax, log-softmax and cross-entropy along one axis of arrays of any rank and memory order.

In memory order an array is (outer, count, inner) with the classes on the middle axis; the classes of one softmax are a
*column*. A *group* is what one vector's lanes hold: with inner > 1 as many neighbouring columns, which a step along the
class axis takes one class further; with inner = 1 a single column, as many of whose classes a step takes in, and whose
lanes are folded in the end. Sums are formed in an order that depends on ``count`` alone.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastconv.cpu import _jit, order
from fastconv.cpu.arithmetic import choose, fold_maximum, fold_sum
from fastconv.cpu.elementary import exp, log1p
from fastconv.cpu.microkernel import advance, clear, lanes_at, pointer
from fastconv.cpu.vector import load, load_first, splat, store_first

Array = npt.NDArray[Any]

_RUN = 16  # terms that a lane sums plainly before the sum is carried on with its rounding error
_WIDE = 8  # vectors of neighbouring columns that one step along the class axis takes in, so that lines come in a row
_SHARE = 1 << 14  # elements that are worth a thread


# -------------------------------------------------------------------------------------------------------------- groups
class Group(NamedTuple):
    """Vectors at start + k * pitch: whole ones for k < whole, and ``width`` lanes of each for whole <= k < steps."""

    lanes: int
    start: int
    pitch: int
    whole: int
    steps: int
    width: int
    column: int  # number of the first column
    columns: int


@_jit.inlined
def _groups(size, count, inner, lanes):
    """How many groups there are."""
    return size // count if inner == 1 else size // (count * inner) * ((inner + lanes - 1) // lanes)


@_jit.inlined
def _group(index, count, inner, lanes):
    if inner == 1:
        return Group(lanes, index * count, lanes, count // lanes, (count + lanes - 1) // lanes, count % lanes, index, 1)
    strips = (inner + lanes - 1) // lanes
    block, lane = index // strips, index % strips * lanes
    columns = min(lanes, inner - lane)
    whole = count if columns == lanes else 0
    return Group(lanes, block * count * inner + lane, inner, whole, count, columns, block * inner + lane, columns)


@_jit.inlined
def _blocks(size, count, inner, lanes):
    """How many blocks of groups there are: of _WIDE vectors side by side, so that a step reads some lines in a row."""
    wide = _WIDE * lanes
    return size // count if inner == 1 else size // (count * inner) * ((inner + wide - 1) // wide)


@_jit.inlined
def _block(index, count, inner, lanes):
    if inner == 1:
        return _group(index, count, inner, lanes)
    blocks = (inner + _WIDE * lanes - 1) // (_WIDE * lanes)
    outer, lane = index // blocks, index % blocks * _WIDE * lanes
    columns = min(_WIDE * lanes, inner - lane)
    return Group(lanes, outer * count * inner + lane, inner, 0, count, 0, outer * inner + lane, columns)


@_jit.inlined
def _strips(block):
    """How many groups a block holds."""
    return (block.columns + block.lanes - 1) // block.lanes


@_jit.inlined
def _strip(block, v, inner):
    """One of them."""
    if inner == 1:
        return block
    lanes, lane = block.lanes, v * block.lanes
    columns = min(lanes, block.columns - lane)
    whole = block.steps if columns == lanes else 0
    return Group(lanes, block.start + lane, block.pitch, whole, block.steps, columns, block.column + lane, columns)


@_jit.inlined
def _at(x, k, group):
    return advance(x, group.start + k * group.pitch)


@_jit.inlined
def _load(x, k, group, fill):
    """The vector of step k, with ``fill`` in lanes beyond the group."""
    return load_first(_at(x, k, group), group.lanes if k < group.whole else group.width, fill)


@_jit.inlined
def _store(y, k, group, value):
    store_first(_at(y, k, group), value, group.lanes if k < group.whole else group.width)


# ---------------------------------------------------------------------------------------------------------------- sums
@_jit.inlined
def _carry(total, lost, partial):
    """total + partial, and the rounding errors of these sums so far (Knuth's two-sum)."""
    s = total + partial
    back = s - total
    return s, lost + ((total - (s - back)) + (partial - back))


@_jit.inlined
def _peak(x, group, inner):
    """The maximum of each column, NaN not counted."""
    lowest = splat(x, -np.inf)
    peak = lowest
    for k in range(group.steps):
        value = _load(x, k, group, lowest)
        peak = choose(value > peak, value, peak)
    return fold_maximum(peak) if inner == 1 else peak


@_jit.inlined
def _tail(x, group, inner, peak, y, kept):
    """The sum of e^(x - peak) over each column, less the 1 of its maximum; y = e^(x - peak) where that is kept.

    Leaving the 1 out keeps the digits of a small remainder: the loss of a confident prediction is log(1 + tail).
    """
    lowest, zero = splat(x, -np.inf), splat(x, 0.0)
    total, lost, ones = zero, zero, zero
    for run in range(0, group.steps, _RUN):
        partial = zero
        for k in range(run, min(run + _RUN, group.steps)):
            e = exp(_load(x, k, group, lowest), peak)
            if kept:
                _store(y, k, group, e)
            partial = partial + choose(e == 1.0, 0.0, e)
            ones = ones + choose(e == 1.0, 1.0, zero)
        total, lost = _carry(total, lost, partial)
    if inner == 1:
        total, ones = fold_sum(total + lost), fold_sum(ones)
        return (ones - 1.0) + total
    return (ones - 1.0) + (total + lost)


@_jit.inlined
def _product(grad_out, y, group, run, weighted):
    """The sum of grad_out y, or of grad_out alone, over up to 2 _RUN steps from ``run`` on: even and odd ones apart."""
    zero = splat(y, 0.0)
    even, odd, stop = zero, zero, min(run + 2 * _RUN, group.steps)
    whole = max(min(stop, group.whole), run)
    pairs = run + (whole - run) // 2 * 2
    for k in range(run, pairs, 2):
        g, h = load(_at(grad_out, k, group)), load(_at(grad_out, k + 1, group))
        even = even + (g * load(_at(y, k, group)) if weighted else g)
        odd = odd + (h * load(_at(y, k + 1, group)) if weighted else h)
    for k in range(pairs, stop):
        g = _load(grad_out, k, group, zero)
        even = even + (g * _load(y, k, group, zero) if weighted else g)
    return even + odd


@_jit.inlined
def _products(grad_out, y, block, inner, weighted, totals):
    """The sum of grad_out y, or of grad_out alone, over each column of a block; run by run for all of its strips."""
    lanes, strips = block.lanes, _strips(block)
    lost = advance(totals, _WIDE * lanes)
    clear(totals, strips * lanes)
    clear(lost, strips * lanes)
    for run in range(0, block.steps, 2 * _RUN):
        for v in range(strips):
            partial = _product(grad_out, y, _strip(block, v, inner), run, weighted)
            total, error = _carry(load(advance(totals, v * lanes)), load(advance(lost, v * lanes)), partial)
            store_first(advance(totals, v * lanes), total, lanes)
            store_first(advance(lost, v * lanes), error, lanes)
    for v in range(strips):
        total = load(advance(totals, v * lanes)) + load(advance(lost, v * lanes))
        store_first(advance(totals, v * lanes), fold_sum(total) if inner == 1 else total, lanes)


# -------------------------------------------------------------------------------------------------- softmax and its kin
@_jit.compiled
def _softmax(worker, workers, x, count, inner, labels, weight, y):
    """y = weight e^(x - peak) / sum, less ``weight`` at the label where there are labels."""
    source, target = pointer(x, 0), pointer(y, 0)
    lanes = lanes_at(source)
    peaks, tails = np.empty(lanes, x.dtype), np.empty(lanes, x.dtype)
    groups = _groups(x.size, count, inner, lanes)
    for index in range(worker * groups // workers, (worker + 1) * groups // workers):
        group = _group(index, count, inner, lanes)
        peak = _peak(source, group, inner)
        tail = _tail(source, group, inner, peak, target, True)
        factor = weight / (tail + 1.0)
        for k in range(group.steps):
            _store(target, k, group, _load(target, k, group, factor) * factor)
        if labels.size > 0:
            store_first(pointer(peaks, 0), peak, lanes)
            store_first(pointer(tails, 0), tail, lanes)
            _subtract(x, group, count, inner, labels, weight, peaks, tails, y)


@_jit.separate
def _subtract(x, group, count, inner, labels, weight, peaks, tails, y):
    """Take ``weight`` from y at the labels and keep the digits of what is left; a column labelled -1 becomes 0."""
    for i in range(group.columns):
        label = labels[group.column + i]
        if label < 0:
            for k in range(count):
                y[group.start + i + k * inner] = 0
        else:
            here = group.start + i + label * inner
            likeliest = x[here] == peaks[i]
            y[here] = -weight * (tails[i] / (1.0 + tails[i])) if likeliest else y[here] - weight


@_jit.compiled
def _log_softmax(worker, workers, x, count, inner, y):
    """y = (x - peak) - log(sum of e^(x - peak))."""
    source, target = pointer(x, 0), pointer(y, 0)
    lanes = lanes_at(source)
    groups = _groups(x.size, count, inner, lanes)
    for index in range(worker * groups // workers, (worker + 1) * groups // workers):
        group = _group(index, count, inner, lanes)
        peak = _peak(source, group, inner)
        logarithm = log1p(_tail(source, group, inner, peak, target, False))
        for k in range(group.steps):
            _store(target, k, group, (_load(source, k, group, peak) - peak) - logarithm)


@_jit.compiled
def _cross_entropy(worker, workers, x, count, inner, labels, losses):
    """losses = log(sum of e^(x - peak)) + (peak - x[label]); 0 where the label is -1."""
    source = pointer(x, 0)
    lanes = lanes_at(source)
    peaks, logs = np.empty(lanes, x.dtype), np.empty(lanes, x.dtype)
    groups = _groups(x.size, count, inner, lanes)
    for index in range(worker * groups // workers, (worker + 1) * groups // workers):
        group = _group(index, count, inner, lanes)
        peak = _peak(source, group, inner)
        store_first(pointer(peaks, 0), peak, lanes)
        store_first(pointer(logs, 0), log1p(_tail(source, group, inner, peak, source, False)), lanes)
        for i in range(group.columns):
            label = labels[group.column + i]
            here = group.start + i + max(label, 0) * inner
            losses[group.column + i] = logs[i] + (peaks[i] - x[here]) if label >= 0 else 0


@_jit.inlined
def _slope(g, y, total, weighted):
    """The gradient of softmax, or of log-softmax."""
    return y * (g - total) if weighted else g - exp(y, total * 0.0) * total


@_jit.inlined
def _slopes(grad_out, y, block, inner, weighted, totals, grad_x):
    """grad_x of a block, whose sums are in ``totals``."""
    zero, strips = splat(y, 0.0), _strips(block)
    some = _RUN if strips > 1 else block.steps
    for run in range(0, block.steps, some):
        for v in range(strips):
            group, total = _strip(block, v, inner), load(advance(totals, v * block.lanes))
            stop = min(run + some, group.steps)
            whole = max(min(stop, group.whole), run)
            for k in range(run, whole):
                value = _slope(load(_at(grad_out, k, group)), load(_at(y, k, group)), total, weighted)
                store_first(_at(grad_x, k, group), value, block.lanes)
            for k in range(whole, stop):
                value = _slope(_load(grad_out, k, group, zero), _load(y, k, group, zero), total, weighted)
                _store(grad_x, k, group, value)


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


@_jit.compiled
def _softmax_backward(worker, workers, grad_out, y, count, inner, grad_x):
    """grad_x = y (grad_out - sum of grad_out y)."""
    lanes = lanes_at(pointer(y, 0))
    totals, blocks = np.empty(2 * _WIDE * lanes, y.dtype), _blocks(y.size, count, inner, lanes)
    for index in range(worker * blocks // workers, (worker + 1) * blocks // workers):
        block = _block(index, count, inner, lanes)
        arrays = pointer(grad_out, 0), pointer(y, 0)
        _products(*arrays, block, inner, True, pointer(totals, 0))
        _slopes(*arrays, block, inner, True, pointer(totals, 0), pointer(grad_x, 0))


@_jit.compiled
def _log_softmax_backward(worker, workers, grad_out, y, count, inner, grad_x):
    """grad_x = grad_out - e^y (sum of grad_out)."""
    lanes = lanes_at(pointer(y, 0))
    totals, blocks = np.empty(2 * _WIDE * lanes, y.dtype), _blocks(y.size, count, inner, lanes)
    for index in range(worker * blocks // workers, (worker + 1) * blocks // workers):
        block = _block(index, count, inner, lanes)
        arrays = pointer(grad_out, 0), pointer(y, 0)
        _products(*arrays, block, inner, False, pointer(totals, 0))
        _slopes(*arrays, block, inner, False, pointer(totals, 0), pointer(grad_x, 0))


# ------------------------------------------------------------------------------------------------------ entry functions
class _Columns(NamedTuple):
    """An array as (outer, count, inner) in memory order, with the axis in question in the middle."""

    axes: tuple[int, ...]
    classes: int
    inner: int
    tasks: int


def _columns(x: Array, axis: int) -> _Columns:
    axes = order.memory_axes(x)
    inner = math.prod(x.shape[a] for a in axes[axes.index(axis) + 1 :])
    return _Columns(axes, x.shape[axis], inner, x.size // _SHARE)


def _run(core: Any, columns: _Columns, inputs: tuple[Array, ...], *options: Any) -> Array:
    """A new array like the inputs, in the memory order of the columns, written by ``core``."""
    y = order.empty(inputs[0].shape, inputs[0].dtype, columns.axes)
    if y.size > 0:
        flat = [order.flat(x, columns.axes) for x in inputs]
        target = order.flat_target(y, columns.axes)
        _jit.launch(core, columns.tasks, *flat, columns.classes, columns.inner, *options, target)
    return y


def softmax_forward(x: Array, axis: int) -> Array:
    return _run(_softmax, _columns(x, axis), (x,), _NO_LABELS, 1.0)


def softmax_backward(grad_out: Array, y: Array, axis: int) -> Array:
    return _run(_softmax_backward, _columns(y, axis), (grad_out, y))


def log_softmax_forward(x: Array, axis: int) -> Array:
    return _run(_log_softmax, _columns(x, axis), (x,))


def log_softmax_backward(grad_out: Array, y: Array, axis: int) -> Array:
    return _run(_log_softmax_backward, _columns(y, axis), (grad_out, y))


def cross_entropy_forward(logits: Array, labels: Array) -> Array:
    """The loss of every column; logits (N, K, *spatial), labels int64 (N, *spatial), -1 for a loss of 0."""
    columns = _columns(logits, 1)
    label_axes = tuple(axis - (axis > 1) for axis in columns.axes if axis != 1)
    _expect_labels(labels, label_axes, logits.shape[1])
    losses = order.empty(labels.shape, logits.dtype, label_axes)
    if logits.size == 0:
        losses[...] = 0
        return losses
    flat = order.flat(logits, columns.axes), columns.classes, columns.inner, order.flat(labels, label_axes)
    _jit.launch(_cross_entropy, columns.tasks, *flat, order.flat_target(losses, label_axes))
    return losses


def cross_entropy_backward(logits: Array, labels: Array, weight: float) -> Array:
    """``weight`` times the gradient of the summed losses."""
    columns = _columns(logits, 1)
    label_axes = tuple(axis - (axis > 1) for axis in columns.axes if axis != 1)
    _expect_labels(labels, label_axes, logits.shape[1])
    return _run(_softmax, columns, (logits,), order.flat(labels, label_axes), weight)


def total(losses: Array, divisor: int) -> Any:
    """The sum of the losses over ``divisor``, rounded once."""
    result = _jit.made(np.empty(1, losses.dtype))
    _jit.launch(_total, 1, order.flat(losses, order.memory_axes(losses)), divisor, result)
    return _jit.scalar(result)


def _expect_labels(labels: Array, axes: tuple[int, ...], classes: int) -> None:
    """What was said of the labels by looking at them holds for others as long as all of them name a class."""
    _jit.done(_check_labels, order.flat(labels, axes), classes, _jit.flag())


_NO_LABELS = np.empty(0, np.int64)
_NO_LABELS.setflags(write=False)
