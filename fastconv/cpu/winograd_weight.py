"""The weight gradient by Winograd's F(3x3, 4x4): tiles of grad_out are the kernels, 4x4 each.

    S[k][(part, in_channel), out_channel]
        = sum over tiles of V[k][tile, (part, in_channel)] * W[k][tile, out_channel]

V are tiles of the input for the parts of kernels, the same as in the forward pass, W transformed tiles of grad_out; S
becomes the gradients. Where all of S fits into the L2 cache it collects the tiles of many boxes, else every box's part
is transformed and added up. Sums run over the boxes of a slice in their order and over the slices in theirs: the shape
decides both.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastconv._window import Window
from fastconv.cpu import layout
from fastconv.cpu._jit import flushing, inlined, internal, launch, made
from fastconv.cpu._target import lanes
from fastconv.cpu.epilogue import make_target, store_tile
from fastconv.cpu.memory import empty, multiples, zeros
from fastconv.cpu.microkernel import MAX_VECTORS, ROWS, tile
from fastconv.cpu.panel import SLACK, make_reader
from fastconv.cpu.plan import WORK, Plan, Reading, box_at, make_plan, phase_header
from fastconv.cpu.pointers import advance, aligned, copy, lanes_at, pointer
from fastconv.cpu.shares import NO_MOVE, share_at, share_boxes
from fastconv.cpu.weights import block_lanes, make_lanes
from fastconv.cpu.winograd import make_transform_box, tiles_of, transform_input_box
from fastconv.cpu.winograd_plan import (
    PART,
    STEP,
    box_tiles,
    even_piece,
    first_tap,
    make_shape,
    one_part,
    reading_of,
    shape_of,
    tap_in_parts,
    tile_window,
)
from fastconv.cpu.winograd_transforms import transform_grad, transform_weight

LEAST_CHANNELS = 16  # on both sides, below which direct sums are faster
AHEAD = 8  # tiles of W that are prefetched ahead of their use
KEEP_BYTES = 640 << 10  # of all of S
MAX_SLICES = 16
SLICE_BYTES = 8 << 20  # of all slices' gradients together

transform_grad_box = make_transform_box(transform_grad)


class Problem(NamedTuple):
    """Sizes: channels are per group, and read in pieces."""

    shape: Any
    groups: Any
    in_channels: Any
    out_channels: Any
    pieces: Any
    piece: Any
    grad_pieces: Any
    lanes: Any  # of a piece of out_channels
    vectors: Any  # of lanes in all pieces
    target: Any  # the gradient as an image: out_channels are its channels, (in_channel, tap) its pixels


class Work(NamedTuple):
    """A worker's own memory: V, W and S with the distances of their products."""

    tiles: Any  # V[piece of in_channels][k][tile][in_channel]
    tiles_pitch: Any
    grads: Any  # W[k][tile][out_channel], for a piece of out_channels
    grads_pitch: Any
    sums: Any  # S[k][part, in_channel][lane] for a piece of in_channels and a block of lanes, or for all of them
    sums_pitch: Any
    results: Any  # [in_channel, tap][lane] for a piece of in_channels and one vector of lanes, twice
    pixels: Any  # see store_tile
    planes: Any
    zeros: Any
    rows: Any  # offsets of (part, in_channel) in V
    tile_rows: Any  # of tiles in V
    grad_rows: Any  # and in W


@inlined
def _make_problem(grad_weight, grid, grad_grid, order, shape, groups, in_channels, out_channels):
    there = pointer(grad_weight, 0)
    piece, grad_piece = phase_header(grid, 0).channels, phase_header(grad_grid, 0).channels
    lanes, grad_pieces = make_lanes(grad_piece, lanes_at(there)), out_channels // grad_piece
    target = make_target(there, False, groups * out_channels, order, 0)
    return Problem(
        make_shape(shape), groups, in_channels, out_channels, in_channels // piece, piece, grad_pieces, lanes,
        grad_pieces * lanes.vectors, target,
    )  # fmt: skip


