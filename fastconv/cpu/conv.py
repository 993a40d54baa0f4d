"""Convolution: forward and input gradient are one plan around the micro-kernel, with other numbers and other weights.

forward:         C[pixel, out_channel] = sum over (tap, in_channel)  of x[pixel's window]        * packed weight
backward_input:  C[pixel, in_channel]  = sum over (tap, out_channel) of grad_out[pixel's window] * packed weight
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastconv._window import Window
from fastconv.cpu import fft, layout, pointwise, winograd
from fastconv.cpu._jit import flushing, inlined, internal, launch
from fastconv.cpu._target import lanes
from fastconv.cpu.bias import padded_bias, plain_bias
from fastconv.cpu.conv_pixels import convolve_pixels, pixels_in_lanes
from fastconv.cpu.depthwise import depthwise_backward_input, depthwise_forward, sums_planes
from fastconv.cpu.epilogue import expect_tile, make_target, store_tile
from fastconv.cpu.fft_plan import transform_size
from fastconv.cpu.memory import empty, multiples, zeros
from fastconv.cpu.microkernel import MAX_VECTORS, ROWS, TALL_ROWS, tall_tile, tile
from fastconv.cpu.panel import SLACK, make_reader, read_box
from fastconv.cpu.plan import WORK, Plan, Reading, make_plan, phase_header
from fastconv.cpu.pointers import advance, aligned, lanes_at, pointer
from fastconv.cpu.shares import MOVE, NO_MOVE, box_of, extent_of, is_empty, share_at, share_boxes
from fastconv.cpu.weights import (
    block_lanes,
    make_lanes,
    make_weight,
    pack,
    pack_segment,
    row_table,
    segment_of,
    segments_of,
)
from fastconv.cpu.winograd_plan import chosen

CHUNK = 16 * ROWS  # pixels whose tiles wait for their epilogue: 24 KiB of float32, half of L1
AHEAD = 8  # rows of the weight that are prefetched ahead of their use
FEW_BOXES = 2  # up to here a weight is packed where it is used, segment by segment in L2, for every box again


class Scratch(NamedTuple):
    """A worker's own memory."""

    tiles: Any
    weight: Any  # a packed segment
    weight_rows: Any  # see row_table
    keys: Any  # what tables stand for: weight_rows for (segment, pitch), rows for a pitch
    tail: Any  # pixel offsets of a last tile
    rows: Any  # offsets of a segment's packed rows
    planes: Any  # offsets of the output's channels
    pixels: Any  # see store_tile for the two
    square: Any


@flushing
def conv_core(
    worker, workers, x, x_last, weight, packed, backward, bias, floor, out, out_last, plan, tables, groups, out_channels
):
    """The plan's convolution of x, phase by phase; every worker takes every ``workers``-th piece of work.

    ``packed`` is the packed weight, or empty: then it is packed on the way.
    """
    lanes = make_lanes(out_channels, lanes_at(pointer(x, 0)))
    ready = aligned(pointer(packed, 0))
    whole = make_weight(weight, backward, out_channels, plan)
    turn = worker  # pieces to leave to others before the next one is this worker's
    for phase in range(plan.shape[0]):
        header = phase_header(plan, phase)
        reader = make_reader(x, x_last, plan, tables, phase)
        target = make_target(pointer(out, 0), out_last, groups * out_channels, plan, phase)
        scratch = _make_scratch(x, lanes.width, header, whole.taps, packed.size == 0)
        boxes = header.boxes * groups
        reading, preparing = out_channels * max(header.taps, 1) / MOVE, header.box_pixels / MOVE
        preparing = preparing if packed.size == 0 else NO_MOVE
        shares = share_boxes(boxes, lanes.blocks, extent_of(plan, phase), reading, preparing, workers)
        for number in range(turn, shares.items, workers):
            item = share_at(shares, number, workers)
            group, box = box_of(item, groups, plan, phase)
            if is_empty(box):
                continue
            panel = read_box(reader, plan, phase, box, group)
            for block in range(item.first, item.last):
                _multiply_block(
                    panel, reader, whole, ready, packed.size == 0, lanes, pointer(bias, group * lanes.row), floor,
                    target, scratch, box, group, block,
                )  # fmt: skip
        turn = (turn - shares.items) % workers
        ready = advance(ready, groups * lanes.row * header.taps * header.channels)


@internal
def _make_scratch(x, width, header, taps, packing):
    pixels, depth = max(CHUNK, header.box_pixels), max(1, header.segment * header.taps)
    return Scratch(
        empty((pixels + TALL_ROWS) * MAX_VECTORS * width + SLACK, x.dtype),
        empty(depth * MAX_VECTORS * width * packing + SLACK, x.dtype),
        empty((header.segment * taps + width) * packing, np.int64),
        zeros(3, np.int64),
        empty(TALL_ROWS, np.int64),
        empty(depth, np.int64),
        empty(MAX_VECTORS * width, np.int64),
        multiples(pixels + width, width),
        empty(width * width, x.dtype),
    )


