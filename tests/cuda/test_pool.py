"""Pooling on CUDA arrays: integers, planes of many elements, and indices outside of their plane."""

import numpy as np
import pytest

pytest.importorskip("fastconv.cuda._jit", reason="the CUDA packages are not installed", exc_type=ImportError)
from hypothesis import given, settings
from hypothesis import strategies as st

import fastconv as fc
from tests import naive
from tests.cuda.agreement import assert_agree, on_cuda
from tests.strategies import channels_last, contiguous, values


@settings(max_examples=15)
@given(st.sampled_from((np.int32, np.int64)), st.integers(0, 9))
def test_max_pool_of_integers(dtype, seed):
    x = np.random.default_rng(seed).integers(-99, 99, (2, 3, 7, 6)).astype(dtype)
    actual = on_cuda(fc.max_pool2d, x, 3, 2, 1, return_indices=True)
    for got, want in zip(actual, naive.max_pool_forward(x, 3, 2, 1), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("shape", [(2, 70, 300), (1, 3, 9000), (300, 5, 2)])
@pytest.mark.parametrize("arrange", [contiguous, channels_last])
def test_sums_of_many_elements(shape, arrange):
    x = arrange(values(shape, np.float32, 1))
    assert_agree(fc.global_avg_pool, x, length=60, scale=0.1)


def test_an_index_outside_of_its_plane_goes_nowhere():
    grad_out, indices = np.ones((1, 1, 3), np.float32), np.array([[[0, 7, -1]]])
    grad_x = on_cuda(fc.max_pool1d_backward, grad_out, indices, (1, 1, 7))
    np.testing.assert_array_equal(grad_x, [[[1, 0, 0, 0, 0, 0, 0]]])
