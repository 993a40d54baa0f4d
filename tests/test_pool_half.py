"""Pooling of 16-bit floats: widened as they are loaded, summed in float32, and rounded once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc
from tests import strategies
from tests.test_half import HALVES, cast, wide

halves = st.sampled_from(HALVES)
ranks = st.integers(1, 3)


@st.composite
def images(draw):
    """A batch of 16-bit images of one to three axes, at least one of whose elements is NaN now and then."""
    rank = draw(ranks)
    sizes = [draw(st.integers(3, (40, 20, 9)[rank - 1])) for _ in range(rank)]
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 5)), *sizes)
    x = cast(np.random.default_rng(draw(st.integers(0, 99))).standard_normal(shape), draw(halves))
    if draw(st.booleans()):
        x.reshape(-1)[:: draw(st.integers(3, 11))] = np.nan
    return draw(strategies.arrangements())(x)


def check(name, dtype, *args, **options):
    """The function gives of 16-bit arrays what it gives of the same numbers in float32, rounded; indices are equal."""
    function = getattr(fc, name)
    results = function(*args, **options)
    expected = function(*(wide(x) if getattr(x, "dtype", None) == dtype else x for x in args), **options)
    pairs = zip(results, expected, strict=True) if isinstance(results, tuple) else [(results, expected)]
    for ours, theirs in pairs:
        if theirs.dtype == np.int64:
            np.testing.assert_array_equal(ours, theirs)
        else:
            assert ours.dtype == dtype
            np.testing.assert_array_equal(wide(ours), wide(cast(theirs, dtype)))
    return results


@given(images())
def test_maxima(x):
    rank, dtype = x.ndim - 2, x.dtype
    y, indices = check(f"max_pool{rank}d", dtype, x, 3, 2, 1, return_indices=True)
    np.testing.assert_array_equal(wide(check(f"max_pool{rank}d", dtype, x, 3, 2, 1)), wide(y))
    check(f"max_pool{rank}d_backward", dtype, y, indices, x.shape)
    check(f"max_unpool{rank}d", dtype, *check(f"max_pool{rank}d", dtype, x, 2, return_indices=True), x.shape)
    check(f"max_unpool{rank}d_backward", dtype, x, indices)
    check(f"adaptive_max_pool{rank}d", dtype, x, 2, return_indices=True)
    y, indices = check("global_max_pool", dtype, x, return_indices=True)
    check("global_max_pool_backward", dtype, y, indices, x.shape)


@pytest.mark.parametrize("kind", ["avg", "sum"])
@given(images())
def test_sums(kind, x):
    rank, dtype = x.ndim - 2, x.dtype
    y = check(f"{kind}_pool{rank}d", dtype, x, 3, 2, 1, ceil_mode=True)
    check(f"{kind}_pool{rank}d_backward", dtype, y, x.shape, 3, 2, 1, ceil_mode=True)


@given(images())
def test_powers_and_sizes(x):
    rank, dtype = x.ndim - 2, x.dtype
    y = check(f"lp_pool{rank}d", dtype, x, 2.0, 3, 2)
    check(f"lp_pool{rank}d_backward", dtype, y, x, 2.0, 3, 2)
    y = check(f"adaptive_avg_pool{rank}d", dtype, x, 2)
    check(f"adaptive_avg_pool{rank}d_backward", dtype, y, x.shape)
    y = check("global_avg_pool", dtype, x)
    check("global_avg_pool_backward", dtype, y, x.shape)
