"""Packed weights: what the micro-kernel reads as B, rows r = (tap, summed channel), lanes along the other channel.

Lanes come in blocks of up to MAX_VECTORS vectors; a block is contiguous, row after row, so that a tile streams it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastconv.cpu._jit import compiled, inlined, internal, launch, made
from fastconv.cpu._target import lanes
from fastconv.cpu.memory import empty
from fastconv.cpu.microkernel import MAX_VECTORS
from fastconv.cpu.panel import SLACK, transpose_run
from fastconv.cpu.plan import phase_axes, phase_header
from fastconv.cpu.pointers import advance, aligned, clear, copy, lanes_at, pointer


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


class Weight(NamedTuple):
    """A weight (O, C / groups, *K) in memory: out_channels are its lanes forward and its summed channels backward."""

    memory: Any
    backward: Any
    lanes: Any  # channels per group
    summed: Any
    taps: Any


@inlined
def make_weight(memory, backward, lanes, plan):
    """The weight of a plan whose output has ``lanes`` channels per group."""
    header = phase_header(plan, 0)
    return Weight(memory, backward, lanes, header.channels, header.kernel_taps)


@inlined
def segments_of(header):
    """Number of segments; at least one, so that a sum of nothing is stored too."""
    return max(1, (header.channels + header.segment - 1) // max(1, header.segment))


@inlined
def segment_of(header, index):
    """First channel and channels of a segment."""
    first = index * header.segment
    return first, min(header.segment, header.channels - first)


@internal
def row_table(weight, plan, phase, segment, pitch, to):
    """to[q] = the packed row, times ``pitch``, of element q of a run of the weight; -1 where the phase skips its tap.

    Forward a run is (channel of the segment, tap), backward it is the taps; -1 follows on the last.
    """
    _, d, h, w = phase_axes(plan, phase)
    to[:] = -1
    row = 0
    for z in range(d.taps):
        for y in range(h.taps):
            for x in range(w.taps):
                tap = (d.first_tap + z * d.tap_step) * h.kernel_size + h.first_tap + y * h.tap_step
                tap = tap * w.kernel_size + w.first_tap + x * w.tap_step
                for c in range(1 if weight.backward else segment):
                    to[c * weight.taps + tap] = (row * segment + c) * pitch
                row += 1


@internal
def pack_segment(weight, group, lane, lanes, first, segment, pitch, taps, to, target):
    """target[tap, channel][lane] for the lanes from ``lane`` on and the summed channels from ``first`` on."""
    if lanes < pitch:
        clear(target, segment * taps * pitch)
    if weight.backward:  # a run is the taps of a pair of channels, lanes are neighbouring pairs
        lane_stride, stride, runs, length = weight.taps, weight.lanes * weight.taps, segment, weight.taps
    else:  # a run is the taps of all the segment's channels
        lane_stride, stride, runs, length = weight.summed * weight.taps, weight.taps, 1, segment * weight.taps
    start = group * weight.lanes * weight.summed * weight.taps + lane * lane_stride + first * stride
    for k in range(runs):
        source = start + k * stride
        if length == 1 and lane_stride == 1:
            if to[0] >= 0:
                copy(advance(target, k * pitch + to[0]), pointer(weight.memory, source), lanes)
        else:
            left = weight.memory.size - source
            transpose_run(
                pointer(weight.memory, source), lane_stride, lanes, advance(target, k * pitch), to, length, left
            )


@compiled
def pack_core(worker, workers, weight, packed, backward, lanes, groups, plan):
    """The whole weight packed: [phase][group][block][segment][tap, channel][lane]."""
    target = aligned(pointer(packed, 0))
    along = make_lanes(lanes, lanes_at(target))
    turn = worker
    for phase in range(plan.shape[0]):
        header = phase_header(plan, phase)
        whole = make_weight(weight, backward, lanes, plan)
        to = empty(header.segment * whole.taps + along.width, np.int64)
        segments = segments_of(header)
        for item in range(turn, groups * along.blocks * segments, workers):
            group, block, index = item // segments // along.blocks, item // segments % along.blocks, item % segments
            lane, pitch, channels = block_lanes(along, block)
            first, segment = segment_of(header, index)
            row_table(whole, plan, phase, segment, pitch, to)
            offset = (group * along.row + lane) * header.channels + first * pitch
            there = advance(target, offset * header.taps)
            pack_segment(whole, group, lane, channels, first, segment, pitch, header.taps, pointer(to, 0), there)
        turn = (turn - groups * along.blocks * segments) % workers
        target = advance(target, groups * along.row * header.channels * header.taps)


# ------------------------------------------------------------------------------------------------------------ in Python
def padded_channels(channels: int, itemsize: int) -> int:
    """Channels rounded up to whole vectors."""
    return -(-channels // lanes(itemsize)) * lanes(itemsize)


def pack(weight: Any, backward: bool, along: int, groups: int, plan: Any) -> Any:
    """The weight, flat, packed for a plan whose output has ``along`` channels per group."""
    channels, taps = int(plan[0, 0, 2]), int(plan[:, 0, 0].sum())
    size = groups * padded_channels(along, weight.itemsize) * channels * taps
    packed = made(np.empty(size + SLACK, weight.dtype))
    launch(pack_core, size >> 15, weight, packed, backward, along, groups, plan)
    return packed
