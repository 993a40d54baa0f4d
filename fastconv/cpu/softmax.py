"""Softmax and log-softmax, forward and backward: kernels over columns of classes (see ``columns``)."""

from __future__ import annotations

import numpy as np

from fastconv.cpu import _jit
from fastconv.cpu.arithmetic import fold_sum
from fastconv.cpu.columns import (
    RUN,
    WIDE,
    Array,
    at_step,
    block_at,
    blocks_in,
    by_float32,
    carry,
    columns_of,
    group_at,
    groups_in,
    load_step,
    peak_of,
    run_columns,
    store_step,
    strip_at,
    strips_in,
    tail_of,
)
from fastconv.cpu.elementary import exp, log1p
from fastconv.cpu.memory import empty
from fastconv.cpu.pointers import advance, clear, lanes_at, pointer
from fastconv.cpu.vector import load, splat, store_first

NO_LABELS = np.empty(0, np.int64)
NO_LABELS.setflags(write=False)


# -------------------------------------------------------------------------------------------------------------- forward
@_jit.flushing
def softmax_core(worker, workers, x, count, inner, labels, weight, y):
    """y = weight e^(x - peak) / sum, less ``weight`` at the label where there are labels."""
    source, target = pointer(x, 0), pointer(y, 0)
    lanes = lanes_at(source)
    peaks, tails = empty(lanes, x.dtype), empty(lanes, x.dtype)
    groups = groups_in(x.size, count, inner, lanes)
    for index in range(worker * groups // workers, (worker + 1) * groups // workers):
        group = group_at(index, count, inner, lanes)
        peak = peak_of(source, group, inner)
        tail, top = tail_of(source, group, inner, peak, target, True)
        factor = weight / (tail + top)
        for k in range(group.whole):
            store_first(at_step(target, k, group), load(at_step(target, k, group)) * factor, lanes)
        for k in range(group.whole, group.steps):
            store_step(target, k, group, load_step(target, k, group, factor) * factor)
        if labels.size > 0:
            store_first(pointer(peaks, 0), peak, lanes)
            store_first(pointer(tails, 0), tail / top, lanes)
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


@_jit.flushing
def _log_softmax(worker, workers, x, count, inner, y):
    """y = (x - peak) - log(sum of e^(x - peak))."""
    source, target = pointer(x, 0), pointer(y, 0)
    lanes = lanes_at(source)
    groups = groups_in(x.size, count, inner, lanes)
    for index in range(worker * groups // workers, (worker + 1) * groups // workers):
        group = group_at(index, count, inner, lanes)
        peak = peak_of(source, group, inner)
        tail, top = tail_of(source, group, inner, peak, target, False)
        logarithm = log1p(tail / top)
        for k in range(group.whole):
            store_first(at_step(target, k, group), (load(at_step(source, k, group)) - peak) - logarithm, lanes)
        for k in range(group.whole, group.steps):
            store_step(target, k, group, (load_step(source, k, group, peak) - peak) - logarithm)


# ------------------------------------------------------------------------------------------------------------- backward
@_jit.inlined
def _product(grad_out, y, group, run, weighted):
    """The sum of grad_out y, or of grad_out alone, over up to 2 RUN steps from ``run`` on: even and odd ones apart."""
    zero = splat(y, 0.0)
    even, odd, stop = zero, zero, min(run + 2 * RUN, group.steps)
    whole = max(min(stop, group.whole), run)
    pairs = run + (whole - run) // 2 * 2
    for k in range(run, pairs, 2):
        g, h = load(at_step(grad_out, k, group)), load(at_step(grad_out, k + 1, group))
        even = even + (g * load(at_step(y, k, group)) if weighted else g)
        odd = odd + (h * load(at_step(y, k + 1, group)) if weighted else h)
    for k in range(pairs, stop):
        g = load_step(grad_out, k, group, zero)
        even = even + (g * load_step(y, k, group, zero) if weighted else g)
    return even + odd


@_jit.inlined
def _products(grad_out, y, block, inner, weighted, totals):
    """The sum of grad_out y, or of grad_out alone, over each column of a block; run by run for all of its strips."""
    lanes, strips = block.lanes, strips_in(block)
    lost = advance(totals, WIDE * lanes)
    clear(totals, strips * lanes)
    clear(lost, strips * lanes)
    for run in range(0, block.steps, 2 * RUN):
        for v in range(strips):
            partial = _product(grad_out, y, strip_at(block, v, inner), run, weighted)
            total, error = carry(load(advance(totals, v * lanes)), load(advance(lost, v * lanes)), partial)
            store_first(advance(totals, v * lanes), total, lanes)
            store_first(advance(lost, v * lanes), error, lanes)
    for v in range(strips):
        total = load(advance(totals, v * lanes)) + load(advance(lost, v * lanes))
        store_first(advance(totals, v * lanes), fold_sum(total) if inner == 1 else total, lanes)


@_jit.inlined
def _slope(g, y, total, weighted):
    """The gradient of softmax, or of log-softmax."""
    return y * (g - total) if weighted else g - exp(y, total * 0.0) * total


@_jit.inlined
def _slopes(grad_out, y, block, inner, weighted, totals, grad_x):
    """grad_x of a block, whose sums are in ``totals``."""
    zero, strips = splat(y, 0.0), strips_in(block)
    some = RUN if strips > 1 else block.steps
    for run in range(0, block.steps, some):
        for v in range(strips):
            group, total = strip_at(block, v, inner), load(advance(totals, v * block.lanes))
            stop = min(run + some, group.steps)
            whole = max(min(stop, group.whole), run)
            for k in range(run, whole):
                value = _slope(load(at_step(grad_out, k, group)), load(at_step(y, k, group)), total, weighted)
                store_first(at_step(grad_x, k, group), value, block.lanes)
            for k in range(whole, stop):
                value = _slope(load_step(grad_out, k, group, zero), load_step(y, k, group, zero), total, weighted)
                store_step(grad_x, k, group, value)


@_jit.inlined
def _gradient(worker, workers, grad_out, y, count, inner, weighted, grad_x):
    lanes = lanes_at(pointer(y, 0))
    totals, blocks = empty(2 * WIDE * lanes, y.dtype), blocks_in(y.size, count, inner, lanes)
    for index in range(worker * blocks // workers, (worker + 1) * blocks // workers):
        block = block_at(index, count, inner, lanes)
        arrays = pointer(grad_out, 0), pointer(y, 0)
        _products(*arrays, block, inner, weighted, pointer(totals, 0))
        _slopes(*arrays, block, inner, weighted, pointer(totals, 0), pointer(grad_x, 0))


@_jit.flushing
def _softmax_backward(worker, workers, grad_out, y, count, inner, grad_x):
    """grad_x = y (grad_out - sum of grad_out y)."""
    _gradient(worker, workers, grad_out, y, count, inner, True, grad_x)


@_jit.flushing
def _log_softmax_backward(worker, workers, grad_out, y, count, inner, grad_x):
    """grad_x = grad_out - e^y (sum of grad_out)."""
    _gradient(worker, workers, grad_out, y, count, inner, False, grad_x)


# ------------------------------------------------------------------------------------------------------ entry functions
@by_float32
def softmax_forward(x: Array, axis: int) -> Array:
    return run_columns(softmax_core, columns_of(x, axis), (x,), NO_LABELS, 1.0)


@by_float32
def softmax_backward(grad_out: Array, y: Array, axis: int) -> Array:
    return run_columns(_softmax_backward, columns_of(y, axis), (grad_out, y))


@by_float32
def log_softmax_forward(x: Array, axis: int) -> Array:
    return run_columns(_log_softmax, columns_of(x, axis), (x,))


@by_float32
def log_softmax_backward(grad_out: Array, y: Array, axis: int) -> Array:
    return run_columns(_log_softmax_backward, columns_of(y, axis), (grad_out, y))
