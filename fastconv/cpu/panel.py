"""Panels: the blocks in cache that the micro-kernel reads, and the moves into them and out of its tiles.

A panel holds what the pixels of a box read: a padded piece of the input in channels-last order (pixel pitch ``pitch``),
or plane by plane where channels are fewer than a vector has lanes. The moves are transposes in registers or plain copies.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastconv.cpu._jit import compiled, inlined
from fastconv.cpu.microkernel import advance, aligned, clear, copy, lanes_at, pointer, transpose
from fastconv.cpu.walk import axis, extent

SLACK = 64  # elements at the end of a buffer: what aligning its start, or a store's excess lanes, may take


class Strides(NamedTuple):
    """Elements between neighbours on each axis of a panel, or of an input that is read in place."""

    image: int
    depth: int
    height: int
    width: int
    channel: int


@inlined
def input_strides(walk, phase, channels, channels_last):
    """Strides of a whole input array."""
    d, h, w = walk[phase, 0, 0], walk[phase, 1, 0], walk[phase, 2, 0]
    if channels_last:
        return Strides(d * h * w * channels, h * w * channels, w * channels, channels, 1)
    return Strides(channels * d * h * w, h * w, w, 1, d * h * w)


@inlined
def panel_strides(walk, phase, shape, channels, planar):
    """Strides of the panel of a box of this shape."""
    d, h, w = (
        extent(axis(walk, phase, 0), shape[1]), extent(axis(walk, phase, 1), shape[2]),
        extent(axis(walk, phase, 2), shape[3]),
    )  # fmt: skip
    if planar:
        return Strides(channels * d * h * w, h * w, w, 1, d * h * w)
    return Strides(d * h * w * channels, h * w * channels, w * channels, channels, 1)


# ---------------------------------------------------------------------------------------------------------- the reader
class Reader(NamedTuple):
    """How a phase's boxes are read: in place, or through a panel that :func:`read_box` fills."""

    source: Any
    channels_last: Any
    channels: Any  # of a group
    planar: Any
    in_place: Any
    given: Any  # strides of the input
    strides: Any  # strides of what the micro-kernel reads
    many: Any
    memory: Any  # of the panel
    rows: Any
    pixels: Any  # tables: where each pixel's window starts, and each summand of a window
    summands: Any


@compiled
def make_reader(x, channels_last, walk, phase, shape, groups, channels, planar, in_place):
    """The reader of x, whose channels are given per group, for boxes of this shape."""
    given = input_strides(walk, phase, channels * groups, channels_last)
    strides = given if in_place else panel_strides(walk, phase, shape, channels, planar)
    memory = np.empty((0 if in_place else shape[0] * strides.image) + SLACK, x.dtype)
    return Reader(
        pointer(x, 0), channels_last, channels, planar, in_place, given, strides, runs_of_rows(walk, phase, shape), memory,
        row_table(walk, phase, shape, strides.width), pixel_offsets(walk, phase, shape, strides, in_place),
        summand_offsets(walk, phase, strides, in_place, channels),
    )  # fmt: skip


@compiled
def read_box(reader, walk, phase, box, group):
    """Where the box's first window starts in memory, after filling the panel if there is one."""
    first = advance(reader.source, group * reader.channels * reader.given.channel)
    if reader.in_place:
        d, h, w = axis(walk, phase, 0), axis(walk, phase, 1), axis(walk, phase, 2)
        z, y, x = box.d * d.stride + d.low, box.h * h.stride + h.low, box.w * w.stride + w.low
        given = reader.given
        return advance(first, box.n * given.image + z * given.depth + y * given.height + x * given.width)
    panel = aligned(pointer(reader.memory, 0))
    fill_panel(first, reader, walk, phase, box, panel)
    return panel


# ------------------------------------------------------------------------------------------------------- offset tables
@compiled
def pixel_offsets(walk, phase, shape, strides, in_place):
    """Where the window of each pixel of a full box starts, pixels in order; a smaller box uses the first entries."""
    d, h, w = axis(walk, phase, 0), axis(walk, phase, 1), axis(walk, phase, 2)
    step_d = d.stride * strides.depth // (1 if in_place else d.unit)
    step_h = h.stride * strides.height // (1 if in_place else h.unit)
    step_w = w.stride * strides.width // (1 if in_place else w.unit)
    table = np.empty(shape[0] * shape[1] * shape[2] * shape[3], np.int64)
    p = 0
    for n in range(shape[0]):
        for z in range(shape[1]):
            for y in range(shape[2]):
                start = n * strides.image + z * step_d + y * step_h
                for x in range(shape[3]):
                    table[p] = start + x * step_w
                    p += 1
    return table


@compiled
def summand_offsets(walk, phase, strides, in_place, channels):
    """Where each summand (tap, channel) of a window lies from the window's start."""
    d, h, w = axis(walk, phase, 0), axis(walk, phase, 1), axis(walk, phase, 2)
    unit_d, unit_h, unit_w = (d.unit, h.unit, w.unit) if in_place else (1, 1, 1)
    table = np.empty(d.taps * h.taps * w.taps * channels, np.int64)
    r = 0
    for z in range(d.taps):
        for y in range(h.taps):
            start = (d.offset + z * d.offset_step) * unit_d * strides.depth
            start += (h.offset + y * h.offset_step) * unit_h * strides.height
            for x in range(w.taps):
                tap = start + (w.offset + x * w.offset_step) * unit_w * strides.width
                for c in range(channels):
                    table[r] = tap + c * strides.channel
                    r += 1
    return table


