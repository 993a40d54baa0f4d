"""PyTorch as the second oracle: values, indices and gradients of every operation, over drawn calls.

``pytest -m torch tests/test_torch.py``. PyTorch computes in float64. What it has no word for is spelled out for it:
pairs and "same" with a stride are zeros padded by hand. What is not compared, and why:

- empty arrays: PyTorch refuses some of them;
- max and average pooling padded by more than half a window, which PyTorch refuses;
- average pooling with dilation, which PyTorch lacks;
- NaN in max pooling: PyTorch's index is that of the last NaN in a window, here it is the first;
- lp pooling of negative numbers with an odd power, where both take roots of negative sums.
"""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fastconv as fc
from tests import naive, strategies

torch = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = pytest.mark.torch

CASES = {  # drawn calls of each operation
    "conv": 400,
    "conv_transpose": 400,
    "max_pool": 300,
    "avg_pool": 300,
    "sum_pool": 60,
    "lp_pool": 100,
    "adaptive_avg_pool": 100,
    "adaptive_max_pool": 100,
    "max_unpool": 100,
    "global_pool": 80,
    "relu": 100,
    "linear": 160,
    "softmax": 160,
    "cross_entropy": 240,
}


def drawn(operation, *arguments, **named):
    """Give a test as many cases as the table says."""

    def decorate(test):
        return settings(max_examples=CASES[operation])(given(*arguments, **named)(test))

    return decorate


def test_there_are_enough_cases():
    assert sum(CASES.values()) >= 2000


# --------------------------------------------------------------------------------------------------------------- tools
def tensor(x):
    """An array in float64, with a gradient; other kinds as they are."""
    if x is None or x.dtype.kind != "f":
        return None if x is None else torch.tensor(np.array(x))
    return torch.tensor(np.array(x, np.float64), requires_grad=True)


def close(ours, theirs):
    theirs = theirs.detach().numpy()
    scale = 1e-11 if ours.dtype == np.float64 else 2e-5
    np.testing.assert_allclose(ours, theirs, rtol=scale, atol=scale * max(1, abs(theirs).max(initial=0)))


def sum_but(x, axis):
    """An array in float64, summed over all axes but one."""
    return torch.tensor(x.astype(np.float64).sum(tuple(d for d in range(x.ndim) if d != axis)))


def gradients(result, inputs, grad_out):
    return torch.autograd.grad(result, inputs, torch.tensor(grad_out.astype(np.float64)), allow_unused=True)


def of_rank(name, rank, where=fc):
    return getattr(where, f"{name}{rank}d")


def backward(name, rank):
    return getattr(fc, f"{name}{rank}d_backward")


def image(data, case):
    """A batch, or its first image where it has one."""
    return case.x[0] if len(case.x) and data.draw(st.booleans()) else case.x


def padded(x, pairs):
    """Zero-padding in PyTorch's order: the last axis first."""
    return F.pad(x, [n for pair in reversed(list(pairs)) for n in pair])


# ---------------------------------------------------------------------------------------------------------- convolution
@drawn("conv", st.data(), strategies.convolutions())
def test_convolution(data, case):
    assume(case.x.size)
    rank, options = case.weight.ndim - 2, case.options
    x = image(data, case)
    relu = data.draw(st.booleans())
    y = of_rank("conv", rank)(x, case.weight, case.bias, **options, activation="relu" if relu else None)
    stride, dilation = (naive.per_axis(options[name], rank) for name in ("stride", "dilation"))
    pairs = naive.padding_pairs(options["padding"], x.shape[-rank:], case.weight.shape[2:], stride, dilation)
    t, weight, bias = map(tensor, (x, case.weight, case.bias))
    theirs = of_rank("conv", rank, F)(padded(t, pairs), weight, bias, stride, 0, dilation, options["groups"])
    close(y, theirs.relu() if relu else theirs)
    grad_out = case.grad_out(y)
    grads = backward("conv", rank)(grad_out, x, case.weight, **options)
    close(
        grads.bias, torch.tensor(grad_out.astype(np.float64)).sum([d for d in range(y.ndim) if d != y.ndim - rank - 1])
    )
    for ours, expected in zip(grads[:2], gradients(theirs, (t, weight), grad_out), strict=True):
        close(ours, expected)


