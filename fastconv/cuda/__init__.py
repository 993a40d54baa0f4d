"""The CUDA backend: the operations of ``fastconv.cpu`` for arrays on the GPU, under the same names.

Importing this module costs nothing and needs no CUDA package. An operation is loaded when it is first asked for, and
that raises an ``ImportError`` which says what to install where the package is missing.
"""

from __future__ import annotations

import importlib
from typing import Any

from fastconv.cuda._precision import precision as precision

_MODULES = {
    "conv": (
        "conv_forward",
        "conv_backward_input",
        "conv_backward_weight",
        "conv_backward_bias",
        "conv_transpose_forward",
    ),
    "linear": ("linear_forward", "linear_backward_input", "linear_backward_weight", "linear_backward_bias"),
    "activation": ("leaky_relu_backward", "leaky_relu_forward", "relu_backward", "relu_forward"),
    "loss": ("cross_entropy_backward", "cross_entropy_forward"),
    "softmax": ("log_softmax_backward", "log_softmax_forward", "softmax_backward", "softmax_forward"),
    "pool_lp": ("lp_pool_backward", "lp_pool_forward"),
    "pool_max": (
        "global_max_pool_backward",
        "global_max_pool_forward",
        "max_pool_backward",
        "max_pool_forward",
        "max_unpool_backward",
        "max_unpool_forward",
    ),
    "pool_sum": (
        "global_avg_pool_backward",
        "global_avg_pool_forward",
        "sum_pool_backward",
        "sum_pool_forward",
    ),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def is_available() -> bool:
    """Whether CUDA arrays can be computed on here: Numba's CUDA package, a driver and a device are there.

    Returns
    -------
    bool
        False where something is missing; nothing is raised.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.cuda.is_available() in (True, False)
    True
    """
    try:
        return bool(importlib.import_module("fastconv.cuda._jit").runs())
    except Exception:  # a broken installation raises all kinds
        return False


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"fastconv.cuda.{_HOME[name]}"), name)
