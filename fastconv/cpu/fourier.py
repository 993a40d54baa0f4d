"""The discrete Fourier transform of as many signals as a vector has lanes, by Stockham's algorithm in steps of four.

    X[f] = sum over n of x[n] exp(-2 pi i f n / size)        for a size that is a power of two

Signals lie side by side, [n][re, im][lane], so that every operation is one on whole vectors and no lane has to do with
another. No step reorders the results: each reads one buffer and writes the other (C. Van Loan, "Computational
Frameworks for the Fast Fourier Transform", 1992). The inverse, times the size, is the same transform with real and
imaginary parts exchanged in and out.

A real signal x of twice the size is transformed as x[2 n] + i x[2 n + 1], which is how it lies in memory.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from fastconv.cpu._jit import inlined, internal
from fastconv.cpu.pointers import advance, lanes_at
from fastconv.cpu.vector import load, store_first


@inlined
def _store(target, index, value):
    store_first(advance(target, 2 * index * lanes_at(target)), value, lanes_at(target))


@inlined
def _load(source, index):
    return load(advance(source, 2 * index * lanes_at(source)))


@inlined
def _store_product(re, im, index, factors, k, x, y):
    """Element ``index`` = (x + i y) times the k-th root."""
    c, s = factors[2 * k], factors[2 * k + 1]
    _store(re, index, x * c - y * s)
    _store(im, index, x * s + y * c)


@internal
def transform(re, im, other_re, other_im, factors, size):
    """Transform ``size`` elements; returns where the real and imaginary parts of the result are."""
    count, stride = size, 1
    while count >= 4:
        part = count // 4
        for p in range(part):
            for q in range(stride):
                _quarter(re, im, other_re, other_im, factors, p, q, part, stride)
        re, im, other_re, other_im = other_re, other_im, re, im
        count, stride = part, 4 * stride
    if count == 2:
        for q in range(stride):
            a, b = _load(re, q), _load(re, q + stride)
            c, d = _load(im, q), _load(im, q + stride)
            _store(other_re, q, a + b)
            _store(other_re, q + stride, a - b)
            _store(other_im, q, c + d)
            _store(other_im, q + stride, c - d)
        re, im = other_re, other_im
    return re, im


@inlined
def _quarter(re, im, other_re, other_im, factors, p, q, part, stride):
    """Four elements, a quarter of the signal apart, to four that are neighbours in the next step."""
    at, apart = q + stride * p, stride * part
    a, b, c, d = _load(re, at), _load(re, at + apart), _load(re, at + 2 * apart), _load(re, at + 3 * apart)
    sum_ac, sum_bd, less_ac, less_bd = a + c, b + d, a - c, b - d
    a, b, c, d = _load(im, at), _load(im, at + apart), _load(im, at + 2 * apart), _load(im, at + 3 * apart)
    sum_ac_im, sum_bd_im, less_ac_im, less_bd_im = a + c, b + d, a - c, b - d
    to, k = q + 4 * stride * p, p * stride
    _store(other_re, to, sum_ac + sum_bd)
    _store(other_im, to, sum_ac_im + sum_bd_im)
    _store_product(other_re, other_im, to + stride, factors, k, less_ac + less_bd_im, less_ac_im - less_bd)
    _store_product(other_re, other_im, to + 2 * stride, factors, 2 * k, sum_ac - sum_bd, sum_ac_im - sum_bd_im)
    _store_product(other_re, other_im, to + 3 * stride, factors, 3 * k, less_ac - less_bd_im, less_ac_im + less_bd)


# -------------------------------------------------------------------------------------------------------- real signals
@inlined
def real_spectrum(re, im, factors, f, half):
    """Twice the transform of a real signal of 2 * half elements at f <= half, from that of its halves in turn."""
    k, mirror = f % half, (half - f) % half
    a, b, c, d = _load(re, k), _load(im, k), _load(re, mirror), _load(im, mirror)
    odd, odd_im, cosine, sine = b + d, c - a, factors[2 * f], factors[2 * f + 1]
    return a + c + odd * cosine - odd_im * sine, b - d + odd * sine + odd_im * cosine


@inlined
def store_halves(re, im, factors, f, a, b, c, d):
    """Element f of what inverts to a real signal, in turn, from its spectrum a + i b at f and c + i d at half - f."""
    odd, odd_im, cosine, sine = a - c, b + d, factors[2 * f], factors[2 * f + 1]
    _store(re, f, a + c - (odd_im * cosine - odd * sine))
    _store(im, f, b - d + odd * cosine + odd_im * sine)


# ------------------------------------------------------------------------------------------------------------ in Python
@lru_cache(maxsize=32)
def roots(size: int, dtype: Any) -> Any:
    """exp(-2 pi i k / size) for k < size, real and imaginary parts in turn."""
    values = np.exp(-2j * np.pi * np.arange(size) / size)
    table = np.stack([values.real, values.imag], -1).reshape(-1).astype(dtype)
    table.setflags(write=False)
    return table
