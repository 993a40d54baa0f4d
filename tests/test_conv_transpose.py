"""Transposed convolution gives the right numbers: against the naive definition, SciPy, and convolution itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal

import fastconv as fc
from tests import naive, strategies
from tests.tolerance import assert_close


def named(weight, which=""):
    """The public function for the rank of a weight."""
    return getattr(fc, f"conv_transpose{weight.ndim - 2}d{which}")


# ----------------------------------------------------------------------------------------- against the naive definition
def check_forward(x, weight, bias=None, **options):
    y = named(weight)(x, weight, bias, **options)
    expected = naive.conv_transpose_forward(x, weight, bias, **options)
    magnitude = naive.conv_transpose_forward(abs(x), abs(weight), None if bias is None else abs(bias), **options)
    assert y.dtype == x.dtype
    assert_close(y, expected, magnitude, weight[:, :1].size + 1)
    return y


def check_backward(grad_out, x, weight, **options):
    grads = named(weight, "_backward")(grad_out, x, weight, **options)
    expected = naive.conv_transpose_backward(grad_out, x, weight, **options)
    magnitudes = naive.conv_transpose_backward(abs(grad_out), abs(x), abs(weight), **options)
    lengths = weight[:1].size, x[:, :1].size, grad_out[:, :1].size
    for ours, theirs, magnitude, length in zip(grads, expected, magnitudes, lengths, strict=True):
        assert ours.dtype == x.dtype
        assert_close(ours, theirs, magnitude, length + 1)


@given(strategies.transposed_convolutions(), strategies.arrangements())
def test_any_rank_is_the_naive_one(case, arrange):
    y = check_forward(case.x, case.weight, case.bias, **case.options)
    check_backward(arrange(case.grad_out(y)), case.x, case.weight, **case.options)


NAMED = {
    "the size doubled": ((2, 16, 7, 7), (16, 8, 2, 2), {"stride": 2}),
    "the size doubled, k 4": ((2, 16, 7, 6), (16, 24, 4, 4), {"stride": 2, "padding": 1}),
    "k 3, stride 1, Winograd's": ((1, 16, 12, 12), (16, 16, 3, 3), {"padding": 1}),
    "k 3, stride 2 and one more": ((1, 8, 5, 6), (8, 3, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    "more than the stride, below the dilation": ((1, 3, 4, 5), (3, 4, 2, 3), {"dilation": 3, "output_padding": (2, 1)}),
    "1x1": ((2, 5, 4, 3), (5, 6, 1, 1), {}),
    "1x1 with stride": ((2, 5, 4, 3), (5, 6, 1, 1), {"stride": (2, 3), "output_padding": (1, 2)}),
    "stride larger than the kernel": ((2, 3, 4, 3), (3, 4, 2, 3), {"stride": (5, 4)}),
    "one pixel": ((2, 7, 1, 1), (7, 5, 4, 4), {}),
    "padding on one side": ((1, 3, 5, 5), (3, 4, 3, 3), {"padding": ((2, 0), (0, 1)), "stride": 2}),
    "padding beyond the kernel": ((1, 3, 9, 9), (3, 4, 2, 2), {"padding": 3}),
    "two groups": ((2, 6, 5, 4), (6, 4, 3, 3), {"groups": 2, "stride": 2}),
    "depthwise": ((2, 5, 5, 4), (5, 1, 3, 3), {"groups": 5, "stride": 2, "padding": 1, "output_padding": 1}),
    "depthwise, two to one": ((2, 10, 5, 4), (10, 1, 3, 3), {"groups": 5, "padding": 1}),
    "to one channel": ((2, 9, 8, 8), (9, 1, 5, 5), {"stride": 2, "padding": 2}),
    "from one channel": ((2, 1, 8, 8), (1, 9, 3, 3), {"stride": 2}),
    "no images": ((0, 3, 5, 5), (3, 4, 3, 3), {"stride": 2}),
    "no input channels": ((2, 0, 4, 4), (0, 3, 3, 3), {}),
    "1-D": ((2, 5, 20), (5, 6, 4), {"stride": 3, "padding": ((1, 2),), "output_padding": 2}),
    "3-D": ((1, 3, 3, 4, 2), (3, 4, 2, 3, 3), {"stride": (1, 2, 2), "padding": (0, 1, 1), "output_padding": (0, 1, 0)}),
}


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("arrange", [strategies.contiguous, strategies.channels_last])
@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_named_cases(name, arrange, dtype):
    x_shape, weight_shape, options = NAMED[name]
    x, weight = arrange(strategies.values(x_shape, dtype, 1)), strategies.values(weight_shape, dtype, 2)
    out_channels = weight_shape[1] * options.get("groups", 1)
    bias = strategies.values((out_channels,), dtype, 3)
    y = named(weight)(x, weight, bias, **options)
    expected = naive.conv_transpose_forward(x, weight, bias, **options)
    scale = 1e-5 if dtype == np.float32 else 1e-13
    np.testing.assert_allclose(y, expected, rtol=scale, atol=scale * max(1, abs(expected).max(initial=0)))
    grad_out = arrange(strategies.values(y.shape, dtype, 4))
    grads = named(weight, "_backward")(grad_out, x, weight, **options)
    for ours, theirs in zip(grads, naive.conv_transpose_backward(grad_out, x, weight, **options), strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=scale, atol=scale * max(1, abs(theirs).max(initial=0)))


# ---------------------------------------------------------------------------------------------------------- properties
def inner(a, b):
    """The inner product of arrays of integer-valued floats, exactly."""
    return int((a.astype(np.int64) * b.astype(np.int64)).sum())


@given(strategies.transposed_convolutions(integers=True))
def test_gradients_are_the_adjoints_bit_by_bit(case):
    y = named(case.weight)(case.x, case.weight, **case.options)
    grad_out = case.grad_out(y, integers=True)
    grads = named(case.weight, "_backward")(grad_out, case.x, case.weight, **case.options)
    assert inner(y, grad_out) == inner(case.x, grads.x) == inner(case.weight, grads.weight)
    assert inner(grads.bias, np.ones_like(grads.bias)) == inner(grad_out, np.ones_like(grad_out))


@given(strategies.convolutions(integers=True))
def test_it_is_the_input_gradient_of_convolution(case):
    """With the output_padding that leads back to the size of the convolution's input."""
    rank = case.weight.ndim - 2
    options = {name: naive.per_axis(case.options[name], rank) for name in ("stride", "dilation")}
    sizes = case.x.shape[2:], case.weight.shape[2:]
    options["padding"] = naive.padding_pairs(case.options["padding"], *sizes, options["stride"], options["dilation"])
    y = getattr(fc, f"conv{rank}d")(case.x, case.weight, None, **options, groups=case.options["groups"])
    least = naive.transposed_size(y.shape[2:], sizes[1], **options)
    more = tuple(size - small for size, small in zip(sizes[0], least, strict=True))
    back = named(case.weight)(y, case.weight, None, **options, output_padding=more, groups=case.options["groups"])
    gradient = getattr(fc, f"conv{rank}d_backward_input")(y, case.weight, case.x.shape, **case.options)
    np.testing.assert_array_equal(back, gradient)


