"""Which backend owns the arrays of a call: the arrays decide, there is no switch.

``numpy.ndarray`` runs on the CPU. Mixing kinds raises, and nothing is copied between host and device.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from fastconv import cpu


def backend(**arrays: Any) -> ModuleType:
    """The backend module for the arrays of one call, given by argument name; None stands for an absent argument."""
    for name, array in arrays.items():
        if array is None or isinstance(array, np.ndarray):
            continue
        if hasattr(array, "__cuda_array_interface__"):
            raise TypeError(f"{name} is a CUDA array; this version of fastconv computes on NumPy arrays only")
        raise TypeError(f"{name} must be a numpy.ndarray, got {type(array).__name__}")
    return cpu
