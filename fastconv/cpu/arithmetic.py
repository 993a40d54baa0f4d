"""Arithmetic on vectors: operators (``+ - * / < > == !=``) between vectors or a vector and a number, folds of lanes.

A multiplication and an addition may be contracted to one instruction, and nothing else is changed: NaN and inf stay as
they are.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic

from fastconv.cpu import vector_ir
from fastconv.cpu.vector import Vector

_CONTRACT = ("contract",)


def _spread(context: Any, builder: Any, value: Any, given: Any, vector: Any) -> Any:
    """A number in every lane; a vector as it is."""
    if isinstance(given, Vector):
        return value
    return vector_ir.splat(builder, context.get_value_type(vector), context.cast(builder, value, given, vector.dtype))


# ----------------------------------------------------------------------------------------------------------- operators
def _vector_of(a: Any, b: Any) -> Vector | None:
    """The float vector type that an operation on ``a`` and ``b`` works in."""
    vectors = [given for given in (a, b) if isinstance(given, Vector) and isinstance(given.dtype, types.Float)]
    others = [given for given in (a, b) if not isinstance(given, Vector)]
    if not vectors or any(v != vectors[0] for v in vectors) or len(vectors) + len(others) < 2:
        return None
    return vectors[0] if all(isinstance(given, types.Number) for given in others) else None


def _register(function: Callable[..., Any], emit: Callable[..., Any], comparison: bool) -> None:
    @infer_global(function)
    class Operator(AbstractTemplate):  # type: ignore[misc]
        def generic(self, args: Any, kws: Any) -> Any:
            vector = _vector_of(*args) if len(args) == 2 and not kws else None
            if vector is None:
                return None
            return signature(Vector(types.boolean, vector.lanes) if comparison else vector, *args)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = _vector_of(*sig.args)
        return emit(builder, *(_spread(context, builder, *pair, vector) for pair in zip(args, sig.args, strict=True)))

    for kinds in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        lower_builtin(function, *kinds)(lower)


_register(operator.add, lambda b, x, y: b.fadd(x, y, flags=_CONTRACT), False)
_register(operator.sub, lambda b, x, y: b.fsub(x, y, flags=_CONTRACT), False)
_register(operator.mul, lambda b, x, y: b.fmul(x, y, flags=_CONTRACT), False)
_register(operator.truediv, lambda b, x, y: b.fdiv(x, y), False)
_register(operator.lt, lambda b, x, y: b.fcmp_ordered("<", x, y), True)
_register(operator.gt, lambda b, x, y: b.fcmp_ordered(">", x, y), True)
_register(operator.eq, lambda b, x, y: b.fcmp_ordered("==", x, y), True)
_register(operator.ne, lambda b, x, y: b.fcmp_unordered("!=", x, y), True)


@intrinsic  # type: ignore[untyped-decorator]
def choose(typingctx: Any, mask: Any, yes: Any, no: Any) -> Any:
    """Lanes of ``yes`` where the mask is set, else of ``no``; one of them may be a number."""
    vector = _vector_of(yes, no)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values = (_spread(context, builder, *pair, vector) for pair in zip(args[1:], sig.args[1:], strict=True))
        return builder.select(args[0], *values)

    return None if vector is None else (vector(mask, yes, no), codegen)


@intrinsic  # type: ignore[untyped-decorator]
def filled(typingctx: Any, like: Any, value: Any) -> Any:
    """``value`` in as many lanes as ``like`` has."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _spread(context, builder, args[1], sig.args[1], sig.args[0])

    return like(like, value), codegen


# --------------------------------------------------------------------------------------------------------------- folds
def _fold(combine: Callable[..., Any]) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def fold(typingctx: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            result, distance = args[0], sig.args[0].lanes // 2
            while distance:
                order = [lane ^ distance for lane in range(sig.args[0].lanes)]
                other = ir.Constant(ir.VectorType(vector_ir.LANE, len(order)), order)
                result = combine(builder, result, builder.shuffle_vector(result, result, other))
                distance //= 2
            return result

        return value(value), codegen

    return fold


# The sum, or the maximum, of all lanes in every lane; a NaN in one lane may be dropped by the maximum.
fold_sum = _fold(lambda b, x, y: b.fadd(x, y))
fold_maximum = _fold(lambda b, x, y: b.select(b.fcmp_ordered(">", x, y), x, y))


# ------------------------------------------------------------------------------------------------------- bits of floats
_MANTISSA = {4: 23, 8: 52}
_SQRT_HALF = {4: 0x3F3504F3, 8: 0x3FE6A09E667F3BCD}  # the bits of sqrt(1/2)


def _bits(builder: Any, value: Any, size: int) -> tuple[Any, Any, Any]:
    """The bits of a vector as integers, that integer vector type, and the mantissa's length in every lane."""
    kind = ir.VectorType(ir.IntType(8 * size), value.type.count)
    return builder.bitcast(value, kind), kind, ir.Constant(kind, [_MANTISSA[size]] * kind.count)


@intrinsic  # type: ignore[untyped-decorator]
def exponent_bits(typingctx: Any, value: Any) -> Any:
    """The lowest bits of each float as sign and exponent of a float: n + bias, left there by a large sum, gives 2^n."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits, _, mantissa = _bits(builder, args[0], sig.args[0].dtype.bitwidth // 8)
        return builder.bitcast(builder.shl(bits, mantissa), args[0].type)

    return value(value), codegen


@intrinsic  # type: ignore[untyped-decorator]
def exponent(typingctx: Any, value: Any) -> Any:
    """k of each positive normal float 2^k f with f in [sqrt(1/2), sqrt(2)), as a float."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        size = sig.args[0].dtype.bitwidth // 8
        bits, kind, mantissa = _bits(builder, args[0], size)
        above = builder.sub(bits, ir.Constant(kind, [_SQRT_HALF[size]] * kind.count))
        return builder.sitofp(builder.ashr(above, mantissa), args[0].type)

    return value(value), codegen
