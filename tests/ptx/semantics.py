"""What instructions compute, as NumPy functions: one value for each thread, or a scalar where all have the same.

Section 9.7 of the PTX ISA manual. Registers hold unsigned integers, floats or bools; operands come in the type that the
instruction says.
"""

from __future__ import annotations

import numpy as np

SIGNED = {"s8": np.int8, "s16": np.int16, "s32": np.int32, "s64": np.int64}
UNSIGNED = {f"{kind}{bits}": np.dtype(f"u{bits // 8}").type for kind in "ub" for bits in (8, 16, 32, 64)}
TYPES = {"pred": np.bool_, "f16": np.float16, "f32": np.float32, "f64": np.float64, **SIGNED, **UNSIGNED}
TYPES |= {"f16x2": np.uint32, "tf32": np.uint32}


def bits(x, dtype):
    """The bits of ``x`` in another type: cut off or filled with zeros where the widths differ."""
    dtype = np.dtype(dtype)
    if x.dtype == dtype:
        return x
    if x.dtype.itemsize != dtype.itemsize:
        x = x.view(f"u{x.dtype.itemsize}").astype(f"u{dtype.itemsize}")
    return x.view(dtype)


def extended(x, dtype):
    """``x`` in a register of this type: signed integers are extended by their sign."""
    if x.dtype.itemsize < np.dtype(dtype).itemsize and x.dtype.kind == "i":
        x = x.astype(f"i{np.dtype(dtype).itemsize}")
    return bits(x, dtype)


def select(p, a, b):
    return (a if p else b) if p.ndim == 0 else np.where(p, a, b)


# --------------------------------------------------------------------------------------------------------------- floats
def fma(a, b, c):
    """Rounded once for float16 and float32: their products are exact in float64."""
    if a.dtype == np.float64:
        return a * b + c
    total = np.multiply(a, b, dtype=np.float64)
    total = np.add(total, c, dtype=np.float64)
    return total.astype(a.dtype)


def rounded(x, mode):
    return {"ni": np.rint, "zi": np.trunc, "mi": np.floor, "pi": np.ceil}[mode](x)


def converted(x, dtype, mode, saturate):
    """``cvt``: to an integer by the rounding mode and into its range, NaN to 0; between integers by bits."""
    dtype = np.dtype(dtype)
    if x.dtype.kind == "f" and dtype.kind in "iu":
        info = np.iinfo(dtype)
        wide = rounded(np.nan_to_num(x.astype(np.float64), posinf=np.inf, neginf=-np.inf), mode or "zi")
        inside = np.where((wide > info.min) & (wide < info.max), wide, 0).astype(dtype)
        return np.where(
            wide >= info.max, dtype.type(info.max), np.where(wide <= info.min, dtype.type(info.min), inside)
        )
    if x.dtype.kind == "f" and mode is not None:
        x = rounded(x, mode)
    if saturate and dtype.kind == "f":
        return np.clip(np.nan_to_num(x), 0, 1).astype(dtype)
    return x.astype(dtype)


def compare(name, a, b):
    """``setp`` of floats: plain comparisons are false for NaN, those that end in u are true."""
    unordered = np.isnan(a) | np.isnan(b)
    if name in ("num", "nan"):
        return ~unordered if name == "num" else unordered
    ordered = ORDER[name.removesuffix("u")](a, b)
    return ordered | unordered if name.endswith("u") else ordered & ~unordered


