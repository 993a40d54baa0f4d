"""The one micro-kernel, and the register transpose for layout moves: all the vector code of the CPU backend.

Both are emitted as LLVM vector IR for the element type of their pointers and the vector width of the host, so SSE2,
AVX2, AVX-512 and NEON come out of one generator. Everything heavy in this package is loops around these two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastconv.cpu._jit import HAS_FMA, VECTOR_BYTES, VECTOR_REGISTERS, inlined

# A tile of ROWS x (up to MAX_VECTORS vectors): 24 accumulators of 32 registers, or 12 of 16, leave room for one row of
# B and a broadcast. Six rows need six addresses, which is what x86-64's general registers hold without spills: tiles of
# 12x2 and 14x2 reached half the speed of 6x4 for that reason.
ROWS = 6
MAX_VECTORS = 4 if VECTOR_REGISTERS >= 32 else 2

LINE_BYTES = 64  # of a cache line

_INDEX = ir.IntType(64)
_LANE = ir.IntType(32)


# ------------------------------------------------------------------------------------------------------------- pointers
@intrinsic  # type: ignore[untyped-decorator]
def pointer(typingctx: Any, array: Any, offset: Any) -> Any:
    """The address of element ``offset`` of a contiguous array."""
    signature = types.CPointer(array.dtype)(array, types.intp)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.gep(view.data, [args[1]])

    return signature, codegen


@intrinsic  # type: ignore[untyped-decorator]
def advance(typingctx: Any, address: Any, offset: Any) -> Any:
    """``address + offset``, in elements."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]])

    return address(address, types.intp), codegen


@intrinsic  # type: ignore[untyped-decorator]
def lanes_at(typingctx: Any, address: Any) -> Any:
    """Elements of one vector of what ``address`` points at: a constant for the compiler."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(_INDEX, lanes(signature.args[0].dtype.bitwidth // 8))

    return types.intp(address), codegen


@intrinsic  # type: ignore[untyped-decorator]
def aligned(typingctx: Any, address: Any) -> Any:
    """``address`` moved up to a multiple of the vector size."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        number = builder.ptrtoint(args[0], _INDEX)
        up = builder.add(number, ir.Constant(_INDEX, VECTOR_BYTES - 1))
        return builder.inttoptr(builder.and_(up, ir.Constant(_INDEX, -VECTOR_BYTES)), args[0].type)

    return address(address), codegen


