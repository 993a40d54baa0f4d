"""Packed weights: what the micro-kernel reads as B, rows r = (tap, summed channel), lanes along the other channel.

Lanes come in blocks of up to MAX_VECTORS vectors; a block is contiguous, row after row, so that a tile streams it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.cpu._jit import compiled, inlined, launch
from fastconv.cpu.microkernel import MAX_VECTORS, advance, aligned, clear, copy, lanes, lanes_at, pointer, transpose
from fastconv.cpu.panel import SLACK, transpose_run
from fastconv.cpu.walk import axis, taps_of


@inlined
def vectors_of(channels, width):
    """Vectors that hold this many channels."""
    return (channels + width - 1) // width


@inlined
def block_count(vectors):
    return (vectors + MAX_VECTORS - 1) // MAX_VECTORS


@inlined
def block_start(vectors, block):
    """First vector of a block: the vectors are dealt out evenly, 5 as 2 + 3."""
    return block * vectors // block_count(vectors)


# -------------------------------------------------------------------------------------------------------------- forward
@compiled
def pack_forward_core(worker, workers, weight, packed, groups, out_channels, in_channels, taps):
    """packed[group, block][tap, in_channel][lane] = weight[group, lane's out_channel, in_channel, tap]."""
    start, source = aligned(pointer(packed, 0)), pointer(weight, 0)
    width = lanes_at(source)
    rows, vectors = in_channels * taps, vectors_of(out_channels, width)
    blocks = block_count(vectors)
    to = np.empty(rows, np.int64)
    table_for = 0
    for item in range(worker, groups * blocks, workers):
        group, block = item // blocks, item % blocks
        first, last = block_start(vectors, block), block_start(vectors, block + 1)
        pitch = (last - first) * width
        if table_for != pitch:
            table_for = pitch
            for c in range(in_channels):
                for t in range(taps):
                    to[c * taps + t] = (t * in_channels + c) * pitch
        channels = min(pitch, out_channels - first * width)
        target = advance(start, (group * vectors + first) * width * rows)
        if rows < width and channels < pitch:
            clear(target, pitch * rows)
        here = advance(source, (group * out_channels + first * width) * rows)
        transpose_run(here, rows, channels, target, pointer(to, 0), rows)


# ------------------------------------------------------------------------------------------------------- backward_input
@compiled
def _tap_rows(walk, phase, to, pitch):
    """to[t] = the packed row of tap t of the kernel, times ``pitch``; -1 where the phase does not meet it."""
    d, h, w = axis(walk, phase, 0), axis(walk, phase, 1), axis(walk, phase, 2)
    to[:] = -1
    row = 0
    for z in range(d.taps):
        for y in range(h.taps):
            for x in range(w.taps):
                place_z = (d.first_tap + z * d.tap_step) * h.kernel_size
                place_y = (place_z + h.first_tap + y * h.tap_step) * w.kernel_size
                to[place_y + w.first_tap + x * w.tap_step] = row * pitch
                row += 1


@compiled
def pack_backward_core(worker, workers, weight, packed, groups, out_channels, in_channels, taps, walk):
    """packed[phase][group, block][tap, out_channel][lane] = weight[group, out_channel, lane's in_channel, tap]."""
    start, source = aligned(pointer(packed, 0)), pointer(weight, 0)
    width = lanes_at(source)
    vectors = vectors_of(in_channels, width)
    blocks = block_count(vectors)
    to = np.empty(taps + width, np.int64)
    for phase in range(walk.shape[0]):
        rows = taps_of(walk, phase) * out_channels
        for item in range(worker, groups * blocks, workers):
            group, block = item // blocks, item % blocks
            first, last = block_start(vectors, block), block_start(vectors, block + 1)
            pitch = (last - first) * width
            _tap_rows(walk, phase, to, out_channels * pitch)
            channels = min(pitch, in_channels - first * width)
            target = advance(start, (group * vectors + first) * width * rows)
            if channels < pitch:
                clear(target, pitch * rows)
            for o in range(out_channels):
                offset = ((group * out_channels + o) * in_channels + first * width) * taps
                left = weight.size - offset
                _pack_taps(advance(source, offset), left, channels, taps, advance(target, o * pitch), pointer(to, 0))
        start = advance(start, groups * vectors * width * rows)


@compiled
def _pack_taps(source, left, channels, taps, target, to):
    """target[to[t] + c] = source[c * taps + t] for the taps in use; ``left`` elements may be read."""
    width = lanes_at(source)
    if taps == 1:
        if to[0] >= 0:
            copy(advance(target, to[0]), source, channels)
        return
    if taps >= width:
        whole = channels // width * width
        if whole:
            transpose_run(source, taps, whole, target, to, taps)
        _pack_scalar(source, whole, channels, taps, target, to)
        return
    c = 0
    while c + width <= channels and (c + width - 1) * taps + width <= left:
        transpose(advance(source, c * taps), taps, width, advance(target, c), to)
        c += width
    _pack_scalar(source, c, channels, taps, target, to)


@compiled
def _pack_scalar(source, first, channels, taps, target, to):
    for t in range(taps):
        if to[t] >= 0:
            for c in range(first, channels):
                target[to[t] + c] = source[c * taps + t]


# ------------------------------------------------------------------------------------------------------------- in Python
def padded_channels(channels: int, itemsize: int) -> int:
    """Channels rounded up to whole vectors."""
    return -(-channels // lanes(itemsize)) * lanes(itemsize)


def pack_forward(weight: Any, groups: int) -> Any:
    """The weight (O, C / groups, *K), flat and contiguous, packed for the forward pass."""
    out_channels, in_channels = weight.shape[0] // groups, weight.shape[1]
    taps = int(np.prod(weight.shape[2:]))
    size = groups * padded_channels(out_channels, weight.itemsize) * in_channels * taps
    packed = np.empty(size + SLACK, weight.dtype)
    tasks = size >> 15
    launch(pack_forward_core, tasks, read_only(weight), packed, groups, out_channels, in_channels, taps)
    return packed


def pack_backward(weight: Any, groups: int, walk: Any) -> Any:
    """The same weight packed for the input gradient: for each phase of the walk, the taps it meets."""
    out_channels, in_channels = weight.shape[0] // groups, weight.shape[1]
    taps = int(np.prod(weight.shape[2:]))
    met = int(walk[:, :, 7].prod(axis=1).sum())
    size = groups * padded_channels(in_channels, weight.itemsize) * out_channels * met
    packed = np.empty(size + SLACK, weight.dtype)
    tasks = size >> 15
    launch(pack_backward_core, tasks, read_only(weight), packed, groups, out_channels, in_channels, taps, walk)
    return packed


def read_only(weight: Any) -> Any:
    """A weight as a flat, contiguous, read-only view (copied where it has gaps)."""
    view = np.ascontiguousarray(weight).reshape(-1).view(np.ndarray)
    view.setflags(write=False)
    return view
