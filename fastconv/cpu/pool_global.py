"""Pooling over all positions of a plane, forward and backward.

A plane of one channel is taken as rows of one vector: what they merge to are the results of the lanes, and those are
merged one by one, with the elements that are left over.
"""

from __future__ import annotations

import math

import numpy as np

from fastconv.cpu import layout
from fastconv.cpu._jit import VECTOR_BYTES, compiled, flushing, inlined, launch, made
from fastconv.cpu.arithmetic import fold_sum
from fastconv.cpu.comparison import fold_largest
from fastconv.cpu.memory import empty, filled, zeros
from fastconv.cpu.pointers import advance, lanes_at, pointer
from fastconv.cpu.pool_bands import SERIAL_BYTES, computed, runs_and_planes, stored
from fastconv.cpu.pool_max import lowest, max_pool_backward
from fastconv.cpu.pool_rows import (
    Band,
    Cells,
    Operation,
    Row,
    Rows,
    across,
    as_is,
    earliest_largest,
    earliest_largest4,
    first_largest,
    first_largest4,
    largest,
    largest4,
    plus,
    plus4,
)
from fastconv.cpu.vector import divide, load, load_first, opaque, splat, store_first

Array = layout.Array


# -------------------------------------------------------------------------------------------------------------- forward
@inlined
def _merge(operation, x, plane, size, run, places, fill, cells):
    """Merge the rows of one plane: of all its channels, or of one vector; the elements merged come back."""
    count = run if run > 1 else lanes_at(pointer(x, 0))
    whole = size if run > 1 else size // count
    row = Row(count, pointer(places, 0), 1 if run > 1 else count)
    source, rows = pointer(x, plane * size * run), Rows(0, whole, 1)
    across(operation, source, Rows(0, 1, 0), rows, row, Band(1, 0, 0), fill, cells)
    return whole * count


@inlined
def _whole_plane(operation, source, size, fill):
    """The elements of a plane of one channel, merged to one vector."""
    lanes, value, j = lanes_at(source), fill, 0
    while j + 4 * lanes <= size:
        a, b = load_first(advance(source, j), lanes, fill), load_first(advance(source, j + lanes), lanes, fill)
        c = load_first(advance(source, j + 2 * lanes), lanes, fill)
        d = load_first(advance(source, j + 3 * lanes), lanes, fill)
        value, j = operation.across(value, 0, operation.across4(a, 0, b, 0, c, 0, d, 0)[0], 0)[0], j + 4 * lanes
    while j < size:
        value = operation.across(value, 0, load_first(advance(source, j), size - j, fill), 0)[0]
        j = opaque(j + lanes)
    return value


