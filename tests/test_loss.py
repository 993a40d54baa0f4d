"""Softmax, log-softmax and cross-entropy: right to the last digits, any axis and memory order, extreme logits."""

import numba
import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc
from tests import naive, strategies

F32, F64 = np.float32, np.float64
dtypes = pytest.mark.parametrize("dtype", strategies.DTYPES)
# Largest relative error of a probability or a loss, against the naive one of the same numbers in float64.
RELATIVE = {F32: 1e-6, F64: 1e-13}
SHAPES = [
    ((7, 10), 1), ((3, 1000), 1), ((1, 1), 0), ((5, 1), 1), ((1, 2099), 1), ((300, 3), 1), ((17,), 0),
    ((2, 21, 9, 13), 1), ((2, 300, 2, 2), 1), ((2, 5, 4000), 1), ((10, 33), 0),
    ((2, 3, 4, 5), 2), ((2, 3, 4, 5), -1), ((40, 7, 1, 1), 1),
]  # fmt: skip


def close(actual, expected, scale=0.0):
    """Equal within a relative error; ``scale`` is what terms that cancel out are measured by."""
    assert actual.shape == expected.shape
    assert actual.flags.writeable
    limit = RELATIVE[actual.dtype.type] * np.maximum(np.abs(expected), scale) + np.finfo(actual.dtype).tiny
    error = np.abs(actual.astype(F64) - expected)
    assert np.all(error <= limit), f"worst error {np.max(error / limit):.3g} times the allowed one"


def check_softmax(x, grad_out, axis):
    y, log_y = fc.softmax(x, axis), fc.log_softmax(x, axis)
    assert y.dtype == log_y.dtype == x.dtype
    close(y, naive.softmax_forward(x, axis))
    close(log_y, naive.log_softmax_forward(x, axis))
    summed = np.abs(grad_out).sum(axis, keepdims=True, dtype=F64)
    largest = np.abs(grad_out).max(axis, keepdims=True, initial=0).astype(F64)
    close(fc.softmax_backward(grad_out, y, axis), naive.softmax_backward(grad_out, y, axis), 4 * largest * y)
    # The result depends on the rounding of y, by as much as y itself is larger than its last digit.
    expected = naive.log_softmax_backward(grad_out, log_y, axis)
    close(fc.log_softmax_backward(grad_out, log_y, axis), expected, np.abs(grad_out) + summed)


@st.composite
def columns(draw, smallest=1):
    """Logits of any rank, wide apart or close together, a gradient, and the axis."""
    shape = tuple(draw(st.lists(st.integers(smallest, 9), min_size=1, max_size=4)))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    dtype, seed = draw(st.sampled_from(strategies.DTYPES)), draw(st.integers(0, 2**31))
    spread = draw(st.sampled_from([1e-3, 1.0, 10.0, 100.0, 1e4]))
    x = (strategies.values(shape, dtype, seed) * dtype(spread)).astype(dtype)
    grad_out = strategies.values(shape, dtype, seed + 1)
    return draw(strategies.arrangements())(x), draw(strategies.arrangements())(grad_out), axis


@given(columns())
def test_softmax_is_the_naive_one(case):
    check_softmax(*case)


@dtypes
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_sizes(shape, axis, dtype):
    check_softmax(strategies.values(shape, dtype, 1) * dtype(4), strategies.values(shape, dtype, 2), axis)


@dtypes
@pytest.mark.parametrize("arrange", strategies.ARRANGEMENTS.values(), ids=strategies.ARRANGEMENTS)
def test_the_memory_order_is_kept(arrange, dtype):
    x = arrange(strategies.values((2, 3, 4, 5), dtype, 0))
    labels = np.zeros((2, 4, 5), int)
    results = [fc.softmax(x, 1), fc.log_softmax(x, 1), fc.softmax_backward(x, x, 1), fc.log_softmax_backward(x, x, 1)]
    for y in [*results, fc.cross_entropy_backward(x, labels)]:
        assert np.argsort(np.abs(y.strides)).tolist() == np.argsort(np.abs(x.strides)).tolist()


