"""Convolution by Winograd's F(4x4, 3x3): 36 products for 16 results of a channel pair instead of 144.

    M[k][tile, out_channel] = sum over (part, in_channel)
        of V[k][tile, (part, in_channel)] * U[k][(part, in_channel), out_channel]

V, U and M are tiles of the input, parts of kernels and tiles of the output as :mod:`~fastconv.cpu.winograd_plan` cuts
them and :mod:`~fastconv.cpu.winograd_transforms` has them. k is one of 36 products, or of the 6 of F(4, 3) or F(3, 4)
for kernels along one axis. The input gradient is the same of grad_out, with kernels turned round and channels
exchanged. Whatever is transformed is used at once, out of the L2 cache: even a weight is transformed anew for every
box of tiles, which takes less time than to read it, four times as large, from further away.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastconv._window import Window
from fastconv.cpu import layout
from fastconv.cpu._jit import compiled, flushing, inlined, internal, launch
from fastconv.cpu.epilogue import make_target, store_tile
from fastconv.cpu.memory import empty, filled, multiples, zeros
from fastconv.cpu.microkernel import MAX_VECTORS, ROWS, tile
from fastconv.cpu.panel import SLACK, make_reader, read_box
from fastconv.cpu.plan import WORK, Plan, phase_axes, phase_header
from fastconv.cpu.pointers import advance, aligned, lanes_at, pointer
from fastconv.cpu.shares import box_of, extent_of, is_empty, share_at, share_boxes
from fastconv.cpu.weights import block_lanes, make_lanes, make_weight, pack_segment, padded_channels
from fastconv.cpu.winograd_plan import (
    PART,
    STEP,
    Shape,
    first_tap,
    make_plans,
    make_shape,
    part_at,
    shape_of,
    tap_in_parts,
)
from fastconv.cpu.winograd_transforms import transform_input, transform_kernel, transform_output

FEW = 8  # channels of a kernel that are packed before they are transformed
AHEAD = 8  # rows of U that are prefetched ahead of their use


class Work(NamedTuple):
    """A worker's own memory: V, U and M with the distances of their products."""

    shape: Any
    tiles: Any  # V[piece of channels][k][tile][part, channel]
    tiles_pitch: Any
    kernels: Any  # U[k][part, channel][lane], for a piece of channels and a block of lanes
    kernels_pitch: Any
    sums: Any  # M[k][tile][lane]
    sums_pitch: Any
    key: Any  # the group, block and piece that U stands for
    few: Any  # some channels' kernels [tap][channel][lane], and where each element of a run goes
    few_to: Any
    results: Any  # one vector of lanes of a plane of a box
    pixels: Any  # see store_tile
    rows: Any  # offsets of a box's tiles in V
    columns: Any  # of V's (part, channel)
    lane_rows: Any  # of U's
    planes: Any  # of the output's channels


@flushing
def winograd_core(
    worker, workers, x, x_last, weight, packed, backward, bias, floor, out, out_last, grid, tables, plan, shape, groups,
    out_channels,
):  # fmt: skip
    """The convolution of x. ``grid`` is the plan of its tiles, by pieces of channels, ``plan`` that of its pixels.

    ``packed`` is the packed weight, or empty: then it is packed on the way.
    """
    lanes = make_lanes(out_channels, lanes_at(pointer(x, 0)))
    reader = make_reader(x, x_last, grid, tables, 0)
    target = make_target(pointer(out, 0), out_last, groups * out_channels, plan, 0)
    whole = make_weight(weight, backward, out_channels, plan)
    header = phase_header(grid, 0)
    boxes, pieces = header.boxes * groups, whole.summed // header.channels
    reading, preparing = out_channels / 8, header.box_pixels / 6  # transforms of tiles, of kernels
    shares = share_boxes(boxes, lanes.blocks, extent_of(grid, 0), reading, preparing, workers)
    work = _make_work(x, lanes.width, grid, make_shape(shape), pieces)
    for number in range(worker, shares.items, workers):
        item = share_at(shares, number, workers)
        (group, box), row = box_of(item, groups, grid, 0), work.columns.size
        if is_empty(box):
            continue
        transform_input_box(work.tiles, work.tiles_pitch, row, work.shape, reader, grid, group * pieces, pieces, box)
        count = tiles_of(box) * work.shape.dilation
        for t in range(work.rows.size):  # rows without a tile repeat the last one
            work.rows[t] = min(t, count - 1) * row
        for block in range(item.first, item.last):
            _multiply_block(work, whole, packed, lanes, group, block, count)
            _store_block(work, lanes, group, block, box, grid, target, pointer(bias, group * lanes.row), floor)


