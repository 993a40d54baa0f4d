"""Every argument error. Functions here return normalised values or raise before any kernel runs.

A message names the argument, what was given and what was expected. Wrong kinds raise ``TypeError``, wrong values
``ValueError``.
"""

from fastconv._checks.algorithms import ALGORITHMS, algorithm, packed, packing
from fastconv._checks.arrays import (
    FLOAT16,
    FLOATS,
    INTEGERS,
    STORED,
    Array,
    array,
    linear,
    output,
    same_dtype,
    shape,
    shape_argument,
)
from fastconv._checks.classes import axis, label_shape, labels
from fastconv._checks.numbers import activation, integer, integers, option, padding, real
from fastconv._checks.windows import convolution, transposed, window

__all__ = [
    "ALGORITHMS",
    "FLOAT16",
    "FLOATS",
    "INTEGERS",
    "STORED",
    "Array",
    "activation",
    "algorithm",
    "array",
    "axis",
    "convolution",
    "integer",
    "integers",
    "label_shape",
    "labels",
    "linear",
    "option",
    "output",
    "packed",
    "packing",
    "padding",
    "real",
    "same_dtype",
    "shape",
    "shape_argument",
    "transposed",
    "window",
]
