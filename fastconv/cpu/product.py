"""Products of matrices around the micro-kernel: what dense layers are made of.

    C[i, j] = sum over r of A[i, r] * B[r, j], plus a bias along either axis, then ReLU

The lanes run along j. B is packed block of lanes by block, part of the sum by part, into L2; A is read where it lies if
r is its fastest axis, and streams through the caches: one element of six rows a step is what memory delivers. The same
product with A and B changing places writes C transposed. That is how few rows meet a large B: it is read once, in
place.

What is read in place may be 16-bit floats, as integers: rows that are about to be used become float32 in L2.

A sum runs in chains of r whose number depends on the depth alone, so that all of these ways give the same bits.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastconv.cpu import layout
from fastconv.cpu._jit import L2_BYTES, compiled, flushing, inlined, internal, launch, made
from fastconv.cpu._target import lanes
from fastconv.cpu.memory import empty
from fastconv.cpu.microkernel import MAX_VECTORS, ROWS, tile
from fastconv.cpu.panel import SLACK, transpose_run
from fastconv.cpu.plan import WORK
from fastconv.cpu.pointers import advance, aligned, clear, copy, lanes_at, pointer
from fastconv.cpu.product_few import FEW_ROWS, LEAST_BYTES, few_rows_core
from fastconv.cpu.product_rows import row_at, wide_elements, widen_rows
from fastconv.cpu.product_sums import CHAIN, make_cuts, store_vector
from fastconv.cpu.shares import MOVE, NO_MOVE, share_at, share_boxes
from fastconv.cpu.transpose import transpose
from fastconv.cpu.vector import load_first, splat, store_first
from fastconv.cpu.weights import block_lanes, make_lanes

PANEL_BYTES = min(max(L2_BYTES // 2, 192 << 10), 1 << 20)  # of packed B; A and C stream by
MANY_ROWS = 128  # above these, a part of B is used for long enough to hide the wait for the next one
SUMS_BYTES = 384 << 10  # of the sums that wait for the next part of the depth
AHEAD = 8  # rows of B that are prefetched ahead of their use
TRANSPOSE = 12  # multiply-adds that take as long as one element's transpose
TOGETHER = 16  # tiles of A that are packed side by side, so that whole cache lines are read


# ------------------------------------------------------------------------------------------------------------- the core
class Product(NamedTuple):
    """Sizes and orders; ``across`` says for B that r is its fastest axis, for C that i is."""

    rows: Any
    columns: Any
    depth: Any
    a_packed: Any  # in tiles: [tile][r][row]
    b_across: Any
    c_across: Any
    part: Any  # chains whose B is packed at a time
    wide: Any  # lanes of such a panel
    chunk: Any  # rows whose sums are formed before they are stored


@flushing
def product_core(
    worker, workers, a, b, bias, floor, c, rows, columns, depth, a_packed, b_across, c_across, part, wide, chunk
):
    """C = A B; every worker takes every ``workers``-th panel, or some rows of one.

    ``bias`` has whole vectors along the fastest axis of C, or is empty: then there is no ReLU either.
    """
    sizes = Product(rows, columns, depth, a_packed, b_across, c_across, part, wide, chunk)
    width, panels, tiles = lanes_at(pointer(b, 0)), (columns + wide - 1) // wide, (rows + ROWS - 1) // ROWS
    scratch = _make_scratch(b, sizes, width, wide_elements(a, chunk * depth))
    chains = scratch.cuts.size - 1
    shares = share_boxes(panels, tiles, 1, rows / MOVE, NO_MOVE, workers)
    for number in range(worker, shares.items, workers):
        item = share_at(shares, number, workers)
        panel, start, stop = item.index * wide, item.first * ROWS, min(rows, item.last * ROWS)
        along = make_lanes(min(wide, columns - panel), width)
        for first in range(start, stop, chunk):
            last = min(stop, first + chunk)
            widen_rows(a, first * depth, (last - first) * depth, scratch.wide)
            for chain in range(0, chains, part):
                until = min(chain + part, chains)
                if first == start or part < chains:
                    _pack_panel(b, sizes, along, panel, scratch.cuts[chain], scratch.cuts[until], scratch)
                for block in range(along.blocks):
                    lane, pitch, count = block_lanes(along, block)
                    straight = first  # rows before this one go straight to C: whole tiles that nothing is done to
                    if bias.size == 0 and part >= chains and not c_across and count == pitch:
                        straight = last if last < rows else last - (last - first) % ROWS
                        into = pointer(c, first * columns + panel + lane)
                        _multiply(a, sizes, lane, pitch, first, first, straight, chain, until, scratch, into, columns)
                    if straight < last:
                        into = aligned(pointer(scratch.sums, 0))
                        if part < chains:
                            into = advance(into, lane * (chunk + ROWS))
                        _multiply(a, sizes, lane, pitch, first, straight, last, chain, until, scratch, into, pitch)
                        if until == chains:
                            _store(into, pitch, count, bias, floor, c, sizes, straight, last, panel + lane, scratch)


class Scratch(NamedTuple):
    """A worker's own memory."""

    panel: Any  # packed B: [block][r][lane]
    sums: Any  # [block][row][lane]
    cuts: Any  # where the chains of r begin, and where the last one ends
    rows: Any  # where the rows of a tile start in A, and of the last tile
    summands: Any  # where the summands lie in a row of A
    places: Any  # [vectors]: where the rows of a block of as many vectors start in the panel
    vectors: Any  # where the vectors of a row start in the panel, and how far they are from row to row
    square: Any
    wide: Any  # rows of A in float32, where it has 16-bit floats


