"""How CUDA kernels are declared, compiled and started: the only file that imports ``numba.cuda``.

A kernel is made by a factory: a function with an ``lru_cache``, whose arguments are the constants that the kernel is
compiled for. It is decorated with :data:`kernel`, without a signature (that would compile, and look for a driver, at
import), and started with :func:`launch`. Who runs it then is the *executor*: the device, or what a test puts in its
place, such as Numba's simulator or an interpreter of PTX.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Protocol

try:
    from llvmlite import ir as ir
    from numba import cuda as cuda
    from numba.cuda import types as types
    from numba.cuda.extending import intrinsic as _intrinsic
    from numba.cuda.np.numpy_support import from_dtype as from_dtype
except Exception as error:  # with the package but no toolkit it is no ImportError that comes
    reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    raise ImportError(
        "fastconv needs Numba's CUDA package for arrays on the GPU: install fastconv[cuda12] or fastconv[cuda13], "
        f"whichever CUDA version the driver supports ({reason})"
    ) from error

import numpy as np

SIMULATED = inspect.isfunction(cuda.jit) and "argtypes" in inspect.signature(cuda.jit).parameters
INSTRUCTIONS = not SIMULATED  # whether kernels may have instructions of their own, or say the same in plain Python
u32, u64, i64 = types.uint32, types.uint64, types.int64


# --------------------------------------------------------------------------------------------------------- declarations
def _jit(**options: Any) -> Callable[..., Any]:
    """``cuda.jit`` with these options, less those that the simulator does not know."""
    if SIMULATED:
        known = inspect.signature(cuda.jit).parameters
        options = {name: value for name, value in options.items() if name in known}
    return cuda.jit(**options)  # type: ignore[no-any-return]


def kernel(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Declare a kernel; ``options`` (``max_registers``, ``launch_bounds``, ...) are those of ``numba.cuda.jit``."""
    return _jit(**options) if function is None else _jit(**options)(function)


def device(function: Callable[..., Any]) -> Any:
    """Declare a function that kernels call; LLVM decides whether it is inlined."""
    return _jit(device=True)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """Declare a function that becomes a part of its callers before they are compiled."""
    return _jit(device=True, inline=True)(function)


def intrinsic(function: Callable[..., Any]) -> Any:
    """Declare a function that emits instructions; the simulator has none, and kernels go another way there."""
    return None if SIMULATED else _intrinsic(function)


# ------------------------------------------------------------------------------------------------------------ executors
class Executor(Protocol):
    """Who runs kernels, and allocates results for arrays of a kind that has no ``empty`` of its own."""

    @property
    def capability(self) -> tuple[int, int]:
        """Major and minor number of what the instructions are chosen for."""

    def launch(self, kernel: Any, grid: tuple[int, ...], block: tuple[int, ...], stream: int, args: Any) -> None:
        """Run ``kernel`` on arrays (:class:`fastconv.cuda.arrays.Array`, flat), numbers and tuples of numbers."""

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any], stream: int) -> Any:
        """A new C-contiguous object with ``__cuda_array_interface__``."""

    def view(self, array: Any) -> Any:
        """Such an object with the shape and strides of ``array``, whose memory one of them owns."""

    def wait(self, stream: int, others: set[int]) -> None:
        """Let what comes on ``stream`` wait for what is on ``others`` now, without waiting for either here."""


class Device:
    """The GPU, on the stream of the arrays; nothing here waits for it."""

    @property
    def capability(self) -> tuple[int, int]:
        return (0, 0) if SIMULATED else tuple(cuda.get_current_device().compute_capability)  # type: ignore[return-value]

    def launch(self, kernel: Any, grid: tuple[int, ...], block: tuple[int, ...], stream: int, args: Any) -> None:
        kernel[grid, block, _stream(stream)](*args)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any], stream: int) -> Any:
        return cuda.device_array(shape, dtype, stream=_stream(stream))

    def view(self, array: Any) -> Any:
        return cuda.as_cuda_array(array, sync=False)

    def wait(self, stream: int, others: set[int]) -> None:
        for other in others:
            event = cuda.event(timing=False)
            event.record(_stream(other))
            event.wait(_stream(stream))


def _stream(pointer: int) -> Any:
    return cuda.external_stream(pointer) if pointer else cuda.default_stream()


_executor: ContextVar[Executor | None] = ContextVar("executor", default=None)
_device = Device()


def executor() -> Executor:
    """Who runs kernels now."""
    return _executor.get() or _device


def runs() -> bool:
    """Whether kernels can run: a device is there, or something in its place."""
    return _executor.get() is not None or (not SIMULATED and bool(cuda.is_available()))


@contextlib.contextmanager
def running_on(other: Executor) -> Iterator[Executor]:
    """Let ``other`` run the kernels that are launched in this block."""
    token = _executor.set(other)
    try:
        yield other
    finally:
        _executor.reset(token)


def launch(kernel: Any, grid: int | tuple[int, ...], block: int | tuple[int, ...], stream: int, *args: Any) -> None:
    """Start ``kernel`` on ``stream`` (a pointer, as arrays carry it) without waiting; an empty grid starts nothing."""
    blocks = (grid,) if isinstance(grid, int) else grid
    if min(blocks) > 0:
        executor().launch(kernel, blocks, (block,) if isinstance(block, int) else block, stream, args)


# ---------------------------------------------------------------------------------------------------------------- types
def storage_and_sum(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """The type of an array's elements in kernels, and that in which they are computed with: float32 for float16."""
    storage = from_dtype(dtype)
    return storage, types.float32 if dtype == np.float16 else storage
