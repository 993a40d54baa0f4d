"""From the micro-kernel's tiles to the caller's array: bias, ReLU and memory order in one pass, out of the cache."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastconv.cpu._jit import inlined, internal
from fastconv.cpu.plan import phase_axes
from fastconv.cpu.pointers import advance, lanes_at, prefetch
from fastconv.cpu.transpose import transpose_epilogue


class Target(NamedTuple):
    """Where a phase's grid lands: an array (images, all_channels, *output_size), its order, and the grid on it."""

    address: Any
    channels_last: Any
    all_channels: Any
    plane: Any  # pixels of the whole output
    whole: Any  # whether neighbours on the grid are neighbours in the output
    plan: Any
    phase: Any


@inlined
def make_target(out, channels_last, all_channels, plan, phase):
    """The target at address ``out`` for a phase."""
    _, d, h, w = phase_axes(plan, phase)
    plane, whole = d.out_size * h.out_size * w.out_size, d.step == 1 and h.step == 1 and w.step == 1
    return Target(out, channels_last, all_channels, plane, whole, plan, phase)


@internal
def expect_tile(target, image, channel, channels, first, count, part, parts):
    """Prefetch a part of what :func:`store_tile` is going to write: the multiplications hide the wait."""
    if target.channels_last or not target.whole:
        return
    width = lanes_at(target.address)
    for c in range(part * channels // parts, (part + 1) * channels // parts):
        row = advance(target.address, (image * target.all_channels + channel + c) * target.plane + first)
        for p in range(0, count + width - 1, width):
            prefetch(advance(row, min(p, count - 1)))


@internal
def store_tile(tile, pitch, count, target, image, channel, channels, bias, floor, first, to, offsets, square):
    """out[image, channel + c, first + p] = max(tile[p * pitch + c] + bias[c], floor) for p < count, c < channels.

    ``first`` counts pixels of the grid; ``to[c]`` is c times the output's plane, -1 from ``channels`` on. ``offsets``
    is scratch for ``count`` ints with a vector of 0, width, 2 * width, ... in front; ``square`` for width x width.
    """
    width = lanes_at(tile)
    places = advance(offsets, width)
    if target.channels_last or not target.whole or count < width:
        _grid_offsets(target, first, count, places)
    if target.channels_last:
        there = advance(target.address, image * target.plane * target.all_channels + channel)
        for p in range(count):
            pixel, row = advance(there, places[p] * target.all_channels), advance(tile, p * pitch)
            for c in range(channels):
                value = row[c] + bias[c]
                pixel[c] = floor if value < floor else value
        return
    there = advance(target.address, (image * target.all_channels + channel) * target.plane)
    if count < width:
        for c in range(channels):
            row = advance(there, c * target.plane)
            for p in range(count):
                value = tile[p * pitch + c] + bias[c]
                row[places[p]] = floor if value < floor else value
        return
    for c in range(0, channels, width):
        for start in range(0, count, width):
            p = min(start, count - width)
            into = advance(there, first + p) if target.whole else square
            rows = advance(to, c) if target.whole else offsets
            transpose_epilogue(advance(tile, p * pitch + c), pitch, width, into, rows, advance(bias, c), floor)
            if not target.whole:
                for k in range(min(width, channels - c)):
                    row = advance(there, (c + k) * target.plane)
                    for q in range(width):
                        row[places[p + q]] = square[k * width + q]


@internal
def _grid_offsets(target, first, count, offsets):
    """offsets[p] = the output pixel of grid pixel first + p, both counted in their planes."""
    _, d, h, w = phase_axes(target.plan, target.phase)
    x, row = first % w.count, first // w.count
    y, z = row % h.count, row // h.count
    for p in range(count):
        offsets[p] = ((d.start + z * d.step) * h.out_size + h.start + y * h.step) * w.out_size + w.start + x * w.step
        x += 1
        if x == w.count:
            x, y = 0, y + 1
            if y == h.count:
                y, z = 0, z + 1
