"""Every argument error. Functions here return normalised values or raise before any kernel runs.

A message names the argument, what was given and what was expected. Wrong kinds raise ``TypeError``, wrong values
``ValueError``.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv._window import LONGEST_ROW, Pairs, Window, is_dense_3x3, is_row, make_window

Array = npt.NDArray[Any]

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
FLOAT16 = np.dtype(np.float16)  # stored, summed in float32; where it is taken, so is bfloat16, known by its name
STORED = (FLOAT16, *FLOATS)
INTEGERS = tuple(np.dtype(f"{kind}{size}") for kind in ("int", "uint") for size in (8, 16, 32, 64))
ALGORITHMS = ("auto", "direct", "winograd", "fft")
LIMIT = 2**31  # of one size or step; sums and products of a few of them stay inside int64
ELEMENTS = 2**47  # of one padded image; more than a process can address


# ---------------------------------------------------------------------------------------------- ints, sizes and options
def integer(name: str, value: Any, minimum: int) -> int:
    """``value`` as an int of at least ``minimum``; bools and floats are refused."""
    if type(value) is int and minimum <= value < LIMIT:  # the usual case, and this runs often
        return value
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int, got {value!r}") from None
    if not minimum <= number < LIMIT:
        raise ValueError(f"{name} must be at least {minimum} and below 2**31, got {number}")
    return number


def integers(name: str, value: Any, count: int, minimum: int) -> tuple[int, ...]:
    """One int for all ``count`` axes, or one int per axis, as a tuple."""
    if isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim == 1):
        if len(value) != count:
            raise ValueError(f"{name} must be an int or {count} ints, got {len(value)} values: {tuple(value)}")
        return tuple(integer(name, item, minimum) for item in value)
    return (integer(name, value, minimum),) * count


def padding(value: Any, count: int) -> Pairs | str:
    """``padding`` as one (before, after) pair per axis, or "same" / "same_lower"."""
    if type(value) is int and 0 <= value < LIMIT:
        return ((value, value),) * count
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


def algorithm(value: Any, window: Window, rank: int) -> None:
    """The algorithm is known, and there for convolution of ``rank`` axes with this window."""
    option("algorithm", value, ALGORITHMS)
    if value == "fft" and not is_row(window):
        padding = tuple(zip(window.padding_before, window.padding_after, strict=True))[-rank:]
        raise ValueError(
            f'algorithm "fft" cannot serve these arguments: it is for kernels of up to {LONGEST_ROW} elements along '
            f"the last axis, of stride and dilation 1 and without padding on other axes, got {_steps(window, rank)}, "
            f"padding {padding}"
        )
    if value == "winograd" and not is_dense_3x3(window):
        raise ValueError(
            'algorithm "winograd" cannot serve these arguments: it is for 3x3 kernels of stride and dilation 1, got '
            f"{_steps(window, rank)}"
        )


def _steps(window: Window, rank: int) -> str:
    return ", ".join(f"{name} {getattr(window, name)[-rank:]}" for name in ("kernel_size", "stride", "dilation"))


def activation(value: Any) -> bool:
    """Whether the result passes through ReLU."""
    if value is None:
        return False
    if isinstance(value, str) and value == "relu":
        return True
    raise ValueError(f'activation must be None or "relu", got {value!r}')


def real(name: str, value: Any) -> float:
    """``value`` as a float; bools and what is not a number are refused."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a real number, got {value!r}")
    return float(value)


