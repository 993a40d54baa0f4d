"""Comparisons of vectors, and what they choose: maxima, and the first positions of maxima."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastconv.cpu import vector_ir as emit
from fastconv.cpu.vector import Vector, beside


@intrinsic  # type: ignore[untyped-decorator]
def maximum(typingctx: Any, a: Any, b: Any) -> Any:
    """The larger of two elements; NaN where one of them is NaN."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _maximum(builder, signature.args[0].dtype, *args)

    return a(a, b), codegen


@intrinsic  # type: ignore[untyped-decorator]
def maximum_of_four(typingctx: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """The same of four; one comparison finds the NaN of two, and comparing vectors is what maxima are limited by."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        dtype = signature.args[0].dtype
        a, b, c, d = args
        larger = _larger(builder, dtype, _larger(builder, dtype, a, b), _larger(builder, dtype, c, d))
        if not isinstance(dtype, types.Float):
            return larger
        nan = builder.or_(builder.fcmp_unordered("uno", a, b), builder.fcmp_unordered("uno", c, d))
        return builder.select(nan, ir.Constant(a.type, [float("nan")] * a.type.count), larger)

    return a(a, b, c, d), codegen


@intrinsic  # type: ignore[untyped-decorator]
def fold_largest(typingctx: Any, value: Any) -> Any:
    """The largest of all lanes in every lane; NaN where one of them is NaN."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        dtype, result = signature.return_type.dtype, args[0]
        for distance in (1 << bit for bit in range(signature.return_type.lanes.bit_length() - 1)):
            order = [lane ^ distance for lane in range(signature.return_type.lanes)]
            other = builder.shuffle_vector(result, result, ir.Constant(ir.VectorType(emit.LANE, len(order)), order))
            result = _maximum(builder, dtype, result, other)
        return result

    return value(value), codegen


def _larger(builder: Any, dtype: Any, a: Any, b: Any) -> Any:
    """b > a ? b : a, which is one instruction on x86-64."""
    if isinstance(dtype, types.Float):
        return builder.select(builder.fcmp_ordered(">", b, a), b, a)
    return builder.select((builder.icmp_signed if dtype.signed else builder.icmp_unsigned)(">", b, a), b, a)


def _maximum(builder: Any, dtype: Any, a: Any, b: Any) -> Any:
    larger = _larger(builder, dtype, a, b)
    if not isinstance(dtype, types.Float):
        return larger
    return builder.select(builder.fcmp_unordered("uno", b, b), b, larger)


def _beats(builder: Any, dtype: Any, new: Any, best: Any) -> Any:
    if isinstance(dtype, types.Float):
        return builder.and_(builder.fcmp_unordered(">", new, best), builder.fcmp_ordered("ord", best, best))
    return (builder.icmp_signed if dtype.signed else builder.icmp_unsigned)(">", new, best)


@intrinsic  # type: ignore[untyped-decorator]
def beats(typingctx: Any, new: Any, best: Any) -> Any:
    """The mask where ``new`` is larger than ``best``; NaN is the largest of all."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _beats(builder, signature.args[0].dtype, *args)

    return beside(new, types.boolean)(new, best), codegen


@intrinsic  # type: ignore[untyped-decorator]
def beats_or_precedes(typingctx: Any, new: Any, new_at: Any, best: Any, best_at: Any) -> Any:
    """The mask where ``new`` is larger, or equal at a smaller position; -1, no position, is the largest."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        new, new_at, best, best_at = args
        dtype = signature.args[0].dtype
        not_less = builder.not_(_beats(builder, dtype, best, new))
        earlier = builder.and_(not_less, builder.icmp_unsigned("<", new_at, best_at))
        return builder.or_(_beats(builder, dtype, new, best), earlier)

    return beside(new, types.boolean)(new, new_at, best, best_at), codegen


@intrinsic  # type: ignore[untyped-decorator]
def select(typingctx: Any, mask: Any, yes: Any, no: Any) -> Any:
    """Lanes of ``yes`` where the mask is set, else of ``no``; of two plain integers the first."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(*args) if isinstance(signature.return_type, Vector) else args[1]

    return yes(mask, yes, no), codegen
