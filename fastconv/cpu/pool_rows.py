"""Pooling, row by row, in two steps.

    across: s[e] = op over the rows r of x that an output row's windows cover of x[r, e]
    along:  y[j] = op over the taps of s[j * stride + tap * dilation]

``s`` is a row of scratch with what padding stands for around it, so that neither step has an edge to look after. Where
an operation does not find positions, LLVM deletes all code for them: that is why they are everywhere.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastconv.cpu._jit import inlined
from fastconv.cpu.comparison import beats, beats_or_precedes, maximum, maximum_of_four, select
from fastconv.cpu.pointers import advance, lanes_at
from fastconv.cpu.vector import add, load_beside, load_first, opaque, ramp, store_first

SMALLEST_SHARED = 6  # rows of a window from which outputs are made four at a time


class Operation(NamedTuple):
    """What is done with the elements of a window, step by step.

    ``find`` says whether positions are wanted, and ``exact`` whether elements may be combined in any order.
    """

    find: Any
    exact: Any
    across: Any
    across4: Any
    along: Any
    along4: Any
    finish: Any


class Cells(NamedTuple):
    """Where values and, beside them, positions are."""

    values: Any
    positions: Any


@inlined
def move(cells, offset):
    return Cells(advance(cells.values, offset), advance(cells.positions, offset))


# ---------------------------------------------------------------------------------- combining two elements, or four
# op(value, position, other, other_position) -> (value, position). Position -1 is that of padding.
@inlined
def largest(value, at, other, other_at):
    """The larger value; nobody asks for its position."""
    return maximum(value, other), at


@inlined
def largest4(a, a_at, b, b_at, c, c_at, d, d_at):
    return maximum_of_four(a, b, c, d), a_at


@inlined
def first_largest(value, at, other, other_at):
    """The larger value; of equal ones the first operand."""
    wins = beats(other, value)
    return select(wins, other, value), select(wins, other_at, at)


@inlined
def first_largest4(a, a_at, b, b_at, c, c_at, d, d_at):
    a, a_at = first_largest(a, a_at, b, b_at)
    c, c_at = first_largest(c, c_at, d, d_at)
    return first_largest(a, a_at, c, c_at)


@inlined
def earliest_largest(value, at, other, other_at):
    """The larger value; of equal ones the one with the smaller position, and any element before padding."""
    wins = beats_or_precedes(other, other_at, value, at)
    return select(wins, other, value), select(wins, other_at, at)


@inlined
def earliest_largest4(a, a_at, b, b_at, c, c_at, d, d_at):
    a, a_at = earliest_largest(a, a_at, b, b_at)
    c, c_at = earliest_largest(c, c_at, d, d_at)
    return earliest_largest(a, a_at, c, c_at)


@inlined
def plus(value, at, other, other_at):
    return add(value, other), at


@inlined
def plus4(a, a_at, b, b_at, c, c_at, d, d_at):
    return add(add(a, b), add(c, d)), a_at


@inlined
def as_is(value, factors, row, j):
    """The result of an operation that has nothing to finish."""
    return value


# ---------------------------------------------------------------------------------------------------------- across rows
class Rows(NamedTuple):
    """An arithmetic progression of row numbers."""

    first: Any
    number: Any
    step: Any


class Band(NamedTuple):
    """Rows that are made alike: their number, and from one to the next the distances on either side."""

    rows: Any
    source_step: Any
    target_step: Any


class Row(NamedTuple):
    """A row of x: its elements, their positions in it, and how many positions it has."""

    count: Any
    places: Any
    width: Any


@inlined
def across(operation, x, slabs, rows, row, band, fill, target):
    """Rows of scratch, each from the rows ``slab + row`` of x: one to three rows, the usual cases, as straight code."""
    if slabs.number == 1 and rows.number == 1:
        _across(operation, x, slabs.first + rows.first, rows.step, np.intp(1), row, band, fill, target)
    elif slabs.number == 1 and rows.number == 2:
        _across(operation, x, slabs.first + rows.first, rows.step, np.intp(2), row, band, fill, target)
    elif slabs.number == 1 and rows.number == 3:
        _across(operation, x, slabs.first + rows.first, rows.step, np.intp(3), row, band, fill, target)
    else:
        done = 0
        shared = operation.exact and slabs.number == 1 and band.source_step == rows.step
        if shared and rows.number >= SMALLEST_SHARED:  # else rows would be few that four outputs share
            done = band.rows - band.rows % 4
            _across_four(operation, x, slabs.first + rows.first, rows, row, band, done, fill, target)
        slabs = Rows(slabs.first + done * band.source_step, slabs.number, slabs.step)
        rest = Band(band.rows - done, band.source_step, band.target_step)
        _across_any(operation, x, slabs, rows, row, rest, fill, move(target, done * band.target_step))


@inlined
def _across(operation, x, first, step, number, row, band, fill, target):
    """``number`` is a constant for the compiler. The last block of lanes overlaps the one before it."""
    for r in range(band.rows):
        for block in range(0, row.count, lanes_at(x)):
            j, n = max(min(block, row.count - lanes_at(x)), 0), first + r * band.source_step
            place = load_beside(fill, advance(row.places, j))
            value, at = _element(advance(x, j), n, row, place, fill)
            for _ in range(1, number):
                n += step
                other, other_at = _element(advance(x, j), n, row, place, fill)
                value, at = operation.across(value, at, other, other_at)
            put(operation, move(target, r * band.target_step + j), value, at, row.count)


@inlined
def _across_four(operation, x, first, rows, row, band, count, fill, target):
    """Four rows of scratch at a time, from windows that are one row apart: they share all but three on each side."""
    step = rows.step
    for r in range(0, count, 4):
        for block in range(0, row.count, lanes_at(x)):
            j, n = max(min(block, row.count - lanes_at(x)), 0), first + r * step
            source, place = advance(x, j), load_beside(fill, advance(row.places, j))
            a, a_at = _element(source, n, row, place, fill)
            b, b_at = _element(source, n + step, row, place, fill)
            c, c_at = _element(source, n + 2 * step, row, place, fill)
            b, b_at = operation.along(b, b_at, c, c_at)
            a, a_at = operation.along(a, a_at, b, b_at)
            core, at, n = _column(operation, source, n + 3 * step, step, rows.number - 3, row, place, fill)
            d, d_at = _element(source, n, row, place, fill)
            e, e_at = _element(source, n + step, row, place, fill)
            f, f_at = _element(source, n + 2 * step, row, place, fill)
            e, e_at = operation.along(d, d_at, e, e_at)
            f, f_at = operation.along(e, e_at, f, f_at)
            to = move(target, r * band.target_step + j)
            _put_both(operation, to, a, a_at, core, at, row.count)
            core_d, core_d_at = operation.along(core, at, d, d_at)
            _put_both(operation, move(to, band.target_step), b, b_at, core_d, core_d_at, row.count)
            core_e, core_e_at = operation.along(core, at, e, e_at)
            _put_both(operation, move(to, 2 * band.target_step), c, c_at, core_e, core_e_at, row.count)
            _put_both(operation, move(to, 3 * band.target_step), core, at, f, f_at, row.count)


@inlined
def _column(operation, source, n, step, number, row, place, fill):
    """The elements of ``number`` rows from ``n`` on, combined, and the row after the last one."""
    value, at = fill, ramp(fill, -1, 0)
    while number >= 4:
        other, other_at = _four_elements(operation, source, n, step, row, place, fill)
        value, at = operation.along(value, at, other, other_at)
        n, number = n + 4 * step, opaque(number - 4)
    while number > 0:
        other, other_at = _element(source, n, row, place, fill)
        value, at = operation.along(value, at, other, other_at)
        n, number = n + step, opaque(number - 1)
    return value, at, n


@inlined
def _put_both(operation, target, value, at, other, other_at, room):
    value, at = operation.along(value, at, other, other_at)
    put(operation, target, value, at, room)


@inlined
def _across_any(operation, x, slabs, rows, row, band, fill, target):
    """Any number of slabs and rows, also none: it starts from padding, which loses against an equal element."""
    for r in range(band.rows):
        for block in range(0, row.count, lanes_at(x)):
            j = max(min(block, row.count - lanes_at(x)), 0)
            source, place = advance(x, j), load_beside(fill, advance(row.places, j))
            value, at = fill, ramp(fill, -1, 0)
            slab, left = slabs.first + rows.first + r * band.source_step, slabs.number
            while left > 0:
                other, other_at, _ = _column(operation, source, slab, rows.step, rows.number, row, place, fill)
                value, at = operation.along(value, at, other, other_at)
                slab, left = slab + slabs.step, opaque(left - 1)
            put(operation, move(target, r * band.target_step + j), value, at, row.count)


@inlined
def _element(source, n, row, place, fill):
    return load_first(advance(source, n * row.count), row.count, fill), add(place, ramp(fill, n * row.width, 0))


@inlined
def _four_elements(operation, source, n, step, row, place, fill):
    a, a_at = _element(source, n, row, place, fill)
    b, b_at = _element(source, n + step, row, place, fill)
    c, c_at = _element(source, n + 2 * step, row, place, fill)
    d, d_at = _element(source, n + 3 * step, row, place, fill)
    return operation.across4(a, a_at, b, b_at, c, c_at, d, d_at)


@inlined
def put(operation, target, value, at, room):
    store_first(target.values, value, room)
    if operation.find:
        store_first(target.positions, at, room)
