"""Convolution gives the right numbers: against the naive definition, SciPy, PyTorch, and its own gradients."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal

import fastconv as fc
from tests import naive, strategies
from tests.tolerance import assert_close


# The public functions of every rank, called alike.
def forward(x, weight, *args, **options):
    return getattr(fc, f"conv{weight.ndim - 2}d")(x, weight, *args, **options)


def backward(grad_out, x, weight, **options):
    return getattr(fc, f"conv{weight.ndim - 2}d_backward")(grad_out, x, weight, **options)


# ----------------------------------------------------------------------------------------- against the naive definition
def check_forward(x, weight, bias=None, **options):
    y = forward(x, weight, bias, **options)
    expected = naive.conv_forward(x, weight, bias, **options)
    magnitude = naive.conv_forward(abs(x), abs(weight), None if bias is None else abs(bias), **options)
    assert y.dtype == x.dtype
    assert_close(y, expected, magnitude, math.prod(weight.shape[1:]) + 1)
    return y


def check_backward(grad_out, x, weight, **options):
    grads = backward(grad_out, x, weight, **options)
    magnitudes = abs(grad_out), abs(x), abs(weight)
    pixels = len(grad_out) * math.prod(grad_out.shape[2:])
    assert_close(
        grads.x,
        naive.conv_backward_input(grad_out, weight, x.shape, **options),
        naive.conv_backward_input(magnitudes[0], magnitudes[2], x.shape, **options),
        weight[:, :1].size,
    )
    assert_close(
        grads.weight,
        naive.conv_backward_weight(grad_out, x, weight.shape, **options),
        naive.conv_backward_weight(magnitudes[0], magnitudes[1], weight.shape, **options),
        pixels,
    )
    assert_close(grads.bias, naive.conv_backward_bias(grad_out), naive.conv_backward_bias(magnitudes[0]), pixels)
    assert [grad.dtype for grad in grads] == [x.dtype] * 3


@given(strategies.convolutions())
def test_forward_of_any_rank_is_the_naive_one(case):
    check_forward(case.x, case.weight, case.bias, **case.options)


@given(strategies.convolutions(), strategies.arrangements())
def test_gradients_of_any_rank_are_the_naive_ones(case, arrange):
    y = forward(case.x, case.weight, **case.options)
    check_backward(arrange(case.grad_out(y)), case.x, case.weight, **case.options)


NAMED = {
    "1x1": ((2, 5, 7, 7), (6, 5, 1, 1), {}),
    "1x1 with stride": ((2, 8, 9, 10), (8, 8, 1, 1), {"stride": 2}),
    "1x1 with padding": ((1, 4, 3, 3), (4, 4, 1, 1), {"padding": 1}),
    "even kernel": ((2, 3, 8, 9), (4, 3, 2, 4), {"padding": 1}),
    "even kernel, same": ((1, 3, 7, 8), (4, 3, 4, 2), {"padding": "same"}),
    "strided same": ((1, 3, 7, 8), (4, 3, 5, 3), {"padding": "same", "stride": (2, 3)}),
    "strided same_lower": ((1, 3, 8, 7), (4, 3, 2, 3), {"padding": "same_lower", "stride": (3, 2)}),
    "kernel larger than the input": ((2, 3, 2, 3), (4, 3, 5, 6), {"padding": (2, 2)}),
    "kernel as large as the input": ((3, 6, 5, 5), (20, 6, 5, 5), {}),
    "padding larger than the kernel": ((1, 2, 4, 4), (3, 2, 2, 2), {"padding": 5}),
    "padding on one side": ((2, 3, 6, 5), (4, 3, 3, 3), {"padding": ((2, 0), (0, 3))}),
    "windows wholly in the padding": ((1, 3, 1, 1), (2, 3, 1, 2), {"padding": 3, "stride": 2}),
    "dilation": ((1, 3, 9, 9), (4, 3, 3, 3), {"dilation": 2}),
    "dilation beyond the input": ((1, 3, 4, 5), (4, 3, 3, 2), {"dilation": 6, "padding": 6}),
    "stride larger than the kernel": ((2, 3, 11, 12), (4, 3, 2, 3), {"stride": (5, 4)}),
    "stride larger than the input": ((2, 3, 3, 3), (4, 3, 2, 2), {"stride": 7}),
    "stride, dilation and padding": (
        (1, 4, 13, 11),
        (3, 4, 3, 2),
        {"stride": (3, 2), "dilation": (2, 3), "padding": 2},
    ),
    "17 to 23 channels": ((1, 17, 6, 7), (23, 17, 3, 3), {"padding": 1}),
    "one channel to one": ((2, 1, 6, 7), (1, 1, 3, 3), {}),
    "3 channels, 11x11, stride 4": ((1, 3, 27, 27), (10, 3, 11, 11), {"stride": 4, "padding": 2}),
    "3 channels, 7x7, stride 2": ((1, 3, 18, 18), (16, 3, 7, 7), {"stride": 2, "padding": 3}),
    "two groups": ((2, 6, 5, 6), (8, 3, 3, 3), {"groups": 2, "padding": 1}),
    "many groups of odd size": ((1, 21, 5, 6), (35, 3, 3, 3), {"groups": 7}),
    "dilation as large as the image": ((1, 20, 9, 10), (18, 20, 3, 3), {"dilation": 7, "padding": 7}),
    "more padding than image": ((1, 20, 4, 5), (18, 20, 3, 2), {"dilation": 5, "padding": 9, "stride": 2}),
    "depthwise": ((2, 13, 7, 8), (13, 1, 3, 3), {"groups": 13, "padding": 1}),
    "depthwise with stride and dilation": ((2, 9, 9, 10), (9, 1, 3, 3), {"groups": 9, "stride": 2, "dilation": 2}),
    "depthwise with a multiplier of 3": ((2, 5, 7, 8), (15, 1, 3, 2), {"groups": 5, "padding": 1}),
    "no input channels": ((2, 0, 4, 4), (3, 0, 3, 3), {"padding": 1}),
    "no input channels, two groups": ((2, 0, 4, 4), (4, 0, 3, 3), {"groups": 2}),
    "no images": ((0, 3, 5, 5), (4, 3, 3, 3), {}),
    "no rows but padding": ((2, 3, 0, 4), (4, 3, 2, 3), {"padding": 2}),
    "no output channels": ((2, 3, 5, 5), (0, 3, 3, 3), {}),
    "one pixel": ((4, 33, 1, 1), (17, 33, 3, 3), {"padding": 1}),
    "a wide row": ((1, 2, 1, 3001), (3, 2, 1, 7), {"padding": (0, 3)}),
    "a tall column": ((1, 2, 3001, 1), (3, 2, 7, 1), {"padding": (3, 0)}),
    "a long sum": ((1, 300, 4, 4), (3, 300, 3, 3), {"padding": 1}),
    "many output channels": ((1, 3, 3, 3), (200, 3, 2, 2), {}),
    "1-D": ((2, 5, 20), (6, 5, 4), {"stride": 2, "padding": ((1, 2),)}),
    "1-D, one channel, large stride": ((3, 1, 150), (33, 1, 20), {"stride": 8}),
    "1-D with 101 taps": ((1, 2, 150), (3, 2, 101), {}),
    "3-D": ((1, 3, 4, 5, 6), (4, 3, 2, 3, 3), {"padding": (0, 1, 1), "stride": (1, 2, 1)}),
    "3-D depthwise": ((1, 5, 4, 5, 4), (5, 1, 3, 3, 3), {"padding": 1, "groups": 5}),
}


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("arrange", [strategies.contiguous, strategies.channels_last])
@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_named_cases(name, arrange, dtype):
    x_shape, weight_shape, options = NAMED[name]
    x, weight = arrange(strategies.values(x_shape, dtype, 1)), strategies.values(weight_shape, dtype, 2)
    y = check_forward(x, weight, strategies.values(weight_shape[:1], dtype, 3), **options)
    check_backward(arrange(strategies.values(y.shape, dtype, 4)), x, weight, **options)


@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_every_remainder_of_a_vector_in_the_width(dtype):
    weight = strategies.values((5, 3, 3, 3), dtype, 1)
    for width in range(1, 41):
        x = strategies.values((1, 3, 3, width), dtype, width)
        y = check_forward(x, weight, padding=1)
        check_backward(strategies.values(y.shape, dtype, width + 1), x, weight, padding=1)


@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_every_remainder_of_a_vector_in_the_channels(dtype):
    for channels in range(1, 41):
        x = strategies.values((1, channels, 3, 4), dtype, channels)
        for weight_shape in ((3, channels, 2, 2), (channels, channels, 2, 2)):
            weight = strategies.values(weight_shape, dtype, channels + 1)
            y = check_forward(x, weight)
            check_backward(strategies.values(y.shape, dtype, channels + 2), x, weight)
        depthwise = strategies.values((channels, 1, 2, 2), dtype, channels + 3)
        y = check_forward(x, depthwise, groups=channels)
        check_backward(strategies.values(y.shape, dtype, channels + 4), x, depthwise, groups=channels)


# ---------------------------------------------------------------------------------------------------------- properties
def inner(a, b):
    """The inner product of arrays of integer-valued floats, exactly."""
    return int((a.astype(np.int64) * b.astype(np.int64)).sum())


@given(strategies.convolutions(integers=True))
def test_gradients_are_the_adjoints_bit_by_bit(case):
    """<conv(x, w), g> = <x, backward_input(g, w)> = <w, backward_weight(g, x)>, in integers that floats can hold."""
    y = forward(case.x, case.weight, **case.options)
    grad_out = case.grad_out(y, integers=True)
    grads = backward(grad_out, case.x, case.weight, **case.options)
    assert all(np.array_equal(part, np.rint(part)) for part in (y, *grads))
    assert inner(y, grad_out) == inner(case.x, grads.x) == inner(case.weight, grads.weight)
    assert inner(grads.bias, np.ones_like(grads.bias)) == inner(grad_out, np.ones_like(grad_out))


@given(strategies.convolutions(ranks=(2,)))
def test_relu_fused_is_relu_after(case):
    y = fc.conv2d(case.x, case.weight, case.bias, **case.options)
    fused = fc.conv2d(case.x, case.weight, case.bias, **case.options, activation="relu")
    np.testing.assert_array_equal(fused, np.where(y <= 0, y.dtype.type(0), y))


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [1, 3, 16])
def test_nan_and_inf_stay_where_they_belong(special, channels):
    x, weight = (
        strategies.values((3, channels, 6, 7), np.float32, 1),
        strategies.values((5, channels, 3, 3), np.float32, 2),
    )
    x[1, 0, 2, 3] = special
    y = fc.conv2d(x, weight, padding=1, activation="relu")
    expected = naive.conv_forward(x, weight, padding=1)
    expected = np.where(expected <= 0, 0, expected)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(y), np.isinf(expected))


def test_numpy_integers_serve_as_sizes():
    x, weight = strategies.values((1, 4, 8, 8), np.float32, 1), strategies.values((2, 2, 3, 3), np.float32, 2)
    expected = fc.conv2d(x, weight, None, 2, (1, 0), 2, 2)
    for kind in (np.int8, np.int32, np.int64, np.uint16):
        y = fc.conv2d(x, weight, None, kind(2), np.array([1, 0], kind), [kind(2)] * 2, kind(2))
        np.testing.assert_array_equal(y, expected)


@given(strategies.convolutions())
def test_one_gradient_alone_is_the_same(case):
    rank = case.weight.ndim - 2
    grad_out = case.grad_out(forward(case.x, case.weight, **case.options))
    grads = backward(grad_out, case.x, case.weight, **case.options)
    alone = getattr(fc, f"conv{rank}d_backward_input")(grad_out, case.weight, case.x.shape, **case.options)
    np.testing.assert_array_equal(alone, grads.x)
    alone = getattr(fc, f"conv{rank}d_backward_weight")(grad_out, case.x, case.weight.shape, **case.options)
    np.testing.assert_array_equal(alone, grads.weight)


def test_auto_is_direct_where_channels_are_few():
    x, weight = strategies.values((2, 4, 8, 7), np.float32, 1), strategies.values((6, 4, 3, 3), np.float32, 2)
    np.testing.assert_array_equal(fc.conv2d(x, weight, algorithm="direct"), fc.conv2d(x, weight))


# ---------------------------------------------------------------------------------------------- against other libraries
def correlate(x, weight, stride, pairs, dilation):
    """Convolution by ``scipy.signal.correlate``: the kernel with holes, every position, then every stride-th one."""
    padded = naive.pad(x, pairs)
    dilated = np.zeros((*weight.shape[:2], *(d * (k - 1) + 1 for k, d in zip(weight.shape[2:], dilation, strict=True))))
    dilated[(..., *(slice(None, None, d) for d in dilation))] = weight
    y = [[signal.correlate(image, kernel, "valid", "direct")[0] for kernel in dilated] for image in padded]
    return np.array(y)[(..., *(slice(None, None, s) for s in stride))]


@given(st.data(), st.sampled_from([1, 2, 3]), st.sampled_from(strategies.DTYPES))
def test_forward_is_scipys(data, rank, dtype):
    stride, dilation, kernel, extra = (
        data.draw(st.tuples(*[st.integers(1, largest)] * rank)) for largest in (3, 2, 4, 5)
    )
    pairs = data.draw(st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * rank))
    size = tuple(d * (k - 1) + e for k, d, e in zip(kernel, dilation, extra, strict=True))
    x = strategies.values((2, 3, *size), dtype, data.draw(st.integers(0, 1000)))
    weight = strategies.values((4, 3, *kernel), dtype, data.draw(st.integers(0, 1000)))
    y = forward(x, weight, None, stride, pairs, dilation)
    exact = x.astype(np.float64), weight.astype(np.float64)
    expected, magnitude = (correlate(*pair, stride, pairs, dilation) for pair in (exact, map(abs, exact)))
    assert_close(y, expected, magnitude, weight[0].size)
