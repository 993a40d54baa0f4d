"""The machine's peak of multiply-adds, measured by a loop that lives in registers, and its speed of copying."""

import time
from collections.abc import Callable
from functools import cache

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastconv.cpu._jit import VECTOR_BYTES, VECTOR_REGISTERS

# Independent sums: enough to hide the latency of every unit (4 cycles x 2 units, 4 x 4 on the widest cores).
_SUMS = 16 if VECTOR_REGISTERS >= 32 else 12


@intrinsic
def _multiply_add(typing_context, repeats, start, factor):  # type: ignore[no-untyped-def]
    """``sum = sum * factor + start``, ``repeats`` times on each of the independent vectors; returns their total."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        repeats, start, factor = args
        lanes = VECTOR_BYTES * 8 // signature.return_type.bitwidth
        vector = ir.VectorType(start.type, lanes)
        # fmuladd becomes one instruction where there is one, and a multiplication and an addition elsewhere.
        name = f"llvm.fmuladd.v{lanes}f{signature.return_type.bitwidth}"
        fmuladd = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name)
        undefined, lane = ir.Constant(vector, ir.Undefined), ir.IntType(32)

        def splat(scalar):  # type: ignore[no-untyped-def]
            first = builder.insert_element(undefined, scalar, ir.Constant(lane, 0))
            return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(lane, lanes), [0] * lanes))

        sums = [cgutils.alloca_once(builder, vector) for _ in range(_SUMS)]
        for index, pointer in enumerate(sums):  # all different, or the compiler would keep one of them
            builder.store(ir.Constant(vector, [float(index)] * lanes), pointer)
        start, factor = splat(start), splat(factor)
        with cgutils.for_range(builder, repeats):
            for pointer in sums:
                builder.store(builder.call(fmuladd, [builder.load(pointer), factor, start]), pointer)
        total = builder.load(sums[0])
        for pointer in sums[1:]:
            total = builder.fadd(total, builder.load(pointer))
        result = builder.extract_element(total, ir.Constant(lane, 0))
        for index in range(1, lanes):
            result = builder.fadd(result, builder.extract_element(total, ir.Constant(lane, index)))
        return result

    return start(types.intp, start, start), generate


@cache
def _loop(parallel: bool):  # type: ignore[no-untyped-def]
    @numba.njit(parallel=parallel)
    def loop(totals, repeats, start, factor):  # type: ignore[no-untyped-def]
        for worker in numba.prange(totals.size):
            totals[worker] = _multiply_add(repeats, start, factor)

    return loop


def fma_peak(
    dtype: str = "float32", threads: int = 1, seconds: float = 0.003, clock: Callable[[], float] = time.perf_counter
) -> float:
    """GFLOP/s of all ``threads`` together in one loop of at least ``seconds``."""
    kind, loop = np.dtype(dtype).type, _loop(threads > 1)
    totals = np.zeros(threads, dtype)
    start, factor = kind(0.5), kind(0.5)  # sums settle at 1: neither overflow nor denormal numbers
    loop(totals, 1, start, factor)
    repeats, elapsed = 1 << 12, 0.0
    while elapsed < seconds:
        repeats *= 4
        before = clock()
        loop(totals, repeats, start, factor)
        elapsed = clock() - before
    return threads * repeats * 2 * _SUMS * (VECTOR_BYTES // np.dtype(dtype).itemsize) / elapsed / 1e9


@cache
def _copies(parallel: bool):  # type: ignore[no-untyped-def]
    @numba.njit(parallel=parallel)
    def copies(source, target, workers):  # type: ignore[no-untyped-def]
        for worker in numba.prange(workers):
            first, last = source.size * worker // workers, source.size * (worker + 1) // workers
            target[first:last] = source[first:last]

    return copies


def copy_rate(
    moved: int, threads: int = 1, seconds: float = 0.001, clock: Callable[[], float] = time.perf_counter
) -> float:
    """GB/s, read and written together, of a copy that moves so many bytes again and again: of the cache they fit."""
    source, copies = np.ones(max(moved // 16, threads)), _copies(threads > 1)
    target = np.empty_like(source)
    copies(source, target, threads)
    count, start = 0, clock()
    while count == 0 or clock() - start < seconds:
        copies(source, target, threads)
        count += 1
    return count * 2 * source.nbytes / (clock() - start) / 1e9
