"""Single instructions of the interpreter against Python's integers and NumPy's floats."""

import numpy as np
import pytest

from tests.ptx.programs import compute

U32 = np.array([0, 1, 2, 31, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 0x12345678], np.uint32)
OTHER = np.array([3, 2**32 - 1, 5, 2**31, 255, 2**16 + 1, 7, 2**31, 2**32 - 1, 0x9ABCDEF0], np.uint32)
SMALL = np.array([1, 0, 31, 32, 33, 8, 16, 4, 63, 12], np.uint32)
F32 = np.array([0.0, -0.0, 1.5, -2.5, 3.5, np.nan, np.inf, -np.inf, 1e20, 0.3], np.float32)
G32 = np.array([1.0, 0.0, np.nan, -2.5, 2.0, np.nan, 1.0, -np.inf, -1e20, 7.0], np.float32)


def signed(x, bits=32):
    return [int(v) - (1 << bits) * (int(v) >> (bits - 1)) for v in x]


def wrapped(values, bits=32):
    return np.array([int(v) % (1 << bits) for v in values], f"u{bits // 8}")


INTEGERS = {
    "add.s32 %out, %a, %b;": lambda a, b: a + b,
    "sub.s32 %out, %a, %b;": lambda a, b: a - b,
    "mul.lo.s32 %out, %a, %b;": lambda a, b: a * b,
    "mul.hi.u32 %out, %a, %b;": lambda a, b: a * b >> 32,
    "mad.lo.s32 %out, %a, %b, 7;": lambda a, b: a * b + 7,
    "div.u32 %out, %a, %b;": lambda a, b: a // b,
    "rem.u32 %out, %a, %b;": lambda a, b: a % b,
    "and.b32 %out, %a, %b;": lambda a, b: a & b,
    "xor.b32 %out, %a, %b;": lambda a, b: a ^ b,
    "not.b32 %out, %a;": lambda a, b: ~a,
    "min.u32 %out, %a, %b;": min,
    "max.u32 %out, %a, %b;": max,
    "popc.b32 %out, %a;": lambda a, b: a.bit_count(),
    "clz.b32 %out, %a;": lambda a, b: 32 - a.bit_length(),
    "lop3.b32 %out, %a, %b, 0x0F0F0F0F, 0x96;": lambda a, b: a ^ b ^ 0x0F0F0F0F,
    "prmt.b32 %out, %a, %b, 0x5410;": lambda a, b: (a & 0xFFFF) | (b & 0xFFFF) << 16,
    "shf.l.wrap.b32 %out, %a, %b, 12;": lambda a, b: (b << 12) | a >> 20,
    "selp.b32 %out, %a, %b, 1;": lambda a, b: a,
}


@pytest.mark.parametrize("code", INTEGERS)
def test_integers(code):
    expected = [INTEGERS[code](int(a), int(b)) for a, b in zip(U32, OTHER, strict=True)]
    np.testing.assert_array_equal(compute(code, U32, OTHER), wrapped(expected))


SIGNED = {
    "mul.hi.s32 %out, %a, %b;": lambda a, b: a * b >> 32,
    "div.s32 %out, %a, %b;": lambda a, b: int(a / b),
    "rem.s32 %out, %a, %b;": lambda a, b: a - b * int(a / b),
    "min.s32 %out, %a, %b;": min,
    "neg.s32 %out, %a;": lambda a, b: -a,
    "abs.s32 %out, %a;": lambda a, b: abs(a),
}


@pytest.mark.parametrize("code", SIGNED)
def test_signed_integers(code):
    a, b = U32[U32 != 2**31], OTHER[U32 != 2**31]
    expected = [SIGNED[code](x, y) for x, y in zip(signed(a), signed(b), strict=True)]
    np.testing.assert_array_equal(compute(code, a, b), wrapped(expected))


SHIFTS = {
    "shl.b32 %out, %a, %b;": lambda a, n: a << n if n < 32 else 0,
    "shr.u32 %out, %a, %b;": lambda a, n: a >> n,
    "bfe.u32 %out, %a, %b, 5;": lambda a, n: a >> n & 31 if n < 32 else 0,
    "bfi.b32 %out, 0x15, %a, %b, 5;": lambda a, n: (a & ~(31 << n)) | (0x15 << n) if n < 32 else a,
}


@pytest.mark.parametrize("code", SHIFTS)
def test_shifts(code):
    expected = [SHIFTS[code](int(a), int(n)) for a, n in zip(U32, SMALL, strict=True)]
    np.testing.assert_array_equal(compute(code, U32, SMALL), wrapped(expected))