@flushing
def global_sum_core(worker, workers, x, y, planes, size, run, number, zero):
    """The mean of each channel's ``size`` elements, which is ``number`` too."""
    operation, sums = Operation(False, False, plus, plus4, plus, plus4, as_is), filled(run + VECTOR_BYTES, zero)
    fill = splat(pointer(sums, 0), zero)
    count, places = splat(pointer(sums, 0), number), zeros(max(run, VECTOR_BYTES), np.int64)
    for plane in range(planes * worker // workers, planes * (worker + 1) // workers):
        if run > 1:
            _merge(operation, x, plane, size, run, places, fill, Cells(pointer(sums, 0), pointer(places, 0)))
            for c in range(0, run, lanes_at(pointer(sums, 0))):
                value = divide(load(pointer(sums, c)), count)
                store_first(pointer(y, plane * run + c), value, run - c)
        else:
            value = fold_sum(_whole_plane(operation, pointer(x, plane * size), size, fill))
            store_first(pointer(y, plane), divide(value, count), 1)


@compiled
def global_max_core(worker, workers, x, y, planes, size, run, lowest):
    """The maximum of each channel's ``size`` elements."""
    operation, values = Operation(False, True, largest, largest4, largest, largest4, as_is), filled(1, lowest)
    fill, places = splat(pointer(values, 0), lowest), zeros(max(run, VECTOR_BYTES), np.int64)
    for plane in range(planes * worker // workers, planes * (worker + 1) // workers):
        if run > 1:
            _merge(operation, x, plane, size, run, places, fill, Cells(pointer(y, plane * run), pointer(places, 0)))
        else:
            value = fold_largest(_whole_plane(operation, pointer(x, plane * size), size, fill))
            store_first(pointer(y, plane), value, 1)


@compiled
def global_argmax_core(worker, workers, x, y, indices, planes, size, run, lowest):
    """The maximum of each channel's ``size`` elements and where it is."""
    operation = Operation(True, True, first_largest, first_largest4, earliest_largest, earliest_largest4, as_is)
    lanes, positions, places = filled(VECTOR_BYTES, lowest), empty(VECTOR_BYTES, np.int64), _lane_places(run)
    fill, count = splat(pointer(lanes, 0), lowest), lanes_at(pointer(x, 0))
    for plane in range(planes * worker // workers, planes * (worker + 1) // workers):
        if run > 1:
            target = Cells(pointer(y, plane * run), pointer(indices, plane * run))
            _merge(operation, x, plane, size, run, places, fill, target)
            continue
        merged = _merge(operation, x, plane, size, 1, places, fill, Cells(pointer(lanes, 0), pointer(positions, 0)))
        value, at = lowest, -1
        for lane in range(count if merged > 0 else 0):
            if _precedes(lanes[lane], positions[lane], value, at):
                value, at = lanes[lane], positions[lane]
        rest = load_first(pointer(x, plane * size + merged), size - merged, fill)
        store_first(pointer(lanes, 0), rest, count)
        for lane in range(size - merged):
            if _precedes(lanes[lane], merged + lane, value, at):
                value, at = lanes[lane], merged + lane
        lanes[0], indices[plane] = value, at
        store_first(pointer(y, plane), load(pointer(lanes, 0)), 1)


@inlined
def _lane_places(run):
    """Positions of elements in their row: of one vector, or of channels that share theirs."""
    places = zeros(max(run, VECTOR_BYTES), np.int64)
    for e in range(VECTOR_BYTES if run == 1 else 0):
        places[e] = e
    return places


@inlined
def _precedes(value, at, best, best_at):
    """Whether ``value`` is larger, NaN being the largest, or equal at a smaller position."""
    if best_at < 0 or (value != value) != (best != best):
        return best_at < 0 or value != value
    return value > best or (at < best_at and not value < best)


def _planes(x: Array) -> tuple[Array, int, int, int, int]:
    """The flat array, its planes, their positions, the channels that share one, and how many threads may help."""
    source, channels_last = layout.flat(x)
    run, planes = runs_and_planes(x.shape, channels_last)
    return stored(source), planes, math.prod(x.shape[2:]), run, planes if source.nbytes > SERIAL_BYTES else 1


def global_avg_pool_forward(x: Array) -> Array:
    """The mean of each channel of x (N, C, *spatial)."""
    source, planes, size, run, tasks = _planes(x)
    y = made(np.empty(x.shape[:2], x.dtype))
    numbers = planes, size, run, *map(computed(x.dtype).type, (size, 0))
    launch(global_sum_core, tasks, source, stored(y.reshape(-1)), *numbers)
    return y


def global_max_pool_forward(x: Array, return_indices: bool) -> tuple[Array, Array | None]:
    """The maximum of each channel of x (N, C, *spatial) and, if asked for, its position."""
    source, planes, size, run, tasks = _planes(x)
    y = made(np.empty(x.shape[:2], x.dtype))
    target, least = stored(y.reshape(-1)), lowest(computed(x.dtype))
    if not return_indices:
        launch(global_max_core, tasks, source, target, planes, size, run, least)
        return y, None
    indices = made(np.empty(x.shape[:2], np.int64))
    launch(global_argmax_core, tasks, source, target, indices.reshape(-1), planes, size, run, least)
    return y, indices


# ------------------------------------------------------------------------------------------------------------- backward
def global_avg_pool_backward(grad_out: Array, input_shape: tuple[int, ...]) -> Array:
    """Every element of a channel gets the same share; a broadcast copy is as fast as memory."""
    grad_x = np.empty(input_shape, grad_out.dtype)
    size = computed(grad_out.dtype).type(math.prod(input_shape[2:]))
    shares = (grad_out.astype(computed(grad_out.dtype)) / size).astype(grad_out.dtype)
    grad_x[...] = shares.reshape(*grad_out.shape, *[1] * (len(input_shape) - 2))
    return grad_x


def global_max_pool_backward(grad_out: Array, indices: Array, input_shape: tuple[int, ...]) -> Array | None:
    """The gradient goes where the maximum was; None where an index lies outside of its plane."""
    one = (*grad_out.shape, *[1] * (len(input_shape) - 2))
    return max_pool_backward(grad_out.reshape(one), indices.reshape(one), input_shape)
