"""128 bits of global memory at once: the loads that no compiler may widen by itself.

Numba cannot know that an address is a multiple of 16, so it never emits them for arrays it is given. Whoever calls
these has made sure of it. Without instructions, elements are read one by one.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from fastconv.cuda._jit import INSTRUCTIONS, device, intrinsic, ir, types, u32

BYTES = 16  # the widest load there is
ALIGNMENT = BYTES if INSTRUCTIONS else None  # of shared memory; the simulator knows none


def lanes(dtype: Any) -> int:
    """Elements of a NumPy dtype that one vector holds."""
    return BYTES // int(dtype.itemsize)


@intrinsic
def load_vector(typing_context, array, index):
    """The ``lanes`` elements from ``array[index]`` on, as a tuple."""
    count = BYTES * 8 // array.dtype.bitwidth
    signature = types.UniTuple(array.dtype, count)(array, index)

    def generate(context, builder, signature, arguments):
        source = _words(context, builder, signature.args[0], *arguments)
        element = context.get_value_type(signature.args[0].dtype)
        # The compiler would split a load of eight halves in two; it cannot look into this one.
        load = _load_words if count > 4 else lambda builder, source: builder.load(source, align=BYTES)
        vector = builder.bitcast(load(builder, source), ir.VectorType(element, count))
        parts = [builder.extract_element(vector, ir.IntType(32)(i)) for i in range(count)]
        return context.make_tuple(builder, signature.return_type, parts)

    return signature, generate


@cache
def make_load(dtype: Any, sum_dtype: Any, instructions: bool) -> Any:
    """A device function: ``values`` from ``start`` on = a vector from ``array[at]`` on, in the type of sums."""
    width = lanes(np.dtype(dtype.name))

    @device
    def load(values, start, array, at):
        vector = load_vector(array, at)
        for e in range(width):
            values[start + e] = sum_dtype(vector[e])

    @device
    def load_elements(values, start, array, at):
        for e in range(width):
            values[start + e] = sum_dtype(array[u32(at + u32(e))])

    return load if instructions else load_elements


@intrinsic
def _opaque(typing_context, value):
    """``value``, of 32 bits, from somewhere that the compiler cannot see: it is kept, not computed again in a loop."""
    signature = value(value)

    def generate(context, builder, signature, arguments):
        word = ir.IntType(32)
        move = ir.InlineAsm(ir.FunctionType(word, [word]), "mov.b32 $0, $1;", "=r,r", side_effect=True)
        return builder.call(move, arguments)

    return signature, generate


@device
def _itself(value):
    return value


opaque = _opaque if INSTRUCTIONS else _itself


def _load_words(builder, pointer):
    word = ir.IntType(32)
    address = builder.ptrtoint(builder.addrspacecast(pointer, WORDS.as_pointer(1)), ir.IntType(64))
    function = ir.FunctionType(ir.LiteralStructType([word] * 4), [address.type])
    load = ir.InlineAsm(function, "ld.global.v4.u32 {$0, $1, $2, $3}, [$4];", "=r,=r,=r,=r,l", side_effect=False)
    words, vector = builder.call(load, [address]), ir.Constant(WORDS, ir.Undefined)
    for i in range(4):
        vector = builder.insert_element(vector, builder.extract_value(words, i), word(i))
    return vector


WORDS = ir.VectorType(ir.IntType(32), 4)


def _words(context, builder, array_type, array, index):
    data = context.make_array(array_type)(context, builder, array).data
    if index.type.width < 64:
        index = builder.zext(index, ir.IntType(64))
    return builder.bitcast(builder.gep(data, [index]), WORDS.as_pointer())
