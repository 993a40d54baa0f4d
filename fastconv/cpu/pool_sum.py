"""Sum and average pooling, forward and backward."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastconv._window import Window
from fastconv.cpu import layout
from fastconv.cpu import pool_plan as p
from fastconv.cpu._jit import L2_BYTES, VECTOR_BYTES, flushing, inlined, launch
from fastconv.cpu._target import lanes
from fastconv.cpu.memory import filled, zeros
from fastconv.cpu.pointers import advance, aligned, clear, lanes_at, pointer, prefetch
from fastconv.cpu.pool_bands import (
    SERIAL_BYTES,
    SLACK,
    Scratch,
    computed,
    parts_of_scratch,
    pool,
    prepare,
    result_shape,
    rows_of_scratch,
    runs_and_planes,
    stored,
)
from fastconv.cpu.pool_rows import Band, Cells, Operation, Row, Rows, across, as_is, plus, plus4
from fastconv.cpu.pool_spread import Phases, spread_row, store_pairs
from fastconv.cpu.vector import add, divide, load, load_first, multiply, opaque, splat, store_first

Array = layout.Array

# Elements ahead that are prefetched, to be written: a store to a line that is not there waits for it. On 64x224x224,
# windows of 2x2, gradients then take 0.56 ms instead of 0.69.
AHEAD = 512
FACTOR, DIVISOR, DIVISORS, NOTHING = range(4)


class Factors(NamedTuple):
    """What sums are multiplied or divided by: one number, or one per row of a plane times one per element of it."""

    kind: Any
    rows: Any
    row_count: Any
    columns: Any


# -------------------------------------------------------------------------------------------------------------- forward
@inlined
def divided(value, factors, row, j):
    if factors.kind == FACTOR:
        return multiply(value, splat(factors.rows, factors.rows[0]))
    if factors.kind == DIVISOR:
        return divide(value, splat(factors.rows, factors.rows[0]))
    if factors.kind == DIVISORS:
        divisor = splat(factors.rows, factors.rows[row % factors.row_count])
        return divide(value, multiply(load(advance(factors.columns, j)), divisor))
    return value


@flushing
def sum_core(worker, workers, x, y, numbers, kind, plan, planes, zero):
    operation, none = Operation(False, False, plus, plus4, plus, plus4, divided), zeros(SLACK, np.int64)
    places = zeros(plan[p.SOURCE_COUNT] + SLACK, np.int64)
    scratch = Scratch(rows_of_scratch(plan, zero), none, parts_of_scratch(plan, zero), none, places)
    rows, fill = plan[p.DEPTH] * plan[p.HEIGHT], splat(pointer(scratch.values, 0), zero)
    factors = Factors(kind, pointer(numbers, 0), rows, pointer(numbers, rows if kind == DIVISORS else 0))
    nothing = Factors(NOTHING, factors.rows, rows, factors.columns)
    seamless = plan[p.SEAMLESS] and kind != DIVISORS
    pool(operation, worker, workers, x, y, none, scratch, factors, nothing, plan, planes, seamless, fill)


@lru_cache(maxsize=256)
def _forward_factors(
    window: Window, count_include_pad: bool, divisor: int | None, run: int, dtype: np.dtype[Any]
) -> tuple[Array, int]:
    """The factors of a call and their kind. Multiplication takes the place of division where it gives the same."""
    rows, columns = p.divisors(window, count_include_pad, divisor)
    if rows.min() == rows.max() and columns.min() == columns.max():
        number = rows[0] * columns[0]
        exact = math.frexp(number)[0] == 0.5
        return _read_only([1 / number if exact else number], dtype), FACTOR if exact else DIVISOR
    return _read_only([*rows, *np.repeat(columns, run), *[1] * VECTOR_BYTES], dtype), DIVISORS


def _read_only(numbers: Any, dtype: np.dtype[Any]) -> Array:
    array = np.array(numbers, dtype)
    array.setflags(write=False)
    return array


def sum_pool_forward(
    x: Array, window: Window, count_include_pad: bool, divisor: int | None, out: Array | None
) -> Array:
    """The sums of x's windows over ``divisor``, or over the number of elements that count."""
    call, dtype = prepare(x, window), computed(x.dtype)
    y = layout.target(out, result_shape(x, window), x.dtype, call.channels_last, x)
    numbers, kind = _forward_factors(window, count_include_pad, divisor, call.run, dtype)
    target = stored(layout.flat_target(y, call.channels_last))
    launch(sum_core, call.tasks, call.source, target, numbers, kind, call.plan, call.planes, dtype.type(0))
    return layout.deliver(y, out)


