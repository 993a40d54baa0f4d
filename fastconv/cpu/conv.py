"""Convolution: forward and input gradient are one walk around the micro-kernel, with other numbers and other weights.

forward:         C[pixel, out_channel] = sum over (tap, in_channel)  of x[pixel's window]        * packed weight
backward_input:  C[pixel, in_channel]  = sum over (tap, out_channel) of grad_out[pixel's window] * packed weight
"""  # noqa: D400

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastconv._window import Window
from fastconv.cpu import layout
from fastconv.cpu._jit import compiled, launch
from fastconv.cpu.epilogue import channel_offsets, make_target, store_tile
from fastconv.cpu.microkernel import MAX_VECTORS, ROWS, advance, aligned, lanes_at, pointer, tile
from fastconv.cpu.panel import SLACK, make_reader, read_box
from fastconv.cpu.walk import axis, backward_walk, box_at, box_shape, boxes, forward_walk, is_padded, taps_of
from fastconv.cpu.weights import (
    block_count,
    block_start,
    pack_backward,
    pack_forward,
    padded_channels,
    vectors_of,
)

PANEL_BYTES = 384 * 1024  # of a panel: most of a small L2 cache, and less than half of a large one
BOX_PIXELS = 2048
CHUNK = 32 * ROWS  # pixels whose tiles wait for their epilogue: 48 KiB of float32
DEPTH = 576  # summands of one chain: a constant, so that results depend on nothing else


class Task(NamedTuple):
    """A walk's convolution: addresses, orders and sizes; channels are per group."""

    source_last: Any
    weight: Any
    bias: Any
    floor: Any
    target: Any
    target_last: Any
    images: Any
    groups: Any
    in_channels: Any
    out_channels: Any


class Scratch(NamedTuple):
    """A worker's own memory."""

    tile: Any
    tail: Any
    rows: Any
    channels: Any
    pixels: Any


@compiled
def conv_core(
    worker, workers, x, x_last, packed, bias, floor, out, out_last, walk, images, groups, in_channels, out_channels
):
    """The walk's convolution of x, phase by phase; every worker takes every ``workers``-th piece of work."""
    weight = aligned(pointer(packed, 0))
    width = lanes_at(weight)
    row = groups * vectors_of(out_channels, width) * width
    turn = worker
    for phase in range(walk.shape[0]):
        task = Task(
            x_last,
            weight,
            pointer(bias, 0),
            floor,
            pointer(out, 0),
            out_last,
            images,
            groups,
            in_channels,
            out_channels,
        )
        turn = _phase(x, task, walk, phase, turn, workers)
        weight = advance(weight, row * taps_of(walk, phase) * in_channels)


