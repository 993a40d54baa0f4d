"""Sums of whole planes, in an order that only the shape decides: global averages.

An array is seen as (batch, rows, columns, run); the result is (batch, columns). A block sums a part of it; there are
more parts than one where there are few results, and a second kernel adds these up.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from fastconv.cuda import layout
from fastconv.cuda._jit import cuda, kernel, launch, storage_and_sum, u32
from fastconv.cuda.arrays import Array, empty
from fastconv.cuda.elements import THREADS, each, element
from fastconv.cuda.folds import folds

ACROSS = 32  # columns of a block where their elements are neighbours
BLOCKS = 2048  # several for each multiprocessor of the largest devices


@lru_cache(maxsize=16)
def _sum_runs(dtype: np.dtype[Any]) -> Any:
    """The kernel for runs: neighbouring threads read neighbours of a run."""
    _, value = storage_and_sum(dtype)
    _, fold = folds(THREADS)

    @kernel
    def sum_runs(x, partial, rows, columns, run, parts, results):
        """A block for each result and part; x is (batch, rows, columns, run)."""
        shared = cuda.shared.array(THREADS, value)
        t, block = u32(cuda.threadIdx.x), u32(cuda.blockIdx.x)
        part = u32(block // u32(results))
        result = u32(block - u32(part * u32(results)))
        image = u32(result // u32(columns))
        column = u32(result - u32(image * u32(columns)))
        elements = u32(u32(rows) * u32(run))
        total, k = value(0), u32(u32(part * u32(THREADS)) + t)
        while k < elements:
            row = u32(k // u32(run))
            line = u32(u32(u32(u32(image * u32(rows)) + row) * u32(columns)) + column)
            total += value(x[u32(u32(line * u32(run)) + u32(k - u32(row * u32(run))))])
            following = u32(k + u32(u32(parts) * u32(THREADS)))
            k = following if following > k else elements  # past 2**32 it would begin again
        total = fold(shared, total)
        if t == u32(0):
            partial[block] = total

    return sum_runs


@lru_cache(maxsize=16)
def _sum_columns(dtype: np.dtype[Any]) -> Any:
    """The kernel for runs of one: neighbouring threads read neighbouring columns."""
    _, value = storage_and_sum(dtype)

    @kernel
    def sum_columns(x, partial, rows, columns, tiles, parts, results):
        """A block for each batch, tile of columns and part; x is (batch, rows, columns)."""
        shared = cuda.shared.array(THREADS, value)
        t, rest = u32(cuda.threadIdx.x), u32(cuda.blockIdx.x)
        tile = u32(rest % u32(tiles))
        rest = u32(rest // u32(tiles))
        part = u32(rest % u32(parts))
        image = u32(rest // u32(parts))
        across, down = u32(t % u32(ACROSS)), u32(t // u32(ACROSS))
        column = u32(u32(tile * u32(ACROSS)) + across)
        total = value(0)
        if column < u32(columns):
            row = u32(u32(part * u32(THREADS // ACROSS)) + down)
            while row < u32(rows):
                total += value(x[u32(u32(u32(u32(image * u32(rows)) + row) * u32(columns)) + column)])
                following = u32(row + u32(u32(parts) * u32(THREADS // ACROSS)))
                row = following if following > row else u32(rows)
        shared[t] = total
        width = u32(THREADS // 2)
        while width >= u32(ACROSS):
            cuda.syncthreads()
            if t < width:
                shared[t] += shared[u32(t + width)]
            width = u32(width >> u32(1))
        if t < u32(ACROSS) and column < u32(columns):
            partial[u32(u32(part * u32(results)) + u32(u32(image * u32(columns)) + column))] = shared[t]

    return sum_columns


@lru_cache(maxsize=16)
def _sum_parts(dtype: np.dtype[Any]) -> Any:
    storage, value = storage_and_sum(dtype)

    @kernel
    def sum_parts(partial, result, parts, divisor, count):
        """result = (sum of parts) / divisor."""
        i = element()
        if i < u32(count):
            total = value(0)
            for part in range(parts):
                total += partial[u32(u32(u32(part) * u32(count)) + i)]
            result[i] = storage(total / value(divisor))

    return sum_parts


def sum_of(x: Array, shape: tuple[int, int, int, int], result_shape: tuple[int, ...], divisor: float) -> Array:
    """Flat ``x`` of this shape, summed over its second and fourth axis, over ``divisor``."""
    batch, rows, columns, run = shape
    result = empty(x, result_shape, x.dtype)
    results = batch * columns
    sums = np.dtype(np.float32) if x.dtype == np.float16 else x.dtype
    if run > 1:
        parts = max(1, min(BLOCKS // max(results, 1), -(-rows * run // (16 * THREADS))))
        partial = empty(x, (parts * results,), sums)
        arguments = (x, partial, rows, columns, run, parts, results)
        launch(_sum_runs(x.dtype), parts * results, THREADS, x.stream, *arguments)
    else:
        tiles = -(-columns // ACROSS)
        parts = max(1, min(BLOCKS // max(batch * tiles, 1), -(-rows * ACROSS // (16 * THREADS))))
        partial = empty(x, (parts * results,), sums)
        arguments = (x, partial, rows, columns, tiles, parts, results)
        launch(_sum_columns(x.dtype), batch * parts * tiles, THREADS, x.stream, *arguments)
    flat = layout.flat(result, tuple(range(result.ndim)))
    each(_sum_parts(x.dtype), result, partial, flat, parts, float(divisor), results)
    return result
