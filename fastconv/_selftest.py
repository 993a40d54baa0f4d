"""Every operation against NumPy, on this machine."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import fastconv
from fastconv._samples import samples

TOLERANCES = {"float32": 3e-5, "float64": 1e-12}  # shares of the largest value; Winograd's promise in float32


class Result(NamedTuple):
    """One operation with one dtype: the largest error of its calls, or what was raised."""

    operation: str
    dtype: str
    error: float
    passed: bool
    message: str


def selftest(cuda: bool = False) -> Iterator[Result]:
    """The results of all operations, one after the other; on CUDA arrays if asked for."""
    there, back = _transfers() if cuda else (_same, _same)
    for dtype, tolerance in TOLERANCES.items():
        errors: dict[str, list[float | str]] = {}
        for sample in samples(dtype):
            errors.setdefault(sample.operation, []).append(_error(sample, there, back))
        for operation, found in errors.items():
            messages = [item for item in found if isinstance(item, str)]
            error = max((item for item in found if not isinstance(item, str)), default=np.inf)
            yield Result(operation, dtype, error, not messages and error <= tolerance, "; ".join(messages))


def _error(sample: Any, there: Callable[[Any], Any], back: Callable[[Any], Any]) -> float | str:
    options = {name: there(value) for name, value in sample.options.items()}
    try:
        result = getattr(fastconv, sample.operation)(*map(there, sample.arguments), **options)
        return float(sample.error(tuple(map(back, result)) if isinstance(result, tuple) else back(result)))
    except Exception as error:  # a self-test tells, whatever it is
        return f"{type(error).__name__}: {error}"


def _same(value: Any) -> Any:
    return value


def _transfers() -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """To the device and back."""
    device = importlib.import_module("fastconv.cuda._jit").cuda

    def there(value: Any) -> Any:
        return device.to_device(value) if isinstance(value, np.ndarray) else value

    def back(value: Any) -> Any:
        return value.copy_to_host() if hasattr(value, "copy_to_host") else value

    return there, back
