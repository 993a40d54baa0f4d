"""Convolution on CUDA arrays: tiles of all sizes, sums in parts, results in any order of memory, and limits.

What is drawn for every operation is in :mod:`tests.cuda.test_every_operation`.
"""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba.cuda", reason="needs Numba's CUDA package", exc_type=ImportError)
pytest.importorskip("fastconv.cuda._jit", reason="needs Numba's CUDA package", exc_type=ImportError)

from hypothesis import given, settings

import fastconv as fc
from fastconv import _checks, cpu
from fastconv.cuda import arrays, conv, tile
from fastconv.cuda._jit import running_on
from tests import strategies
from tests.ptx.executor import HostArray, Interpreter

CASES = settings(max_examples=15, derandomize=True)
TOLERANCE = {"float16": 1e-3, "float32": 2e-6, "float64": 1e-14}  # of the sum of magnitudes


@pytest.fixture(autouse=True, scope="module")
def interpreter():
    with running_on(Interpreter()) as executor:
        yield executor


def use_tile(monkeypatch, shape):
    """Let products be computed in this tile, which may be worth it only for sizes that would take too long here."""

    def tiles(dtype, rows, columns, groups):
        return shape, -(-rows // shape.rows), -(-columns // shape.columns)

    monkeypatch.setattr(conv, "_tiles", tiles)


def device(*values):
    """Arrays with the same values, in the same arrangement, that only the interpreter can read."""
    wrapped = [None if x is None else arrays.wrap("x", HostArray(x)) for x in values]
    return wrapped if len(wrapped) > 1 else wrapped[0]


def agree(actual, expected, magnitude, tolerance=None):
    """``actual`` is what the CPU computed, within the rounding of its dtype."""
    actual = arrays.unwrap(actual).values
    assert actual.shape == expected.shape
    allowed = (tolerance or TOLERANCE[actual.dtype.name]) * magnitude + 1e-6 * (actual.dtype == np.float16)
    assert np.all(np.abs(actual.astype(np.float64) - expected) <= allowed)


def magnitudes(function, *operands, **options):
    return function(*(abs(x) if isinstance(x, np.ndarray) else x for x in operands), **options)


def window_of(case):
    options = (case.options[name] for name in ("stride", "padding", "dilation", "groups"))
    window, groups, _ = _checks.convolution("x", case.x.shape, "weight", case.weight.shape, *options)
    return window, groups


def check_passes(case, relu=False, tolerance=None):
    """All four passes of one convolution."""
    (x, weight, bias), (window, groups) = (case.x, case.weight, case.bias), window_of(case)
    single = [None if a is None else a.astype(np.float32) if a.dtype == np.float16 else a for a in (x, weight, bias)]
    y = cpu.conv_forward(*single, window, groups, relu)
    grad_out = strategies.values(y.shape, x.dtype, case.seed + 3)
    gradient = grad_out.astype(single[0].dtype)
    on_device, weight_on_device, bias_on_device, gradient_on_device = device(x, weight, bias, grad_out)
    agree(
        conv.conv_forward(on_device, weight_on_device, bias_on_device, window, groups, relu),
        y, magnitudes(cpu.conv_forward, *single, window, groups), tolerance,
    )  # fmt: skip
    for actual, function, operands in (
        (
            conv.conv_backward_input(gradient_on_device, weight_on_device, x.shape, window, groups),
            cpu.conv_backward_input, (gradient, single[1], x.shape, window, groups),
        ), (
            conv.conv_backward_weight(gradient_on_device, on_device, weight.shape, window, groups),
            cpu.conv_backward_weight, (gradient, single[0], weight.shape, window, groups),
        ), (conv.conv_backward_bias(gradient_on_device), cpu.conv_backward_bias, (gradient,)),
    ):  # fmt: skip
        agree(actual, function(*operands), magnitudes(function, *operands), tolerance)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [(tile.TILES[0], "float32"), (tile.TILES[1], "float32"), (tile.DOUBLE_TILES[0], "float64")],
    ids=str,
)
def test_large_tiles(shape, dtype, monkeypatch):
    use_tile(monkeypatch, shape)
    options = {"stride": 1, "padding": ((1, 0), (1, 2)), "dilation": 1, "groups": 1}
    x, weight, bias = (strategies.values(shape, dtype, 1) for shape in ((2, 12, 9, 8), (132, 12, 2, 3), (132,)))
    check_passes(strategies.Convolution(strategies.channels_last(x), weight, bias, options, 0), relu=True)


