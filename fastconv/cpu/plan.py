"""How a pass of convolution walks over its arrays, as numbers: axes, phases, boxes of output pixels and pitches in
memory.

Forward, input gradient and transposed convolution are one walk with other numbers: on each axis the output pixel ``o``
of a grid reads the input at ``stride * o + offset(tap)`` for a progression of taps, and is written at ``start + step *
o``. The input gradient of a strided convolution is one such walk per *phase* of its stride, each with the taps that
meet it.

A phase's grid is cut into boxes whose input fits into the L2 cache. A kernel reads it in place, or from a *panel*: a
padded copy of what the box's windows read, channels innermost, or plane by plane where channels are fewer than a vector
has lanes.

Plans are made here in Python, once per geometry, and kept in a bounded table; kernels get them as one int64 array.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastconv._window import Window
from fastconv.cpu._jit import L2_BYTES, inlined, internal
from fastconv.cpu.fields import fields_at
from fastconv.cpu.plan_offsets import pixel_offsets, row_offsets, summand_offsets
from fastconv.cpu.plan_phases import Axis, Header, make_phases

PANEL_BYTES = min(max(L2_BYTES // 3, 192 << 10), 1 << 20)  # L2 also holds weights, tiles and what streams by
BOX_PIXELS = 1024
DEPTH = 576  # about as many summands make one chain; a constant, so that results depend on nothing else
WORK = 21  # a thread gets at least 2**WORK multiply-adds: 20 us or more, against 5 us for its start
LEAST_PIXELS = 24  # four tiles: of a box on its innermost axis, even where a panel gets larger than PANEL_BYTES

FIELDS, ROWS = len(Axis._fields), 5  # of a phase: its header and its axes


# ---------------------------------------------------------------------------------------------------------------- boxes
def _part(count: int, most: int) -> int:
    """The largest even part of ``count`` that is at most ``most``: 56 in parts of at most 30 gives 28."""
    return -(-count // -(-count // max(1, min(count, most))))


def _box(images: int, d: Axis, h: Axis, w: Axis, pixel_bytes: int, most: int) -> tuple[int, int, int, int]:
    """(images, depth, height, width) of a box: whole inner axes, a part of one; its pixels are a run of the grid."""
    row = w.extent(w.count) * pixel_bytes
    plane = h.extent(h.count) * row
    volume = d.extent(d.count) * plane
    pixels = d.count * h.count * w.count
    if volume <= PANEL_BYTES and pixels <= most:
        return _part(images, min(PANEL_BYTES // volume, most // pixels)), d.count, h.count, w.count
    depth = min(d.fit(PANEL_BYTES // plane), most // (h.count * w.count))
    if depth >= 1:
        return 1, _part(d.count, depth), h.count, w.count
    planes = d.extent(1)
    height = min(h.fit(PANEL_BYTES // (row * planes)), most // w.count)
    if height >= 1:
        return 1, 1, _part(h.count, height), w.count
    width = min(w.fit(PANEL_BYTES // (pixel_bytes * planes * h.extent(1))), most)
    return 1, 1, 1, _part(w.count, max(width, min(most, LEAST_PIXELS)))


# ------------------------------------------------------------------------------------------------------------ the plan
class Reading(NamedTuple):
    """How a kernel reads its input."""

    channels_last: bool
    planar: bool = False  # plane by plane, where channels are fewer than lanes
    pixels: bool = False  # plane by plane, the images side by side, pixels along the lanes
    beyond: bool = False  # by whole vectors that may reach beyond the input: never in place
    apart: bool = False  # a panel's pixels begin with cache lines, for vectors of them: 20 % with 97 channels
    most: int = BOX_PIXELS  # grid pixels of a box
    shifts: int = 1  # every image counts so many times, each time from its next row on


class Plan(NamedTuple):
    """A pass in numbers, for kernels and for those who start them."""

    numbers: npt.NDArray[np.int64]  # (phases, 5, FIELDS): a phase's Header, and its axes from the images on
    tables: npt.NDArray[np.int64]  # of offsets, which headers point into
    header: Header  # of the first phase
    most_boxes: int  # of a phase


@lru_cache(maxsize=64)
def make_plan(
    window: Window, backward: bool, images: int, channels: int, groups: int, itemsize: int, reading: Reading
) -> Plan:
    """The plan of a pass over an input with this many channels per group.

    Where the input's order and padding allow, it is read in place.
    """
    phases = [_plan_phase(axes, images, channels, groups, itemsize, reading) for axes in make_phases(window, backward)]
    numbers, tables, size, before = np.zeros((len(phases), ROWS, FIELDS), np.int64), [], 0, None
    for row, (header, *axes) in zip(numbers, phases, strict=True):
        places, read = [], (header, [axis._replace(start=0, first_tap=0) for axis in axes])
        for table in (pixel_offsets(*axes), summand_offsets(header, *axes), row_offsets(header, *axes)):
            places.append(size)
            tables.append(table)
            size += table.size
        again = int(read == before)
        row[0, : len(header)] = header._replace(again=again, pixels=places[0], summands=places[1], rows=places[2])
        row[1:], before = axes, read
    plan = Plan(numbers, np.concatenate(tables), phases[0][0], max(header.boxes for header, *_ in phases))
    plan.numbers.setflags(write=False)
    plan.tables.setflags(write=False)
    return plan


def _plan_phase(
    axes: tuple[Axis, ...], images: int, channels: int, groups: int, itemsize: int, reading: Reading
) -> tuple[Any, ...]:
    planar = reading.planar or reading.pixels
    in_place = (planar or reading.channels_last) and not reading.beyond and not any(axis.is_padded() for axis in axes)
    depth, height, width = axes
    images *= reading.shifts
    box = _box(max(images, 1), depth, height, width, max(channels, 1) * itemsize, reading.most)
    lengths = tuple(axis.extent(part) for axis, part in zip(axes, box[1:], strict=True))
    given = _pitches(tuple(axis.size for axis in axes), channels * groups, reading.channels_last)
    shared = [axis.shared() if part == axis.count else 0 for axis, part in zip(axes, box[1:], strict=True)]
    pitch = given if in_place else _panel_pitches(box[0], lengths, shared, channels, itemsize, reading)
    parts = -(-images // box[0])
    n = Axis(count=images, stride=reading.shifts, box=box[0], parts=parts, given=given[0], pitch=pitch[0])
    placed = [
        _place(axis, part, there, here, in_place)
        for axis, part, there, here in zip(axes, box[1:], given[1:4], pitch[1:4], strict=True)
    ]
    taps = math.prod(axis.taps for axis in axes)
    header = Header(
        taps, math.prod(axis.parts for axis in (n, *placed)), channels, chain_channels(taps, channels), in_place,
        planar, placed[2].parts == 1 and placed[1].unit == 1, given[4], pitch[4],
        0 if in_place else max(box[0] * pitch[0], channels * pitch[4]),
        math.prod(axis.kernel_size for axis in axes), math.prod(box),
    )  # fmt: skip
    return header, n, *placed


def _panel_pitches(
    images: int, lengths: tuple[int, ...], shared: list[int], channels: int, itemsize: int, reading: Reading
) -> tuple[int, ...]:
    """Elements between neighbours on the axes (images, depth, height, width, channels) of a panel.

    With pixels in the lanes the zeros behind a row are those before the next one, and so on: lanes lie there in vain.
    """
    line = 64 // itemsize
    if reading.pixels:
        row = lengths[2] - shared[2]
        slice_ = (lengths[1] - shared[1]) * row
        volume = (lengths[0] - shared[0]) * slice_
        size = images * volume + shared[0] * slice_ + shared[1] * row + shared[2]
        spaced = -(-size // line) * line
        return volume, slice_, row, 1, spaced + (line if spaced * itemsize % 1024 == 0 else 0)
    if reading.apart:
        channels = -(-channels // line) * line
    # Pixels a multiple of 1 KiB apart share few sets of L1: 512 channels ran 3 % slower without the extra cache line.
    if not reading.planar and channels * itemsize % 1024 == 0:
        channels += line
    return _pitches(lengths, channels, not reading.planar)


def chain_channels(taps: int, channels: int) -> int:
    """Channels of a chain: even parts of about DEPTH summands, whole parts of a cache line where taps allow."""
    return _part(channels, max(8, DEPTH // max(taps, 1) // 8 * 8)) if channels else 0


def _pitches(sizes: tuple[int, ...], channels: int, channels_last: bool) -> tuple[int, ...]:
    """Elements between neighbours on the axes (images, depth, height, width, channels) of a contiguous array."""
    d, h, w = sizes
    if channels_last:
        return d * h * w * channels, h * w * channels, w * channels, channels, 1
    return channels * d * h * w, h * w, w, 1, d * h * w


def _place(axis: Axis, box: int, given: int, pitch: int, in_place: bool) -> Axis:
    """The axis with its boxes and its pitches in memory."""
    unit = 1 if in_place else axis.unit
    return axis._replace(
        box=box, parts=-(-axis.count // box), given=given, pitch=pitch, pixel_pitch=axis.stride // unit * pitch
        if axis.count > 1 else 0, tap_start=axis.offset // unit * pitch, tap_pitch=axis.offset_step // unit * pitch
        if axis.taps > 1 else 0,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------- inside compiled code
class Box(NamedTuple):
    """A piece of a phase's grid: its first image and pixel, and its size."""

    n: int
    d: int
    h: int
    w: int
    images: int
    depth: int
    height: int
    width: int
    grid: int  # its first pixel, counted in an image's grid


