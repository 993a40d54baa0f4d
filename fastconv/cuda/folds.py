"""What the threads of a block have, folded to one value in an order that their number decides."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fastconv.cuda._jit import cuda, device, u32


@lru_cache(maxsize=64)
def folds(width: int) -> tuple[Any, Any]:
    """Functions ``fold(shared, mine)`` to the maximum, NaN not counted, and to the sum over ``width`` threads each."""
    if width == 1:
        return _itself, _itself
    return _fold(_larger, width), _fold(_sum, width)


def _fold(combine: Any, width: int) -> Any:
    @device
    def fold(shared, mine):
        t = u32(cuda.threadIdx.x)
        lane, half = u32(t % u32(width)), u32(width // 2)
        cuda.syncthreads()
        shared[t] = mine
        while half > u32(0):
            cuda.syncthreads()
            if lane < half:
                shared[t] = combine(shared[t], shared[u32(t + half)])
            half = u32(half >> u32(1))
        cuda.syncthreads()
        return shared[u32(t - lane)]

    return fold


@device
def _larger(mine, other):
    return other if other > mine else mine


@device
def _sum(mine, other):
    return mine + other


@device
def _itself(shared, mine):
    return mine