@dtypes
@pytest.mark.parametrize("shape", [(5, 10), (1000, 3), (3, 10, 20), (2, 4, 3, 7)])
def test_scipy_agrees(shape, dtype):
    x = strategies.values(shape, dtype, 0) * dtype(5)
    wide = x.astype(F64)
    for axis in range(len(shape)):
        close(fc.softmax(x, axis), scipy.special.softmax(wide, axis))
        # SciPy adds the largest term, 1, to the others before the logarithm, which leaves fewer digits.
        close(fc.log_softmax(x, axis), scipy.special.log_softmax(wide, axis), 1e-2)
    losses = -scipy.special.log_softmax(wide, 1)[:, 0]
    close(fc.cross_entropy(x, np.zeros(losses.shape, int), reduction="none"), losses, 1e-2)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,), (2, 0, 4)])
@pytest.mark.parametrize("operation", [fc.softmax, fc.log_softmax])
def test_empty(operation, shape):
    for axis in range(len(shape)):
        assert operation(np.empty(shape, F32), axis).shape == shape


# ------------------------------------------------------------------------------------------------------ extreme logits
@dtypes
@pytest.mark.parametrize("size", [2, 50])
@pytest.mark.parametrize("seed", range(3))
def test_logits_of_ten_thousand(seed, size, dtype):
    x = np.random.default_rng(seed).choice([-1e4, 1e4, 0.0, 9999.0, -9999.0], (40, size)).astype(dtype)
    labels = np.arange(40) % size
    check_softmax(x, np.ones_like(x), 1)
    check_cross_entropy(x, labels)
    everything = fc.softmax(x), fc.log_softmax(x), fc.cross_entropy_backward(x, labels), fc.cross_entropy(x, labels)
    assert all(np.isfinite(part).all() for part in everything)


@dtypes
def test_infinite_and_missing_logits(dtype):
    inf, nan = np.inf, np.nan
    x = np.array([[-inf, 0, 0], [inf, 0, 0], [-inf, -inf, -inf], [nan, 0, 0], [0, nan, inf]], dtype)
    for layout in (x, np.ascontiguousarray(x.T).T):
        np.testing.assert_array_equal(fc.softmax(layout), [[0, 0.5, 0.5]] + [[nan] * 3] * 4)
        log_y = fc.log_softmax(layout)
        np.testing.assert_allclose(log_y[0], [-inf, -np.log(2), -np.log(2)], rtol=1e-6)
        assert np.isnan(log_y[1:]).all()
    assert fc.cross_entropy(x[:1], np.array([0])) == inf
    np.testing.assert_allclose(fc.cross_entropy(x[:1], np.array([1])), np.log(2), rtol=1e-6)
    assert np.isnan(fc.cross_entropy(x, np.zeros(5, int), reduction="none")[1:]).all()


@dtypes
def test_a_confident_prediction_keeps_its_digits(dtype):
    """1 + tail would lose a tail of 1e-9 in float32, and half of its digits in float64."""
    x, label = np.array([[0.0, -20.0, -21.0]], dtype), np.array([0])
    tail = np.exp(-20.0) + np.exp(-21.0)
    close(fc.cross_entropy(x, label, reduction="none"), np.log1p([tail]))
    close(fc.log_softmax(x)[:, 0], -np.log1p([tail]))
    close(fc.cross_entropy_backward(x, label)[:, 0], np.array([-tail / (1 + tail)]))


@dtypes
def test_far_below_the_maximum(dtype):
    """The rounding of a difference of two logits is not a relative error of the probability."""
    x = np.array([[0.1, 70.03, -10.7]], dtype)
    close(fc.softmax(x), naive.softmax_forward(x, 1))


@pytest.mark.parametrize("size", [5000, 300_000])
def test_long_sums_do_not_drift(size):
    """Equal terms round in the same direction, which a plain float32 sum adds up."""
    x = np.full((1, size), -1.3, F32)
    x[0, 7] = 0
    close(fc.softmax(x), naive.softmax_forward(x, 1))
    close(fc.softmax(np.repeat(x.T, 3, 1), 0)[:, 1], naive.softmax_forward(x, 1)[0])


