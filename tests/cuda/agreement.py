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


PRODUCTS = {"float16": 1e-3, "float32": 2e-6, "float64": 1e-14}  # of the sum of their magnitudes


def assert_agree(function, *args, length=1, scale=1.0, products=False, **options):
    """Both backends give the same: whole numbers exactly, floats within their rounding, and NaN in the same places.

    Sums of ``products`` may differ by a part of the sum of their magnitudes, others as sums of ``length`` terms of size
    ``scale`` may.
    """
    actual, expected = items(on_cuda(function, *args, **options)), items(on_cpu(function, *args, **options))
    dtypes = {a.dtype for a in args if isinstance(a, np.ndarray) and a.dtype.kind == "f"}
    limits = _of_products(function, args, options) if products else [None] * len(actual)
    for got, want, limit in zip(map(np.asarray, actual), map(np.asarray, expected), limits, strict=True):
        assert got.shape == want.shape
        if got.dtype.kind != "f":
            np.testing.assert_array_equal(got, want)
            continue
        assert got.dtype in dtypes
        allowed = _of_sums(got.dtype, want, length, scale, dtypes) if limit is None else limit
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        with np.errstate(invalid="ignore"):  # infinity less infinity
            error = np.abs(got.astype(np.float64) - want)
        assert np.all((error <= allowed) | (got == want) | np.isnan(want)), f"largest error {np.nanmax(error)}"


def _of_sums(dtype, want, length, scale, dtypes):
    """The error that a sum of so many terms may have."""
    largest = max(scale, float(np.abs(want[np.isfinite(want)]).max(initial=0)))
    roundings = UNIT["float32" if dtype == np.float16 else dtype.name] * 4 * length
    return (roundings + max(UNIT[dtype.name] for dtype in dtypes)) * largest


def _of_products(function, args, options):
    """The same for each result of an operation that sums products of its arguments."""
    sizes = (np.abs(a) if isinstance(a, np.ndarray) else a for a in args)
    magnitudes = items(
        on_cpu(function, *sizes, **{**options, "activation": None} if "activation" in options else options)
    )
    dtype = next(a.dtype for a in args if isinstance(a, np.ndarray))
    return [PRODUCTS[dtype.name] * magnitude + 1e-6 * (dtype == np.float16) for magnitude in magnitudes]


def items(result):
    """The arrays of a result."""
    return list(result) if isinstance(result, tuple) else [result]
