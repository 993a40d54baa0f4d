"""Addresses inside compiled code, and moves of elements that have them."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastconv.cpu._target import VECTOR_BYTES, lanes
from fastconv.cpu.vector_ir import INDEX, emit_prefetch


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
        return ir.Constant(INDEX, lanes(signature.args[0].dtype.bitwidth // 8))

    return types.intp(address), codegen


@intrinsic  # type: ignore[untyped-decorator]
def aligned(typingctx: Any, address: Any) -> Any:
    """``address`` moved up to a multiple of the vector size."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        number = builder.ptrtoint(args[0], INDEX)
        up = builder.add(number, ir.Constant(INDEX, VECTOR_BYTES - 1))
        return builder.inttoptr(builder.and_(up, ir.Constant(INDEX, -VECTOR_BYTES)), args[0].type)

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
        size = ir.Constant(INDEX, signature.args[0].dtype.bitwidth // 8)
        cgutils.memset(builder, args[0], builder.mul(args[1], size), 0)
        return context.get_dummy_value()

    return types.void(target, types.intp), codegen


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(typingctx: Any, address: Any) -> Any:
    """Ask for the cache line at ``address``, to write it: stores to a line that is not there wait for it."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        emit_prefetch(builder, args[0], write=True)
        return context.get_dummy_value()

    return types.void(address), codegen