@drawn("conv_transpose", st.data(), strategies.transposed_convolutions())
def test_transposed_convolution(data, case):
    rank, options = case.weight.ndim - 2, dict(case.options)
    symmetric = tuple(min(pair) for pair in options["padding"])
    spelled = options if data.draw(st.booleans()) else {**options, "padding": symmetric}
    x = image(data, case)
    y = of_rank("conv_transpose", rank)(x, case.weight, case.bias, **spelled)
    t, weight, bias = map(tensor, (x, case.weight, case.bias))
    more = spelled["output_padding"]
    whole = of_rank("conv_transpose", rank, F)(
        t, weight, bias, options["stride"], 0, more, options["groups"], options["dilation"]
    )
    pairs = spelled["padding"] if spelled is options else [(p, p) for p in symmetric]
    inside = tuple(
        slice(before, size - after) for (before, after), size in zip(pairs, whole.shape[-rank:], strict=True)
    )
    theirs = whole[(..., *inside)]
    close(y, theirs)
    grad_out = case.grad_out(y)
    grads = backward("conv_transpose", rank)(grad_out, x, case.weight, **spelled)
    for ours, expected in zip(grads[:2], gradients(theirs, (t, weight), grad_out), strict=True):
        close(ours, expected)


# -------------------------------------------------------------------------------------------------------------- pooling
@st.composite
def poolings(draw):
    """Images and a window that PyTorch takes too."""
    rank = draw(st.sampled_from([1, 2, 3]))
    kernel = draw(st.tuples(*[st.integers(1, 4)] * rank))
    stride = draw(st.one_of(st.none(), st.tuples(*[st.integers(1, 4)] * rank)))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    size = tuple(draw(st.integers(k, k + {1: 12, 2: 7, 3: 4}[rank])) for k in kernel)
    x = strategies.values((draw(st.integers(1, 2)), draw(st.integers(1, 5)), *size), draw(dtypes), draw(seeds))
    ties = draw(st.booleans())
    x = np.rint(x).astype(x.dtype) if ties else x
    x = draw(strategies.arrangements())(x)
    return rank, (x[0] if draw(st.booleans()) else x), kernel, stride, padding, draw(st.booleans())


dtypes, seeds = st.sampled_from(strategies.DTYPES), st.integers(0, 2**31)


@drawn("max_pool", st.data(), poolings())
def test_max_pool(data, pooling):
    rank, x, kernel, stride, padding, ceil_mode = pooling
    dilation = (
        data.draw(st.integers(1, 2))
        if all(s > 2 * (k - 1) for s, k in zip(x.shape[-rank:], kernel, strict=True))
        else 1
    )
    window = kernel, stride, padding, dilation, ceil_mode
    y, indices = of_rank("max_pool", rank)(x, *window, return_indices=True)
    t = tensor(x)
    theirs, positions = of_rank("max_pool", rank, F)(t, *window, return_indices=True)
    np.testing.assert_array_equal(y, theirs.detach().numpy())
    np.testing.assert_array_equal(indices, positions.numpy())
    np.testing.assert_array_equal(of_rank("max_pool", rank)(x, *window), y)
    grad_out = strategies.values(y.shape, y.dtype, 1)
    close(backward("max_pool", rank)(grad_out, indices, x.shape), gradients(theirs, t, grad_out)[0])


@drawn("avg_pool", st.data(), poolings())
def test_avg_pool(data, pooling):
    rank, x, *window = pooling
    window.append(data.draw(st.booleans()))
    if rank > 1:  # PyTorch has no divisor for one axis
        window.append(data.draw(st.sampled_from([None, 3, 7])))
    y = of_rank("avg_pool", rank)(x, *window)
    t = tensor(x)
    theirs = of_rank("avg_pool", rank, F)(t, *window)
    close(y, theirs)
    grad_out = strategies.values(y.shape, y.dtype, 1)
    close(backward("avg_pool", rank)(grad_out, x.shape, *window), gradients(theirs, t, grad_out)[0])


