"""Sums of products, lane by lane: what depthwise convolution computes with, as the micro-kernel does for all others.

A vector here has 64 bytes on every host, which LLVM makes of smaller registers where there are none: the lanes of the
weight gradient are partial sums, and their number decides the order of summation.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastconv.cpu._jit import VECTOR_BYTES, VECTOR_REGISTERS
from fastconv.cpu.vector_ir import INDEX, LANE, Emitter, is_whole, load_where, ramp, splat, store_where

WIDTH = 64  # bytes of a vector
VECTORS_OF_WIDTH = VECTOR_REGISTERS * VECTOR_BYTES // WIDTH  # that registers hold
# Vectors of a tile, and taps that share its loads: 7 sums, 4 factors and a value, of 32 registers. Sides are often
# multiples of 7.
TILE, COLUMN = (7, 4) if VECTORS_OF_WIDTH >= 32 else (4, 2) if VECTORS_OF_WIDTH >= 8 else (2, 1)
# The taps whose sums one call makes for the weight's gradient.
COLUMNS, TAPS = (3, 3) if VECTORS_OF_WIDTH >= 32 else (2, 2)


@intrinsic  # type: ignore[untyped-decorator]
def lanes_of(typingctx: Any, address: Any) -> Any:
    """Elements of one vector of what ``address`` points at: a constant for the compiler."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(INDEX, WIDTH * 8 // signature.args[0].dtype.bitwidth)

    return types.intp(address), codegen


class WidthEmitter(Emitter):
    """The same of vectors of WIDTH, whose last lanes may lie beyond the end."""

    def _lanes(self) -> int:
        return WIDTH // self.size

    def zero(self) -> Any:
        return ir.Constant(self.vector, [0.0] * self.lanes)

    def at(self, address: Any, offset: Any) -> Any:
        return self.builder.gep(address, [offset])

    def entry(self, table: Any, index: Any) -> Any:
        return self.builder.load(self.at(table, index))

    def first(self, count: Any) -> Any:
        """The mask of the first ``count`` lanes, all of them where there are fewer."""
        lane = ir.VectorType(LANE, self.lanes)
        return self.builder.icmp_signed("<", ramp(lane), splat(self.builder, lane, self.builder.trunc(count, LANE)))

    def least(self, a: Any, b: Any) -> Any:
        return self.builder.select(self.builder.icmp_signed("<", a, b), a, b)

    def load_where(self, mask: Any, address: Any) -> Any:
        return load_where(self.builder, mask, address, self.zero(), self.size)

    def store_first(self, value: Any, address: Any, count: Any) -> None:
        with self.builder.if_else(is_whole(self.builder, count, self.vector), likely=True) as (then, otherwise):
            with then:
                self.store(value, address)
            with otherwise:
                store_where(self.builder, self.first(count), value, address, self.size)


@intrinsic  # type: ignore[untyped-decorator]
def sum_taps(
    typingctx: Any, sizes: Any, columns: Any, a: Any, step: Any, b: Any, row: Any, bias: Any, floor: Any, out: Any,
    out_step: Any, rows: Any, count: Any, drop: Any,
) -> Any:  # fmt: skip
    """A tile of the result: for 0 <= j < min(rows, TILE) and lanes l < count - j * drop

        out[j * out_step + l] = max(floor, bias[l] + sum over r of a[j * step + taps[r] + l] * b[r * row + l])

    with one chain of multiply-adds per element. Taps come in columns, each tap ``step`` behind the one before it:
    ``sizes[0]`` columns of COLUMN taps, then ``sizes[1]`` of one fewer and so on; ``columns`` has their first taps. A
    vector of ``a`` is loaded once for all taps of a column.
    """
    index = types.CPointer(types.intp)
    signature = types.void(
        index, index, a, types.intp, a, types.intp, a, a.dtype, out, types.intp, types.intp, types.intp, types.intp
    )  # fmt: skip

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        emit = WidthEmitter(context, builder, signature.args[2].dtype)
        _emit_sum_taps(builder, emit, args)
        return context.get_dummy_value()

    return signature, codegen


