"""The kernels of convolution on the tile.

convolve:  out[image, row, pixel] = bias[row] + sum over (tap, channel) of weight[tap, channel, row] * x[pixel's window]
correlate: partial[part, row, tap, channel] = sum over a part of the pixels of grad_out[pixel, row] * x[pixel's window]
"""

from __future__ import annotations

from functools import cache
from typing import Any

from fastconv.cuda import operands, tensor_operands
from fastconv.cuda._jit import cuda, device, kernel, types, u32
from fastconv.cuda.operands import divide, multiply_add, position
from fastconv.cuda.tensor import TensorTile
from fastconv.cuda.tile import Engine, Spread, Tile

AnyTile = Tile | TensorTile


@device
def block_at(row_tiles, column_tiles):
    """This block's tile of rows, tile of columns, and what is left: its group and part of the sum."""
    rest, column = divide(u32(cuda.blockIdx.x), column_tiles)
    rest, row = divide(rest, row_tiles)
    return row, column, rest


# --------------------------------------------------------------------------------------- convolution, by output pixels
@cache
def make_convolve(tile: AnyTile, dtype: Any, sum_dtype: Any) -> Any:
    """The kernel of convolution and of its input gradient, one launch for each phase."""
    engine = _engine(tensor_operands.convolution, operands.convolution, tile, dtype, sum_dtype)
    spread, locate_rows, row_words, locate_columns, column_words, product = engine
    size, rows, columns, place = spread.row_span * spread.column_span, tile.rows, tile.columns, spread.place
    start, rectify = _make_start(spread, sum_dtype), _make_rectify(size, sum_dtype)
    store = _make_store(spread, dtype)

    @kernel(launch_bounds=(tile.threads, tile.blocks))
    def convolve(
        x, weight, bias, out, has_bias, relu, terms, depth, out_channels, matrix, row_tiles, column_tiles, gather,
        channels, target,
    ):  # fmt: skip
        acc = cuda.local.array(size, sum_dtype)
        places = cuda.local.array(row_words, types.uint32)
        where = cuda.local.array(column_words, types.uint32)
        row_tile, column_tile, part = block_at(row_tiles, column_tiles)
        row, column = u32(row_tile * u32(rows)), u32(column_tile * u32(columns))
        thread_row, thread_column = place(u32(cuda.threadIdx.x))
        first, limit, offset = u32(row + thread_row), u32(out_channels), u32(part * u32(out_channels))
        locate_rows(places, u32(part * u32(matrix.group)), row, matrix.pitch, matrix.rows)
        locate_columns(where, column, u32(part * u32(channels.group)), gather, channels)
        start(acc, bias, has_bias, first, limit, offset)
        source = (x, where, u32(terms), gather, channels)
        product(acc, u32(0), u32(depth), (weight, places, u32(matrix.pitch)), source)
        if relu:
            rectify(acc)
        begin = multiply_add(offset, target.channel, target.first)
        store(acc, out, first, limit, begin, u32(column + thread_column), gather, target)

    return convolve


