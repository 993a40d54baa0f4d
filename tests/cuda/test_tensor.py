"""Products on tensor cores: float16 always, and float32 where the caller asks for TF32."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("numba.cuda", reason="needs Numba's CUDA package", exc_type=ImportError)
pytest.importorskip("fastconv.cuda._jit", reason="needs Numba's CUDA package", exc_type=ImportError)

from hypothesis import given

import fastconv as fc
from fastconv.cuda import tensor, tile
from fastconv.cuda._jit import running_on
from tests import strategies
from tests.cuda.test_conv import CASES, check_passes, use_tile
from tests.ptx.executor import HostArray, Interpreter

TF32 = 2.0**-10  # two factors, each rounded by half a unit of 10 bits


@pytest.fixture(autouse=True, scope="module")
def interpreter():
    with running_on(Interpreter()) as executor:
        yield executor


def single(case):
    values = (None if x is None else x.astype(np.float32) for x in (case.x, case.weight, case.bias))
    return dataclasses.replace(case, **dict(zip(("x", "weight", "bias"), values, strict=True)))


@CASES
@given(case=strategies.convolutions())
def test_tf32(case):
    with fc.cuda.precision("tf32"):
        check_passes(single(case), tolerance=TF32)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_large_tiles(dtype, monkeypatch):
    use_tile(monkeypatch, tensor.TILES[0])
    options = {"stride": 1, "padding": ((1, 0), (1, 2)), "dilation": 1, "groups": 1}
    x, weight, bias = (strategies.values(shape, dtype, 1) for shape in ((2, 20, 9, 8), (132, 20, 2, 3), (132,)))
    check_passes(strategies.Convolution(x, weight, bias, options, 0), relu=True, tolerance=TF32)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [(tile.TILES[2], "float32"), (tensor.TILES[1], "float16"), (tensor.TILES[1], "float32")],
    ids=str,
)
def test_without_instructions_of_their_own(shape, dtype, monkeypatch):
    """What the simulator runs in place of vector loads, asynchronous copies and tensor cores, between true barriers."""
    use_tile(monkeypatch, shape._replace(instructions=False))
    options = {"stride": (2, 1), "padding": ((1, 0), (1, 2)), "dilation": (1, 2), "groups": 2}
    x, weight, bias = (strategies.values(shape, dtype, 1) for shape in ((2, 10, 9, 8), (40, 5, 2, 3), (40,)))
    check_passes(strategies.Convolution(x, weight, bias, options, 0), tolerance=TF32)


def test_without_tensor_cores_float16_has_the_same_meaning():
    executor = Interpreter()
    executor.capability = (7, 5)
    options = {"stride": 2, "padding": 1, "dilation": 1, "groups": 1}
    x, weight, bias = (strategies.values(shape, "float16", 1) for shape in ((2, 12, 9, 8), (9, 12, 2, 3), (9,)))
    with running_on(executor):
        check_passes(strategies.Convolution(x, weight, bias, options, 0))


def test_tf32_is_exact_where_ten_bits_are_enough_and_off_by_default():
    x, weight = strategies.values((3, 9), "float32", 0, integers=True), strategies.values((5, 9), "float32", 1)
    exact = fc.linear(x, np.round(weight * 64) / 64)
    rounded = HostArray(np.round(weight * 64) / 64)
    with fc.cuda.precision("tf32"):
        np.testing.assert_array_equal(fc.linear(HostArray(x), rounded).values, exact)
        coarse = fc.linear(HostArray(x), HostArray(weight)).values
    fine = fc.linear(HostArray(x), HostArray(weight)).values
    error, coarse_error = (np.abs(y - x.astype(np.float64) @ weight.T).max() for y in (fine, coarse))
    assert error < 1e-5 < 1e-4 < coarse_error < 1e-2


def test_other_precisions_are_refused():
    with pytest.raises(ValueError, match='value must be "float32" or "tf32", got \'bf16\''), fc.cuda.precision("bf16"):
        pass
