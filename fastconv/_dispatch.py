"""Which backend owns the arrays of a call: the arrays decide, there is no switch.

``numpy.ndarray`` runs on the CPU. Mixing kinds raises, and nothing is copied between host and device.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from fastconv import cpu

OPTIONAL = frozenset(("bias", "out"))  # arguments that may be absent, that is, None


def backend(**arrays: Any) -> ModuleType:
    """The backend module for the arrays of one call, given by argument name."""
    for name, array in arrays.items():
        if isinstance(array, np.ndarray) or (array is None and name in OPTIONAL):
            continue
        if hasattr(array, "__cuda_array_interface__"):
            raise TypeError(f"{name} is a CUDA array; this version of fastconv computes on NumPy arrays only")
        raise TypeError(f"{name} must be a numpy.ndarray, got {type(array).__name__}")
    return cpu
