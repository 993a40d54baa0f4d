"""Arrays, shapes, and arrays for results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv._checks.numbers import LIMIT, integer

Array = npt.NDArray[Any]

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
FLOAT16 = np.dtype(np.float16)  # stored, summed in float32; where it is taken, so is bfloat16, known by its name
STORED = (FLOAT16, *FLOATS)
INTEGERS = tuple(np.dtype(f"{kind}{size}") for kind in ("int", "uint") for size in (8, 16, 32, 64))


def array(name: str, value: Any, ndims: Sequence[int], dtypes: Sequence[np.dtype[Any]] = STORED) -> None:
    """``value`` (a NumPy or CUDA array) has one of these ranks and one of these dtypes."""
    if value.ndim not in ndims:
        expected = " or ".join(str(n) for n in sorted(ndims))
        raise ValueError(f"{name} must have {expected} dimensions, got {value.ndim} (shape {tuple(value.shape)})")
    if value.dtype not in dtypes and not (FLOAT16 in dtypes and value.dtype.name == "bfloat16"):
        *others, last = (*(str(d) for d in dtypes), *(["bfloat16"] if FLOAT16 in dtypes else []))
        expected = f"{', '.join(others)} or {last}" if others else last
        raise TypeError(f"{name} must have dtype {expected}, got {value.dtype}")


def same_dtype(name: str, value: Any, reference_name: str, reference: Any) -> None:
    if value.dtype != reference.dtype:
        raise TypeError(f"{name} must have the dtype of {reference_name}, {reference.dtype}, got {value.dtype}")


def shape(name: str, value: Any, expected: tuple[int, ...]) -> None:
    if tuple(value.shape) != expected:
        raise ValueError(f"{name} must have shape {expected}, got {tuple(value.shape)}")


def shape_argument(name: str, value: Any, ndims: Sequence[int]) -> tuple[int, ...]:
    """A whole shape given as an argument (``input_shape``, ``weight_shape``)."""
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{name} must be a tuple of ints, got {value!r}")
    if len(value) not in ndims:
        expected = " or ".join(str(n) for n in sorted(ndims))
        raise ValueError(f"{name} must have {expected} entries, got {len(value)}: {tuple(value)}")
    # The usual numbers are told apart here: to call a function for each takes as long as pooling small arrays does.
    return tuple([n if type(n) is int and 0 <= n < LIMIT else integer(name, n, 0) for n in value])


def output(out: Any, expected: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """``out`` can take the result: shape, dtype and writability."""
    if out is None:
        return
    shape("out", out, expected)
    if out.dtype != dtype:
        raise TypeError(f"out must have dtype {dtype}, got {out.dtype}")
    if not out.flags.writeable:
        raise ValueError("out must be writable, got a read-only array")
    if not out.flags.c_contiguous and _overlaps_itself(out):
        raise ValueError(f"out must have a place for every element, got shape {expected} with strides {out.strides}")


def _overlaps_itself(array: Any) -> bool:
    """Whether elements may share memory: an axis steps less far than the ones inside of it reach."""
    reach = array.dtype.itemsize
    for step, size in sorted((abs(step), size) for step, size in zip(array.strides, array.shape, strict=True)):
        if size > 1 and step < reach:
            return bool(array.size > 0)
        reach += step * (size - 1)
    return False


def linear(x: Any, weight: Any) -> tuple[int, ...]:
    """Input and weight of a dense layer fit; the shape of its result."""
    if x.ndim < 1:
        raise ValueError(f"x must have at least 1 dimension, got 0 (shape {x.shape})")
    array("x", x, (x.ndim,))
    array("weight", weight, (2,))
    same_dtype("weight", weight, "x", x)
    if x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"x must have weight.shape[1] = {weight.shape[1]} elements on its last axis, got {x.shape[-1]} "
            f"(shape {tuple(x.shape)})"
        )
    return (*x.shape[:-1], weight.shape[0])
