"""Reading a plan's boxes: in place, or by moves into a panel, which are transposes in registers and plain copies."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastconv.cpu._jit import inlined, internal
from fastconv.cpu.microkernel import advance, aligned, clear, copy, lanes_at, pointer, transpose
from fastconv.cpu.plan import panel_extent, phase_axes, phase_header

SLACK = 128  # elements at the end of a buffer: what aligning its start, or excess lanes of a tile, may take


class Reader(NamedTuple):
    """An input, the panel it is read through, and tables of offsets for one phase."""

    source: Any
    channels_last: Any
    panel: Any
    rows: Any  # of the panel: see _row_offsets
    pixels: Any  # where the window of each pixel of a full box starts; a smaller box uses the first ones
    summands: Any  # where each summand (segment of channels, tap, channel) of a window lies from its start


@internal
def make_reader(x, channels_last, plan, phase):
    """The reader of x, flat in memory order, for a phase."""
    header, (n, d, h, w) = phase_header(plan, phase), phase_axes(plan, phase)
    pixels = np.empty(n.box * d.box * h.box * w.box, np.int64)
    p = 0
    for i in range(n.box):
        for z in range(d.box):
            for y in range(h.box):
                start = i * n.pitch + z * d.pixel_pitch + y * h.pixel_pitch
                for x_ in range(w.box):
                    pixels[p] = start + x_ * w.pixel_pitch
                    p += 1
    summands = np.empty(header.taps * header.channels, np.int64)
    r = 0
    for first in range(0, header.channels, max(1, header.segment)):
        for z in range(d.taps):
            for y in range(h.taps):
                start = d.tap_start + z * d.tap_pitch + h.tap_start + y * h.tap_pitch + w.tap_start
                for x_ in range(w.taps):
                    for c in range(first, min(header.channels, first + header.segment)):
                        summands[r] = start + x_ * w.tap_pitch + c * header.pitch
                        r += 1
    rows = _row_offsets(plan, phase)
    return Reader(pointer(x, 0), channels_last, np.empty(header.panel + SLACK, x.dtype), rows, pixels, summands)


@internal
def _row_offsets(plan, phase):
    """table[i] = where pixel i of a run of input pixels goes in a plane of the panel, -1 where nothing reads it.

    A run is all the rows that a full box reads, or one row from the leftmost pixel on that a window reads.
    """
    header, (_, _, h, w) = phase_header(plan, phase), phase_axes(plan, phase)
    width = panel_extent(w, w.box)
    rows, length, first = (panel_extent(h, h.box), w.size, w.low) if header.many else (1, (width - 1) * w.unit + 1, 0)
    table = np.empty(rows * length, np.int64)
    for y in range(rows):
        for x in range(length):
            column, rest = divmod(x - first, w.unit)
            table[y * length + x] = y * h.pitch + column * w.pitch if rest == 0 and 0 <= column < width else -1
    return table


@internal
def read_box(reader, plan, phase, box, group):
    """Where the box's first window starts in memory, after filling the panel if there is one."""
    header, (n, d, h, w) = phase_header(plan, phase), phase_axes(plan, phase)
    z, y, x = box.d * d.stride + d.low, box.h * h.stride + h.low, box.w * w.stride + w.low
    source = advance(reader.source, group * header.channels * header.given + box.n * n.given)
    if header.in_place:
        return advance(source, z * d.given + y * h.given + x * w.given)
    panel = aligned(pointer(reader.panel, 0))
    height, width = panel_extent(h, box.height), panel_extent(w, box.width)
    top, bottom = _inside(y, h, height)
    left, right = _inside(x, w, width)
    for i in range(box.images):
        for k in range(panel_extent(d, box.depth)):
            here = advance(source, i * n.given + (z + k * d.unit) * d.given)
            there = advance(panel, i * n.pitch + k * d.pitch)
            low, high = (top, bottom) if 0 <= z + k * d.unit < d.size and left < right else (height, height)
            if low < high:
                _fill_plane(here, there, reader, plan, phase, y, x, low, high, left, right)
            for c in range(header.channels if header.planar else 1):
                plane = advance(there, c * header.pitch)
                clear(plane, low * h.pitch)
                for row in range(low, high):
                    clear(advance(plane, row * h.pitch), left * w.pitch)
                    clear(advance(plane, row * h.pitch + right * w.pitch), (width - right) * w.pitch)
                clear(advance(plane, high * h.pitch), (height - high) * h.pitch)
    return panel


@inlined
def _inside(first, axis, count):
    """The range of ``count`` panel pixels, the first at input pixel ``first``, that lie inside the input."""
    low = min(max(0, (axis.unit - 1 - first) // axis.unit), count)
    return low, min(max(low, (axis.size - 1 - first) // axis.unit + 1), count)


@internal
def _fill_plane(here, there, reader, plan, phase, first_y, first_x, low, high, left, right):
    """Rows low to high and columns left to right of a plane of the panel, all channels."""
    header, (_, _, h, w) = phase_header(plan, phase), phase_axes(plan, phase)
    if not header.planar and not reader.channels_last:
        skip = low * w.size if header.many else left * w.unit
        count = (high - low) * w.size if header.many else (right - 1 - left) * w.unit + 1
        for y in range(low, low + 1 if header.many else high):
            source = advance(here, (first_y + y * h.unit) * h.given + (0 if header.many else first_x + skip))
            target = there if header.many else advance(there, y * h.pitch)
            transpose_run(source, header.given, header.channels, target, pointer(reader.rows, skip), count, 0)
        return
    planes, together = (header.channels, 1) if header.planar else (1, header.channels)
    for c in range(planes):
        for y in range(low, high):
            source = advance(
                here, c * header.given + (first_y + y * h.unit) * h.given + (first_x + left * w.unit) * w.given
            )
            target = advance(there, c * header.pitch + y * h.pitch + left * w.pitch)
            if w.unit == 1 and w.given == together and w.pitch == together:
                copy(target, source, (right - left) * together)
            else:
                for x in range(right - left):
                    copy(advance(target, x * w.pitch), advance(source, x * w.unit * w.given), together)


@internal
def transpose_run(source, stride, rows, target, to, count, readable):
    """target[to[q] + c] = source[c * stride + q] for c < rows, q < count, where to[q] >= 0.

    Whole vectors are stored: where ``rows`` is no multiple of a vector, a store spills into what follows. The spill is
    repaired because the last rows are moved first and pixels in their order; the last pixel's spill is the caller's.
    A count below a vector is moved by vectors too where ``to`` is -1 beyond it and ``readable`` elements allow.
    """
    width = lanes_at(source)
    if count < width and (rows - 1) * stride + width > readable:
        for c in range(rows):
            for q in range(count):
                if to[q] >= 0:
                    target[to[q] + c] = source[c * stride + q]
        return
    for c in range((rows - 1) // width * width, -1, -width):
        for start in range(0, count, width):
            q = max(0, min(start, count - width))
            transpose(advance(source, c * stride + q), stride, min(width, rows - c), advance(target, c), advance(to, q))
