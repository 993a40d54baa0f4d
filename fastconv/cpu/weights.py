"""Packed weights: what the micro-kernel reads as B, rows r = (tap, summed channel), lanes along the other channel.

Lanes come in blocks of up to MAX_VECTORS vectors; a block is contiguous, row after row, so that a tile streams it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from fastconv.cpu._jit import compiled, inlined, internal, launch
from fastconv.cpu.microkernel import MAX_VECTORS, advance, aligned, clear, copy, lanes, lanes_at, pointer, transpose
from fastconv.cpu.panel import SLACK, transpose_run
from fastconv.cpu.plan import phase_axes, phase_header


class Lanes(NamedTuple):
    """How a group's channels lie along the lanes: vectors in blocks, dealt out evenly, 5 as 2 + 3."""

    width: Any  # of a vector
    channels: Any
    vectors: Any
    blocks: Any
    row: Any  # lanes of all blocks


@inlined
def make_lanes(channels, width):
    vectors = (channels + width - 1) // width
    return Lanes(width, channels, vectors, (vectors + MAX_VECTORS - 1) // MAX_VECTORS, vectors * width)


@inlined
def block_lanes(lanes, block):
    """First lane of a block, lanes it has, and channels among them."""
    first = block * lanes.vectors // lanes.blocks * lanes.width
    pitch = (block + 1) * lanes.vectors // lanes.blocks * lanes.width - first
    return first, pitch, min(pitch, lanes.channels - first)


# -------------------------------------------------------------------------------------------------------------- forward
@compiled
def pack_forward_core(worker, workers, weight, packed, groups, out_channels, in_channels, taps):
    """packed[group, block][tap, in_channel][lane] = weight[group, lane's out_channel, in_channel, tap]."""
    start, source = aligned(pointer(packed, 0)), pointer(weight, 0)
    rows, lanes = in_channels * taps, make_lanes(out_channels, lanes_at(source))
    to = np.empty(rows, np.int64)
    table_for = 0
    for item in range(worker, groups * lanes.blocks, workers):
        group, block = item // lanes.blocks, item % lanes.blocks
        first, pitch, channels = block_lanes(lanes, block)
        if table_for != pitch:
            table_for = pitch
            for c in range(in_channels):
                for t in range(taps):
                    to[c * taps + t] = (t * in_channels + c) * pitch
        target = advance(start, (group * lanes.row + first) * rows)
        if rows < lanes.width and channels < pitch:
            clear(target, pitch * rows)
        here = advance(source, (group * out_channels + first) * rows)
        transpose_run(here, rows, channels, target, pointer(to, 0), rows)


# ------------------------------------------------------------------------------------------------------- backward_input
@compiled
def pack_backward_core(worker, workers, weight, packed, groups, out_channels, in_channels, plan):
    """packed[phase][group, block][tap, out_channel][lane] = weight[group, out_channel, lane's in_channel, tap]."""
    start, source = aligned(pointer(packed, 0)), pointer(weight, 0)
    lanes = make_lanes(in_channels, lanes_at(source))
    taps = plan[0, 2, 6] * plan[0, 3, 6] * plan[0, 4, 6]
    to = np.empty(taps + lanes.width, np.int64)
    for phase in range(plan.shape[0]):
        rows = phase_header(plan, phase).taps * out_channels
        for item in range(worker, groups * lanes.blocks, workers):
            group, block = item // lanes.blocks, item % lanes.blocks
            first, pitch, channels = block_lanes(lanes, block)
            _tap_rows(plan, phase, to, out_channels * pitch)
            target = advance(start, (group * lanes.row + first) * rows)
            if channels < pitch:
                clear(target, pitch * rows)
            for o in range(out_channels):
                offset = ((group * out_channels + o) * in_channels + first) * taps
                here = advance(source, offset)
                _pack_taps(here, weight.size - offset, channels, taps, advance(target, o * pitch), pointer(to, 0))
        start = advance(start, groups * lanes.row * rows)


@internal
def _tap_rows(plan, phase, to, pitch):
    """to[t] = the packed row of tap t of the kernel, times ``pitch``; -1 where the phase does not meet it."""
    _, d, h, w = phase_axes(plan, phase)
    to[:] = -1
    row = 0
    for z in range(d.taps):
        for y in range(h.taps):
            for x in range(w.taps):
                place = (d.first_tap + z * d.tap_step) * h.kernel_size + h.first_tap + y * h.tap_step
                to[place * w.kernel_size + w.first_tap + x * w.tap_step] = row * pitch
                row += 1


@internal
def _pack_taps(source, left, channels, taps, target, to):
    """target[to[t] + c] = source[c * taps + t] for the taps in use; ``left`` elements may be read."""
    width = lanes_at(source)
    if taps == 1:
        if to[0] >= 0:
            copy(advance(target, to[0]), source, channels)
        return
    c = 0
    while c + width <= channels and (taps >= width or (c + width - 1) * taps + width <= left):
        for start in range(0, taps, width):
            t = max(0, min(start, taps - width))
            transpose(advance(source, c * taps + t), taps, width, advance(target, c), advance(to, t))
        c += width
    for t in range(taps):
        if to[t] >= 0:
            for rest in range(c, channels):
                target[to[t] + rest] = source[rest * taps + t]


# ------------------------------------------------------------------------------------------------------------- in Python
def padded_channels(channels: int, itemsize: int) -> int:
    """Channels rounded up to whole vectors."""
    return -(-channels // lanes(itemsize)) * lanes(itemsize)


def pack_forward(weight: Any, groups: int) -> Any:
    """The weight (O, C / groups, *K) packed for the forward pass."""
    out_channels, in_channels = weight.shape[0] // groups, weight.shape[1]
    taps = math.prod(weight.shape[2:])
    size = groups * padded_channels(out_channels, weight.itemsize) * in_channels * taps
    packed = np.empty(size + SLACK, weight.dtype)
    launch(pack_forward_core, size >> 15, read_only(weight), packed, groups, out_channels, in_channels, taps)
    return packed


def pack_backward(weight: Any, groups: int, plan: Any) -> Any:
    """The same weight packed for the input gradient: for each phase of the plan, the taps it meets."""
    out_channels, in_channels = weight.shape[0] // groups, weight.shape[1]
    size = groups * padded_channels(in_channels, weight.itemsize) * out_channels * int(plan[:, 0, 0].sum())
    packed = np.empty(size + SLACK, weight.dtype)
    launch(pack_backward_core, size >> 15, read_only(weight), packed, groups, out_channels, in_channels, plan)
    return packed


def read_only(weight: Any) -> Any:
    """A weight as a flat, contiguous, read-only view (copied where it has gaps)."""
    view = np.ascontiguousarray(weight).reshape(-1).view(np.ndarray)
    view.setflags(write=False)
    return view
