"""Instructions of tensor cores, and of the copies that feed them, as functions for kernels.

Fragments are words of 32 bits: two halves each, or one float. In words, both types have the same fragments: of A 16
rows by 8 words, of B 8 columns by 8 words (PTX ISA, "Matrix fragments for mma.m16n8k8" and "mma.m16n8k16").
"""

from __future__ import annotations

from typing import Any

from fastconv.cuda._jit import intrinsic, ir, types
from fastconv.cuda.vector import BYTES

WORD, FLOAT, ADDRESS = ir.IntType(32), ir.FloatType(), ir.IntType(64)
HALF = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
TF32 = "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32"
OPERANDS = "{$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, {$10, $11, $12, $13}"
LOAD = "ldmatrix.sync.aligned.m8n8.x4"


def _multiply(instruction: str) -> Any:
    @intrinsic
    def multiply(typing_context, a, b, c):
        signature = types.UniTuple(types.float32, 4)(a, b, c)

        def generate(context, builder, signature, arguments):
            counts = (len(part) for part in signature.args)
            values = [
                builder.extract_value(part, i) for part, n in zip(arguments, counts, strict=True) for i in range(n)
            ]
            kind = ir.FunctionType(ir.LiteralStructType([FLOAT] * 4), [value.type for value in values])
            registers = ",".join(["=f"] * 4 + ["r"] * 6 + ["f"] * 4)
            results = builder.call(ir.InlineAsm(kind, f"{instruction} {OPERANDS};", registers), values)
            return _tuple(context, builder, signature, results)

        return signature, generate

    return multiply


multiply_half = _multiply(HALF)
multiply_tf32 = _multiply(TF32)


def _load_matrices(transposed: bool) -> Any:
    @intrinsic
    def load_matrices(typing_context, shared, index):
        """Four matrices of 8 rows of 128 bits; each thread of a warp gives the place of one row."""
        signature = types.UniTuple(types.uint32, 4)(shared, index)
        code = f"{LOAD}{'.trans' if transposed else ''}.shared.b16 {{$0, $1, $2, $3}}, [$4];"

        def generate(context, builder, signature, arguments):
            place = _shared_address(context, builder, signature.args[0], *arguments)
            kind = ir.FunctionType(ir.LiteralStructType([WORD] * 4), [WORD])
            load = ir.InlineAsm(kind, code, "=r,=r,=r,=r,r,~{memory}", side_effect=True)
            return _tuple(context, builder, signature, builder.call(load, [place]))

        return signature, generate

    return load_matrices


load_matrices = _load_matrices(False)
load_transposed = _load_matrices(True)


@intrinsic
def copy_async(typing_context, shared, index, array, source, wanted):
    """Begin to copy 128 bits from ``array[source]`` to ``shared[index]``; zeros, and no access, if not ``wanted``."""
    signature = types.void(shared, index, array, source, wanted)

    def generate(context, builder, signature, arguments):
        place = _shared_address(context, builder, signature.args[0], *arguments[:2])
        data = context.make_array(signature.args[2])(context, builder, arguments[2]).data
        pointer = builder.gep(data, [builder.zext(arguments[3], ADDRESS)])
        pointer = builder.addrspacecast(pointer, pointer.type.pointee.as_pointer(1))
        wanted = builder.trunc(arguments[4], ir.IntType(1)) if arguments[4].type.width > 1 else arguments[4]
        count = builder.select(wanted, WORD(BYTES), WORD(0))
        kind = ir.FunctionType(ir.VoidType(), [WORD, ADDRESS, WORD])
        code = f"cp.async.cg.shared.global [$0], [$1], {BYTES}, $2;"
        copy = ir.InlineAsm(kind, code, "r,l,r,~{memory}", side_effect=True)
        builder.call(copy, [place, builder.ptrtoint(pointer, ADDRESS), count])
        return context.get_dummy_value()

    return signature, generate


def _statement(code: str) -> Any:
    @intrinsic
    def statement(typing_context):
        signature = types.void()

        def generate(context, builder, signature, arguments):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(ir.InlineAsm(kind, code, "~{memory}", side_effect=True), [])
            return context.get_dummy_value()

        return signature, generate

    return statement


commit_copies = _statement("cp.async.commit_group;")
await_copies = _statement("cp.async.wait_group 0;")


@intrinsic
def rounded_tf32(typing_context, word):
    """The bits of a float32, rounded to the 10 bits of mantissa that a tensor core reads."""
    signature = types.uint32(word)

    def generate(context, builder, signature, arguments):
        kind = ir.FunctionType(WORD, [FLOAT])
        value = builder.bitcast(arguments[0], FLOAT)
        return builder.call(ir.InlineAsm(kind, "cvt.rna.tf32.f32 $0, $1;", "=r,f"), [value])

    return signature, generate


@intrinsic
def word_of(typing_context, shared, index):
    """The 32 bits at a place of shared memory, whatever the array's type."""
    signature = types.uint32(shared, index)

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        pointer = builder.gep(data, [_wide(builder, arguments[1])])
        return builder.load(builder.bitcast(pointer, WORD.as_pointer()))

    return signature, generate


def _shared_address(context, builder, array_type, array, index):
    data = context.make_array(array_type)(context, builder, array).data
    pointer = builder.gep(data, [_wide(builder, index)])
    return builder.ptrtoint(builder.addrspacecast(pointer, pointer.type.pointee.as_pointer(3)), WORD)


def _wide(builder, index):
    return builder.zext(index, ADDRESS) if index.type.width < 64 else index


def _tuple(context, builder, signature, results):
    parts = [builder.extract_value(results, i) for i in range(4)]
    return context.make_tuple(builder, signature.return_type, parts)