@given(st.data(), st.sampled_from([1, 2, 3]), st.sampled_from(strategies.DTYPES))
def test_forward_is_scipys(data, rank, dtype):
    """Zeros between the inputs, zeros between the elements of the kernel, and ``scipy.signal.convolve``."""
    stride, dilation, kernel, size = (
        data.draw(st.tuples(*[st.integers(1, largest)] * rank)) for largest in (3, 2, 3, 4)
    )
    x = strategies.values((2, 3, *size), dtype, data.draw(st.integers(0, 1000)))
    weight = strategies.values((3, 4, *kernel), dtype, data.draw(st.integers(0, 1000)))

    def spread(array, steps):
        wide = np.zeros((*array.shape[:2], *(s * (n - 1) + 1 for n, s in zip(array.shape[2:], steps, strict=True))))
        wide[(..., *(slice(None, None, s) for s in steps))] = array
        return wide

    inputs, kernels = spread(x, stride), spread(weight, dilation)
    expected = [
        [sum(signal.convolve(image[c], kernels[c, o], "full", "direct") for c in range(3)) for o in range(4)]
        for image in inputs
    ]
    y = named(weight)(x, weight, None, stride, dilation=dilation)
    scale = 1e-5 if dtype == np.float32 else 1e-13
    np.testing.assert_allclose(y, np.array(expected), rtol=scale, atol=scale * 10)


# -------------------------------------------------------------------------------------------------------------- arrays
@given(strategies.transposed_convolutions(), strategies.arrangements())
def test_one_image_is_a_batch_of_one(case, arrange):
    image = arrange(case.x[0])
    y = named(case.weight)(image, case.weight, case.bias, **case.options)
    np.testing.assert_array_equal(y, named(case.weight)(image[np.newaxis], case.weight, case.bias, **case.options)[0])
    grad_out = arrange(case.grad_out(y))
    grads = named(case.weight, "_backward")(grad_out, image, case.weight, **case.options)
    batch = grad_out[np.newaxis], image[np.newaxis]
    expected = named(case.weight, "_backward")(*batch, case.weight, **case.options)
    np.testing.assert_array_equal(grads.x, expected.x[0])
    np.testing.assert_array_equal(grads.weight, expected.weight)


@pytest.mark.parametrize("arrange", [a for n, a in strategies.ARRANGEMENTS.items() if n != "read_only"])
@pytest.mark.parametrize("arrange_inputs", strategies.ARRANGEMENTS.values())
def test_out_is_filled_and_returned(arrange, arrange_inputs):
    x, weight, bias = (strategies.values(s, np.float32, 1) for s in ((2, 6, 5, 4), (6, 4, 3, 2), (8,)))
    arrays = [arrange_inputs(array) for array in (x, weight, bias)]
    options = {"stride": 2, "padding": ((1, 0), (0, 1)), "groups": 2}
    expected = fc.conv_transpose2d(x, weight, bias, **options)
    out = arrange(np.full(expected.shape, np.nan, np.float32))
    assert fc.conv_transpose2d(*arrays, **options, out=out) is out
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
    image = arrange(np.full(expected.shape[1:], np.nan, np.float32))
    assert fc.conv_transpose2d(x[0], weight, bias, **options, out=image) is image
    np.testing.assert_allclose(image, expected[0], rtol=1e-5, atol=1e-5)


def test_results_have_the_order_of_the_operand():
    x, weight = strategies.values((2, 6, 5, 4), np.float32, 1), strategies.values((6, 4, 3, 2), np.float32, 2)
    y = fc.conv_transpose2d(strategies.channels_last(x), weight, stride=2)
    assert np.moveaxis(y, 1, -1).flags.c_contiguous
    assert fc.conv_transpose2d(x, weight, stride=2).flags.c_contiguous
    grads = fc.conv_transpose2d_backward(y, x, weight, stride=2)
    assert np.moveaxis(grads.x, 1, -1).flags.c_contiguous
    assert grads.weight.flags.c_contiguous
