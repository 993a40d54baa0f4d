"""Pooling on CUDA arrays agrees with the CPU, by executing its PTX."""

import numpy as np
import pytest

pytest.importorskip("fastconv.cuda._jit", reason="the CUDA packages are not installed", exc_type=ImportError)
from hypothesis import given, settings
from hypothesis import strategies as st

import fastconv as fc
from tests import naive
from tests.cuda.agreement import assert_agree, on_cpu, on_cuda
from tests.strategies import channels_last, contiguous, gaps, paddings, per_axis, smallest_size, values

DTYPES = (np.float32, np.float64, np.float16)
EXAMPLES = settings(max_examples=20)


@st.composite
def images(draw, kind=None):
    """An image in some memory order, of some type."""
    rank = draw(st.sampled_from((1, 2, 2, 3)))
    sizes = tuple(draw(st.integers(1, {1: 40, 2: 9, 3: 5}[rank])) for _ in range(rank))
    shape = (draw(st.integers(0, 3)), draw(st.integers(1, 5)), *sizes)
    x = values(shape, draw(st.sampled_from(DTYPES)) if kind is None else kind, draw(st.integers(0, 999)))
    if x.size and draw(st.booleans()):
        x.reshape(-1)[draw(st.integers(0, x.size - 1))] = np.nan
    return draw(st.sampled_from((contiguous, channels_last, gaps)))(x)


@st.composite
def poolings(draw):
    """An image and the arguments of a pooling."""
    x = draw(images())
    rank = x.ndim - 2
    kernel = draw(st.tuples(*[st.integers(1, 3)] * rank))
    padding, dilation = draw(paddings(rank, 2)), draw(per_axis(rank, 2))
    least = [smallest_size(axis, rank, kernel, padding, dilation) for axis in range(rank)]
    sizes = [max(n, m) for n, m in zip(x.shape[2:], least, strict=True)]
    x = np.resize(np.nan_to_num(x), (*x.shape[:2], *sizes)) if list(x.shape[2:]) != sizes else x
    options = {"stride": draw(per_axis(rank, 3)), "padding": padding, "ceil_mode": draw(st.booleans())}
    return x, kernel, options, dilation


def like(x, y, seed=5):
    """Gradients of y, in the memory order of x."""
    grad = values(y.shape, x.dtype, seed)
    return channels_last(grad) if x.strides[1] < x.strides[-1] else grad


def named(operation, x):
    return getattr(fc, operation.replace("pool", f"pool{x.ndim - 2}d"))


@EXAMPLES
@given(poolings())
def test_max_pool(case):
    x, kernel, options, dilation = case
    options = {**options, "dilation": dilation}
    y, indices = assert_agree(named("max_pool", x), x, kernel_size=kernel, return_indices=True, **options)
    np.testing.assert_array_equal(on_cuda(named("max_pool", x), x, kernel_size=kernel, **options), y)
    backward = named("max_pool_backward", x)
    assert_agree(backward, like(x, y), indices, input_shape=x.shape, length=27)


@settings(max_examples=15)
@given(st.sampled_from((np.int32, np.int64)), st.integers(0, 9))
def test_max_pool_of_integers(dtype, seed):
    x = np.random.default_rng(seed).integers(-99, 99, (2, 3, 7, 6)).astype(dtype)
    actual = on_cuda(fc.max_pool2d, x, 3, 2, 1, return_indices=True)
    for got, want in zip(actual, naive.max_pool_forward(x, 3, 2, 1), strict=True):
        np.testing.assert_array_equal(got, want)


@EXAMPLES
@given(poolings(), st.booleans(), st.sampled_from((None, None, 1, 7)))
def test_avg_pool(case, count_include_pad, divisor):
    x, kernel, options, dilation = case
    options |= {"count_include_pad": count_include_pad, "divisor_override": divisor, "dilation": dilation}
    y = assert_agree(named("avg_pool", x), x, kernel_size=kernel, length=27, scale=4.0, **options)
    backward = named("avg_pool_backward", x)
    assert_agree(backward, like(x, y), input_shape=x.shape, kernel_size=kernel, length=27, scale=4.0, **options)


@EXAMPLES
@given(poolings())
def test_sum_pool(case):
    x, kernel, options, _ = case
    options = {**options, "padding": 0} if min(x.shape[2:]) >= 3 else options
    y = assert_agree(named("sum_pool", x), x, kernel_size=kernel, length=27, scale=16.0, **options)
    backward = named("sum_pool_backward", x)
    assert_agree(backward, like(x, y), input_shape=x.shape, kernel_size=kernel, length=27, scale=16.0, **options)


@EXAMPLES
@given(images(), st.data())
def test_adaptive_pool(x, data):
    size = tuple(data.draw(st.integers(1, n)) for n in x.shape[2:])
    y = assert_agree(named("adaptive_avg_pool", x), x, output_size=size, length=40, scale=4.0)
    backward = named("adaptive_avg_pool_backward", x)
    assert_agree(backward, like(x, y), input_shape=x.shape, length=40, scale=4.0)
    assert_agree(named("adaptive_max_pool", x), x, output_size=size, return_indices=True)


@EXAMPLES
@given(images(), st.sampled_from((1.0, 2.0, 3.0, 2.5)))
def test_lp_pool(x, norm_type):
    x = np.abs(np.nan_to_num(x)) + x.dtype.type(0.5)
    kernel = tuple(min(2, n) for n in x.shape[2:])
    y = assert_agree(named("lp_pool", x), x, norm_type=norm_type, kernel_size=kernel, length=60, scale=4.0)
    backward = named("lp_pool_backward", x)
    assert_agree(backward, like(x, y), x, norm_type=norm_type, kernel_size=kernel, length=60, scale=4.0)


@EXAMPLES
@given(images())
def test_max_unpool(x):
    kernel = tuple(min(2, n) for n in x.shape[2:])
    y, indices = on_cpu(named("max_pool", x), x, kernel, return_indices=True)
    y = y.astype(x.dtype)
    assert_agree(named("max_unpool", x), y, indices, output_shape=x.shape)
    assert_agree(named("max_unpool_backward", x), x, indices)


@EXAMPLES
@given(images())
def test_global_pool(x):
    assert_agree(fc.global_avg_pool, x, length=x.size, scale=4.0)
    y, indices = assert_agree(fc.global_max_pool, x, return_indices=True)
    grad_out = values(y.shape, x.dtype, 3)
    assert_agree(fc.global_avg_pool_backward, grad_out, input_shape=x.shape)
    assert_agree(fc.global_max_pool_backward, grad_out, indices, input_shape=x.shape)


@pytest.mark.parametrize("shape", [(2, 70, 300), (1, 3, 9000), (300, 5, 2)])
@pytest.mark.parametrize("arrange", [contiguous, channels_last])
def test_sums_of_many_elements(shape, arrange):
    x = arrange(values(shape, np.float32, 1))
    assert_agree(fc.global_avg_pool, x, length=60, scale=0.1)


def test_an_index_outside_of_its_plane_goes_nowhere():
    grad_out, indices = np.ones((1, 1, 3), np.float32), np.array([[[0, 7, -1]]])
    grad_x = on_cuda(fc.max_pool1d_backward, grad_out, indices, (1, 1, 7))
    np.testing.assert_array_equal(grad_x, [[[1, 0, 0, 0, 0, 0, 0]]])
