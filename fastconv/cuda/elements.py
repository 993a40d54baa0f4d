"""Kernels with one thread for each element."""

from __future__ import annotations

from typing import Any

from fastconv.cuda._jit import cuda, device, launch, u32
from fastconv.cuda.arrays import Array

THREADS = 256  # of a block


@device
def element():
    """The element of this thread."""
    return u32(u32(u32(cuda.blockIdx.x) * u32(THREADS)) + u32(cuda.threadIdx.x))


def each(kernel: Any, result: Array, *args: Any) -> None:
    """Start ``kernel(*args)`` with a thread for each element of ``result``; there may be more threads than that."""
    launch(kernel, -(-result.size // THREADS), THREADS, result.stream, *args)
