"""Vectors as values inside compiled code: what loops over short rows need and the loop vectoriser does not give.

``load`` takes one register of consecutive elements from a pointer, and vectors are then added, compared, selected and
stored. Rows of 5, 14 or 28 elements are common in pooling; there the vectoriser's scalar remainder costs more than the
row, and a masked vector is one step. Like the micro-kernel this is LLVM vector IR for the host's width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from fastconv.cpu import vector_ir as emit
from fastconv.cpu._target import lanes
from fastconv.cpu.half import emit_narrowed, emit_widened


class Vector(types.Type):  # type: ignore[misc]
    """One register's worth of elements: ``lanes`` values of ``dtype`` (booleans: a mask; intp: positions)."""

    def __init__(self, dtype: Any, lanes: int) -> None:
        self.dtype, self.lanes = dtype, lanes
        super().__init__(name=f"Vector({dtype}, {lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(dmm.lookup(fe_type.dtype).get_value_type(), fe_type.lanes))


def _of(pointer: Any) -> Vector:
    """The vector that a pointer to elements points at."""
    return Vector(pointer.dtype, lanes(pointer.dtype.bitwidth // 8))


def beside(vector: Any, dtype: Any) -> Vector:
    """As many lanes as ``vector``, of another type."""
    return Vector(dtype, vector.lanes)


# -------------------------------------------------------------------------------------------------------- 16-bit floats
def _is_stored(pointer: Any, vector: Vector) -> bool:
    """Whether elements at ``pointer`` are 16-bit floats for a vector of float32: uint16 is float16, int16 bfloat16."""
    return vector.dtype == types.float32 and pointer.dtype in (types.uint16, types.int16)


def _bits(kind: Any) -> Any:
    return ir.VectorType(ir.IntType(16), kind.count)


def _widened(builder: Any, bits: Any, pointer: Any) -> Any:
    return emit_widened(builder, bits, pointer.dtype == types.int16)


def _narrowed(builder: Any, value: Any, pointer: Any) -> Any:
    return emit_narrowed(builder, value, pointer.dtype == types.int16)


# ----------------------------------------------------------------------------------------------------- loads and stores
@intrinsic  # type: ignore[untyped-decorator]
def load(typingctx: Any, source: Any) -> Any:
    """The vector at ``source``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        size = signature.args[0].dtype.bitwidth // 8
        return emit.load(builder, args[0], context.get_value_type(signature.return_type), size)

    return _of(source)(source), codegen


@intrinsic  # type: ignore[untyped-decorator]
def load_beside(typingctx: Any, like: Any, source: Any) -> Any:
    """As many elements at ``source`` as ``like`` has lanes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        size = signature.args[1].dtype.bitwidth // 8
        return emit.load(builder, args[1], context.get_value_type(signature.return_type), size)

    return beside(like, source.dtype)(like, source), codegen


@intrinsic  # type: ignore[untyped-decorator]
def load_first(typingctx: Any, source: Any, count: Any, fill: Any) -> Any:
    """The first ``count`` elements at ``source``, or a whole vector where that is less; the other lanes of ``fill``.

    Beside float32, 16-bit floats are widened.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, count, fill = args
        pointer, stored = signature.args[0], _is_stored(signature.args[0], signature.return_type)
        kind, size = _bits(fill.type) if stored else fill.type, pointer.dtype.bitwidth // 8
        slot = cgutils.alloca_once(builder, fill.type)
        with builder.if_else(emit.is_whole(builder, count, fill.type)) as (whole, part):
            with whole:
                value = emit.load(builder, source, kind, size)
                builder.store(_widened(builder, value, pointer) if stored else value, slot)
            with part:
                mask = emit.first_lanes(builder, fill.type, count)
                value = emit.load_where(builder, mask, source, ir.Constant(kind, None) if stored else fill, size)
                wide = builder.select(mask, _widened(builder, value, pointer), fill) if stored else value
                builder.store(wide, slot)
        return builder.load(slot)

    return fill(source, types.intp, fill), codegen


@intrinsic  # type: ignore[untyped-decorator]
def take(typingctx: Any, like: Any, source: Any, stride: Any, count: Any) -> Any:
    """``source[l * stride]`` in the first ``count`` lanes l, as many lanes as ``like`` has.

    Strides of 1 and 2 read whole vectors: up to two vectors from ``source`` must be readable, whatever the count.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, source, stride, count = args
        kind, size = context.get_value_type(signature.return_type), signature.args[1].dtype.bitwidth // 8

        def second() -> Any:
            half = builder.gep(source, [ir.Constant(emit.INDEX, kind.count)])
            order = ir.Constant(ir.VectorType(emit.LANE, kind.count), list(range(0, 2 * kind.count, 2)))
            return builder.shuffle_vector(
                emit.load(builder, source, kind, size), emit.load(builder, half, kind, size), order
            )

        def gathered() -> Any:
            least = builder.select(emit.is_whole(builder, count, kind), ir.Constant(emit.INDEX, kind.count), count)
            return emit.gather_where(
                builder, emit.first_lanes(builder, kind, least), source, stride, ir.Constant(kind, None), size
            )

        return emit.by_stride(builder, stride, kind, [lambda: emit.load(builder, source, kind, size), second, gathered])

    return beside(like, source.dtype)(like, source, types.intp, types.intp), codegen


@intrinsic  # type: ignore[untyped-decorator]
def store_first(typingctx: Any, target: Any, value: Any, count: Any) -> Any:
    """Write the first ``count`` lanes of ``value``, all of them where it has fewer; float32 also as 16-bit floats."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target, value, count = args
        size = signature.args[0].dtype.bitwidth // 8
        if _is_stored(signature.args[0], signature.args[1]):
            value = _narrowed(builder, value, signature.args[0])
        with builder.if_else(emit.is_whole(builder, count, value.type)) as (whole, part):
            with whole:
                builder.store(value, emit.vector_at(builder, target, value.type)).align = size
            with part:
                emit.store_where(builder, emit.first_lanes(builder, value.type, count), value, target, size)
        return context.get_dummy_value()

    return types.void(target, value, types.intp), codegen


@intrinsic  # type: ignore[untyped-decorator]
def store_every(typingctx: Any, target: Any, stride: Any, value: Any, count: Any) -> Any:
    """Write the first ``count`` lanes l of ``value`` at ``target[l * stride]``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target, stride, value, count = args
        size = signature.args[0].dtype.bitwidth // 8
        if _is_stored(signature.args[0], signature.args[2]):
            value = _narrowed(builder, value, signature.args[0])
        least = builder.select(
            emit.is_whole(builder, count, value.type), ir.Constant(emit.INDEX, value.type.count), count
        )
        addresses = emit.addresses(builder, target, stride, value.type.count, size)
        name = f"llvm.masked.scatter.{emit.suffix(value.type)}.v{value.type.count}p0"
        args = [value, addresses, ir.Constant(emit.LANE, size), emit.first_lanes(builder, value.type, least)]
        emit.call(builder, name, ir.VoidType(), args)
        return context.get_dummy_value()

    return types.void(target, types.intp, value, types.intp), codegen


# ---------------------------------------------------------------------------------------------------- making and mixing
@intrinsic  # type: ignore[untyped-decorator]
def opaque(typingctx: Any, number: Any) -> Any:
    """``number``, of which LLVM knows nothing more: a loop that counts with it is not unrolled.

    Short loops over the taps of a window otherwise cost more to set up, unrolled by four, than they take.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.asm(ir.FunctionType(emit.INDEX, [emit.INDEX]), "", "=r,0", args, side_effect=False)

    return types.intp(types.intp), codegen


@intrinsic  # type: ignore[untyped-decorator]
def splat(typingctx: Any, pointer: Any, value: Any) -> Any:
    """``value`` in every lane of the vector that ``pointer`` points at."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return emit.splat(builder, context.get_value_type(signature.return_type), args[1])

    return _of(pointer)(pointer, pointer.dtype), codegen


@intrinsic  # type: ignore[untyped-decorator]
def ramp(typingctx: Any, like: Any, start: Any, step: Any) -> Any:
    """Positions ``start + l * step`` beside the lanes l of ``like``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return emit.places(builder, signature.return_type.lanes, args[1], args[2])

    return beside(like, types.intp)(like, types.intp, types.intp), codegen


def _shuffle(mask: Callable[[int], list[int]]) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def shuffle(typingctx: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            order = mask(signature.return_type.lanes)
            return builder.shuffle_vector(*args, ir.Constant(ir.VectorType(emit.LANE, len(order)), order))

        return a(a, b), codegen

    return shuffle


# a0 b0 a1 b1 ...: the first and the second half of two vectors interleaved.
interleave_low = _shuffle(lambda n: [i // 2 + n * (i % 2) for i in range(n)])
interleave_high = _shuffle(lambda n: [(n + i) // 2 + n * (i % 2) for i in range(n)])
# a0 a2 ... b1 b3 ...: every second element from a on, where b begins a vector less one element behind it.
every_other = _shuffle(lambda n: [*range(0, n, 2), *range(n + 1, 2 * n, 2)])


# ---------------------------------------------------------------------------------------------------------- arithmetic
def _lanewise(of_floats: Callable[[Any, Any, Any], Any], of_integers: Callable[[Any, Any, Any], Any]) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def operation(typingctx: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            operate = of_floats if isinstance(signature.args[0].dtype, types.Float) else of_integers
            return operate(builder, *args)

        return a(a, b), codegen

    return operation


add = _lanewise(lambda b, x, y: b.fadd(x, y), lambda b, x, y: b.add(x, y))
multiply = _lanewise(lambda b, x, y: b.fmul(x, y), lambda b, x, y: b.mul(x, y))
divide = _lanewise(lambda b, x, y: b.fdiv(x, y), lambda b, x, y: b.sdiv(x, y))
