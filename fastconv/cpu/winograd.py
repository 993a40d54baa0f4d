"""Convolution of 3x3 kernels by Winograd's F(4x4, 3x3): 36 products for 16 results of a channel pair instead of 144.

    M[k][tile, out_channel] = sum over in_channels of V[k][tile, in_channel] * U[k][in_channel, out_channel]

V, U and M are tiles of the input, kernels and tiles of the output as :mod:`~fastconv.cpu.winograd_transforms` has them,
k is one of 36 products. The input gradient is the same of grad_out, with kernels turned round and their channels
exchanged. Whatever is transformed is used at once, out of the L2 cache: even a weight is transformed anew
for every box of tiles, which takes less time than to read it, four times as large, from further away.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastconv._window import Triple, Window, is_dense_3x3
from fastconv.cpu import layout
from fastconv.cpu._jit import compiled, flushing, inlined, internal, launch
from fastconv.cpu.epilogue import make_target, store_tile
from fastconv.cpu.microkernel import MAX_VECTORS, ROWS, advance, aligned, lanes, lanes_at, pointer, tile
from fastconv.cpu.panel import SLACK, make_reader, read_box
from fastconv.cpu.plan import WORK, Plan, Reading, box_at, make_plan, phase_axes, phase_header
from fastconv.cpu.weights import block_lanes, make_lanes, make_weight, pack_segment, padded_channels
from fastconv.cpu.winograd_transforms import SIZE, transform_input, transform_kernel, transform_output

STEP = 4  # results of a tile on an axis
PRODUCTS = SIZE * SIZE
TAPS = 9
FEW = 8  # channels of a kernel that are packed before they are transformed
AHEAD = 8  # rows of U that are prefetched ahead of their use
PIECE = 64  # about as many summed channels make a chain
LEAST_CHANNELS = 8  # on both sides, below which direct sums are faster
BOX_BYTES, SMALL_BOX_BYTES = 264, 192  # of a channel's elements in a box, and where all of U stays in L2


class Work(NamedTuple):
    """A worker's own memory: V, U and M with the distances of their products."""

    tiles: Any  # V[piece of channels][k][tile][channel]
    tiles_pitch: Any
    kernels: Any  # U[k][channel][lane], for a piece of channels and a block of lanes
    kernels_pitch: Any
    sums: Any  # M[k][tile][lane]
    sums_pitch: Any
    key: Any  # the group, block and piece that U stands for
    few: Any  # some channels' kernels [tap][channel][lane], and where each element of a run goes
    few_to: Any
    results: Any  # one vector of lanes of a plane of a box
    pixels: Any  # see store_tile
    rows: Any  # offsets of a box's tiles in V
    columns: Any  # of V's channels
    lane_rows: Any  # of U's channels
    planes: Any  # of the output's channels