@internal
def _multiply_block(panel, reader, weight, ready, packing, lanes, bias, floor, target, scratch, box, group, block):
    """All pixels of a box times one block of the weight's lanes, stored chunk by chunk."""
    header = phase_header(target.plan, target.phase)
    lane, pitch, channels = block_lanes(lanes, block)
    for c in range(pitch):
        scratch.planes[c] = c * target.plane if c < channels else -1
    if scratch.keys[2] != pitch:
        scratch.keys[2] = pitch
        for r in range(scratch.rows.size):
            scratch.rows[r] = r * pitch
    tiles = aligned(pointer(scratch.tiles, 0))
    plane, segments = box.depth * box.height * box.width, segments_of(header)
    count = box.images * plane
    channel = group * lanes.channels + lane
    chunk = CHUNK if segments == 1 else count
    for start in range(0, count, chunk):
        stop = min(count, start + chunk)
        for index in range(segments):
            first, segment = segment_of(header, index)
            rows = advance(ready, ((group * lanes.row + lane) * header.channels + first * pitch) * header.taps)
            if packing:
                rows = aligned(pointer(scratch.weight, 0))
                if start == 0:
                    _pack(
                        weight, target.plan, target.phase, scratch, group, lane, channels, first, segment, pitch, rows
                    )
            _multiply(
                panel, reader, first * header.taps, segment * header.taps, index == segments - 1, rows, scratch, tiles,
                pitch, lanes.width, target, box, plane, start, stop, channel, channels,
            )  # fmt: skip
        p = start
        while p < stop:  # image by image: a run of pixels ends with its image
            image = p // plane
            end = min(stop, (image + 1) * plane)
            store_tile(
                advance(tiles, (p - start) * pitch), pitch, end - p, target, box.n + image, channel, channels,
                advance(bias, lane), floor, box.grid + p - image * plane, pointer(scratch.planes, 0),
                pointer(scratch.pixels, 0), pointer(scratch.square, 0),
            )  # fmt: skip
            p = end


@inlined
def _pack(weight, plan, phase, scratch, group, lane, channels, first, segment, pitch, target):
    if scratch.keys[0] != segment or scratch.keys[1] != pitch:
        scratch.keys[0], scratch.keys[1] = segment, pitch
        row_table(weight, plan, phase, segment, pitch, scratch.weight_rows)
    taps = phase_header(plan, phase).taps
    pack_segment(weight, group, lane, channels, first, segment, pitch, taps, pointer(scratch.weight_rows, 0), target)


