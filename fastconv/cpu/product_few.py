"""Products of few rows and a large B, which is read once, where it lies, in long runs.

The lanes run along the columns. Some rows of B at a time are added to the sums of a run of columns, which stay in L1.
Packing B, as a product of more rows does, took 62 ms for one row times 4096 x 25088 elements; reading them takes 24.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastconv.cpu._jit import flushing, internal
from fastconv.cpu.memory import empty
from fastconv.cpu.panel import SLACK
from fastconv.cpu.pointers import advance, aligned, clear, lanes_at, pointer
from fastconv.cpu.product_sums import make_cuts, store_vector
from fastconv.cpu.vector import load, store_first
from fastconv.cpu.vector_ir import INDEX, Emitter, first_lanes, load_where

FEW_ROWS = 6
LEAST_BYTES = 1 << 20  # of B: a smaller one stays in cache
RUN = 1024  # columns
TOGETHER = 8  # rows of B


def make_row_sum(count: int) -> Any:
    """For 0 <= j < columns, one multiply-add after another

        sums[j] += sum over r < count of a[r * step] * b[r * pitch + j]

    where ``sums`` has whole vectors.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def add_rows(typingctx: Any, sums: Any, columns: Any, a: Any, step: Any, b: Any, pitch: Any) -> Any:
        signature = types.void(sums, types.intp, a, types.intp, b, types.intp)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            emit = Emitter(context, builder, signature.args[0].dtype)
            sums, columns, a, step, b, pitch = args
            numbers = [ir.Constant(INDEX, r) for r in range(count)]
            factors = [emit.splat(builder.load(builder.gep(a, [builder.mul(r, step)]))) for r in numbers]
            rows = [builder.gep(b, [builder.mul(r, pitch)]) for r in numbers]
            width = ir.Constant(INDEX, emit.lanes)

            def add(start: Any, read: Any) -> None:
                place = builder.gep(sums, [start])
                total = emit.load(place)
                for factor, row in zip(factors, rows, strict=True):
                    total = emit.multiply_add(factor, read(builder.gep(row, [start])), total)
                emit.store(total, place)

            whole = builder.sdiv(columns, width)
            with cgutils.for_range(builder, whole) as loop:
                add(builder.mul(loop.index, width), emit.load)
            start = builder.mul(whole, width)
            rest, none = builder.sub(columns, start), ir.Constant(emit.vector, [0.0] * emit.lanes)
            with builder.if_then(builder.icmp_signed(">", rest, ir.Constant(INDEX, 0))):
                mask = first_lanes(builder, emit.vector, rest)
                add(start, lambda source: load_where(builder, mask, source, none, emit.size))
            return context.get_dummy_value()

        return signature, codegen

    return add_rows


_add_rows, _add_row = make_row_sum(TOGETHER), make_row_sum(1)


@flushing
def few_rows_core(worker, workers, a, b, bias, floor, c, rows, columns, depth, row_step, step):
    """C = A B for A[i, r] at ``a[i * row_step + r * step]``; every worker takes every ``workers``-th run of columns."""
    cuts = make_cuts(depth, np.int64)
    memory = empty(2 * rows * RUN + SLACK, c.dtype)
    sums = aligned(pointer(memory, 0))
    totals = advance(sums, rows * RUN)
    for run in range(worker, (columns + RUN - 1) // RUN, workers):
        column = run * RUN
        count = min(RUN, columns - column)
        clear(totals, rows * RUN)
        _add_chain(totals, a, b, rows, columns, column, count, cuts[0], cuts[1], row_step, step)
        for k in range(1, cuts.size - 1):
            clear(sums, rows * RUN)
            _add_chain(sums, a, b, rows, columns, column, count, cuts[k], cuts[k + 1], row_step, step)
            for place in range(0, rows * RUN, lanes_at(sums)):
                here, there = advance(sums, place), advance(totals, place)
                store_first(there, load(there) + load(here), lanes_at(sums))
        for i in range(rows):
            for j in range(0, count, lanes_at(totals)):
                there = pointer(c, i * columns + column + j)
                store_vector(advance(totals, i * RUN + j), bias, column + j, floor, there, count - j)


@internal
def _add_chain(sums, a, b, rows, columns, column, count, first, stop, row_step, step):
    """Add the products of rows ``first`` to ``stop`` of B to the sums of a run of columns."""
    r = first
    while r < stop:
        source, together = pointer(b, r * columns + column), stop - r >= TOGETHER
        for i in range(rows):
            factors, there = pointer(a, i * row_step + r * step), advance(sums, i * RUN)
            if together:
                _add_rows(there, count, factors, step, source, columns)
            else:
                _add_row(there, count, factors, step, source, columns)
        r += TOGETHER if together else 1
