"""A call of a public function in machine code: a program where there is one for these shapes, else a call of Python.

A *site* is a place in the caller's code. It begins by calling Python, boxed arguments and all; the reply tells it where
programs are looked for (see ``program``), and from then on it runs those, without Python and without the GIL. A site
holds no address when it is compiled, so that the caller's code may be kept and outlive a change of this package.

Errors leave compiled code as Numba's own do, so that they reach the caller through any number of compiled functions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.typing.templates import signature
from numba.np import arrayobj
from numba.np.numpy_support import as_dtype

from fastconv._compiled.call import Pending, Site, call
from fastconv._compiled.signatures import UNKNOWN, constant

_WORD = ir.IntType(64)
_NUMBERS = _WORD.as_pointer()


@njit(no_cpython_wrapper=True)
def raise_if(failed):  # type: ignore[no-untyped-def]
    """Raise what the call in Python raised."""
    if failed:
        raise Pending


def make_call(name: str, threads: bool, context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """A call of the public function of that name; the signature names the arguments that are given."""
    given = dict(zip(sig.pysig.parameters, zip(sig.args, args, strict=True), strict=True))
    fixed = {name: value for name, (kind, _) in given.items() if (value := constant(kind)) is not UNKNOWN}
    free = {name: each for name, each in given.items() if name not in fixed}
    values, kinds = list(free.values()), tuple(str(kind) for kind, _ in free.values())
    words = [] if threads or "out" in free else _key(context, builder, values)
    site = Site(name, threads, tuple(free), fixed, kinds, _expected(sig.return_type), bool(words))
    return _Call(context, builder, sig.return_type, values, words).emit(site, free.get("out"))


# -------------------------------------------------------------------------------------------------------------- the key
def _key(context: Any, builder: Any, values: list[Any]) -> list[Any]:
    """What a program depends on, as words: shapes, strides, numbers; nothing where that cannot be told."""
    words: list[Any] = []
    for kind, value in values:
        more = _words(context, builder, kind, value)
        if not more:
            return []
        words += more
    return words


def _words(context: Any, builder: Any, kind: Any, value: Any) -> list[Any]:
    if isinstance(kind, types.Array) and kind.ndim > 0:
        array = context.make_array(kind)(context, builder, value)
        steps = [*cgutils.unpack_tuple(builder, array.shape), *cgutils.unpack_tuple(builder, array.strides)]
        size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
        return [*steps, builder.and_(builder.ptrtoint(array.data, _WORD), _WORD(size - 1))]
    if isinstance(kind, types.Boolean):
        return [builder.zext(value, _WORD)]
    if isinstance(kind, types.Integer) and kind.bitwidth <= 64:
        extend = builder.sext if kind.signed else builder.zext
        return [extend(value, _WORD) if kind.bitwidth < 64 else value]
    if isinstance(kind, types.Float) and kind.bitwidth >= 32:
        bits = builder.bitcast(value, ir.IntType(kind.bitwidth))
        return [builder.zext(bits, _WORD) if kind.bitwidth < 64 else bits]
    if isinstance(kind, types.BaseTuple) and len(kind) > 0:
        items = cgutils.unpack_tuple(builder, value)
        return _key(context, builder, list(zip(kind, items, strict=True)))
    return []


class _Call:
    """One call; what has become of it lies on the stack."""

    def __init__(self, context: Any, builder: Any, kind: Any, values: list[Any], words: list[Any]) -> None:
        self.context, self.builder, self.kind, self.values = context, builder, kind, values
        self.done = cgutils.alloca_once(builder, ir.IntType(1))
        self.value = cgutils.alloca_once(builder, context.get_value_type(kind))
        for slot in (self.done, self.value):
            builder.store(cgutils.get_null_value(slot.type.pointee), slot)
        self.key = self._array(len(words) + 1)
        self._fill(self.key, [_WORD(0), *words])
        self.keys = len(words) + 1

    def _array(self, count: int) -> Any:
        return cgutils.alloca_once(self.builder, ir.ArrayType(_WORD, count))

    def _fill(self, array: Any, words: list[Any]) -> None:
        for k, word in enumerate(words):
            self.builder.store(word, cgutils.gep_inbounds(self.builder, array, 0, k))

    def emit(self, site: Site, out: Any) -> Any:
        """The result, after raising where there is none."""
        builder = self.builder
        known = cgutils.add_global_variable(builder.module, _WORD, builder.module.get_unique_name("fastconv.site"))
        known.linkage, known.initializer = "internal", _WORD(0)
        if site.key:
            address = builder.load(known)
            with builder.if_then(builder.icmp_unsigned("!=", address, _WORD(0))):
                self._run_program(builder.inttoptr(address, _NUMBERS))
        with builder.if_then(builder.not_(builder.load(self.done))):
            self._call_python(site, known)
        self._raise()
        if out is None:
            return builder.load(self.value)
        kind, value = out  # the caller's own array: what came back is another view of it
        self.context.nrt.decref(builder, self.kind, builder.load(self.value))
        self.context.nrt.incref(builder, kind, value)
        return value

    # ------------------------------------------------------------------------------------------------- without Python
    def _run_program(self, site: Any) -> None:
        """Look for a program and run it."""
        builder = self.builder
        find, table, number = (builder.load(builder.gep(site, [_WORD(k)])) for k in range(3))
        builder.store(number, cgutils.gep_inbounds(builder, self.key, 0, 0))
        key = builder.bitcast(self.key, _NUMBERS)
        kind = ir.FunctionType(_WORD, [_NUMBERS, _NUMBERS, _WORD])
        pointer = builder.inttoptr(find, kind.as_pointer())
        found = builder.call(pointer, [builder.inttoptr(table, _NUMBERS), key, _WORD(self.keys)])
        with builder.if_then(builder.icmp_unsigned("!=", found, _WORD(0))):
            self._execute(builder.inttoptr(found, _NUMBERS))

    def _execute(self, program: Any) -> None:
        builder, context = self.builder, self.context
        results, buffers = self._make_results(program)
        given = [context.make_array(kind)(context, builder, value) for kind, value in self.values
                 if isinstance(kind, types.Array)]  # fmt: skip
        buffers = [*(builder.ptrtoint(array.data, _WORD) for array in given), *buffers]
        memory = self._array(len(buffers))
        self._fill(memory, buffers)
        execute = builder.load(builder.gep(program, [_WORD(3)]))
        pointer = builder.inttoptr(execute, ir.FunctionType(_WORD, [_NUMBERS, _NUMBERS]).as_pointer())
        failed = builder.call(pointer, [program, builder.bitcast(memory, _NUMBERS)])
        values = [load() for load in results]
        value = context.make_tuple(builder, self.kind, values) if isinstance(self.kind, types.BaseTuple) else values[0]
        with builder.if_else(builder.icmp_unsigned("==", failed, _WORD(0))) as (well, ill):
            with well:
                builder.store(value, self.value)
                builder.store(ir.IntType(1)(1), self.done)
            with ill:
                context.nrt.decref(builder, self.kind, value)

    def _make_results(self, program: Any) -> tuple[list[Callable[[], Any]], list[Any]]:
        """New arrays as the program describes them, or numbers, and their addresses."""
        builder, context = self.builder, self.context
        at = builder.load(builder.gep(program, [_WORD(4)]))
        results: list[Callable[[], Any]] = []
        buffers = []
        for kind in self.kind if isinstance(self.kind, types.BaseTuple) else [self.kind]:
            if not isinstance(kind, types.Array):
                slot = cgutils.alloca_once(builder, context.get_value_type(kind))
                results.append(partial(builder.load, slot))
                buffers.append(builder.ptrtoint(slot, _WORD))
                continue
            count = 2 + 2 * kind.ndim
            nbytes, _, *steps = (builder.load(builder.gep(program, [builder.add(at, _WORD(k))])) for k in range(count))
            at = builder.add(at, _WORD(count))
            memory = context.nrt.meminfo_alloc_aligned(builder, size=nbytes, align=64)
            array = context.make_array(kind)(context, builder)
            size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
            arrayobj.populate_array(
                array, builder.bitcast(context.nrt.meminfo_data(builder, memory), array.data.type),
                steps[: kind.ndim], steps[kind.ndim :], _WORD(size), memory,
            )  # fmt: skip
            results.append(array._getvalue)
            buffers.append(builder.ptrtoint(array.data, _WORD))
        return results, buffers

    # ---------------------------------------------------------------------------------------------------- with Python
    def _call_python(self, site: Site, known: Any) -> None:
        """Box, call, unbox."""
        builder, context = self.builder, self.context
        pyapi = context.get_python_api(builder)
        gil = pyapi.gil_ensure()
        manager = context.get_env_manager(builder)
        function, where = (manager.read_const(manager.add_const(each)) for each in (call, tuple(site)))
        boxes = [pyapi.long_from_ssize_t(builder.ptrtoint(self.key, _WORD)), pyapi.long_from_ssize_t(_WORD(self.keys))]
        for kind, value in self.values:
            context.nrt.incref(builder, kind, value)  # boxing takes a reference
            boxes.append(pyapi.from_native_value(kind, value, manager))
        reply = pyapi.call_function_objargs(function, [where, *boxes])
        for box in boxes:
            pyapi.decref(box)
        with builder.if_else(cgutils.is_not_null(builder, reply)) as (answered, interrupted):
            with answered:
                self._unbox(pyapi, reply, known)
                pyapi.decref(reply)
            with interrupted:
                pyapi.err_clear()
        pyapi.gil_release(gil)

    def _unbox(self, pyapi: Any, reply: Any, known: Any) -> None:
        """(result, what the site needs), or None where there is an error."""
        builder = self.builder
        with builder.if_then(builder.icmp_unsigned("!=", reply, pyapi.borrow_none())):
            native = pyapi.to_native_value(self.kind, pyapi.tuple_getitem(reply, 0))
            builder.store(native.value, self.value)
            builder.store(builder.not_(native.is_error), self.done)
            builder.store(pyapi.long_as_longlong(pyapi.tuple_getitem(reply, 1)), known)

    def _raise(self) -> None:
        sig = signature(types.none, types.boolean)
        raise_if.compile(sig.args)
        raising = raise_if.overloads[sig.args]
        self.context.add_linking_libs([raising.library])
        failed = cgutils.as_bool_bit(self.builder, self.builder.not_(self.builder.load(self.done)))
        self.context.call_internal(self.builder, raising.fndesc, sig, [failed])


def _expected(kind: Any) -> tuple[Any, ...]:
    """What ``call`` compares results with: dtype, rank and whether contiguous, for each array."""
    kinds = kind if isinstance(kind, types.BaseTuple) else [kind]
    return tuple(
        (as_dtype(each.dtype).str, each.ndim, each.layout == "C") if isinstance(each, types.Array)
        else (as_dtype(each).str, 0, False) for each in kinds
    )  # fmt: skip
