"""Wrong arguments of convolution and dense layers: what the error says, and that nothing was computed or written."""

from typing import ClassVar

import numpy as np
import pytest

import fastconv as fc
from fastconv import cpu

F32, F64 = np.float32, np.float64


def ones(*shape, dtype=F32):
    return np.ones(shape, dtype)


def read_only(x):
    x.setflags(write=False)
    return x


class CudaArray:
    __cuda_array_interface__: ClassVar = {"version": 3}


# Arguments that are right; each case below replaces some of them. Every result here has as many elements as ``out``.
RIGHT = {
    fc.conv2d: {"x": ones(2, 6, 5, 7), "weight": ones(8, 3, 3, 3), "bias": ones(8), "groups": 2, "out": (2, 8, 3, 5)},
    fc.conv2d_backward: {"grad_out": ones(2, 8, 3, 5), "x": ones(2, 6, 5, 7), "weight": ones(8, 3, 3, 3), "groups": 2},
    fc.conv2d_backward_input: {
        "grad_out": ones(2, 8, 3, 5),
        "weight": ones(8, 3, 3, 3),
        "input_shape": (2, 6, 5, 7),
        "groups": 2,
        "out": (2, 6, 5, 7),
    },
    fc.conv2d_backward_weight: {
        "grad_out": ones(2, 8, 3, 5),
        "x": ones(2, 6, 5, 7),
        "weight_shape": (8, 3, 3, 3),
        "groups": 2,
        "out": (8, 3, 3, 3),
    },
    fc.conv1d: {"x": ones(2, 6, 7), "weight": ones(8, 3, 3), "bias": ones(8), "groups": 2, "out": (2, 8, 5)},
    fc.conv1d_backward: {"grad_out": ones(2, 8, 5), "x": ones(2, 6, 7), "weight": ones(8, 3, 3), "groups": 2},
    fc.conv1d_backward_input: {"grad_out": ones(2, 8, 5), "weight": ones(8, 6, 3), "input_shape": (2, 6, 7)},
    fc.conv1d_backward_weight: {"grad_out": ones(2, 8, 5), "x": ones(2, 6, 7), "weight_shape": (8, 6, 3)},
    fc.conv3d: {"x": ones(2, 3, 4, 5, 6), "weight": ones(4, 3, 2, 2, 2), "bias": ones(4), "out": (2, 4, 3, 4, 5)},
    fc.conv3d_backward: {"grad_out": ones(4, 3, 4, 5), "x": ones(3, 4, 5, 6), "weight": ones(4, 3, 2, 2, 2)},
    fc.conv3d_backward_input: {
        "grad_out": ones(4, 3, 4, 5),
        "weight": ones(4, 3, 2, 2, 2),
        "input_shape": (3, 4, 5, 6),
    },
    fc.conv3d_backward_weight: {
        "grad_out": ones(4, 3, 4, 5),
        "x": ones(3, 4, 5, 6),
        "weight_shape": (4, 3, 2, 2, 2),
    },
    fc.conv_transpose1d: {"x": ones(2, 6, 5), "weight": ones(6, 4, 3), "bias": ones(8), "groups": 2, "out": (2, 8, 7)},
    fc.conv_transpose1d_backward: {"grad_out": ones(2, 4, 7), "x": ones(2, 6, 5), "weight": ones(6, 4, 3)},
    fc.conv_transpose2d: {
        "x": ones(2, 6, 3, 5),
        "weight": ones(6, 4, 3, 3),
        "bias": ones(8),
        "groups": 2,
        "out": (2, 8, 5, 7),
    },
    fc.conv_transpose2d_backward: {
        "grad_out": ones(2, 8, 5, 7),
        "x": ones(2, 6, 3, 5),
        "weight": ones(6, 4, 3, 3),
        "groups": 2,
    },
    fc.conv_transpose3d: {"x": ones(3, 2, 2, 2), "weight": ones(3, 4, 2, 2, 2), "out": (4, 3, 3, 3)},
    fc.conv_transpose3d_backward: {
        "grad_out": ones(4, 3, 3, 3),
        "x": ones(3, 2, 2, 2),
        "weight": ones(3, 4, 2, 2, 2),
    },
    fc.linear: {"x": ones(4, 5), "weight": ones(3, 5), "bias": ones(3), "out": (4, 3)},
    fc.linear_backward: {"grad_out": ones(4, 3), "x": ones(4, 5), "weight": ones(3, 5)},
    fc.pack: {"weight": ones(8, 3, 3, 3), "groups": 2},
}

