"""What runs fastconv's kernels in tests: their PTX, interpreted, on arrays in host memory."""

from __future__ import annotations

import time
from functools import lru_cache

import numpy as np

from fastconv.cuda.arrays import Array
from tests.ptx.compile import compile_ptx, numba_type
from tests.ptx.host import HostArray, memory_of
from tests.ptx.machine import Kernel, Pointer


@lru_cache(maxsize=256)
def kernel_of(kernel, signature) -> Kernel:
    return Kernel(compile_ptx(kernel, signature))


class Interpreter:
    """An executor for :func:`fastconv.cuda._jit.running_on`; counts what it does."""

    capability = (8, 0)

    def __init__(self, **options) -> None:
        self.options = options  # of Kernel.run
        self.launches: list[str] = []
        self.streams: list[int] = []
        self.waits: list[tuple[int, set[int]]] = []
        self.compiling = self.running = 0.0  # seconds

    def launch(self, kernel, grid, block, stream, args) -> None:
        start = time.perf_counter()
        program = kernel_of(kernel, tuple(map(numba_type, args)))
        compiled = time.perf_counter()
        flat, arrays = [], []
        for value in args:
            flatten(value, flat, arrays)
        program.run(grid, block, flat, arrays, **self.options)
        self.launches.append(kernel.py_func.__name__)
        self.streams.append(stream)
        self.compiling += compiled - start
        self.running += time.perf_counter() - compiled

    def empty(self, shape, dtype, stream) -> HostArray:
        """What was there before is garbage: NaN, or a large number."""
        values = np.empty(shape, dtype)
        values.reshape(-1).view(np.uint8)[...] = 0xFF if values.dtype.kind == "f" else 0x7F
        return HostArray(values, stream)

    def view(self, array: Array) -> HostArray:
        values = np.lib.stride_tricks.as_strided(array.owner.values, array.shape, array.strides)
        return HostArray(values, array.owner.stream)

    def wait(self, stream, others) -> None:
        self.waits.append((stream, others))


def flatten(value, flat, arrays) -> None:
    """Arguments as a kernel's parameters: arrays as their descriptors, tuples as their items."""
    if isinstance(value, Array):
        arrays.append((value.pointer, memory_of(value)))
        pointer = Pointer(value.pointer)
        flat += [0, 0, value.size, value.itemsize, pointer, *value.shape, *value.strides]
    elif isinstance(value, tuple):
        for item in value:
            flatten(item, flat, arrays)
    else:
        flat.append(value)
