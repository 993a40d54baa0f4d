"""Pooling, forward: the output rows of all planes, band by band, for any operation of pool_rows."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from fastconv._window import Window
from fastconv.cpu import layout
from fastconv.cpu import pool_plan as p
from fastconv.cpu._jit import VECTOR_BYTES, inlined
from fastconv.cpu._target import lanes
from fastconv.cpu.half import is_brain, is_half
from fastconv.cpu.memory import filled, zeros
from fastconv.cpu.pointers import aligned, pointer
from fastconv.cpu.pool_lines import Line, along, part_windows
from fastconv.cpu.pool_rows import Band, Cells, Row, Rows, across, move

Array = layout.Array

SERIAL_BYTES = 128 * 1024  # below this, one thread is done before a second one has started
SLACK = 4 * VECTOR_BYTES  # elements that may be read beyond the last row of scratch


# ---------------------------------------------------------------------------------------------------- in compiled code
class Scratch(NamedTuple):
    """Arrays of values and, where positions are wanted, of positions: rows, and part windows."""

    values: Any
    positions: Any
    parts: Any
    part_positions: Any
    places: Any


@inlined
def rows_of_scratch(plan, fill):
    """Scratch that holds ``fill`` wherever no row is written."""
    return filled(plan[p.BAND] * plan[p.PITCH] + plan[p.PART] * plan[p.DILATION] + SLACK, fill)


@inlined
def parts_of_scratch(plan, fill):
    return filled((plan[p.BAND] * plan[p.PITCH] if plan[p.PART] > 1 else 0) + SLACK, fill)


@inlined
def places_of_row(plan):
    """The position in its row of each element of x."""
    places = zeros(plan[p.SOURCE_COUNT] + SLACK, np.int64)
    run = plan[p.SOURCE_COUNT] // max(plan[p.SOURCE_WIDTH], 1)
    for e in range(plan[p.SOURCE_COUNT]):
        places[e] = e // run
    return places


@inlined
def pool(operation, worker, workers, x, y, indices, scratch, factors, part_factors, plan, planes, seamless, fill):
    """Every worker takes a share of the output rows of all planes, ``plan[BAND]`` rows at a time.

    A row of the result depends on no other one, so shares and bands may begin anywhere.
    """
    rows, pitch = plan[p.DEPTH] * plan[p.HEIGHT], plan[p.PITCH]
    shares = pointer(plan, p.HEADER + 3 * (plan[p.DEPTH] + plan[p.HEIGHT]))
    taps = plan[p.KERNEL], plan[p.PART], plan[p.STRIDE], plan[p.DILATION]
    line = Line(*taps, plan[p.RUN_COUNT], plan[p.REPEATS], plan[p.JUMP], shares)
    begin, end = planes * rows * worker // workers, planes * rows * (worker + 1) // workers
    for top in range(begin, end, plan[p.BAND]):
        band = min(plan[p.BAND], end - top)
        # Pointers are taken in the loop: an array lives until its last use, which that of its pointer is not.
        source = Cells(aligned(pointer(scratch.values, 0)), aligned(pointer(scratch.positions, 0)))
        parts = source
        target = Cells(pointer(y, top * plan[p.COUNT]), pointer(indices, top * plan[p.COUNT]))
        _fill_band(operation, x, pointer(scratch.places, 0), plan, top, band, fill, source)
        if line.part > 1:
            parts = Cells(aligned(pointer(scratch.parts, 0)), aligned(pointer(scratch.part_positions, 0)))
            part_windows(operation, source, line, band * pitch, fill, part_factors, parts)
        if seamless:  # windows tile their rows, and rows lie without a gap: they are one long row
            line = Line(*taps, plan[p.COUNT] * band, 1, 0, shares)
            band = 1
        along(operation, parts, source, line, Band(band, pitch, plan[p.COUNT]), fill, factors, top, target)


@inlined
def _fill_band(operation, x, places, plan, top, band, fill, target):
    """Rows of scratch for the output rows ``top`` to ``top + band``, as many at once as are alike."""
    depth, height, count = plan[p.DEPTH], plan[p.HEIGHT], plan[p.SOURCE_COUNT]
    slab_table, row_table = pointer(plan, p.HEADER), pointer(plan, p.HEADER + 3 * depth)
    row = Row(count, places, plan[p.SOURCE_WIDTH])
    plane, d, i = top // (depth * height), top // height % depth, top % height
    done = 0
    while done < band:
        # Positions start anew in each plane, so that looking for them ends the run at a plane's end.
        whole = plan[p.TALL] and not operation.find
        alike = band - done if whole else min(band - done, row_table[2 * height + i])
        slabs = Rows(slab_table[d], slab_table[depth + d], plan[p.DEPTH_STEP])
        rows = Rows(row_table[i], row_table[height + i], plan[p.HEIGHT_STEP])
        across(
            operation,
            pointer(x, plane * plan[p.SOURCE_ROWS] * count),
            slabs,
            rows,
            row,
            Band(alike, plan[p.ROW_STEP], plan[p.PITCH]),
            fill,
            move(target, done * plan[p.PITCH] + plan[p.GAP]),
        )
        done, i = done + alike, i + alike
        if i == height:
            i, d = 0, d + 1
            if d == depth:
                plane, d = plane + 1, 0


# ------------------------------------------------------------------------------------------------------------ in Python
def stored(flat: Array) -> Array:
    """A flat array as kernels load and store it: 16-bit floats as integers, float16 unsigned and bfloat16 signed."""
    if not is_half(flat.dtype):
        return flat
    return flat.view(np.int16 if is_brain(flat.dtype) else np.uint16)


def computed(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """What elements of this dtype are computed with in."""
    return np.dtype(np.float32) if is_half(dtype) else dtype


class Call(NamedTuple):
    """One call's arrays and numbers, as cores take them."""

    source: Array
    channels_last: bool
    run: int
    planes: int
    plan: Any
    tasks: int


def prepare(x: Array, window: Window) -> Call:
    source, channels_last = layout.flat(x)
    run, planes = runs_and_planes(x.shape, channels_last)
    plan = p.forward_plan(window, run, lanes(x.itemsize))
    tasks = planes * int(plan[p.HEIGHT]) if source.nbytes > SERIAL_BYTES else 1
    return Call(stored(source), channels_last, run, planes, plan, tasks)


def runs_and_planes(shape: tuple[int, ...], channels_last: bool) -> tuple[int, int]:
    """Channels that lie side by side, and planes of such; no planes where there are no elements."""
    if math.prod(shape) == 0:
        return 1, 0
    return (shape[1], shape[0]) if channels_last else (1, shape[0] * shape[1])


def result_shape(x: Array, window: Window) -> tuple[int, ...]:
    return (*x.shape[:2], *window.output_size[5 - x.ndim :])