@inlined
def _multiply(
    panel, reader, first, depth, last, weight, scratch, tiles, pitch, width, target, box, plane, start, stop, channel,
    channels,
):  # fmt: skip
    """tiles[p - start, lane] (+)= sum over r < depth of panel[pixels[p] + summands[first + r]] * weight[r, lane]."""
    rows = pointer(scratch.rows, 0)
    height = TALL_ROWS if pitch == width else ROWS
    parts = (stop - start + height - 1) // height
    image = start // plane
    expected = last and (stop - 1) // plane == image  # all of the chunk lies in one image
    for part in range(parts):
        p = start + part * height
        where = advance(reader.pixels, p)
        if p + height > stop:  # rows without a pixel repeat the last one
            where = pointer(scratch.tail, 0)
            for i in range(height):
                scratch.tail[i] = reader.pixels[min(p + i, stop - 1)]
        if expected:
            grid = box.grid + start - image * plane
            expect_tile(target, box.n + image, channel, channels, grid, stop - start, part, parts)
        a_col, into = advance(reader.summands, first), advance(tiles, (p - start) * pitch)
        if height == TALL_ROWS:
            tall_tile(depth, panel, where, a_col, weight, rows, AHEAD * pitch, into, pitch, first > 0)
        else:
            tile(pitch // width, depth, panel, where, a_col, weight, rows, AHEAD * pitch, into, pitch, first > 0)


# ------------------------------------------------------------------------------------------------------------ in Python
def conv_forward(
    x: Any, weight: Any, bias: Any, window: Window, groups: int, relu: bool = False, out: Any = None,
    algorithm: str = "auto", prepared: Any = None,
) -> Any:  # fmt: skip
    """The convolution of x (N, C, *spatial) with weight (O, C / groups, *K), plus bias, then ReLU."""
    if sums_planes("forward", weight.shape, groups, window, x, algorithm):
        return depthwise_forward(x, weight, bias, window, groups, relu, out, prepared)
    shape = (x.shape[0], weight.shape[0], *window.output_size[5 - x.ndim :])
    return _convolve(x, weight, bias, shape, window, False, groups, weight.shape[1], relu, out, algorithm, prepared)


def conv_backward_input(
    grad_out: Any, weight: Any, input_shape: tuple[int, ...], window: Window, groups: int, out: Any = None,
    algorithm: str = "auto",
) -> Any:  # fmt: skip
    """The gradient of the convolution's result with respect to its input."""
    return conv_transpose_forward(grad_out, weight, None, input_shape, window, groups, out, algorithm)


def conv_transpose_forward(
    x: Any, weight: Any, bias: Any, shape: tuple[int, ...], window: Window, groups: int, out: Any = None,
    algorithm: str = "auto",
) -> Any:  # fmt: skip
    """The input gradient of the convolution by ``window`` from ``shape`` to the shape of x, plus bias."""
    if sums_planes("backward_input", weight.shape, groups, window, x, algorithm):
        return depthwise_backward_input(x, weight, shape, window, groups, out, bias)
    return _convolve(x, weight, bias, shape, window, True, groups, weight.shape[0] // groups, False, out, algorithm)


def _convolve(
    x: Any, weight: Any, bias: Any, shape: tuple[int, ...], window: Window, backward: bool, groups: int, channels: int,
    relu: bool, out: Any, algorithm: str, prepared: Any = None,
) -> Any:  # fmt: skip
    source, channels_last = layout.flat(x)
    if math.prod(shape) == 0:
        return layout.deliver(layout.empty(shape, x.dtype, channels_last), out)
    out_channels, raw = shape[1] // groups, layout.read_only(weight)
    result = layout.target(out, shape, x.dtype, channels_last, x, weight, bias)
    floor = x.dtype.type(0 if relu else -np.inf)
    pass_ = "backward_input" if backward else "forward"
    size = transform_size(pass_, algorithm, window, channels, out_channels, groups, x.itemsize)
    if size or chosen(algorithm, window, backward, channels, out_channels):
        lanes_bias = padded_bias(bias, groups, out_channels, x.dtype)
        operands = (lanes_bias, floor, result, channels_last, window, backward, groups)
        if size:
            fft.convolve(source, weight, *operands, size, prepared)
        else:
            winograd.convolve(source, raw, *operands, channels, prepared)
        return layout.deliver(result, out)
    _convolve_directly(source, channels_last, x, raw, bias, floor, result, window, backward, groups, channels, prepared)
    return layout.deliver(result, out)


def _convolve_directly(
    source: Any, channels_last: bool, x: Any, weight: Any, bias: Any, floor: Any, result: Any, window: Window,
    backward: bool, groups: int, channels: int, prepared: Any,
) -> None:  # fmt: skip
    """Convolve x, which is ``source`` in memory order, by the micro-kernel, with pixels or channels in its lanes."""
    images, out_channels, target = x.shape[0], result.shape[1] // groups, layout.flat_target(result, channels_last)
    if pointwise.chosen(window, backward, channels_last, images, x.itemsize):
        plain = plain_bias(bias, result.shape[1], x.dtype)
        pointwise.convolve(
            source, weight, plain, floor, target, window, backward, images, groups, channels, out_channels
        )
        return
    pixels, plan = _way(window, backward, images, channels, groups, x.itemsize, channels_last, out_channels)
    if pixels:
        plain = plain_bias(bias, result.shape[1], x.dtype)
        convolve_pixels(source, weight, plain, floor, target, plan, backward, groups, out_channels)
        return
    packed = np.empty(0, x.dtype)
    if prepared is not None:  # forward the packed weight is the same for all images
        packed = prepared.form("direct", lambda: pack(weight, backward, out_channels, groups, plan.numbers))
    elif plan.most_boxes > FEW_BOXES:
        packed = pack(weight, backward, out_channels, groups, plan.numbers)
    operations = result.size * channels * plan.header.taps
    x_last = channels_last and x.shape[1] > 1  # one channel is a plane in either order
    launch(
        conv_core, max(1, operations >> WORK), source, x_last, weight, packed, backward,
        padded_bias(bias, groups, out_channels, x.dtype), floor, target, channels_last, plan.numbers, plan.tables,
        groups, out_channels,
    )  # fmt: skip


@lru_cache(maxsize=64)  # once for both questions: the hash of a window costs as much as a small array
def _way(
    window: Window, backward: bool, images: int, channels: int, groups: int, itemsize: int, channels_last: bool,
    out_channels: int,
) -> tuple[bool, Plan]:  # fmt: skip
    """Whether pixels lie in the lanes, and the plan."""
    args = (window, backward, images, channels, groups, itemsize)
    if not channels_last and pixels_in_lanes(*args, out_channels):
        return True, make_plan(*args, Reading(channels_last, pixels=True, beyond=True))
    x_last = channels_last and channels * groups > 1
    return False, make_plan(*args, Reading(x_last, planar=not x_last and channels < lanes(itemsize)))