@internal
def _make_scratch(b, sizes, width, widened):
    cuts = make_cuts(sizes.depth, np.int64)
    chains = cuts.size - 1
    deep = (sizes.depth + chains - 1) // chains * min(sizes.part, chains)
    kept = sizes.wide if sizes.part < chains else MAX_VECTORS * width
    rows, summands = empty(2 * ROWS, np.int64), empty(sizes.depth + 1, np.int64)
    for k in range(2 * ROWS):
        row = k % ROWS if k < ROWS else min(k % ROWS, (sizes.rows - 1) % ROWS)  # rows beyond the last one repeat it
        rows[k] = k % ROWS if sizes.a_packed else row * sizes.depth
    for r in range(summands.size):
        summands[r] = r * ROWS if sizes.a_packed else r
    places = empty((MAX_VECTORS + 1) * (deep + width), np.int64)
    for vectors in range(MAX_VECTORS + 1):
        for r in range(deep + width):
            places[vectors * (deep + width) + r] = vectors * width * r
    return Scratch(
        empty(deep * sizes.wide + SLACK, b.dtype), empty((sizes.chunk + ROWS) * kept + SLACK, b.dtype), cuts,
        rows, summands, places, empty(2 * (sizes.wide // width), np.int64), empty(width * width + SLACK, b.dtype),
        empty(widened + 1, b.dtype),
    )  # fmt: skip


@inlined
def _places(scratch, pitch, width):
    return pointer(scratch.places, pitch // width * (scratch.places.size // (MAX_VECTORS + 1)))


@internal
def _pack_panel(b, sizes, along, column, start, stop, scratch):
    """B[start:stop] for all blocks of lanes from ``column`` on."""
    panel, vectors, width = aligned(pointer(scratch.panel, 0)), scratch.vectors, along.width
    for block in range(along.blocks):
        lane, pitch, count = block_lanes(along, block)
        target = advance(panel, lane * (stop - start))
        if sizes.b_across:
            if count < pitch:
                clear(target, (stop - start) * pitch)
            source = pointer(b, (column + lane) * sizes.depth + start)
            transpose_run(source, sizes.depth, count, target, _places(scratch, pitch, width), stop - start, 0)
        for k in range(0, pitch, width):
            v = 2 * ((lane + k) // width)
            vectors[v], vectors[v + 1] = lane * (stop - start) + k, pitch
    if not sizes.b_across:  # all blocks of a row: long runs are what memory is fast at
        zero = splat(panel, 0.0)
        for r in range(stop - start):
            source = pointer(b, (start + r) * sizes.columns + column)
            for v in range(along.vectors):
                target = advance(panel, vectors[2 * v] + r * vectors[2 * v + 1])
                store_first(target, load_first(advance(source, v * width), along.channels - v * width, zero), width)


@internal
def _multiply(a, sizes, lane, pitch, base, first, stop, chain, until, scratch, into, into_pitch):
    """Add some chains of the packed panel to the sums of rows ``first`` to ``stop``, which start at ``into``."""
    width, cuts = lanes_at(into), scratch.cuts
    start, places = cuts[chain], _places(scratch, pitch, width)
    panel = advance(aligned(pointer(scratch.panel, 0)), lane * (cuts[until] - start))
    for i in range(first, stop, ROWS):
        rows = pointer(scratch.rows, 0 if i + ROWS <= sizes.rows else ROWS)
        for k in range(chain, until):
            tile(
                pitch // width, cuts[k + 1] - cuts[k],
                row_at(a, scratch.wide, i * sizes.depth, base * sizes.depth), rows,
                pointer(scratch.summands, cuts[k]), panel, advance(places, cuts[k] - start), AHEAD * pitch,
                advance(into, (i - first) * into_pitch), into_pitch, k > 0,
            )  # fmt: skip


@internal
def _store(sums, pitch, count, bias, floor, c, sizes, row, stop, column, scratch):
    """C[i, column + j] = max(sums[i - row, j] + bias, floor) for row <= i < stop, j < count."""
    width, rows = lanes_at(sums), stop - row
    if not sizes.c_across:
        for i in range(rows):
            there, here = pointer(c, (row + i) * sizes.columns + column), advance(sums, i * pitch)
            for j in range(0, count, width):
                store_vector(advance(here, j), bias, column + j, floor, advance(there, j), count - j)
        return
    square, to = aligned(pointer(scratch.square, 0)), _places(scratch, width, width)
    for i in range(0, rows, width):
        for j in range(0, count, width):
            transpose(advance(sums, i * pitch + j), pitch, min(width, rows - i), square, to)
            for q in range(min(width, count - j)):
                there = pointer(c, (column + j + q) * sizes.rows + row + i)
                store_vector(advance(square, q * width), bias, row + i, floor, there, rows - i)


@compiled
def pack_rows_core(worker, workers, a, packed, rows, depth):
    """packed[tile][r][k] = a[r, tile * ROWS + k]; rows beyond the last are not written."""
    groups = (rows + TOGETHER * ROWS - 1) // (TOGETHER * ROWS)
    for group in range(worker, groups, workers):
        first, stop = group * TOGETHER * ROWS, min(rows, (group + 1) * TOGETHER * ROWS)
        whole = stop - stop % ROWS
        for r in range(depth):
            for i in range(first, whole, ROWS):
                copy(pointer(packed, i * depth + r * ROWS), pointer(a, r * rows + i), ROWS)
            for i in range(whole, stop):
                packed[whole * depth + r * ROWS + i - whole] = a[r * rows + i]


# ------------------------------------------------------------------------------------------------------------ in Python
NO_BIAS = {np.dtype(dtype): layout.read_only(np.empty(0, dtype)) for dtype in (np.float32, np.float64)}


class Way(NamedTuple):
    """How a product is computed, see :class:`Product`."""

    swapped: bool  # lanes along the rows of the result
    part: int
    wide: int
    chunk: int


@lru_cache(maxsize=256)
def choose_way(rows: int, columns: int, depth: int, itemsize: int, a_across: bool, b_across: bool) -> Way:
    """The way of fewer multiply-adds, among them what moving elements costs; and the sizes of its parts."""
    straight = _cost(rows, columns, depth, itemsize, a_across, b_across, False)
    swapped = _cost(columns, rows, depth, itemsize, not b_across, not a_across, True) < straight
    if swapped:
        rows, columns, b_across = columns, rows, not a_across
    width = lanes(itemsize)
    block, padded, chains = MAX_VECTORS * width, -(-columns // width) * width, max(1, -(-depth // CHAIN))
    deep = -(-depth // chains)
    fits = depth * min(block, padded) * itemsize <= PANEL_BYTES
    # Few rows hide no wait for B: there it is read in runs as long as a panel is wide (45 % of the peak, not 37 %).
    whole = fits and (b_across or padded <= block or rows > MANY_ROWS)
    # A narrow B is packed as deep as there is room: 1.5 KB of a row at a time is half as fast as memory delivers.
    most = chains if whole else max(1, PANEL_BYTES // (deep * padded * itemsize)) if padded <= block else 1
    part = -(-chains // -(-chains // most))
    wide = min(max(PANEL_BYTES // (max(deep, 1) * part * itemsize) // block, 1) * block, padded)
    if whole:
        return Way(swapped, part, wide, 48 if swapped else 2 * ROWS)
    return Way(swapped, part, wide, max(SUMS_BYTES // (wide * itemsize) // 48, 1) * 48)


def _cost(rows: int, columns: int, depth: int, itemsize: int, a_across: bool, b_across: bool, c_across: bool) -> int:
    width = lanes(itemsize)
    multiplied = -(-rows // ROWS) * ROWS * -(-columns // width) * width * depth
    return multiplied + TRANSPOSE * (a_across * rows * depth + b_across * columns * depth + c_across * rows * columns)


def reads_in_place(rows: int, columns: int, depth: int) -> bool:
    """Whether :func:`multiply` reads ``b`` in place, r being its fastest axis: then it may have 16-bit floats."""
    return choose_way(rows, columns, depth, 4, False, True).swapped


def _flat(x: Any, prefer_across: bool) -> tuple[Any, bool]:
    """A matrix as a flat view in memory order, and whether its first axis is the fastest."""
    across = x.flags.f_contiguous and (prefer_across or not x.flags.c_contiguous)
    return layout.read_only(x.T if across else x), across


def multiply(a: Any, b: Any, result: Any, bias: Any = None, relu: bool = False) -> None:
    """result = a @ b, where there is a bias plus that, then ReLU; a and b in any order, result contiguous.

    A bias has one element for every column and ends in whole vectors.
    """
    (rows, depth), columns = a.shape, b.shape[1]
    (a_flat, a_across), (b_flat, b_across) = _flat(a, False), _flat(b, True)
    way = choose_way(rows, columns, depth, result.itemsize, a_across, b_across)
    bias, floor = NO_BIAS[result.dtype] if bias is None else bias, result.dtype.type(0 if relu else -np.inf)
    tasks = max(1, rows * columns * depth >> WORK)
    if rows <= FEW_ROWS and not b_across and b.nbytes >= LEAST_BYTES:
        steps = (1, rows) if a_across else (depth, 1)
        c = layout.flat_target(result, False)
        launch(few_rows_core, tasks, a_flat, b_flat, bias, floor, c, rows, columns, depth, *steps)
        return
    if way.swapped:
        rows, columns, a_flat, b_flat = columns, rows, b_flat, a_flat
        a_across, b_across = not b_across, not a_across
    if a_across:  # of floats: 16-bit ones are read in place alone, see reads_in_place
        packed = made(np.zeros((-(-rows // ROWS) * ROWS) * depth, result.dtype), cleared=True)
        launch(pack_rows_core, rows * depth >> 16, a_flat, packed, rows, depth)
        a_flat = layout.read_only(packed)
    launch(
        product_core, tasks, a_flat, b_flat, bias, floor,
        layout.flat_target(result, False), rows, columns, depth, a_across, b_across, *way,
    )  # fmt: skip
