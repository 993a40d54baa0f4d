"""What can be said about this machine and about what has been compiled on it."""

from __future__ import annotations

import platform
from typing import Any

import llvmlite
import numba
import numpy as np

from fastconv.cpu import _cache, _jit, _target


def describe() -> dict[str, Any]:
    """Versions, processor, vectors, threads and cache."""
    triple, processor, features = _target.magic()
    folder = _cache.directory()
    kept = [] if folder is None or not folder.is_dir() else [path.stat().st_size for path in folder.glob("*.nbc")]
    return {
        "python": f"{platform.python_version()} on {triple}",
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "numpy": np.__version__,
        "processor": processor,
        "vector bytes": _target.VECTOR_BYTES,
        "vector registers": _target.VECTOR_REGISTERS,
        "fused multiply-add": _target.HAS_FMA,
        "features": " ".join(name[1:] for name in features.split(",") if name.startswith("+")),
        "L2 bytes": _target.L2_BYTES,
        "threads": threads(),
        "threading layer": _jit._layer() or f"{numba.config.THREADING_LAYER}, not started",
        "cache": "off" if folder is None else str(folder),
        "cache files": len(kept),
        "cache bytes": sum(kept),
    }


def threads() -> int:
    """The threads that a large call of this thread uses."""
    return int(numba.get_num_threads())


def compilations() -> int:
    """How many compilations this process has made, not counting what it has loaded."""
    return sum(sum(kernel.stats.cache_misses.values()) for kernel in _jit.kernels)