ORDER = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater}
ORDER |= {"ge": np.greater_equal, "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal}


# ------------------------------------------------------------------------------------------------------------- integers
def high(a, b):
    """The upper half of a product."""
    size = a.dtype.itemsize
    if size < 8:
        wide = np.dtype(f"{a.dtype.kind}{2 * size}").type
        return ((a.astype(wide) * b.astype(wide)) >> wide(8 * size)).astype(a.dtype)
    product = np.asarray(a, object) * np.asarray(b, object)
    return np.asarray((product >> 64) & (2**64 - 1)).astype(np.uint64).view(a.dtype)


def wide(a, b):
    """The whole product."""
    dtype = f"{a.dtype.kind}{2 * a.dtype.itemsize}"
    return a.astype(dtype) * b.astype(dtype)


def divide(a, b):
    """The quotient towards zero."""
    if a.dtype.kind == "u":
        return a // b
    quotient = a // b
    return quotient + ((a - quotient * b != 0) & ((a < 0) != (b < 0))).astype(a.dtype)


def shift(a, n, left):
    """All bits leave where ``n`` is the width or more."""
    limit = 8 * a.dtype.itemsize
    if left:
        return a << np.minimum(n, limit).astype(a.dtype)
    return a >> np.minimum(n, limit - (a.dtype.kind == "i")).astype(a.dtype)


def field(a, start, length):
    """``bfe``: a field of bits; of signed numbers with its sign."""
    width = 8 * a.dtype.itemsize
    start, length = (np.minimum(v & 0xFF, width).astype(np.int64) for v in (start, length))
    up = width - length
    kept = shift(shift(shift(a, start, False), up, True), up, False)
    return np.where(length == 0, a.dtype.type(0), kept)


def insert(a, b, start, length):
    """``bfi``: the low bits of ``a`` in the place of a field of ``b``."""
    one = b.dtype.type(1)
    mask = shift(shift(one, length, True) - one, start, True)
    return (b & ~mask) | (shift(a, start, True) & mask)


def permute(a, b, selector):
    """``prmt`` in its default mode: four bytes chosen from eight; 8 in a nibble spreads the sign."""
    both = a.astype(np.uint64) | (b.astype(np.uint64) << np.uint64(32))
    result = np.uint32(0)
    for i in range(4):
        nibble = (selector >> np.uint32(4 * i)) & np.uint32(15)
        byte = (both >> (nibble & np.uint32(7)).astype(np.uint64) * np.uint64(8)).astype(np.uint32) & np.uint32(255)
        byte = np.where(nibble & np.uint32(8), np.where(byte & np.uint32(128), np.uint32(255), np.uint32(0)), byte)
        result = result | (byte << np.uint32(8 * i))
    return result


def logic(a, b, c, table):
    """``lop3``: any function of three bits, by its table."""
    result = a & np.uint32(0)
    for row in range(8):
        if int(table) >> row & 1:
            terms = [v if row >> place & 1 else ~v for v, place in ((a, 2), (b, 1), (c, 0))]
            result = result | (terms[0] & terms[1] & terms[2])
    return result


def funnel(a, b, n, left, clamp):
    """``shf``: 32 bits of the 64 that a (low) and b (high) are together."""
    n = np.minimum(n, 32) if clamp else n & np.uint32(31)
    both = a.astype(np.uint64) | (b.astype(np.uint64) << np.uint64(32))
    if left:
        return (shift(both, n, True) >> np.uint64(32)).astype(np.uint32)
    return shift(both, n, False).astype(np.uint32)


def leading_zeros(x):
    return np.uint32(8 * x.dtype.itemsize) - np.ceil(np.log2(x.astype(np.float64) + 1)).astype(np.uint32)


def halves(x, count):
    """``mov`` into parts: the low one first."""
    part = np.dtype(f"u{x.dtype.itemsize // count}")
    width = 8 * part.itemsize
    x = x.view(f"u{x.dtype.itemsize}")
    return [(x >> x.dtype.type(width * i)).astype(part) for i in range(count)]


def packed(parts):
    """``mov`` from parts."""
    parts = [np.asarray(p).view(f"u{p.dtype.itemsize}")[()] for p in parts]
    whole = np.dtype(f"u{parts[0].dtype.itemsize * len(parts)}").type
    width, result = 8 * parts[0].dtype.itemsize, whole(0)
    for i, part in enumerate(parts):
        result = result | (part.astype(whole) << whole(width * i))
    return result


# ------------------------------------------------------------------------------------------------------- tensor cores
def mma(shape, kind, a, b, c):
    """``mma.sync``: fragments of whole warps, shape (warps, 32) each -> the four of the result.

    Layouts of section 9.7.14.5 of the manual: thread 4 g + t of a warp holds row g (of A and C) or column g (of B).
    """
    lane = np.arange(32)
    g, t = lane >> 2, lane & 3
    depth = {"m16n8k16": 16, "m16n8k8": 8}[shape]
    left, right, total = np.zeros((len(a[0]), 16, depth)), np.zeros((len(a[0]), depth, 8)), np.zeros((len(a[0]), 16, 8))
    if kind == "f16":
        for i, register in enumerate(a):
            pair = np.ascontiguousarray(register).view(np.float16).reshape(-1, 32, 2)
            for e in range(2):
                left[:, g + 8 * (i % 2), 2 * t + 8 * (i // 2) + e] = pair[..., e]
        for i, register in enumerate(b):
            pair = np.ascontiguousarray(register).view(np.float16).reshape(-1, 32, 2)
            for e in range(2):
                right[:, 2 * t + 8 * i + e, g] = pair[..., e]
    else:  # tf32: the lowest 13 bits do not count
        for i, register in enumerate(a):
            left[:, g + 8 * (i % 2), t + 4 * (i // 2)] = (register & np.uint32(0xFFFFE000)).view(np.float32)
        for i, register in enumerate(b):
            right[:, t + 4 * i, g] = (register & np.uint32(0xFFFFE000)).view(np.float32)
    places = [(0, 0), (0, 1), (8, 0), (8, 1)]
    for (down, across), register in zip(places, c, strict=True):
        total[:, g + down, 2 * t + across] = register
    result = (left @ right + total).astype(np.float32)
    return [np.ascontiguousarray(result[:, g + down, 2 * t + across]) for down, across in places]
