"""The operands of products on tensor cores: how tiles of them are copied from global into shared memory."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from fastconv.cuda._jit import cuda, device, types, u32, u64
from fastconv.cuda.fragments import make_fragments
from fastconv.cuda.mma import copy_async
from fastconv.cuda.operands import (
    element,
    inside,
    make_locate_pixels,
    make_locate_row,
    make_locate_taps,
    multiply_add,
    position,
    shift_of,
)
from fastconv.cuda.tensor import Strides, TensorTile, make_product, make_spread
from fastconv.cuda.tile import Engine
from fastconv.cuda.vector import BYTES, opaque


def make_copy(dtype: Any, instructions: bool) -> Any:
    """A device function: a vector of elements of shared memory = those of an array, or zeros if not ``wanted``."""
    width, zero = BYTES // np.dtype(dtype.name).itemsize, types.float32(0)  # constants of float16 do not compile

    @device
    def copy_elements(shared, place, array, at, wanted):
        for e in range(width):
            shared[u64(place + u64(e))] = array[u32(at + u32(e))] if wanted else dtype(zero)

    return copy_async if instructions else copy_elements


# ----------------------------------------------------------------------------- operands whose k is contiguous in memory
@cache
def convolution(tile: TensorTile, dtype: Any) -> Engine:
    """Rows are those of packed weights [row, k], columns are pixels, and k counts channels within taps."""
    itemsize = np.dtype(dtype.name).itemsize
    width, depth = BYTES // itemsize, tile.depth_of(itemsize)
    pitch, across = depth + width, depth // width
    step = tile.threads // across
    row_loads, loads = tile.rows // step, tile.columns // step
    copies = _row_chunks(tile, dtype, pitch, across, row_loads), _pixel_chunks(tile, dtype, pitch, across, loads)
    fragments = make_fragments(tile, dtype, Strides(pitch, 1), Strides(pitch, 1))
    product = make_product(tile, dtype, copies, fragments, (tile.rows * pitch, tile.columns * pitch))
    locate_rows, locate_columns = (
        _locate_chunks(row_loads, across, step, width),
        make_locate_pixels(loads, across, step),
    )
    return Engine(make_spread(tile), locate_rows, row_loads, locate_columns, 4 * loads, product)


def _locate_chunks(loads: int, across: int, step: int, width: int) -> Any:
    """A device function: where in a matrix [row, k] a thread reads at k = 0, ``loads`` times, ``step`` rows apart."""

    @device
    def locate(places, first, row, pitch, limit):
        t = u32(cuda.threadIdx.x)
        for i in range(loads):
            at = min(u32(row + u32(u32(t // u32(across)) + u32(i * step))), u32(u32(limit) - u32(1)))
            places[i] = opaque(multiply_add(at, pitch, multiply_add(u32(t % u32(across)), width, first)))

    return locate


def _chunk(tile: TensorTile, dtype: Any, pitch: int, across: int) -> Any:
    """A device function: where in shared memory [line, k] the i-th vector that a thread copies belongs."""
    width, step = BYTES // np.dtype(dtype.name).itemsize, tile.threads // across

    @device
    def chunk(start, i):
        t = u32(cuda.threadIdx.x)
        place = multiply_add(u32(t // u32(across)), pitch, multiply_add(u32(t % u32(across)), width, start))
        return u64(u64(place) + u64(i * step * pitch))

    return chunk


def _row_chunks(tile: TensorTile, dtype: Any, pitch: int, across: int, loads: int) -> Any:
    chunk, copy = _chunk(tile, dtype, pitch, across), make_copy(dtype, tile.instructions)

    @device
    def copy_rows(shared, start, k, stop, source):
        array, places, _ = source
        for i in range(loads):
            copy(shared, chunk(start, i), array, u32(places[i] + k), k < stop)

    return copy_rows


def _pixel_chunks(tile: TensorTile, dtype: Any, pitch: int, across: int, loads: int) -> Any:
    chunk, copy = _chunk(tile, dtype, pitch, across), make_copy(dtype, tile.instructions)
    width = BYTES // np.dtype(dtype.name).itemsize

    @device
    def copy_columns(shared, start, k, stop, source):
        array, where, limit, gather, channels = source
        at = u32(u32(k // u32(width)) + u32(u32(cuda.threadIdx.x) % u32(across)))
        shift_z, shift_y, shift_x, shift = shift_of(at, width, gather, channels)
        for i in range(loads):
            z, y, x = u32(where[4 * i + 1] + shift_z), u32(where[4 * i + 2] + shift_y), u32(where[4 * i + 3] + shift_x)
            wanted = u32(at * u32(width)) < limit and inside(z, y, x, gather)
            copy(shared, chunk(start, i), array, u32(where[4 * i] + shift), wanted)

    return copy_columns


# ------------------------------------------------------------------------- operands whose rows are contiguous in memory
@cache
def correlation(tile: TensorTile, dtype: Any) -> Engine:
    """Rows are channels of a gradient, columns are channels within taps, and k counts pixels."""
    itemsize = np.dtype(dtype.name).itemsize
    width, depth = BYTES // itemsize, tile.depth_of(itemsize)
    pad = width if dtype == types.float16 else 2 * width  # no two threads of a warp meet in a bank
    row_pitch, column_pitch = tile.rows + pad, tile.columns + pad
    row_across, across = tile.rows // width, tile.threads // depth
    loads = tile.columns // width // across
    copies = _row_lines(tile, dtype, row_pitch), _tap_lines(tile, dtype, column_pitch, loads)
    fragments = make_fragments(tile, dtype, Strides(1, row_pitch), Strides(1, column_pitch))
    product = make_product(tile, dtype, copies, fragments, (depth * row_pitch, depth * column_pitch))
    locate_rows, locate_columns = make_locate_row(row_across, width), make_locate_taps(loads, across, width)
    return Engine(make_spread(tile), locate_rows, 1, locate_columns, 4 * loads, product)


def _row_lines(tile: TensorTile, dtype: Any, row_pitch: int) -> Any:
    itemsize = np.dtype(dtype.name).itemsize
    width, copy = BYTES // itemsize, make_copy(dtype, tile.instructions)
    across = tile.rows // width
    step = tile.threads // across
    loads = tile.depth_of(itemsize) // step

    @device
    def copy_rows(shared, start, k, stop, source):
        array, places, pitch = source
        t = u32(cuda.threadIdx.x)
        down = u32(t // u32(across))
        place = multiply_add(down, row_pitch, multiply_add(u32(t % u32(across)), width, start))
        for i in range(loads):
            at = u32(k + u32(i * step))
            wanted = u32(at + down) < stop
            to = u64(u64(place) + u64(i * step * row_pitch))
            copy(shared, to, array, multiply_add(at, pitch, places[0]), wanted)

    return copy_rows


def _tap_lines(tile: TensorTile, dtype: Any, pitch: int, loads: int) -> Any:
    itemsize = np.dtype(dtype.name).itemsize
    width, copy = BYTES // itemsize, make_copy(dtype, tile.instructions)
    across = tile.threads // tile.depth_of(itemsize)

    @device
    def copy_columns(shared, start, k, stop, source):
        array, where, gather, channels = source
        t = u32(cuda.threadIdx.x)
        n = u32(k + u32(t // u32(across)))
        image, pixel_z, pixel_y, pixel_x = position(n, gather.grid)
        place = multiply_add(u32(t // u32(across)), pitch, multiply_add(u32(t % u32(across)), width, start))
        for i in range(loads):
            z = multiply_add(pixel_z, gather.z.pixel_step, where[4 * i + 1])
            y = multiply_add(pixel_y, gather.y.pixel_step, where[4 * i + 2])
            x = multiply_add(pixel_x, gather.x.pixel_step, where[4 * i + 3])
            # The address first: the other way round, the loop has 10 % more instructions on sm_100 and sm_120.
            at = element(image, z, y, x, where[4 * i], gather, channels)
            wanted = n < stop and inside(z, y, x, gather)
            copy(shared, u64(u64(place) + u64(i * across * width)), array, at, wanted)

    return copy_columns
