"""1x1 kernels as products of planes: bit for bit what any other way of the micro-kernel gives."""

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc
from fastconv.cpu import pointwise
from tests import strategies

sizes = st.lists(st.integers(1, 30), min_size=1, max_size=3)


def both_ways(function):
    """The result by planes, wherever the arguments allow, and the result without this way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pointwise, "LEAST_VECTORS", 0)
        patch.setattr(pointwise, "TURNED", 0)
        planes = function()
        patch.setattr(pointwise, "chosen", lambda *args: False)
        return planes, function()


@given(
    st.integers(1, 4), st.integers(1, 3), st.integers(1, 20), st.integers(1, 20), sizes, st.sampled_from("fd"),
    st.booleans(), st.integers(0, 999),
)  # fmt: skip
def test_the_bits_of_other_ways(images, groups, channels, out_channels, space, dtype, relu, seed):
    x = strategies.values((images, groups * channels, *space), dtype, seed)
    weight = strategies.values((groups * out_channels, channels, *(1 for _ in space)), dtype, seed + 1)
    bias = strategies.values((groups * out_channels,), dtype, seed + 2)
    name, options = f"conv{len(space)}d", {"groups": groups, "algorithm": "direct"}
    activation = "relu" if relu else None
    y, expected = both_ways(lambda: getattr(fc, name)(x, weight, bias, activation=activation, **options))
    assert y.tobytes() == expected.tobytes()
    grad_x, expected = both_ways(lambda: getattr(fc, f"{name}_backward_input")(y, weight, x.shape, **options))
    assert grad_x.tobytes() == expected.tobytes()


@pytest.mark.parametrize("channels", [5, 700])  # of 700 a sum is made in two chains, and few blocks fit into the cache
def test_long_sums_and_many_blocks(channels):
    x = strategies.values((3, channels, 23, 23), np.float32, 1)
    weight = strategies.values((13, channels, 1, 1), np.float32, 2)
    y, expected = both_ways(lambda: fc.conv2d(x, weight, algorithm="direct"))
    assert y.tobytes() == expected.tobytes()
    grad_x, expected = both_ways(lambda: fc.conv2d_backward_input(y, weight, x.shape, algorithm="direct"))
    assert grad_x.tobytes() == expected.tobytes()


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="NUMBA_NUM_THREADS allows one thread only")
@pytest.mark.parametrize("images", [1, 5])
def test_two_threads_give_the_bits_of_one(images):
    x = strategies.values((images, 150, 33, 33), np.float32, 1)
    weight = strategies.values((150, 150, 1, 1), np.float32, 2)
    before, results = numba.get_num_threads(), []
    try:
        for threads in (1, 2):
            numba.set_num_threads(threads)
            results.append(fc.conv2d(x, weight).tobytes() + fc.conv2d_backward_input(x, weight, x.shape).tobytes())
    finally:
        numba.set_num_threads(before)
    assert results[0] == results[1]
