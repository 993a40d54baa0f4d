"""Exponential and logarithm of vectors, from additions, multiplications and the bits of floats."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import overload

from fastconv.cpu import _jit
from fastconv.cpu.arithmetic import choose, exponent, exponent_bits

_LN2 = 0.6931471805599453


class Format(NamedTuple):
    """Numbers of a float type."""

    bias: float  # of its exponents
    magic: float  # 1.5 * 2^(mantissa bits): adding it rounds to an integer, and leaves that in the lowest bits
    high: float  # ln 2, so few bits of it that a product with an exponent is exact
    low: float  # and the rest
    lowest: float  # logarithm of the smallest normal number
    highest: float  # logarithm of half a power of two below the largest


_FLOAT32 = Format(127.0, 12582912.0, 0.693359375, -0.00021219444005469058, -87.33654, 88.5)
_FLOAT64 = Format(1023.0, 6755399441055744.0, 0.6931471803691238, 1.9082149292705878e-10, -708.3964185322641, 709.7)


def _format(like: Any) -> Format:
    """The numbers of the vector's float type."""
    raise NotImplementedError("_format is for compiled code")


@overload(_format, jit_options={"forceinline": True})
def _format_of(like):
    numbers = _FLOAT32 if like.dtype == types.float32 else _FLOAT64
    return lambda like: numbers


def _series(r: Any) -> Any:
    """e^r = 1 + r + r^2 q(r) for |r| <= ln(2) / 2.

    q is a weighted least-squares fit at 400 Chebyshev points; the polynomial's relative error is 4e-9 (float32, degree
    6) or 1.3e-17 (float64, degree 11).
    """
    raise NotImplementedError("_series is for compiled code")


@overload(_series, jit_options={"forceinline": True})
def _series_of(r):
    def short(r):
        p = (r * 0.001375138177536428 + 0.00836892332881689) * r + 0.04166953265666962
        return (((p * r + 0.166665181517601) * r + 0.49999988079071045) * r + 1.0) * r + 1.0

    def long(r):
        p = (r * 2.5024639266311035e-08 + 2.7631140150201755e-07) * r + 2.7557507361975543e-06
        p = ((p * r + 2.4801490308637598e-05) * r + 0.00019841269596971038) * r + 0.0013888888946713305
        p = ((p * r + 0.008333333333451529) * r + 0.0416666666665162) * r + 0.16666666666666483
        return ((p * r + 0.5000000000000012) * r + 1.0) * r + 1.0

    return short if r.dtype == types.float32 else long


# e^d = 2^n e^r with n = round(d / ln 2), so |r| <= ln(2) / 2. r comes from two-step (Cody-Waite) subtraction of n ln 2.
@_jit.inlined
def exp(x, shift):
    """e^(x - shift) of vectors; NaN stays NaN.

    ``shift`` is finite, or the result is NaN. Results below the smallest normal number are 0: subnormal numbers are
    slow and carry little. Overflow starts half a power of two early, at 2^127.5 (float32) and 2^1023.5 (float64).
    """
    of = _format(x)
    d = x - shift
    back = d - x
    lost = (x - (d - back)) - (shift + back)  # the rounding error of d, else a relative error of the result
    rounded = d * (1 / _LN2) + (of.magic + of.bias)
    n = rounded - (of.magic + of.bias)
    y = _series(((d - n * of.high) - n * of.low) + lost) * exponent_bits(rounded)
    return choose(d > of.highest, np.inf, choose(d < of.lowest, 0.0, y))


# Where exponentials are summed and divided by the sum, no difference to their maximum is needed, and its rounding error
# neither: r comes from x itself, and powers of two are exact. An n has few bits, so that far from zero the maximum is
# taken off first. That is exact for every x that counts, which is more than half and less than twice as large.
_FAR = 2048.0


class Scale(NamedTuple):
    """What exponentials are divided by: e^offset times a power of two, up to sqrt(2) off from e^peak."""

    offset: Any
    lowest: Any  # the exponential of this and of smaller numbers is 0
    magic: Any  # adding it leaves n, less the power of two, in the lowest bits, as the exponent of a float


@_jit.inlined
def scale_of(peak):
    """The scale for numbers up to ``peak``."""
    of = _format(peak)
    offset = choose(peak < _FAR, choose(peak > -_FAR, 0.0, peak), peak)
    power = ((peak - offset) * (1 / _LN2) + of.magic) - of.magic
    return Scale(offset, (power - of.bias) * _LN2, (of.magic + of.bias) - power)


@_jit.inlined
def exp_below(x, scale):
    """e^x over the scale of a peak that x is not above; NaN stays NaN."""
    of = _format(x)
    d = x - scale.offset
    d = choose(d < scale.lowest, scale.lowest, d)
    rounded = d * (1 / _LN2) + scale.magic
    n = rounded - scale.magic
    return _series((d - n * of.high) - n * of.low) * exponent_bits(rounded)


@_jit.inlined
def log1p(t):
    """log(1 + t) of a vector t >= 0, with full relative accuracy also for small t; NaN stays NaN.

    1 + t = 2^k f with f in [sqrt(1/2), sqrt(2)); log f = 2 artanh(s) = 2 (s + s^3 / 3 + ...) for s = (f - 1) / (f + 1).
    """
    of = _format(t)
    k = exponent(t + 1.0)
    f = (t + 1.0) * exponent_bits((of.magic + of.bias) - k)
    above = choose(k == 0.0, t, f - 1.0)
    s = above / (above + 2.0)
    z = s * s
    p = ((z * (1 / 23) + 1 / 21) * z + 1 / 19) * z + 1 / 17
    p = (((p * z + 1 / 15) * z + 1 / 13) * z + 1 / 11) * z + 1 / 9
    p = ((p * z + 1 / 7) * z + 1 / 5) * z + 1 / 3
    y = k * _LN2 + (s * 2.0 + s * 2.0 * (z * p))
    return choose(t == t, y, t)
