"""ReLU and leaky ReLU: exact values, any shape and memory order, ``out``, special numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastconv as fc
from tests import naive, strategies

dtypes = pytest.mark.parametrize("dtype", strategies.DTYPES)
SPECIAL = [-np.inf, -1.5, -1e-45, -0.0, 0.0, 1e-45, 2.5, np.inf, np.nan]


def same(actual, expected):
    """The same values, NaN in the same places and zeros of the same sign."""
    expected = np.asarray(expected).astype(actual.dtype)
    np.testing.assert_array_equal(actual, expected)
    np.testing.assert_array_equal(np.signbit(actual) & ~np.isnan(actual), np.signbit(expected) & ~np.isnan(expected))


@st.composite
def arrays(draw, count=1):
    """Arrays of one shape and dtype, any rank, with special numbers among others, each arranged in memory at random."""
    dtype = draw(st.sampled_from(strategies.DTYPES))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=5) | st.tuples(st.integers(0, 3000)))
    elements = st.sampled_from([dtype(value) for value in SPECIAL]) | st.floats(-9, 9, width=32).map(dtype)
    drawn = [draw(hnp.arrays(dtype, shape, elements=elements)) for _ in range(count)]
    return [draw(strategies.arrangements())(x) if x.ndim else x for x in drawn]


def calls(x, grad_out):
    """Every operation beside what it should give."""
    yield fc.relu(x), naive.relu_forward(x)
    yield fc.relu_backward(grad_out, x), naive.relu_backward(grad_out, x)
    yield fc.relu_backward(grad_out, fc.relu(x)), naive.relu_backward(grad_out, x)
    slope = x.dtype.type(0.3)
    with np.errstate(invalid="ignore"):
        yield fc.leaky_relu(x, 0.3), naive.leaky_relu_forward(x, slope)
    yield fc.leaky_relu_backward(grad_out, x, 0.3), naive.leaky_relu_backward(grad_out, x, slope)


@given(arrays(2))
def test_everything_is_the_naive_one(pair):
    for actual, expected in calls(*pair):
        assert actual.dtype == pair[0].dtype
        assert actual.shape == expected.shape
        same(actual, expected)


@dtypes
@pytest.mark.parametrize("size", [1, 15, 16, 17, 1000, 2**18 + 3])
def test_sizes(size, dtype):
    for actual, expected in calls(strategies.values(size, dtype, 1), strategies.values(size, dtype, 2)):
        same(actual, expected)


@dtypes
def test_special_numbers(dtype):
    x = np.array(SPECIAL, dtype)
    same(fc.relu(x), np.array([0, 0, 0, -0.0, 0, *x[5:]], dtype))
    same(fc.relu_backward(np.full_like(x, 3), x), [0, 0, 0, 0, 0, 3, 3, 3, 3] if x[5] > 0 else [0] * 6 + [3] * 3)
    same(fc.leaky_relu(x, 0.0), [np.nan, -0.0, -0.0, -0.0, 0, *x[5:]])
    assert fc.leaky_relu(np.array([-1.0], dtype))[0] == dtype(-0.01)


@dtypes
@pytest.mark.parametrize("arrange", strategies.ARRANGEMENTS.values(), ids=strategies.ARRANGEMENTS)
def test_the_memory_order_is_kept(arrange, dtype):
    x = arrange(strategies.values((2, 3, 4, 5), dtype, 0))
    for y in (fc.relu(x), fc.leaky_relu(x), fc.relu_backward(np.ones_like(x), x), fc.leaky_relu_backward(x, x)):
        assert np.argsort(np.abs(y.strides)).tolist() == np.argsort(np.abs(x.strides)).tolist()
        assert y.flags.writeable
        assert y.flags.aligned
        assert not np.may_share_memory(y, x)


def test_a_scalar_array_gives_one():
    y = fc.relu(np.array(-2.0))
    assert isinstance(y, np.ndarray)
    assert y.shape == ()


@dtypes
@pytest.mark.parametrize("operation", [fc.relu, fc.leaky_relu])
@pytest.mark.parametrize("arrange", strategies.ARRANGEMENTS.values(), ids=strategies.ARRANGEMENTS)
@pytest.mark.parametrize("to", strategies.ARRANGEMENTS.values(), ids=strategies.ARRANGEMENTS)
def test_out_in_any_order(operation, arrange, to, dtype):
    x, out = arrange(strategies.values((3, 4, 5, 6), dtype, 0)), to(np.zeros((3, 4, 5, 6), dtype))
    out.setflags(write=True)
    before = x.copy()
    assert operation(x, out=out) is out
    same(out, operation(before))
    same(x, before)


@dtypes
@pytest.mark.parametrize("operation", [fc.relu, fc.leaky_relu])
@pytest.mark.parametrize("arrange", strategies.ARRANGEMENTS.values(), ids=strategies.ARRANGEMENTS)
def test_in_place(operation, arrange, dtype):
    x = arrange(strategies.values((3, 4, 50), dtype, 0))
    x.setflags(write=True)
    expected = operation(x.copy())
    assert operation(x, out=x) is x
    same(x, expected)


@dtypes
@pytest.mark.parametrize("operation", [fc.relu, fc.leaky_relu])
@pytest.mark.parametrize(("source", "target"), [(slice(0, 900), slice(1, 901)), (slice(40, 940), slice(0, 900))])
def test_out_may_overlap_the_input(operation, source, target, dtype):
    memory = strategies.values(1000, dtype, 0)
    expected = operation(memory[source].copy())
    operation(memory[source], out=memory[target])
    same(memory[target], expected)


def test_broadcast_input():
    x = np.broadcast_to(np.array([-1.0, 2.0]), (3, 2))
    y = fc.relu(x)
    same(y, np.tile([0.0, 2.0], (3, 1)))
    y[0, 0] = 5  # each element has memory of its own
    assert y[1, 0] == 0


@pytest.mark.torch
@dtypes
def test_torch_agrees(dtype):
    torch = pytest.importorskip("torch")
    x, grad_out = np.array(SPECIAL * 7, dtype), strategies.values(len(SPECIAL) * 7, dtype, 0)
    t, g = torch.from_numpy(x), torch.from_numpy(grad_out)
    same(fc.relu(x), torch.relu(t).numpy())
    same(fc.relu_backward(grad_out, x), torch.ops.aten.threshold_backward(g, t, 0).numpy())
    same(fc.leaky_relu(x, 0.2), torch.nn.functional.leaky_relu(t, 0.2).numpy())
    same(fc.leaky_relu_backward(grad_out, x, 0.2), torch.ops.aten.leaky_relu_backward(g, t, 0.2, False).numpy())


X = np.ones((2, 3), np.float32)
READ_ONLY = strategies.read_only(X)
ERRORS = [
    (fc.relu, {"x": [1.0]}, TypeError, "x must be a numpy.ndarray, got list"),
    (fc.relu, {"x": X.astype(int)}, TypeError, "x must have dtype float16, float32, float64 or bfloat16, got int64"),
    (fc.relu, {"x": X, "out": [0.0]}, TypeError, "out must be a numpy.ndarray, got list"),
    (fc.relu, {"x": X, "out": X.T}, ValueError, "out must have shape (2, 3), got (3, 2)"),
    (fc.relu, {"x": X, "out": X.astype(float)}, TypeError, "out must have dtype float32, got float64"),
    (fc.relu, {"x": X, "out": READ_ONLY}, ValueError, "out must be writable, got a read-only array"),
    (fc.relu_backward, {"grad_out": None, "y": X}, TypeError, "grad_out must be a numpy.ndarray, got NoneType"),
    (fc.relu_backward, {"grad_out": X, "y": 1}, TypeError, "y must be a numpy.ndarray, got int"),
    (fc.relu_backward, {"grad_out": X[0], "y": X}, ValueError, "grad_out must have shape (2, 3), got (3,)"),
    (
        fc.relu_backward,
        {"grad_out": X.astype(float), "y": X},
        TypeError,
        "grad_out must have the dtype of y, float32, got float64",
    ),
    (fc.leaky_relu, {"x": X, "negative_slope": "a"}, TypeError, "negative_slope must be a real number, got 'a'"),
    (fc.leaky_relu, {"x": X, "negative_slope": True}, TypeError, "negative_slope must be a real number, got True"),
    (fc.leaky_relu, {"x": X > 0}, TypeError, "x must have dtype float16, float32, float64 or bfloat16, got bool"),
    (
        fc.leaky_relu_backward,
        {"grad_out": X, "x": X, "negative_slope": None},
        TypeError,
        "negative_slope must be a real number, got None",
    ),
    (
        fc.leaky_relu_backward,
        {"grad_out": X.T, "x": X},
        ValueError,
        "grad_out must have shape (2, 3), got (3, 2)",
    ),
]


@pytest.mark.parametrize(("function", "arguments", "error", "message"), ERRORS)
def test_wrong_arguments(function, arguments, error, message):
    with pytest.raises(error) as raised:
        function(**arguments)
    assert str(raised.value) == message
    assert np.all(X == 1)


def test_out_is_a_keyword():
    with pytest.raises(TypeError, match="positional"):
        fc.relu(X, X)
