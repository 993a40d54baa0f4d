"""Arrays as the tile reads them: whole vectors of channels, and matrices of weights.

Both moves go through any strides, so that no memory order, gap or negative stride needs a copy of its own first.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

from fastconv.cuda import strided
from fastconv.cuda._jit import cuda, device, kernel, launch, types, u32
from fastconv.cuda.arrays import Array
from fastconv.cuda.geometry import Channels, Filters, Matrix, blocks, divisor, grid
from fastconv.cuda.layout import THREADS, channel_axes, is_channels_last
from fastconv.cuda.operands import divide, multiply_add, position
from fastconv.cuda.vector import BYTES, lanes

SIDE = 32  # pixels and channels of a block's square
SLOW = THREADS // 32  # of a block's square, along the axis that is not the fastest in memory
ZERO = types.float32(0)


@device
def offset_of(z, y, x, target, offset):
    """``offset`` moved to a pixel; steps may be negative, which 32 bits that wrap around allow."""
    return multiply_add(z, target.z, multiply_add(y, target.y, multiply_add(x, target.x, offset)))


@cache
def make_pack_pixels(dtype: Any, channels_last: bool) -> Any:
    """packed[pixel, channel] = x[pixel, channel], with zeros where a group's channels end before its last vector.

    A block moves a square through shared memory: threads of a warp read along the axis that is fastest in x, and write
    along channels.
    """
    square = SIDE * (SIDE + 1)

    @kernel
    def pack_pixels(x, packed, pixels, group_channels, padded, pitch, row_blocks, grid, source):
        values = cuda.shared.array(square, dtype)
        t = u32(cuda.threadIdx.x)
        lane, warp = u32(t & u32(31)), u32(t >> u32(5))
        block_pixel, block_channel = divide(u32(cuda.blockIdx.x), row_blocks)
        first, channel = u32(block_pixel * u32(SIDE)), u32(block_channel * u32(SIDE))
        for i in range(0, SIDE, THREADS // SIDE):
            across = u32(warp + u32(i))
            n = u32(first + (across if channels_last else lane))
            c = u32(channel + (lane if channels_last else across))
            group, inner = divide(c, padded)
            value = dtype(ZERO)
            if n < u32(pixels) and c < u32(pitch) and inner < u32(group_channels):
                image, z, y, x_at = position(n, grid)
                at = multiply_add(multiply_add(group, group_channels, inner), source.channel, source.first)
                value = x[offset_of(z, y, x_at, source, multiply_add(image, source.image, at))]
            values[multiply_add(u32(n - first), SIDE + 1, u32(c - channel))] = value
        cuda.syncthreads()
        for i in range(0, SIDE, THREADS // SIDE):
            across = u32(warp + u32(i))
            n, c = u32(first + across), u32(channel + lane)
            if n < u32(pixels) and c < u32(pitch):
                packed[multiply_add(n, pitch, c)] = values[multiply_add(across, SIDE + 1, lane)]

    return pack_pixels


@cache
def make_pack_weight(dtype: Any, rows_last: bool) -> Any:
    """packed[group, (tap, channel), row] = weight, or packed[group, row, (tap, channel)], filled up with zeros.

    A thread moves all taps of one pair of channels: what a warp writes is contiguous, and what it reads is shared
    by the lines of its neighbours.
    """

    @kernel
    def pack_weight(
        weight, packed, rows, channels, channel_pitch, depth, matrix, row_blocks, channel_blocks, taps, source
    ):
        t = u32(cuda.threadIdx.x)
        rest, row_block = divide(u32(cuda.blockIdx.x), row_blocks)
        group, channel_block = divide(rest, channel_blocks)
        fast, slow = u32(t & u32(31)), u32(t >> u32(5))
        row = multiply_add(row_block, 32, fast) if rows_last else multiply_add(row_block, SLOW, slow)
        channel = multiply_add(channel_block, SLOW, slow) if rows_last else multiply_add(channel_block, 32, fast)
        if row >= u32(matrix.rows):
            return
        real = row < u32(rows) and channel < u32(channels)
        start = multiply_add(row, source.row, multiply_add(channel, source.channel, source.first))
        start = multiply_add(group, source.group, start)
        step, row_step = (u32(matrix.pitch), u32(1)) if rows_last else (u32(1), u32(matrix.pitch))
        first = multiply_add(group, matrix.group, u32(row * row_step))
        count = u32(u32(u32(taps.z.value) * u32(taps.y.value)) * u32(taps.x.value))
        if channel < u32(channel_pitch):
            for tap in range(count):
                _, z, y, x = position(u32(tap), taps)
                value = dtype(ZERO)
                if real:
                    value = weight[offset_of(z, y, x, source, start)]
                packed[multiply_add(multiply_add(u32(tap), channel_pitch, channel), step, first)] = value
        k = multiply_add(count, channel_pitch, channel)
        while k < u32(depth):
            packed[multiply_add(k, step, first)] = dtype(ZERO)
            k = u32(k + u32(u32(SLOW if rows_last else 32) * u32(channel_blocks.value)))

    return pack_weight


class Packed(NamedTuple):
    """Channels-last memory in whole vectors."""

    data: Array
    channels: Channels


def packed_pixels(x: Array, groups: int) -> Packed:
    """``x`` (N, C, *spatial) itself where its memory is that already, or else a packed copy."""
    width, channels = lanes(x.dtype), x.shape[1] // groups
    vectors = blocks(channels, width)
    layout = Channels(divisor(vectors), vectors * width, groups * vectors * width)
    if channels % width == 0 and _is_packed(x):
        return Packed(strided.span(x)[0], layout)
    pixels, pitch = x.shape[0] * math.prod(x.shape[2:]), layout.pitch
    data = strided.scratch(x, pixels * pitch)
    if pixels * pitch:
        source, places = strided.images(x)
        sizes = (1,) * (5 - x.ndim) + tuple(x.shape[2:])
        across = blocks(pitch, SIDE)
        kernel = make_pack_pixels(strided.types_of(x.dtype)[0], is_channels_last(x))
        launch(
            kernel, blocks(pixels, SIDE) * across, THREADS, x.stream, source, data, pixels, channels,
            divisor(vectors * width), pitch, divisor(across), grid(sizes), places,
        )  # fmt: skip
    return Packed(data, layout)


def _is_packed(x: Array) -> bool:
    ordered = x.transpose(channel_axes(x.ndim, True))
    return bool(ordered.flags.c_contiguous) and x.pointer % BYTES == 0


class Weights(NamedTuple):
    """A packed weight, how many k it has, and how many with those that fill up the last tile."""

    data: Array
    matrix: Matrix
    terms: int
    depth: int


def packed_weight(
    weight: Array,
    places: Filters,
    rows: int,
    channels: int,
    groups: int,
    taps: tuple[int, ...],
    unit: int,
    rows_last: bool,
) -> Weights:
    """The weight of one phase as a matrix of rows and (tap, channel), with ``unit`` values of k in a tile."""
    width = lanes(weight.dtype)
    padded = blocks(channels, width) * width
    terms = math.prod(taps) * padded
    depth = blocks(terms, unit) * unit
    pitch = blocks(rows, width) * width
    matrix = Matrix(depth * pitch, pitch, pitch) if rows_last else Matrix(depth * rows, depth, rows)
    data = strided.scratch(weight, groups * matrix.group)
    row_side, channel_side = (32, SLOW) if rows_last else (SLOW, 32)
    row_blocks, channel_blocks = blocks(matrix.rows, row_side), blocks(padded, channel_side)
    if terms:
        launch(
            make_pack_weight(strided.types_of(weight.dtype)[0], rows_last), groups * channel_blocks * row_blocks,
            THREADS, weight.stream, strided.span(weight)[0], data, rows, channels, padded, depth, matrix,
            divisor(row_blocks), divisor(channel_blocks), grid(taps), places,
        )  # fmt: skip
    return Weights(data, matrix, terms, depth)