PACKED, DENSE = fc.pack(ones(8, 3, 3, 3), groups=2, algorithm="direct"), fc.pack(ones(3, 5))

HALF = "float16, float32, float64 or bfloat16"
FIT = "must fit into the padded input, got a reach of"

VALUES = "must be at least {} and below 2**31, got {}".format

# What every rank and both directions refuse alike.
SHARED = [
    (function, replaced, error, message)
    for function, rank in (
        (fc.conv1d, 1), (fc.conv2d, 2), (fc.conv3d, 3),
        (fc.conv_transpose1d, 1), (fc.conv_transpose2d, 2), (fc.conv_transpose3d, 3),
    )
    for replaced, error, message in (
        ({"x": ones(6)}, ValueError, f"x must have {rank + 1} or {rank + 2} dimensions, got 1 (shape (6,))"),
        ({"weight": ones(8, 3)}, ValueError, f"weight must have {rank + 2} dimensions, got 2 (shape (8, 3))"),
        ({"groups": 0}, ValueError, f"groups {VALUES(1, 0)}"),
        ({"stride": 0}, ValueError, f"stride {VALUES(1, 0)}"),
        ({"stride": -1}, ValueError, f"stride {VALUES(1, -1)}"),
        ({"stride": (2,) * (rank + 1)}, ValueError, f"stride must be an int or {rank} ints, got {rank + 1} values: "
         f"{(2,) * (rank + 1)}"),
        ({"dilation": 0}, ValueError, f"dilation {VALUES(1, 0)}"),
        ({"padding": -1}, ValueError, f"padding {VALUES(0, -1)}"),
        ({"padding": 0.5}, TypeError, "padding must be an int, got 0.5"),
        ({"padding": 2**31}, ValueError, f"padding {VALUES(0, 2**31)}"),
    )
]  # fmt: skip