def option(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """``value`` is one of these words."""
    if not isinstance(value, str) or value not in allowed:
        words = ", ".join(f'"{word}"' for word in allowed[:-1])
        raise ValueError(f'{name} must be {words} or "{allowed[-1]}", got {value!r}')


# --------------------------------------------------------------------------------------------------- arrays and shapes
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
    if set(map(type, value)) == {int} and min(value) >= 0 and max(value) < LIMIT:  # the usual case
        return tuple(value)
    return tuple(integer(name, item, 0) for item in value)


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


# ------------------------------------------------------------------------------------------------------------- windows
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
    strides, dilations = integers("stride", stride, count, 1), integers("dilation", dilation, count, 1)
    return _fitting_window(input_size, kernel_size, strides, padding(pad, count), dilations, bool(ceil_mode))


@lru_cache(maxsize=1024)
def _fitting_window(
    input_size: tuple[int, ...],
    kernel_size: tuple[int, ...],
    stride: tuple[int, ...],
    pad: Pairs | str,
    dilation: tuple[int, ...],
    ceil_mode: bool,
) -> Window:
    result = make_window(input_size, kernel_size, stride, pad, dilation, ceil_mode)
    padded = tuple(map(sum, zip(result.input_size, result.padding_before, result.padding_after, strict=True)))
    if math.prod(padded) > ELEMENTS:
        sizes = " * ".join(str(size) for size in padded[3 - len(input_size) :])
        raise ValueError(f"padding must leave at most 2**47 elements per channel, got {sizes} of them")
    for axis, count in enumerate(result.output_size):
        if count <= 0:
            reach = result.dilation[axis] * (result.kernel_size[axis] - 1) + 1
            raise ValueError(
                f"kernel_size {kernel_size} with dilation {dilation} must fit into the padded input, got a reach of "
                f"{reach} on spatial axis {axis - 3 + len(input_size)}, where the padded input has {padded[axis]}"
            )
    return result


def convolution(
    input_name: str,
    input_shape: tuple[int, ...],
    weight_name: str,
    weight_shape: tuple[int, ...],
    stride: Any,
    pad: Any,
    dilation: Any,
    groups: Any,
) -> tuple[Window, int, tuple[int, ...]]:
    """The :class:`Window` of a convolution of checked arrays or shapes, its groups and the shape of its result."""
    count = len(weight_shape) - 2
    strides, dilations = integers("stride", stride, count, 1), integers("dilation", dilation, count, 1)
    pads, groups = padding(pad, count), integer("groups", groups, 1)
    return _convolution(input_name, input_shape, weight_name, weight_shape, strides, pads, dilations, groups)


@lru_cache(maxsize=1024)
def _convolution(
    input_name: str,
    input_shape: tuple[int, ...],
    weight_name: str,
    weight_shape: tuple[int, ...],
    stride: tuple[int, ...],
    pad: Pairs | str,
    dilation: tuple[int, ...],
    groups: int,
) -> tuple[Window, int, tuple[int, ...]]:
    out_channels, group_channels, *kernel_size = weight_shape
    count = len(kernel_size)
    channels, batch = input_shape[-count - 1], input_shape[: -count - 1]
    if group_channels * groups != channels:
        raise ValueError(
            f"{input_name} must have {group_channels * groups} channels ({weight_name}[1] * groups = "
            f"{group_channels} * {groups}), got {channels} (shape {input_shape})"
        )
    if out_channels % groups:
        raise ValueError(f"{weight_name}[0] must be a multiple of groups = {groups}, got {out_channels}")
    if min(kernel_size) < 1:
        raise ValueError(f"{weight_name}[2:], the kernel size, must be at least 1, got {tuple(kernel_size)}")
    result = _fitting_window(input_shape[-count:], tuple(kernel_size), stride, pad, dilation, False)
    return result, groups, (*batch, out_channels, *result.output_size[3 - count :])


# ------------------------------------------------------------------------------------------------------ packed weights
def packing(
    weight: Any, stride: Any, dilation: Any, groups: Any, name: Any
) -> tuple[tuple[int, ...], tuple[int, ...], int, str]:
    """A weight can be packed for these; stride and dilation with one int per axis, groups and the algorithm."""
    array("weight", weight, (2, 3, 4, 5))
    count = weight.ndim - 2
    strides, dilations = integers("stride", stride, max(count, 1), 1), integers("dilation", dilation, max(count, 1), 1)
    groups = integer("groups", groups, 1)
    if count == 0:
        option("algorithm", name, ALGORITHMS)
        if (strides, dilations, groups) != ((1,), (1,), 1) or name not in ("auto", "direct"):
            raise ValueError(
                'a weight of 2 dimensions, of a dense layer, has stride, dilation and groups 1 and algorithm "auto" or '
                f'"direct", got stride {stride!r}, dilation {dilation!r}, groups {groups} and algorithm "{name}"'
            )
        return (), (), 1, name
    # Any input will do that the window fits into.
    size = tuple(d * (max(k, 1) - 1) + 1 for d, k in zip(dilations, weight.shape[2:], strict=True))
    input_shape = (weight.shape[1] * groups, *size)
    window, _, _ = convolution("x", input_shape, "weight.shape", weight.shape, strides, 0, dilations, groups)
    algorithm(name, window, count)
    return strides, dilations, groups, name


def packed(weight: Any, stride: Any, dilation: Any, groups: Any, name: Any) -> None:
    """A call has the stride, dilation, groups and algorithm that its weight was packed for."""
    count = weight.ndim - 2
    given = {
        "stride": integers("stride", stride, count, 1),
        "dilation": integers("dilation", dilation, count, 1),
        "groups": integer("groups", groups, 1),
    }
    for argument, value in given.items():
        if value != getattr(weight, argument):
            raise ValueError(
                f"{argument} must be {getattr(weight, argument)}, which weight was packed for, got {value}"
            )
    option("algorithm", name, ALGORITHMS)
    if name not in ("auto", weight.algorithm):
        raise ValueError(f'algorithm must be "auto" or "{weight.algorithm}", as weight was packed, got "{name}"')


def transposed(
    x_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    stride: Any,
    pad: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
) -> tuple[Window, int, tuple[int, ...]]:
    """The :class:`Window` of the convolution that a transposed one reverses, its groups and the result's shape."""
    count = len(weight_shape) - 2
    if isinstance(pad, str):
        raise ValueError(f"padding of a transposed convolution must be ints or pairs, got {pad!r}")
    strides, dilations = integers("stride", stride, count, 1), integers("dilation", dilation, count, 1)
    pads, more = padding(pad, count), integers("output_padding", output_padding, count, 0)
    return _transposed(x_shape, weight_shape, strides, pads, more, integer("groups", groups, 1), dilations)


@lru_cache(maxsize=1024)
def _transposed(
    x_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    stride: tuple[int, ...],
    pad: Pairs,
    output_padding: tuple[int, ...],
    groups: int,
    dilation: tuple[int, ...],
) -> tuple[Window, int, tuple[int, ...]]:
    in_channels, group_channels, *kernel_size = weight_shape
    count = len(kernel_size)
    channels, batch, sizes = x_shape[-count - 1], x_shape[: -count - 1], x_shape[-count:]
    if channels != in_channels:
        raise ValueError(f"x must have weight.shape[0] = {in_channels} channels, got {channels} (shape {x_shape})")
    if in_channels % groups:
        raise ValueError(f"weight.shape[0] must be a multiple of groups = {groups}, got {in_channels}")
    if min(kernel_size) < 1:
        raise ValueError(f"weight.shape[2:], the kernel size, must be at least 1, got {tuple(kernel_size)}")
    if min(sizes) < 1:
        raise ValueError(f"x must have at least 1 element on each spatial axis, got shape {x_shape}")
    for more, step, spread in zip(output_padding, stride, dilation, strict=True):
        if more >= max(step, spread):
            raise ValueError(
                f"output_padding must be smaller than stride or dilation on each axis, got {more} with stride {step} "
                f"and dilation {spread}"
            )
    padded = tuple(
        (size - 1) * step + spread * (kernel - 1) + 1 + more
        for size, step, spread, kernel, more in zip(sizes, stride, dilation, kernel_size, output_padding, strict=True)
    )
    if math.prod(padded) > ELEMENTS:
        raise ValueError(f"x of shape {x_shape} must give at most 2**47 elements per channel, got sizes {padded}")
    result = tuple(size - before - after for size, (before, after) in zip(padded, pad, strict=True))
    if min(result) < 1:
        raise ValueError(f"padding {pad} must leave at least 1 element on each axis of the result, got sizes {result}")
    # With output_padding >= stride, more window positions would fit than there are inputs.
    window = make_window(result, tuple(kernel_size), stride, pad, dilation)
    depth, height, width = (*window.output_size[: 3 - count], *sizes)
    return window._replace(output_size=(depth, height, width)), groups, (*batch, group_channels * groups, *result)


# -------------------------------------------------------------------------------------------------------- dense layers
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


# ------------------------------------------------------------------------------------------------- classes and labels
def axis(name: str, x: Any, value: Any) -> int:
    """An axis of ``x``, counted from the front."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"axis must be an int, got {value!r}") from None
    if x.ndim == 0:
        raise ValueError(f"{name} must have at least 1 dimension, got 0 (shape ())")
    if not -x.ndim <= number < x.ndim:
        raise ValueError(f"axis must be from {-x.ndim} to {x.ndim - 1} for {name} of shape {x.shape}, got {number}")
    return int(number % x.ndim)


def label_shape(logits: Any, value: Any, ignore_index: Any) -> int:
    """Each column of ``logits`` has a label, an integer; ``ignore_index`` as an int."""
    number = integer("ignore_index", ignore_index, -LIMIT)
    if logits.ndim == 0:
        raise ValueError("logits must have at least 1 dimension, got 0 (shape ())")
    if value.dtype.kind not in "iu":
        raise TypeError(f"labels must have an integer dtype, got {value.dtype}")
    expected = logits.shape[:1] + logits.shape[2:] if logits.ndim > 1 else ()
    if tuple(value.shape) != expected:
        raise ValueError(
            f"labels must have shape {expected} for logits of shape {logits.shape}, got {tuple(value.shape)}"
        )
    return number


def labels(logits: Any, value: Any, ignore_index: int) -> None:
    """Each label names a class or is ignored."""
    classes = logits.shape[min(logits.ndim - 1, 1)]
    if value.size == 0 or (value.min() >= 0 and value.max() < classes):
        return
    wrong = (value != ignore_index) & ((value < 0) | (value >= classes))
    if wrong.any():
        raise ValueError(
            f"labels must be from 0 to {classes - 1} or ignore_index = {ignore_index}, got {value[wrong].flat[0]}"
        )
