"""Pooling, the second step: windows along rows of scratch."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastconv.cpu._jit import inlined
from fastconv.cpu.pointers import advance, lanes_at
from fastconv.cpu.pool_rows import Band, move, put
from fastconv.cpu.vector import opaque, ramp, take


class Line(NamedTuple):
    """The windows along a row of scratch: ``repeats`` runs of ``count`` outputs, ``jump`` elements apart.

    A row of one channel, or of windows that move by one position, is one run; else each position's channels are one.
    Windows that share the row have a kernel of 0; ``shares`` are the first element and the number of taps of each.
    """

    kernel: Any
    part: Any
    stride: Any
    dilation: Any
    count: Any
    repeats: Any
    jump: Any
    shares: Any


@inlined
def along(operation, parts, source, line, band, fill, factors, top, target):
    """Rows of the result from rows of scratch; the usual kernels and strides are constants for the compiler."""
    if line.kernel == 2 and line.stride == 2:
        _along(operation, source, line, np.intp(2), np.intp(2), band, fill, factors, top, target)
    elif line.kernel == 3 and line.stride == 2:
        _along(operation, source, line, np.intp(3), np.intp(2), band, fill, factors, top, target)
    elif line.kernel == 2 and line.stride == 1:
        _along(operation, source, line, np.intp(2), np.intp(1), band, fill, factors, top, target)
    elif line.kernel == 3 and line.stride == 1:
        _along(operation, source, line, np.intp(3), np.intp(1), band, fill, factors, top, target)
    elif line.kernel == 0:
        _along_shares(operation, source, line, band, fill, factors, top, target)
    else:
        _along_any(operation, parts, source, line, band, fill, factors, top, target)


@inlined
def part_windows(operation, source, line, count, fill, factors, target):
    """Windows of ``line.part`` taps at each of ``count`` elements of scratch, for larger ones to be made of."""
    flat = Line(line.part, 1, 1, line.dilation, count, 1, 0, line.shares)
    _along_any(operation, source, source, flat, Band(1, 0, 0), fill, factors, 0, target)


@inlined
def _along(operation, source, line, kernel, stride, band, fill, factors, top, target):
    for r in range(band.rows):
        for run in range(line.repeats):
            for block in range(0, line.count, lanes_at(source.values)):
                place, room = r * band.source_step + run * line.jump + block * stride, line.count - block
                value, at = _tap(operation, source, place, stride, room, fill)
                for _ in range(1, kernel):
                    place += line.dilation
                    other, other_at = _tap(operation, source, place, stride, room, fill)
                    value, at = operation.along(value, at, other, other_at)
                j = run * line.count + block
                value = operation.finish(value, factors, top + r, j)
                put(operation, move(target, r * band.target_step + j), value, at, room)


@inlined
def _along_any(operation, parts, source, line, band, fill, factors, top, target):
    """Windows of any size: made of ``parts``, which are windows of ``line.part`` taps, and of the taps left over."""
    whole, step = line.kernel // line.part, line.dilation * line.part
    for r in range(band.rows):
        for run in range(line.repeats):
            for block in range(0, line.count, lanes_at(source.values)):
                place, room = r * band.source_step + run * line.jump + block * line.stride, line.count - block
                value, at = _tap(operation, parts, place, line.stride, room, fill)
                left, place = whole - 1, place + step
                while left >= 4:
                    other, other_at = _four_taps(operation, parts, place, step, line.stride, room, fill)
                    value, at = operation.along(value, at, other, other_at)
                    place, left = place + 4 * step, opaque(left - 4)
                while left > 0:
                    other, other_at = _tap(operation, parts, place, line.stride, room, fill)
                    value, at = operation.along(value, at, other, other_at)
                    place, left = place + step, opaque(left - 1)
                left = line.kernel - whole * line.part
                while left > 0:
                    other, other_at = _tap(operation, source, place, line.stride, room, fill)
                    value, at = operation.along(value, at, other, other_at)
                    place, left = place + line.dilation, opaque(left - 1)
                j = run * line.count + block
                value = operation.finish(value, factors, top + r, j)
                put(operation, move(target, r * band.target_step + j), value, at, room)


@inlined
def _along_shares(operation, source, line, band, fill, factors, top, target):
    """Windows that share the row; of a vector only the channels of one position count."""
    for r in range(band.rows):
        for j in range(line.repeats):
            for block in range(0, line.count, lanes_at(source.values)):
                place = r * band.source_step + line.shares[j] + block
                value, at = _tap(operation, source, place, 1, line.count, fill)
                left = line.shares[line.repeats + j] - 1
                while left > 0:
                    place += line.dilation
                    other, other_at = _tap(operation, source, place, 1, line.count, fill)
                    value, at = operation.along(value, at, other, other_at)
                    left = opaque(left - 1)
                column = j * line.count + block
                value = operation.finish(value, factors, top + r, column)
                put(operation, move(target, r * band.target_step + column), value, at, line.count - block)


@inlined
def _tap(operation, source, place, stride, room, fill):
    at = take(fill, advance(source.positions, place), stride, room) if operation.find else ramp(fill, -1, 0)
    return take(fill, advance(source.values, place), stride, room), at


@inlined
def _four_taps(operation, source, place, step, stride, room, fill):
    a, a_at = _tap(operation, source, place, stride, room, fill)
    b, b_at = _tap(operation, source, place + step, stride, room, fill)
    c, c_at = _tap(operation, source, place + 2 * step, stride, room, fill)
    d, d_at = _tap(operation, source, place + 3 * step, stride, room, fill)
    return operation.along4(a, a_at, b, b_at, c, c_at, d, d_at)