TRANSPOSED = [
    *(
        (fc.conv_transpose2d, replaced, error, message)
        for replaced, error, message in (
            ({"x": "x"}, TypeError, "x must be a numpy.ndarray, got str"),
            ({"weight": ones(6, 4, 3, 3, dtype=F64)}, TypeError,
             "weight must have the dtype of x, float32, got float64"),
            ({"bias": ones(8, dtype=F64)}, TypeError, "bias must have the dtype of x, float32, got float64"),
            ({"bias": ones(4)}, ValueError, "bias must have shape (8,), got (4,)"),
            ({"x": ones(2, 5, 3, 5)}, ValueError,
             "x must have weight.shape[0] = 6 channels, got 5 (shape (2, 5, 3, 5))"),
            ({"groups": 4}, ValueError, "weight.shape[0] must be a multiple of groups = 4, got 6"),
            ({"weight": ones(6, 4, 0, 3)}, ValueError,
             "weight.shape[2:], the kernel size, must be at least 1, got (0, 3)"),
            ({"x": ones(2, 6, 0, 5)}, ValueError,
             "x must have at least 1 element on each spatial axis, got shape (2, 6, 0, 5)"),
            ({"output_padding": -1}, ValueError, f"output_padding {VALUES(0, -1)}"),
            ({"output_padding": 1.0}, TypeError, "output_padding must be an int, got 1.0"),
            ({"output_padding": 1}, ValueError,
             "output_padding must be smaller than stride or dilation on each axis, got 1 with stride 1 and dilation 1"),
            ({"output_padding": (1, 3), "stride": 2, "dilation": (1, 3)}, ValueError,
             "output_padding must be smaller than stride or dilation on each axis, got 3 with stride 2 and dilation 3"),
            ({"padding": "same"}, ValueError, "padding of a transposed convolution must be ints or pairs, got 'same'"),
            ({"padding": 3}, ValueError,
             "padding ((3, 3), (3, 3)) must leave at least 1 element on each axis of the result, got sizes (-1, 1)"),
            ({"stride": 2**31 - 1}, ValueError, "x of shape (2, 6, 3, 5) must give at most 2**47 elements per channel, "
             "got sizes (4294967297, 8589934591)"),
            ({"out": ones(2, 8, 5, 5)}, ValueError, "out must have shape (2, 8, 5, 7), got (2, 8, 5, 5)"),
            ({"out": read_only(ones(2, 8, 5, 7))}, ValueError, "out must be writable, got a read-only array"),
        )
    ),
    (fc.conv_transpose2d_backward, {"grad_out": ones(2, 8, 5, 5)}, ValueError,
     "grad_out must have shape (2, 8, 5, 7), got (2, 8, 5, 5)"),
    (fc.conv_transpose2d_backward, {"grad_out": ones(2, 8, 5, 7, dtype=F64)}, TypeError,
     "grad_out must have the dtype of x, float32, got float64"),
    (fc.conv_transpose2d_backward, {"groups": 1}, ValueError,
     "grad_out must have shape (2, 4, 5, 7), got (2, 8, 5, 7)"),
    (fc.conv_transpose3d_backward, {"padding": "valid"}, ValueError,
     "padding of a transposed convolution must be ints or pairs, got 'valid'"),
]  # fmt: skip