# ------------------------------------------------------------------------------------------------------ moves into a panel
@compiled
def transpose_run(source, stride, rows, target, to, count):
    """target[to[q] + c] = source[c * stride + q] for c < rows, q < count, where to[q] >= 0.

    Whole vectors are stored: where ``rows`` is no multiple of a vector, a store spills into what follows. The spill is
    repaired because the last rows are moved first and pixels in their order; the last pixel's spill is the caller's.
    """
    width = lanes_at(source)
    if count < width:
        for c in range(rows):
            for q in range(count):
                if to[q] >= 0:
                    target[to[q] + c] = source[c * stride + q]
        return
    blocks = (rows + width - 1) // width
    for k in range(blocks):
        c = (blocks - 1 - k) * width
        for start in range(0, count, width):
            q = min(start, count - width)
            transpose(advance(source, c * stride + q), stride, min(width, rows - c), advance(target, c), advance(to, q))


@inlined
def runs_of_rows(walk, phase, shape):
    """Whether panel rows are neighbours in the input, so that one run of input pixels fills them all."""
    h, w = axis(walk, phase, 1), axis(walk, phase, 2)
    return shape[3] == w.count and h.unit == 1


@compiled
def row_table(walk, phase, shape, pitch):
    """table[i] = where input pixel i of a run of panel rows goes, -1 where nothing reads it.

    A run is all rows of a box's panel, ``input width`` entries each, or one row, whose entries count from the leftmost
    pixel that a window reads (see :func:`runs_of_rows`).
    """
    h, w = axis(walk, phase, 1), axis(walk, phase, 2)
    width = extent(w, shape[3])
    many = runs_of_rows(walk, phase, shape)
    rows, length, first = (extent(h, shape[2]), w.input_size, w.low) if many else (1, (width - 1) * w.unit + 1, 0)
    table = np.empty(rows * length, np.int64)
    for y in range(rows):
        for x in range(length):
            column, rest = divmod(x - first, w.unit)
            inside = rest == 0 and 0 <= column < width
            table[y * length + x] = (y * width + column) * pitch if inside else -1
    return table


@inlined
def _valid(first, unit, count, size):
    """The range of panel pixels at first, first + unit, ... that lie inside an input axis of this size."""
    low = min(max(0, (-first + unit - 1) // unit), count)
    high = min(max(low, (size - 1 - first) // unit + 1), count)
    return low, high


@compiled
def fill_panel(source, reader, walk, phase, box, panel):
    """Move what a box's windows read into ``panel``, zeros where they reach beyond the input.

    ``source`` points at the group's first channel in image 0.
    """
    given, strides, channels, planar = reader.given, reader.strides, reader.channels, reader.planar
    table = pointer(reader.rows, 0)
    d, h, w = axis(walk, phase, 0), axis(walk, phase, 1), axis(walk, phase, 2)
    depth, height, width = extent(d, box.depth), extent(h, box.height), extent(w, box.width)
    first_z, first_y, first_x = box.d * d.stride + d.low, box.h * h.stride + h.low, box.w * w.stride + w.low
    top, bottom = _valid(first_y, h.unit, height, h.input_size)
    left, right = _valid(first_x, w.unit, width, w.input_size)
    pixel = 1 if planar else strides.width
    planes = channels if planar else 1
    for n in range(box.images):
        for z in range(depth):
            source_z = first_z + z * d.unit
            inside = 0 <= source_z < d.input_size and left < right
            low, high = (top, bottom) if inside else (height, height)
            here = advance(source, (box.n + n) * given.image + source_z * given.depth + first_y * given.height)
            there = advance(panel, n * strides.image + z * strides.depth)
            if low < high:
                if planar:
                    _copy_planes(here, given, there, strides, channels, h.unit, w.unit, first_x, low, high, left, right)
                elif reader.channels_last:
                    _copy_pixels(here, given, there, strides, channels, h.unit, w.unit, first_x, low, high, left, right)
                elif reader.many:
                    run = advance(here, low * given.height)
                    count = (high - low) * given.height
                    transpose_run(run, given.channel, channels, there, advance(table, low * given.height), count)
                else:
                    skip = left * w.unit
                    count = (right - 1 - left) * w.unit + 1
                    for y in range(low, high):
                        run = advance(here, y * h.unit * given.height + first_x + skip)
                        row = advance(there, y * strides.height)
                        transpose_run(run, given.channel, channels, row, advance(table, skip), count)
            for c in range(planes):
                plane = advance(there, c * strides.channel)
                clear(plane, low * strides.height)
                for y in range(low, high):
                    row = advance(plane, y * strides.height)
                    clear(row, left * pixel)
                    clear(advance(row, right * pixel), (width - right) * pixel)
                clear(advance(plane, high * strides.height), (height - high) * strides.height)


@compiled
def _copy_planes(source, given, target, strides, channels, unit_y, unit_x, first_x, low, high, left, right):
    """Rows of NCHW planes into the planes of a panel."""
    for c in range(channels):
        for y in range(low, high):
            here = advance(source, c * given.channel + y * unit_y * given.height + first_x + left * unit_x)
            there = advance(target, c * strides.channel + y * strides.height + left)
            if unit_x == 1:
                copy(there, here, right - left)
            else:
                for x in range(right - left):
                    there[x] = here[x * unit_x]


@compiled
def _copy_pixels(source, given, target, strides, channels, unit_y, unit_x, first_x, low, high, left, right):
    """Channels-last pixels into a channels-last panel."""
    whole = unit_x == 1 and given.width == channels and strides.width == channels
    for y in range(low, high):
        here = advance(source, y * unit_y * given.height + (first_x + left * unit_x) * given.width)
        there = advance(target, y * strides.height + left * strides.width)
        if whole:
            copy(there, here, (right - left) * channels)
        else:
            for x in range(right - left):
                copy(advance(there, x * strides.width), advance(here, x * unit_x * given.width), channels)
