"""Which backend owns the arrays of a call: the arrays decide, there is no switch.

``numpy.ndarray`` runs on the CPU, an array on a CUDA device on that device. Mixing kinds raises, and nothing is copied
between host and device.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

import numpy as np

from fastconv import cpu, cuda

P = ParamSpec("P")
R = TypeVar("R")

OPTIONAL = frozenset(("bias", "out"))  # arguments that may be absent, that is, None


class CudaArrayError(TypeError):
    """An operation met a CUDA array as its library made it; :func:`operation` answers it."""


def backend(**arrays: Any) -> ModuleType:
    """The backend module for the arrays of one call, given by argument name."""
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) and (array is not None or name not in OPTIONAL):
            return _other_backend(name, arrays)
    return cpu


def operation(function: Callable[P, R]) -> Callable[P, R]:
    """Let ``function``, which asks for its :func:`backend` before all else, take CUDA arrays of any library.

    They go in as :class:`fastconv.cuda.arrays.Array`, and results come out as the caller's library makes them.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except CudaArrayError:
            arrays = importlib.import_module("fastconv.cuda.arrays")
        return arrays.call(function, args, kwargs)  # type: ignore[no-any-return]

    return call


def _other_backend(first: str, arrays: dict[str, Any]) -> ModuleType:
    """The CUDA backend, if all arrays are its own; ``first`` is the first that is no ``numpy.ndarray``."""
    module = importlib.import_module("fastconv.cuda.arrays")
    given = {name: array for name, array in arrays.items() if array is not None or name not in OPTIONAL}
    on_device = {name: isinstance(array, module.Array) or module.is_cuda(array) for name, array in given.items()}
    if all(isinstance(array, module.Array) for array in given.values()):
        return cuda
    if not on_device[first]:
        raise TypeError(f"{first} must be a numpy.ndarray, got {type(arrays[first]).__name__}")
    for name, array in given.items():
        if not on_device[name]:
            raise TypeError(
                f"{name} must be a CUDA array as {first} is, got {type(array).__name__}; nothing is copied between "
                "host and device"
            )
    raise CudaArrayError(f"{first} is a CUDA array; this takes NumPy arrays only")