@internal
def _make_work(grad_weight, problem, tiles, keep):
    width, block, dtype = problem.lanes.width, MAX_VECTORS * problem.lanes.width, grad_weight.dtype
    products, summands = problem.shape.products, problem.shape.parts * problem.piece
    height = (summands + ROWS - 1) // ROWS * ROWS
    regions = problem.grad_pieces * problem.lanes.blocks * problem.pieces if keep else 1
    # The extra vectors keep products from sharing few sets of L1, and take what the last transform spills.
    tiles_pitch, grads_pitch = tiles * summands + width, tiles * problem.lanes.row + width
    sums_pitch, pixels = height * block + width, problem.shape.taps * problem.piece
    work = Work(
        empty(problem.pieces * products * tiles_pitch + SLACK, dtype), tiles_pitch,
        empty(products * grads_pitch + SLACK, dtype), grads_pitch,
        empty(regions * products * sums_pitch + SLACK, dtype), sums_pitch,
        empty((2 * pixels + width) * width + SLACK, dtype), multiples(pixels + width, width),
        empty(width, np.int64), zeros(width, dtype), empty(height, np.int64),
        multiples(tiles, summands), multiples(tiles, problem.lanes.row),
    )  # fmt: skip
    for i in range(height):  # rows beyond the last channel repeat it
        work.rows[i] = min(i, summands - 1)
    return work


# ---------------------------------------------------------------------------------------------------------------- sums
@flushing
def winograd_sums_core(
    worker, workers, x, x_last, grad_out, grad_last, sums, grad_weight, floor, grid, tables, grad_grid, grad_tables,
    order, shape, groups, in_channels, out_channels, slices, keep,
):  # fmt: skip
    """Every slice's gradient for every group; straight to the gradient where ``sums`` is empty."""
    problem = _make_problem(grad_weight, grid, grad_grid, order, shape, groups, in_channels, out_channels)
    reader = make_reader(x, x_last, grid, tables, 0)
    grad_reader = make_reader(grad_out, grad_last, grad_grid, grad_tables, 0)
    header, pieces = phase_header(grid, 0), problem.grad_pieces
    tiles, work = problem.shape, _make_work(grad_weight, problem, header.box_pixels * problem.shape.dilation, keep)
    shares = share_boxes(slices * groups, pieces, 1, out_channels / 8, NO_MOVE, workers)
    for number in range(worker, shares.items, workers):
        item = share_at(shares, number, workers)
        group, slice_ = item.index % groups, item.index // groups
        start, stop = slice_ * header.boxes // slices, (slice_ + 1) * header.boxes // slices
        for index in range(start, stop):
            box = box_at(grid, 0, index)
            transform_input_box(
                work.tiles, work.tiles_pitch, tiles.parts * problem.piece, tiles, reader, grid, group * problem.pieces,
                problem.pieces, box,
            )  # fmt: skip
            for g in range(item.first, item.last):
                transform_grad_box(
                    work.grads, work.grads_pitch, problem.lanes.row, one_part(tiles), grad_reader, grad_grid,
                    group * pieces + g, 1, box,
                )  # fmt: skip
                for part in range(problem.pieces * problem.lanes.blocks):
                    region = (g * problem.pieces * problem.lanes.blocks + part) * tiles.products * work.sums_pitch
                    into = advance(aligned(pointer(work.sums, 0)), region if keep else 0)
                    _add_box(work, problem, part, tiles_of(box) * tiles.dilation, into, keep and index > start)
                    if not keep or index == stop - 1:
                        _finish(work, problem, sums, item.index, g, part, into, floor, not keep and index > start)


@internal
def _add_box(work, problem, part, count, into, accumulate):
    """S of a piece of in_channels and a block of lanes, plus ``count`` tiles."""
    products = problem.shape.products
    p, block = part // problem.lanes.blocks, part % problem.lanes.blocks
    lane, pitch, _ = block_lanes(problem.lanes, block)
    tiles, grads = aligned(pointer(work.tiles, 0)), advance(aligned(pointer(work.grads, 0)), lane)
    for k in range(products):
        a = advance(tiles, (p * products + k) * work.tiles_pitch)
        b, c = advance(grads, k * work.grads_pitch), advance(into, k * work.sums_pitch)
        for i in range(0, problem.shape.parts * problem.piece, ROWS):
            tile(
                pitch // problem.lanes.width, count, a, pointer(work.rows, i), pointer(work.tile_rows, 0), b,
                pointer(work.grad_rows, 0), AHEAD * problem.lanes.row, advance(c, i * pitch), pitch, accumulate,
            )  # fmt: skip