# ------------------------------------------------------------------------------------------------------- cross-entropy
def check_cross_entropy(logits, labels, ignore_index=-100):
    options = {"ignore_index": ignore_index}
    losses = naive.cross_entropy_forward(logits, labels, ignore_index)
    grads = naive.cross_entropy_backward(logits, labels, ignore_index)
    counted = np.count_nonzero(labels != ignore_index)
    actual = fc.cross_entropy(logits, labels, reduction="none", **options)
    assert actual.dtype == logits.dtype
    close(actual, losses)
    for reduction, weight in (("sum", 1), ("mean", 1 / max(counted, 1)), ("none", 1)):
        close(fc.cross_entropy_backward(logits, labels, reduction=reduction, **options), grads * weight)
        if reduction != "none":
            total = fc.cross_entropy(logits, labels, reduction=reduction, **options)
            assert type(total) is logits.dtype.type
            if reduction == "mean" and not counted:
                assert np.isnan(total)
            else:
                np.testing.assert_allclose(total, losses.sum() * weight, RELATIVE[logits.dtype.type], 1e-40)


@st.composite
def classifications(draw):
    """Logits of any rank, labels of any integer dtype, some of them ignored."""
    batch, classes = draw(st.integers(0, 20)), draw(st.integers(1, 20))
    spatial = draw(st.lists(st.integers(1, 5), max_size=3))
    dtype, seed = draw(st.sampled_from(strategies.DTYPES)), draw(st.integers(0, 2**31))
    rng = np.random.default_rng(seed)
    spread = draw(st.sampled_from([0.1, 3.0, 100.0, 1e4]))
    logits = (rng.standard_normal((batch, classes, *spatial)) * spread).astype(dtype)
    kind = draw(st.sampled_from([np.int64, np.int32, np.int8, np.uint8, np.uint64, ">i4"]))
    ignore_index = draw(st.sampled_from([100, 0] if np.dtype(kind).kind == "u" else [-100, -1, 100, 0]))
    labels = rng.integers(0, classes, (batch, *spatial))
    labels = np.where(rng.random(labels.shape) < draw(st.sampled_from([0, 0.3, 1])), ignore_index, labels).astype(kind)
    return draw(strategies.arrangements())(logits), labels, ignore_index


@given(classifications())
def test_cross_entropy_is_the_naive_one(case):
    check_cross_entropy(*case)