def test_weight_gradient_in_parts():
    options = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
    x, weight = strategies.values((3, 3, 40, 30), "float32", 1), strategies.values((4, 3, 2, 2), "float32", 2)
    check_passes(strategies.Convolution(x, weight, None, options, 0))


@given(case=strategies.convolutions(ranks=(2,)), arrange=strategies.arrangements())
@settings(CASES, max_examples=5)
def test_out_in_any_memory_order(case, arrange):
    window, groups = window_of(case)
    expected = cpu.conv_forward(case.x, case.weight, case.bias, window, groups)
    out = device(arrange(np.zeros_like(expected)).copy(order="K"))
    y = conv.conv_forward(*device(case.x, case.weight, case.bias), window, groups, False, out)
    assert y is out
    agree(out, expected, magnitudes(cpu.conv_forward, case.x, case.weight, case.bias, window, groups))


def test_out_that_overlaps_the_input():
    x, weight = strategies.values((1, 4, 3, 3), "float32", 1), strategies.values((4, 4, 1, 1), "float32", 2)
    x = strategies.channels_last(x)
    options = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
    window, groups = window_of(strategies.Convolution(x, weight, None, options, 0))
    expected = cpu.conv_forward(x, weight, None, window, groups)
    on_device, weight_on_device = device(x, weight)
    y = conv.conv_forward(on_device, weight_on_device, None, window, groups, False, on_device)
    agree(y, expected, magnitudes(cpu.conv_forward, x, weight, None, window, groups) + 1)


def test_what_is_not_finite_stays_where_it_is():
    x, weight = np.ones((1, 1, 4, 4), np.float32), np.ones((3, 1, 3, 3), np.float32)
    x[0, 0, 0, 0], weight[1, 0, 2, 2] = np.nan, np.inf
    options = {"stride": 1, "padding": 1, "dilation": 1, "groups": 1}
    window, groups = window_of(strategies.Convolution(x, weight, None, options, 0))
    y = arrays.unwrap(conv.conv_forward(*device(x, weight), None, window, groups, True)).values
    np.testing.assert_array_equal(y, cpu.conv_forward(x, weight, None, window, groups, True))


def test_public_functions_take_cuda_arrays():
    x = strategies.channels_last(strategies.values((2, 5, 6, 7), "float32", 1))
    weight, bias = strategies.values((4, 5, 3, 3), "float32", 2), strategies.values(4, "float32", 3)
    y = fc.conv2d(HostArray(x), HostArray(weight), HostArray(bias), padding=1, activation="relu")
    expected = fc.conv2d(x, weight, bias, padding=1, activation="relu")
    assert y.values.strides == expected.strides
    np.testing.assert_allclose(y.values, expected, rtol=0, atol=1e-5)
    with pytest.raises(
        ValueError, match='algorithm "winograd" cannot serve these arguments: CUDA arrays have "direct"'
    ):
        fc.conv2d(HostArray(x), HostArray(weight), algorithm="winograd")


def test_more_than_32_bits_can_count_is_refused():
    x = arrays.Array(HostArray(np.zeros(1, np.float32)), 4096, (2**20, 2**11, 1, 1), None, np.float32, 0)
    weight = device(np.zeros((1, 2**11, 1, 1), np.float32))
    window = _checks.convolution("x", x.shape, "weight", weight.shape, 1, 0, 1, 1)[0]
    with pytest.raises(ValueError, match=r"fewer than 2\*\*31 elements"):
        conv.conv_forward(x, weight, None, window, 1)
