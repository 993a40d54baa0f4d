"""The register transpose, which layout moves are loops around."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastconv.cpu.vector_ir import INDEX, Emitter


def make_transpose(*, bias_and_floor: bool) -> Any:
    """A transpose of (lanes x lanes) elements in registers: for 0 <= k, q < lanes where ``to[q] >= 0``

        target[to[q] + k] = source[min(k, rows - 1) * stride + q]

    With ``bias_and_floor`` every element first gets ``bias[q]`` added and is replaced by ``floor`` where it is less (a
    floor of 0 is ReLU, one of -inf nothing; NaN stays). Stores are in the order of q, so that a store's excess lanes
    may overlap the next ones.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        emit = Emitter(context, builder, signature.args[0].dtype)
        source, stride, rows, target, to = args[:5]
        loaded = []
        for k in range(emit.lanes):
            last = builder.sub(rows, ir.Constant(INDEX, 1))
            here = ir.Constant(INDEX, k)
            row = builder.select(builder.icmp_signed("<", here, last), here, last)
            value = emit.load(builder.gep(source, [builder.mul(row, stride)]))
            if bias_and_floor:
                value = builder.fadd(value, emit.load(args[5]))
                floor = emit.splat(args[6])
                value = builder.select(builder.fcmp_ordered("<", value, floor), floor, value)
            loaded.append(value)
        for q, value in enumerate(_transposed(emit, loaded)):
            offset = builder.load(builder.gep(to, [ir.Constant(INDEX, q)]))
            with builder.if_then(builder.icmp_signed(">=", offset, ir.Constant(INDEX, 0))):
                emit.store(value, builder.gep(target, [offset]))
        return context.get_dummy_value()

    if bias_and_floor:

        @intrinsic  # type: ignore[untyped-decorator]
        def transpose_epilogue(
            typingctx: Any, source: Any, stride: Any, rows: Any, target: Any, to: Any, bias: Any, floor: Any
        ) -> Any:
            index = types.CPointer(types.intp)
            return types.void(source, types.intp, types.intp, target, index, bias, source.dtype), codegen

        return transpose_epilogue

    @intrinsic  # type: ignore[untyped-decorator]
    def transpose(typingctx: Any, source: Any, stride: Any, rows: Any, target: Any, to: Any) -> Any:
        return types.void(source, types.intp, types.intp, target, types.CPointer(types.intp)), codegen

    return transpose


def _transposed(emit: Emitter, rows: list[Any]) -> list[Any]:
    """The columns of ``rows``, by shuffles that are one instruction each on x86-64 and on AArch64."""
    count = emit.lanes
    labels = [[(row, column) for column in range(count)] for row in range(count)]
    distance = 1
    while distance < count:
        masks = _shuffle_masks(count, 16 // emit.size, distance)
        for i in (i for i in range(count) if not i & distance):
            pair, names = (rows[i], rows[i + distance]), labels[i] + labels[i + distance]
            for k, mask in zip((i, i + distance), masks, strict=True):
                rows[k], labels[k] = emit.shuffle(*pair, mask), [names[m] for m in mask]
        distance *= 2
    columns = {names[0][1]: value for names, value in zip(labels, rows, strict=True)}
    return [columns[q] for q in range(count)]


def _shuffle_masks(count: int, lane: int, distance: int) -> tuple[list[int], list[int]]:
    """Masks of one stage on two registers of ``count`` elements in 16-byte lanes of ``lane`` elements.

    Inside the lanes: interleave runs of ``distance`` elements of the lanes' low halves, and of their high halves.
    Beyond them: the even lanes of both registers, and the odd ones.
    """
    if distance < lane:
        starts = [[low + half * lane // 2 for low in range(0, count, lane)] for half in (0, 1)]
        runs = [[start + s for start in half for s in range(0, lane // 2, distance)] for half in starts]
        low, high = ([run + side + k for run in half for side in (0, count) for k in range(distance)] for half in runs)
        return low, high
    even, odd = ([base + k for base in range(first, 2 * count, 2 * lane) for k in range(lane)] for first in (0, lane))
    return even, odd


transpose = make_transpose(bias_and_floor=False)
transpose_epilogue = make_transpose(bias_and_floor=True)
