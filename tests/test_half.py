"""16-bit floats: summed in float32 and rounded once, so that results are the rounded ones of float32."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc
from fastconv.cpu import half_layers, product
from tests import naive, strategies

ml_dtypes = pytest.importorskip("ml_dtypes")
HALVES = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))
halves = st.sampled_from(HALVES)


def cast(x, dtype):
    with np.errstate(all="ignore"):  # NaN and what becomes infinite are cast on purpose
        return x.astype(dtype)


def wide(x):
    return cast(x, np.float32) if isinstance(x, np.ndarray) else x


def check(function, *args, exact=True, **options):
    """A function of 16-bit arrays gives what it gives for the same numbers in float32, rounded."""
    dtype = next(arg.dtype for arg in args if isinstance(arg, np.ndarray))
    results = function(*args, **options)
    expected = function(*map(wide, args), **options)
    pairs = zip(results, expected, strict=True) if isinstance(results, tuple) else [(results, expected)]
    for ours, theirs in pairs:
        assert ours.dtype == dtype
        assert ours.shape == theirs.shape
        if exact:
            np.testing.assert_array_equal(wide(ours), wide(cast(theirs, dtype)))
        else:  # sums over images or rows are split in another way: a unit in the last place of the 16-bit float
            scale = 2.0 ** (-10 if dtype == np.float16 else -7)
            np.testing.assert_allclose(wide(ours), theirs, rtol=scale, atol=scale * max(1, abs(theirs).max(initial=0)))
    return results


def in_half(case, dtype, arrange=strategies.contiguous):
    bias = None if case.bias is None else case.bias.astype(dtype)
    return arrange(case.x.astype(dtype)), arrange(case.weight.astype(dtype)), bias


@given(strategies.convolutions(), halves, strategies.arrangements())
def test_convolution(case, dtype, arrange):
    x, weight, bias = in_half(case, dtype)
    name = f"conv{weight.ndim - 2}d"
    y = check(getattr(fc, name), x, weight, bias, **case.options)
    grad_out = arrange(case.grad_out(y))
    grads = check(getattr(fc, f"{name}_backward"), grad_out, x, weight, **case.options)
    alone = getattr(fc, f"{name}_backward_input")(grad_out, weight, x.shape, **case.options)
    np.testing.assert_array_equal(wide(alone), wide(grads.x))
    alone = getattr(fc, f"{name}_backward_weight")(grad_out, x, weight.shape, **case.options)
    np.testing.assert_array_equal(wide(alone), wide(grads.weight))


@given(strategies.transposed_convolutions(), halves, strategies.arrangements())
def test_transposed_convolution(case, dtype, arrange):
    x, weight, bias = in_half(case, dtype)
    name = f"conv_transpose{weight.ndim - 2}d"
    y = check(getattr(fc, name), x, weight, bias, **case.options)
    check(getattr(fc, f"{name}_backward"), arrange(case.grad_out(y)), x, weight, **case.options)


@given(st.integers(0, 5), st.integers(0, 40), st.integers(0, 40), halves, st.integers(0, 1000), st.booleans())
def test_linear(batch, inputs, outputs, dtype, seed, relu):
    shapes = (batch, inputs), (outputs, inputs), (outputs,), (batch, outputs)
    x, weight, bias, grad_out = (strategies.values(shape, dtype, seed + i) for i, shape in enumerate(shapes))
    y = check(fc.linear, x, weight, bias, activation="relu" if relu else None)
    check(fc.linear_backward, grad_out, x, weight)
    out = np.asfortranarray(np.empty(y.shape, dtype))
    assert fc.linear(x, weight, bias, activation="relu" if relu else None, out=out) is out
    np.testing.assert_array_equal(wide(out), wide(y))


@given(st.lists(st.integers(0, 9), max_size=4), halves, strategies.arrangements(), st.integers(0, 1000))
def test_activation(shape, dtype, arrange, seed):
    x, grad_out = (arrange(strategies.values(shape, dtype, seed + i)) for i in range(2))
    for function in (fc.relu, fc.leaky_relu):
        check(function, x)
        out = np.empty(x.shape, dtype)
        assert function(x, out=out) is out
        np.testing.assert_array_equal(wide(out), wide(function(x)))
    check(fc.relu_backward, grad_out, x)
    check(fc.leaky_relu_backward, grad_out, x, 0.3)


@pytest.mark.parametrize("dtype", HALVES)
def test_activation_of_long_and_special_arrays(dtype):
    every = np.arange(2**16, dtype=np.uint16).view(dtype)
    check(fc.relu, every)
    check(fc.leaky_relu, every, 0.01)
    check(fc.relu_backward, every[::-1], every)
    in_place = every.copy()
    assert fc.relu(in_place, out=in_place) is in_place
    np.testing.assert_array_equal(wide(in_place), wide(fc.relu(every)))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), halves, strategies.arrangements(), st.integers(0, 1000))
def test_softmax(shape, dtype, arrange, seed):
    x, grad_out = (arrange(strategies.values(shape, dtype, seed + i)) for i in range(2))
    for name in ("softmax", "log_softmax"):
        y = check(getattr(fc, name), x, axis=seed % len(shape))
        check(getattr(fc, f"{name}_backward"), grad_out, y, axis=seed % len(shape))


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=4), halves, strategies.arrangements(), st.integers(0, 1000),
    st.sampled_from(["mean", "sum", "none"]), st.sampled_from([-100, 0]),
)  # fmt: skip
def test_cross_entropy(shape, dtype, arrange, seed, reduction, ignore_index):
    logits = arrange(strategies.values(shape, dtype, seed))
    classes = min(len(shape) - 1, 1)  # the axis
    labels = np.random.default_rng(seed).integers(
        0, shape[classes], (*shape[:classes], *shape[classes + 1 :]), np.int64
    )
    labels = np.asarray(labels)  # of no axes for logits of one
    options = {"reduction": reduction, "ignore_index": ignore_index}
    for function in (fc.cross_entropy, fc.cross_entropy_backward):
        result, expected = function(logits, labels, **options), function(wide(logits), labels, **options)
        assert result.dtype == dtype
        np.testing.assert_array_equal(wide(np.asarray(result)), wide(cast(np.asarray(expected), dtype)))


# Little is widened at a time, some images or some rows of one: sums over parts differ in the last bits of float32.
@given(strategies.convolutions(), halves, st.sampled_from([30, 200, 1000]))
def test_parts_of_a_batch(case, dtype, chunk):
    x, weight, bias = in_half(case, dtype)
    name = f"conv{weight.ndim - 2}d"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(half_layers, "CHUNK", chunk)
        patch.setattr(half_layers, "ROWS", 1)
        y = check(getattr(fc, name), x, weight, bias, exact=False, **case.options)
        check(getattr(fc, f"{name}_backward"), case.grad_out(y), x, weight, exact=False, **case.options)


@given(strategies.transposed_convolutions(), halves, st.sampled_from([30, 200, 1000]))
def test_parts_of_a_batch_transposed(case, dtype, chunk):
    x, weight, bias = in_half(case, dtype)
    name = f"conv_transpose{weight.ndim - 2}d"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(half_layers, "CHUNK", chunk)
        patch.setattr(half_layers, "ROWS", 1)
        y = check(getattr(fc, name), x, weight, bias, exact=False, **case.options)
        check(getattr(fc, f"{name}_backward"), case.grad_out(y), x, weight, exact=False, **case.options)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("arrange", [strategies.contiguous, strategies.channels_last])
def test_parts_in_any_order(monkeypatch, dtype, arrange):
    monkeypatch.setattr(half_layers, "CHUNK", 200)
    x, weight, bias = (strategies.values(shape, dtype, 1) for shape in ((5, 4, 6, 7), (6, 2, 3, 3), (6,)))
    x, options = arrange(x), {"padding": 1, "groups": 2}
    y = check(fc.conv2d, x, weight, bias, **options)
    out = arrange(np.empty(y.shape, dtype))
    assert fc.conv2d(x, weight, bias, **options, out=out) is out
    np.testing.assert_array_equal(wide(out), wide(y))
    np.testing.assert_array_equal(wide(fc.conv2d(x[3], weight, bias, **options)), wide(y[3]))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(("batch", "outs", "in_place"), [(7, 50, True), (300, 20, False)])
def test_parts_of_a_dense_layer(monkeypatch, dtype, batch, outs, in_place):
    monkeypatch.setattr(half_layers, "WEIGHTS", 200)
    rows, matrix = strategies.values((batch, 30), dtype, 2), strategies.values((outs, 30), dtype, 3)
    assert product.reads_in_place(batch, outs, 30) == in_place
    y = check(fc.linear, rows, matrix)
    check(fc.linear_backward, y, rows, matrix, exact=False)


@pytest.mark.parametrize("dtype", HALVES)
def test_packed_weights(dtype):
    x, weight = strategies.values((2, 8, 9, 9), dtype, 1), strategies.values((16, 8, 3, 3), dtype, 2)
    packed = fc.pack(weight)
    for _ in range(2):
        np.testing.assert_array_equal(wide(fc.conv2d(x, packed)), wide(fc.conv2d(x, weight)))
    rows, matrix = strategies.values((3, 30), dtype, 2), strategies.values((50, 30), dtype, 3)
    np.testing.assert_array_equal(wide(fc.linear(rows, fc.pack(matrix))), wide(fc.linear(rows, matrix)))


def test_a_long_sum_is_formed_in_float32():
    """4096 ones in float16 would stop at 2048 if they were added one by one in float16."""
    ones = np.ones((1, 4096, 1, 1), np.float16)
    assert fc.conv2d(ones, ones) == 4096
    assert fc.linear(ones[:, :, 0, 0], ones[:, :, 0, 0]) == 4096
    grad_out = np.ones((4096, 1, 1, 1), np.float16)
    grads = fc.conv2d_backward(grad_out, grad_out, np.ones((1, 1, 1, 1), np.float16))
    assert grads.weight == grads.bias == 4096


def test_the_naive_definition():
    x, weight = strategies.values((2, 5, 6, 7), np.float16, 1), strategies.values((4, 5, 3, 3), np.float16, 2)
    np.testing.assert_allclose(fc.conv2d(x, weight), naive.conv_forward(x, weight), rtol=2e-3, atol=2e-3)


def test_large_results_are_infinite():
    x = np.full((1, 1, 1), 60000, np.float16)
    assert fc.conv1d(x, np.full((1, 1, 1), 2, np.float16)) == np.inf
