"""The one micro-kernel: products and sums in registers, which all of convolution and dense layers is loops around.

It is emitted as LLVM vector IR for the element type of its pointers and the vector width of the host, so SSE2, AVX2,
AVX-512 and NEON come out of one generator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastconv.cpu._jit import VECTOR_BYTES, VECTOR_REGISTERS, inlined
from fastconv.cpu._target import LINE_BYTES
from fastconv.cpu.vector_ir import INDEX, Emitter, emit_prefetch

# A tile of ROWS x (up to MAX_VECTORS vectors): 24 accumulators of 32 registers, or 12 of 16, leave room for one row of
# B and a broadcast. Six rows need six addresses, which is what x86-64's general registers hold without spills: tiles of
# 12x2 and 14x2 reached half the speed of 6x4 for that reason.
ROWS = 6
MAX_VECTORS = 4 if VECTOR_REGISTERS >= 32 else 2
# A tile of one vector loads its factor of A for every product: loads bind it, and 8 rows share those of the tables and
# of B (187 GFLOP/s at depth 150, with 6 rows 161, with 10 or 12, whose addresses spill, 178 and 175).
TALL_ROWS = 8


# ----------------------------------------------------------------------------------------------------- the micro-kernel
def make_microkernel(rows: int, vectors: int) -> Any:
    """The micro-kernel for a tile of ``rows`` x (``vectors`` vectors): for 0 <= i < rows, 0 <= j < vectors * lanes

        C[i * ldc + j] (+)= sum over r < depth of A[a_row[i] + a_col[r]] * B[b_row[r] + j]

    with one sequential multiply-add chain per element; ``accumulate`` adds the chain's sum to C, else it is stored.
    What lies ``ahead`` elements after a row of B is prefetched: where rows come from L2, a later row.

    It stays a function of its own, which costs a call and saves spills: among other values its addresses do not all get
    registers, and 5x5 kernels took up to 11 % longer.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def microkernel(
        typingctx: Any, depth: Any, a: Any, a_row: Any, a_col: Any, b: Any, b_row: Any, ahead: Any, c: Any, ldc: Any,
        accumulate: Any,
    ) -> Any:  # fmt: skip
        index = types.CPointer(types.intp)
        signature = types.void(types.intp, a, index, index, b, index, types.intp, c, types.intp, types.boolean)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            builder.call(_own_function(context, builder.module, rows, vectors, signature.args[1].dtype, args), args)
            return context.get_dummy_value()

        return signature, codegen

    return microkernel


def _own_function(context: Any, module: Any, rows: int, vectors: int, element: Any, args: Any) -> Any:
    name = f"fastconv_tile_{rows}x{vectors}_{element}"
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [arg.type for arg in args]), name)
    function.linkage = "linkonce_odr"
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block())
    _emit_tile(builder, Emitter(context, builder, element), rows, vectors, function.args)
    builder.ret_void()
    return function


def _emit_tile(builder: Any, emit: Emitter, rows: int, vectors: int, args: Any) -> None:
    depth, a, a_row, a_col, b, b_row, ahead, c, ldc, accumulate = args
    # Stack slots that LLVM's SROA turns into registers: simpler than building the loop's phi nodes here.
    sums = {(i, j): cgutils.alloca_once(builder, emit.vector) for i in range(rows) for j in range(vectors)}
    for slot in sums.values():
        builder.store(ir.Constant(emit.vector, [0.0] * emit.lanes), slot)
    a_address = [builder.gep(a, [_entry(builder, a_row, ir.Constant(INDEX, i))]) for i in range(rows)]

    def add_row(r: Any) -> None:
        column, b_address = _entry(builder, a_col, r), builder.gep(b, [_entry(builder, b_row, r)])
        _emit_row(builder, emit, sums, a_address, column, b_address, builder.gep(b_address, [ahead]))

    # Two rows of B a turn: at depth 256 the loop runs at 97 % of the FMA peak, with one row a turn at 90 %.
    one = ir.Constant(INDEX, 1)
    with cgutils.for_range(builder, builder.lshr(depth, one)) as loop:
        even = builder.shl(loop.index, one)
        add_row(even)
        add_row(builder.or_(even, one))
    with builder.if_then(builder.trunc(depth, ir.IntType(1))):
        add_row(builder.sub(depth, one))
    with builder.if_else(accumulate) as (then, otherwise):
        with then:
            _emit_result(builder, emit, sums, c, ldc, add=True)
        with otherwise:
            _emit_result(builder, emit, sums, c, ldc, add=False)


def _entry(builder: Any, table: Any, k: Any) -> Any:
    return builder.load(builder.gep(table, [k]))


def _emit_row(
    builder: Any, emit: Emitter, sums: Any, a_address: list[Any], column: Any, b_address: Any, b_ahead: Any
) -> None:
    """Add the products of one row of B to the sums."""
    vectors = len(sums) // len(a_address)
    steps = [ir.Constant(INDEX, j * emit.lanes) for j in range(vectors)]
    b_vector = [emit.load(builder.gep(b_address, [step])) for step in steps]
    for i, address in enumerate(a_address):
        a_value = emit.splat(builder.load(builder.gep(address, [column])))
        for j in range(vectors):
            builder.store(emit.multiply_add(a_value, b_vector[j], builder.load(sums[i, j])), sums[i, j])
        # One for every line: a second costs AVX2 2 %, and tall tiles are bound by loads already.
        if i < vectors and i * VECTOR_BYTES % LINE_BYTES == 0 and len(a_address) < TALL_ROWS:
            emit_prefetch(builder, builder.gep(b_ahead, [steps[i]]), write=False)


def _emit_result(builder: Any, emit: Emitter, sums: Any, c: Any, ldc: Any, *, add: bool) -> None:
    for (i, j), slot in sums.items():
        row, column = builder.mul(ldc, ir.Constant(INDEX, i)), ir.Constant(INDEX, j * emit.lanes)
        address, value = builder.gep(c, [builder.add(row, column)]), builder.load(slot)
        emit.store(builder.fadd(emit.load(address), value) if add else value, address)


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
tall_tile = make_microkernel(TALL_ROWS, 1)
