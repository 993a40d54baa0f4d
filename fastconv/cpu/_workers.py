"""From a kernel's core, which does one worker's share, to what Python starts: one worker, or all of them on threads.

Numba's own ``prange`` would be a second compilation of each kernel, which takes longer than the first. Here both forms
are one: the compiled function calls its core once, or hands it to the threading layer that Numba has loaded, by the
function ``parallel_for`` that ``prange`` ends in as well.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

import numba
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.core.callconv import excinfo_ptr_t
from numba.extending import intrinsic
from numba.np.ufunc import parallel

_INT, _CODE, _BYTES = ir.IntType(64), ir.IntType(32), ir.IntType(8).as_pointer()
_BODY = ir.FunctionType(ir.VoidType(), [_BYTES.as_pointer(), _INT.as_pointer(), _INT.as_pointer(), _BYTES])


@cache
def parallel_for() -> int:
    """The address of the function of Numba's threading layer, which is started where it has not been."""
    parallel._launch_threads()
    return int(binding.address_of_symbol("numba_parallel_for"))


def all_workers(workers: int) -> tuple[int, int]:
    """The first two arguments of a kernel that runs all of its ``workers`` on the threads that Numba may use now.

    These go along, since the layer takes the number that it is given for the calling thread's own from then on.
    """
    address = parallel_for()
    return address, -(int(numba.get_num_threads()) << 32 | workers)


def with_workers(core: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """``function(worker, workers, ...)``, to be compiled around its ``core``.

    It does the share of ``worker``. Called with what :func:`all_workers` gives, it does all shares.
    """
    if config.DISABLE_JIT:
        return _in_python(function)
    names = ", ".join(function.__code__.co_varnames[: function.__code__.co_argcount])
    made: dict[str, Any] = {"_start_": _start, "_core_": core}  # names that no kernel has
    exec(f"def {function.__name__}({names}):\n    _start_(_core_, {names})", made)
    kernel: Callable[..., Any] = made[function.__name__]
    for name in ("__module__", "__qualname__", "__doc__"):
        setattr(kernel, name, getattr(function, name))
    return kernel


def _in_python(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same where Numba has been told not to compile."""

    def kernel(worker: int, workers: int, *args: Any) -> None:
        count = workers if workers > 0 else -workers & 2**32 - 1
        for each in [worker] if workers > 0 else range(count):
            function(each, count, *args)

    return kernel


@intrinsic  # type: ignore[untyped-decorator]
def _start(typingctx: Any, core: Any, *args: Any) -> Any:
    typingctx.resolve_function_type(core, args, {})
    overload = core.dispatcher.overloads[args]

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        context.active_code_library.add_linking_library(overload.library)
        core_ = context.declare_function(builder.module, overload.fndesc)
        worker, workers, *rest = cgutils.unpack_tuple(builder, values[1])

        def call(builder: Any, worker: Any, workers: Any, rest: Any) -> Any:
            given = [worker, workers, *rest]
            return context.call_conv.call_function(builder, core_, types.none, args, given)[0]

        with builder.if_else(builder.icmp_signed(">", workers, _INT(0)), likely=True) as (one, all_):
            with one:
                status = call(builder, worker, workers, rest)
                with builder.if_then(status.is_error, likely=False):
                    context.call_conv.return_status_propagate(builder, status)
            with all_:
                status = _start_all(builder, call, worker, builder.neg(workers), rest)
                with builder.if_then(cgutils.is_not_null(builder, status.excinfoptr), likely=False):
                    context.call_conv.return_status_propagate(builder, status)
        return context.get_dummy_value()

    return types.void(core, types.StarArgTuple(args)), codegen


def _start_all(builder: Any, call: Any, address: Any, counts: Any, rest: Any) -> Any:
    """Run all workers by the function at ``address``; the status of one that failed, or one without an error."""
    threads, workers = builder.lshr(counts, _INT(32)), builder.and_(counts, _INT(2**32 - 1))
    shared = cgutils.pack_struct(builder, [_CODE(0), excinfo_ptr_t(None), workers, *rest])
    data = cgutils.alloca_once_value(builder, shared)
    # The layer gives a range of workers as an address, advanced by a step of 1, and a count.
    start = cgutils.alloca_once_value(builder, ir.Constant(_BYTES, None))
    count, step = cgutils.alloca_once_value(builder, workers), cgutils.alloca_once_value(builder, _INT(1))
    kind = ir.FunctionType(ir.VoidType(), [_BYTES] * 5 + [_INT] * 3)
    body = _make_body(builder.module, call, shared.type)
    places = [builder.bitcast(place, _BYTES) for place in (body, start, count, step, data)]
    builder.call(builder.inttoptr(address, kind.as_pointer()), [*places, _INT(0), _INT(1), threads])
    code, error = (builder.load(cgutils.gep_inbounds(builder, data, 0, field)) for field in (0, 1))
    return SimpleNamespace(code=code, excinfoptr=error)


def _make_body(module: Any, call: Any, kind: Any) -> Any:
    """What the layer's threads call: some workers, one after the other."""
    body = ir.Function(module, _BODY, f"{module.name}_workers")
    body.linkage = "internal"
    builder = ir.IRBuilder(body.append_basic_block())
    start, count, _, data = body.args
    data, first = builder.bitcast(data, kind.as_pointer()), builder.ptrtoint(builder.load(start), _INT)
    _, _, workers, *rest = cgutils.unpack_tuple(builder, builder.load(data))
    with cgutils.for_range(builder, builder.load(count)) as loop:
        status = call(builder, builder.add(first, loop.index), workers, rest)
        with builder.if_then(status.is_error, likely=False):
            builder.store(status.code, cgutils.gep_inbounds(builder, data, 0, 0))
            builder.store(status.excinfoptr, cgutils.gep_inbounds(builder, data, 0, 1))
    builder.ret_void()
    return body
