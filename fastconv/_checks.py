"""Every argument error. Functions here return normalised values or raise before any kernel runs.

A message names the argument, what was given and what was expected. Wrong kinds raise ``TypeError``, wrong values
``ValueError``.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv._window import Window, make_window

Array = npt.NDArray[Any]

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
LIMIT = 2**62  # bytes and offsets stay far inside int64


def integer(name: str, value: Any, minimum: int) -> int:
    """``value`` as an int of at least ``minimum``; bools and floats are refused."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int, got {value!r}") from None
    if not minimum <= number < 2**31:
        raise ValueError(f"{name} must be at least {minimum} and below 2**31, got {number}")
    return number


def integers(name: str, value: Any, count: int, minimum: int) -> tuple[int, ...]:
    """One int for all ``count`` axes, or one int per axis, as a tuple."""
    if isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim == 1):
        if len(value) != count:
            raise ValueError(f"{name} must be an int or {count} ints, got {len(value)} values: {tuple(value)}")
        return tuple(integer(name, item, minimum) for item in value)
    return (integer(name, value, minimum),) * count


def padding(value: Any, count: int) -> tuple[tuple[int, int], ...] | str:
    """``padding`` as one (before, after) pair per axis, or "same" / "same_lower"."""
    if isinstance(value, str):
        if value == "valid":
            return ((0, 0),) * count
        if value not in ("same", "same_lower"):
            raise ValueError(f'padding must be ints, pairs, "valid", "same" or "same_lower", got {value!r}')
        return value
    if isinstance(value, (tuple, list)) and any(isinstance(item, (tuple, list)) for item in value):
        if len(value) != count or any(not isinstance(item, (tuple, list)) or len(item) != 2 for item in value):
            raise ValueError(f"padding must have one (before, after) pair for each of {count} axes, got {value!r}")
        return tuple((integer("padding", low, 0), integer("padding", high, 0)) for low, high in value)
    return tuple((item, item) for item in integers("padding", value, count, 0))


def array(name: str, value: Any, ndims: Sequence[int], dtypes: Sequence[np.dtype[Any]] = FLOATS) -> None:
    """``value`` (a NumPy or CUDA array) has one of these ranks and one of these dtypes."""
    if value.ndim not in ndims:
        expected = " or ".join(str(n) for n in ndims)
        raise ValueError(f"{name} must have {expected} dimensions, got {value.ndim} (shape {tuple(value.shape)})")
    if value.dtype not in dtypes:
        expected = " or ".join(str(d) for d in dtypes)
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
        expected = " or ".join(str(n) for n in ndims)
        raise ValueError(f"{name} must have {expected} entries, got {len(value)}: {tuple(value)}")
    return tuple(integer(name, item, 0) for item in value)


def output(out: Any, expected: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """``out`` can take the result: shape, dtype and writability."""
    if out is None:
        return
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a numpy.ndarray, got {type(out).__name__}")
    shape("out", out, expected)
    if out.dtype != dtype:
        raise TypeError(f"out must have dtype {dtype}, got {out.dtype}")
    if not out.flags.writeable:
        raise ValueError("out must be writable, got a read-only array")


def window(
    input_size: tuple[int, ...],
    kernel_size: tuple[int, ...],
    stride: Any,
    pad: Any,
    dilation: Any,
    ceil_mode: bool = False,
) -> Window:
    """The :class:`Window` of checked arguments; the window must fit into the padded input at least once."""
    count = len(input_size)
    strides = integers("stride", stride, count, 1)
    dilations = integers("dilation", dilation, count, 1)
    result = make_window(input_size, kernel_size, strides, padding(pad, count), dilations, bool(ceil_mode))
    if min(result.output_size) <= 0:
        axis = next(a for a in range(3) if result.output_size[a] <= 0)
        reach = result.dilation[axis] * (result.kernel_size[axis] - 1) + 1
        padded = result.input_size[axis] + result.padding_before[axis] + result.padding_after[axis]
        raise ValueError(
            f"kernel_size {kernel_size} with dilation {dilations} spans {reach} elements on spatial axis "
            f"{axis - 3 + count}, more than the padded input's {padded}"
        )
    return result
