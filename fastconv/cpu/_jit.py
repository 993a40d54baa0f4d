"""How CPU kernels are compiled and run on threads; :mod:`_cache` keeps them on disk, :mod:`_parts` joins functions.

A kernel is a plain function ``core(worker, workers, *args)`` that does the share of ``worker`` out of ``workers`` of
the work; it is decorated with :func:`compiled` and started with :func:`launch`, which decides between one worker and
several on threads (:mod:`_workers`). Kernels split work so that no result depends on the number of workers.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import threading
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import numba
import numpy as np
from numba.core import config
from numba.core.ccallback import CFunc
from numba.extending import typeof_impl
from numba.np.ufunc import parallel as _parallel

from fastconv.cpu import _cache, _flush, _parts, _workers
from fastconv.cpu._target import HAS_FMA as HAS_FMA
from fastconv.cpu._target import L2_BYTES as L2_BYTES
from fastconv.cpu._target import VECTOR_BYTES as VECTOR_BYTES
from fastconv.cpu._target import VECTOR_REGISTERS as VECTOR_REGISTERS

Made = TypeVar("Made")

# "contract" allows a fused multiply-add and nothing else: NaN, inf, signed zeros and the order of sums stay as written.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
_INTERNAL: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_PART: dict[str, Any] = {"pipeline_class": _parts.Part, **_INTERNAL, **_OPTIONS}


# -------------------------------------------------------------------------------------------- decorators and the launch
kernels: list[Any] = []  # all that Python may start


class _Function:
    """A function that is Numba's from its first use on: to make all of them at once is a third of an import."""

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        self._function, self._options = function, options

    def _make(self) -> Any:
        return numba.njit(**self._options)(self._function)

    def __getattr__(self, name: str) -> Any:
        """The ``dispatcher`` that Numba compiles it with, and what that has."""
        if name == "dispatcher":
            return vars(self).setdefault(name, self._make())  # the same for all threads, without a lock of its own
        return getattr(self.dispatcher, name)


class Kernel(_Function):
    """A kernel, with its ``core`` or without workers; kept on disk where the function is ours."""

    def __init__(self, function: Callable[..., Any], core: Any) -> None:
        super().__init__(function, {"no_cfunc_wrapper": True, "pipeline_class": _parts.Kernel, **_OPTIONS})
        self._core = core

    def _make(self) -> Any:
        function = self._function
        kernel: Any = numba.njit(**self._options)(
            function if self._core is None else _workers.with_workers(self._core, function)
        )
        if _cache.is_kept(function):
            kernel._cache = _cache.Compilations(function)
        return kernel

    def __call__(self, *args: Any) -> Any:
        return self.dispatcher(*args)


@typeof_impl.register(_Function)  # type: ignore[untyped-decorator]
def _type_of(function: _Function, context: Any) -> Any:
    return typeof_impl(function.dispatcher, context)


def _later(function: Callable[..., Any], **options: Any) -> Any:
    return function if config.DISABLE_JIT else _Function(function, options)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a kernel that Python starts, on first use; kept on disk."""
    return _kernel(function, internal(function) if "worker" in function.__code__.co_varnames[:1] else None)


def flushing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a kernel of sums and products, which takes denormal numbers for zeros; else like :func:`compiled`."""
    return _kernel(function, _later(function, **{**_PART, "pipeline_class": _flush.FlushingPart}))


def _kernel(function: Callable[..., Any], core: Any) -> Callable[..., Any]:
    if config.DISABLE_JIT:
        return function if core is None else _workers.with_workers(core, function)
    kernel = Kernel(function, core)
    if _cache.is_kept(function):
        kernels.append(kernel)
    return kernel


