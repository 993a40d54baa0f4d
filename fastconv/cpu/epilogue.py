"""From the micro-kernel's tiles to the caller's array: bias, ReLU and memory order in one pass over cache-hot memory."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastconv.cpu._jit import compiled, inlined
from fastconv.cpu.microkernel import advance, lanes_at, transpose_epilogue


class Target(NamedTuple):
    """Where a phase's grid lands: an array (images, all_channels, *output_size), its order, and the grid on it."""

    address: Any
    channels_last: Any
    all_channels: Any
    plane: Any  # pixels of the whole output
    height: Any
    width: Any
    grid_height: Any
    grid_width: Any
    start_d: Any
    start_h: Any
    start_w: Any
    step_d: Any
    step_h: Any
    step_w: Any


@inlined
def make_target(address, channels_last, all_channels, d, h, w):
    plane = d.output_size * h.output_size * w.output_size
    return Target(
        address, channels_last, all_channels, plane, h.output_size, w.output_size, h.count, w.count,
        d.start, h.start, w.start, d.step, h.step, w.step,
    )  # fmt: skip


@inlined
def _is_whole(target):
    """Whether neighbours on the grid are neighbours in the output."""
    return target.step_d == 1 and target.step_h == 1 and target.step_w == 1


@compiled
def grid_offsets(target, first, count, offsets):
    """offsets[p] = the output pixel of grid pixel first + p, both counted in their planes."""
    x, row = first % target.grid_width, first // target.grid_width
    y, z = row % target.grid_height, row // target.grid_height
    for p in range(count):
        plane = (target.start_d + z * target.step_d) * target.height + target.start_h + y * target.step_h
        offsets[p] = plane * target.width + target.start_w + x * target.step_w
        x += 1
        if x == target.grid_width:
            x, y = 0, y + 1
            if y == target.grid_height:
                y, z = 0, z + 1


@compiled
def channel_offsets(plane, channels, table):
    """table[c] = where channel c's plane starts, -1 beyond the last channel."""
    for c in range(table.size):
        table[c] = c * plane if c < channels else -1


@compiled
def store_tile(tile, pitch, count, target, image, channel, channels, bias, floor, first, to, offsets):
    """out[image, channel + c, first + p] = max(tile[p * pitch + c] + bias[c], floor) for p < count, c < channels.

    ``to`` is :func:`channel_offsets` counted from this block's first channel; ``offsets`` is scratch for ``count`` ints.
    """
    if target.channels_last or not _is_whole(target):
        grid_offsets(target, first, count, offsets)
    if target.channels_last:
        there = advance(target.address, image * target.plane * target.all_channels + channel)
        _store_pixels(tile, pitch, count, there, target.all_channels, channels, bias, floor, offsets)
        return
    there = advance(target.address, (image * target.all_channels + channel) * target.plane)
    if not _is_whole(target):
        _store_strided(tile, pitch, count, there, target.plane, channels, bias, floor, offsets)
    else:
        _store_run(tile, pitch, count, advance(there, first), target.plane, channels, bias, floor, to)


@compiled
def _store_pixels(tile, pitch, count, there, all_channels, channels, bias, floor, offsets):
    for p in range(count):
        pixel, row = advance(there, offsets[p] * all_channels), advance(tile, p * pitch)
        for c in range(channels):
            value = row[c] + bias[c]
            pixel[c] = floor if value < floor else value


@compiled
def _store_run(tile, pitch, count, there, plane, channels, bias, floor, to):
    width = lanes_at(tile)
    if count < width:
        for c in range(channels):
            for p in range(count):
                value = tile[p * pitch + c] + bias[c]
                there[c * plane + p] = floor if value < floor else value
        return
    for c in range(0, channels, width):
        for start in range(0, count, width):
            p = min(start, count - width)
            source = advance(tile, p * pitch + c)
            transpose_epilogue(source, pitch, width, advance(there, p), advance(to, c), advance(bias, c), floor)


@compiled
def _store_strided(tile, pitch, count, there, plane, channels, bias, floor, offsets):
    # Channel by channel the stores walk along rows; the tile's lines they read stay in L1 for the next channel.
    for c in range(channels):
        row = advance(there, c * plane)
        for p in range(count):
            value = tile[p * pitch + c] + bias[c]
            row[offsets[p]] = floor if value < floor else value
