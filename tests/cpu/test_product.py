"""Products of matrices: every way of computing one gives the same bits."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastconv.cpu import product
from fastconv.cpu._target import lanes
from fastconv.cpu.microkernel import MAX_VECTORS
from tests import strategies
from tests.tolerance import assert_close

sizes = st.integers(1, 20) | st.sampled_from([0, 33, 64, 65, 100, 200])
depths = sizes | st.sampled_from([384, 385, 1000])


@st.composite
def ways(draw, itemsize):
    """Any way, with parts far smaller than a cache asks for."""
    swapped = draw(st.booleans())
    wide = draw(st.integers(1, 3)) * MAX_VECTORS * lanes(itemsize)
    return product.Way(swapped, draw(st.integers(1, 3)), wide, draw(st.integers(1, 3)) * (48 if swapped else 6))


def multiplied(a, b, bias=None, relu=False):
    result = np.full((a.shape[0], b.shape[1]), np.nan, a.dtype)
    product.multiply(a, b, result, bias, relu)
    return result


@given(st.data(), sizes, sizes, depths, st.sampled_from(strategies.DTYPES), st.booleans())
def test_every_way_has_the_same_bits(data, rows, columns, depth, dtype, plain):
    a, b = strategies.values((rows, depth), dtype, 1), strategies.values((depth, columns), dtype, 2)
    a, b = (np.array(x, order=data.draw(st.sampled_from("CF"))) for x in (a, b))
    bias = None if plain else strategies.values((columns + 16,), dtype, 3)
    if bias is not None:
        bias.setflags(write=False)
    expected = multiplied(a, b, bias)
    with mock.patch.object(product, "choose_way", return_value=data.draw(ways(a.itemsize))):
        np.testing.assert_array_equal(multiplied(a, b, bias), expected)
        np.testing.assert_array_equal(
            multiplied(a, b, bias, relu=not plain), np.maximum(expected, 0 if bias is not None else -np.inf)
        )
    with mock.patch.object(product, "LEAST_BYTES", 0):  # then few rows meet B where it lies
        np.testing.assert_array_equal(multiplied(a, b, bias), expected)
    wide = a.astype(np.float64), b.astype(np.float64)
    shift = 0 if plain else bias[:columns].astype(np.float64)
    assert_close(expected, wide[0] @ wide[1] + shift, abs(wide[0]) @ abs(wide[1]) + abs(shift), depth + 1)


@pytest.mark.parametrize("columns", [1, 16, 1000, 9000])
@pytest.mark.parametrize("rows", [1, 64, 128, 129, 5000])
@pytest.mark.parametrize("depth", [0, 1, 384, 4096, 100_000])
@pytest.mark.parametrize("across", [(False, False), (False, True), (True, False)])
def test_ways_fit_the_cache(rows, columns, depth, across):
    """Packed B and waiting sums together; a single block of lanes and one chain are the least that there can be."""
    way = product.choose_way(rows, columns, depth, 4, *across)
    chains = max(1, -(-depth // product.CHAIN))
    block = MAX_VECTORS * lanes(4)
    assert way.part * -(-depth // chains) * way.wide * 4 <= product.PANEL_BYTES + product.CHAIN * block * 4
    assert way.part == chains or way.chunk * way.wide * 4 <= max(product.SUMS_BYTES, 48 * way.wide * 4)
