"""Pooling on CUDA arrays: integers, planes of many elements, and indices outside of their plane."""

import numpy as np
import pytest

pytest.importorskip("fastconv.cuda._jit", reason="the CUDA packages are not installed", exc_type=ImportError)
import fastconv as fc
from tests.cuda.agreement import assert_agree, items, on_cuda
from tests.strategies import channels_last, contiguous, values


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
def test_integers(dtype):
    info = np.iinfo(dtype)
    x = np.random.default_rng(0).integers(info.min, info.max, (2, 3, 6, 7), dtype, endpoint=True)
    y, indices = fc.max_pool2d(x, 2, return_indices=True)
    for function, *args in (
        (fc.max_pool2d, x, 3, 2, 1, 1, True, True),
        (fc.adaptive_max_pool2d, x, (4, 3), True),
        (fc.global_max_pool, x, True),
        (fc.max_unpool2d, y, indices, x.shape),
        (fc.max_unpool2d_backward, x, indices),
    ):
        for got, want in zip(items(on_cuda(function, *args)), items(function(*args)), strict=True):
            assert got.dtype == want.dtype
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
