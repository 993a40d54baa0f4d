"""The public functions for callers that Numba compiles.

Inside ``@njit`` a call of ``fastconv.conv2d`` runs the very function that Python callers use, the first time for
arguments of some shapes. What that function launches is kept as a program, which later calls run without Python. There
is so one implementation, one set of checks, messages and kernels, and the caller's compiled code holds none of ours.

``signatures``  what is known while the caller is compiled: wrong kinds and constants raise, and the result's type
``bridge``      the call in machine code
``call``        what it calls in Python
``program``     from a call in Python to a program; ``cpu.replay`` runs it
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from numba import types
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.core.typing.templates import signature as numba_signature
from numba.extending import lower_builtin

from fastconv._compiled.call import FUNCTIONS

NOT_COMPILED = frozenset(("pack", "precompile"))  # a packed weight is a Python object, and this is for setting up


def callable_names() -> list[str]:
    """Names of the public functions that compiled code can call."""
    package = sys.modules["fastconv"]
    return [name for name in package.__all__ if not isinstance(getattr(package, name), type | ModuleType)
            and name not in NOT_COMPILED]  # fmt: skip


def register(functions: Iterable[Callable[..., Any]], *, threads: bool = False) -> None:
    """Make functions callable from compiled code, where they run on the calling thread, or on several."""
    for function in functions:
        FUNCTIONS.setdefault(function.__name__, function)
        _register(function, threads)


def _register(function: Callable[..., Any], threads: bool) -> None:
    class Template(AbstractTemplate):  # type: ignore[misc]
        prefer_literal = True

        def generic(self, args: Any, kws: Any) -> Any:
            from fastconv._compiled.signatures import make_signature

            return_type, arguments, pysig = make_signature(function, args, kws)
            return numba_signature(return_type, *arguments).replace(pysig=pysig)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        from fastconv._compiled.bridge import make_call  # only who compiles a call pays for what compiles it

        return make_call(function.__name__, threads, context, builder, sig, args)

    infer_global(function)(Template)
    lower_builtin(function, types.VarArg(types.Any))(lower)
