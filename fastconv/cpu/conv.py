"""Convolution: forward and input gradient are one plan around the micro-kernel, with other numbers and other weights.

forward:         C[pixel, out_channel] = sum over (tap, in_channel)  of x[pixel's window]        * packed weight
backward_input:  C[pixel, in_channel]  = sum over (tap, out_channel) of grad_out[pixel's window] * packed weight
"""  # noqa: D400

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastconv._window import Window
from fastconv.cpu import layout
from fastconv.cpu._jit import compiled, internal, launch
from fastconv.cpu.epilogue import make_target, store_tile
from fastconv.cpu.microkernel import MAX_VECTORS, ROWS, advance, aligned, lanes, lanes_at, pointer, tile
from fastconv.cpu.panel import SLACK, make_reader, read_box
from fastconv.cpu.plan import box_at, make_plan, phase_header
from fastconv.cpu.weights import block_lanes, make_lanes, pack_backward, pack_forward, padded_channels

CHUNK = 32 * ROWS  # pixels whose tiles wait for their epilogue: 48 KiB of float32
DEPTH = 576  # summands of one chain: a constant, so that results depend on nothing else


class Scratch(NamedTuple):
    """A worker's own memory."""

    tiles: Any
    tail: Any  # pixel offsets of a last tile
    rows: Any  # offsets of a weight's rows, for each number of vectors
    planes: Any  # offsets of the output's channels
    pixels: Any


