"""Memory that kernels allocate for themselves: arrays of one axis.

NumPy's functions do the same; each of them is several functions that Numba would compile in every process, for every
type, before the first kernel: half a second of the first call of a convolution.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastconv.cpu._jit import inlined

_INDEX = ir.IntType(64)
_MOST = ir.Constant(_INDEX, 2**63 - 1)
_ALIGNMENT = 32  # bytes, of the first element


@intrinsic  # type: ignore[untyped-decorator]
def empty(typingctx: Any, count: Any, dtype: Any) -> Any:
    """``count`` elements of any contents; MemoryError where there is no room for them."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _allocate(context, builder, signature.return_type, args[0])

    return types.Array(dtype.dtype, 1, "C")(types.intp, dtype), codegen


@intrinsic  # type: ignore[untyped-decorator]
def zeros(typingctx: Any, count: Any, dtype: Any) -> Any:
    """``count`` zeros."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = _allocate(context, builder, signature.return_type, args[0])
        view = context.make_array(signature.return_type)(context, builder, array)
        cgutils.memset(builder, view.data, builder.mul(view.nitems, view.itemsize), 0)
        return array

    return types.Array(dtype.dtype, 1, "C")(types.intp, dtype), codegen


def _allocate(context: Any, builder: Any, kind: Any, count: Any) -> Any:
    size = ir.Constant(_INDEX, context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    product = builder.smul_with_overflow(count, size)
    length = builder.select(builder.extract_value(product, 1), _MOST, builder.extract_value(product, 0))
    meminfo = context.nrt.meminfo_alloc_aligned_unchecked(builder, length, _ALIGNMENT)
    with builder.if_then(cgutils.is_null(builder, meminfo), likely=False):
        context.call_conv.return_user_exc(builder, MemoryError, ("no memory for the scratch of a kernel",))
    array = context.make_array(kind)(context, builder)
    data = builder.bitcast(context.nrt.meminfo_data(builder, meminfo), array.data.type)
    # Imported by the first compilation: at import it is a third of what fastconv takes.
    arrayobj = importlib.import_module("numba.np.arrayobj")
    arrayobj.populate_array(array, data, [count], [size], size, meminfo)
    return array._getvalue()


@intrinsic  # type: ignore[untyped-decorator]
def _empty_of(typingctx: Any, count: Any, value: Any) -> Any:
    """``count`` elements of the type of ``value``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _allocate(context, builder, signature.return_type, args[0])

    return types.Array(types.unliteral(value), 1, "C")(types.intp, value), codegen


@inlined
def filled(count, value):
    """``count`` times the value."""
    array = _empty_of(count, value)
    for k in range(count):
        array[k] = value
    return array


@inlined
def multiples(count, step):
    """0, step, 2 * step, ..."""
    array = empty(count, np.int64)
    for k in range(count):
        array[k] = k * step
    return array