@internal
def _finish(work, problem, sums, item, g, part, into, floor, accumulate):
    """The gradients of a piece of in_channels and a block of lanes: to a slice's sums, or to the gradient."""
    p, block = part // problem.lanes.blocks, part % problem.lanes.blocks
    lane, pitch, channels = block_lanes(problem.lanes, block)
    shape, width, pixels = problem.shape, problem.lanes.width, problem.shape.taps * problem.piece
    results = aligned(pointer(work.results, 0))
    for v in range(0, channels, width):
        for row in range(shape.parts * problem.piece):
            part, c = row // problem.piece, row % problem.piece
            transform_weight(
                shape.form, advance(into, row * pitch + v), shape.row * work.sums_pitch, work.sums_pitch,
                advance(results, (c * shape.taps + first_tap(shape, part)) * width),
                shape.down * (PART if shape.across else 1) * width, shape.across * width,
            )  # fmt: skip
        vector = g * problem.lanes.vectors + (lane + v) // width
        if sums.size == 0:
            _store(work, problem, item * problem.out_channels + g * problem.lanes.channels + lane + v,
                   min(width, channels - v), p * problem.piece, floor)  # fmt: skip
        else:
            offset = ((item * problem.vectors + vector) * problem.in_channels + p * problem.piece) * shape.taps * width
            there = pointer(sums, offset)
            if accumulate:
                for q in range(pixels * width):
                    there[q] += results[q]
            else:
                copy(there, results, pixels * width)


