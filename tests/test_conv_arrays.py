"""Convolution and the arrays it is given: memory order, views, ``out``, unbatched images, inputs left alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc
from tests import strategies

X_SHAPE, WEIGHT_SHAPE, Y_SHAPE = (2, 6, 7, 9), (8, 3, 3, 2), (2, 8, 4, 5)
OPTIONS = {"stride": 2, "padding": ((1, 1), (0, 1)), "groups": 2}


def operands(dtype=np.float32):
    shapes = (X_SHAPE, WEIGHT_SHAPE, (8,), Y_SHAPE)
    return [strategies.values(shape, dtype, seed) for seed, shape in enumerate(shapes)]


def order(x):
    """The memory order of a dense array of shape (N, C, *spatial)."""
    if x.flags.c_contiguous:
        return "channels first"
    assert np.moveaxis(x, 1, -1).flags.c_contiguous
    return "channels last"


def calls():
    """Every operation on (x, weight, bias, grad_out), with the result's shape."""
    return {
        "conv2d": (lambda x, w, b, g, out=None: fc.conv2d(x, w, b, **OPTIONS, out=out), Y_SHAPE),
        "conv2d with relu": (
            lambda x, w, b, g, out=None: fc.conv2d(x, w, b, **OPTIONS, activation="relu", out=out),
            Y_SHAPE,
        ),
        "conv2d_backward_input": (
            lambda x, w, b, g, out=None: fc.conv2d_backward_input(g, w, x.shape, **OPTIONS, out=out),
            X_SHAPE,
        ),
        "conv2d_backward_weight": (
            lambda x, w, b, g, out=None: fc.conv2d_backward_weight(g, x, w.shape, **OPTIONS, out=out),
            WEIGHT_SHAPE,
        ),
    }


CALLS = calls()
each_call = pytest.mark.parametrize(("call", "shape"), CALLS.values(), ids=CALLS)
each_arrangement = pytest.mark.parametrize("arrange", strategies.ARRANGEMENTS.values(), ids=strategies.ARRANGEMENTS)


# --------------------------------------------------------------------------------------------------------- memory order
@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_results_have_the_order_of_the_operand(dtype):
    x, weight, bias, grad_out = operands(dtype)
    for arrange, expected in ((strategies.contiguous, "channels first"), (strategies.channels_last, "channels last")):
        y = fc.conv2d(arrange(x), weight, bias, **OPTIONS)
        grads = fc.conv2d_backward(arrange(grad_out), arrange(x), weight, **OPTIONS)
        alone = fc.conv2d_backward_input(arrange(grad_out), weight, X_SHAPE, **OPTIONS)
        assert [order(y), order(grads.x), order(alone)] == [expected] * 3
        assert grads.weight.flags.c_contiguous
        assert grads.bias.flags.c_contiguous


@pytest.mark.parametrize("shape", [(2, 1, 5, 6), (2, 1, 1, 6), (2, 1, 5, 1), (2, 1, 5)])
def test_gray_images_have_an_order_too(shape):
    """One channel lies in memory the same way in both orders, and the strides still say which one is meant."""
    x = strategies.values(shape, np.float32, 1)
    weight = strategies.values((3, 1, *[1] * (len(shape) - 2)), np.float32, 2)
    rank = len(shape) - 2
    forward, backward = getattr(fc, f"conv{rank}d"), getattr(fc, f"conv{rank}d_backward")

    def gray(x):
        return np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1)

    for arrange, expected in ((np.copy, "channels first"), (gray, "channels last")):
        y = forward(arrange(x), weight)
        assert order(y) == expected
        np.testing.assert_array_equal(y, forward(x, weight))
        grads = backward(strategies.channels_last(np.ones_like(y)), arrange(x), weight)
        np.testing.assert_array_equal(grads.weight, backward(np.ones_like(x[:, [0] * 3]), x, weight).weight)
    assert forward(x[:, :, :1].copy(), weight).flags.c_contiguous


def test_unbatched_results_have_the_order_of_the_operand():
    x, weight, _, _ = operands()
    image = np.ascontiguousarray(np.moveaxis(x[0], 0, -1))
    y = fc.conv2d(np.moveaxis(image, -1, 0), weight, **OPTIONS)
    assert np.moveaxis(y, 0, -1).flags.c_contiguous
    assert fc.conv2d(x[0], weight, **OPTIONS).flags.c_contiguous


