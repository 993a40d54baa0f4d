"""Wrong arguments of pooling: the whole message, and that nothing was written."""

import numpy as np
import pytest

import fastconv as fc
from tests import strategies

X = np.zeros((2, 3, 5, 6), np.float32)
G = np.zeros((2, 3, 2, 3), np.float32)
I = np.zeros((2, 3, 2, 3), np.int64)
ORDERED = "float16, float32, float64, int8, int16, int32, int64, uint8, uint16, uint32, uint64 or bfloat16"


def frozen(x):
    return strategies.read_only(x)


STORED = "{} must have dtype float16, float32, float64 or bfloat16, got {}"
REFUSALS = [
    (lambda: fc.max_pool2d([[1.0]], 2), TypeError, "x must be a numpy.ndarray, got list"),
    (lambda: fc.max_pool2d(X[0, 0], 2), ValueError, "x must have 3 or 4 dimensions, got 2 (shape (5, 6))"),
    (lambda: fc.max_pool2d(X.astype(complex), 2), TypeError, f"x must have dtype {ORDERED}, got complex128"),
    (lambda: fc.max_pool1d(X[0].astype(bool), 2), TypeError, f"x must have dtype {ORDERED}, got bool"),
    (lambda: fc.max_pool2d(X.astype(">i4"), 2), TypeError, f"x must have dtype {ORDERED}, got >i4"),
    (
        lambda: fc.max_pool2d(X[:, :, :0], 2),
        ValueError,
        "x must have at least 1 element on each spatial axis, got (0, 6)",
    ),
    (lambda: fc.max_pool2d(X, 0), ValueError, "kernel_size must be at least 1 and below 2**31, got 0"),
    (lambda: fc.max_pool2d(X, 2.0), TypeError, "kernel_size must be an int, got 2.0"),
    (
        lambda: fc.max_pool2d(X, (2, 2, 2)),
        ValueError,
        "kernel_size must be an int or 2 ints, got 3 values: (2, 2, 2)",
    ),
    (lambda: fc.max_pool2d(X, 2, 0), ValueError, "stride must be at least 1 and below 2**31, got 0"),
    (lambda: fc.max_pool2d(X, 2, 1, -1), ValueError, "padding must be at least 0 and below 2**31, got -1"),
    (
        lambda: fc.max_pool2d(X, 2, 1, "full"),
        ValueError,
        'padding must be ints, pairs, "valid", "same" or "same_lower", got \'full\'',
    ),
    (lambda: fc.max_pool2d(X, 2, 1, 0, True), TypeError, "dilation must be an int, got True"),
    (
        lambda: fc.max_pool2d(X, 4, dilation=2),
        ValueError,
        "kernel_size (4, 4) with dilation (2, 2) must fit into the padded input, got a reach of 7 on spatial axis 0, "
        "where the padded input has 5",
    ),
    (
        lambda: fc.max_pool2d(X, 2, out=np.zeros((2, 3, 2, 2), np.float32)),
        ValueError,
        "out must have shape (2, 3, 2, 3), got (2, 3, 2, 2)",
    ),
    (
        lambda: fc.max_pool2d(X, 2, out=np.zeros((2, 3, 2, 3))),
        TypeError,
        "out must have dtype float32, got float64",
    ),
    (lambda: fc.max_pool2d(X, 2, out=frozen(G)), ValueError, "out must be writable, got a read-only array"),
    (
        lambda: fc.max_pool2d_backward(G, I, X.shape[1:]),
        ValueError,
        "grad_out must have 3 dimensions, got 4 (shape (2, 3, 2, 3))",
    ),
    (
        lambda: fc.max_pool2d_backward(G, I, (2, 4, 5, 6)),
        ValueError,
        "grad_out must have shape (2, 4, 2, 3), got (2, 3, 2, 3)",
    ),
    (
        lambda: fc.max_pool2d_backward(G, I[:, :, :1], X.shape),
        ValueError,
        "indices must have shape (2, 3, 2, 3), got (2, 3, 1, 3)",
    ),
    (
        lambda: fc.max_pool2d_backward(G, I.astype(np.int32), X.shape),
        TypeError,
        "indices must have dtype int64, got int32",
    ),
    (
        lambda: fc.max_pool2d_backward(G, I + 30, X.shape),
        ValueError,
        "indices must be at least 0 and below 30, the size of a plane of (5, 6), got 30",
    ),
    (
        lambda: fc.max_pool2d_backward(G, I - 1, X.shape),
        ValueError,
        "indices must be at least 0 and below 30, the size of a plane of (5, 6), got -1",
    ),
    (
        lambda: fc.max_pool2d_backward(G, I, (2, 3)),
        ValueError,
        "input_shape must have 3 or 4 entries, got 2: (2, 3)",
    ),
    (lambda: fc.max_pool2d_backward(G, I, 5), TypeError, "input_shape must be a tuple of ints, got 5"),
    (
        lambda: fc.avg_pool2d(X, 2, divisor_override=0),
        ValueError,
        "divisor_override must be at least 1 and below 2**31, got 0",
    ),
    (
        lambda: fc.avg_pool2d(X, 2, divisor_override=2.5),
        TypeError,
        "divisor_override must be an int, got 2.5",
    ),
    (
        lambda: fc.avg_pool2d(X.astype(np.int64), 2),
        TypeError,
        STORED.format("x", "int64"),
    ),
    (
        lambda: fc.avg_pool2d_backward(G, X.shape, 3),
        ValueError,
        "grad_out must have shape (2, 3, 1, 2), got (2, 3, 2, 3)",
    ),
    (
        lambda: fc.avg_pool2d_backward(G, (2, 3, 0, 6), 2),
        ValueError,
        "input_shape must have at least 1 element on each spatial axis, got (0, 6)",
    ),
    (
        lambda: fc.sum_pool2d_backward(G.astype(np.complex64), X.shape, 2),
        TypeError,
        STORED.format("grad_out", "complex64"),
    ),
    (
        lambda: fc.sum_pool2d(X, 2, 1, ((1, 2),)),
        ValueError,
        "padding must have one (before, after) pair for each of 2 axes, got ((1, 2),)",
    ),
    (
        lambda: fc.global_avg_pool(X[0, 0]),
        ValueError,
        "x must have 3 or 4 or 5 dimensions, got 2 (shape (5, 6))",
    ),
    (
        lambda: fc.global_max_pool(X[:, :, :0]),
        ValueError,
        "x must have at least 1 element on each spatial axis, got (0, 6)",
    ),
    (
        lambda: fc.global_avg_pool_backward(G, X.shape),
        ValueError,
        "grad_out must have 2 dimensions, got 4 (shape (2, 3, 2, 3))",
    ),
    (
        lambda: fc.global_avg_pool_backward(G[:, :2, 0, 0], X.shape),
        ValueError,
        "grad_out must have shape (2, 3), got (2, 2)",
    ),
    (
        lambda: fc.global_max_pool_backward(G[:, :, 0, 0], I[:, :, 0, 0] + 30, X.shape),
        ValueError,
        "indices must be at least 0 and below 30, the size of a plane of (5, 6), got 30",
    ),
    # every operation of every rank refuses what has another one
    *(
        (
            lambda name=name, rank=rank: getattr(fc, f"{name}{rank}d")(np.zeros((1,) * 6, np.float32), 1),
            ValueError,
            f"x must have {rank + 1} or {rank + 2} dimensions, got 6 (shape (1, 1, 1, 1, 1, 1))",
        )
        for name in ("max_pool", "avg_pool", "sum_pool", "adaptive_avg_pool", "adaptive_max_pool")
        for rank in (1, 2, 3)
    ),
    *(
        (
            lambda name=name, rank=rank: getattr(fc, f"{name}{rank}d_backward")(G[0, 0], (2, 3), 1),
            ValueError,
            f"input_shape must have {rank + 1} or {rank + 2} entries, got 2: (2, 3)",
        )
        for name in ("avg_pool", "sum_pool")
        for rank in (2, 3)
    ),
    *(
        (
            lambda name=name: getattr(fc, name)(X, 6),
            ValueError,
            "kernel_size (6, 6) with dilation (1, 1) must fit into the padded input, got a reach of 6 on spatial axis "
            "0, where the padded input has 5",
        )
        for name in ("max_pool2d", "avg_pool2d", "sum_pool2d")
    ),
    *(
        (
            lambda name=name: getattr(fc, name)(X, 2, 2**31),
            ValueError,
            "stride must be at least 1 and below 2**31, got 2147483648",
        )
        for name in ("max_pool2d", "avg_pool2d", "sum_pool2d")
    ),
    (
        lambda: fc.max_pool2d(X, 1, padding=2**31 - 1),
        ValueError,
        "padding must leave at most 2**47 elements per channel, got 4294967299 * 4294967300 of them",
    ),
    (lambda: fc.max_pool1d(X[0], (2, 2)), ValueError, "kernel_size must be an int or 1 ints, got 2 values: (2, 2)"),
    (lambda: fc.avg_pool3d(X, 2, padding=1.5), TypeError, "padding must be an int, got 1.5"),
    (lambda: fc.avg_pool2d(X, 2, dilation=0), ValueError, "dilation must be at least 1 and below 2**31, got 0"),
    # power norms
    (lambda: fc.lp_pool2d(X, 0, 2), ValueError, "norm_type must be positive and finite, got 0"),
    (lambda: fc.lp_pool2d(X, -1.5, 2), ValueError, "norm_type must be positive and finite, got -1.5"),
    (lambda: fc.lp_pool2d(X, np.inf, 2), ValueError, "norm_type must be positive and finite, got inf"),
    (lambda: fc.lp_pool2d(X, np.nan, 2), ValueError, "norm_type must be positive and finite, got nan"),
    (lambda: fc.lp_pool2d(X, "2", 2), TypeError, "norm_type must be a real number, got '2'"),
    (lambda: fc.lp_pool2d(None, 2, 2), TypeError, "x must be a numpy.ndarray, got NoneType"),
    (lambda: fc.lp_pool2d(X, 2, 2.0), TypeError, "kernel_size must be an int, got 2.0"),
    (
        lambda: fc.lp_pool2d(X.astype(int), 2, 2),
        TypeError,
        STORED.format("x", "int64"),
    ),
    (
        lambda: fc.lp_pool2d_backward(G.astype(float), X, 2, 2),
        TypeError,
        "grad_out must have the dtype of x, float32, got float64",
    ),
    (lambda: fc.lp_pool2d_backward(G, X, 2, 3), ValueError, "grad_out must have shape (2, 3, 1, 2), got (2, 3, 2, 3)"),
    # adaptive windows
    (lambda: fc.adaptive_avg_pool2d(X, 0), ValueError, "output_size must be at least 1 and below 2**31, got 0"),
    (lambda: fc.adaptive_avg_pool2d(X, 2.0), TypeError, "output_size must be an int, got 2.0"),
    (
        lambda: fc.adaptive_max_pool2d(X, (None, -1)),
        ValueError,
        "output_size must be at least 1 and below 2**31, got -1",
    ),
    (
        lambda: fc.adaptive_max_pool2d(X, (2, 2, 2)),
        ValueError,
        "output_size must be an int or 2 ints, got 3 values: (2, 2, 2)",
    ),
    (
        lambda: fc.adaptive_avg_pool2d(X[:, :, :0], 1),
        ValueError,
        "x must have at least 1 element on each spatial axis, got (0, 6)",
    ),
    (
        lambda: fc.adaptive_avg_pool2d(X.astype(int), 1),
        TypeError,
        STORED.format("x", "int64"),
    ),
    (
        lambda: fc.adaptive_avg_pool2d_backward(G, (2, 4, 5, 6)),
        ValueError,
        "grad_out must have shape (2, 4, 2, 3), got (2, 3, 2, 3)",
    ),
    (
        lambda: fc.adaptive_avg_pool2d_backward(G[:, :, :0], X.shape),
        ValueError,
        "grad_out must have at least 1 element on each spatial axis, got (0, 3)",
    ),
    (
        lambda: fc.adaptive_avg_pool2d_backward(G, (2, 3, 5, 0)),
        ValueError,
        "input_shape must have at least 1 element on each spatial axis, got (5, 0)",
    ),
    # unpooling
    (
        lambda: fc.max_unpool2d(G, I + 30, X.shape),
        ValueError,
        "indices must be at least 0 and below 30, the size of a plane of (5, 6), got 30",
    ),
    (
        lambda: fc.max_unpool2d(G, I - 1, X.shape),
        ValueError,
        "indices must be at least 0 and below 30, the size of a plane of (5, 6), got -1",
    ),
    (
        lambda: fc.max_unpool2d(G, I, (2, 3, 0, 6)),
        ValueError,
        "indices must be at least 0 and below 0, the size of a plane of (0, 6), got 0",
    ),
    (
        lambda: fc.max_unpool2d_backward(X, I + 30),
        ValueError,
        "indices must be at least 0 and below 30, the size of a plane of (5, 6), got 30",
    ),
    (lambda: fc.max_unpool2d(G, I.astype(float), X.shape), TypeError, "indices must have dtype int64, got float64"),
    (
        lambda: fc.max_unpool2d(G, I[:1], X.shape),
        ValueError,
        "indices must have shape (2, 3, 2, 3), got (1, 3, 2, 3)",
    ),
    (
        lambda: fc.max_unpool2d(G, I, (2, 4, 5, 6)),
        ValueError,
        "x must have shape (2, 4, 2, 3), got (2, 3, 2, 3)",
    ),
    (lambda: fc.max_unpool2d(G, I, (5, 6)), ValueError, "output_shape must have 3 or 4 entries, got 2: (5, 6)"),
    (lambda: fc.max_unpool2d(G, I, 30), TypeError, "output_shape must be a tuple of ints, got 30"),
    (lambda: fc.max_unpool2d(G, I, (3, 5, 6)), ValueError, "x must have 3 dimensions, got 4 (shape (2, 3, 2, 3))"),
    (
        lambda: fc.max_unpool2d_backward(X, I[:, :1]),
        ValueError,
        "indices must have shape (2, 3, 2, 3), got (2, 1, 2, 3)",
    ),
    (lambda: fc.max_unpool1d(G, [0], X.shape), TypeError, "indices must be a numpy.ndarray, got list"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSALS)
def test_refusals_name_argument_value_and_expectation(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value) == message


def test_a_refusal_leaves_out_alone():
    out = np.full((2, 3, 2, 3), 7, np.float32)
    with pytest.raises(ValueError, match="stride"):
        fc.max_pool2d(X, 2, 0, out=out)
    assert (out == 7).all()
