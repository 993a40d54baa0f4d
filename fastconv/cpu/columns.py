"""Columns of classes: softmax and what is made of it, along one axis of arrays of any rank and memory order.

In memory order an array is (outer, count, inner) with the classes on the middle axis; the classes of one softmax are a
*column*. A *group* is what one vector's lanes hold: with inner > 1 as many neighbouring columns, which a step along the
class axis takes one class further; with inner = 1 a single column, as many of whose classes a step takes in, and whose
lanes are folded in the end. Sums are formed in an order that depends on ``count`` alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastconv.cpu import _jit, half, order
from fastconv.cpu.arithmetic import choose, fold_maximum, fold_sum
from fastconv.cpu.elementary import exp_below, scale_of
from fastconv.cpu.pointers import advance
from fastconv.cpu.vector import load, load_first, splat, store_first

Array = npt.NDArray[Any]

RUN = 16  # terms that a lane sums plainly before the sum is carried on with its rounding error
WIDE = 8  # vectors of neighbouring columns that one step along the class axis takes in, so that lines come in a row
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
def groups_in(size, count, inner, lanes):
    """How many groups there are."""
    return size // count if inner == 1 else size // (count * inner) * ((inner + lanes - 1) // lanes)


@_jit.inlined
def group_at(index, count, inner, lanes):
    if inner == 1:
        return Group(lanes, index * count, lanes, count // lanes, (count + lanes - 1) // lanes, count % lanes, index, 1)
    strips = (inner + lanes - 1) // lanes
    block, lane = index // strips, index % strips * lanes
    columns = min(lanes, inner - lane)
    whole = count if columns == lanes else 0
    return Group(lanes, block * count * inner + lane, inner, whole, count, columns, block * inner + lane, columns)


@_jit.inlined
def blocks_in(size, count, inner, lanes):
    """How many blocks of groups there are: of WIDE vectors side by side, so that a step reads some lines in a row."""
    wide = WIDE * lanes
    return size // count if inner == 1 else size // (count * inner) * ((inner + wide - 1) // wide)


@_jit.inlined
def block_at(index, count, inner, lanes):
    if inner == 1:
        return group_at(index, count, inner, lanes)
    blocks = (inner + WIDE * lanes - 1) // (WIDE * lanes)
    outer, lane = index // blocks, index % blocks * WIDE * lanes
    columns = min(WIDE * lanes, inner - lane)
    return Group(lanes, outer * count * inner + lane, inner, 0, count, 0, outer * inner + lane, columns)


@_jit.inlined
def strips_in(block):
    """How many groups a block holds."""
    return (block.columns + block.lanes - 1) // block.lanes


@_jit.inlined
def strip_at(block, v, inner):
    """One of them."""
    if inner == 1:
        return block
    lanes, lane = block.lanes, v * block.lanes
    columns = min(lanes, block.columns - lane)
    whole = block.steps if columns == lanes else 0
    return Group(lanes, block.start + lane, block.pitch, whole, block.steps, columns, block.column + lane, columns)


@_jit.inlined
def at_step(x, k, group):
    return advance(x, group.start + k * group.pitch)


@_jit.inlined
def load_step(x, k, group, fill):
    """The vector of step k, with ``fill`` in lanes beyond the group."""
    return load_first(at_step(x, k, group), group.lanes if k < group.whole else group.width, fill)


@_jit.inlined
def store_step(y, k, group, value):
    store_first(at_step(y, k, group), value, group.lanes if k < group.whole else group.width)


# ---------------------------------------------------------------------------------------------------------------- sums
@_jit.inlined
def carry(total, lost, partial):
    """total + partial, and the rounding errors of these sums so far (Knuth's two-sum)."""
    s = total + partial
    back = s - total
    return s, lost + ((total - (s - back)) + (partial - back))


@_jit.inlined
def _larger(value, peak):
    return choose(value > peak, value, peak)


@_jit.inlined
def peak_of(x, group, inner):
    """The maximum of each column, NaN not counted; four at a time, since each waits for the one before."""
    lowest, fours = splat(x, -np.inf), group.whole // 4 * 4
    a, b, c, d = lowest, lowest, lowest, lowest
    for k in range(0, fours, 4):
        a, b = _larger(load(at_step(x, k, group)), a), _larger(load(at_step(x, k + 1, group)), b)
        c, d = _larger(load(at_step(x, k + 2, group)), c), _larger(load(at_step(x, k + 3, group)), d)
    for k in range(fours, group.steps):
        a = _larger(load_step(x, k, group, lowest), a)
    peak = _larger(_larger(a, b), _larger(c, d))
    return fold_maximum(peak) if inner == 1 else peak


@_jit.inlined
def tail_of(x, group, inner, peak, y, kept):
    """Over the scale of each column's peak: the sum of e^x but for one e^peak, and e^peak; also y = e^x if ``kept``.

    Leaving the largest term out keeps the digits of a small remainder: the loss of a confident prediction is
    log(1 + tail / top).
    """
    lowest, zero, scale = splat(x, -np.inf), splat(x, 0.0), scale_of(peak)
    total, lost, others = zero, zero, zero
    for run in range(0, group.steps, RUN):
        partial, stop = zero, min(run + RUN, group.steps)
        whole = max(run, min(stop, group.whole))
        for k in range(run, whole):
            value = load(at_step(x, k, group))
            e = exp_below(value, scale)
            if kept:
                store_first(at_step(y, k, group), e, group.lanes)
            partial, others = _add_other(partial, others, e, value, peak)
        for k in range(whole, stop):
            value = load_step(x, k, group, lowest)
            e = exp_below(value, scale)
            if kept:
                store_step(y, k, group, e)
            partial, others = _add_other(partial, others, e, value, peak)
        total, lost = carry(total, lost, partial)
    total, ones, top = total + lost, group.steps - others, exp_below(peak, scale)
    if inner == 1:
        total, ones = fold_sum(total), fold_sum(ones)
    return (ones - 1.0) * top + total, top


@_jit.inlined
def _add_other(total, count, e, value, peak):
    """One more term, and their number, unless it is that of the maximum."""
    return choose(value != peak, total + e, total), choose(value != peak, count + 1.0, count)


# ------------------------------------------------------------------------------------------------------------ in Python
class Columns(NamedTuple):
    """An array as (outer, count, inner) in memory order, with the axis in question in the middle."""

    axes: tuple[int, ...]
    others: tuple[int, ...]  # of an array without the axis in question
    classes: int
    inner: int
    tasks: int


def columns_of(x: Array, axis: int) -> Columns:
    return _columns(order.memory_axes(x), x.shape, axis)


@lru_cache(maxsize=64)
def _columns(axes: tuple[int, ...], shape: tuple[int, ...], axis: int) -> Columns:
    place = axes.index(axis)
    inner = math.prod(shape[a] for a in axes[place + 1 :])
    others = tuple(a - (a > axis) for a in axes if a != axis)
    natural = order.NATURAL[len(others)]
    return Columns(axes, natural if others == natural else others, shape[axis], inner, math.prod(shape) // _SHARE)


def run_columns(core: Any, columns: Columns, inputs: tuple[Array, ...], *options: Any) -> Array:
    """A new array like the inputs, in the memory order of the columns, written by ``core``."""
    y = order.empty(inputs[0].shape, inputs[0].dtype, columns.axes)
    if y.size > 0:
        flat = [order.flat(x, columns.axes) for x in inputs]
        target = order.flat_target(y, columns.axes)
        _jit.launch(core, columns.tasks, *flat, columns.classes, columns.inner, *options, target)
    return y


# ------------------------------------------------------------------------------------------------------- 16-bit floats
def wide(x: Array) -> Array:
    """16-bit floats in float32, in their memory order; other arrays as they are."""
    if not half.is_half(x.dtype):
        return x
    axes = order.memory_axes(x)
    return half.widen(x.transpose(axes)).transpose(np.argsort(axes))


def rounded(x: Array, dtype: np.dtype[Any]) -> Array:
    """What was computed with :func:`wide` arrays in the dtype that they had."""
    if x.dtype == dtype:
        return x
    axes = order.memory_axes(x)
    return half.narrowed(x.transpose(axes), dtype).transpose(np.argsort(axes))


def by_float32(entry: Callable[..., Array]) -> Callable[..., Array]:
    """An entry function that takes 16-bit floats too: computed in float32 and rounded once."""

    @wraps(entry)
    def call(x: Array, *rest: Any) -> Array:
        if not half.is_half(x.dtype):
            return entry(x, *rest)
        others = (wide(y) if isinstance(y, np.ndarray) else y for y in rest)
        return rounded(entry(wide(x), *others), x.dtype)

    return call
