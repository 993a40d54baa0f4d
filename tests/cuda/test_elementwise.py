"""Activation, softmax and loss on CUDA arrays: bits of zeros, results in place, many classes, labels out of range."""

import numpy as np
import pytest

pytest.importorskip("fastconv.cuda._jit", reason="the CUDA packages are not installed", exc_type=ImportError)
from hypothesis import given, settings

import fastconv as fc
from tests.cuda.agreement import assert_agree, on_cpu, on_cuda
from tests.cuda.drawn import arrays
from tests.strategies import ARRANGEMENTS, values

EXAMPLES = settings(max_examples=15)


def same_bits(got, want):
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(want))


@EXAMPLES
@given(arrays())
def test_relu(x):
    same_bits(on_cuda(fc.relu, x), on_cpu(fc.relu, x))
    grad_out = values(x.shape, x.dtype, 1)
    same_bits(on_cuda(fc.relu_backward, grad_out, x), on_cpu(fc.relu_backward, grad_out, x))


@pytest.mark.parametrize("arrange", ARRANGEMENTS.values())
def test_out(arrange):
    x, out = values((2, 3, 4, 5), np.float32, 1), arrange(values((2, 3, 4, 5), np.float32, 2))
    if not out.flags.writeable:
        with pytest.raises(ValueError, match="out must be writable"):
            on_cuda(fc.relu, x, out=out)
        return
    assert on_cuda(fc.relu, x, out=out) is out
    np.testing.assert_array_equal(out, np.maximum(x, 0))


def test_in_place():
    x = values((3, 50), np.float32, 1)
    expected = np.maximum(x, 0)
    assert on_cuda(fc.relu, x, out=x) is x
    np.testing.assert_array_equal(x, expected)


def test_out_that_overlaps_its_input():
    memory = values(101, np.float64, 1)
    expected = np.maximum(memory[:-1], 0)
    on_cuda(fc.relu, memory[:-1], out=memory[1:])
    np.testing.assert_array_equal(memory[1:], expected)


@pytest.mark.parametrize("shape", [(3, 1500), (2, 40), (70, 6), (2, 300, 40)])
def test_softmax_of_many_classes(shape):
    x = values(shape, np.float32, 1)
    for axis in range(1, len(shape)):
        assert_agree(fc.softmax, x, axis=axis, length=40)
        assert_agree(fc.log_softmax, x, axis=axis, length=40, scale=8.0)


def test_a_confident_prediction_keeps_its_digits():
    x = np.array([[30.0, 0.0, 1.0]], np.float32)
    loss = on_cuda(fc.cross_entropy, x, np.array([0]))
    np.testing.assert_allclose(loss, np.exp(-30.0) + np.exp(-29.0), rtol=1e-6)
    grads = on_cuda(fc.cross_entropy_backward, x, np.array([0]))
    np.testing.assert_allclose(grads[0, 0], -(np.exp(-30.0) + np.exp(-29.0)), rtol=1e-6)


def test_a_label_out_of_range_gives_nan():
    x, labels = values((3, 4), np.float32, 1), np.array([0, 4, -1])
    losses = on_cuda(fc.cross_entropy, x, labels, reduction="none")
    np.testing.assert_array_equal(np.isnan(losses), [False, True, True])
    grads = on_cuda(fc.cross_entropy_backward, x, labels)
    np.testing.assert_array_equal(np.isnan(grads).any(1), [False, True, True])
