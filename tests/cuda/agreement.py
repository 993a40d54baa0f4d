"""Runs an operation on both backends: the CPU's on NumPy arrays, the CUDA one's PTX on stand-ins, interpreted."""

from __future__ import annotations

import numpy as np

from fastconv.cuda import _jit
from tests.ptx import UNIT
from tests.ptx.executor import HostArray, Interpreter


def on_cuda(function, *args, executor=None, **options):
    """What ``function`` gives for the same arguments as CUDA arrays, as NumPy arrays."""
    with _jit.running_on(executor or Interpreter()):
        return to_host(function(*map(to_cuda, args), **{name: to_cuda(value) for name, value in options.items()}))


def to_cuda(value):
    return HostArray(value) if isinstance(value, np.ndarray) else value


def to_host(value):
    if isinstance(value, HostArray):
        return value.values
    return type(value)(*map(to_host, value)) if isinstance(value, tuple) else value


def on_cpu(function, *args, **options):
    """The same on the CPU, which computes float16 in float32."""
    return function(*map(_wide, args), **options)


def _wide(value):
    return value.astype(np.float32) if isinstance(value, np.ndarray) and value.dtype == np.float16 else value


def assert_agree(function, *args, length=1, scale=1.0, **options):
    """Both backends give the same: whole numbers exactly, floats as sums of ``length`` terms of size ``scale`` may
    differ, and NaN in the same places; results have the memory order that the CPU gives them."""
    actual, expected = on_cuda(function, *args, **options), on_cpu(function, *args, **options)
    dtypes = {a.dtype for a in args if isinstance(a, np.ndarray) and a.dtype.kind == "f"}
    unit = max(UNIT[dtype.name] for dtype in dtypes)
    for got, want in zip(map(np.asarray, items(actual)), map(np.asarray, items(expected)), strict=True):
        assert got.shape == want.shape
        if got.dtype.kind != "f":
            np.testing.assert_array_equal(got, want)
            continue
        assert got.dtype in dtypes
        largest = max(scale, float(np.abs(want[np.isfinite(want)]).max(initial=0)))
        roundings = UNIT["float32" if got.dtype == np.float16 else got.dtype.name] * 4 * length
        np.testing.assert_allclose(got.astype(np.float64), want, rtol=0, atol=(roundings + unit) * largest)
    return actual


def items(result):
    """The arrays of a result."""
    return list(result) if isinstance(result, tuple) else [result]
