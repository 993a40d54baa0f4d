"""Stand-ins for CUDA arrays, with their memory on the host."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from fastconv.cuda.arrays import Array


class HostArray:
    """The interface of a CUDA array, on a NumPy array."""

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
