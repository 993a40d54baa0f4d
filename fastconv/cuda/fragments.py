"""Fragments of matrices in a warp's registers: from shared memory to tensor cores, or their products without them.

A buffer is two steps of instructions deep, whatever the type. Where k is contiguous in shared memory, or the type is
float16, four matrices of 8 x 8 words come by one instruction; floats whose rows are contiguous are read one by one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.cuda._jit import device, types, u32, u64
from fastconv.cuda.mma import load_matrices, load_transposed, multiply_half, multiply_tf32, rounded_tf32, word_of
from fastconv.cuda.operands import multiply_add
from fastconv.cuda.tensor import Fragments, Strides, TensorTile, make_spread
from fastconv.cuda.vector import lanes


def make_fragments(tile: TensorTile, dtype: Any, rows: Strides, columns: Strides) -> Fragments:
    """How to multiply operands of this type that lie in shared memory like this."""
    if not tile.instructions:
        return _elements(tile, dtype, rows, columns)
    if rows.k == 1:
        return _on_tensor_cores(tile, dtype, *_by_rows(tile, dtype, rows.line))
    transposed = _transposed_halves if dtype == types.float16 else _transposed_floats
    return _on_tensor_cores(tile, dtype, *transposed(tile, rows.k, columns.k))


def _on_tensor_cores(tile: TensorTile, dtype: Any, locate: Any, load_a: Any, load_b: Any) -> Fragments:
    row_blocks, column_blocks = tile.rows // tile.down // 16, tile.columns // tile.across // 8
    column_span = 2 * column_blocks
    multiply_fragments = multiply_half if dtype == types.float16 else multiply_tf32

    @device
    def step(shared, acc, a, b, a_at, b_at, number):
        for i in range(row_blocks):
            four = load_a(shared, a_at, number, i)
            for e in range(4):
                a[4 * i + e] = four[e]
        for j in range(column_blocks // 2):
            four = load_b(shared, b_at, number, j)
            for e in range(4):
                b[4 * j + e] = four[e]
        for i in range(row_blocks):
            for j in range(column_blocks):
                top, bottom = 2 * i * column_span + 2 * j, (2 * i + 1) * column_span + 2 * j
                four = multiply_fragments(
                    (a[4 * i], a[4 * i + 1], a[4 * i + 2], a[4 * i + 3]), (b[2 * j], b[2 * j + 1]),
                    (acc[top], acc[top + 1], acc[bottom], acc[bottom + 1]),
                )  # fmt: skip
                acc[top], acc[top + 1], acc[bottom], acc[bottom + 1] = four

    @device
    def multiply(shared, acc, a, b, a_at, b_at):
        step(shared, acc, a, b, a_at, b_at, 0)
        step(shared, acc, a, b, a_at, b_at, 1)

    return Fragments(locate, multiply, types.uint32, 4 * row_blocks, 2 * column_blocks)


# ------------------------------------------------------------------------------------------ k is contiguous, [line, k]
def _by_rows(tile: TensorTile, dtype: Any, pitch: int) -> tuple[Any, Any, Any]:
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


# ------------------------------------------------------------------------------------- rows are contiguous, [k, line]
def _transposed_halves(tile: TensorTile, row_pitch: int, column_pitch: int) -> tuple[Any, Any, Any]:
    """The load transposes them."""
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
    """That load cannot transpose words of 32 bits, which are read one by one."""
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
        at = u64(at + u64(8 * step * row_pitch + 16 * i))
        later = 4 * row_pitch
        return word(shared, at, 0), word(shared, at, 8), word(shared, at, later), word(shared, at, later + 8)

    @device
    def load_b(shared, at, step, j):
        at = u64(at + u64(8 * step * column_pitch + 16 * j))
        later = 4 * column_pitch
        return word(shared, at, 0), word(shared, at, later), word(shared, at, 8), word(shared, at, later + 8)

    return locate, load_a, load_b


# ------------------------------------------------------------------------------------------------- without instructions
def _elements(tile: TensorTile, dtype: Any, rows: Strides, columns: Strides) -> Fragments:
    """Each thread multiplies for the sums that it would have had of tensor cores."""
    row_span, _, row_step, column_span, column_group, column_step, place = make_spread(tile)
    depth, factor = tile.depth_of(np.dtype(dtype.name).itemsize), _rounded if dtype == types.float32 else types.float32

    @device
    def locate(thread):
        row, column = place(thread)
        return u32(row * u32(rows.line)), u32(column * u32(columns.line))

    @device
    def multiply(shared, acc, a, b, a_at, b_at):
        for k in range(depth):
            for i in range(row_span):
                a[i] = factor(shared[u64(a_at + u64(k * rows.k + i * row_step * rows.line))])
            for j in range(column_span):
                across = j // column_group * column_step + j % column_group
                b[j] = factor(shared[u64(b_at + u64(k * columns.k + across * columns.line))])
            for i in range(row_span):
                for j in range(column_span):
                    acc[i * column_span + j] += a[i] * b[j]

    return Fragments(locate, multiply, types.float32, row_span, column_span)


@device
def _rounded(value):
    """A float32 with the 10 bits of mantissa of TF32; compare mma.rounded_tf32."""
    bits = u32(value.view(np.uint32))
    return u32(u32(bits + u32(0x1000)) & u32(0xFFFFE000)).view(np.float32)