@drawn("sum_pool", poolings())
def test_sum_pool(pooling):
    """An average whose divisor is 1; PyTorch has a divisor for two and three axes."""
    rank, x, kernel, stride, padding, ceil_mode = pooling
    y = of_rank("sum_pool", rank)(x, kernel, stride, padding, ceil_mode)
    t = tensor(x)
    if rank == 1:
        window = (1, *kernel), stride and (1, *stride), (0, *padding), ceil_mode
        theirs = F.avg_pool2d(t.unsqueeze(-2), *window, True, 1).squeeze(-2)
    else:
        theirs = of_rank("avg_pool", rank, F)(t, kernel, stride, padding, ceil_mode, True, 1)
    close(y, theirs)
    grad_out = strategies.values(y.shape, y.dtype, 1)
    grad_x = backward("sum_pool", rank)(grad_out, x.shape, kernel, stride, padding, ceil_mode)
    close(grad_x, gradients(theirs, t, grad_out)[0])


@drawn("lp_pool", st.sampled_from([1, 2, 3]), poolings())
def test_lp_pool(power, pooling):
    rank, x, kernel, stride, _, ceil_mode = pooling
    x = (x if power == 2 else abs(x)) + x.dtype.type(0.1)  # the root has no derivative at 0
    arguments = power, kernel, stride, ceil_mode
    y = of_rank("lp_pool", rank)(x, *arguments)
    t = tensor(x)
    if rank == 1:  # PyTorch takes ints only
        kernel, stride = kernel[0], None if stride is None else stride[0]
    theirs = of_rank("lp_pool", rank, F)(t, power, kernel, stride, ceil_mode)
    close(y, theirs)
    grad_out = strategies.values(y.shape, y.dtype, 1)
    close(backward("lp_pool", rank)(grad_out, x, *arguments), gradients(theirs, t, grad_out)[0])


@drawn("adaptive_avg_pool", st.data(), poolings())
def test_adaptive_avg_pool(data, pooling):
    rank, x, *_ = pooling
    size = data.draw(st.tuples(*[st.integers(1, 6)] * rank))
    y = of_rank("adaptive_avg_pool", rank)(x, size)
    t = tensor(x)
    theirs = of_rank("adaptive_avg_pool", rank, F)(t, size)
    close(y, theirs)
    grad_out = strategies.values(y.shape, y.dtype, 1)
    close(backward("adaptive_avg_pool", rank)(grad_out, x.shape), gradients(theirs, t, grad_out)[0])


@drawn("adaptive_max_pool", st.data(), poolings())
def test_adaptive_max_pool(data, pooling):
    rank, x, *_ = pooling
    size = data.draw(st.tuples(*[st.integers(1, 6)] * rank))
    y, indices = of_rank("adaptive_max_pool", rank)(x, size, return_indices=True)
    t = tensor(x)
    theirs, positions = of_rank("adaptive_max_pool", rank, F)(t, size, return_indices=True)
    np.testing.assert_array_equal(y, theirs.detach().numpy())
    np.testing.assert_array_equal(indices, positions.numpy())
    grad_out = strategies.values(y.shape, y.dtype, 1)
    close(backward("max_pool", rank)(grad_out, indices, x.shape), gradients(theirs, t, grad_out)[0])


@drawn("max_unpool", poolings())
def test_max_unpool(pooling):
    rank, x, kernel, *_ = pooling
    y, indices = of_rank("max_pool", rank)(x, kernel, return_indices=True)  # windows that share no element
    t = tensor(y)
    theirs = of_rank("max_unpool", rank, F)(t, torch.tensor(indices), kernel, output_size=x.shape[-rank:])
    ours = of_rank("max_unpool", rank)(y, indices, x.shape)
    np.testing.assert_array_equal(ours, theirs.detach().numpy())
    grad_out = strategies.values(ours.shape, ours.dtype, 1)
    close(backward("max_unpool", rank)(grad_out, indices), gradients(theirs, t, grad_out)[0])


@drawn("global_pool", poolings())
def test_global_pool(pooling):
    rank, x, *_ = pooling
    x = x if x.ndim == rank + 2 else x[np.newaxis]
    t = tensor(x)
    means, maxima = t.mean(tuple(range(2, t.ndim))), t.flatten(2).max(2)
    close(fc.global_avg_pool(x), means)
    y, indices = fc.global_max_pool(x, return_indices=True)
    np.testing.assert_array_equal(y, maxima.values.detach().numpy())
    np.testing.assert_array_equal(indices, maxima.indices.numpy())
    grad_out = strategies.values(y.shape, y.dtype, 1)
    close(fc.global_avg_pool_backward(grad_out, x.shape), gradients(means, t, grad_out)[0])
    close(fc.global_max_pool_backward(grad_out, indices, x.shape), gradients(maxima.values, t, grad_out)[0])


