"""Which products go to tensor cores.

They multiply float16 exactly and sum in float32, so float16 always goes there. Of float32 they read 10 of 23 bits of
the mantissa (TF32); that is for the caller to choose.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np

PRECISIONS = ("float32", "tf32")

_precision: ContextVar[str] = ContextVar("precision", default="float32")


@contextlib.contextmanager
def precision(value: str) -> Iterator[None]:
    """How convolution and dense layers multiply float32 arrays on the GPU, within a ``with`` block.

    Parameters
    ----------
    value : {"float32", "tf32"}
        "float32", as without this function, rounds nothing but sums. "tf32" rounds the factors of each product to 10
        bits of mantissa, which tensor cores then multiply, and sums in float32; a result's relative error is up to
        about ``2**-10`` of the sum of its terms' magnitudes. float64 and float16 are not concerned, nor is the CPU, nor
        are devices without tensor cores for TF32 (compute capability below 8.0).

    Yields
    ------
    None

    Raises
    ------
    ValueError
        If the value is another one.

    Examples
    --------
    >>> import fastconv as fc
    >>> with fc.cuda.precision("tf32"):
    ...     pass  # y = fc.conv2d(x, weight) of CUDA arrays
    """
    if value not in PRECISIONS:
        raise ValueError(f'value must be "float32" or "tf32", got {value!r}')
    token = _precision.set(value)
    try:
        yield
    finally:
        _precision.reset(token)


def on_tensor_cores(dtype: np.dtype[Any]) -> bool:
    """Whether products of this dtype go to tensor cores here and now."""
    wanted = dtype == np.float16 or (dtype == np.float32 and _precision.get() == "tf32")
    if not wanted:
        return False
    from fastconv.cuda import _jit

    return _jit.executor().capability >= (8, 0)
