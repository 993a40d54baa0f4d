"""Max pooling, forward and backward."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv._window import Window
from fastconv.cpu import layout
from fastconv.cpu._jit import compiled, flag, inlined, launch, once
from fastconv.cpu.half import is_half
from fastconv.cpu.memory import empty, zeros
from fastconv.cpu.pointers import advance, clear, lanes_at, pointer
from fastconv.cpu.pool_bands import (
    SERIAL_BYTES,
    SLACK,
    Scratch,
    computed,
    parts_of_scratch,
    places_of_row,
    pool,
    prepare,
    result_shape,
    rows_of_scratch,
    runs_and_planes,
    stored,
)
from fastconv.cpu.pool_plan import SEAMLESS, SOURCE_COUNT, some_are_empty
from fastconv.cpu.pool_rows import (
    Operation,
    as_is,
    earliest_largest,
    earliest_largest4,
    first_largest,
    first_largest4,
    largest,
    largest4,
)
from fastconv.cpu.vector import load_first, splat, store_first

Array = layout.Array


# -------------------------------------------------------------------------------------------------------------- forward
@compiled
def max_core(worker, workers, x, y, plan, planes, lowest):
    """The maxima alone."""
    operation, none = Operation(False, True, largest, largest4, largest, largest4, as_is), zeros(SLACK, np.int64)
    places = zeros(plan[SOURCE_COUNT] + SLACK, np.int64)
    scratch = Scratch(rows_of_scratch(plan, lowest), none, parts_of_scratch(plan, lowest), none, places)
    fill = splat(pointer(scratch.values, 0), lowest)
    pool(operation, worker, workers, x, y, none, scratch, 0, 0, plan, planes, plan[SEAMLESS], fill)


@compiled
def argmax_core(worker, workers, x, y, indices, plan, planes, lowest):
    """The maxima and where they are.

    Rows come in the order of their positions; along a row of their maxima that order is lost, and positions decide.
    """
    operation = Operation(True, True, first_largest, first_largest4, earliest_largest, earliest_largest4, as_is)
    values, positions = rows_of_scratch(plan, lowest), rows_of_scratch(plan, -1)
    scratch = Scratch(
        values, positions, parts_of_scratch(plan, lowest), parts_of_scratch(plan, -1), places_of_row(plan)
    )
    fill = splat(pointer(scratch.values, 0), lowest)
    pool(operation, worker, workers, x, y, indices, scratch, 0, 0, plan, planes, plan[SEAMLESS], fill)


def lowest(dtype: np.dtype[Any]) -> Any:
    """What every other value is larger than, or equal to."""
    return dtype.type(-np.inf) if dtype.kind == "f" else dtype.type(np.iinfo(dtype).min)


def max_pool_forward(x: Array, window: Window, return_indices: bool, out: Array | None) -> tuple[Array, Array | None]:
    """The maxima of x (N, C, *spatial) and, if asked for, their positions in the plane."""
    call, shape = prepare(x, window), result_shape(x, window)
    y = layout.target(out, shape, x.dtype, call.channels_last, x)
    target, least = stored(layout.flat_target(y, call.channels_last)), lowest(computed(x.dtype))
    if not return_indices:
        launch(max_core, call.tasks, call.source, target, call.plan, call.planes, least)
        return layout.deliver(y, out), None
    indices = layout.empty(shape, np.int64, call.channels_last)
    target_indices = layout.flat_target(indices, call.channels_last)
    launch(argmax_core, call.tasks, call.source, target, target_indices, call.plan, call.planes, least)
    if some_are_empty(window):  # a window without elements has no position; the first is one of the input's
        np.maximum(indices, 0, out=indices)
        once("positions of empty windows")
    return layout.deliver(y, out), indices


# ------------------------------------------------------------------------------------------------------------- backward
@compiled
def max_pool_backward_core(worker, workers, grad_out, indices, grad_x, planes, count, size, run, outside):
    """Every gradient is added where its window's maximum was.

    Windows overlap, so that several gradients may meet in one element. One worker adds up a whole plane, in the order
    of the gradients: sums are the same for any number of workers. A position outside the plane ends the worker's part.
    """
    for plane in range(planes * worker // workers, planes * (worker + 1) // workers):
        source, position = pointer(grad_out, plane * count * run), pointer(indices, plane * count * run)
        target = pointer(grad_x, plane * size * run)
        clear(target, size * run)
        inside = (
            _scatter(source, position, target, count, size)
            if run == 1
            else _scatter_runs(source, position, target, count, size, run)
        )
        if not inside:
            outside[0] = 1
            return


@compiled
def max_pool_backward_core_16(worker, workers, grad_out, indices, grad_x, planes, count, size, run, outside):
    """The same of 16-bit floats: gradients that meet are added in float32, and their sum is rounded once."""
    wide, sums = empty(count * run + SLACK, np.float32), empty(size * run + SLACK, np.float32)
    fill = splat(pointer(wide, 0), np.float32(0))
    for plane in range(planes * worker // workers, planes * (worker + 1) // workers):
        position, source, target = pointer(indices, plane * count * run), pointer(wide, 0), pointer(sums, 0)
        _copy(pointer(grad_out, plane * count * run), source, count * run, fill)
        clear(target, size * run)
        inside = (
            _scatter(source, position, target, count, size)
            if run == 1
            else _scatter_runs(source, position, target, count, size, run)
        )
        if not inside:
            outside[0] = 1
            return
        _copy(target, pointer(grad_x, plane * size * run), size * run, fill)


@inlined
def _copy(source, target, count, fill):
    """target = source, of which one is of 16-bit floats."""
    for j in range(0, count, lanes_at(source)):
        store_first(advance(target, j), load_first(advance(source, j), count - j, fill), count - j)


@inlined
def _scatter(source, position, target, count, size):
    """Add the gradients of one plane, four at a time, while all positions are inside."""
    limit, whole = np.uint64(size), count - count % 4
    for j in range(0, whole, 4):
        a, b, c, d = position[j], position[j + 1], position[j + 2], position[j + 3]
        if max(np.uint64(a), np.uint64(b), np.uint64(c), np.uint64(d)) >= limit:
            return False
        target[a] += source[j]
        target[b] += source[j + 1]
        target[c] += source[j + 2]
        target[d] += source[j + 3]
    for j in range(whole, count):
        if np.uint64(position[j]) >= limit:
            return False
        target[position[j]] += source[j]
    return True


@inlined
def _scatter_runs(source, position, target, count, size, run):
    for j in range(count):
        for channel in range(run):
            at = position[j * run + channel]
            if np.uint64(at) >= np.uint64(size):
                return False
            target[at * run + channel] += source[j * run + channel]
    return True


def max_pool_backward(grad_out: Array, indices: Array, input_shape: tuple[int, ...]) -> Array | None:
    """The gradient of x of that shape; None where an index lies outside of its plane."""
    source, channels_last = layout.flat(grad_out)
    position = layout.flat_alike(indices, channels_last)
    grad_x = layout.empty(input_shape, grad_out.dtype, channels_last)
    run, planes = runs_and_planes(input_shape, channels_last)
    count, size = math.prod(grad_out.shape[2:]), math.prod(input_shape[2:])
    outside = flag()
    tasks = planes if grad_x.nbytes > SERIAL_BYTES else 1
    target = layout.flat_target(grad_x, channels_last)
    core = max_pool_backward_core_16 if is_half(grad_out.dtype) else max_pool_backward_core
    launch(core, tasks, stored(source), position, stored(target), planes, count, size, run, outside)
    return None if outside[0] else grad_x
