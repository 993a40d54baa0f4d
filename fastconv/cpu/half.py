"""Arrays of 16-bit floats, which are stored and not computed with: float16, and the bfloat16 of ``ml_dtypes``.

Kernels compute in float32 and results are rounded once. A number of either type is widened exactly and narrowed to the
nearest, ties to even. The conversions are arithmetic on bits in whole vectors, so that they need no instruction of
their own and run at the speed of memory wherever there are vectors; ``emit_wide`` and ``emit_narrow`` serve scalars and
vectors alike. ``bfloat16`` is known by its name: ``ml_dtypes`` is never imported.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastconv.cpu import layout
from fastconv.cpu._jit import compiled, launch
from fastconv.cpu._target import HAS_HALF

Array = npt.NDArray[Any]

_SHARE = 1 << 16  # elements that are worth a thread


# ------------------------------------------------------------------------------------------------------- as vector code
def _beside(kind: Any, element: Any) -> Any:
    """``element``, or a vector of as many as ``kind`` has."""
    return ir.VectorType(element, kind.count) if isinstance(kind, ir.VectorType) else element


def _constant(kind: Any, value: Any) -> Any:
    return ir.Constant(kind, [value] * kind.count if isinstance(kind, ir.VectorType) else value)


def emit_wide(builder: Any, bits: Any, brain: bool) -> Any:
    """The float32 of a 16-bit float, given as an integer; ``brain`` says that it is a bfloat16."""
    integer, real = _beside(bits.type, ir.IntType(32)), _beside(bits.type, ir.FloatType())
    number = builder.zext(bits, integer)
    if brain:
        return builder.bitcast(builder.shl(number, _constant(integer, 16)), real)
    sign = builder.shl(builder.and_(number, _constant(integer, 0x8000)), _constant(integer, 16))
    size = builder.and_(number, _constant(integer, 0x7FFF))
    moved = builder.shl(size, _constant(integer, 13))
    normal = builder.add(moved, _constant(integer, (127 - 15) << 23))
    # As products of an integer: a float32 that were itself subnormal on the way would take the slow path.
    small = builder.bitcast(builder.fmul(builder.sitofp(size, real), _constant(real, 2.0**-24)), integer)
    special = builder.or_(moved, _constant(integer, 0x7F800000))
    wide = builder.select(builder.icmp_unsigned("<", size, _constant(integer, 0x0400)), small, normal)
    wide = builder.select(builder.icmp_unsigned(">=", size, _constant(integer, 0x7C00)), special, wide)
    return builder.bitcast(builder.or_(wide, sign), real)


def emit_narrow(builder: Any, value: Any, brain: bool) -> Any:
    """The nearest 16-bit float to a float32, as an integer: ties to even, too large to infinity, NaN to NaN."""
    integer, short = _beside(value.type, ir.IntType(32)), _beside(value.type, ir.IntType(16))
    bits = builder.bitcast(value, integer)
    size = builder.and_(bits, _constant(integer, 0x7FFFFFFF))
    dropped = 16 if brain else 13

    def shifted(number: Any, places: int) -> Any:
        return builder.lshr(number, _constant(integer, places))

    odd = builder.and_(shifted(size, dropped), _constant(integer, 1))
    raised = builder.add(builder.add(size, odd), _constant(integer, (1 << (dropped - 1)) - 1))
    is_nan = builder.icmp_unsigned(">", size, _constant(integer, 0x7F800000))
    if brain:
        nan = builder.or_(shifted(size, 16), _constant(integer, 0x0040))
        near = builder.select(is_nan, nan, shifted(raised, 16))
    else:
        near = shifted(builder.sub(raised, _constant(integer, (127 - 15) << 23)), 13)
        # Beside 0.5 a float32 steps by 2**-24, as subnormal float16 do: the addition rounds to them.
        beside = builder.fadd(builder.bitcast(size, value.type), _constant(value.type, 0.5))
        small = builder.sub(builder.bitcast(beside, integer), _constant(integer, 0x3F000000))
        near = builder.select(builder.icmp_unsigned("<", size, _constant(integer, 0x38800000)), small, near)
        large = builder.icmp_unsigned(">=", size, _constant(integer, 0x47800000))
        near = builder.select(large, _constant(integer, 0x7C00), near)
        near = builder.select(is_nan, _constant(integer, 0x7E00), near)
    sign = builder.and_(shifted(bits, 16), _constant(integer, 0x8000))
    return builder.trunc(builder.or_(near, sign), short)


def emit_widened(builder: Any, bits: Any, brain: bool) -> Any:
    """:func:`emit_wide`, by an instruction where there is one: in cache 13 instead of 8 elements a nanosecond."""
    if brain or not HAS_HALF:
        return emit_wide(builder, bits, brain)
    halves = builder.bitcast(bits, _beside(bits.type, ir.HalfType()))
    return builder.fpext(halves, _beside(bits.type, ir.FloatType()))


def emit_narrowed(builder: Any, value: Any, brain: bool) -> Any:
    """:func:`emit_narrow`, by an instruction where there is one: 16 instead of 6 elements a nanosecond."""
    if brain or not HAS_HALF:
        return emit_narrow(builder, value, brain)
    halves = builder.fptrunc(value, _beside(value.type, ir.HalfType()))
    return builder.bitcast(halves, _beside(value.type, ir.IntType(16)))


def conversion(emit: Any, given: Any, result: Any, brain: bool) -> Any:
    """What ``emit`` emits, as a function for compiled code."""

    @intrinsic  # type: ignore[untyped-decorator]
    def convert(typingctx: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return emit(builder, args[0], brain)

        return result(given), codegen

    return convert


wide_float16 = conversion(emit_widened, types.uint16, types.float32, False)
wide_bfloat16 = conversion(emit_wide, types.uint16, types.float32, True)
narrow_float16 = conversion(emit_narrowed, types.float32, types.uint16, False)
narrow_bfloat16 = conversion(emit_narrow, types.float32, types.uint16, True)


# ------------------------------------------------------------------------------------------------------------- kernels
@compiled
def widen_run(worker, workers, source, brain, target):
    """target = source, in float32."""
    start, stop = source.size * worker // workers, source.size * (worker + 1) // workers
    xs, ys = source[start:stop], target[start:stop]
    if brain:
        for i in range(xs.size):
            ys[i] = wide_bfloat16(xs[i])
    else:
        for i in range(xs.size):
            ys[i] = wide_float16(xs[i])


@compiled
def narrow_run(worker, workers, source, brain, target):
    """target = source, rounded."""
    start, stop = source.size * worker // workers, source.size * (worker + 1) // workers
    xs, ys = source[start:stop], target[start:stop]
    if brain:
        for i in range(xs.size):
            ys[i] = narrow_bfloat16(xs[i])
    else:
        for i in range(xs.size):
            ys[i] = narrow_float16(xs[i])


# ----------------------------------------------------------------------------------------------------------- in Python
def is_half(dtype: np.dtype[Any]) -> bool:
    """Whether an array of this dtype is computed with in float32."""
    return dtype.itemsize == 2 and (dtype == np.float16 or is_brain(dtype))


def is_brain(dtype: np.dtype[Any]) -> bool:
    return dtype.name == "bfloat16"


def widen(x: Array) -> Array:
    """``x`` (N, C, *spatial) in float32, in its memory order."""
    source, channels_last = layout.flat(x)
    result = layout.empty(x.shape, np.float32, channels_last)
    target = layout.flat_target(result, channels_last)
    launch(widen_run, x.size // _SHARE, source.view(np.uint16), is_brain(x.dtype), target)
    return result


def narrow(x: Array, result: Array, channels_last: bool) -> None:
    """Write float32 ``x`` into ``result``: 16-bit floats in this memory order, as from layout.target."""
    source = layout.flat_target(x, channels_last)
    source.setflags(write=False)
    target = layout.flat_target(result, channels_last).view(np.uint16)
    launch(narrow_run, x.size // _SHARE, source, is_brain(result.dtype), target)


def narrowed(x: Array, dtype: np.dtype[Any]) -> Array:
    """``x`` in ``dtype``, in its memory order."""
    channels_last = layout.is_channels_last(x)
    result = layout.empty(x.shape, dtype, channels_last)
    narrow(x, result, channels_last)
    return result