@internal
def _store(work, problem, channel, channels, first, floor):
    """Results [in_channel, tap][lane], from in_channel ``first`` on, to the gradient's rows from ``channel`` on."""
    width, shape, planes = problem.lanes.width, problem.shape, pointer(work.planes, 0)
    taps = problem.target.plane // problem.in_channels
    for c in range(width):
        work.planes[c] = c * problem.target.plane if c < channels else -1
    results = aligned(pointer(work.results, 0))
    if shape.parts > 1 or taps < shape.taps:  # from the parts' order to that of the kernel, without the parts' zeros
        ordered = advance(results, shape.taps * problem.piece * width)
        for c in range(problem.piece):
            for tap in range(taps):
                there = advance(ordered, (c * taps + tap) * width)
                here = advance(results, (c * shape.taps + tap_in_parts(shape, tap)) * width)
                for q in range(width):
                    there[q] = here[q]
        results = ordered
    count = taps * problem.piece
    store_tile(
        results, width, count, problem.target, 0, channel, channels, pointer(work.zeros, 0), floor, first * taps,
        planes, pointer(work.pixels, 0), advance(results, count * width),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------- to the weight
@flushing
def winograd_order_core(
    worker, workers, sums, grad_weight, floor, grid, grad_grid, order, shape, groups, in_channels, out_channels, slices
):
    """The slices' gradients, added up in their order and moved to grad_weight (O, C / groups, *K)."""
    problem = _make_problem(grad_weight, grid, grad_grid, order, shape, groups, in_channels, out_channels)
    work = _make_work(grad_weight, problem, 1, False)
    width, vectors, count = (
        problem.lanes.width,
        problem.vectors,
        problem.shape.taps * problem.piece * problem.lanes.width,
    )
    for item in range(worker, groups * vectors * problem.pieces, workers):
        p, vector, group = item % problem.pieces, item // problem.pieces % vectors, item // problem.pieces // vectors
        g, lane = vector // problem.lanes.vectors, vector % problem.lanes.vectors * width
        results = aligned(pointer(work.results, 0))
        for s in range(slices):
            here = ((s * groups + group) * vectors + vector) * in_channels + p * problem.piece
            part = pointer(sums, here * problem.shape.taps * width)
            if s == 0:
                copy(results, part, count)
            else:
                for q in range(count):
                    results[q] += part[q]
        channel = group * out_channels + g * problem.lanes.channels + lane
        _store(work, problem, channel, min(width, problem.lanes.channels - lane), p * problem.piece, floor)


# ------------------------------------------------------------------------------------------------------------ in Python
class Gradient(NamedTuple):
    """How a weight gradient is computed."""

    grid: Plan  # of the input's tiles
    grad_grid: Plan  # of grad_out's
    order: Plan  # of the gradient as an image
    keep: bool
    slices: int
    size: int  # of one slice's gradient


@lru_cache(maxsize=64)
def _make_gradient(
    window: Window, images: int, in_channels: int, out_channels: int, groups: int, itemsize: int, x_last: bool,
    grad_last: bool,
) -> Gradient:  # fmt: skip
    width, (shape, _) = lanes(itemsize), shape_of(window)
    piece, grad_piece = even_piece(in_channels, shape), _lanes_piece(out_channels, width)
    # Sums depend on what follows: it has no word of the machine.
    keep = shape.products * shape.parts * in_channels * out_channels * itemsize <= KEEP_BYTES
    tiles, grad_tiles = tile_window(window), tile_window(window, results=True)
    most = box_tiles(shape, in_channels, itemsize, keep)
    for _ in range(2):  # until both have the same boxes
        reading = reading_of(window, x_last, piece % width > 0, most)
        grid = make_plan(tiles, False, images, piece, groups * (in_channels // piece), itemsize, reading)
        most = grid.header.box_pixels * shape.dilation
        reading = reading_of(window, grad_last, grad_piece % width > 0, most)
        grads = groups * (out_channels // grad_piece)
        grad_grid = make_plan(grad_tiles, False, images, grad_piece, grads, itemsize, reading)
        most = grad_grid.header.box_pixels * shape.dilation
    taps, one, zero = math.prod(window.kernel_size), (1, 1, 1), (0, 0, 0)
    line = (1, 1, in_channels * taps)
    order = make_plan(Window(line, one, one, zero, zero, one, line), False, 1, 1, 1, itemsize, Reading(False))
    size = groups * in_channels * shape.taps
    slices = max(1, min(MAX_SLICES, SLICE_BYTES // (out_channels * size * itemsize), grid.header.boxes))
    row = -(-grad_piece // width) * width
    return Gradient(grid, grad_grid, order, keep, slices, out_channels // grad_piece * row * size)


def _lanes_piece(channels: int, width: int) -> int:
    """The divisor up to two blocks of lanes that wastes the fewest lanes, one block if that wastes none."""
    block = MAX_VECTORS * width
    divisors = [d for d in range(min(width, channels), min(channels, 2 * block) + 1) if channels % d == 0]
    return max(divisors, key=lambda d: (d / (-(-d // width) * width), d == block, d), default=channels)


def weight_gradient(
    x: Any, x_last: bool, grad_out: Any, grad_last: bool, result: Any, window: Window, images: int, groups: int
) -> None:
    """Write the gradient for ``x`` and ``grad_out``, flat, to ``result``."""
    out_channels, in_channels = result.shape[0] // groups, result.shape[1]
    grid, grad_grid, order, keep, slices, size = _make_gradient(
        window, images, in_channels, out_channels, groups, x.itemsize, x_last, grad_last
    )
    shape, numbers = shape_of(window)
    straight = slices == 1 and (keep or grid.header.boxes == 1)
    sums = made(np.empty(0 if straight else slices * size, x.dtype))
    target, floor = layout.flat_target(result, False), x.dtype.type(-np.inf)
    launch(
        winograd_sums_core, max(1, grad_out.size * in_channels * shape.parts * STEP >> WORK), x, x_last, grad_out,
        grad_last, sums, target, floor, grid.numbers, grid.tables, grad_grid.numbers, grad_grid.tables, order.numbers,
        numbers, groups, in_channels, out_channels, slices, keep,
    )  # fmt: skip
    if not straight:
        launch(
            winograd_order_core, max(1, sums.size >> 17), sums, target, floor, grid.numbers, grad_grid.numbers,
            order.numbers, numbers, groups, in_channels, out_channels, slices,
        )  # fmt: skip
