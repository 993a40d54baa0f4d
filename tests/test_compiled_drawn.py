"""Compiled callers on drawn arrays: each call gives the bits of the same call from Python, the first time and later."""

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc
from tests import strategies


# ------------------------------------------------------------------------------------------------------------- callers
@numba.njit
def convolve(x, weight, bias):
    return fc.conv2d(x, weight, bias, stride=(1, 2), padding=1, activation="relu")


@numba.njit
def convolution_gradients(grad_out, x, weight):
    return fc.conv2d_backward(grad_out, x, weight, (1, 2), 1)


@numba.njit
def pool(x):
    return fc.max_pool2d(x, 2, 1, return_indices=True)


@numba.njit
def average(x):
    return fc.avg_pool2d(x, kernel_size=2, padding=1, count_include_pad=False)


@numba.njit
def dense(x, weight):
    return fc.softmax(fc.linear(x, weight))


@numba.njit
def loss(logits, labels):
    return fc.cross_entropy(logits, labels), fc.cross_entropy_backward(logits, labels)


# --------------------------------------------------------------------------------------------------------------- draws
sizes = st.integers(2, 9)


@st.composite
def images(draw):
    """An image in either memory order."""
    shape = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(sizes), draw(sizes)
    x = strategies.values(shape, np.float32, draw(st.integers(0, 99)))
    return x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2) if draw(st.booleans()) else x


def same(compiled, *args):
    """Three calls: two of them go by way of Python, the third runs a program."""
    expected = compiled.py_func(*args)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for _ in range(3):
        got = compiled(*args)
        got = got if isinstance(got, tuple) else (got,)
        for one, other in zip(got, expected, strict=True):
            if np.isscalar(other):  # Numba gives Python's floats
                one = other.dtype.type(one)
            assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


# --------------------------------------------------------------------------------------------------------------- tests
@given(images(), st.integers(1, 4), st.integers(1, 3))
def test_convolutions(x, out_channels, kernel):
    weight = strategies.values((out_channels, x.shape[1], kernel, kernel), np.float32, 1)
    same(convolve, x, weight, strategies.values((out_channels,), np.float32, 2))
    y = fc.conv2d(x, weight, stride=(1, 2), padding=1)
    same(convolution_gradients, strategies.values(y.shape, np.float32, 3), x, weight)


@given(images())
def test_poolings(x):
    same(pool, x)
    same(average, x)


@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 12), st.data())
def test_dense_layers_and_losses(rows, inputs, classes, data):
    x = strategies.values((rows, inputs), np.float32, 1)
    same(dense, x, strategies.values((classes, inputs), np.float32, 2))
    labels = np.array(data.draw(st.lists(st.integers(0, classes - 1), min_size=rows, max_size=rows)))
    same(loss, strategies.values((rows, classes), np.float32, 3), labels)


@given(images(), st.sampled_from(["channels", "kernel"]))
def test_what_python_refuses(x, wrong):
    """Errors too are those of Python, and the next call is none the worse."""
    channels, kernel = (x.shape[1] + 1, 1) if wrong == "channels" else (x.shape[1], 20)
    weight, bias = np.ones((2, channels, kernel, kernel), np.float32), np.zeros(2, np.float32)
    with pytest.raises(ValueError) as expected:
        convolve.py_func(x, weight, bias)
    with pytest.raises(ValueError) as raised:
        convolve(x, weight, bias)
    assert str(raised.value) == str(expected.value)
    same(convolve, x, np.ones((2, x.shape[1], 1, 1), np.float32), bias)
