"""The tile on tensor cores: halves, or floats rounded to TF32, multiplied 16 x 8 at a time and summed in float32.

Tiles come from global into shared memory by asynchronous copies of 128 bits, into one buffer while the other is
multiplied; registers hold sums and fragments only. Needs compute capability 8.0; below, and without instructions of
its own, :mod:`fastconv.cuda.tile` computes the same.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from fastconv.cuda._jit import cuda, device, types, u32, u64
from fastconv.cuda.mma import (
    await_copies,
    commit_copies,
    copy_async,
    load_matrices,
    load_transposed,
    multiply_half,
    multiply_tf32,
    rounded_tf32,
    word_of,
)
from fastconv.cuda.operands import (
    divide,
    element,
    inside,
    make_locate_pixels,
    make_locate_taps,
    multiply_add,
    position,
)
from fastconv.cuda.tile import Engine, Spread
from fastconv.cuda.vector import BYTES, lanes, opaque

CAPABILITY = (8, 0)
DEPTH = 64  # bytes of k in a tile: two steps of instructions that take 32


class TensorTile(NamedTuple):
    """The sizes of a tile, and how its warps are arranged."""

    rows: int
    columns: int
    down: int
    across: int
    blocks: int  # that a multiprocessor must have registers for

    @property
    def threads(self) -> int:
        return 32 * self.down * self.across

    def depth_of(self, itemsize: int) -> int:
        return DEPTH // itemsize


TILES = (TensorTile(128, 128, 2, 4, 2), TensorTile(64, 64, 2, 2, 4))  # largest first


def make_spread(tile: TensorTile) -> Spread:
    """Where a thread's sums are: every eighth row of its warp's part, and pairs of columns, eight apart."""
    height, width, across = tile.rows // tile.down, tile.columns // tile.across, tile.across

    @device
    def place(thread):
        warp, lane = u32(thread >> u32(5)), u32(thread & u32(31))
        row = multiply_add(u32(warp // u32(across)), height, u32(lane >> u32(2)))
        column = multiply_add(u32(warp % u32(across)), width, u32(u32(lane & u32(3)) << u32(1)))
        return row, column

    return Spread(height // 8, 1, 8, width // 4, 2, 8, place)


def make_product(tile: TensorTile, dtype: Any, copy_rows: Any, copy_columns: Any, fragments: Any, sizes: Any) -> Any:
    """A device function: acc += the products of the k from ``first`` to ``stop``; compare tile.make_product."""
    rows_size, columns_size = sizes
    size, depth = rows_size + columns_size, DEPTH // np.dtype(dtype.name).itemsize
    both, row_blocks, column_blocks = 2 * size, tile.rows // tile.down // 16, tile.columns // tile.across // 8
    column_span, a_size, b_size = 2 * column_blocks, 4 * row_blocks, 2 * column_blocks
    locate, load_a, load_b = fragments
    multiply_add_fragments = multiply_half if dtype == types.float16 else multiply_tf32

    @device
    def multiply_step(shared, acc, a, b, a_at, b_at, step):
        for i in range(row_blocks):
            four = load_a(shared, a_at, step, i)
            for e in range(4):
                a[4 * i + e] = four[e]
        for j in range(column_blocks // 2):
            four = load_b(shared, b_at, step, j)
            for e in range(4):
                b[4 * j + e] = four[e]
        for i in range(row_blocks):
            for j in range(column_blocks):
                top, bottom = 2 * i * column_span + 2 * j, (2 * i + 1) * column_span + 2 * j
                four = multiply_add_fragments(
                    (a[4 * i], a[4 * i + 1], a[4 * i + 2], a[4 * i + 3]), (b[2 * j], b[2 * j + 1]),
                    (acc[top], acc[top + 1], acc[bottom], acc[bottom + 1]),
                )  # fmt: skip
                acc[top], acc[top + 1], acc[bottom], acc[bottom + 1] = four

    @device
    def product(acc, first, stop, row_source, column_source):
        shared = cuda.shared.array(both, dtype, BYTES)
        a = cuda.local.array(a_size, types.uint32)
        b = cuda.local.array(b_size, types.uint32)
        a_at, b_at = locate(u32(cuda.threadIdx.x))
        start, k = u32(0), first
        copy_rows(shared, start, k, stop, row_source)
        copy_columns(shared, u32(rows_size), k, stop, column_source)
        commit_copies()
        while k < stop:
            await_copies()
            cuda.syncthreads()  # this buffer is there, and nobody reads the other one any more
            k = u32(k + u32(depth))
            other = u32(u32(size) - start)
            copy_rows(shared, other, k, stop, row_source)
            copy_columns(shared, u32(other + u32(rows_size)), k, stop, column_source)
            commit_copies()
            a_start, b_start = u64(u32(a_at + start)), u64(u64(u32(b_at + start)) + u64(rows_size))
            multiply_step(shared, acc, a, b, a_start, b_start, 0)  # a tile is two of these, whatever the type
            multiply_step(shared, acc, a, b, a_start, b_start, 1)
            start = other
        await_copies()

    return product


# ----------------------------------------------------------------------------- operands whose k is contiguous in memory
@cache
def convolution(tile: TensorTile, dtype: Any) -> Engine:
    """Rows are those of packed weights [row, k], columns are pixels, and k counts channels within taps."""
    itemsize = np.dtype(dtype.name).itemsize
    width, depth = BYTES // itemsize, DEPTH // itemsize
    pitch, across = depth + width, depth // width
    step, row_loads, loads = (
        tile.threads // across,
        tile.rows * across // tile.threads,
        tile.columns * across // tile.threads,
    )

    @device
    def locate_rows(places, first, row, pitch, limit):
        t = u32(cuda.threadIdx.x)
        for i in range(row_loads):
            at = min(u32(row + u32(u32(t // u32(across)) + u32(i * step))), u32(u32(limit) - u32(1)))
            places[i] = opaque(multiply_add(at, pitch, multiply_add(u32(t % u32(across)), width, first)))

    @device
    def chunk(start, i):
        t = u32(cuda.threadIdx.x)
        place = multiply_add(u32(t // u32(across)), pitch, multiply_add(u32(t % u32(across)), width, start))
        return u64(u64(place) + u64(i * step * pitch))

    @device
    def copy_rows(shared, start, k, stop, source):
        array, places, _ = source
        for i in range(row_loads):
            copy_async(shared, chunk(start, i), array, u32(places[i] + k), k < stop)

    @device
    def copy_columns(shared, start, k, stop, source):
        array, where, limit, gather, channels = source
        at = u32(u32(k // u32(width)) + u32(u32(cuda.threadIdx.x) % u32(across)))
        tap, inner = divide(at, channels.vectors)
        _, tap_z, tap_y, tap_x = position(tap, gather.taps)
        shift_z = u32(tap_z * u32(gather.z.tap_step))
        shift_y = u32(tap_y * u32(gather.y.tap_step))
        shift_x = u32(tap_x * u32(gather.x.tap_step))
        shift = element(u32(0), shift_z, shift_y, shift_x, u32(inner * u32(width)), gather, channels)
        for i in range(loads):
            z, y, x = u32(where[4 * i + 1] + shift_z), u32(where[4 * i + 2] + shift_y), u32(where[4 * i + 3] + shift_x)
            wanted = u32(at * u32(width)) < limit and inside(z, y, x, gather)
            copy_async(shared, chunk(start, i), array, u32(where[4 * i] + shift), wanted)

    sizes = tile.rows * pitch, tile.columns * pitch
    product = make_product(tile, dtype, copy_rows, copy_columns, _by_rows(tile, dtype, pitch), sizes)
    locate_columns = make_locate_pixels(loads, across, step)
    return Engine(make_spread(tile), locate_rows, row_loads, locate_columns, 4 * loads, product)


def _by_rows(tile: TensorTile, dtype: Any, pitch: int) -> tuple[Any, Any, Any]:
    """Fragments from shared memory [row, k] and [column, k]."""
    width, across, rounding = lanes(np.dtype(dtype.name)), tile.across, dtype == types.float32
    height, breadth = tile.rows // tile.down, tile.columns // tile.across

    @device
    def locate(thread):
        warp, lane = u32(thread >> u32(5)), u32(thread & u32(31))
        row = multiply_add(u32(warp // u32(across)), height, u32(lane & u32(15)))
        column = multiply_add(u32(warp % u32(across)), breadth, u32(lane & u32(7)))
        column = u32(column + u32(u32(lane >> u32(4)) << u32(3)))
        a_at = multiply_add(row, pitch, u32(u32(lane >> u32(4)) * u32(width)))
        return a_at, multiply_add(column, pitch, u32(u32(u32(lane >> u32(3)) & u32(1)) * u32(width)))

    @device
    def load(shared, at, step, i):
        four = load_matrices(shared, u64(at + u64(16 * i * pitch + step * 2 * width)))
        if rounding:
            four = rounded_tf32(four[0]), rounded_tf32(four[1]), rounded_tf32(four[2]), rounded_tf32(four[3])
        return four

    return locate, load, load


# ------------------------------------------------------------------------- operands whose rows are contiguous in memory
@cache
def correlation(tile: TensorTile, dtype: Any) -> Engine:
    """Rows are channels of a gradient, columns are channels within taps, and k counts pixels."""
    itemsize = np.dtype(dtype.name).itemsize
    width, depth = BYTES // itemsize, DEPTH // itemsize
    pad = width if dtype == types.float16 else 2 * width  # no two threads of a warp meet in a bank
    row_pitch, column_pitch = tile.rows + pad, tile.columns + pad
    row_across = tile.rows // width
    row_step, row_loads = tile.threads // row_across, depth * row_across // tile.threads
    across = tile.threads // depth
    loads = tile.columns // width // across

    @device
    def locate_rows(places, first, row, pitch, limit):
        t = u32(cuda.threadIdx.x)
        row = min(multiply_add(u32(t % u32(row_across)), width, row), u32(u32(limit) - u32(width)))
        places[0] = opaque(multiply_add(u32(t // u32(row_across)), pitch, u32(first + row)))

    @device
    def copy_rows(shared, start, k, stop, source):
        array, places, pitch = source
        t = u32(cuda.threadIdx.x)
        down = u32(t // u32(row_across))
        place = multiply_add(down, row_pitch, multiply_add(u32(t % u32(row_across)), width, start))
        for i in range(row_loads):
            at = u32(k + u32(i * row_step))
            wanted = u32(at + down) < stop
            copy_async(
                shared,
                u64(u64(place) + u64(i * row_step * row_pitch)),
                array,
                multiply_add(at, pitch, places[0]),
                wanted,
            )

    @device
    def copy_columns(shared, start, k, stop, source):
        array, where, gather, channels = source
        t = u32(cuda.threadIdx.x)
        n = u32(k + u32(t // u32(across)))
        image, pixel_z, pixel_y, pixel_x = position(n, gather.grid)
        place = multiply_add(u32(t // u32(across)), column_pitch, multiply_add(u32(t % u32(across)), width, start))
        for i in range(loads):
            z = multiply_add(pixel_z, gather.z.pixel_step, where[4 * i + 1])
            y = multiply_add(pixel_y, gather.y.pixel_step, where[4 * i + 2])
            x = multiply_add(pixel_x, gather.x.pixel_step, where[4 * i + 3])
            at = element(image, z, y, x, where[4 * i], gather, channels)
            wanted = n < stop and inside(z, y, x, gather)
            copy_async(shared, u64(u64(place) + u64(i * across * width)), array, at, wanted)

    make_fragments = _transposed_halves if dtype == types.float16 else _transposed_floats
    sizes = depth * row_pitch, depth * column_pitch
    fragments = make_fragments(tile, row_pitch, column_pitch)
    product = make_product(tile, dtype, copy_rows, copy_columns, fragments, sizes)
    locate_columns = make_locate_taps(loads, across, width)
    return Engine(make_spread(tile), locate_rows, 1, locate_columns, 4 * loads, product)


def _transposed_halves(tile: TensorTile, row_pitch: int, column_pitch: int) -> tuple[Any, Any, Any]:
    """Fragments of halves from shared memory [k, row] and [k, column]: the load transposes them."""
    across, height, breadth = tile.across, tile.rows // tile.down, tile.columns // tile.across

    @device
    def locate(thread):
        warp, lane = u32(thread >> u32(5)), u32(thread & u32(31))
        low, middle, high = u32(lane & u32(7)), u32(u32(lane >> u32(3)) & u32(1)), u32(lane >> u32(4))
        row = multiply_add(u32(warp // u32(across)), height, u32(middle << u32(3)))
        column = multiply_add(u32(warp % u32(across)), breadth, u32(high << u32(3)))
        a_at = multiply_add(u32(low + u32(high << u32(3))), row_pitch, row)
        return a_at, multiply_add(u32(low + u32(middle << u32(3))), column_pitch, column)

    @device
    def load_a(shared, at, step, i):
        return load_transposed(shared, u64(at + u64(16 * step * row_pitch + 16 * i)))

    @device
    def load_b(shared, at, step, j):
        return load_transposed(shared, u64(at + u64(16 * step * column_pitch + 16 * j)))

    return locate, load_a, load_b


def _transposed_floats(tile: TensorTile, row_pitch: int, column_pitch: int) -> tuple[Any, Any, Any]:
    """The same of floats, which that load cannot transpose; they are read one by one."""
    across, height, breadth = tile.across, tile.rows // tile.down, tile.columns // tile.across

    @device
    def locate(thread):
        warp, lane = u32(thread >> u32(5)), u32(thread & u32(31))
        row = multiply_add(u32(warp // u32(across)), height, u32(lane >> u32(2)))
        column = multiply_add(u32(warp % u32(across)), breadth, u32(lane >> u32(2)))
        k = u32(lane & u32(3))
        return multiply_add(k, row_pitch, row), multiply_add(k, column_pitch, column)

    @device
    def word(shared, at, offset):
        return rounded_tf32(word_of(shared, u64(at + u64(offset))))

    @device
    def load_a(shared, at, step, i):
        first, later = 8 * step * row_pitch + 16 * i, (8 * step + 4) * row_pitch + 16 * i
        return (
            word(shared, at, first),
            word(shared, at, first + 8),
            word(shared, at, later),
            word(shared, at, later + 8),
        )

    @device
    def load_b(shared, at, step, j):
        first, later = 8 * step * column_pitch + 16 * j, (8 * step + 4) * column_pitch + 16 * j
        return (
            word(shared, at, first),
            word(shared, at, later),
            word(shared, at, first + 8),
            word(shared, at, later + 8),
        )

    return locate, load_a, load_b
