"""Unpooling, power-norm and adaptive pooling, and maxima of integers, against the naive definitions and PyTorch."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc
from tests import naive, strategies
from tests.test_pool import Case, cases, close, max_pool, max_pool_backward, max_pool_values, of_rank
from tests.tolerance import assert_close

INTEGERS = [np.dtype(f"{kind}{8 * size}") for kind in ("int", "uint") for size in (1, 2, 4, 8)]


# ------------------------------------------------------------------------------------------------------------- integers
@given(cases(), st.sampled_from(INTEGERS), st.booleans())
def test_maxima_of_integers_are_the_naive_ones(case, dtype, extreme):
    rng, limits = np.random.default_rng(case.seed), np.iinfo(dtype)
    if extreme:
        x = rng.choice(np.array([limits.min, limits.min + 1, limits.max], dtype), case.x.shape)
    else:
        x = rng.integers(0, 5, case.x.shape).astype(dtype)
    x = strategies.channels_last(x) if case.seed % 2 else x
    y, indices = max_pool(x, *case.window)
    expected, expected_indices = naive.max_pool_forward(x, *case.window)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(indices, expected_indices)
    np.testing.assert_array_equal(max_pool_values(x, *case.window), expected)
    assert y.dtype == dtype


@pytest.mark.parametrize("dtype", INTEGERS)
def test_global_and_adaptive_maxima_of_integers(dtype):
    x = np.random.default_rng(1).integers(0, 100, (2, 3, 7, 9)).astype(dtype)
    np.testing.assert_array_equal(fc.global_max_pool(x), x.max((2, 3)))
    y, indices = fc.adaptive_max_pool2d(x, (3, 4), return_indices=True)
    expected, expected_indices = naive.adaptive_max_pool_forward(x, (3, 4))
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(indices, expected_indices)


# ------------------------------------------------------------------------------------------------------------ unpooling
@given(cases(), st.sampled_from([*strategies.DTYPES, *INTEGERS]), st.booleans())
def test_unpooling_is_the_naive_one(case, dtype, channels_last):
    """Of indices that windows gave, which repeat where windows overlap."""
    _, indices = max_pool(case.x, *case.window)
    arrange = strategies.channels_last if channels_last else strategies.contiguous
    x = arrange(np.random.default_rng(case.seed).integers(-100, 100, indices.shape).astype(dtype))
    unpool, backward = (of_rank(name, x.ndim - 2) for name in ("max_unpool", "max_unpool_backward"))
    y = unpool(x, indices, case.x.shape)
    np.testing.assert_array_equal(y, naive.max_unpool_forward(x, indices, case.x.shape))
    assert y.dtype == dtype
    grad_x = backward(y, arrange(indices))
    np.testing.assert_array_equal(grad_x, naive.max_unpool_backward(y, indices))
    assert grad_x.dtype == dtype


@given(cases(integers=True))
def test_unpooling_and_its_gradient_are_adjoint(case):
    """<U x, g> = <x, U* g> for indices that occur once."""
    rng = np.random.default_rng(case.seed)
    size, shape = int(np.prod(case.x.shape[2:])), case.x.shape
    count = int(rng.integers(1, size + 1))
    indices = np.stack([rng.permutation(size)[:count] for _ in range(shape[0] * shape[1])] or [np.zeros((0, count))])
    indices = indices[: shape[0] * shape[1]].reshape(*shape[:2], count, *[1] * (len(shape) - 3)).astype(np.int64)
    x = strategies.values(indices.shape, case.x.dtype, case.seed, integers=True)
    rank = len(shape) - 2
    y = of_rank("max_unpool", rank)(x, indices, shape)
    grad_x = of_rank("max_unpool_backward", rank)(case.x, indices)
    assert np.vdot(y, case.x) == np.vdot(x, grad_x)


def test_unpooling_inverts_pooling_of_windows_that_tile():
    x = strategies.values((2, 3, 8, 12), np.float32, 1)
    y, indices = fc.max_pool2d(x, 2, return_indices=True)
    there = fc.max_unpool2d(y, indices, x.shape)
    np.testing.assert_array_equal(fc.max_pool2d(np.where(there == 0, -np.inf, there).astype(np.float32), 2), y)
    np.testing.assert_array_equal(there[there != 0], x[there != 0])
    np.testing.assert_array_equal(fc.max_unpool2d(y[0], indices[0], x.shape[1:]), there[0])
    np.testing.assert_array_equal(fc.max_unpool2d_backward(x[0], indices[0]), y[0])


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4)])
def test_unpooling_nothing(shape):
    x = np.zeros((*shape[:2], 2, 2), np.float32)
    indices = np.zeros(x.shape, np.int64)
    assert fc.max_unpool2d(x, indices, shape).shape == shape
    assert fc.max_unpool2d_backward(np.zeros(shape, np.float32), indices).shape == x.shape
    empty = np.zeros((2, 3, 0, 2), np.float32)
    assert not fc.max_unpool2d(empty, empty.astype(np.int64), (2, 3, 4, 4)).any()


# ---------------------------------------------------------------------------------------------------------- power norms
EXPONENTS = [1, 2, 3, 0.5, 2.5]


@given(cases(dilation=1), st.sampled_from(EXPONENTS), st.booleans())
def test_power_norms_are_the_naive_ones(case, p, positive):
    x = np.abs(case.x) + case.x.dtype.type(0.1) if positive or p != int(p) else case.x
    kernel, stride, _, _, ceil_mode = case.window
    if any(n < k for n, k in zip(x.shape[2:], kernel, strict=True)):
        return
    rank, window = x.ndim - 2, (p, kernel, stride, ceil_mode)
    y, expected = of_rank("lp_pool", rank)(x, *window), naive.lp_pool_forward(x, *window)
    roundings = 40 * np.finfo(x.dtype).eps * np.prod(kernel)
    well = naive.lp_pool_forward(np.abs(x), *window)
    near = np.abs(expected) > 0.2 * well  # elsewhere terms cancel, and a root makes much of what is left
    np.testing.assert_allclose(y[near], expected[near], rtol=roundings * 5**p)
    grad_out = case.grad_out(y)
    grad_x = of_rank("lp_pool_backward", rank)(grad_out, x, *window)
    assert grad_x.shape == x.shape
    assert grad_x.dtype == x.dtype
    if near.all() or positive:
        exact, size = (naive.lp_pool_backward(g, x, *window) for g in (grad_out, np.abs(grad_out)))
        assert (np.abs(grad_x - exact) <= roundings * 5 ** (p + 1) * (np.abs(size) + 1)).all()


def test_a_norm_of_zero_has_no_gradient():
    x = np.zeros((1, 1, 4, 4), np.float32)
    x[0, 0, 2:, 2:] = [[3, 0], [0, 4]]
    for p in (0.5, 1, 2, 3):
        grad_x = fc.lp_pool2d_backward(np.ones((1, 1, 2, 2), np.float32), x, p, 2)
        assert not np.isnan(grad_x).any()
        np.testing.assert_array_equal(grad_x[0, 0, :2], 0)
    grad_x = fc.lp_pool2d_backward(np.ones((1, 1, 2, 2), np.float32), x, 2, 2)
    np.testing.assert_allclose(grad_x[0, 0, 2:, 2:], [[0.6, 0], [0, 0.8]], rtol=1e-6)


# ------------------------------------------------------------------------------------------------------------- adaptive
@st.composite
def shared(draw, integers=False):
    """An input and as many windows as it is shared among: fewer, as many, and more than it has elements."""
    rank = draw(st.sampled_from((1, 2, 3)))
    largest = {1: 70, 2: 13, 3: 5}[rank]
    sizes = draw(st.tuples(*[st.integers(1, largest)] * rank))
    outputs = draw(st.tuples(*[st.integers(1, largest)] * rank))
    dtype, seed = draw(st.sampled_from(strategies.DTYPES)), draw(st.integers(0, 2**31))
    x = strategies.values((draw(st.integers(0, 2)), draw(st.integers(0, 20)), *sizes), dtype, seed, integers)
    return Case(draw(strategies.arrangements())(x), outputs, (), seed)


@given(shared(), st.booleans())
def test_adaptive_maxima_are_the_naive_ones(case, with_nan):
    x = case.x.copy()
    if with_nan:
        x[strategies.values(x.shape, np.float64, case.seed + 2) > 1.5] = np.nan
    pool = of_rank("adaptive_max_pool", x.ndim - 2)
    y, indices = pool(x, case.window, return_indices=True)
    expected, expected_indices = naive.adaptive_max_pool_forward(x, case.window)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(indices, expected_indices)
    np.testing.assert_array_equal(pool(x, case.window), y)
    grad_out = case.grad_out(y)
    grad_x = max_pool_backward(grad_out, indices, x.shape)
    expected = naive.max_pool_backward(grad_out, indices, x.shape)
    assert_close(grad_x, expected, naive.max_pool_backward(np.abs(grad_out), indices, x.shape), 2 ** (x.ndim - 2))


@given(shared())
def test_adaptive_means_are_the_naive_ones(case):
    x, rank = case.x, case.x.ndim - 2
    y = of_rank("adaptive_avg_pool", rank)(x, case.window)
    size = int(np.prod(x.shape[2:]))
    magnitude = naive.adaptive_avg_pool_forward(np.abs(x), case.window)
    assert_close(y, naive.adaptive_avg_pool_forward(x, case.window), magnitude, size + 2)
    grad_out = case.grad_out(y)
    grad_x = of_rank("adaptive_avg_pool_backward", rank)(grad_out, x.shape)
    expected, magnitude = (naive.adaptive_avg_pool_backward(g, x.shape) for g in (grad_out, np.abs(grad_out)))
    assert_close(grad_x, expected, magnitude, int(np.prod(case.window)) + 4)
    assert y.dtype == grad_x.dtype == x.dtype


def multiples(case):
    """A number that every window's count of elements divides."""
    pairs = zip(case.x.shape[2:], case.window, strict=True)
    counts = [{-(-(i + 1) * n // out) - i * n // out for i in range(out)} for n, out in pairs]
    return math.prod(math.lcm(*each) for each in counts)


@given(shared(integers=True))
def test_adaptive_means_and_their_gradient_are_adjoint(case):
    """<P x, g> = <x, P* g>, exactly for multiples of every divisor."""
    scale, rank = multiples(case), case.x.ndim - 2
    x = case.x.astype(np.float64) * scale
    y = of_rank("adaptive_avg_pool", rank)(x, case.window)
    grad_out = strategies.values(y.shape, np.float64, case.seed + 1, integers=True) * scale
    grad_x = of_rank("adaptive_avg_pool_backward", rank)(grad_out, x.shape)
    assert inner(y, grad_out) == inner(x, grad_x)


def inner(a, b):
    """The inner product of integers that floats hold, exactly."""
    assert np.array_equal(a, np.rint(a))
    assert np.array_equal(b, np.rint(b))
    return sum(int(i) * int(j) for i, j in zip(a.flat, b.flat, strict=True))


def test_an_adaptive_size_may_be_that_of_the_input():
    x = strategies.values((2, 3, 5, 6), np.float32, 1)
    np.testing.assert_array_equal(fc.adaptive_max_pool2d(x, None), x)
    np.testing.assert_array_equal(fc.adaptive_avg_pool2d(x, (None, 3)), fc.avg_pool2d(x, (1, 2)))
    np.testing.assert_array_equal(fc.adaptive_avg_pool2d(x, [5, 3]), fc.avg_pool2d(x, (1, 2)))
    np.testing.assert_array_equal(fc.adaptive_avg_pool2d(x[0], 2), fc.adaptive_avg_pool2d(x, (2, 2))[0])


# -------------------------------------------------------------------------------------------------------------- PyTorch
@pytest.mark.torch
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_the_other_kinds_are_pytorchs(rank, dtype):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x = strategies.values((2, 3, *(7, 9, 12)[:rank]), dtype, 1)

    def compare(name, x, *arguments):
        t = torch.tensor(x, requires_grad=True)
        theirs = getattr(functional, f"{name}{rank}d")(t, *arguments)
        ours = of_rank(name, rank)(x, *arguments)
        grad_out = strategies.values(ours.shape, dtype, 2)
        (grad_x,) = torch.autograd.grad(theirs, t, torch.tensor(grad_out))
        close(ours, theirs)
        rest = (x, *arguments) if name == "lp_pool" else (x.shape,)
        close(of_rank(f"{name}_backward", rank)(grad_out, *rest), grad_x)

    for size in (1, 3, (4, 5, 7)[:rank], (11, 9, 15)[:rank]):
        compare("adaptive_avg_pool", x, size)
        _, indices = of_rank("adaptive_max_pool", rank)(x, size, return_indices=True)
        theirs = getattr(functional, f"adaptive_max_pool{rank}d")(torch.tensor(x), size, return_indices=True)
        np.testing.assert_array_equal(indices, theirs[1])
    for p, kernel, stride, ceil_mode in itertools.product((1, 2, 3), (2, 3), (None, 2), (False, True)):
        compare("lp_pool", np.abs(x) if p == 3 else x, p, kernel, stride, ceil_mode)
    y, indices = max_pool(x, 2)
    u = torch.tensor(y, requires_grad=True)
    theirs = getattr(functional, f"max_unpool{rank}d")(u, torch.tensor(indices), 2, output_size=x.shape)
    np.testing.assert_array_equal(of_rank("max_unpool", rank)(y, indices, x.shape), theirs.detach())
    (grad,) = torch.autograd.grad(theirs, u, torch.tensor(x))
    np.testing.assert_array_equal(of_rank("max_unpool_backward", rank)(x, indices), grad)