def _make_start(spread: Spread, sum_dtype: Any) -> Any:
    """A device function: a thread's sums begin as their rows' bias."""
    row_span, row_group, row_step, column_span = spread.row_span, spread.row_group, spread.row_step, spread.column_span
    zero = sum_dtype(0)

    @device
    def start(acc, bias, has_bias, first, limit, offset):
        for i in range(row_span):
            row = u32(first + u32(i // row_group * row_step + i % row_group))
            value = zero
            if has_bias and row < limit:
                value = sum_dtype(bias[u32(offset + row)])
            for j in range(column_span):
                acc[i * column_span + j] = value

    return start


def _make_rectify(size: int, sum_dtype: Any) -> Any:
    zero = sum_dtype(0)

    @device
    def rectify(acc):
        for i in range(size):  # `acc <= 0` is false for NaN, which stays
            acc[i] = zero if acc[i] <= zero else acc[i]

    return rectify


def _make_store(spread: Spread, dtype: Any) -> Any:
    """A device function: a thread's sums go to their rows and pixels of the result, which may lie in any order."""
    row_span, row_group, row_step, column_span, column_group, column_step, _ = spread
    groups_down, groups_across = row_span // row_group, column_span // column_group

    @device
    def store(acc, out, first, limit, offset, column, gather, target):
        for jg in range(groups_across):
            for j in range(column_group):
                n = u32(column + u32(jg * column_step + j))
                if n < u32(gather.pixels):
                    image, z, y, x = position(n, gather.grid)
                    where = multiply_add(z, target.z, multiply_add(y, target.y, multiply_add(x, target.x, offset)))
                    where = multiply_add(image, target.image, where)
                    for ig in range(groups_down):
                        for i in range(row_group):
                            row = u32(first + u32(ig * row_step + i))
                            if row < limit:
                                value = dtype(acc[(ig * row_group + i) * column_span + jg * column_group + j])
                                out[multiply_add(row, target.channel, where)] = value

    return store


# ------------------------------------------------------------------------------------------------------ weight gradient
@cache
def make_correlate(tile: AnyTile, dtype: Any, sum_dtype: Any) -> Any:
    """The kernel of the weight gradient: each block sums a part of the pixels for a tile of the weight."""
    engine = _engine(tensor_operands.correlation, operands.correlation, tile, dtype, sum_dtype)
    spread, locate_rows, row_words, locate_columns, column_words, product = engine
    size, rows, columns, place = spread.row_span * spread.column_span, tile.rows, tile.columns, spread.place
    store, zero = _make_store_partial(spread), sum_dtype(0)
    # Of 128 registers, the compiler needs reminding for float64 only; for float32 that costs 7 % more instructions.
    bounds = (tile.threads, tile.blocks) if sum_dtype == types.float64 else None

    @kernel(launch_bounds=bounds)
    def correlate(
        grad_out, x, partial, all_columns, out_channels, matrix, part_pixels, groups, row_tiles, column_tiles, gather,
        channels,
    ):  # fmt: skip
        acc = cuda.local.array(size, sum_dtype)
        places = cuda.local.array(row_words, types.uint32)
        where = cuda.local.array(column_words, types.uint32)
        row_tile, column_tile, rest = block_at(row_tiles, column_tiles)
        part, group_index = divide(rest, groups)
        row, column = u32(row_tile * u32(rows)), u32(column_tile * u32(columns))
        thread_row, thread_column = place(u32(cuda.threadIdx.x))
        locate_rows(places, u32(group_index * u32(matrix.group)), row, matrix.pitch, matrix.rows)
        locate_columns(where, column, u32(group_index * u32(channels.group)), u32(all_columns), gather, channels)
        for i in range(size):
            acc[i] = zero
        begin = u32(part * u32(part_pixels))
        end = min(u32(begin + u32(part_pixels)), u32(gather.pixels))
        product(acc, begin, end, (grad_out, places, u32(matrix.pitch)), (x, where, gather, channels))
        offset = u32(rest * u32(u32(out_channels) * u32(all_columns)))
        row, column = u32(row + thread_row), u32(column + thread_column)
        store(acc, partial, row, u32(out_channels), column, u32(all_columns), offset)

    return correlate


def _make_store_partial(spread: Spread) -> Any:
    """A device function: a thread's sums go to their rows and columns of a part's matrix."""
    row_span, row_group, row_step, column_span, column_group, column_step, _ = spread
    groups_across = column_span // column_group

    @device
    def store(acc, partial, first, limit, column, all_columns, offset):
        for jg in range(groups_across):
            for j in range(column_group):
                n = u32(column + u32(jg * column_step + j))
                if n < all_columns:
                    for i in range(row_span):
                        row = u32(first + u32(i // row_group * row_step + i % row_group))
                        if row < limit:
                            value = acc[i * column_span + jg * column_group + j]
                            partial[multiply_add(row, all_columns, u32(offset + n))] = value

    return store


def _engine(on_tensor_cores: Any, otherwise: Any, tile: AnyTile, dtype: Any, sum_dtype: Any) -> Engine:
    if isinstance(tile, TensorTile):
        return on_tensor_cores(tile, dtype)  # type: ignore[no-any-return]
    return otherwise(tile, dtype, sum_dtype)  # type: ignore[no-any-return]