@each_call
@each_arrangement
def test_values_do_not_depend_on_the_arrangement(call, shape, arrange):
    plain = operands()
    expected = call(*plain)
    for position in range(4):
        arranged = [arrange(array) if i == position else array for i, array in enumerate(plain)]
        np.testing.assert_allclose(call(*arranged), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(call(*map(arrange, plain)), expected, rtol=1e-5, atol=1e-5)


def test_broadcast_views_are_read_like_any_other():
    x, weight, _, _ = operands()
    repeated = np.broadcast_to(x[:1, :1], X_SHAPE)
    np.testing.assert_array_equal(fc.conv2d(repeated, weight, **OPTIONS), fc.conv2d(repeated.copy(), weight, **OPTIONS))
    constant = np.broadcast_to(np.float32(2), WEIGHT_SHAPE)
    np.testing.assert_array_equal(fc.conv2d(x, constant, **OPTIONS), fc.conv2d(x, constant.copy(), **OPTIONS))


# ------------------------------------------------------------------------------------------------------------ unbatched
@given(strategies.convolutions(), strategies.arrangements())
def test_one_image_is_a_batch_of_one(case, arrange):
    if len(case.x) == 0:
        return
    forward, backward, backward_input, backward_weight = (
        getattr(fc, f"conv{case.weight.ndim - 2}d{which}")
        for which in ("", "_backward", "_backward_input", "_backward_weight")
    )
    image = arrange(case.x[0])
    batch = image[np.newaxis]
    y = forward(image, case.weight, case.bias, **case.options)
    np.testing.assert_array_equal(y, forward(batch, case.weight, case.bias, **case.options)[0])
    grad_out = arrange(case.grad_out(y))
    grads = backward(grad_out, image, case.weight, **case.options)
    expected = backward(grad_out[np.newaxis], batch, case.weight, **case.options)
    np.testing.assert_array_equal(grads.x, expected.x[0])
    np.testing.assert_array_equal(grads.weight, expected.weight)
    np.testing.assert_array_equal(grads.bias, expected.bias)
    np.testing.assert_array_equal(backward_input(grad_out, case.weight, image.shape, **case.options), grads.x)
    np.testing.assert_array_equal(backward_weight(grad_out, image, case.weight.shape, **case.options), grads.weight)


# ------------------------------------------------------------------------------------------------------------------ out
WRITABLE = [arrange for arrange in strategies.ARRANGEMENTS.values() if arrange is not strategies.read_only]


@each_call
@pytest.mark.parametrize("arrange", WRITABLE)
@pytest.mark.parametrize("arrange_inputs", [strategies.contiguous, strategies.channels_last])
def test_out_is_filled_and_returned(call, shape, arrange, arrange_inputs):
    arrays = [arrange_inputs(array) for array in operands()]
    out = arrange(np.full(shape, np.nan, np.float32))
    strides = out.strides
    assert call(*arrays, out) is out
    assert out.strides == strides
    np.testing.assert_array_equal(out, call(*arrays))


@each_call
def test_out_as_a_part_of_a_larger_array(call, shape):
    arrays = operands()
    larger = np.full((4, *shape), np.nan, np.float32)
    call(*arrays, larger[2])
    np.testing.assert_array_equal(larger[2], call(*arrays))
    assert np.isnan(larger[[0, 1, 3]]).all()


@pytest.mark.parametrize("arrange", [strategies.contiguous, strategies.gaps])
def test_out_of_one_image(arrange):
    x, weight, bias, grad_out = operands()
    out = arrange(np.full(Y_SHAPE[1:], np.nan, np.float32))
    assert fc.conv2d(x[0], weight, bias, **OPTIONS, out=out) is out
    np.testing.assert_array_equal(out, fc.conv2d(x[0], weight, bias, **OPTIONS))
    out = arrange(np.full(X_SHAPE[1:], np.nan, np.float32))
    assert fc.conv2d_backward_input(grad_out[0], weight, X_SHAPE[1:], **OPTIONS, out=out) is out
    np.testing.assert_array_equal(out, fc.conv2d_backward_input(grad_out[0], weight, X_SHAPE[1:], **OPTIONS))


@pytest.mark.parametrize("arrange", [strategies.contiguous, strategies.channels_last])
def test_out_may_be_an_operand(arrange):
    x, weight = arrange(strategies.values((2, 8, 6, 5), np.float32, 1)), strategies.values((8, 8, 3, 3), np.float32, 2)
    expected = fc.conv2d(x, weight, padding=1)
    gradient = fc.conv2d_backward_input(x, weight, x.shape, padding=1)
    np.testing.assert_array_equal(fc.conv2d(x_copy := x.copy("K"), weight, padding=1, out=x_copy), expected)
    x_copy = x.copy("K")
    np.testing.assert_array_equal(fc.conv2d_backward_input(x_copy, weight, x.shape, padding=1, out=x_copy), gradient)
    small = strategies.values((8, 8, 3, 3), np.float32, 3)
    expected = fc.conv2d(small, weight, padding=1)
    np.testing.assert_array_equal(fc.conv2d(small, weight_copy := weight.copy(), padding=1, out=weight_copy), expected)


def test_out_may_overlap_an_operand():
    weight = strategies.values((4, 4, 3, 3), np.float32, 1)
    memory = strategies.values((3, 4, 6, 5), np.float32, 2)
    expected = fc.conv2d(memory[:2].copy(), weight, padding=1)
    np.testing.assert_array_equal(fc.conv2d(memory[:2], weight, padding=1, out=memory[1:]), expected)
    memory = strategies.values((3, 4, 6, 5), np.float32, 2)
    x = memory[:2]
    expected = fc.conv2d_backward_weight(x.copy(), x.copy(), weight.shape, padding=1)
    out = memory.reshape(-1)[: weight.size].reshape(weight.shape)
    np.testing.assert_array_equal(fc.conv2d_backward_weight(x, x, weight.shape, padding=1, out=out), expected)


# -------------------------------------------------------------------------------------------------- promises on inputs
@each_call
@each_arrangement
def test_inputs_are_never_written(call, shape, arrange):
    arrays = [arrange(array) for array in operands()]
    copies = [array.copy() for array in arrays]
    call(*arrays)
    for array, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_results_are_new_arrays():
    x, weight, bias, grad_out = operands()
    results = [call(x, weight, bias, grad_out) for call, _ in CALLS.values()]
    results += fc.conv2d_backward(grad_out, x, weight, **OPTIONS)
    for result in results:
        assert result.flags.writeable
        assert not any(np.shares_memory(result, array) for array in (x, weight, bias, grad_out))


@given(strategies.convolutions(ranks=(2,)), st.integers(0, 3))
def test_a_split_batch_gives_the_same_bits(case, cut):
    cut = min(cut, len(case.x))
    parts = slice(0, cut), slice(cut, None)
    y = fc.conv2d(case.x, case.weight, case.bias, **case.options)
    grad_out = case.grad_out(y)
    grad_x = fc.conv2d_backward_input(grad_out, case.weight, case.x.shape, **case.options)
    for part in parts:
        x = case.x[part]
        np.testing.assert_array_equal(fc.conv2d(x, case.weight, case.bias, **case.options), y[part])
        gradient = fc.conv2d_backward_input(grad_out[part], case.weight, x.shape, **case.options)
        np.testing.assert_array_equal(gradient, grad_x[part])


@pytest.mark.parametrize("shapes", [((7, 32, 14, 14), (48, 32, 3, 3)), ((5, 3, 30, 30), (16, 3, 5, 5))])
@pytest.mark.parametrize("arrange", [strategies.contiguous, strategies.channels_last])
def test_every_image_alone_gives_the_same_bits(shapes, arrange):
    x, weight = (arrange(strategies.values(shape, np.float32, seed)) for seed, shape in enumerate(shapes))
    y = fc.conv2d(x, weight, padding=1)
    grad_x = fc.conv2d_backward_input(y, weight, x.shape, padding=1)
    for n in range(len(x)):
        np.testing.assert_array_equal(fc.conv2d(x[n], weight, padding=1), y[n])
        np.testing.assert_array_equal(fc.conv2d_backward_input(y[n], weight, x[n].shape, padding=1), grad_x[n])


def test_two_runs_give_the_same_bits():
    arrays = operands()
    for call, _ in CALLS.values():
        assert call(*arrays).tobytes() == call(*arrays).tobytes()


@pytest.mark.parametrize("dtype", strategies.DTYPES)
@pytest.mark.parametrize("channels_last", [False, True])
def test_large_results_start_with_a_cache_line(dtype, channels_last):
    x = strategies.values((2, 181, 191, 5) if channels_last else (2, 5, 181, 191), dtype, 1)
    x = x.transpose(0, 3, 1, 2) if channels_last else x
    y = fc.avg_pool2d(x, 1)
    assert y.nbytes >= 1 << 20
    assert y.ctypes.data % 64 == 0
    np.testing.assert_array_equal(y, x)
