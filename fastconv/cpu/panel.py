"""Reading a plan's boxes: in place, or by moves into a panel, which are transposes in registers and plain copies."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastconv.cpu._jit import inlined, internal
from fastconv.cpu.memory import empty
from fastconv.cpu.plan import panel_extent, phase_axes, phase_header
from fastconv.cpu.pointers import advance, aligned, clear, copy, lanes_at, pointer
from fastconv.cpu.transpose import transpose

SLACK = 128  # elements at the end of a buffer: what aligning its start, or excess lanes of a tile, may take


class Reader(NamedTuple):
    """An input, the panel it is read through, and a phase's tables of offsets."""

    source: Any
    channels_last: Any
    panel: Any
    rows: Any  # see plan.py for the three
    pixels: Any
    summands: Any


@internal
def make_reader(x, channels_last, plan, tables, phase):
    """The reader of x, flat in memory order, for a phase."""
    header = phase_header(plan, phase)
    return Reader(
        pointer(x, 0), channels_last, empty(header.panel + SLACK, x.dtype), pointer(tables, header.rows),
        pointer(tables, header.pixels), pointer(tables, header.summands),
    )  # fmt: skip


@internal
def read_box(reader, plan, phase, box, group):
    """Where the box's first window starts in memory, after filling the panel if there is one."""
    header, (n, d, h, w) = phase_header(plan, phase), phase_axes(plan, phase)
    z, y, x = box.d * d.stride + d.low, box.h * h.stride + h.low, box.w * w.stride + w.low
    source = advance(reader.source, group * header.channels * header.given)
    if header.in_place:
        return advance(source, box.n * n.given + z * d.given + y * h.given + x * w.given)
    panel = aligned(pointer(reader.panel, 0))
    height, width = panel_extent(h, box.height), panel_extent(w, box.width)
    left, right = _inside(x, w, width)
    for i in range(box.images):
        image, shift = (box.n + i) // n.stride, (box.n + i) % n.stride
        top, bottom = _inside(y + shift, h, height)
        for k in range(panel_extent(d, box.depth)):
            here = advance(source, image * n.given + (z + k * d.unit) * d.given)
            there = advance(panel, i * n.pitch + k * d.pitch)
            low, high = (top, bottom) if 0 <= z + k * d.unit < d.size and left < right else (height, height)
            if low < high:
                _fill_plane(here, there, reader, plan, phase, y + shift, x, low, high, left, right)
            for c in range(header.channels if header.planar else 1):
                plane = advance(there, c * header.pitch)
                clear(plane, low * h.pitch)
                for row in range(low, high):
                    clear(advance(plane, row * h.pitch), left * w.pitch)
                    clear(advance(plane, row * h.pitch + right * w.pitch), (width - right) * w.pitch)
                clear(advance(plane, high * h.pitch), max(0, (height - 1 - high) * h.pitch + width * w.pitch))
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
            transpose_run(source, header.given, header.channels, target, advance(reader.rows, skip), count, 0)
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
