"""Packed weights: the bits of calls without them, whatever the image, the batch and the memory order."""

import numpy as np
import pytest
from hypothesis import given

import fastconv as fc
from fastconv import _convolution
from tests import strategies


def convolve(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, algorithm="auto"):
    """The public convolution of the input's rank."""
    function = getattr(fc, f"conv{weight.ndim - 2}d", None)
    if function is not None:
        return function(x, weight, bias, stride, padding, dilation, groups, algorithm=algorithm)
    return _convolution.forward(
        weight.ndim - 2, x, weight, bias, stride, padding, dilation, groups, None, algorithm, None
    )  # fmt: skip


def check(packed, x, weight, bias, **options):
    np.testing.assert_array_equal(convolve(x, packed, bias, **options), convolve(x, weight, bias, **options))


@given(strategies.convolutions())
def test_packed_weights_give_the_same_bits(case):
    weight, options = case.weight, case.options
    packed = fc.pack(weight, options["stride"], options["dilation"], options["groups"])
    assert (packed.shape, packed.dtype, packed.ndim) == (weight.shape, weight.dtype, weight.ndim)
    check(packed, case.x, weight, case.bias, **options)
    check(packed, case.x[:1], weight, case.bias, **options)  # the second time, from what the first has made


LAYERS = {  # in channels, out channels, kernel, groups, stride
    "one box": (40, 70, 3, 1, 2),
    "1x1": (70, 40, 1, 1, 1),
    "few output channels": (20, 3, 5, 1, 1),
    "Winograd, pieces of odd size": (70, 50, 3, 1, 1),
    "Winograd, no divisor": (149, 70, 3, 1, 1),
    "Winograd, groups": (32, 48, 3, 2, 1),
    "Winograd, four parts": (40, 70, 5, 1, 1),
    "depthwise": (40, 80, 3, 40, 2),
    "groups": (32, 40, 3, 8, 1),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_one_packed_weight_serves_every_image(name, dtype):
    ins, outs, kernel, groups, stride = LAYERS[name]
    weight = strategies.values((outs, ins // groups, kernel, kernel), dtype, 1)
    bias = strategies.values(outs, dtype, 2)
    packed = fc.pack(weight, stride, 1, groups)
    for arrange in (strategies.contiguous, strategies.channels_last):
        for batch, height, width in ((1, 30, 30), (3, 7, 5), (1, 5, 61)):
            x = arrange(strategies.values((batch, ins, height, width), dtype, 3))
            check(packed, x, weight, bias, stride=stride, padding=1, groups=groups)


@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
def test_the_packed_algorithm_is_the_calls(algorithm):
    x, weight = strategies.values((1, 16, 20, 20), np.float32, 1), strategies.values((16, 16, 3, 3), np.float32, 2)
    packed = fc.pack(weight, algorithm=algorithm)
    expected = fc.conv2d(x, weight, algorithm=algorithm)
    np.testing.assert_array_equal(fc.conv2d(x, packed), expected)
    np.testing.assert_array_equal(fc.conv2d(x, packed, algorithm=algorithm), expected)
    assert not np.array_equal(fc.conv2d(x, weight, algorithm={"direct": "winograd"}.get(algorithm, "direct")), expected)


@pytest.mark.parametrize("shape", [(1, 70), (5, 70), (200, 70), (2, 3, 70), (70,), (0, 70)])
@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_dense_layers(shape, dtype):
    x, weight, bias = (strategies.values(s, dtype, i) for i, s in enumerate((shape, (90, 70), (90,))))
    packed = fc.pack(weight)
    expected = fc.linear(x, weight, bias, activation="relu")
    for _ in range(2):
        np.testing.assert_array_equal(fc.linear(x, packed, bias, activation="relu"), expected)


@pytest.mark.parametrize("shape", [(40, 20, 3, 3), (40, 1, 3, 3), (40, 20)])
def test_later_changes_of_the_weight_do_not_count(shape):
    weight = strategies.values(shape, np.float32, 1)
    before, packed = weight.copy(), fc.pack(weight, groups=40 if shape[1] == 1 else 1)
    weight[...] = np.nan
    x = strategies.values((1, 40 if shape[1] == 1 else 20, *(9, 9)[: len(shape) - 2]), np.float32, 2)
    if len(shape) == 2:
        np.testing.assert_array_equal(fc.linear(x, packed), fc.linear(x, before))
    else:
        check(packed, x, before, None, groups=packed.groups)


@pytest.mark.parametrize("arrange", strategies.ARRANGEMENTS.values(), ids=strategies.ARRANGEMENTS)
def test_every_arrangement_of_the_weight(arrange):
    weight, x = strategies.values((20, 6, 3, 3), np.float32, 1), strategies.values((2, 6, 9, 9), np.float32, 2)
    check(fc.pack(arrange(weight)), x, weight, None)


def test_a_weight_is_prepared_once(monkeypatch):
    made = []
    weight, x = strategies.values((20, 6, 3, 3), np.float32, 1), strategies.values((2, 6, 9, 9), np.float32, 2)
    packed = fc.pack(weight, algorithm="direct")
    form = packed._prepared.form
    monkeypatch.setattr(
        type(packed._prepared), "form", lambda _, key, make: form(key, lambda: made.append(key) or make())
    )
    for size in (9, 8, 7):
        fc.conv2d(x[:, :, :size], packed)
    assert made == ["direct"]