@dtypes
@pytest.mark.parametrize("shape", [(64, 10), (3, 1000), (5000, 2), (2, 21, 33, 17), (2, 3, 5000), (9, 100, 1, 1)])
def test_sizes_of_cross_entropy(shape, dtype):
    labels = np.arange(int(np.prod(shape)) // shape[1]).reshape(shape[0], *shape[2:]) % shape[1]
    logits = strategies.values(shape, dtype, 0) * dtype(3)
    check_cross_entropy(logits, labels)
    check_cross_entropy(strategies.channels_last(logits), np.asfortranarray(labels))


def test_one_item_without_a_batch():
    logits, label = np.array([0.0, 1.0, 2.0]), np.array(1)
    losses, grad = fc.cross_entropy(logits, label, reduction="none"), fc.cross_entropy_backward(logits, label)
    assert losses.shape == ()
    assert losses == fc.cross_entropy(logits, label) == fc.cross_entropy(logits[np.newaxis], label[np.newaxis])
    np.testing.assert_array_equal(grad, fc.cross_entropy_backward(logits[np.newaxis], label[np.newaxis])[0])


def test_the_gradient_is_the_slope_of_the_loss():
    logits = strategies.values((6, 5, 2), F64, 0)
    labels = np.array([[0, 1], [2, 3], [4, 0], [-100, 2], [1, -100], [3, 4]])
    grad, step = fc.cross_entropy_backward(logits, labels), 1e-6
    for index in np.ndindex(logits.shape):
        above, below = logits.copy(), logits.copy()
        above[index] += step
        below[index] -= step
        slope = (fc.cross_entropy(above, labels) - fc.cross_entropy(below, labels)) / (2 * step)
        assert abs(slope - grad[index]) < 1e-9


@dtypes
def test_nothing_to_count(dtype):
    """The mean of no losses is NaN, and its gradient 0 wherever there are logits."""
    empty, ignored = np.empty((0, 3), dtype), np.full((2, 3), np.nan, dtype)
    for logits, labels in ((empty, np.empty(0, int)), (ignored, np.full(2, -100))):
        assert np.isnan(fc.cross_entropy(logits, labels))
        assert fc.cross_entropy(logits, labels, reduction="sum") == 0
        assert fc.cross_entropy(logits, labels, reduction="none").tolist() == [0] * len(labels)
        np.testing.assert_array_equal(fc.cross_entropy_backward(logits, labels), np.zeros(logits.shape))


# ------------------------------------------------------------------------------------------------------ reproducibility
@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="NUMBA_NUM_THREADS allows one thread only")
@dtypes
@pytest.mark.parametrize("shape", [(4000, 40), (3, 70_000), (2, 21, 90, 91)])
def test_neither_threads_nor_the_batch_change_a_bit(shape, dtype):
    x, grad_out = strategies.values(shape, dtype, 0), strategies.values(shape, dtype, 1)
    labels = np.arange(x.size // shape[1]).reshape(shape[0], *shape[2:]) * 7 % shape[1]

    def everything(x, grad_out, labels):
        return [
            fc.softmax(x, 1), fc.log_softmax(x, 1),
            fc.softmax_backward(grad_out, x, 1), fc.log_softmax_backward(grad_out, x, 1),
            fc.cross_entropy(x, labels, reduction="none"), fc.cross_entropy_backward(x, labels, reduction="sum"),
        ]  # fmt: skip

    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        alone, total = everything(x, grad_out, labels), fc.cross_entropy(x, labels)
        numba.set_num_threads(2)
        assert total == fc.cross_entropy(x, labels)
        for one, two in zip(alone, everything(x, grad_out, labels), strict=True):
            assert one.tobytes() == two.tobytes()
    finally:
        numba.set_num_threads(before)
    for whole, part in zip(alone, everything(x[1:2], grad_out[1:2], labels[1:2]), strict=True):
        assert whole[1:2].tobytes() == part.tobytes()


@pytest.mark.torch
@dtypes
@pytest.mark.parametrize("shape", [(12, 10), (3, 7, 5, 4)])
def test_torch_agrees(shape, dtype):
    torch = pytest.importorskip("torch")
    tight = {"rtol": 3e-6 if dtype == F32 else 1e-12, "atol": 1e-6 if dtype == F32 else 1e-15}
    logits = strategies.values(shape, dtype, 0) * dtype(3)
    labels = np.arange(logits.size // shape[1]).reshape(shape[0], *shape[2:]) % shape[1]
    labels.flat[3] = -100
    for reduction in ("mean", "sum", "none"):
        t = torch.tensor(logits, requires_grad=True)
        loss = torch.nn.functional.cross_entropy(t, torch.from_numpy(labels), reduction=reduction)
        loss.sum().backward()
        ours = fc.cross_entropy(logits, labels, reduction=reduction)
        np.testing.assert_allclose(ours, loss.detach().numpy(), **tight)
        grad = fc.cross_entropy_backward(logits, labels, reduction=reduction)
        np.testing.assert_allclose(grad, t.grad.numpy(), **tight)
    grad_out = strategies.values(shape, dtype, 1)
    for forward, backward, theirs in (
        (fc.softmax, fc.softmax_backward, torch.softmax),
        (fc.log_softmax, fc.log_softmax_backward, torch.log_softmax),
    ):
        t = torch.tensor(logits, requires_grad=True)
        y = theirs(t, 1)
        y.backward(torch.from_numpy(grad_out))
        np.testing.assert_allclose(forward(logits, 1), y.detach().numpy(), **tight)
        np.testing.assert_allclose(backward(grad_out, y.detach().numpy(), 1), t.grad.numpy(), **tight)


# --------------------------------------------------------------------------------------------------------------- errors
X, LABELS = np.ones((2, 3), F32), np.array([0, 2])
RANGE = "labels must be from 0 to 2 or ignore_index = -100, got "
ERRORS = [
    (fc.softmax, {"x": [1.0]}, TypeError, "x must be a numpy.ndarray, got list"),
    (fc.softmax, {"x": X.astype(int)}, TypeError, "x must have dtype float16, float32, float64 or bfloat16, got int64"),
    (fc.softmax, {"x": X, "axis": 1.0}, TypeError, "axis must be an int, got 1.0"),
    (fc.softmax, {"x": X, "axis": None}, TypeError, "axis must be an int, got None"),
    (fc.softmax, {"x": X, "axis": True}, TypeError, "axis must be an int, got True"),
    (fc.softmax, {"x": X, "axis": 2}, ValueError, "axis must be from -2 to 1 for x of shape (2, 3), got 2"),
    (fc.log_softmax, {"x": X, "axis": -3}, ValueError, "axis must be from -2 to 1 for x of shape (2, 3), got -3"),
    (fc.log_softmax, {"x": np.array(1.0)}, ValueError, "x must have at least 1 dimension, got 0 (shape ())"),
    (fc.softmax_backward, {"grad_out": X, "y": 1}, TypeError, "y must be a numpy.ndarray, got int"),
    (fc.softmax_backward, {"grad_out": X.T, "y": X}, ValueError, "grad_out must have shape (2, 3), got (3, 2)"),
    (
        fc.softmax_backward,
        {"grad_out": X.astype(F64), "y": X},
        TypeError,
        "grad_out must have the dtype of y, float32, got float64",
    ),
    (
        fc.log_softmax_backward,
        {"grad_out": X, "y": X, "axis": 5},
        ValueError,
        "axis must be from -2 to 1 for y of shape (2, 3), got 5",
    ),
    (fc.cross_entropy, {"logits": X, "labels": [0, 1]}, TypeError, "labels must be a numpy.ndarray, got list"),
    (fc.cross_entropy, {"logits": None, "labels": LABELS}, TypeError, "logits must be a numpy.ndarray, got NoneType"),
    (
        fc.cross_entropy,
        {"logits": X, "labels": LABELS.astype(F32)},
        TypeError,
        "labels must have an integer dtype, got float32",
    ),
    (fc.cross_entropy, {"logits": X, "labels": LABELS > 0}, TypeError, "labels must have an integer dtype, got bool"),
    (
        fc.cross_entropy,
        {"logits": X > 0, "labels": LABELS},
        TypeError,
        "logits must have dtype float16, float32, float64 or bfloat16, got bool",
    ),
    (
        fc.cross_entropy,
        {"logits": X, "labels": np.array([0, 1, 2])},
        ValueError,
        "labels must have shape (2,) for logits of shape (2, 3), got (3,)",
    ),
    (
        fc.cross_entropy,
        {"logits": np.ones((2, 3, 4)), "labels": LABELS},
        ValueError,
        "labels must have shape (2, 4) for logits of shape (2, 3, 4), got (2,)",
    ),
    (
        fc.cross_entropy,
        {"logits": np.array(1.0), "labels": np.array(0)},
        ValueError,
        "logits must have at least 1 dimension, got 0 (shape ())",
    ),
    (fc.cross_entropy, {"logits": X, "labels": np.array([0, 3])}, ValueError, RANGE + "3"),
    (fc.cross_entropy, {"logits": X, "labels": np.array([-1, 0])}, ValueError, RANGE + "-1"),
    (
        fc.cross_entropy,
        {"logits": X, "labels": np.array([0, 2**64 - 1], np.uint64)},
        ValueError,
        RANGE + str(2**64 - 1),
    ),
    (fc.cross_entropy, {"logits": X[:, :0], "labels": LABELS}, ValueError, "labels must be from 0 to -1 or"),
    (
        fc.cross_entropy,
        {"logits": X, "labels": LABELS, "reduction": "average"},
        ValueError,
        'reduction must be "mean", "sum" or "none", got \'average\'',
    ),
    (
        fc.cross_entropy,
        {"logits": X, "labels": LABELS, "reduction": None},
        ValueError,
        'reduction must be "mean", "sum" or "none", got None',
    ),
    (
        fc.cross_entropy,
        {"logits": X, "labels": LABELS, "ignore_index": 0.5},
        TypeError,
        "ignore_index must be an int, got 0.5",
    ),
    (
        fc.cross_entropy_backward,
        {"logits": X, "labels": LABELS[:1]},
        ValueError,
        "labels must have shape (2,) for logits of shape (2, 3), got (1,)",
    ),
    (fc.cross_entropy_backward, {"logits": X, "labels": LABELS + 1}, ValueError, RANGE + "3"),
]


@pytest.mark.parametrize(("function", "arguments", "error", "message"), ERRORS)
def test_wrong_arguments(function, arguments, error, message):
    with pytest.raises(error) as raised:
        function(**arguments)
    assert str(raised.value).startswith(message) if message.endswith(" or") else str(raised.value) == message


@pytest.mark.parametrize("function", [fc.cross_entropy, fc.cross_entropy_backward])
def test_options_are_keywords(function):
    with pytest.raises(TypeError, match="positional"):
        function(X, LABELS, "sum")