def _emit_sum_taps(builder: Any, emit: WidthEmitter, args: Any) -> None:
    sizes, columns, a, step, b, row, bias, floor, out, out_step, rows, count, drop = args
    sums = [cgutils.alloca_once_value(builder, emit.zero()) for _ in range(TILE)]
    column, factors = cgutils.alloca_once_value(builder, columns), cgutils.alloca_once_value(builder, b)
    for k in range(COLUMN):
        size = COLUMN - k
        with cgutils.for_range(builder, emit.entry(sizes, ir.Constant(INDEX, k))):
            place, factor_at = builder.load(column), builder.load(factors)
            window, factor = emit.at(a, builder.load(place)), []
            for _ in range(size):
                factor.append(emit.load(factor_at))
                factor_at = emit.at(factor_at, row)
            builder.store(emit.at(place, ir.Constant(INDEX, 1)), column)
            builder.store(factor_at, factors)
            for i in range(TILE + size - 1):
                value = emit.load(window)
                window = emit.at(window, step)
                for tap in range(size):
                    if 0 <= i - tap < TILE:
                        slot = sums[i - tap]
                        builder.store(emit.multiply_add(value, factor[tap], builder.load(slot)), slot)
    added, least = emit.load(bias), emit.splat(floor)
    for j, slot in enumerate(sums):
        with builder.if_then(builder.icmp_signed(">", rows, ir.Constant(INDEX, j))):
            value = builder.fadd(builder.load(slot), added)
            value = builder.select(builder.fcmp_ordered("<", value, least), least, value)
            emit.store_first(value, out, count)
        out, count = emit.at(out, out_step), builder.sub(count, drop)


@intrinsic  # type: ignore[untyped-decorator]
def sum_pixels(
    typingctx: Any, columns: Any, a: Any, step: Any, b: Any, b_step: Any, rows: Any, count: Any, drop: Any, sums: Any
) -> Any:
    """A tile's share of the weight's gradient: for COLUMNS columns of TAPS taps, and all lanes l

        sums[(i * TAPS + k) * lanes + l] += sum over j of a[columns[i] + (j + k) * step + l] * b[j * b_step + l]

    over 0 <= j < min(rows, TILE) with l < count - j * drop, with one chain of multiply-adds per element.
    """
    index = types.CPointer(types.intp)
    signature = types.void(
        index, a, types.intp, b, types.intp, types.intp, types.intp, types.intp, sums
    )  # fmt: skip

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        emit = WidthEmitter(context, builder, signature.args[1].dtype)
        _, _, _, _, _, rows, count, drop, _ = args
        last = builder.sub(count, builder.mul(drop, ir.Constant(INDEX, TILE - 1)))
        enough = builder.icmp_signed(">=", last, ir.Constant(INDEX, emit.lanes))
        whole = builder.and_(enough, builder.icmp_signed(">=", rows, ir.Constant(INDEX, TILE)))
        with builder.if_else(whole) as (then, otherwise):
            with then:
                _emit_sum_pixels(builder, emit, args, masked=False)
            with otherwise:
                _emit_sum_pixels(builder, emit, args, masked=True)
        return context.get_dummy_value()

    return signature, codegen


def _emit_sum_pixels(builder: Any, emit: WidthEmitter, args: Any, *, masked: bool) -> None:
    columns, a, step, b, b_step, rows, count, drop, sums = args
    grads, masks = [], []
    for j in range(TILE):
        if masked:
            inside = builder.icmp_signed(">", rows, ir.Constant(INDEX, j))
            masks.append(emit.first(builder.select(inside, count, ir.Constant(INDEX, 0))))
            grads.append(emit.load_where(masks[-1], b))
        else:
            grads.append(emit.load(b))
        b, count = emit.at(b, b_step), builder.sub(count, drop)
    for i in range(COLUMNS):
        into = [emit.at(sums, ir.Constant(INDEX, (i * TAPS + k) * emit.lanes)) for k in range(TAPS)]
        total = [emit.load(address) for address in into]
        window = emit.at(a, emit.entry(columns, ir.Constant(INDEX, i)))
        for r in range(TILE + TAPS - 1):
            value = emit.load(window)
            window = emit.at(window, step)
            for k in range(TAPS):
                if 0 <= r - k < TILE:
                    after = emit.multiply_add(value, grads[r - k], total[k])
                    # Whatever lies beyond the tile does not count: inf * 0 is NaN.
                    total[k] = builder.select(masks[r - k], after, total[k]) if masked else after
        for address, value in zip(into, total, strict=True):
            builder.store(value, builder.bitcast(address, emit.vector.as_pointer())).align = emit.size
