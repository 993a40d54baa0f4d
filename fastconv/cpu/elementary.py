"""Exponential and logarithm of vectors, from additions, multiplications and the bits of floats."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from fastconv.cpu import _jit
from fastconv.cpu.arithmetic import choose, exponent, exponent_bits

# e^d = 2^n e^r with n = round(d / ln 2), so |r| <= ln(2) / 2. r comes from two-step (Cody-Waite) subtraction of n ln 2,
# and e^r = 1 + r + r^2 q(r). q is a weighted least-squares fit at 400 Chebyshev points; the polynomial's relative error
# is 4e-9 (float32, degree 6) or 1.3e-17 (float64, degree 11). Adding 1.5 * 2^(mantissa bits) rounds to an integer and
# leaves it in the low bits; the exponent's bias is added with it.
_MAGIC_32, _MAGIC_64 = 12582912.0 + 127.0, 6755399441055744.0 + 1023.0


@_jit.inlined
def _exp_32(x, shift):
    d = x - shift
    back = d - x
    lost = (x - (d - back)) - (shift + back)  # the rounding error of d, else a relative error of the result
    rounded = d * 1.4426950408889634 + _MAGIC_32
    n = rounded - _MAGIC_32
    r = ((d - n * 0.693359375) - n * -0.00021219444005469058) + lost
    p = (r * 0.001375138177536428 + 0.00836892332881689) * r + 0.04166953265666962
    p = (((p * r + 0.166665181517601) * r + 0.49999988079071045) * r + 1.0) * r + 1.0
    return choose(d < -87.33654, 0.0, p * exponent_bits(rounded))


@_jit.inlined
def _exp_64(x, shift):
    d = x - shift
    rounded = d * 1.4426950408889634 + _MAGIC_64
    n = rounded - _MAGIC_64
    r = (d - n * 0.6931471803691238) - n * 1.9082149292705878e-10
    p = (r * 2.5024639266311035e-08 + 2.7631140150201755e-07) * r + 2.7557507361975543e-06
    p = ((p * r + 2.4801490307638598e-05) * r + 0.00019841269596971038) * r + 0.0013888888946713305
    p = ((p * r + 0.008333333333451529) * r + 0.0416666666665162) * r + 0.16666666666666483
    p = ((p * r + 0.5000000000000012) * r + 1.0) * r + 1.0
    return choose(d < -708.3964185322641, 0.0, p * exponent_bits(rounded))


def exp(x: Any, shift: Any) -> Any:
    """e^(x - shift) of vectors, inside compiled code; NaN stays NaN.

    ``shift`` is finite, or the result is NaN. Results below the smallest normal number are 0: subnormal numbers are
    slow and carry little. Overflow starts half a power of two early, at 2^127.5 (float32) and 2^1023.5 (float64).
    """
    raise NotImplementedError("exp is for compiled code")


@overload(exp, jit_options={"forceinline": True})
def _exp(x, shift):
    if x.dtype == types.float32:
        return lambda x, shift: choose(x - shift > 88.5, np.inf, _exp_32(x, shift))
    return lambda x, shift: choose(x - shift > 709.7, np.inf, _exp_64(x, shift))


def exp_below(x: Any, shift: Any) -> Any:
    """The same where no x is larger than ``shift``, without a look at overflow."""
    raise NotImplementedError("exp_below is for compiled code")


@overload(exp_below, jit_options={"forceinline": True})
def _exp_below(x, shift):
    if x.dtype == types.float32:
        return lambda x, shift: _exp_32(x, shift)
    return lambda x, shift: _exp_64(x, shift)


@_jit.inlined
def log1p(t):
    """log(1 + t) of a vector t >= 0, with full relative accuracy also for small t; NaN stays NaN.

    1 + t = 2^k f with f in [sqrt(1/2), sqrt(2)); log f = 2 artanh(s) = 2 (s + s^3 / 3 + ...) for s = (f - 1) / (f + 1).
    """
    k = exponent(t + 1.0)
    f = (t + 1.0) * exponent_bits(_magic(t) - k)
    above = choose(k == 0.0, t, f - 1.0)
    s = above / (above + 2.0)
    z = s * s
    p = ((z * (1 / 23) + 1 / 21) * z + 1 / 19) * z + 1 / 17
    p = (((p * z + 1 / 15) * z + 1 / 13) * z + 1 / 11) * z + 1 / 9
    p = ((p * z + 1 / 7) * z + 1 / 5) * z + 1 / 3
    y = k * 0.6931471805599453 + (s * 2.0 + s * 2.0 * (z * p))
    return choose(t == t, y, t)


def _magic(like):
    raise NotImplementedError


@overload(_magic, jit_options={"forceinline": True})
def _magic_of(like):
    magic = _MAGIC_32 if like.dtype == types.float32 else _MAGIC_64
    return lambda like: magic
