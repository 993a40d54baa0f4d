"""Vector instructions, written with an LLVM builder: what the intrinsics of the other files are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from fastconv.cpu._target import HAS_FMA, lanes

LANE, INDEX = ir.IntType(32), ir.IntType(64)


def splat(builder: Any, kind: Any, value: Any) -> Any:
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(LANE, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(LANE, kind.count), [0] * kind.count))


def ramp(kind: Any) -> Any:
    return ir.Constant(kind, list(range(kind.count)))


def call(builder: Any, name: str, result: Any, args: list[Any]) -> Any:
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, [arg.type for arg in args]), name)
    return builder.call(function, args)


def suffix(kind: Any) -> str:
    element = kind.element
    return f"v{kind.count}{'f32' if element == ir.FloatType() else 'f64' if element == ir.DoubleType() else element}"


def vector_at(builder: Any, pointer: Any, kind: Any) -> Any:
    return builder.bitcast(pointer, kind.as_pointer())


def load(builder: Any, source: Any, kind: Any, size: int) -> Any:
    value = builder.load(vector_at(builder, source, kind))
    value.align = size  # arrays promise the alignment of an element only; unaligned loads cost nothing where aligned
    return value


def load_where(builder: Any, mask: Any, source: Any, fill: Any, size: int) -> Any:
    source = builder.bitcast(source, ir.IntType(8).as_pointer())
    args = [source, ir.Constant(LANE, size), mask, fill]
    return call(builder, f"llvm.masked.load.{suffix(fill.type)}.p0", fill.type, args)


def store_where(builder: Any, mask: Any, value: Any, target: Any, size: int) -> None:
    target = builder.bitcast(target, ir.IntType(8).as_pointer())
    args = [value, target, ir.Constant(LANE, size), mask]
    call(builder, f"llvm.masked.store.{suffix(value.type)}.p0", ir.VoidType(), args)


def gather_where(builder: Any, mask: Any, source: Any, step: Any, fill: Any, size: int) -> Any:
    name = f"llvm.masked.gather.{suffix(fill.type)}.v{fill.type.count}p0"
    pointers = addresses(builder, source, step, fill.type.count, size)
    return call(builder, name, fill.type, [pointers, ir.Constant(LANE, size), mask, fill])


def addresses(builder: Any, pointer: Any, step: Any, count: int, size: int) -> Any:
    offsets = ir.VectorType(INDEX, count)
    distance = splat(builder, offsets, builder.mul(step, ir.Constant(INDEX, size)))
    base = splat(builder, offsets, builder.ptrtoint(pointer, INDEX))
    kind = ir.VectorType(ir.IntType(8).as_pointer(), count)
    return builder.inttoptr(builder.add(base, builder.mul(ramp(offsets), distance)), kind)


def is_whole(builder: Any, count: Any, kind: Any) -> Any:
    return builder.icmp_signed(">=", count, ir.Constant(INDEX, kind.count))


def first_lanes(builder: Any, kind: Any, count: Any) -> Any:
    """The mask of the first ``count`` lanes, for 0 <= count < lanes."""
    lane = ir.VectorType(LANE, kind.count)
    return builder.icmp_unsigned("<", ramp(lane), splat(builder, lane, builder.trunc(count, LANE)))


def places(builder: Any, count: int, start: Any, stride: Any) -> Any:
    """start, start + stride, ... as a vector."""
    kind = ir.VectorType(INDEX, count)
    return builder.add(splat(builder, kind, start), builder.mul(ramp(kind), splat(builder, kind, stride)))


def by_stride(builder: Any, stride: Any, kind: Any, emits: list[Callable[[], Any]]) -> Any:
    """What the first of ``emits`` gives where the stride is 1, the second where it is 2, and the third elsewhere."""
    slot = cgutils.alloca_once(builder, kind)
    with builder.if_else(builder.icmp_signed("==", stride, ir.Constant(INDEX, 1))) as (one, more):
        with one:
            builder.store(emits[0](), slot)
        with more, builder.if_else(builder.icmp_signed("==", stride, ir.Constant(INDEX, 2))) as (two, any_stride):
            with two:
                builder.store(emits[1](), slot)
            with any_stride:
                builder.store(emits[2](), slot)
    return builder.load(slot)


def emit_prefetch(builder: Any, address: Any, *, write: bool, level: int = 1) -> None:
    """Ask for a cache line of data, to read or to write it, into the cache of that level."""
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte] + [LANE] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    options = [ir.Constant(LANE, value) for value in (int(write), 4 - level, 1)]
    builder.call(function, [builder.bitcast(address, byte), *options])


class Emitter:
    """Vector loads, stores and arithmetic for one element type."""

    def __init__(self, context: Any, builder: Any, element: Any) -> None:
        self.builder = builder
        self.size: int = element.bitwidth // 8
        self.lanes = self._lanes()
        self.vector = ir.VectorType(context.get_value_type(element), self.lanes)

    def _lanes(self) -> int:
        return lanes(self.size)

    def load(self, address: Any) -> Any:
        return load(self.builder, address, self.vector, self.size)

    def store(self, value: Any, address: Any) -> None:
        self.builder.store(value, vector_at(self.builder, address, self.vector)).align = self.size

    def splat(self, value: Any) -> Any:
        return splat(self.builder, self.vector, value)

    def shuffle(self, a: Any, b: Any, mask: list[int]) -> Any:
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(LANE, len(mask)), mask))

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        if not HAS_FMA:
            return self.builder.fadd(self.builder.fmul(a, b), c)
        return call(self.builder, f"llvm.fma.{suffix(self.vector)}", self.vector, [a, b, c])