@flushing
def winograd_core(
    worker, workers, x, x_last, weight, packed, backward, bias, floor, out, out_last, grid, tables, plan, groups,
    out_channels,
):  # fmt: skip
    """The convolution of x. ``grid`` is the plan of its tiles, by pieces of channels, ``plan`` that of its pixels.

    ``packed`` is the packed weight, or empty: then it is packed on the way.
    """
    lanes = make_lanes(out_channels, lanes_at(pointer(x, 0)))
    reader = make_reader(x, x_last, grid, tables, 0)
    target = make_target(pointer(out, 0), out_last, groups * out_channels, plan, 0)
    whole = make_weight(weight, backward, out_channels, plan)
    boxes = phase_header(grid, 0).boxes * groups
    splits = 1 if boxes % workers == 0 or boxes >= 4 * workers else min(lanes.blocks, workers)
    work = _make_work(x, lanes.width, grid, whole.summed)
    for item in range(worker, boxes * splits, workers):
        split, group, index = item % splits, item // splits % groups, item // splits // groups
        box = box_at(grid, 0, index)
        pieces = whole.summed // work.columns.size
        transform_input_box(work.tiles, work.tiles_pitch, work.columns.size, reader, grid, group * pieces, pieces, box)
        for t in range(work.rows.size):  # rows without a tile repeat the last one
            work.rows[t] = min(t, tiles_of(box) - 1) * work.columns.size
        for block in range(split * lanes.blocks // splits, (split + 1) * lanes.blocks // splits):
            _multiply_block(work, whole, packed, lanes, group, block, tiles_of(box))
            _store_block(work, lanes, group, block, box, target, pointer(bias, group * lanes.row), floor)


@internal
def _make_work(x, width, grid, channels):
    header, (_, _, h, w) = phase_header(grid, 0), phase_axes(grid, 0)
    piece, block = header.channels, MAX_VECTORS * width
    rows = (header.box_pixels + ROWS - 1) // ROWS * ROWS
    # The extra vectors keep products from sharing few sets of L1.
    tiles, kernels, sums = header.box_pixels * piece + width, piece * block + width, rows * block + width
    pixels = (h.box + 1) * STEP * w.box * STEP
    return Work(
        np.empty(channels // piece * PRODUCTS * tiles + SLACK, x.dtype), tiles,
        np.empty(PRODUCTS * kernels + SLACK, x.dtype), kernels, np.empty(PRODUCTS * sums + SLACK, x.dtype), sums,
        np.full(3, -1), np.zeros(TAPS * FEW * block + SLACK, x.dtype), np.empty(TAPS * FEW + width, np.int64),
        np.empty(pixels * width + SLACK, x.dtype), np.arange(0, (pixels + width) * width, width),
        np.empty(rows, np.int64), np.arange(piece), np.zeros(piece + 1, np.int64), np.empty(width, np.int64),
    )  # fmt: skip


def make_transform_box(transform: Any) -> Any:
    """``transform`` of all tiles of a box: to[piece of channels][k][tile][row], from an input read by such pieces.

    Whole vectors are stored: what they spill is overwritten by the next row or piece.
    """

    def transform_box(memory, pitch, row, reader, grid, first, pieces, box):
        (_, _, h, w), piece = phase_axes(grid, 0), phase_header(grid, 0).channels
        there = aligned(pointer(memory, 0))
        for index in range(pieces):
            panel = read_box(reader, grid, 0, box, first + index)
            for t in range(tiles_of(box)):
                source, target = advance(panel, reader.pixels[t]), advance(there, t * row)
                for c in range(0, piece, lanes_at(there)):
                    transform(advance(source, c), h.pitch, w.pitch, advance(target, c), SIZE * pitch, pitch)
            there = advance(there, PRODUCTS * pitch)

    return internal(transform_box)


transform_input_box = make_transform_box(transform_input)


@inlined
def tiles_of(box):
    return box.images * box.depth * box.height * box.width


@internal
def _transform_kernels(work, weight, packed, lanes, group, block, index):
    """U of a block of lanes and a piece of summed channels, a few at a time."""
    there, few, piece = aligned(pointer(work.kernels, 0)), aligned(pointer(work.few, 0)), work.columns.size
    lane, pitch, channels = block_lanes(lanes, block)
    tap = FEW * pitch
    if work.lane_rows[1] != pitch:  # tables of another block's lanes
        for c in range(work.lane_rows.size):
            work.lane_rows[c] = c * pitch
        _order_few(work.few_to, weight, pitch)
    first, step = ((TAPS - 1) * tap, -tap) if weight.backward else (0, tap)
    for start in range(0, piece, FEW):
        count, source = min(FEW, piece - start), few
        if packed.size > 0:
            ready = aligned(pointer(packed, 0))
            source = advance(ready, packed_offset(lanes, weight.summed, piece, group, lane, pitch, index, start))
        else:
            to = pointer(work.few_to, 0)
            pack_segment(weight, group, lane, channels, index * piece + start, count, pitch, TAPS, to, few)
        source = advance(source, first)
        for v in range(0, count * pitch, lanes_at(few)):
            target = advance(there, start * pitch + v)
            transform_kernel(advance(source, v), 3 * step, step, target, SIZE * work.kernels_pitch, work.kernels_pitch)


@internal
def _order_few(to, weight, pitch):
    """Where an element of a run of the weight goes among FEW packed kernels, [tap][channel][lane]."""
    to[:] = -1
    for q in range(TAPS if weight.backward else TAPS * FEW):
        to[q] = (q % TAPS * FEW + q // TAPS) * pitch


@internal
def _multiply_block(work, weight, packed, lanes, group, block, count):
    """M of ``count`` tiles and a block of lanes."""
    piece = work.columns.size
    _, pitch, _ = block_lanes(lanes, block)
    rows, columns, lane_rows = pointer(work.rows, 0), pointer(work.columns, 0), pointer(work.lane_rows, 0)
    kernels, sums = aligned(pointer(work.kernels, 0)), aligned(pointer(work.sums, 0))
    tiles = aligned(pointer(work.tiles, 0))
    for index in range(weight.summed // piece):
        if work.key[0] != group or work.key[1] != block or work.key[2] != index:
            work.key[0], work.key[1], work.key[2] = group, block, index
            _transform_kernels(work, weight, packed, lanes, group, block, index)
        for k in range(PRODUCTS):
            a = advance(tiles, (index * PRODUCTS + k) * work.tiles_pitch)
            b, c = advance(kernels, k * work.kernels_pitch), advance(sums, k * work.sums_pitch)
            for t in range(0, count, ROWS):
                tile(
                    pitch // lanes.width, piece, a, advance(rows, t), columns, b, lane_rows, AHEAD * pitch,
                    advance(c, t * pitch), pitch, index > 0,
                )  # fmt: skip


@internal
def _store_block(work, lanes, group, block, box, target, bias, floor):
    """M's tiles to results, bias and ReLU added, in the output's order: a vector of lanes and a plane at a time."""
    lane, pitch, channels = block_lanes(lanes, block)
    _, _, h, w = phase_axes(target.plan, 0)
    width, planes, pixels = lanes.width, pointer(work.planes, 0), pointer(work.pixels, 0)
    top, left = box.h * STEP, box.w * STEP
    height, row = min(box.height * STEP, h.count - top), min(box.width * STEP, w.count - left)
    run = height * row if row == w.count else row  # pixels that are neighbours in the output
    sums, results, square = aligned(pointer(work.sums, 0)), aligned(pointer(work.results, 0)), pointer(work.few, 0)
    for v in range(0, channels, width):
        for c in range(width):
            work.planes[c] = c * target.plane if v + c < channels else -1
        for plane in range(box.images * box.depth):
            for y in range(box.height):
                # From the right to the left: the next row overwrites what a tile writes beyond the end of a row.
                for x in range(box.width - 1, -1, -1):
                    tile_at = (plane * box.height + y) * box.width + x
                    transform_output(
                        advance(sums, tile_at * pitch + v), SIZE * work.sums_pitch, work.sums_pitch,
                        advance(results, (y * row + x) * STEP * width), row * width, width,
                    )  # fmt: skip
            image, z = box.n + plane // box.depth, box.d + plane % box.depth
            for p in range(0, height * row, run):
                first = (z * h.count + top + p // row) * w.count + left
                store_tile(
                    advance(results, p * width), width, run, target, image, group * lanes.channels + lane + v,
                    min(width, channels - v), advance(bias, lane + v), floor, first, planes, pixels,
                    square,
                )  # fmt: skip


# ------------------------------------------------------------------------------------------------- weights packed ahead
@inlined
def packed_offset(lanes, summed, piece, group, lane, pitch, index, start):
    """Where FEW kernels lie in [group][block][piece][a few channels][tap][channel][lane]."""
    whole = (piece + FEW - 1) // FEW * FEW
    return ((group * lanes.row + lane) * (summed // piece) * whole + (index * whole + start) * pitch) * TAPS


@compiled
def winograd_pack_core(worker, workers, weight, packed, plan, piece, groups, out_channels):
    """The weight as :func:`winograd_core` reads it."""
    target = aligned(pointer(packed, 0))
    lanes = make_lanes(out_channels, lanes_at(target))
    whole = make_weight(weight, False, out_channels, plan)
    to = np.empty(TAPS * FEW + lanes.width, np.int64)
    for item in range(worker, groups * lanes.blocks, workers):
        group, block = item // lanes.blocks, item % lanes.blocks
        lane, pitch, channels = block_lanes(lanes, block)
        _order_few(to, whole, pitch)
        for index in range(whole.summed // piece):
            for start in range(0, piece, FEW):
                there = advance(target, packed_offset(lanes, whole.summed, piece, group, lane, pitch, index, start))
                first, count = index * piece + start, min(FEW, piece - start)
                pack_segment(whole, group, lane, channels, first, count, pitch, TAPS, pointer(to, 0), there)


# ------------------------------------------------------------------------------------------------------------ in Python
def chosen(
    algorithm: str, window: Window, backward: bool, channels: int, out_channels: int, least: int = LEAST_CHANNELS
) -> bool:
    """Whether Winograd's algorithm computes a convolution of so many channels per group.

    A box of few tiles does not repay that kernels are transformed for it, about the time of six tiles' products.
    """
    if algorithm != "auto":
        return algorithm == "winograd" and channels > 0
    if not is_dense_3x3(window):
        return False
    _, height, width = window.input_size if backward else window.output_size
    products = PRODUCTS * (-(-height // STEP) * -(-width // STEP) + 6)
    return min(channels, out_channels) >= least and TAPS * height * width > products


def mirrored(window: Window) -> Window:
    """The window on grad_out that gives the input gradient, by kernels turned round."""

    def opposite(padding: Triple) -> Triple:
        d, h, w = (k - 1 - p for k, p in zip(window.kernel_size, padding, strict=True))
        return d, h, w

    before, after = opposite(window.padding_before), opposite(window.padding_after)
    return window._replace(
        input_size=window.output_size, output_size=window.input_size, padding_before=before, padding_after=after
    )


def tile_window(window: Window) -> Window:
    """The window whose positions are the tiles."""
    d, h, w = window.output_size
    return window._replace(
        kernel_size=(1, SIZE, SIZE), stride=(1, STEP, STEP), output_size=(d, -(-h // STEP), -(-w // STEP))
    )


@lru_cache(maxsize=64)
def _make_plans(
    window: Window, backward: bool, images: int, channels: int, groups: int, itemsize: int, channels_last: bool,
    out_channels: int,
) -> tuple[Plan, Plan]:  # fmt: skip
    """The plans of tiles, by pieces of channels, and of pixels."""
    window = mirrored(window) if backward else window
    width = lanes(itemsize)
    piece = even_piece(channels)
    few = piece == channels and out_channels <= MAX_VECTORS * width and groups == 1
    most = (SMALL_BOX_BYTES if few else BOX_BYTES) // itemsize
    reading = Reading(channels_last, beyond=piece % width > 0, most=most)
    grid = make_plan(tile_window(window), False, images, piece, groups * (channels // piece), itemsize, reading)
    return grid, make_plan(window, False, images, channels, groups, itemsize, Reading(channels_last))


def even_piece(channels: int) -> int:
    """The divisor closest to PIECE, between a quarter of it and its double; all channels where there is none."""
    divisors = [d for d in range(min(PIECE // 4, channels), min(channels, 2 * PIECE) + 1) if channels % d == 0]
    return min(divisors, key=lambda d: max(d / PIECE, PIECE / d), default=channels)


def convolve(
    x: Any, weight: Any, bias: Any, floor: Any, result: Any, channels_last: bool, window: Window, backward: bool,
    groups: int, channels: int, prepared: Any = None,
) -> None:  # fmt: skip
    """Convolve ``x``, flat, with the weight, or with kernels turned round and channels exchanged, into ``result``."""
    images, out_channels = result.shape[0], result.shape[1] // groups
    grid, plan = _make_plans(window, backward, images, channels, groups, x.itemsize, channels_last, out_channels)
    packed = np.empty(0, x.dtype)
    if prepared is not None:
        packed = prepared.form("winograd", lambda: _pack(weight, plan, grid.header.channels, groups, out_channels))
    launch(
        winograd_core, max(1, result.size * channels * STEP >> WORK), x, channels_last, weight, packed, backward, bias,
        floor, layout.flat_target(result, channels_last), channels_last, grid.numbers, grid.tables, plan.numbers,
        groups, out_channels,
    )  # fmt: skip


def _pack(weight: Any, plan: Plan, piece: int, groups: int, out_channels: int) -> Any:
    rows = plan.header.channels // piece * -(-piece // FEW) * FEW * TAPS
    # Zeros, since denormal numbers in lanes without a channel take ten times as long as others.
    packed = np.zeros(groups * padded_channels(out_channels, weight.itemsize) * rows + SLACK, weight.dtype)
    launch(winograd_pack_core, packed.size >> 15, weight, packed, plan.numbers, piece, groups, out_channels)
    return packed
