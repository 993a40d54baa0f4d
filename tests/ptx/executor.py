"""What runs fastconv's kernels in tests: their PTX, interpreted, on arrays in host memory."""

from __future__ import annotations

import time
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastconv.cuda.arrays import Array
from tests.ptx.compile import compile_ptx, numba_type
from tests.ptx.machine import Kernel, Pointer


class HostArray:
    """A stand-in for a CUDA array: the interface of one, with its memory on the host."""

    def __init__(self, values: Any, stream: int | None = None) -> None:
        self.values = values if isinstance(values, np.ndarray) else np.asarray(values)
        self.stream = stream

    shape = property(lambda self: self.values.shape)
    dtype = property(lambda self: self.values.dtype)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        interface = self.values.__array_interface__
        names = ("shape", "strides", "typestr", "data")
        return {name: interface[name] for name in names} | {"version": 3, "stream": self.stream}


def memory_of(array: Array) -> np.ndarray:
    """The bytes of a flat array whose pointer is one of the host."""

    interface = array.__cuda_array_interface__ | {"shape": (array.nbytes,), "typestr": "|u1"}
    return np.asarray(SimpleNamespace(__array_interface__=interface))


@lru_cache(maxsize=256)
def kernel_of(kernel, signature) -> Kernel:
    return Kernel(compile_ptx(kernel, signature))


class Interpreter:
    """An executor for :func:`fastconv.cuda._jit.running_on`; counts what it does."""

    capability = (8, 0)

    def __init__(self, checked: bool = True) -> None:
        self.checked = checked
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
            _flatten(value, flat, arrays)
        program.run(grid, block, flat, arrays, self.checked)
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


def _flatten(value, flat, arrays) -> None:
    """Arguments as a kernel's parameters: arrays as their descriptors, tuples as their items."""
    if isinstance(value, Array):
        arrays.append((value.pointer, memory_of(value)))
        pointer = Pointer(value.pointer)
        flat += [0, 0, value.size, value.itemsize, pointer, *value.shape, *value.strides]
    elif isinstance(value, tuple):
        for item in value:
            _flatten(item, flat, arrays)
    else:
        flat.append(value)