@compiled
def conv_core(worker, workers, x, x_last, packed, bias, floor, out, out_last, plan, groups, out_channels):
    """The plan's convolution of x, phase by phase; every worker takes every ``workers``-th piece of work."""
    weight = aligned(pointer(packed, 0))
    lanes = make_lanes(out_channels, lanes_at(weight))
    scratch = _make_scratch(x, lanes.width)
    turn = worker  # pieces to leave to others before the next one is this worker's
    for phase in range(plan.shape[0]):
        reader = make_reader(x, x_last, plan, phase)
        target = make_target(pointer(out, 0), out_last, groups * out_channels, plan, phase)
        boxes = phase_header(plan, phase).boxes * groups
        splits = 1 if boxes % workers == 0 or boxes >= 4 * workers else min(lanes.blocks, workers)
        for item in range(turn, boxes * splits, workers):
            split, group, index = item % splits, item // splits % groups, item // splits // groups
            box = box_at(plan, phase, index)
            panel = read_box(reader, plan, phase, box, group)
            for block in range(split * lanes.blocks // splits, (split + 1) * lanes.blocks // splits):
                _multiply_block(
                    panel,
                    reader,
                    weight,
                    lanes,
                    pointer(bias, group * lanes.row),
                    floor,
                    target,
                    scratch,
                    box,
                    group,
                    block,
                )
        turn = (turn - boxes * splits) % workers
        weight = advance(weight, groups * lanes.row * reader.summands.size)


@internal
def _make_scratch(x, width):
    tiles = np.empty((CHUNK + ROWS) * MAX_VECTORS * width + SLACK, x.dtype)
    rows = np.empty((MAX_VECTORS + 1, DEPTH), np.int64)
    for vectors in range(1, MAX_VECTORS + 1):
        for r in range(DEPTH):
            rows[vectors, r] = r * vectors * width
    return Scratch(
        tiles, np.empty(ROWS, np.int64), rows, np.empty(MAX_VECTORS * width, np.int64), np.empty(CHUNK, np.int64)
    )


@internal
def _multiply_block(panel, reader, weight, lanes, bias, floor, target, scratch, box, group, block):
    """All pixels of a box times one block of the packed weight, stored chunk by chunk."""
    first, pitch, channels = block_lanes(lanes, block)
    block_weight = advance(weight, (group * lanes.row + first) * reader.summands.size)
    for c in range(pitch):
        scratch.planes[c] = c * target.plane if c < channels else -1
    tiles = aligned(pointer(scratch.tiles, 0))
    plane = box.depth * box.height * box.width
    count = box.images * plane
    for start in range(0, count, CHUNK):
        stop = min(count, start + CHUNK)
        _multiply(panel, reader.pixels, start, stop, reader.summands, block_weight, scratch, tiles, pitch, lanes.width)
        p = start
        while p < stop:  # image by image: a run of pixels ends with its image
            image = p // plane
            end = min(stop, (image + 1) * plane)
            store_tile(
                advance(tiles, (p - start) * pitch), pitch, end - p, target, box.n + image,
                group * lanes.channels + first, channels, advance(bias, first), floor, box.grid + p - image * plane,
                pointer(scratch.planes, 0), pointer(scratch.pixels, 0),
            )  # fmt: skip
            p = end


@internal
def _multiply(panel, pixels, start, stop, summands, weight, scratch, tiles, pitch, width):
    """tiles[p - start, lane] = sum over r of panel[pixels[p] + summands[r]] * weight[r, lane], in chains of DEPTH."""
    depth = summands.size
    parts = max(1, (depth + DEPTH - 1) // DEPTH)
    step = max(1, (depth + parts - 1) // parts)
    row_offsets = pointer(scratch.rows, pitch // width * DEPTH)
    for r in range(0, max(1, depth), step):
        for p in range(start, stop, ROWS):
            where = pointer(pixels, p)
            if p + ROWS > stop:  # rows without a pixel repeat the last one
                where = pointer(scratch.tail, 0)
                for i in range(ROWS):
                    scratch.tail[i] = pixels[min(p + i, stop - 1)]
            tile(
                pitch // width, min(step, depth - r), panel, where, pointer(summands, r), advance(weight, r * pitch),
                row_offsets, advance(tiles, (p - start) * pitch), pitch, r > 0,
            )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- in Python
def conv_forward(
    x: Any, weight: Any, bias: Any, window: Window, groups: int, relu: bool = False, out: Any = None
) -> Any:
    """The convolution of x (N, C, *spatial) with weight (O, C / groups, *K), plus bias, then ReLU."""
    shape = (x.shape[0], weight.shape[0], *window.output_size[5 - x.ndim :])
    return _convolve(x, weight, bias, shape, window, False, groups, weight.shape[1], relu, out)


def conv_backward_input(
    grad_out: Any, weight: Any, input_shape: tuple[int, ...], window: Window, groups: int, out: Any = None
) -> Any:
    """The gradient of the convolution's result with respect to its input."""
    in_channels = weight.shape[0] // groups
    return _convolve(grad_out, weight, None, input_shape, window, True, groups, in_channels, False, out)


def _convolve(
    x: Any, weight: Any, bias: Any, shape: tuple[int, ...], window: Window, backward: bool, groups: int, channels: int,
    relu: bool, out: Any,
) -> Any:  # fmt: skip
    source, channels_last = layout.flat(x)
    planar = not channels_last and channels < lanes(x.itemsize)
    plan = make_plan(window, backward, x.shape[0], channels, groups, x.itemsize, channels_last, planar, False)
    packed = pack_backward(weight, groups, plan) if backward else pack_forward(weight, groups)
    result = layout.target(out, shape, x.dtype, channels_last, x, weight, bias)
    out_channels = shape[1] // groups
    operations = result.size * channels * int(plan[0, 0, 0])
    launch(
        conv_core, max(1, operations >> 19), source, channels_last, packed,
        _padded_bias(bias, groups, out_channels, x.dtype), x.dtype.type(0 if relu else -np.inf),
        layout.flat_target(result, channels_last), channels_last, plan, groups, out_channels,
    )  # fmt: skip
    return layout.deliver(result, out)


def _padded_bias(bias: Any, groups: int, out_channels: int, dtype: Any) -> Any:
    """A bias of whole vectors per group; zeros for none."""
    padded = np.zeros((groups, padded_channels(out_channels, dtype.itemsize)), dtype)
    if bias is not None:
        padded[:, :out_channels] = bias.reshape(groups, out_channels)
    return padded.reshape(-1)
