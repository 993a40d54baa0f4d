"""The exponential and the logarithm that loss kernels compute with: accuracy over the whole range, and its edges."""

import numpy as np
import pytest

from fastconv.cpu import _jit
from fastconv.cpu.elementary import exp, exp_below, log1p, scale_of
from fastconv.cpu.pointers import advance, lanes_at, pointer
from fastconv.cpu.vector import load_first, splat, store_first
from tests import strategies

dtypes = pytest.mark.parametrize("dtype", strategies.DTYPES)
ULPS = 0.9  # of the exponential: 0.65 where multiply-add is one instruction, 0.8 elsewhere


@_jit.compiled
def exponentials(x, shift, y):
    source, others, target = pointer(x, 0), pointer(shift, 0), pointer(y, 0)
    zero = splat(source, 0.0)
    for i in range(0, x.size, lanes_at(source)):
        value = exp(load_first(advance(source, i), x.size - i, zero), load_first(advance(others, i), x.size - i, zero))
        store_first(advance(target, i), value, x.size - i)


@_jit.compiled
def ratios(x, peak, y):
    source, target, top = pointer(x, 0), pointer(y, 0), splat(pointer(x, 0), peak)
    for i in range(0, x.size, lanes_at(source)):
        value, scale = load_first(advance(source, i), x.size - i, top), scale_of(top)
        store_first(advance(target, i), exp_below(value, scale) / exp_below(top, scale), x.size - i)


@_jit.compiled
def logarithms(x, y):
    source, target = pointer(x, 0), pointer(y, 0)
    for i in range(0, x.size, lanes_at(source)):
        store_first(
            advance(target, i), log1p(load_first(advance(source, i), x.size - i, splat(source, 0.0))), x.size - i
        )


def exp_of(x, shift=0):
    y = np.empty_like(x)
    exponentials(x, np.full_like(x, shift), y)
    return y


def log1p_of(x):
    y = np.empty_like(x)
    logarithms(x, y)
    return y


def worst(actual, exact, dtype):
    """The largest error in units of the last place of 1."""
    return float(np.max(np.abs(actual.astype(exact.dtype) / exact - 1)) / np.finfo(dtype).eps)


def wide(dtype):
    """A type with digits to spare."""
    if dtype == np.float64 and np.finfo(np.longdouble).eps >= np.finfo(np.float64).eps:
        pytest.skip("no float is wider than float64 here")
    return np.float64 if dtype == np.float32 else np.longdouble


@dtypes
def test_exp_over_the_whole_range(dtype):
    limits = np.finfo(dtype)
    lowest, highest = np.log(limits.tiny) + 1e-5, np.log(limits.max) - 0.35  # 2^(half below the largest exponent)
    rng = np.random.default_rng(0)
    for x in (np.linspace(lowest, highest, 500_001), rng.uniform(-1, 1, 100_001), rng.standard_normal(100_001) * 1e-6):
        x = x.astype(dtype)
        assert worst(exp_of(x), np.exp(x.astype(wide(dtype))), dtype) < ULPS


@dtypes
def test_exp_at_the_edges(dtype):
    limits = np.finfo(dtype)
    x = np.array(
        [-np.inf, -1e30, np.log(limits.tiny) - 0.01, 0.0, -0.0, np.log(limits.max) + 0.01, 1e30, np.inf, np.nan]
    )
    np.testing.assert_array_equal(exp_of(x.astype(dtype)), [0, 0, 0, 1, 1, np.inf, np.inf, np.inf, np.nan])


@dtypes
def test_exp_near_overflow_is_right_or_infinite(dtype):
    x = np.linspace(np.log(np.finfo(dtype).max) - 0.4, np.log(np.finfo(dtype).max), 10_001).astype(dtype)[:-1]
    y = exp_of(x)
    finite = np.isfinite(y)
    assert finite[0]
    assert np.all(np.diff(finite.astype(int)) <= 0)
    assert worst(y[finite], np.exp(x[finite].astype(wide(dtype))), dtype) < ULPS


def test_exp_of_a_difference_that_rounds():
    rng = np.random.default_rng(0)
    x, shift = rng.uniform(-80, 0, 20_000).astype(np.float32), np.float32(3.14159)
    exact = np.exp(x.astype(np.float64) - np.float64(shift))
    assert worst(exp_of(x, shift), exact, np.float32) < ULPS
    assert worst(np.exp(x - shift), exact, np.float32) > 8  # as the plain difference would have it


@dtypes
@pytest.mark.parametrize("peak", [0.0, 0.3, -3.14159, 88.0, -700.0, 2047.5, 2048.0, -12345.6, 1e6, 1e30])
def test_ratios_to_the_exponential_of_a_peak(dtype, peak):
    peak, lowest = dtype(peak), np.log(np.finfo(dtype).tiny) + 1
    x = np.linspace(float(peak) + lowest, float(peak), 100_001).astype(dtype)
    x = np.concatenate([x[(x >= float(peak) + lowest) & (x <= peak)], [peak]])
    y = np.empty_like(x)
    ratios(x, peak, y)
    assert worst(y, np.exp(x.astype(wide(dtype)) - wide(dtype)(peak)), dtype) < 3  # two exponentials and a division
    assert y[-1] == 1
    edges = np.array([np.nan, -np.inf, -1e38, peak + 3 * lowest], dtype)
    ratios(edges, peak, y)
    np.testing.assert_array_equal(y[:4], [np.nan, 0, 0, 0] if abs(peak) < 1e30 else [np.nan, 0, 0, 1])


@dtypes
def test_log1p_over_the_whole_range(dtype):
    rng = np.random.default_rng(0)
    for x in (10.0 ** rng.uniform(-30, 30, 100_001), np.linspace(0, 5, 100_001)[1:], np.arange(1.0, 2000.0)):
        x = x.astype(dtype)
        assert worst(log1p_of(x), np.log1p(x.astype(wide(dtype))), dtype) < 2


@dtypes
def test_log1p_at_the_edges(dtype):
    np.testing.assert_array_equal(log1p_of(np.array([0.0, np.nan], dtype)), [0, np.nan])
    tiny = np.array([np.finfo(dtype).eps, np.finfo(dtype).tiny], dtype)
    np.testing.assert_allclose(log1p_of(tiny), tiny, rtol=2 * np.finfo(dtype).eps)