@internal
def _make_work(x, width, grid, shape, pieces):
    header, (_, _, h, w) = phase_header(grid, 0), phase_axes(grid, 0)
    count, summands, block = header.box_pixels * shape.dilation, header.channels * shape.parts, MAX_VECTORS * width
    rows = (count + ROWS - 1) // ROWS * ROWS
    # The extra vectors keep products from sharing few sets of L1, and take what the last transform spills.
    tiles, kernels, sums = count * summands + width, summands * block + width, rows * block + width
    pixels = (h.box + 1) * STEP * w.box * STEP * shape.dilation
    return Work(
        shape, empty(pieces * shape.products * tiles + SLACK, x.dtype), tiles,
        empty(shape.products * kernels + SLACK, x.dtype), kernels,
        empty(shape.products * sums + SLACK, x.dtype), sums,
        filled(3, -1), zeros(shape.taps * FEW * block + SLACK, x.dtype),
        empty(shape.taps * FEW + width, np.int64),
        empty(pixels * width + SLACK, x.dtype), multiples(pixels + width, width),
        empty(rows, np.int64), multiples(summands, 1), zeros(summands + 1, np.int64), empty(width, np.int64),
    )  # fmt: skip


def make_transform_box(transform: Any) -> Any:
    """``transform`` of all tiles of a box: to[piece of channels][k][tile][part, channel], an input read by such pieces.

    Whole vectors are stored: what they spill is overwritten by the next part, row or piece.
    """

    def transform_box(memory, pitch, row, shape, reader, grid, first, pieces, box):
        (_, d, h, w), piece = phase_axes(grid, 0), phase_header(grid, 0).channels
        there, across = aligned(pointer(memory, 0)), shape.dilation * shape.column_stride * w.tap_pitch
        for index in range(pieces):
            panel = read_box(reader, grid, 0, box, first + index)
            for t in range(tiles_of(box) * shape.dilation):
                tile_at = advance(panel, reader.pixels[t // shape.dilation] + t % shape.dilation * w.tap_pitch)
                for part in range(shape.parts // shape.column_stride):
                    z, y, x = part_at(shape, part)
                    source = advance(tile_at, z * d.tap_pitch + y * h.tap_pitch + x * shape.dilation * w.tap_pitch)
                    target = advance(there, t * row + part * shape.column_stride * piece)
                    for c in range(0, shape.column_stride * piece, lanes_at(there)):
                        transform(
                            shape.form, advance(source, c), shape.row_stride * h.tap_pitch, across,
                            advance(target, c), shape.row * pitch, pitch,
                        )  # fmt: skip
            there = advance(there, shape.products * pitch)

    return internal(transform_box)


transform_input_box = make_transform_box(transform_input)


@inlined
def tiles_of(box):
    """Positions of the grid in a box."""
    return box.images * box.depth * box.height * box.width


@internal
def _transform_kernels(work, weight, packed, lanes, group, block, index):
    """U of a block of lanes and a piece of summed channels, a few at a time."""
    there, few, shape = aligned(pointer(work.kernels, 0)), aligned(pointer(work.few, 0)), work.shape
    lane, pitch, channels = block_lanes(lanes, block)
    tap, piece, kernels_pitch = FEW * pitch, work.columns.size // shape.parts, work.kernels_pitch
    if work.lane_rows[1] != pitch:  # tables of another block's lanes
        for r in range(work.lane_rows.size):
            work.lane_rows[r] = r * pitch
        work.few[:] = 0
        _order_few(work.few_to, weight, shape, pitch)
    for start in range(0, piece, FEW):
        count, source = min(FEW, piece - start), few
        if packed.size > 0:
            ready = aligned(pointer(packed, 0))
            rows = weight.summed // piece, piece, index, start
            source = advance(ready, packed_offset(lanes, shape, rows, group, lane, pitch))
        else:
            to = pointer(work.few_to, 0)
            pack_segment(weight, group, lane, channels, index * piece + start, count, pitch, weight.taps, to, few)
        for part in range(shape.parts):
            first, target = first_tap(shape, part), advance(there, (part * piece + start) * pitch)
            for v in range(0, count * pitch, lanes_at(few)):
                transform_kernel(
                    shape.form, advance(source, first * tap + v), shape.down * (PART if shape.across else 1) * tap,
                    shape.across * tap, advance(target, v), shape.row * kernels_pitch, kernels_pitch,
                )  # fmt: skip


@internal
def _order_few(to, weight, shape, pitch):
    """Where an element of a run of the weight goes among FEW packed kernels, [part, tap][channel][lane]."""
    to[:] = -1
    for tap in range(weight.taps):
        place = tap_in_parts(shape, weight.taps - 1 - tap if weight.backward else tap)  # backward they are turned round
        for c in range(1 if weight.backward else FEW):
            to[c * weight.taps + tap] = (place * FEW + c) * pitch


@internal
def _multiply_block(work, weight, packed, lanes, group, block, count):
    """M of ``count`` tiles and a block of lanes."""
    summands, products = work.columns.size, work.shape.products
    _, pitch, _ = block_lanes(lanes, block)
    rows, columns, lane_rows = pointer(work.rows, 0), pointer(work.columns, 0), pointer(work.lane_rows, 0)
    kernels, sums = aligned(pointer(work.kernels, 0)), aligned(pointer(work.sums, 0))
    tiles = aligned(pointer(work.tiles, 0))
    for index in range(weight.summed * work.shape.parts // summands):
        if work.key[0] != group or work.key[1] != block or work.key[2] != index:
            work.key[0], work.key[1], work.key[2] = group, block, index
            _transform_kernels(work, weight, packed, lanes, group, block, index)
        for k in range(products):
            a = advance(tiles, (index * products + k) * work.tiles_pitch)
            b, c = advance(kernels, k * work.kernels_pitch), advance(sums, k * work.sums_pitch)
            for t in range(0, count, ROWS):
                tile(
                    pitch // lanes.width, summands, a, advance(rows, t), columns, b, lane_rows, AHEAD * pitch,
                    advance(c, t * pitch), pitch, index > 0,
                )  # fmt: skip


@internal
def _store_block(work, lanes, group, block, box, grid, target, bias, floor):
    """M's tiles to results, bias and ReLU added, in the output's order: a vector of lanes and a plane at a time."""
    lane, pitch, channels = block_lanes(lanes, block)
    (_, _, h, w), (n, _, _, _) = phase_axes(target.plan, 0), phase_axes(grid, 0)
    width, planes, pixels, shape = lanes.width, pointer(work.planes, 0), pointer(work.pixels, 0), work.shape
    tall, wide = shape.step if shape.down else 1, (shape.step if shape.across else 1) * shape.dilation
    left = box.w * wide
    row = min(box.width * wide, w.count - left)
    between = row if shape.dilation == 1 else box.width * wide  # pixels from row to row of the results
    sums, results, square = aligned(pointer(work.sums, 0)), aligned(pointer(work.results, 0)), pointer(work.few, 0)
    for v in range(0, channels, width):
        for c in range(width):
            work.planes[c] = c * target.plane if v + c < channels else -1
        for plane in range(box.images * box.depth):
            for y in range(box.height):
                # From the right to the left: the next row overwrites what a tile writes beyond the end of a row.
                for x in range(box.width * shape.dilation - 1, -1, -1):
                    tile_at = (plane * box.height + y) * box.width * shape.dilation + x
                    column = x // shape.dilation * wide + x % shape.dilation
                    transform_output(
                        shape.form, advance(sums, tile_at * pitch + v), shape.row * work.sums_pitch, work.sums_pitch,
                        advance(results, (y * tall * between + column) * width), shape.down * between * width,
                        shape.across * shape.dilation * width,
                    )  # fmt: skip
            image, z = (box.n + plane // box.depth) // n.stride, box.d + plane % box.depth
            shift = (box.n + plane // box.depth) % n.stride
            top = box.h * tall
            height = max(0, min(box.height * tall, (h.count - shift + n.stride - 1) // n.stride - top))
            rows = height if row == w.count and between == row and n.stride == 1 else 1  # neighbours in the output
            for p in range(0, height, max(rows, 1)):
                first = (z * h.count + shift + n.stride * (top + p)) * w.count + left
                store_tile(
                    advance(results, p * between * width), width, rows * row, target, image,
                    group * lanes.channels + lane + v, min(width, channels - v), advance(bias, lane + v), floor, first,
                    planes, pixels, square,
                )  # fmt: skip


# ------------------------------------------------------------------------------------------------- weights packed ahead
@inlined
def packed_offset(lanes, shape, rows, group, lane, pitch):
    """Where FEW kernels lie in [group][block][piece][a few channels][tap][channel][lane]."""
    pieces, piece, index, start = rows
    whole = (piece + FEW - 1) // FEW * FEW
    return ((group * lanes.row + lane) * pieces * whole + (index * whole + start) * pitch) * shape.taps


@compiled
def winograd_pack_core(worker, workers, weight, packed, plan, shape, piece, groups, out_channels):
    """The weight as :func:`winograd_core` reads it."""
    target, parts = aligned(pointer(packed, 0)), make_shape(shape)
    lanes = make_lanes(out_channels, lanes_at(target))
    whole = make_weight(weight, False, out_channels, plan)
    to, pieces = empty(whole.taps * FEW + lanes.width, np.int64), whole.summed // piece
    for item in range(worker, groups * lanes.blocks, workers):
        group, block = item // lanes.blocks, item % lanes.blocks
        lane, pitch, channels = block_lanes(lanes, block)
        _order_few(to, whole, parts, pitch)
        for index in range(pieces):
            for start in range(0, piece, FEW):
                there = advance(target, packed_offset(lanes, parts, (pieces, piece, index, start), group, lane, pitch))
                first, count = index * piece + start, min(FEW, piece - start)
                pack_segment(whole, group, lane, channels, first, count, pitch, whole.taps, pointer(to, 0), there)


# ------------------------------------------------------------------------------------------------------------ in Python
def convolve(
    x: Any, weight: Any, bias: Any, floor: Any, result: Any, channels_last: bool, window: Window, backward: bool,
    groups: int, channels: int, prepared: Any = None,
) -> None:  # fmt: skip
    """Convolve ``x``, flat, with the weight, or with kernels turned round and channels exchanged, into ``result``."""
    images, out_channels = result.shape[0], result.shape[1] // groups
    grid, plan = make_plans(window, backward, images, channels, groups, x.itemsize, channels_last, out_channels)
    shape, numbers = shape_of(window)
    packed = np.empty(0, x.dtype)
    if prepared is not None:
        piece = grid.header.channels
        packed = prepared.form("winograd", lambda: _pack(weight, plan, shape, numbers, piece, groups, out_channels))
    launch(
        winograd_core, max(1, result.size * channels * shape.parts * STEP >> WORK), x, channels_last, weight, packed,
        backward, bias, floor, layout.flat_target(result, channels_last), channels_last, grid.numbers, grid.tables,
        plan.numbers, numbers, groups, out_channels,
    )  # fmt: skip


def _pack(weight: Any, plan: Plan, shape: Shape, numbers: Any, piece: int, groups: int, out_channels: int) -> Any:
    rows = plan.header.channels // piece * -(-piece // FEW) * FEW * shape.taps
    # Zeros, since kernels end in them, and since denormal numbers take ten times as long in lanes without a channel.
    packed = np.zeros(groups * padded_channels(out_channels, weight.itemsize) * rows + SLACK, weight.dtype)
    launch(winograd_pack_core, packed.size >> 15, weight, packed, plan.numbers, numbers, piece, groups, out_channels)
    return packed