# ------------------------------------------------------------------------------------------------------------- backward
@inlined
def _scaled_row(grad_out, first, slabs, count, factors, fill, target):
    """A row of scratch: the sum of the rows ``first`` of some slabs, each element times its factor."""
    for block in range(0, count, lanes_at(grad_out)):
        j = max(min(block, count - lanes_at(grad_out)), 0)
        value, row, left = fill, slabs.first + first, slabs.number
        while left > 0:
            other = load_first(advance(grad_out, row * count + j), count, fill)
            value = add(value, multiply(other, splat(factors.rows, factors.rows[row])))
            row, left = row + slabs.step, opaque(left - 1)
        store_first(advance(target, j), multiply(value, load(advance(factors.columns, j))), count)


@flushing
def sum_backward_core(worker, workers, grad_out, grad_x, numbers, plan, planes, ahead, run, zero):
    """Bands of rows of a slab: gradients times their factors, spread along rows, and those rows summed."""
    fill, height, depth = splat(pointer(numbers, 0), zero), plan[p.B_HEIGHT], plan[p.B_DEPTH]
    scaled = filled(plan[p.B_BAND_ROWS] * plan[p.B_PITCH] + SLACK, zero)
    count = plan[p.B_WIDTH] * run
    spread = filled(plan[p.B_BAND_ROWS] * count + SLACK, zero)
    places = zeros(plan[p.B_WIDTH] * run + SLACK, np.int64)
    bands = (height + plan[p.B_BAND] - 1) // plan[p.B_BAND]
    items = planes * depth * bands
    for item in range(items * worker // workers, items * (worker + 1) // workers):
        top, plane, d = item % bands * plan[p.B_BAND], item // bands // depth, item // bands % depth
        bottom = min(top + plan[p.B_BAND], height)
        source = pointer(grad_out, plane * plan[p.B_SOURCE_ROWS] * plan[p.B_SOURCE_WIDTH] * run)
        target = pointer(grad_x, (plane * depth + d) * height * count)
        rows = Cells(aligned(pointer(spread, 0)), pointer(places, 0))
        low, high = _rows_needed(plan, top, bottom)
        band, share = advance(target, top * count), ahead * (bottom - top) * count // max(high - low, 1)
        scratch = aligned(pointer(scaled, 0))
        _spread_band(source, numbers, plan, d, low, high, run, fill, scratch, rows.values, band, share)
        _sum_band(rows, plan, low, top, bottom, run, fill, target)


@inlined
def _rows_needed(plan, top, bottom):
    """The smallest of the rows that the rows from ``top`` to ``bottom`` are made of, and one past the largest."""
    table, height = pointer(plan, p.B_HEADER + 3 * plan[p.B_DEPTH]), plan[p.B_HEIGHT]
    low, high = plan[p.B_SOURCE_HEIGHT], 0
    for i in range(top, bottom):
        if table[height + i] > 0:
            low = min(low, table[i] + (table[height + i] - 1) * plan[p.B_HEIGHT_STEP])
            high = max(high, table[i] + 1)
    return min(low, high), high


@inlined
def _spread_band(source, numbers, plan, d, low, high, run, fill, scaled, spread, band, share):
    """The rows from ``low`` to ``high``, spread. All are scaled before one is read again: its stores are done then."""
    slab_table, phase_table = pointer(plan, p.B_HEADER), p.B_HEADER + 3 * (plan[p.B_DEPTH] + plan[p.B_HEIGHT])
    slabs = Rows(slab_table[d], slab_table[plan[p.B_DEPTH] + d], plan[p.B_DEPTH_STEP])
    factors = Factors(DIVISORS, pointer(numbers, 0), 0, pointer(numbers, plan[p.B_SOURCE_ROWS]))
    first, number = pointer(plan, phase_table), pointer(plan, phase_table + plan[p.B_PHASES])
    phases = Phases(plan[p.B_STRIDE], first, number, plan[p.B_WIDTH_STEP])
    scaled = advance(scaled, plan[p.B_GAP])
    for r in range(high - low):
        target = advance(scaled, r * plan[p.B_PITCH])
        _scaled_row(source, low + r, slabs, plan[p.B_SOURCE_WIDTH] * run, factors, fill, target)
    for r in range(high - low):
        target = advance(spread, r * plan[p.B_WIDTH] * run)
        for line in range(r * share, (r + 1) * share, lanes_at(source)):
            prefetch(advance(band, line))
        spread_row(advance(scaled, r * plan[p.B_PITCH]), phases, plan[p.B_WIDTH], run, fill, target)


@inlined
def _sum_band(rows, plan, low, top, bottom, run, fill, target):
    """The rows of the result from ``top`` to ``bottom``, each the sum of some spread rows."""
    table, height, count = pointer(plan, p.B_HEADER + 3 * plan[p.B_DEPTH]), plan[p.B_HEIGHT], plan[p.B_WIDTH] * run
    operation, row = Operation(False, False, plus, plus4, plus, plus4, as_is), Row(count, rows.positions, 0)
    every = plan[p.B_ROW_EVERY]
    for phase in range(min(every, bottom - top)):  # with a stride, rows that far apart are alike
        i = top + phase
        while i < bottom:
            alike = min((bottom - i + every - 1) // every, table[2 * height + i])
            some = Rows(table[i] - low, table[height + i], plan[p.B_HEIGHT_STEP])
            band, to = Band(alike, plan[p.B_ROW_STEP], every * count), Cells(advance(target, i * count), rows.positions)
            across(operation, rows.values, Rows(0, 1, 0), some, row, band, fill, to)
            i += alike * every


@flushing
def sum_backward_core_2x2(worker, workers, grad_out, grad_x, numbers, plan, planes, ahead, zero):
    """The same for windows of two by two that tile the plane: each gradient goes to four elements, without scratch."""
    fill, height, width = splat(pointer(numbers, 0), zero), plan[p.B_HEIGHT], plan[p.B_WIDTH]
    count, source_height = plan[p.B_SOURCE_WIDTH], plan[p.B_SOURCE_HEIGHT]
    rows = planes * plan[p.B_SOURCE_ROWS]
    begin, end = rows * worker // workers, rows * (worker + 1) // workers
    plane, i, of_plane = begin // source_height, begin % source_height, begin % plan[p.B_SOURCE_ROWS]
    for row in range(begin, end):
        target = pointer(grad_x, (plane * height + 2 * i) * width)
        factor = splat(pointer(numbers, 0), numbers[of_plane])
        for line in range(AHEAD, AHEAD + ahead * 2 * width, lanes_at(target)):
            prefetch(advance(target, line))
        for j in range(0, (width + 1) // 2, lanes_at(target)):
            value = load_first(pointer(grad_out, row * count + j), max(count - j, 0), fill)
            value = multiply(value, multiply(load(pointer(numbers, plan[p.B_SOURCE_ROWS] + j)), factor))
            for r in range(min(height - 2 * i, 2)):
                store_pairs(value, value, advance(target, r * width + 2 * j), width - 2 * j)
        i += 1
        of_plane = of_plane + 1 if of_plane + 1 < plan[p.B_SOURCE_ROWS] else 0
        if i == source_height:
            clear(advance(target, 2 * width), max(height - 2 * i, 0) * width)
            plane, i = plane + 1, 0


@lru_cache(maxsize=256)
def _backward_tables(
    window: Window, count_include_pad: bool, divisor: int | None, run: int, dtype: np.dtype[Any]
) -> tuple[Array, Array, bool]:
    """The plan, one factor per row and one per column of the gradient, and whether windows are tiles of two by two."""
    rows, columns = p.divisors(window, count_include_pad, divisor)
    factors = _read_only([*1 / rows, *np.repeat(1 / columns, run), *[1] * VECTOR_BYTES], dtype)
    return p.backward_plan(window, run, lanes(dtype.itemsize)), factors, run == 1 and _is_2x2(window)


def sum_pool_backward(
    grad_out: Array, input_shape: tuple[int, ...], window: Window, count_include_pad: bool, divisor: int | None
) -> Array:
    """The gradient of x of that shape."""
    source, channels_last = layout.flat(grad_out)
    grad_x = layout.empty(input_shape, grad_out.dtype, channels_last)
    target, dtype = stored(layout.flat_target(grad_x, channels_last)), computed(grad_out.dtype)
    zero = dtype.type(0)
    run, planes = runs_and_planes(input_shape, channels_last)
    plan, numbers, in_tiles = _backward_tables(window, count_include_pad, divisor, run, dtype)
    tasks = planes * window.output_size[1] if grad_x.nbytes > SERIAL_BYTES else 1
    ahead = int(2 * grad_x.nbytes > L2_BYTES)  # what is in the cache anyway is not worth asking for
    if in_tiles:
        launch(sum_backward_core_2x2, tasks, stored(source), target, numbers, plan, planes, ahead, zero)
    else:
        launch(sum_backward_core, tasks, stored(source), target, numbers, plan, planes, ahead, run, zero)
    return grad_x


def _is_2x2(window: Window) -> bool:
    tiling = window.kernel_size == window.stride == (1, 2, 2)
    return tiling and window.padding_before == (0, 0, 0) and window.dilation[1:] == (1, 1)