@intrinsic  # type: ignore[untyped-decorator]
def copy(typingctx: Any, target: Any, source: Any, count: Any) -> Any:
    """``target[:count] = source[:count]``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        size = signature.args[0].dtype.bitwidth // 8
        cgutils.raw_memcpy(builder, args[0], args[1], args[2], size)
        return context.get_dummy_value()

    return types.void(target, source, types.intp), codegen


@intrinsic  # type: ignore[untyped-decorator]
def clear(typingctx: Any, target: Any, count: Any) -> Any:
    """``target[:count] = 0``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        size = ir.Constant(_INDEX, signature.args[0].dtype.bitwidth // 8)
        cgutils.memset(builder, args[0], builder.mul(args[1], size), 0)
        return context.get_dummy_value()

    return types.void(target, types.intp), codegen


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(typingctx: Any, address: Any) -> Any:
    """Ask for the cache line at ``address``, to write it: stores to a line that is not there wait for it."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _emit_prefetch(builder, args[0], write=True)
        return context.get_dummy_value()

    return types.void(address), codegen


def _emit_prefetch(builder: Any, address: Any, *, write: bool) -> None:
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte] + [_LANE] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    options = [ir.Constant(_LANE, value) for value in (int(write), 3, 1)]  # into L1, of data
    builder.call(function, [builder.bitcast(address, byte), *options])


class _Emitter:
    """Vector loads, stores and arithmetic for one element type."""

    def __init__(self, context: Any, builder: Any, element: Any) -> None:
        self.builder = builder
        self.scalar = context.get_value_type(element)
        self.size = element.bitwidth // 8
        self.lanes = lanes(self.size)
        self.vector = ir.VectorType(self.scalar, self.lanes)

    def load(self, address: Any) -> Any:
        # Arrays promise the alignment of an element only; unaligned vector loads cost nothing where they are aligned.
        value = self.builder.load(self.builder.bitcast(address, self.vector.as_pointer()))
        value.align = self.size
        return value

    def store(self, value: Any, address: Any) -> None:
        self.builder.store(value, self.builder.bitcast(address, self.vector.as_pointer())).align = self.size

    def splat(self, value: Any) -> Any:
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(undefined, value, ir.Constant(_LANE, 0))
        return self.shuffle(first, undefined, [0] * self.lanes)

    def shuffle(self, a: Any, b: Any, mask: list[int]) -> Any:
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_LANE, len(mask)), mask))

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        if not HAS_FMA:
            return self.builder.fadd(self.builder.fmul(a, b), c)
        name = f"llvm.fma.v{self.lanes}f{8 * self.size}"
        signature = ir.FunctionType(self.vector, [self.vector] * 3)
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, signature, name), [a, b, c])


def lanes(itemsize: int) -> int:
    """Elements of ``itemsize`` bytes in one vector; of smaller ones no more than of float32.

    What accompanies an element, a position or its float32 value, fills registers too.
    """
    return VECTOR_BYTES // max(itemsize, 4)


# ----------------------------------------------------------------------------------------------------- the micro-kernel
def make_microkernel(rows: int, vectors: int) -> Any:
    """The micro-kernel for a tile of ``rows`` x (``vectors`` vectors): for 0 <= i < rows, 0 <= j < vectors * lanes

        C[i * ldc + j] (+)= sum over r < depth of A[a_row[i] + a_col[r]] * B[b_row[r] + j]

    with one sequential multiply-add chain per element; ``accumulate`` adds the chain's sum to C, else it is stored.
    What lies ``ahead`` elements after a row of B is prefetched: where rows come from L2, a later row.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def microkernel(
        typingctx: Any, depth: Any, a: Any, a_row: Any, a_col: Any, b: Any, b_row: Any, ahead: Any, c: Any, ldc: Any,
        accumulate: Any,
    ) -> Any:  # fmt: skip
        index = types.CPointer(types.intp)
        signature = types.void(types.intp, a, index, index, b, index, types.intp, c, types.intp, types.boolean)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            emit = _Emitter(context, builder, signature.args[1].dtype)
            _emit_tile(builder, emit, rows, vectors, args)
            return context.get_dummy_value()

        return signature, codegen

    return microkernel


def _emit_tile(builder: Any, emit: _Emitter, rows: int, vectors: int, args: Any) -> None:
    depth, a, a_row, a_col, b, b_row, ahead, c, ldc, accumulate = args

    def constant(value: int) -> Any:
        return ir.Constant(_INDEX, value)

    def entry(table: Any, k: Any) -> Any:
        return builder.load(builder.gep(table, [k]))

    tile = [(i, j) for i in range(rows) for j in range(vectors)]
    # Stack slots that LLVM's SROA turns into registers: simpler than building the loop's phi nodes here.
    sums = {ij: cgutils.alloca_once(builder, emit.vector) for ij in tile}
    for ij in tile:
        builder.store(ir.Constant(emit.vector, [0.0] * emit.lanes), sums[ij])
    row_address = [builder.gep(a, [entry(a_row, constant(i))]) for i in range(rows)]

    def add_row(r: Any) -> None:
        column = entry(a_col, r)
        b_address = builder.gep(b, [entry(b_row, r)])
        b_ahead = builder.gep(b_address, [ahead])
        b_vector = [emit.load(builder.gep(b_address, [constant(j * emit.lanes)])) for j in range(vectors)]
        for i in range(rows):
            a_value = emit.splat(builder.load(builder.gep(row_address[i], [column])))
            for j in range(vectors):
                builder.store(emit.multiply_add(a_value, b_vector[j], builder.load(sums[i, j])), sums[i, j])
            if i < vectors and i * VECTOR_BYTES % LINE_BYTES == 0:  # one for every line: a second costs AVX2 2 %
                _emit_prefetch(builder, builder.gep(b_ahead, [constant(i * emit.lanes)]), write=False)

    # Two rows of B a turn: at depth 256 the loop runs at 97 % of the FMA peak, with one row a turn at 90 %.
    with cgutils.for_range(builder, builder.lshr(depth, constant(1))) as loop:
        even = builder.shl(loop.index, constant(1))
        add_row(even)
        add_row(builder.or_(even, constant(1)))
    with builder.if_then(builder.trunc(depth, ir.IntType(1))):
        add_row(builder.sub(depth, constant(1)))

    def write(add: bool) -> None:
        for i, j in tile:
            address = builder.gep(c, [builder.add(builder.mul(ldc, constant(i)), constant(j * emit.lanes))])
            value = builder.load(sums[i, j])
            emit.store(builder.fadd(emit.load(address), value) if add else value, address)

    with builder.if_else(accumulate) as (then, otherwise):
        with then:
            write(True)
        with otherwise:
            write(False)


microkernels = {vectors: make_microkernel(ROWS, vectors) for vectors in range(1, MAX_VECTORS + 1)}


def _choose_by_vectors() -> Callable[..., None]:
    """``tile(vectors, ...)``: the micro-kernel of that many vectors, out of as many as the machine has room for."""
    k1, k2 = microkernels[1], microkernels[2]
    k3, k4 = microkernels.get(3, k2), microkernels.get(4, k2)
    wide = MAX_VECTORS == 4

    def tile(vectors, depth, a, a_row, a_col, b, b_row, ahead, c, ldc, accumulate):  # type: ignore[no-untyped-def]
        if wide and vectors == 4:
            k4(depth, a, a_row, a_col, b, b_row, ahead, c, ldc, accumulate)
        elif wide and vectors == 3:
            k3(depth, a, a_row, a_col, b, b_row, ahead, c, ldc, accumulate)
        elif vectors == 2:
            k2(depth, a, a_row, a_col, b, b_row, ahead, c, ldc, accumulate)
        else:
            k1(depth, a, a_row, a_col, b, b_row, ahead, c, ldc, accumulate)

    return inlined(tile)


tile = _choose_by_vectors()
FEW_ROWS = 3  # of a second tile, for a gradient with respect to an image: it has three channels
few_rows_tile = make_microkernel(FEW_ROWS, MAX_VECTORS)


# -------------------------------------------------------------------------------------------------------- the transpose
def make_transpose(*, bias_and_floor: bool) -> Any:
    """A transpose of (lanes x lanes) elements in registers: for 0 <= k, q < lanes where ``to[q] >= 0``

        target[to[q] + k] = source[min(k, rows - 1) * stride + q]

    With ``bias_and_floor`` every element first gets ``bias[q]`` added and is replaced by ``floor`` where it is less (a
    floor of 0 is ReLU, one of -inf nothing; NaN stays). Stores are in the order of q, so that a store's excess lanes
    may overlap the next ones.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        emit = _Emitter(context, builder, signature.args[0].dtype)
        source, stride, rows, target, to = args[:5]
        loaded = []
        for k in range(emit.lanes):
            last = builder.sub(rows, ir.Constant(_INDEX, 1))
            here = ir.Constant(_INDEX, k)
            row = builder.select(builder.icmp_signed("<", here, last), here, last)
            value = emit.load(builder.gep(source, [builder.mul(row, stride)]))
            if bias_and_floor:
                value = builder.fadd(value, emit.load(args[5]))
                floor = emit.splat(args[6])
                value = builder.select(builder.fcmp_ordered("<", value, floor), floor, value)
            loaded.append(value)
        for q, value in enumerate(_transposed(emit, loaded)):
            offset = builder.load(builder.gep(to, [ir.Constant(_INDEX, q)]))
            with builder.if_then(builder.icmp_signed(">=", offset, ir.Constant(_INDEX, 0))):
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


def _transposed(emit: _Emitter, rows: list[Any]) -> list[Any]:
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
