"""16-bit floats: conversion bit by bit, against NumPy's and the definition of bfloat16."""

import numpy as np
import pytest
from numba import njit, types

from fastconv.cpu import half, layout
from tests import strategies

BITS = np.arange(2**16, dtype=np.uint16)


def floats32():
    """Every exponent and sign with mantissas at, just below and just above every kind of tie, and random ones."""
    rng = np.random.default_rng(0)
    ends = np.concatenate([np.array([0, 1, 2]) + (1 << k) * m - 1 for k in range(9, 18) for m in (1, 2, 3, 5)])
    mantissas = np.concatenate([ends, rng.integers(0, 1 << 23, 100)]) % (1 << 23)
    tops = np.arange(512) << 23
    return (tops[:, None] + mantissas).astype(np.uint32).view(np.float32).reshape(-1)


def same_floats(actual, expected):
    """Equal bits, or NaN in both."""
    nan = np.isnan(expected.astype(np.float32))
    np.testing.assert_array_equal(np.isnan(actual.astype(np.float32)), nan)
    kind = f"u{expected.itemsize}"
    np.testing.assert_array_equal(actual.view(kind)[~nan], expected.view(kind)[~nan])


def test_every_float16_is_widened_exactly():
    x = BITS.view(np.float16).reshape(1, 16, 64, 64)
    same_floats(half.widen(x).reshape(-1), x.astype(np.float32).reshape(-1))


def test_float32_is_rounded_to_float16_as_numpy_does():
    with np.errstate(over="ignore"):
        expected = floats32().astype(np.float16)
    same_floats(half.narrowed(floats32()[None], np.dtype(np.float16))[0], expected)


def test_every_bfloat16_is_widened_exactly():
    brain = pytest.importorskip("ml_dtypes").bfloat16
    x = BITS.view(brain).reshape(1, 16, 64, 64)
    same_floats(half.widen(x).reshape(-1), (BITS.astype(np.uint32) << 16).view(np.float32))


def test_float32_is_rounded_to_bfloat16_as_ml_dtypes_does():
    brain = pytest.importorskip("ml_dtypes").bfloat16
    with np.errstate(invalid="ignore"):
        expected = floats32().astype(brain)
    same_floats(half.narrowed(floats32()[None], np.dtype(brain))[0], expected)


def test_without_an_instruction_float16_is_converted_alike():
    wide = half.conversion(half.emit_wide, types.uint16, types.float32, False)
    narrow = half.conversion(half.emit_narrow, types.float32, types.uint16, False)

    @njit
    def convert(bits, floats, widened, narrowed):
        for i in range(bits.size):
            widened[i] = wide(bits[i])
        for i in range(floats.size):
            narrowed[i] = narrow(floats[i])

    widened, narrowed = np.empty(BITS.size, np.float32), np.empty(floats32().size, np.uint16)
    convert(BITS, floats32(), widened, narrowed)
    same_floats(widened, BITS.view(np.float16).astype(np.float32))
    with np.errstate(over="ignore"):
        same_floats(narrowed.view(np.float16), floats32().astype(np.float16))


def test_only_sixteen_bit_floats_are_half():
    assert half.is_half(np.dtype(np.float16))
    assert not any(half.is_half(np.dtype(kind)) for kind in ("f4", "f8", "i2", "u2", "S2", ">f2"))


@pytest.mark.parametrize("arrange", strategies.ARRANGEMENTS.values(), ids=strategies.ARRANGEMENTS)
def test_the_memory_order_stays(arrange):
    x = arrange(strategies.values((2, 3, 4, 5), np.float16, 1))
    wide = half.widen(x)
    np.testing.assert_array_equal(wide, x)
    assert wide.dtype == np.float32
    last = layout.is_channels_last(x)
    assert (np.moveaxis(wide, 1, -1) if last else wide).flags.c_contiguous
    back = half.narrowed(wide, x.dtype)
    np.testing.assert_array_equal(back, x)
    assert back.strides == tuple(s // 2 for s in wide.strides)
