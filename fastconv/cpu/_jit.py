"""How CPU kernels are compiled and run on threads; :mod:`_cache` keeps them on disk, :mod:`_parts` joins functions.

A kernel is a plain function ``core(worker, workers, *args)`` that does the share of ``worker`` out of ``workers`` of
the work; it is decorated with :func:`compiled` and started with :func:`launch`, which decides between the serial core
and a ``prange`` over the workers. Kernels split work so that no result depends on the number of workers.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
from numba.np.ufunc import parallel as _parallel

from fastconv.cpu import _cache, _parts
from fastconv.cpu._target import HAS_FMA as HAS_FMA
from fastconv.cpu._target import L2_BYTES as L2_BYTES
from fastconv.cpu._target import VECTOR_BYTES as VECTOR_BYTES
from fastconv.cpu._target import VECTOR_REGISTERS as VECTOR_REGISTERS

# "contract" allows a fused multiply-add and nothing else: NaN, inf, signed zeros and the order of sums stay as written.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
_INTERNAL: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_PART: dict[str, Any] = {"pipeline_class": _parts.Part, **_INTERNAL, **_OPTIONS}


def _njit(function: Callable[..., Any], source: Callable[..., Any], part: str = "", **options: Any) -> Any:
    """The function, compiled on first use; kept on disk where ``source``, which it is made of, is a kernel of ours."""
    dispatcher = numba.njit(no_cfunc_wrapper=True, **_OPTIONS, **options)(function)
    if _cache.is_kept(source):
        dispatcher._cache = _cache.Compilations(source, part)
    return dispatcher


# -------------------------------------------------------------------------------------------- decorators and the launch
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a kernel that Python starts, on first use; kept on disk."""
    return _njit(function, function, pipeline_class=_parts.Kernel)  # type: ignore[no-any-return]


def internal(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function for kernels to call, as a part of theirs; Python cannot call it."""
    return numba.njit(**_PART)(function)  # type: ignore[no-any-return]


def separate(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function for kernels to call, optimised alone: some loops are not vectorised inside of larger ones."""
    return numba.njit(**_INTERNAL, **_OPTIONS)(function)  # type: ignore[no-any-return]


def merged(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function as a part of its one caller."""
    return numba.njit(forceinline=True, **_PART)(function)  # type: ignore[no-any-return]


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a small function that disappears into its callers."""
    return numba.njit(forceinline=True, **_PART)(function)  # type: ignore[no-any-return]


@cache
def _driver(core: Any) -> Callable[..., Any]:
    """The parallel form of ``core``: one prange over workers around the same compiled code."""

    def driver(workers, *args):  # type: ignore[no-untyped-def]
        for worker in numba.prange(workers):
            core(np.int64(worker), workers, *args)  # prange counts in uint64: the core would be compiled again

    name = f"{core.py_func.__module__.rpartition('.')[2]}_{core.py_func.__name__}_parallel"
    driver.__name__ = driver.__qualname__ = name
    return _njit(driver, core.py_func, "-parallel", parallel=True)  # type: ignore[no-any-return]


_entry = threading.Lock()
_forked_with_layer = False


def _after_fork() -> None:
    global _forked_with_layer, _entry
    _entry = threading.Lock()
    _forked_with_layer = _parallel._is_initialized


os.register_at_fork(after_in_child=_after_fork)


def _layer() -> str | None:
    return numba.threading_layer() if _parallel._is_initialized else None


def launch(core: Any, tasks: int, *args: Any) -> None:
    """Run ``core(worker, workers, *args)`` for every worker, on at most ``tasks`` threads.

    The serial core runs instead where threads would end the process: in a forked child whose parent had started an
    OpenMP team, and where a second thread enters Numba's workqueue layer, which does not allow it.
    """
    if tasks <= 1:  # asking for the number of threads and their layer costs as much as a small kernel
        core(0, 1, *args)
        return
    workers, layer = min(numba.get_num_threads(), tasks), _layer()
    if workers <= 1 or (_forked_with_layer and layer == "omp"):
        core(0, 1, *args)
    elif layer in ("omp", "tbb"):
        _driver(core)(workers, *args)
    elif _entry.acquire(blocking=False):
        try:
            _driver(core)(workers, *args)
        finally:
            _entry.release()
    else:
        core(0, 1, *args)
