"""Sum and average pooling, backward: the kernels, for windows of any kind and for two kinds that move by two."""

from __future__ import annotations

import numpy as np

from fastconv.cpu import pool_plan as p
from fastconv.cpu._jit import flushing, inlined
from fastconv.cpu.memory import filled, zeros
from fastconv.cpu.pointers import advance, aligned, clear, lanes_at, pointer, prefetch
from fastconv.cpu.pool_bands import SLACK
from fastconv.cpu.pool_rows import Band, Cells, Operation, Row, Rows, across, as_is, plus, plus4
from fastconv.cpu.pool_spread import Phases, spread_row, store_pairs
from fastconv.cpu.vector import add, load, load_first, multiply, opaque, splat, store_first

# Elements ahead that are prefetched, to be written: a store to a line that is not there waits for it. On 64x224x224,
# windows of 2x2, gradients then take 0.56 ms instead of 0.69.
AHEAD = 512


# ------------------------------------------------------------------------------------------------------ rows of scratch
@inlined
def _scaled_row(grad_out, first, slabs, count, rows, columns, fill, target):
    """A row of scratch: the sum of the rows ``first`` of some slabs, each element times its factors."""
    for block in range(0, count, lanes_at(grad_out)):
        j = max(min(block, count - lanes_at(grad_out)), 0)
        value, row, left = fill, slabs.first + first, slabs.number
        while left > 0:
            other = load_first(advance(grad_out, row * count + j), count, fill)
            value = add(value, multiply(other, splat(rows, rows[row])))
            row, left = row + slabs.step, opaque(left - 1)
        store_first(advance(target, j), multiply(value, load(advance(columns, j))), count)


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


# ---------------------------------------------------------------------------------------------------------- any windows
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
def _spread_band(source, numbers, plan, d, low, high, run, fill, scaled, spread, band, share):
    """The rows from ``low`` to ``high``, spread. All are scaled before one is read again: its stores are done then."""
    slab_table, phase_table = pointer(plan, p.B_HEADER), p.B_HEADER + 3 * (plan[p.B_DEPTH] + plan[p.B_HEIGHT])
    slabs = Rows(slab_table[d], slab_table[plan[p.B_DEPTH] + d], plan[p.B_DEPTH_STEP])
    factors = pointer(numbers, 0), pointer(numbers, plan[p.B_SOURCE_ROWS])
    first, number = pointer(plan, phase_table), pointer(plan, phase_table + plan[p.B_PHASES])
    phases = Phases(plan[p.B_STRIDE], first, number, plan[p.B_WIDTH_STEP])
    scaled = advance(scaled, plan[p.B_GAP])
    for r in range(high - low):
        target = advance(scaled, r * plan[p.B_PITCH])
        _scaled_row(source, low + r, slabs, plan[p.B_SOURCE_WIDTH] * run, *factors, fill, target)
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


# ------------------------------------------------------------------------------------------- windows that move by two
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


@flushing
def sum_backward_core_3x3(worker, workers, grad_out, grad_x, numbers, plan, planes, ahead, zero):
    """The same for windows of three by three, two apart: a row of the result is made of two rows of scratch at once."""
    fill, height, width = splat(pointer(numbers, 0), zero), plan[p.B_HEIGHT], plan[p.B_WIDTH]
    count, pitch, bands = plan[p.B_SOURCE_WIDTH], plan[p.B_PITCH], (height + plan[p.B_BAND] - 1) // plan[p.B_BAND]
    scaled = filled((plan[p.B_BAND_ROWS] + 1) * pitch + SLACK, zero)
    factors = pointer(numbers, 0), pointer(numbers, plan[p.B_SOURCE_ROWS])
    table = pointer(plan, p.B_HEADER + 3 * plan[p.B_DEPTH])
    phases = advance(table, 3 * height)
    for item in range(planes * bands * worker // workers, planes * bands * (worker + 1) // workers):
        plane, top = item // bands, item % bands * plan[p.B_BAND]
        bottom = min(top + plan[p.B_BAND], height)
        low, high = _rows_needed(plan, top, bottom)
        scratch = advance(aligned(pointer(scaled, 0)), plan[p.B_GAP])
        source = pointer(grad_out, plane * plan[p.B_SOURCE_ROWS] * count)
        for r in range(high - low):
            _scaled_row(source, low + r, Rows(0, 1, 0), count, *factors, fill, advance(scratch, r * pitch))
        nothing = advance(scratch, plan[p.B_BAND_ROWS] * pitch)
        for i in range(top, bottom):
            target = pointer(grad_x, (plane * height + i) * width)
            for line in range(AHEAD, AHEAD + ahead * width, lanes_at(target)):
                prefetch(advance(target, line))
            one = advance(scratch, (table[i] - low) * pitch)
            other = advance(one, -pitch) if table[height + i] > 1 else nothing
            _spread_by_two(one if table[height + i] > 0 else nothing, other, phases, width, target)


@inlined
def _spread_by_two(one, other, phases, width, target):
    """A row of the result, in pairs of which one element is covered by one window, and the other one by two."""
    second = phases[2] == 1  # is covered twice, by the next window too; else the first is, by the one before
    near = phases[0] if second else phases[1]
    far = near + 1 if second else near - 1
    for j in range(0, (width + 1) // 2, lanes_at(one)):
        once = add(load(advance(one, j + near)), load(advance(other, j + near)))
        twice = add(once, add(load(advance(one, j + far)), load(advance(other, j + far))))
        if second:
            store_pairs(once, twice, advance(target, 2 * j), width - 2 * j)
        else:
            store_pairs(twice, once, advance(target, 2 * j), width - 2 * j)
