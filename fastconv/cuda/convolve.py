"""The kernels of convolution on the tile.

convolve:  out[image, row, pixel] = bias[row] + sum over (tap, channel) of weight[tap, channel, row] * x[pixel's window]
correlate: partial[part, row, tap, channel] = sum over a part of the pixels of grad_out[pixel, row] * x[pixel's window]
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from fastconv.cuda import operands
from fastconv.cuda._jit import cuda, device, kernel, types, u32
from fastconv.cuda.operands import divide, multiply_add, position
from fastconv.cuda.tile import Shared, Tile, make_place, make_product
from fastconv.cuda.vector import lanes


@device
def block_at(row_tiles, column_tiles):
    """This block's tile of rows, tile of columns, and what is left: its group and part of the sum."""
    rest, column = divide(u32(cuda.blockIdx.x), column_tiles)
    rest, row = divide(rest, row_tiles)
    return row, column, rest


@cache
def make_convolve(tile: Tile, dtype: Any, sum_dtype: Any) -> Any:
    """The kernel of convolution and of its input gradient, one launch for each phase."""
    rows, columns, row_span, column_span = tile.rows, tile.columns, tile.row_span, tile.column_span
    group, _, _, _, row_step, column_step = Shared.of(tile, sum_dtype)
    size, groups_down, groups_across = row_span * column_span, row_span // group, column_span // group
    locate, column_operand = operands.pixels(tile, dtype, sum_dtype)
    width = lanes(np.dtype(dtype.name))
    where_size = 4 * column_operand.values // width
    locate_rows, row_operand = operands.matrix(tile, dtype, sum_dtype, True)
    product = make_product(tile, sum_dtype, row_operand, column_operand)
    place = make_place(tile, sum_dtype)
    zero = sum_dtype(0)

    @device
    def start(acc, bias, has_bias, first, limit, offset):
        for i in range(row_span):
            row = u32(first + u32(i // group * row_step + i % group))
            value = zero
            if has_bias and row < limit:
                value = sum_dtype(bias[u32(offset + row)])
            for j in range(column_span):
                acc[i * column_span + j] = value

    @device
    def rectify(acc):
        for i in range(size):  # `acc <= 0` is false for NaN, which stays
            acc[i] = zero if acc[i] <= zero else acc[i]

    @device
    def store(acc, out, first, limit, offset, column, gather, target):
        for jg in range(groups_across):
            for j in range(group):
                n = u32(column + u32(jg * column_step + j))
                if n < u32(gather.pixels):
                    image, z, y, x = position(n, gather.grid)
                    where = multiply_add(z, target.z, multiply_add(y, target.y, multiply_add(x, target.x, offset)))
                    where = multiply_add(image, target.image, where)
                    for ig in range(groups_down):
                        for i in range(group):
                            row = u32(first + u32(ig * row_step + i))
                            if row < limit:
                                value = dtype(acc[(ig * group + i) * column_span + jg * group + j])
                                out[multiply_add(row, target.channel, where)] = value

    @kernel(launch_bounds=(tile.threads, tile.blocks))
    def convolve(
        x, weight, bias, out, has_bias, relu, terms, depth, out_channels, weight_pitch, row_tiles, column_tiles, gather,
        channels, target,
    ):  # fmt: skip
        acc = cuda.local.array(size, sum_dtype)
        where = cuda.local.array(where_size, types.uint32)
        row_tile, column_tile, part = block_at(row_tiles, column_tiles)
        row, column = u32(row_tile * u32(rows)), u32(column_tile * u32(columns))
        thread_row, thread_column = place(u32(cuda.threadIdx.x))
        first, limit, offset = u32(row + thread_row), u32(out_channels), u32(part * u32(out_channels))
        locate(where, column, u32(part * u32(channels.group)), gather, channels)
        start(acc, bias, has_bias, first, limit, offset)
        weights = u32(u32(part * u32(depth)) * u32(weight_pitch))
        weights = locate_rows(weights, row, weight_pitch, weight_pitch)
        source = (x, where, u32(terms), gather, channels)
        product(acc, u32(0), u32(depth), (weight, weights, u32(weight_pitch)), source)
        if relu:
            rectify(acc)
        begin = multiply_add(offset, target.channel, target.first)
        store(acc, out, first, limit, begin, u32(column + thread_column), gather, target)

    return convolve


@cache
def make_correlate(tile: Tile, dtype: Any, sum_dtype: Any) -> Any:
    """The kernel of the weight gradient: each block sums a part of the pixels for a tile of the weight."""
    rows, columns, row_span, column_span = tile.rows, tile.columns, tile.row_span, tile.column_span
    group, _, _, _, row_step, column_step = Shared.of(tile, sum_dtype)
    size, groups_across = row_span * column_span, column_span // group
    locate, column_operand = operands.taps(tile, dtype, sum_dtype)
    where_size = 4 * column_operand.values // lanes(np.dtype(dtype.name))
    locate_rows, row_operand = operands.matrix(tile, dtype, sum_dtype, False)
    product = make_product(tile, sum_dtype, row_operand, column_operand)
    place = make_place(tile, sum_dtype)
    # Of 128 registers, the compiler needs reminding for float64 only; for float32 that costs 7 % more instructions.
    bounds = (tile.threads, tile.blocks) if sum_dtype == types.float64 else None
    zero = sum_dtype(0)

    @device
    def store(acc, partial, first, limit, column, all_columns, offset):
        for jg in range(groups_across):
            for j in range(group):
                n = u32(column + u32(jg * column_step + j))
                if n < all_columns:
                    for i in range(row_span):
                        row = u32(first + u32(i // group * row_step + i % group))
                        if row < limit:
                            value = acc[i * column_span + jg * group + j]
                            partial[multiply_add(row, all_columns, u32(offset + n))] = value

    @kernel(launch_bounds=bounds)
    def correlate(
        grad_out, x, partial, all_columns, out_channels, group_pitch, grad_pitch, part_pixels, groups, row_tiles,
        column_tiles, gather, channels,
    ):  # fmt: skip
        acc = cuda.local.array(size, sum_dtype)
        where = cuda.local.array(where_size, types.uint32)
        row_tile, column_tile, rest = block_at(row_tiles, column_tiles)
        part, group_index = divide(rest, groups)
        row, column = u32(row_tile * u32(rows)), u32(column_tile * u32(columns))
        thread_row, thread_column = place(u32(cuda.threadIdx.x))
        locate(where, column, u32(group_index * u32(channels.group)), u32(all_columns), gather, channels)
        for i in range(size):
            acc[i] = zero
        begin = u32(part * u32(part_pixels))
        end = min(u32(begin + u32(part_pixels)), u32(gather.pixels))
        gradient = locate_rows(u32(group_index * u32(group_pitch)), row, grad_pitch, group_pitch)
        product(acc, begin, end, (grad_out, gradient, u32(grad_pitch)), (x, where, gather, channels))
        offset = multiply_add(rest, u32(u32(out_channels) * u32(all_columns)), u32(0))
        store(
            acc,
            partial,
            u32(row + thread_row),
            u32(out_channels),
            u32(column + thread_column),
            u32(all_columns),
            offset,
        )

    return correlate
