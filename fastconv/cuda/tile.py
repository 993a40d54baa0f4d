"""The one tile of all matrix products: C[row, column] = sum over k of A[k, row] * B[k, column].

A block of threads computes ``rows`` x ``columns`` elements, each thread ``row_span`` x ``column_span`` of them in
registers. Operands pass through shared memory ``depth`` values of k at a time, in two buffers: while one is multiplied,
the next is on its way from global memory into registers.

A thread's rows are groups of 128 bits, so that shared loads are that wide, and neighbours in a warp have neighbouring
groups; its next group is ``rows / groups`` further. Columns likewise.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from fastconv.cuda._jit import INSTRUCTIONS, cuda, device, u32, u64
from fastconv.cuda.vector import ALIGNMENT, BYTES, opaque

PAD = BYTES  # after the columns of each k: transposing stores then meet fewer bank conflicts


class Tile(NamedTuple):
    """The sizes of a tile; see the module's text."""

    rows: int
    columns: int
    depth: int
    row_span: int
    column_span: int
    blocks: int  # that a multiprocessor must have registers for
    instructions: bool = INSTRUCTIONS

    @property
    def threads(self) -> int:
        return self.rows // self.row_span * (self.columns // self.column_span)

    def depth_of(self, itemsize: int) -> int:
        return self.depth


# Largest first. 86 % of the large tile's loop are multiply-adds, in 128 registers, so that two blocks share a
# multiprocessor; the others are for problems that would leave most of a large tile, or of the device, without work.
TILES = (Tile(128, 128, 16, 8, 8, 2), Tile(64, 64, 16, 8, 4, 4), Tile(32, 32, 16, 4, 4, 8))
DOUBLE_TILES = (Tile(128, 64, 8, 8, 4, 2), Tile(32, 32, 8, 4, 4, 8))


class Shared(NamedTuple):
    """Sizes in elements of a tile's shared memory, for a dtype of sums."""

    group: int  # elements in 128 bits
    pitch: int  # of a k of columns
    rows_size: int  # of one buffer
    columns_size: int
    row_step: int  # between a thread's groups
    column_step: int

    @classmethod
    def of(cls, tile: Tile, sum_dtype: Any) -> Shared:
        group = BYTES // np.dtype(sum_dtype.name).itemsize
        pitch = tile.columns + PAD // BYTES * group
        steps = tile.rows * group // tile.row_span, tile.columns * group // tile.column_span
        return cls(group, pitch, tile.depth * tile.rows, tile.depth * pitch, *steps)


class Spread(NamedTuple):
    """Which sums of a tile a thread has: ``span`` rows in groups of neighbours, ``step`` apart; columns likewise.

    ``place`` is a device function that gives the first row and column of a thread.
    """

    row_span: int
    row_group: int
    row_step: int
    column_span: int
    column_group: int
    column_step: int
    place: Any


class Engine(NamedTuple):
    """How a kernel multiplies: where its sums are, and device functions for its operands and their products.

    ``locate_rows`` and ``locate_columns`` fill arrays of so many words with what a thread reads.
    """

    spread: Spread
    locate_rows: Any
    row_words: int
    locate_columns: Any
    column_words: int
    product: Any


