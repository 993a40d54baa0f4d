"""The tile on tensor cores: halves, or floats rounded to TF32, multiplied 16 x 8 at a time and summed in float32.

Tiles come from global into shared memory by asynchronous copies of 128 bits, into one buffer while the other is
multiplied; registers hold sums and fragments only. :mod:`fastconv.cuda.tensor_operands` copies, and
:mod:`fastconv.cuda.fragments` multiplies. Needs compute capability 8.0; below, :mod:`fastconv.cuda.tile` computes the
same. A tile without instructions of its own copies and multiplies element by element, between the same barriers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastconv.cuda._jit import INSTRUCTIONS, cuda, device, u32, u64
from fastconv.cuda.mma import await_copies, commit_copies
from fastconv.cuda.operands import multiply_add
from fastconv.cuda.tile import Spread
from fastconv.cuda.vector import ALIGNMENT

DEPTH = 64  # bytes of k in a tile: two steps of instructions that take 32


class TensorTile(NamedTuple):
    """The sizes of a tile, and how its warps are arranged."""

    rows: int
    columns: int
    down: int
    across: int
    blocks: int  # that a multiprocessor must have registers for
    instructions: bool = INSTRUCTIONS

    @property
    def threads(self) -> int:
        return 32 * self.down * self.across

    def depth_of(self, itemsize: int) -> int:
        return DEPTH // itemsize


TILES = (TensorTile(128, 128, 2, 4, 2), TensorTile(64, 64, 2, 2, 4))  # largest first


class Strides(NamedTuple):
    """How an operand lies in shared memory: elements from one row, or column, to the next, and from k to k."""

    line: int
    k: int


class Fragments(NamedTuple):
    """How a warp multiplies what is in shared memory.

    ``locate`` says where a thread's operands begin, and ``multiply`` adds the products of one buffer to its sums by way
    of arrays of so many ``words`` for each operand.
    """

    locate: Any
    multiply: Any
    word: Any
    row_words: int
    column_words: int


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


def make_product(
    tile: TensorTile, dtype: Any, copies: tuple[Any, Any], fragments: Fragments, sizes: tuple[int, int]
) -> Any:
    """A device function: acc += the products of the k from ``first`` to ``stop``; compare tile.make_product.

    ``copies`` bring rows and columns of a tile into a buffer, where they have ``sizes``.
    """
    (copy_rows, copy_columns), (rows_size, columns_size) = copies, sizes
    size, depth = rows_size + columns_size, tile.depth_of(np.dtype(dtype.name).itemsize)
    both, (locate, multiply, word, row_words, column_words) = 2 * size, fragments
    commit, wait = (commit_copies, await_copies) if tile.instructions else (_nothing, _nothing)

    @device
    def product(acc, first, stop, row_source, column_source):
        shared = cuda.shared.array(both, dtype, ALIGNMENT)
        a = cuda.local.array(row_words, word)
        b = cuda.local.array(column_words, word)
        a_at, b_at = locate(u32(cuda.threadIdx.x))
        start, k = u32(0), first
        copy_rows(shared, start, k, stop, row_source)
        copy_columns(shared, u32(rows_size), k, stop, column_source)
        commit()
        while k < stop:
            wait()
            cuda.syncthreads()  # this buffer is there, and nobody reads the other one any more
            k = u32(k + u32(depth))
            other = u32(u32(size) - start)
            copy_rows(shared, other, k, stop, row_source)
            copy_columns(shared, u32(other + u32(rows_size)), k, stop, column_source)
            commit()
            multiply(shared, acc, a, b, u64(u32(a_at + start)), u64(u64(u32(b_at + start)) + u64(rows_size)))
            start = other
        wait()

    return product


@device
def _nothing():
    pass
