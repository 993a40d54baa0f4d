"""Rows of the operand that a product reads in place: as they lie, or in float32 where 16-bit floats are stored."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import overload

from fastconv.cpu._jit import internal
from fastconv.cpu.pointers import lanes_at, pointer
from fastconv.cpu.vector import load_first, splat, store_first

HALVES = (types.uint16, types.int16)  # as float16 and bfloat16 are stored


def wide_elements(a: Any, count: int) -> int:
    """Room for ``count`` elements of A in float32; none where it has floats of that size."""
    raise NotImplementedError("wide_elements is for compiled code")


@overload(wide_elements, jit_options={"forceinline": True})
def _wide_elements_of(a, count):
    return (lambda a, count: count) if a.dtype in HALVES else (lambda a, count: 0)


def widen_rows(a: Any, start: int, count: int, wide: Any) -> None:
    """``wide[:count] = a[start:]`` where A has 16-bit floats."""
    raise NotImplementedError("widen_rows is for compiled code")


@overload(widen_rows, jit_options={"forceinline": True})
def _widen_rows_of(a, start, count, wide):
    if a.dtype not in HALVES:
        return lambda a, start, count, wide: None
    return lambda a, start, count, wide: _widen(a, start, count, wide)


@internal
def _widen(a, start, count, wide):
    zero = splat(pointer(wide, 0), 0.0)
    width = lanes_at(pointer(wide, 0))
    for k in range(0, count, width):
        value = load_first(pointer(a, start + k), count - k, zero)
        store_first(pointer(wide, k), value, count - k)


def row_at(a: Any, wide: Any, start: int, base: int) -> Any:
    """Element ``start`` of A, or of what was widened from element ``base`` on."""
    raise NotImplementedError("row_at is for compiled code")


@overload(row_at, jit_options={"forceinline": True})
def _row_at_of(a, wide, start, base):
    if a.dtype in HALVES:
        return lambda a, wide, start, base: pointer(wide, start - base)
    return lambda a, wide, start, base: pointer(a, start)