_header_at, _axis_at = fields_at(Header), fields_at(Axis)


@inlined
def phase_header(plan, phase):
    """The phase's :class:`Header`."""
    return _header_at(plan, phase * ROWS * FIELDS)


@inlined
def phase_axes(plan, phase):
    """The phase's axes: images, depth, height, width."""
    row = phase * ROWS + 1
    return (
        _axis_at(plan, row * FIELDS), _axis_at(plan, (row + 1) * FIELDS), _axis_at(plan, (row + 2) * FIELDS),
        _axis_at(plan, (row + 3) * FIELDS),
    )  # fmt: skip


@internal
def box_at(plan, phase, index):
    """The box of that index, the innermost axis first."""
    n, d, h, w = phase_axes(plan, phase)
    x, rest = index % w.parts * w.box, index // w.parts
    y, rest = rest % h.parts * h.box, rest // h.parts
    z, i = rest % d.parts * d.box, rest // d.parts * n.box
    return Box(
        i, z, y, x, min(n.box, n.count - i), min(d.box, d.count - z), min(h.box, h.count - y), min(w.box, w.count - x),
        (z * h.count + y) * w.count + x,
    )  # fmt: skip


@inlined
def panel_extent(axis, count):
    """Panel pixels that ``count`` consecutive grid pixels read."""
    return ((count - 1) * axis.stride + axis.span) // axis.unit + 1