@compiled
def _phase(x, task, walk, phase, turn, workers):
    """One phase; ``turn`` counts the pieces of work to leave to others first. Returns the turn for the next phase."""
    d, h, w = axis(walk, phase, 0), axis(walk, phase, 1), axis(walk, phase, 2)
    width = lanes_at(task.weight)
    pixel_bytes = max(1, task.in_channels) * x.itemsize
    shape = box_shape(walk, phase, task.images, pixel_bytes, PANEL_BYTES, BOX_PIXELS)
    planar = not task.source_last and task.in_channels < width
    in_place = (task.source_last or planar) and not (is_padded(d) or is_padded(h) or is_padded(w))
    reader = make_reader(x, task.source_last, walk, phase, shape, task.groups, task.in_channels, planar, in_place)
    target = make_target(task.target, task.target_last, task.out_channels * task.groups, d, h, w)
    scratch = _scratch(x, reader.summands.size)
    blocks = block_count(vectors_of(task.out_channels, width))
    count = boxes(walk, phase, task.images, shape) * task.groups
    splits = 1 if count % workers == 0 or count >= 4 * workers else min(blocks, workers)
    for item in range(turn, count * splits, workers):
        split, group, index = item % splits, item // splits % task.groups, item // splits // task.groups
        box = box_at(walk, phase, task.images, shape, index)
        panel = read_box(reader, walk, phase, box, group)
        for block in range(split * blocks // splits, (split + 1) * blocks // splits):
            _multiply_block(task, target, scratch, reader, panel, box, group, block)
    return (turn - count * splits) % workers


@compiled
def _scratch(x, depth):
    width = lanes_at(pointer(x, 0))
    tile = np.empty((CHUNK + ROWS) * MAX_VECTORS * width + SLACK, x.dtype)
    rows = np.empty((MAX_VECTORS + 1, min(DEPTH, depth)), np.int64)
    for vectors in range(1, MAX_VECTORS + 1):
        for r in range(rows.shape[1]):
            rows[vectors, r] = r * vectors * width
    channels, pixels = np.empty(MAX_VECTORS * width, np.int64), np.empty(CHUNK, np.int64)
    return Scratch(tile, np.empty(ROWS, np.int64), rows, channels, pixels)


@compiled
def _multiply_block(task, target, scratch, reader, panel, box, group, block):
    """All pixels of a box times one block of the packed weight, stored chunk by chunk."""
    width, depth = lanes_at(task.weight), reader.summands.size
    vectors = vectors_of(task.out_channels, width)
    first = block_start(vectors, block)
    pitch = (block_start(vectors, block + 1) - first) * width
    weight = advance(task.weight, (group * vectors + first) * width * depth)
    bias = advance(task.bias, (group * vectors + first) * width)
    channel, channels = group * task.out_channels + first * width, min(pitch, task.out_channels - first * width)
    tiles = aligned(pointer(scratch.tile, 0))
    channel_offsets(target.plane, channels, scratch.channels)
    plane = box.depth * box.height * box.width
    grid = (box.d * target.grid_height + box.h) * target.grid_width + box.w
    count = box.images * plane
    for start in range(0, count, CHUNK):
        stop = min(count, start + CHUNK)
        _multiply(panel, reader.pixels, start, stop, reader.summands, weight, scratch, tiles, pitch)
        p = start
        while p < stop:  # image by image: a run of pixels ends with its image
            image = p // plane
            end = min(stop, (image + 1) * plane)
            store_tile(
                advance(tiles, (p - start) * pitch), pitch, end - p, target, box.n + image, channel, channels, bias,
                task.floor, grid + p - image * plane, pointer(scratch.channels, 0),
                pointer(scratch.pixels, 0),
            )  # fmt: skip
            p = end


@compiled
def _multiply(panel, pixels, start, stop, summands, weight, scratch, tiles, pitch):
    """tiles[p - start, lane] = sum over r of panel[pixels[p] + summands[r]] * weight[r, lane], in chains of DEPTH."""
    depth = summands.size
    vectors = pitch // lanes_at(tiles)
    parts = max(1, (depth + DEPTH - 1) // DEPTH)
    step = max(1, (depth + parts - 1) // parts)
    row_offsets = pointer(scratch.rows, vectors * scratch.rows.shape[1])
    for r in range(0, max(1, depth), step):
        for p in range(start, stop, ROWS):
            where = pointer(pixels, p)
            if p + ROWS > stop:  # rows without a pixel repeat the last one
                where = pointer(scratch.tail, 0)
                for i in range(ROWS):
                    scratch.tail[i] = pixels[min(p + i, stop - 1)]
            tile(
                vectors, min(step, depth - r), panel, where, pointer(summands, r), advance(weight, r * pitch),
                row_offsets, advance(tiles, (p - start) * pitch), pitch, r > 0,
            )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- in Python
def conv_forward(
    x: Any, weight: Any, bias: Any, window: Window, groups: int, relu: bool = False, out: Any = None
) -> Any:
    """The convolution of x (N, C, *spatial) with weight (O, C / groups, *K), plus bias, then ReLU."""
    shape = (x.shape[0], weight.shape[0], *window.output_size[5 - x.ndim :])
    packed = pack_forward(weight, groups)
    return _convolve(x, packed, bias, shape, forward_walk(window), groups, weight.shape[1], relu, out, weight)


def conv_backward_input(
    grad_out: Any, weight: Any, input_shape: tuple[int, ...], window: Window, groups: int, out: Any = None
) -> Any:
    """The gradient of the convolution's result with respect to its input."""
    walk = backward_walk(window)
    packed = pack_backward(weight, groups, walk)
    return _convolve(grad_out, packed, None, input_shape, walk, groups, weight.shape[0] // groups, False, out, weight)


def _convolve(
    x: Any, packed: Any, bias: Any, shape: tuple[int, ...], walk: Any, groups: int, in_channels: int, relu: bool,
    out: Any, weight: Any,
) -> Any:  # fmt: skip
    source, channels_last = layout.flat(x)
    result = layout.target(out, shape, x.dtype, channels_last, x, weight, bias)
    out_channels = shape[1] // groups
    floor = x.dtype.type(0 if relu else -np.inf)
    padded_bias = _padded_bias(bias, groups, out_channels, x.dtype)
    operations = result.size * in_channels * int(walk[0, :, 7].prod())
    launch(
        conv_core, max(1, operations >> 19), source, channels_last, packed, padded_bias, floor,
        layout.flat_target(result, channels_last), channels_last, walk, shape[0], groups, in_channels, out_channels,
    )  # fmt: skip
    return layout.deliver(result, out)


def _padded_bias(bias: Any, groups: int, out_channels: int, dtype: Any) -> Any:
    """A bias of whole vectors per group; zeros for none."""
    padded = np.zeros((groups, padded_channels(out_channels, dtype.itemsize)), dtype)
    if bias is not None:
        padded[:, :out_channels] = bias.reshape(groups, out_channels)
    return padded.reshape(-1)
