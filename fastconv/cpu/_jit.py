"""How CPU kernels are compiled, cached and run on threads: the only file that knows.

A kernel is a plain function ``core(worker, workers, *args)`` that does the share of ``worker`` out of ``workers`` of
the work; it is decorated with :func:`compiled` and started with :func:`launch`, which decides between the serial core
and a ``prange`` over the workers. Kernels split work so that no result depends on the number of workers.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import tempfile
import threading
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import caching
from numba.core.registry import cpu_target
from numba.misc.appdirs import AppDirs
from numba.np.ufunc import parallel as _parallel

# "contract" allows a fused multiply-add and nothing else: NaN, inf, signed zeros and the order of sums stay as written.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
_INTERNAL: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


# ---------------------------------------------------------------------------------------------------------- the target
def _vector_unit() -> tuple[int, int, bool]:
    """Bytes of a vector register, number of them, and whether multiply-add is one instruction.

    Read from the target that Numba compiles for, so ``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` count.
    """
    triple, _, flags = cpu_target.target_context.codegen().magic_tuple()
    features = {flag[1:] for flag in flags.split(",") if flag.startswith("+")}
    if not triple.startswith(("x86_64", "i686", "i386")):
        return 16, 32, True  # NEON and its like
    if "avx512f" in features:
        return 64, 32, True
    if "avx" in features:
        return 32, 16, "fma" in features
    return 16, 16, "fma" in features


def _l2_bytes() -> int:
    """Bytes of a core's L2 cache; 512 KiB where the system does not say."""
    try:
        text = pathlib.Path("/sys/devices/system/cpu/cpu0/cache/index2/size").read_text().strip()
        return int(text.removesuffix("K")) << 10
    except (OSError, ValueError):
        return 512 << 10


VECTOR_BYTES, VECTOR_REGISTERS, HAS_FMA = _vector_unit()
L2_BYTES = _l2_bytes()


# ------------------------------------------------------------------------------------------------------------ the cache
_KERNELS = pathlib.Path(__file__).parent  # what is kept is compiled from this folder's sources, and from no others


def _cache_directory() -> pathlib.Path | None:
    """A writable directory that belongs to exactly these sources, this Numba and this CPU; None switches caching off.

    Numba's own key holds neither callees in other files nor compiler flags; here the sources' hash covers all of them.
    """
    setting = os.environ.get("FASTCONV_CACHE_DIR")
    if setting == "":
        return None
    magic = cpu_target.target_context.codegen().magic_tuple()
    digest = hashlib.sha256(repr((numba.__version__, llvmlite.__version__, np.__version__, magic)).encode())
    for source in sorted(_KERNELS.rglob("*.py")):
        digest.update(source.read_bytes())
    try:
        root = pathlib.Path(setting) if setting else pathlib.Path(AppDirs("fastconv", appauthor=False).user_cache_dir)
        directory = root / digest.hexdigest()[:20]
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return directory
    except (OSError, RuntimeError) as error:
        warnings.warn(f"fastconv compiles anew in every process: its cache is not writable ({error})", stacklevel=2)
        return None


CACHE_DIRECTORY = _cache_directory()


class _Locator(caching._CacheLocator):  # type: ignore[misc]
    """Keeps compiled code in :data:`CACHE_DIRECTORY`; its name already says which sources it came from."""

    def __init__(self, py_func: Callable[..., Any], py_file: str) -> None:
        pass

    def get_cache_path(self) -> str:
        return str(CACHE_DIRECTORY)

    def get_source_stamp(self) -> str:
        return "sources are hashed in the path"

    def get_disambiguator(self) -> str | None:
        return None

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> _Locator:
        return cls(py_func, py_file)


class _CacheImpl(caching.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = (_Locator,)


class _Cache(caching.FunctionCache):  # type: ignore[misc]
    _impl_class = _CacheImpl

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        # Closure cells are left out of the key: a driver's cell holds its core, whose pickle differs in every process.
        return sig, codegen.magic_tuple()


def _njit(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    dispatcher = numba.njit(no_cfunc_wrapper=True, **_OPTIONS, **options)(function)
    if CACHE_DIRECTORY is not None and _KERNELS in pathlib.Path(function.__code__.co_filename).parents:
        dispatcher._cache = _Cache(function)
    return dispatcher  # type: ignore[no-any-return]


# -------------------------------------------------------------------------------------------- decorators and the launch
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a kernel that Python starts, on first use; kept on disk."""
    return _njit(function)


def internal(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function for kernels to call. Python cannot call it, which spares the compiler two wrappers."""
    return numba.njit(**_INTERNAL, **_OPTIONS)(function)  # type: ignore[no-any-return]


def merged(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function as a part of its one caller: LLVM optimises a function anew at every level of calls."""
    return numba.njit(inline="always", **_INTERNAL, **_OPTIONS)(function)  # type: ignore[no-any-return]


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a small function that disappears into its callers."""
    return numba.njit(forceinline=True, **_INTERNAL, **_OPTIONS)(function)  # type: ignore[no-any-return]


@cache
def _driver(core: Any) -> Callable[..., Any]:
    """The parallel form of ``core``: one prange over workers around the same compiled code."""

    def driver(workers, *args):  # type: ignore[no-untyped-def]
        for worker in numba.prange(workers):
            core(np.int64(worker), workers, *args)  # prange counts in uint64: the core would be compiled again

    name = f"{core.py_func.__module__.rpartition('.')[2]}_{core.py_func.__name__}_parallel"
    driver.__name__ = driver.__qualname__ = name
    return _njit(driver, parallel=True)


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