def test_signed_shifts_and_fields():
    expected = [a >> min(int(n), 31) for a, n in zip(signed(U32), SMALL, strict=True)]
    np.testing.assert_array_equal(compute("shr.s32 %out, %a, %b;", U32, SMALL), wrapped(expected))
    expected = [signed([int(a) >> 3 & 15], 4)[0] for a in U32]
    np.testing.assert_array_equal(compute("bfe.s32 %out, %a, 3, 4;", U32), wrapped(expected))


def test_wide_and_high_products():
    wide = compute("mul.wide.u32 %out, %a, %b;", U32, OTHER, result=np.uint64)
    np.testing.assert_array_equal(wide, wrapped([int(a) * int(b) for a, b in zip(U32, OTHER, strict=True)], 64))
    mad = compute("mad.wide.s32 %out, %a, %b, 5;", U32, OTHER, result=np.uint64)
    expected = [a * b + 5 for a, b in zip(signed(U32), signed(OTHER), strict=True)]
    np.testing.assert_array_equal(mad, wrapped(expected, 64))
    a, b = U32.astype(np.uint64) << np.uint64(31), OTHER.astype(np.uint64) * np.uint64(12345678901)
    high = compute("mul.hi.u64 %out, %a, %b;", a, b, result=np.uint64)
    np.testing.assert_array_equal(high, wrapped([int(x) * int(y) >> 64 for x, y in zip(a, b, strict=True)], 64))


def test_parts_of_registers():
    code = "{ .reg .b16 low; .reg .b16 high; mov.b32 {low, high}, %a; mov.b32 %out, {high, low}; }"
    np.testing.assert_array_equal(compute(code, U32), (U32 << 16) | (U32 >> 16))


COMPARISONS = {
    "lt": lambda a, b: a < b,
    "ne": lambda a, b: (a != b) & ~np.isnan(a) & ~np.isnan(b),
    "neu": lambda a, b: a != b,
    "geu": lambda a, b: ~(a < b),
    "num": lambda a, b: ~np.isnan(a) & ~np.isnan(b),
    "nan": lambda a, b: np.isnan(a) | np.isnan(b),
}


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons_of_floats(name):
    code = f"setp.{name}.f32 %p1, %a, %b; selp.b32 %out, 1, 0, %p1;"
    np.testing.assert_array_equal(compute(code, F32, G32), COMPARISONS[name](F32, G32))


def test_maxima_of_floats():
    """The plain maximum drops NaN, the other one keeps it."""
    np.testing.assert_array_equal(compute("max.f32 %out, %a, %b;", F32, G32, result=np.float32), np.fmax(F32, G32))
    np.testing.assert_array_equal(
        compute("max.NaN.f32 %out, %a, %b;", F32, G32, result=np.float32), np.maximum(F32, G32)
    )


def test_multiply_add_rounds_once():
    a = np.array([1 + 2.0**-12], np.float32)
    b = compute("fma.rn.f32 %out, %a, %a, 0fBF800000;", a, result=np.float32)
    np.testing.assert_array_equal(b, [2.0**-11 + 2.0**-24])


CONVERSIONS = [
    ("cvt.rzi.s32.f32", [0, 0, 1, -2, 3, 0, 2**31 - 1, -(2**31), 2**31 - 1, 0]),
    ("cvt.rni.s32.f32", [0, 0, 2, -2, 4, 0, 2**31 - 1, -(2**31), 2**31 - 1, 0]),
    ("cvt.rzi.u32.f32", [0, 0, 1, 0, 3, 0, 2**32 - 1, 0, 2**32 - 1, 0]),
]


@pytest.mark.parametrize(("name", "expected"), CONVERSIONS)
def test_conversions_to_integers(name, expected):
    np.testing.assert_array_equal(compute(f"{name} %out, %a;", F32), wrapped(expected))


def test_conversions_between_widths():
    code = "{ .reg .b16 t; cvt.u16.u32 t, %a; cvt.s32.s16 %out, t; }"
    np.testing.assert_array_equal(compute(code, U32), wrapped(signed(U32 & 0xFFFF, 16)))
    code = "{ .reg .b16 t; cvt.rn.f16.f32 t, %a; cvt.f32.f16 %out, t; }"
    with np.errstate(over="ignore"):
        expected = F32.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(compute(code, F32, result=np.float32), expected)
    wide = compute("cvt.s64.s32 %out, %a;", U32, result=np.uint64)
    np.testing.assert_array_equal(wide, wrapped(signed(U32), 64))


def test_an_unknown_instruction_is_refused():
    with pytest.raises(NotImplementedError, match="vadd"):
        compute("vadd.u32.u32.u32 %out, %a, %b;", U32, OTHER)