# --------------------------------------------------------------------------------------- activation, dense layer, loss
shapes = st.lists(st.integers(1, 6), min_size=1, max_size=4)


@drawn("relu", shapes, dtypes, seeds, strategies.arrangements(), st.floats(0, 2))
def test_relu(shape, dtype, seed, arrange, slope):
    x, grad_out = (arrange(strategies.values(shape, dtype, seed + i)) for i in range(2))
    t = tensor(x)
    for ours, grad, theirs in (
        (fc.relu(x), fc.relu_backward(grad_out, fc.relu(x)), F.relu(t)),
        (fc.leaky_relu(x, slope), fc.leaky_relu_backward(grad_out, x, slope), F.leaky_relu(t, slope)),
    ):
        close(ours, theirs)
        close(grad, gradients(theirs, t, grad_out)[0])


@drawn("linear", shapes, st.integers(1, 40), dtypes, seeds, strategies.arrangements(), st.booleans())
def test_linear(shape, out_features, dtype, seed, arrange, with_bias):
    x, weight = (
        arrange(strategies.values(shape, dtype, seed)),
        strategies.values((out_features, shape[-1]), dtype, seed + 1),
    )
    bias = strategies.values((out_features,), dtype, seed + 2) if with_bias else None
    y = fc.linear(x, arrange(weight), bias)
    t, w, b = map(tensor, (x, weight, bias))
    theirs = F.linear(t, w, b)
    close(y, theirs)
    grad_out = strategies.values(y.shape, dtype, seed + 3)
    grads = fc.linear_backward(grad_out, x, weight)
    for ours, expected in zip(grads[:2], gradients(theirs, (t, w), grad_out), strict=True):
        close(ours, expected)
    close(grads.bias, sum_but(grad_out, y.ndim - 1))


@drawn("softmax", st.data(), shapes, dtypes, seeds, strategies.arrangements(), st.sampled_from([1, 30, 1e4]))
def test_softmax(data, shape, dtype, seed, arrange, scale):
    x = arrange((strategies.values(shape, np.float64, seed) * scale).astype(dtype))
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    grad_out = arrange(strategies.values(x.shape, dtype, seed + 1))
    t = tensor(x)
    for name in ("softmax", "log_softmax"):
        y, theirs = getattr(fc, name)(x, axis), getattr(F, name)(t, axis)
        close(y, theirs)
        close(getattr(fc, f"{name}_backward")(grad_out, y, axis), gradients(theirs, t, grad_out)[0])


@drawn("cross_entropy", st.data(), st.lists(st.integers(1, 5), max_size=3), dtypes, seeds, strategies.arrangements())
def test_cross_entropy(data, shape, dtype, seed, arrange):
    batch, classes, *spatial = (*shape, 2, 3)[:2] if len(shape) < 2 else shape
    scale = data.draw(st.sampled_from([1, 30, 1e4]))
    logits = arrange((strategies.values((batch, classes, *spatial), np.float64, seed) * scale).astype(dtype))
    ignore_index = data.draw(st.sampled_from([-100, 0, classes - 1]))
    labels = np.random.default_rng(seed).integers(0, classes, (batch, *spatial))
    labels[np.random.default_rng(seed + 1).random(labels.shape) < 0.2] = ignore_index
    options = {"reduction": data.draw(st.sampled_from(["mean", "sum", "none"])), "ignore_index": ignore_index}
    ours = fc.cross_entropy(logits, labels, **options)
    t = tensor(logits)
    theirs = F.cross_entropy(t, torch.tensor(labels), **options)
    close(np.asarray(ours), theirs)
    if np.isnan(theirs.detach().numpy()).any():
        return  # the mean of nothing: its gradient is 0 here, NaN in PyTorch
    close(fc.cross_entropy_backward(logits, labels, **options), torch.autograd.grad(theirs.sum(), t)[0])
