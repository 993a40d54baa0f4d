"""The dense layer: right numbers, every arrangement of its arrays, ``out`` and leading axes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc
from tests import naive, strategies
from tests.tolerance import assert_close


@st.composite
def layers(draw, integers=False):
    """Input, weight and bias (or None) of a dense layer, and a gradient of its result."""
    leading = draw(st.lists(st.integers(0, 4), max_size=3).map(tuple) | st.tuples(st.integers(1, 70)))
    ins, outs = draw(st.integers(0, 40)), draw(st.integers(0, 40))
    dtype, seed = draw(st.sampled_from(strategies.DTYPES)), draw(st.integers(0, 2**31))
    shapes = ((*leading, ins), (outs, ins), (outs,), (*leading, outs))
    arrays = [strategies.values(shape, dtype, seed + i, integers) for i, shape in enumerate(shapes)]
    x, weight, bias, grad_out = (draw(strategies.arrangements())(array) for array in arrays)
    return x, weight, draw(st.sampled_from([bias, None])), grad_out


def check(x, weight, bias, grad_out):
    y, grads = fc.linear(x, weight, bias), fc.linear_backward(grad_out, x, weight)
    magnitude = naive.linear_forward(abs(x), abs(weight), None if bias is None else abs(bias))
    assert_close(y, naive.linear_forward(x, weight, bias), magnitude, x.shape[-1] + 1)
    expected = naive.linear_backward(grad_out, x, weight)
    magnitudes = naive.linear_backward(abs(grad_out), abs(x), abs(weight))
    rows = grad_out.size // max(len(weight), 1)
    for grad, *bounds, length in zip(grads, expected, magnitudes, (len(weight), rows, rows), strict=True):
        assert_close(grad, *bounds, length)
        assert grad.flags.c_contiguous
    assert [result.dtype for result in (y, *grads)] == [x.dtype] * 4
    assert y.flags.c_contiguous


@given(layers())
def test_everything_is_the_naive_one(case):
    check(*case)


@pytest.mark.parametrize("dtype", strategies.DTYPES)
@pytest.mark.parametrize(
    ("batch", "ins", "outs"),
    [(1, 1, 1), (1, 1000, 10), (257, 3, 5), (5, 2000, 3), (3, 5, 2000), (64, 512, 100), (33, 17, 23), (100, 1, 40)],
)
def test_sizes(batch, ins, outs, dtype):
    shapes = ((batch, ins), (outs, ins), (outs,), (batch, outs))
    check(*(strategies.values(shape, dtype, seed) for seed, shape in enumerate(shapes)))


@given(layers(integers=True))
def test_gradients_are_the_adjoints_bit_by_bit(case):
    x, weight, _, grad_out = case
    y, grads = fc.linear(x, weight), fc.linear_backward(grad_out, x, weight)
    products = [(y, grad_out), (x, grads.x), (weight, grads.weight)]
    assert len({int((a.astype(np.int64) * b.astype(np.int64)).sum()) for a, b in products}) == 1
    assert all(np.array_equal(part, np.rint(part)) for part in (y, *grads))


@given(layers())
def test_relu_fused_is_relu_after(case):
    x, weight, bias, _ = case
    y = fc.linear(x, weight, bias)
    np.testing.assert_array_equal(fc.linear(x, weight, bias, activation="relu"), np.where(y <= 0, y.dtype.type(0), y))


def test_relu_keeps_nan():
    x, weight = np.array([[np.nan, 1], [1, -1]], np.float32), np.eye(2, dtype=np.float32)
    np.testing.assert_array_equal(fc.linear(x, weight, activation="relu"), [[np.nan, np.nan], [1, 0]])


# --------------------------------------------------------------------------------------------------------------- arrays
WRITABLE = [arrange for arrange in strategies.ARRANGEMENTS.values() if arrange is not strategies.read_only]
SHAPES = [(7,), (5, 7), (2, 3, 7), (0, 7)]


@pytest.mark.parametrize("arrange", WRITABLE)
@pytest.mark.parametrize("shape", SHAPES)
def test_out_is_filled_and_returned(shape, arrange):
    x, weight = strategies.values(shape, np.float32, 1), strategies.values((4, 7), np.float32, 2)
    out = arrange(np.full((*shape[:-1], 4), np.nan, np.float32))
    assert fc.linear(x, weight, out=out) is out
    np.testing.assert_array_equal(out, fc.linear(x, weight))


@pytest.mark.parametrize("shape", SHAPES)
def test_out_may_be_an_operand(shape):
    x, weight = strategies.values(shape, np.float32, 1), strategies.values((7, 7), np.float32, 2)
    expected = fc.linear(x, weight)
    np.testing.assert_array_equal(fc.linear(x, weight, out=x), expected)


def test_out_may_be_the_weight():
    x, weight = strategies.values((7, 7), np.float32, 1), strategies.values((7, 7), np.float32, 2)
    expected = fc.linear(x, weight)
    np.testing.assert_array_equal(fc.linear(x, weight, out=weight), expected)


@pytest.mark.parametrize("arrange", strategies.ARRANGEMENTS.values(), ids=strategies.ARRANGEMENTS)
def test_inputs_are_never_written(arrange):
    shapes = ((3, 5, 7), (4, 7), (4,), (3, 5, 4))
    arrays = [arrange(strategies.values(shape, np.float32, seed)) for seed, shape in enumerate(shapes)]
    copies = [array.copy() for array in arrays]
    x, weight, bias, grad_out = arrays
    fc.linear(x, weight, bias, activation="relu")
    fc.linear_backward(grad_out, x, weight)
    for array, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_every_row_alone_gives_the_same_bits(dtype):
    x, weight = strategies.values((37, 300), dtype, 1), strategies.values((50, 300), dtype, 2)
    y = fc.linear(x, weight)
    grad_x = fc.linear_backward(y, x, weight).x
    for row in range(len(x)):
        np.testing.assert_array_equal(fc.linear(x[row], weight), y[row])
        np.testing.assert_array_equal(fc.linear_backward(y[row], x[row], weight).x, grad_x[row])


@pytest.mark.torch
@given(layers())
def test_everything_is_pytorchs(case):
    torch = pytest.importorskip("torch")
    x, weight, bias, grad_out = (None if a is None else torch.tensor(np.array(a, np.float64)) for a in case)
    x.requires_grad_()
    weight.requires_grad_()
    y = torch.nn.functional.linear(x, weight, bias)
    y.backward(grad_out)
    grads = fc.linear_backward(case[3], case[0], case[1])
    scale = 1e-12 if case[0].dtype == np.float64 else 1e-4
    for ours, theirs in ((fc.linear(*case[:3]), y.detach()), (grads.x, x.grad), (grads.weight, weight.grad)):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=scale, atol=scale * 10)