CASES = [
    *SHARED,
    *TRANSPOSED,
    # kinds of arrays
    (fc.conv2d, {"x": [[1.0]]}, TypeError, "x must be a numpy.ndarray, got list"),
    (fc.conv2d, {"weight": None}, TypeError, "weight must be a numpy.ndarray, got NoneType"),
    (fc.conv2d, {"bias": 1.0}, TypeError, "bias must be a numpy.ndarray, got float"),
    (fc.conv2d, {"out": [0.0]}, TypeError, "out must be a numpy.ndarray, got list"),
    (
        fc.conv2d,
        {"x": CudaArray()},
        TypeError,
        "weight must be a CUDA array as x is, got ndarray; nothing is copied between host and device",
    ),
    (fc.conv2d_backward, {"x": None}, TypeError, "x must be a numpy.ndarray, got NoneType"),
    (fc.conv2d_backward, {"grad_out": None}, TypeError, "grad_out must be a numpy.ndarray, got NoneType"),
    (fc.conv2d_backward_input, {"grad_out": (1, 2)}, TypeError, "grad_out must be a numpy.ndarray, got tuple"),
    (fc.linear, {"x": "x"}, TypeError, "x must be a numpy.ndarray, got str"),
    (fc.linear_backward, {"weight": 3}, TypeError, "weight must be a numpy.ndarray, got int"),
    # ranks
    (fc.conv2d, {"x": ones(5, 7)}, ValueError, "x must have 3 or 4 dimensions, got 2 (shape (5, 7))"),
    (fc.conv2d, {"x": ones(1, 1, 1, 5, 7)}, ValueError, "x must have 3 or 4 dimensions, got 5 (shape (1, 1, 1, 5, 7))"),
    (fc.conv2d, {"weight": ones(8, 3, 3)}, ValueError, "weight must have 4 dimensions, got 3 (shape (8, 3, 3))"),
    (fc.conv2d_backward, {"x": ones(5, 7)}, ValueError, "x must have 3 or 4 dimensions, got 2 (shape (5, 7))"),
    (fc.conv2d_backward_input, {"weight": ones(9)}, ValueError, "weight must have 4 dimensions, got 1 (shape (9,))"),
    (fc.linear, {"x": np.array(1.0, F32)}, ValueError, "x must have at least 1 dimension, got 0 (shape ())"),
    (fc.linear, {"weight": ones(3, 5, 1)}, ValueError, "weight must have 2 dimensions, got 3 (shape (3, 5, 1))"),
    # dtypes
    (
        fc.conv2d,
        {"x": ones(2, 6, 5, 7, dtype=np.int64)},
        TypeError,
        f"x must have dtype {HALF}, got int64",
    ),
    (
        fc.conv2d,
        {"x": ones(2, 6, 5, 7, dtype=">f4")},
        TypeError,
        f"x must have dtype {HALF}, got >f4",
    ),
    (
        fc.conv2d,
        {"x": ones(2, 6, 5, 7, dtype=complex)},
        TypeError,
        f"x must have dtype {HALF}, got complex128",
    ),
    (fc.conv2d, {"x": ones(2, 6, 5, 7, dtype=F64)}, TypeError, "weight must have the dtype of x, float64, got float32"),
    (fc.conv2d, {"bias": ones(8, dtype=F64)}, TypeError, "bias must have the dtype of x, float32, got float64"),
    (fc.conv2d, {"out": ones(2, 8, 3, 5, dtype=F64)}, TypeError, "out must have dtype float32, got float64"),
    (
        fc.conv2d_backward,
        {"weight": ones(8, 3, 3, 3, dtype=F64)},
        TypeError,
        "weight must have the dtype of x, float32, got float64",
    ),
    (
        fc.conv2d_backward,
        {"grad_out": ones(2, 8, 3, 5, dtype=F64)},
        TypeError,
        "grad_out must have the dtype of x, float32, got float64",
    ),
    (
        fc.conv2d_backward_input,
        {"grad_out": ones(2, 8, 3, 5, dtype=F64)},
        TypeError,
        "grad_out must have the dtype of weight, float32, got float64",
    ),
    (
        fc.conv2d_backward_weight,
        {"grad_out": ones(2, 8, 3, 5, dtype=int)},
        TypeError,
        "grad_out must have the dtype of x, float32, got int64",
    ),
    (
        fc.linear,
        {"x": ones(4, 5, dtype=bool)},
        TypeError,
        f"x must have dtype {HALF}, got bool",
    ),
    (fc.linear, {"weight": ones(3, 5, dtype=F64)}, TypeError, "weight must have the dtype of x, float32, got float64"),
    (fc.linear, {"bias": ones(3, dtype=F64)}, TypeError, "bias must have the dtype of x, float32, got float64"),
    (
        fc.linear_backward,
        {"grad_out": ones(4, 3, dtype=F64)},
        TypeError,
        "grad_out must have the dtype of x, float32, got float64",
    ),
    # channels and groups
    (
        fc.conv2d,
        {"x": ones(2, 5, 5, 7)},
        ValueError,
        "x must have 6 channels (weight.shape[1] * groups = 3 * 2), got 5 (shape (2, 5, 5, 7))",
    ),
    (
        fc.conv2d,
        {"groups": 1},
        ValueError,
        "x must have 3 channels (weight.shape[1] * groups = 3 * 1), got 6 (shape (2, 6, 5, 7))",
    ),
    (
        fc.conv2d,
        {"x": ones(5, 5, 7)},
        ValueError,
        "x must have 6 channels (weight.shape[1] * groups = 3 * 2), got 5 (shape (5, 5, 7))",
    ),
    (
        fc.conv2d_backward_input,
        {"input_shape": (2, 4, 5, 7)},
        ValueError,
        "input_shape must have 6 channels (weight.shape[1] * groups = 3 * 2), got 4 (shape (2, 4, 5, 7))",
    ),
    (
        fc.conv2d_backward_weight,
        {"weight_shape": (8, 2, 3, 3)},
        ValueError,
        "x must have 4 channels (weight_shape[1] * groups = 2 * 2), got 6 (shape (2, 6, 5, 7))",
    ),
    (fc.conv2d, {"weight": ones(7, 3, 3, 3)}, ValueError, "weight.shape[0] must be a multiple of groups = 2, got 7"),
    (
        fc.conv2d_backward_weight,
        {"weight_shape": (9, 3, 3, 3)},
        ValueError,
        "weight_shape[0] must be a multiple of groups = 2, got 9",
    ),
    (fc.conv2d, {"groups": 0}, ValueError, "groups must be at least 1 and below 2**31, got 0"),
    (fc.conv2d, {"groups": 2.0}, TypeError, "groups must be an int, got 2.0"),
    (fc.conv2d, {"groups": (2, 2)}, TypeError, "groups must be an int, got (2, 2)"),
    # shapes
    (fc.conv2d, {"bias": ones(7)}, ValueError, "bias must have shape (8,), got (7,)"),
    (fc.conv2d, {"bias": ones(8, 1)}, ValueError, "bias must have shape (8,), got (8, 1)"),
    (fc.conv2d, {"out": ones(2, 8, 3, 4)}, ValueError, "out must have shape (2, 8, 3, 5), got (2, 8, 3, 4)"),
    (fc.conv2d, {"x": ones(6, 5, 7)}, ValueError, "out must have shape (8, 3, 5), got (2, 8, 3, 5)"),
    (fc.conv2d, {"out": read_only(ones(2, 8, 3, 5))}, ValueError, "out must be writable, got a read-only array"),
    (
        fc.conv2d,
        {"out": np.lib.stride_tricks.as_strided(ones(2, 8, 3, 5), strides=(480, 60, 20, 0))},
        ValueError,
        "out must have a place for every element, got shape (2, 8, 3, 5) with strides (480, 60, 20, 0)",
    ),
    (
        fc.conv2d_backward,
        {"grad_out": ones(2, 8, 5, 3)},
        ValueError,
        "grad_out must have shape (2, 8, 3, 5), got (2, 8, 5, 3)",
    ),
    (
        fc.conv2d_backward,
        {"stride": 2},
        ValueError,
        "grad_out must have shape (2, 8, 2, 3), got (2, 8, 3, 5)",
    ),
    (
        fc.conv2d_backward,
        {"x": ones(6, 5, 7)},
        ValueError,
        "grad_out must have shape (8, 3, 5), got (2, 8, 3, 5)",
    ),
    (
        fc.conv2d_backward_input,
        {"input_shape": (3, 6, 5, 7)},
        ValueError,
        "grad_out must have shape (3, 8, 3, 5), got (2, 8, 3, 5)",
    ),
    (
        fc.conv2d_backward_weight,
        {"weight_shape": (8, 3, 3, 2)},
        ValueError,
        "grad_out must have shape (2, 8, 3, 6), got (2, 8, 3, 5)",
    ),
    (
        fc.conv2d_backward_weight,
        {"out": ones(8, 3, 9)},
        ValueError,
        "out must have shape (8, 3, 3, 3), got (8, 3, 9)",
    ),
    (fc.conv2d_backward_input, {"input_shape": 6}, TypeError, "input_shape must be a tuple of ints, got 6"),
    (
        fc.conv2d_backward_input,
        {"input_shape": (5, 7)},
        ValueError,
        "input_shape must have 3 or 4 entries, got 2: (5, 7)",
    ),
    (
        fc.conv2d_backward_input,
        {"input_shape": (2, 6, 5.0, 7)},
        TypeError,
        "input_shape must be an int, got 5.0",
    ),
    (
        fc.conv2d_backward_input,
        {"input_shape": (2, 6, -5, 7)},
        ValueError,
        "input_shape must be at least 0 and below 2**31, got -5",
    ),
    (
        fc.conv2d_backward_weight,
        {"weight_shape": (8, 3, 3)},
        ValueError,
        "weight_shape must have 4 entries, got 3: (8, 3, 3)",
    ),
    (
        fc.linear,
        {"x": ones(4, 6)},
        ValueError,
        "x must have weight.shape[1] = 5 elements on its last axis, got 6 (shape (4, 6))",
    ),
    (fc.linear, {"bias": ones(4)}, ValueError, "bias must have shape (3,), got (4,)"),
    (fc.linear, {"x": ones(2, 4, 5)}, ValueError, "out must have shape (2, 4, 3), got (4, 3)"),
    (fc.linear, {"out": read_only(ones(4, 3))}, ValueError, "out must be writable, got a read-only array"),
    (fc.linear_backward, {"grad_out": ones(3, 4)}, ValueError, "grad_out must have shape (4, 3), got (3, 4)"),
    # windows
    (fc.conv2d, {"stride": 0}, ValueError, "stride must be at least 1 and below 2**31, got 0"),
    (fc.conv2d, {"stride": (1, -1)}, ValueError, "stride must be at least 1 and below 2**31, got -1"),
    (fc.conv2d, {"stride": 1.5}, TypeError, "stride must be an int, got 1.5"),
    (fc.conv2d, {"stride": "2"}, TypeError, "stride must be an int, got '2'"),
    (fc.conv2d, {"stride": True}, TypeError, "stride must be an int, got True"),
    (fc.conv2d, {"stride": None}, TypeError, "stride must be an int, got None"),
    (fc.conv2d, {"stride": (1, 1, 1)}, ValueError, "stride must be an int or 2 ints, got 3 values: (1, 1, 1)"),
    (fc.conv2d, {"stride": ()}, ValueError, "stride must be an int or 2 ints, got 0 values: ()"),
    (fc.conv2d, {"stride": 2**31}, ValueError, "stride must be at least 1 and below 2**31, got 2147483648"),
    (fc.conv2d, {"dilation": 0}, ValueError, "dilation must be at least 1 and below 2**31, got 0"),
    (fc.conv2d, {"dilation": [1, 1.0]}, TypeError, "dilation must be an int, got 1.0"),
    (fc.conv2d, {"padding": -1}, ValueError, "padding must be at least 0 and below 2**31, got -1"),
    (fc.conv2d, {"padding": (1, 1, 1, 1)}, ValueError, "padding must be an int or 2 ints, got 4 values: (1, 1, 1, 1)"),
    (fc.conv2d, {"padding": ((0, 0), (0, -2))}, ValueError, "padding must be at least 0 and below 2**31, got -2"),
    (
        fc.conv2d,
        {"padding": ((1, 1), 1)},
        ValueError,
        "padding must have one (before, after) pair for each of 2 axes, got ((1, 1), 1)",
    ),
    (
        fc.conv2d,
        {"padding": ((1, 1, 1), (1, 1, 1))},
        ValueError,
        "padding must have one (before, after) pair for each of 2 axes, got ((1, 1, 1), (1, 1, 1))",
    ),
    (
        fc.conv2d,
        {"padding": "full"},
        ValueError,
        'padding must be ints, pairs, "valid", "same" or "same_lower", got \'full\'',
    ),
    (
        fc.conv2d,
        {"padding": 2**31 - 1, "stride": 2**31 - 1},
        ValueError,
        "padding must leave at most 2**47 elements per channel, got 4294967299 * 4294967301 of them",
    ),
    (
        fc.conv2d,
        {"x": ones(2, 6, 2, 7)},
        ValueError,
        f"kernel_size (3, 3) with dilation (1, 1) {FIT} 3 on spatial axis 0, where the padded input has 2",
    ),
    (
        fc.conv2d,
        {"dilation": (1, 5), "padding": 1},
        ValueError,
        f"kernel_size (3, 3) with dilation (1, 5) {FIT} 11 on spatial axis 1, where the padded input has 9",
    ),
    (
        fc.conv2d,
        {"weight": ones(8, 3, 0, 3)},
        ValueError,
        "weight.shape[2:], the kernel size, must be at least 1, got (0, 3)",
    ),
    (
        fc.conv2d_backward_weight,
        {"weight_shape": (8, 3, 3, 0)},
        ValueError,
        "weight_shape[2:], the kernel size, must be at least 1, got (3, 0)",
    ),
    (
        fc.conv2d_backward_input,
        {"input_shape": (2, 6, 5, 0)},
        ValueError,
        f"kernel_size (3, 3) with dilation (1, 1) {FIT} 3 on spatial axis 1, where the padded input has 0",
    ),
    # options
    (fc.conv2d, {"activation": "tanh"}, ValueError, "activation must be None or \"relu\", got 'tanh'"),
    (fc.conv2d, {"activation": True}, ValueError, 'activation must be None or "relu", got True'),
    (fc.linear, {"activation": "ReLU"}, ValueError, "activation must be None or \"relu\", got 'ReLU'"),
    *(
        (
            function,
            options,
            ValueError,
            f'algorithm "{options["algorithm"]}" cannot serve these arguments: {reason}',
        )
        for function in (fc.conv2d, fc.conv2d_backward, fc.conv2d_backward_input, fc.conv2d_backward_weight)
        for options, reason in (
            (
                {"algorithm": "fft"},
                "it is for kernels of up to 32768 elements along the last axis, of stride and dilation 1 and without "
                "padding on other axes, got kernel_size (3, 3), stride (1, 1), dilation (1, 1), "
                "padding ((0, 0), (0, 0))",
            ),
            (
                {"algorithm": "winograd", "dilation": 17, "padding": 17},
                "it is for kernels of up to 15 elements on an axis, more than one on the last two axes together, of "
                "stride 1 and dilation up to 16, got kernel_size (3, 3), stride (1, 1), dilation (17, 17)",
            ),
        )
    ),
    (
        fc.conv2d,
        {"algorithm": "gemm"},
        ValueError,
        'algorithm must be "auto", "direct", "winograd" or "fft", got \'gemm\'',
    ),
    (
        fc.conv2d_backward,
        {"algorithm": None},
        ValueError,
        'algorithm must be "auto", "direct", "winograd" or "fft", got None',
    ),
    # packed weights
    (fc.pack, {"weight": [[1.0]]}, TypeError, "weight must be a numpy.ndarray, got list"),
    (fc.pack, {"weight": PACKED}, TypeError, "weight must be a numpy.ndarray, got PackedWeight"),
    (fc.pack, {"weight": ones(3)}, ValueError, "weight must have 2 or 3 or 4 or 5 dimensions, got 1 (shape (3,))"),
    (fc.pack, {"weight": ones(3, 5, dtype=int)}, TypeError, f"weight must have dtype {HALF}, got int64"),
    (fc.pack, {"groups": 3}, ValueError, "weight.shape[0] must be a multiple of groups = 3, got 8"),
    (fc.pack, {"stride": 0}, ValueError, "stride must be at least 1 and below 2**31, got 0"),
    (fc.pack, {"dilation": (1, 1, 1)}, ValueError, "dilation must be an int or 2 ints, got 3 values: (1, 1, 1)"),
    (
        fc.pack,
        {"weight": ones(8, 3, 3, 0)},
        ValueError,
        "weight.shape[2:], the kernel size, must be at least 1, got (3, 0)",
    ),
    (
        fc.pack,
        {"algorithm": "winograd", "stride": 2},
        ValueError,
        'algorithm "winograd" cannot serve these arguments: it is for kernels of up to 15 elements on an axis, more '
        "than one on the last two axes together, of stride 1 and dilation up to 16, "
        "got kernel_size (3, 3), stride (2, 2), dilation (1, 1)",
    ),
    (
        fc.pack,
        {"weight": ones(3, 5)},
        ValueError,
        'a weight of 2 dimensions, of a dense layer, has stride, dilation and groups 1 and algorithm "auto" or '
        '"direct", got stride 1, dilation 1, groups 2 and algorithm "auto"',
    ),
    (fc.conv2d, {"weight": PACKED, "groups": 1}, ValueError, "groups must be 2, which weight was packed for, got 1"),
    (
        fc.conv2d,
        {"weight": PACKED, "stride": (1, 2)},
        ValueError,
        "stride must be (1, 1), which weight was packed for, got (1, 2)",
    ),
    (
        fc.conv2d,
        {"weight": PACKED, "dilation": 2},
        ValueError,
        "dilation must be (1, 1), which weight was packed for, got (2, 2)",
    ),
    (
        fc.conv2d,
        {"weight": PACKED, "algorithm": "winograd"},
        ValueError,
        'algorithm must be "auto" or "direct", as weight was packed, got "winograd"',
    ),
    (
        fc.conv2d,
        {"weight": PACKED, "x": ones(2, 6, 5, 7, dtype=F64)},
        TypeError,
        "weight must have the dtype of x, float64, got float32",
    ),
    (
        fc.conv2d,
        {"weight": PACKED, "x": ones(2, 5, 5, 7)},
        ValueError,
        "x must have 6 channels (weight.shape[1] * groups = 3 * 2), got 5 (shape (2, 5, 5, 7))",
    ),
    (fc.conv2d, {"weight": DENSE, "groups": 1}, ValueError, "weight must have 4 dimensions, got 2 (shape (3, 5))"),
    (fc.linear, {"weight": PACKED}, ValueError, "weight must have 2 dimensions, got 4 (shape (8, 3, 3, 3))"),
    (
        fc.linear,
        {"weight": DENSE, "x": ones(4, 6)},
        ValueError,
        "x must have weight.shape[1] = 5 elements on its last axis, got 6 (shape (4, 6))",
    ),
    (fc.conv2d_backward, {"weight": PACKED}, TypeError, "weight must be a numpy.ndarray, got PackedWeight"),
    (fc.conv2d_backward_input, {"weight": PACKED}, TypeError, "weight must be a numpy.ndarray, got PackedWeight"),
    (fc.linear_backward, {"weight": DENSE}, TypeError, "weight must be a numpy.ndarray, got PackedWeight"),
]


