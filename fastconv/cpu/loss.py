"""Softmax, log-softmax and cross-entropy along one axis of arrays of any rank and memory order.

In memory order an array is (outer, count, inner) with the classes on the middle axis; a *column* is the classes of one
softmax. A *block* is what is worked on at once. With inner > 1 it is a strip of up to ``_WIDTH`` neighbouring columns, read
step by step along the class axis. With inner = 1 it is as many whole columns as fit into ``_WIDTH`` elements, or one long
column read in steps of ``_WIDTH``. So every step is one run of memory, the loops over it are vector code, and the order in
which a column is summed depends on ``count`` alone.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastconv.cpu import _jit, order
from fastconv.cpu.elementary import exp, log1p

Array = npt.NDArray[Any]

_WIDTH = 1024  # elements of a step
_LANES = 64  # partial results of one contiguous column
_RUN = 16  # terms that are summed in the arrays' own type before the sum goes on in float64
_SHARE = 1 << 14  # elements that are worth a thread


# -------------------------------------------------------------------------------------------------------------- blocks
@_jit.inlined
def _share(worker, workers, size, count, inner):
    """The worker's first block and the one after its last."""
    if inner == 1:
        columns = max(1, _WIDTH // count)
        blocks = (size // count + columns - 1) // columns
    else:
        blocks = size // (count * inner) * ((inner + _WIDTH - 1) // _WIDTH)
    return worker * blocks // workers, (worker + 1) * blocks // workers


@_jit.inlined
def _block(index, size, count, inner):
    """A block as (start, pitch, width, steps, rest): ``steps`` runs of ``width`` elements and one of ``rest``.

    With it come the number of its first column, and how many columns it has.
    """
    if inner == 1:
        most = max(1, _WIDTH // count)
        columns = min(most, size // count - index * most)
        steps, rest = divmod(columns * count, _WIDTH)
        return (index * most * count, _WIDTH, min(_WIDTH, columns * count), steps, rest), index * most, columns
    strips = (inner + _WIDTH - 1) // _WIDTH
    group, lane = index // strips, index % strips * _WIDTH
    columns = min(_WIDTH, inner - lane)
    return (group * count * inner + lane, inner, columns, count, 0), group * inner + lane, columns


@_jit.inlined
def _step(x, k, block):
    start, pitch, width, steps, rest = block
    first = start + k * pitch
    return x[first : first + (width if k < steps else rest)]


@_jit.inlined
def _spread(values, count, inner, lanes):
    """One value per column becomes one value per element of a step."""
    if inner > 1 or count == 1:
        lanes[:] = values
    else:
        for i in range(values.size):
            lanes[i * count : (i + 1) * count] = values[i]


# ------------------------------------------------------------------------------- reductions of one contiguous column
@_jit.compiled
def _maximum(part, lanes):
    """The largest element, NaN not counted; many of them go through lanes that do not wait for each other."""
    peak = part.dtype.type(-np.inf)
    if part.size < _LANES:
        for i in range(part.size):
            peak = part[i] if part[i] > peak else peak
        return peak
    lanes[:] = peak
    for first in range(0, part.size, _LANES):
        piece = part[first : first + _LANES]
        for j in range(piece.size):
            lanes[j] = piece[j] if piece[j] > lanes[j] else lanes[j]
    for j in range(_LANES):
        peak = lanes[j] if lanes[j] > peak else peak
    return peak


@_jit.inlined
def _folded(lanes):
    """The sum of the lanes, as a tree."""
    half = _LANES // 2
    while half > 0:
        for j in range(half):
            lanes[j] += lanes[half + j]
        half //= 2
    return np.float64(lanes[0])


@_jit.compiled
def _below_one(part, lanes, ones):
    """The sum of the elements other than 1, and the number of those that are 1; at most ``_WIDTH`` elements."""
    zero, one, total, count = part.dtype.type(0), part.dtype.type(1), 0.0, 0.0
    if part.size < _LANES:
        for i in range(part.size):
            total += zero if part[i] == one else part[i]
            count += 1.0 if part[i] == one else 0.0
        return total, count
    lanes[:], ones[:] = zero, zero
    for first in range(0, part.size, _LANES):
        piece = part[first : first + _LANES]
        for j in range(piece.size):
            lanes[j] += zero if piece[j] == one else piece[j]
            ones[j] += one if piece[j] == one else zero
    return _folded(lanes), _folded(ones)


@_jit.compiled
def _product(g, y, weighted, lanes):
    """The sum of g y, or of g alone; at most ``_WIDTH`` elements."""
    total = 0.0
    if g.size < _LANES:
        for i in range(g.size):
            total += g[i] * y[i] if weighted else g[i]
        return total
    lanes[:] = 0
    for first in range(0, g.size, _LANES):
        left, right = g[first : first + _LANES], y[first : first + _LANES]
        for j in range(left.size):
            lanes[j] += left[j] * right[j] if weighted else left[j]
    return _folded(lanes)


# -------------------------------------------------------------------------------------- reductions of a block's columns
@_jit.compiled
def _peaks(x, block, count, inner, lanes, peak):
    """peak = the maximum of each column, NaN not counted."""
    peak[:] = -np.inf
    for k in range(block[3] + 1):
        row = _step(x, k, block)
        if inner > 1:
            for j in range(row.size):
                peak[j] = row[j] if row[j] > peak[j] else peak[j]
        else:
            for i in range(peak.size):
                peak[i] = max(peak[i], _maximum(row[i * count : (i + 1) * count], lanes))


@_jit.compiled
def _tails(x, block, count, inner, shift, y, kept, scratch, ones, tail):
    """tail = the sum of e^(x - shift) over each column, less the 1 of its maximum; y = e^(x - shift) where it is kept.

    Leaving the 1 out keeps the digits of a small remainder: the loss of a confident prediction is log(1 + tail).
    """
    zero, one, partial = x.dtype.type(0), x.dtype.type(1), scratch[: tail.size]
    ones[:], tail[:], partial[:] = 0, 0, 0
    for k in range(block[3] + 1):
        row = _step(x, k, block)
        e = _step(y, k, block) if kept else y[: row.size]
        for j in range(row.size):
            e[j] = exp(row[j], shift[j])
        if inner > 1:
            for j in range(e.size):
                partial[j] += zero if e[j] == one else e[j]
                ones[j] += one if e[j] == one else zero
            if k % _RUN == _RUN - 1 or k == block[3]:
                for j in range(tail.size):
                    tail[j] += partial[j]
                partial[:] = 0
        else:
            for i in range(tail.size):
                total, number = _below_one(e[i * count : (i + 1) * count], scratch[:_LANES], scratch[_LANES : 2 * _LANES])
                tail[i], ones[i] = tail[i] + total, ones[i] + number
    for i in range(tail.size):
        tail[i] += ones[i] - 1


@_jit.compiled
def _products(grad_out, y, block, count, inner, weighted, scratch, total):
    """total = the sum of grad_out y, or of grad_out alone, over each column."""
    partial = scratch[: total.size]
    total[:], partial[:] = 0, 0
    for k in range(block[3] + 1):
        g, row = _step(grad_out, k, block), _step(y, k, block)
        if inner > 1:
            for j in range(g.size):
                partial[j] += g[j] * row[j] if weighted else g[j]
            if k % _RUN == _RUN - 1 or k == block[3]:
                for j in range(total.size):
                    total[j] += partial[j]
                partial[:] = 0
        else:
            for i in range(total.size):
                part = slice(i * count, (i + 1) * count)
                total[i] += _product(g[part], row[part], weighted, scratch[:_LANES])


# --------------------------------------------------------------------------------------------------- softmax and its kin
@_jit.compiled
def _softmax(worker, workers, x, count, inner, labels, weight, y):
    """y = weight e^(x - peak) / sum, less ``weight`` at the label where there are labels."""
    scratch, tails = np.empty((4, _WIDTH), x.dtype), np.empty(_WIDTH)
    first, last = _share(worker, workers, x.size, count, inner)
    for index in range(first, last):
        block, column, columns = _block(index, x.size, count, inner)
        peak, tail, lanes = scratch[0, :columns], tails[:columns], scratch[1, : block[2]]
        _peaks(x, block, count, inner, scratch[1, :_LANES], peak)
        _spread(peak, count, inner, lanes)
        _tails(x, block, count, inner, lanes, y, True, scratch[2], scratch[3, :columns], tail)
        for i in range(columns):
            scratch[3, i] = weight / (1.0 + tail[i])
        _spread(scratch[3, :columns], count, inner, lanes)
        for k in range(block[3] + 1):
            row = _step(y, k, block)
            for j in range(row.size):
                row[j] *= lanes[j]
        if labels.size > 0:
            _subtract(x, block[0], count, inner, labels[column : column + columns], weight, peak, tail, y)


@_jit.compiled
def _subtract(x, start, count, inner, labels, weight, peak, tail, y):
    """Take ``weight`` from y at the labels and keep the digits of what is left; a column labelled -1 becomes 0."""
    for i in range(labels.size):
        top = start + (i if inner > 1 else i * count)
        if labels[i] < 0:
            for k in range(count):
                y[top + k * inner] = 0
        else:
            here = top + labels[i] * inner
            e = exp(x[here], peak[i])
            others = tail[i] if e == 1 else 1.0 + tail[i] - e
            y[here] = -weight * (others / (1.0 + tail[i]))


@_jit.compiled
def _log_softmax(worker, workers, x, count, inner, y):
    """y = (x - peak) - log(sum of e^(x - peak))."""
    scratch, tails = np.empty((5, _WIDTH), x.dtype), np.empty(_WIDTH)
    first, last = _share(worker, workers, x.size, count, inner)
    for index in range(first, last):
        block, _, columns = _block(index, x.size, count, inner)
        peak, tail, lanes, logs = scratch[0, :columns], tails[:columns], scratch[1, : block[2]], scratch[2, : block[2]]
        _peaks(x, block, count, inner, scratch[1, :_LANES], peak)
        _spread(peak, count, inner, lanes)
        _tails(x, block, count, inner, lanes, scratch[4], False, scratch[2], scratch[3, :columns], tail)
        for i in range(columns):
            scratch[3, i] = log1p(tail[i])
        _spread(scratch[3, :columns], count, inner, logs)
        for k in range(block[3] + 1):
            source, row = _step(x, k, block), _step(y, k, block)
            for j in range(row.size):
                row[j] = (source[j] - lanes[j]) - logs[j]


@_jit.compiled
def _cross_entropy(worker, workers, x, count, inner, labels, losses):
    """losses = log(sum of e^(x - peak)) + peak - x[label], in float64; 0 where the label is -1."""
    scratch, tails = np.empty((5, _WIDTH), x.dtype), np.empty(_WIDTH)
    first, last = _share(worker, workers, x.size, count, inner)
    for index in range(first, last):
        block, column, columns = _block(index, x.size, count, inner)
        peak, tail, lanes = scratch[0, :columns], tails[:columns], scratch[1, : block[2]]
        loss = losses[column : column + columns]
        _peaks(x, block, count, inner, scratch[1, :_LANES], peak)
        _spread(peak, count, inner, lanes)
        _tails(x, block, count, inner, lanes, scratch[4], False, scratch[2], scratch[3, :columns], tail)
        for i in range(columns):
            loss[i] = log1p(tail[i])
        for i in range(columns):
            here = block[0] + (i if inner > 1 else i * count) + max(labels[column + i], 0) * inner
            distance = np.float64(peak[i]) - np.float64(x[here])
            loss[i] = loss[i] + distance if labels[column + i] >= 0 else 0.0


@_jit.compiled
def _softmax_backward(worker, workers, grad_out, y, count, inner, grad_x):
    """grad_x = y (grad_out - sum of grad_out y)."""
    scratch, totals = np.empty((3, _WIDTH), y.dtype), np.empty(_WIDTH)
    first, last = _share(worker, workers, y.size, count, inner)
    for index in range(first, last):
        block, _, columns = _block(index, y.size, count, inner)
        lanes = scratch[1, : block[2]]
        _products(grad_out, y, block, count, inner, True, scratch[0], totals[:columns])
        scratch[2, :columns] = totals[:columns]
        _spread(scratch[2, :columns], count, inner, lanes)
        for k in range(block[3] + 1):
            g, source, row = _step(grad_out, k, block), _step(y, k, block), _step(grad_x, k, block)
            for j in range(row.size):
                row[j] = source[j] * (g[j] - lanes[j])


@_jit.compiled
def _log_softmax_backward(worker, workers, grad_out, y, count, inner, grad_x):
    """grad_x = grad_out - e^y (sum of grad_out)."""
    zero = y.dtype.type(0)
    scratch, totals = np.empty((3, _WIDTH), y.dtype), np.empty(_WIDTH)
    first, last = _share(worker, workers, y.size, count, inner)
    for index in range(first, last):
        block, _, columns = _block(index, y.size, count, inner)
        lanes = scratch[1, : block[2]]
        _products(grad_out, y, block, count, inner, False, scratch[0], totals[:columns])
        scratch[2, :columns] = totals[:columns]
        _spread(scratch[2, :columns], count, inner, lanes)
        for k in range(block[3] + 1):
            g, source, row = _step(grad_out, k, block), _step(y, k, block), _step(grad_x, k, block)
            for j in range(row.size):
                row[j] = g[j] - exp(source[j], zero) * lanes[j]


# ------------------------------------------------------------------------------------------------------ entry functions
class _Columns(NamedTuple):
    """An array as (outer, count, inner) in memory order, with the axis in question in the middle."""

    axes: tuple[int, ...]
    count: int
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
        _jit.launch(core, columns.tasks, *flat, columns.count, columns.inner, *options, target)
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
    """The loss of every column in float64; logits (N, K, *spatial), labels int64 (N, *spatial), -1 for a loss of 0."""
    columns = _columns(logits, 1)
    label_axes = tuple(axis - (axis > 1) for axis in columns.axes if axis != 1)
    losses = order.empty(labels.shape, np.float64, label_axes)
    if logits.size == 0:
        losses[...] = 0
        return losses
    flat = order.flat(logits, columns.axes), columns.count, columns.inner, order.flat(labels, label_axes)
    _jit.launch(_cross_entropy, columns.tasks, *flat, order.flat_target(losses, label_axes))
    return losses


def cross_entropy_backward(logits: Array, labels: Array, weight: float) -> Array:
    """``weight`` times the gradient of the summed losses."""
    columns = _columns(logits, 1)
    label_axes = tuple(axis - (axis > 1) for axis in columns.axes if axis != 1)
    return _run(_softmax, columns, (logits,), order.flat(labels, label_axes), weight)


_NO_LABELS = np.empty(0, np.int64)
_NO_LABELS.setflags(write=False)
