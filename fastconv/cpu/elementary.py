"""Exponential and logarithm as plain arithmetic, so that loops around them become vector code.

Numba turns ``math.exp`` into one library call per element. Here everything is additions, multiplications, comparisons and
the reading of a float's bits as an int.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from fastconv.cpu import _jit

# --------------------------------------------------------------------------------------------------------- exponential
# e^d = 2^n e^r with n = round(d / ln 2), so |r| <= ln(2) / 2. r comes from two-step (Cody-Waite) subtraction of n ln 2, and
# e^r = 1 + r + r^2 q(r). q is a weighted least-squares fit at 400 Chebyshev points; the relative error of the polynomial is
# 4e-9 (float32, degree 6) or 1.3e-17 (float64, degree 11). Adding 1.5 * 2^(mantissa bits) rounds to an integer and leaves it
# in the low bits; with the exponent's bias added as well, those bits shifted up are 2^n.
_i32, _f32 = np.int32, np.float32
_MAGIC_32, _MAGIC_64 = _f32(12582912.0 + 127.0), 6755399441055744.0 + 1023.0
_LOG2E, _LN2_HIGH, _LN2_LOW = _f32(1.4426950408889634), _f32(0.693359375), _f32(-0.00021219444005469058)
_ZERO, _ONE, _INF = _f32(0.0), _f32(1.0), _f32(np.inf)
_Q0, _Q1, _Q2 = _f32(0.49999988079071045), _f32(0.166665181517601), _f32(0.04166953265666962)
_Q3, _Q4 = _f32(0.00836892332881689), _f32(0.001375138177536428)
_LOW_32, _HIGH_32 = _f32(-87.33654), _f32(88.5)  # ln of the smallest normal number; above 127.5 ln 2 the result is inf
_LOW_64, _HIGH_64 = -708.3964185322641, 709.7


@_jit.inlined
def _exp_32(x, shift):
    d = x - shift
    back = d - x
    lost = (x - (d - back)) - (shift + back)  # the rounding error of d, which would be a relative error of the result
    rounded = d * _LOG2E + _MAGIC_32
    n = rounded - _MAGIC_32
    r = ((d - n * _LN2_HIGH) - n * _LN2_LOW) + lost
    p = (((((_Q4 * r + _Q3) * r + _Q2) * r + _Q1) * r + _Q0) * r + _ONE) * r + _ONE
    y = p * _f32(_i32(_f32(rounded).view(_i32) << 23).view(_f32))
    y = _INF if d > _HIGH_32 else y
    return _ZERO if d < _LOW_32 else y


@_jit.inlined
def _exp_64(x, shift):
    d = x - shift
    rounded = d * 1.4426950408889634 + _MAGIC_64
    n = rounded - _MAGIC_64
    r = (d - n * 0.6931471803691238) - n * 1.9082149292705878e-10
    p = 2.5024639266311035e-08 * r + 2.7631140150201755e-07
    p = ((p * r + 2.7557507361975543e-06) * r + 2.4801490307638598e-05) * r + 0.00019841269596971038
    p = ((p * r + 0.0013888888946713305) * r + 0.008333333333451529) * r + 0.0416666666665162
    p = (((p * r + 0.16666666666666483) * r + 0.5000000000000012) * r + 1.0) * r + 1.0
    y = p * np.int64(np.float64(rounded).view(np.int64) << 52).view(np.float64)
    y = np.inf if d > _HIGH_64 else y
    return 0.0 if d < _LOW_64 else y


def exp(x: Any, shift: Any) -> Any:
    """e^(x - shift), inside compiled code, of two float32 or two float64 values; NaN stays NaN.

    ``shift`` is finite, or the result is NaN. Results below the smallest normal number are 0: slow subnormal numbers would
    carry nothing. Overflow starts half a power of two early, at 2^127.5 (float32) and 2^1023.5 (float64).
    """
    raise NotImplementedError("exp is for compiled code")


@overload(exp, jit_options={"forceinline": True, "error_model": "numpy", "fastmath": {"contract"}})
def _exp(x, shift):
    if x == types.float32 and shift == types.float32:
        return lambda x, shift: _exp_32(x, shift)
    if x == types.float64 and shift == types.float64:
        return lambda x, shift: _exp_64(x, shift)
    return None


# ----------------------------------------------------------------------------------------------------------- logarithm
_SQRT_HALF = np.int64(0x3FE6A09E667F3BCD)  # the bits of sqrt(1/2)
_EXPONENT = np.int64(0x3FF0000000000000)  # the bits of 1
_TWO_52 = np.int64(0x4330000000000000)  # the bits of 2^52


@_jit.inlined
def log1p(t):
    """log(1 + t) of a float64 t >= 0, with full relative accuracy also for small t; NaN stays NaN.

    1 + t = 2^k f with f in [sqrt(1/2), sqrt(2)), and log f = 2 artanh(s) = 2 (s + s^3 / 3 + ...) with s = (f - 1) / (f + 1).
    """
    bits = np.float64(1.0 + t).view(np.int64)
    k = (bits - _SQRT_HALF) >> 52
    f = np.int64(bits - (k << 52)).view(np.float64)
    above = t if k == 0 else f - 1.0
    s = above / (2.0 + above)
    z = s * s
    p = z * (1 / 23.0) + 1 / 21.0
    p = ((p * z + 1 / 19.0) * z + 1 / 17.0) * z + 1 / 15.0
    p = ((p * z + 1 / 13.0) * z + 1 / 11.0) * z + 1 / 9.0
    p = ((p * z + 1 / 7.0) * z + 1 / 5.0) * z + 1 / 3.0
    exponent = np.int64(k + _TWO_52).view(np.float64) - 4503599627370496.0
    y = exponent * 0.6931471805599453 + (2.0 * s + 2.0 * s * (z * p))
    return y if t == t else t