@cache
def make_spread(tile: Tile, sum_dtype: Any) -> Spread:
    """A warp is 4 threads high and 8 wide."""
    group, _, _, _, row_step, column_step = Shared.of(tile, sum_dtype)
    across = tile.columns // tile.column_span // 8

    @device
    def place(thread):
        warp, lane = u32(thread >> u32(5)), u32(thread & u32(31))
        row = u32(u32(u32(warp // u32(across)) * u32(4)) + u32(lane >> u32(3)))
        column = u32(u32(u32(warp % u32(across)) * u32(8)) + u32(lane & u32(7)))
        return u32(opaque(row) * u32(group)), u32(opaque(column) * u32(group))

    return Spread(tile.row_span, group, row_step, tile.column_span, group, column_step, place)


@cache
def make_multiply(tile: Tile, sum_dtype: Any) -> Any:
    """A device function: acc += the products of one buffer, all ``depth`` values of k."""
    group, pitch, _, _, row_step, column_step = Shared.of(tile, sum_dtype)
    rows, row_span, column_span, deep = tile.rows, tile.row_span, tile.column_span, tile.depth > 8

    @device
    def step(shared, acc, a, b, a_at, b_at):
        for i in range(row_span):
            a[i] = shared[u64(a_at + u64(i // group * row_step + i % group))]
        for j in range(column_span):
            b[j] = shared[u64(b_at + u64(j // group * column_step + j % group))]
        for i in range(row_span):
            for j in range(column_span):
                acc[i * column_span + j] += a[i] * b[j]

    @device
    def eight_steps(shared, acc, a, b, a_at, b_at):
        # Eight calls, since a loop around this much stays a loop, and registers cannot be indexed.
        step(shared, acc, a, b, a_at, b_at)
        step(shared, acc, a, b, u64(a_at + u64(rows)), u64(b_at + u64(pitch)))
        step(shared, acc, a, b, u64(a_at + u64(2 * rows)), u64(b_at + u64(2 * pitch)))
        step(shared, acc, a, b, u64(a_at + u64(3 * rows)), u64(b_at + u64(3 * pitch)))
        step(shared, acc, a, b, u64(a_at + u64(4 * rows)), u64(b_at + u64(4 * pitch)))
        step(shared, acc, a, b, u64(a_at + u64(5 * rows)), u64(b_at + u64(5 * pitch)))
        step(shared, acc, a, b, u64(a_at + u64(6 * rows)), u64(b_at + u64(6 * pitch)))
        step(shared, acc, a, b, u64(a_at + u64(7 * rows)), u64(b_at + u64(7 * pitch)))

    @device
    def multiply(shared, acc, a, b, a_at, b_at):
        eight_steps(shared, acc, a, b, a_at, b_at)
        if deep:
            eight_steps(shared, acc, a, b, u64(a_at + u64(8 * rows)), u64(b_at + u64(8 * pitch)))

    return multiply


def make_product(tile: Tile, sum_dtype: Any, row_operand: Any, column_operand: Any) -> Any:
    """A device function: acc += the products of the k from ``first`` to ``stop``, tile by tile.

    An operand is two device functions and the number of elements that a thread moves. ``fetch(values, k, stop,
    source)`` reads a tile that starts at k from global memory into a thread's ``values``, as zeros from ``stop`` on,
    and ``put(shared, start, values)`` writes them to shared memory. ``source`` is what the kernel passes through.
    """
    _, _, rows_size, columns_size, _, _ = Shared.of(tile, sum_dtype)
    depth, row_span, column_span = tile.depth, tile.row_span, tile.column_span
    size = rows_size + columns_size  # of a buffer: the rows, then the columns
    both = 2 * size
    fetch_rows, put_rows, row_values = row_operand
    fetch_columns, put_columns, column_values = column_operand
    place, multiply = make_spread(tile, sum_dtype).place, make_multiply(tile, sum_dtype)

    @device
    def product(acc, first, stop, row_source, column_source):
        shared = cuda.shared.array(both, sum_dtype, ALIGNMENT)
        a = cuda.local.array(row_span, sum_dtype)
        b = cuda.local.array(column_span, sum_dtype)
        a_next = cuda.local.array(row_values, sum_dtype)
        b_next = cuda.local.array(column_values, sum_dtype)
        a_at, b_at = place(u32(cuda.threadIdx.x))
        fetch_rows(a_next, first, stop, row_source)
        fetch_columns(b_next, first, stop, column_source)
        put_rows(shared, u32(0), a_next)
        put_columns(shared, u32(rows_size), b_next)
        cuda.syncthreads()
        start, k = u32(0), first
        while k < stop:
            k = u32(k + u32(depth))
            fetch_rows(a_next, k, stop, row_source)
            fetch_columns(b_next, k, stop, column_source)
            multiply(shared, acc, a, b, u64(u32(a_at + start)), u64(u64(u32(b_at + start)) + u64(rows_size)))
            start = u32(u32(size) - start)
            put_rows(shared, start, a_next)
            put_columns(shared, u32(start + u32(rows_size)), b_next)
            cuda.syncthreads()

    return product