def internal(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function for kernels to call, as a part of theirs; Python cannot call it."""
    return _later(function, **_PART)  # type: ignore[no-any-return]


def separate(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function for kernels to call, optimised alone: some loops are not vectorised inside of larger ones."""
    return _later(function, **_INTERNAL, **_OPTIONS)  # type: ignore[no-any-return]


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function that disappears into its callers: a small one, or one with a single caller."""
    return _later(function, forceinline=True, **_PART)  # type: ignore[no-any-return]


def c_function(signature: Any) -> Callable[[Callable[..., Any]], Callable[[], Any]]:
    """Compile a function of C's calling convention, when it is asked for; kept on disk."""

    def decorate(function: Callable[..., Any]) -> Callable[[], Any]:
        @cache
        def compile_it() -> Any:
            compiled: Any = CFunc(function, (signature.args, signature.return_type), {}, dict(_OPTIONS), _parts.Kernel)
            if _cache.is_kept(function):
                compiled._cache = _cache.Compilations(function, "-c")
            compiled.compile()
            return compiled

        return compile_it

    return decorate


class _Thread(threading.local):
    """What holds for the calling thread."""

    alone = False  # whether it starts no others
    recording: Any = None  # takes down what is launched and what arrays are made


_thread = _Thread()


class on_calling_thread:
    """A context in which this thread's launches start no other threads, if ``alone``."""

    def __init__(self, alone: bool) -> None:
        self.alone, self.before = alone, False

    def __enter__(self) -> None:
        self.before = _thread.alone
        _thread.alone = self.before or self.alone

    def __exit__(self, *error: object) -> None:
        _thread.alone = self.before


# ----------------------------------------------------------------------------------------- what a recording has to know
class recorded:
    """A context in which launches on this thread are taken down."""

    def __init__(self, recording: Any) -> None:
        self.recording = recording

    def __enter__(self) -> None:
        _thread.recording, self.alone, _thread.alone = self.recording, _thread.alone, True

    def __exit__(self, *error: object) -> None:
        _thread.recording, _thread.alone = None, self.alone


def made(array: Made, *, cleared: bool = False) -> Made:
    """``array``, new and of no particular contents, or cleared; all other arrays are the caller's, or kept for good."""
    if _thread.recording is not None:
        _thread.recording.made(array, cleared)
    return array


def scalar(array: Any) -> Any:
    """The only element of an array."""
    if _thread.recording is not None:
        _thread.recording.scalar = array
    return array[0]


def flag() -> Any:
    """A number that kernels set where they refuse their arguments."""
    array = np.zeros(1, np.int64)
    if _thread.recording is not None:
        _thread.recording.flag(array)
    return array


def once(reason: str) -> None:
    """What happens now outside of kernels, another call must not take for granted."""
    if _thread.recording is not None:
        _thread.recording.refuse(reason)


def done(core: Any, *args: Any) -> None:
    """The same was done by NumPy as ``core`` would do."""
    if _thread.recording is not None:
        core(0, 1, *args)
        _thread.recording.launch(core, args)


_entry = threading.Lock()
_forked_with_layer = False


def _after_fork() -> None:
    global _forked_with_layer, _entry
    _entry = threading.Lock()
    _forked_with_layer = _parallel._is_initialized


os.register_at_fork(after_in_child=_after_fork)


def _layer() -> str | None:
    return numba.threading_layer() if _parallel._is_initialized else None


def in_parallel_region() -> bool:
    """Whether the calling thread does the work of a ``prange``, where starting threads would nest them.

    OpenMP says so. The other layers' work is done by threads that Python does not know.
    """
    if _layer() == "omp":
        return any(in_parallel() for in_parallel in _omp_in_parallel())
    return threading.get_ident() not in [thread.ident for thread in threading.enumerate()]


@cache
def _omp_in_parallel() -> list[Any]:
    """Of the OpenMP that Numba was linked with, and of one that came before it, as PyTorch brings its own for all."""
    places = importlib.import_module("numba.np.ufunc.omppool").__file__, None
    return [library.omp_in_parallel for library in map(ctypes.CDLL, places) if hasattr(library, "omp_in_parallel")]


_ONE_WORKER = (0, 1)


def launch(core: Any, tasks: int, *args: Any) -> None:
    """Run ``core(worker, workers, *args)`` for every worker, on at most ``tasks`` threads.

    The serial core runs instead where threads would end the process or hang it: in a forked child whose parent had
    started a team of OpenMP, or was inside TBB, whose locks nobody opens in the child; and where a second thread enters
    Numba's workqueue layer, which does not allow it.
    """
    core = getattr(core, "dispatcher", core)
    if (recording := _thread.recording) is not None:
        recording.launch(core, args)
    if tasks <= 1 or _thread.alone:  # asking for the number of threads and their layer costs as much as a small kernel
        core(*(_ONE_WORKER + args))  # faster than unpacking the arguments behind two others
        return
    workers, layer = min(numba.get_num_threads(), tasks), _layer()
    together = layer in ("omp", "tbb")  # of several threads at once
    if workers <= 1 or (_forked_with_layer and together):
        core(0, 1, *args)
    elif together:
        start(core, workers, args)
    elif _entry.acquire(blocking=False):
        try:
            start(core, workers, args)
        finally:
            _entry.release()
    else:
        core(0, 1, *args)


def start(core: Any, workers: int, args: tuple[Any, ...]) -> None:
    """Run all workers on Numba's threads."""
    core(*_workers.all_workers(workers), *args)
