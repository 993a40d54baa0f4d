"""The public functions once more: called from compiled code, these may use several threads.

Inside a function that Numba compiles, ``fastconv.conv2d`` runs on the calling thread, so that it may stand in the
caller's own ``prange``. ``fastconv.parallel.conv2d`` is the same function for calls that stand in none: it takes as
many threads as a call from Python would, up to ``numba.get_num_threads()``. Inside a ``prange`` it too runs on the
calling thread. Called from Python the two are alike.

Examples
--------
>>> import numba
>>> import numpy as np
>>> import fastconv as fc
>>> import fastconv.parallel as fcp
>>> @numba.njit
... def features(images, weight):
...     return fc.relu(fcp.conv2d(images, weight, padding=1))
>>> features(np.ones((8, 3, 32, 32), np.float32), np.ones((4, 3, 3, 3), np.float32)).shape
(8, 4, 32, 32)
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, Any

import fastconv
from fastconv import _compiled

if TYPE_CHECKING:
    from fastconv import *  # noqa: F403


def _twin(function: Any) -> Callable[..., Any]:
    """Another function of the same code: what tells the two apart in compiled code is which one is named."""
    parts = function.__name__, function.__defaults__, function.__closure__
    twin = FunctionType(function.__code__, function.__globals__, *parts)
    twin.__dict__.update(function.__dict__)
    for name in ("__kwdefaults__", "__doc__", "__annotations__"):
        setattr(twin, name, getattr(function, name))
    twin.__module__ = __name__
    return twin


_twins = {name: _twin(getattr(fastconv, name)) for name in _compiled.callable_names()}
globals().update(_twins)
_compiled.register(_twins.values(), threads=True)
__all__ = list(_twins)
