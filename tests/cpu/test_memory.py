"""Arrays that kernels make for themselves."""

import numpy as np
import pytest

from fastconv.cpu import _jit
from fastconv.cpu.memory import empty, filled, multiples, zeros


@_jit.compiled
def make_zeros(count, like):
    return zeros(count, like.dtype)


@_jit.compiled
def make_filled(count, value):
    return filled(count, value)


@_jit.compiled
def make_multiples(count, step):
    return multiples(count, step)


@_jit.compiled
def write_and_sum(count, like):
    scratch, places = empty(count, like.dtype), empty(count, np.int64)
    total = like[0]
    for k in range(count):
        scratch[k], places[k] = k, k
    for k in range(count):
        total += scratch[k] * places[k]
    return total


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8, np.int64])
@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_arrays_have_the_type_and_the_elements_that_numpy_gives(dtype, count):
    for array, expected in (
        (make_zeros(count, np.ones(1, dtype)), np.zeros(count, dtype)),
        (make_filled(count, dtype(3)), np.full(count, dtype(3))),
        (make_multiples(count, -5), np.arange(count) * -5),
    ):
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)
    assert write_and_sum(count, np.zeros(1)) == sum(k * k for k in range(count))


@pytest.mark.parametrize("count", [2**60, 2**62 + 1, 2**63 - 1])
def test_too_many_elements_are_a_memory_error(count):
    with pytest.raises(MemoryError, match="no memory for the scratch of a kernel"):
        make_zeros(count, np.zeros(1))
