"""The micro-kernel alone, on operands in the first-level cache, beside the machine's peak."""

import time
from functools import cache

import numba
import numpy as np
from numba import njit

from fastconv.cpu._target import lanes
from fastconv.cpu.microkernel import ROWS, microkernels
from fastconv.cpu.peak import fma_peak
from fastconv.cpu.pointers import pointer

DEPTH = 96  # the panel of B is 24 KiB at most


@cache
def _loop(vectors: int):  # type: ignore[no-untyped-def]
    kernel = microkernels[vectors]

    @njit
    def loop(repeats, a, a_row, a_col, b, b_row, c):  # type: ignore[no-untyped-def]
        for _ in range(repeats):
            kernel(
                a_col.size,
                pointer(a, 0),
                pointer(a_row, 0),
                pointer(a_col, 0),
                pointer(b, 0),
                pointer(b_row, 0),
                pointer(c, 0),
                c.size // a_row.size,
                True,
            )

    return loop


def microkernel_rate(vectors: int, dtype: str, seconds: float = 0.02) -> float:
    """GFLOP/s of tiles of ``vectors`` vectors, on one thread."""
    width = vectors * lanes(np.dtype(dtype).itemsize)
    a, b, c = np.ones(ROWS * DEPTH, dtype), np.ones(DEPTH * width, dtype), np.zeros(ROWS * width, dtype)
    tables = np.arange(ROWS) * DEPTH, np.arange(DEPTH), np.arange(DEPTH) * width
    a_row, a_col, b_row = (table.astype(np.intp) for table in tables)
    loop, repeats, elapsed = _loop(vectors), 64, 0.0
    loop(1, a, a_row, a_col, b, b_row, c)
    while elapsed < seconds:
        repeats *= 2
        start = time.perf_counter()
        loop(repeats, a, a_row, a_col, b, b_row, c)
        elapsed = time.perf_counter() - start
    return repeats * 2 * ROWS * width * DEPTH / elapsed / 1e9


class MicroKernel:
    """GFLOP/s for every tile that the package generates."""

    params = ([*microkernels], ["float32", "float64"])
    param_names = ("vectors", "dtype")

    def track_rate(self, vectors: int, dtype: str) -> float:
        return float(np.median([microkernel_rate(vectors, dtype) for _ in range(5)]))

    track_rate.unit = "GF/s"  # type: ignore[attr-defined]


class Peak:
    """The peak of multiply-adds, from a loop that lives in registers."""

    params = (["float32", "float64"], [1, 2])
    param_names = ("dtype", "threads")

    def track_peak(self, dtype: str, threads: int) -> float:
        if threads > numba.config.NUMBA_NUM_THREADS:
            raise NotImplementedError("fewer cores")
        numba.set_num_threads(threads)
        return float(np.median([fma_peak(dtype, threads) for _ in range(9)]))

    track_peak.unit = "GF/s"  # type: ignore[attr-defined]