def arguments(function, replaced=()):
    result = {**RIGHT[function], **dict(replaced)}
    if isinstance(result.get("out"), tuple):
        result["out"] = np.full(result["out"], 7, F32)
    return result


@pytest.mark.parametrize("function", RIGHT, ids=lambda function: function.__name__)
def test_the_arguments_that_cases_replace_are_right(function):
    result = function(**arguments(function))
    if function is not fc.pack:
        assert all(np.isfinite(part).all() for part in (result if isinstance(result, tuple) else [result]))


@pytest.mark.parametrize(
    ("function", "replaced", "error", "message"),
    CASES,
    ids=[f"{function.__name__}-{'-'.join(replaced)}-{i}" for i, (function, replaced, *_) in enumerate(CASES)],
)
def test_wrong_arguments(function, replaced, error, message, monkeypatch):
    for name in dir(cpu):
        if name.startswith(("conv_", "linear_")):
            monkeypatch.setattr(cpu, name, None)  # a call would end in another error
    wrong = arguments(function, replaced)
    out = wrong.get("out")
    before = out.copy() if isinstance(out, np.ndarray) else None
    with pytest.raises(error) as raised:
        function(**wrong)
    assert str(raised.value) == message
    assert type(raised.value) is error
    if before is not None:
        np.testing.assert_array_equal(out, before)


def test_an_error_is_the_same_the_second_time():
    for _ in range(2):
        with pytest.raises(ValueError, match="reach of 3 on spatial axis 0"):
            fc.conv2d(ones(1, 1, 2, 5), ones(1, 1, 3, 3))


def test_options_are_keywords():
    with pytest.raises(TypeError, match="positional"):
        fc.conv2d(ones(1, 1, 3, 3), ones(1, 1, 3, 3), None, 1, 0, 1, 1, "relu")
    with pytest.raises(TypeError, match="positional"):
        fc.linear(ones(1, 3), ones(1, 3), None, "relu")
