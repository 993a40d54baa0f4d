"""A Numba kernel -> PTX, without a driver."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import numba.cuda.dispatcher
import numpy as np
from numba.cuda.typing.typeof import typeof

from fastconv.cuda._jit import cuda, from_dtype, types
from fastconv.cuda.arrays import Array


def numba_type(value):
    """The type with which a launch would compile the kernel for this argument."""
    if isinstance(value, Array):
        return types.Array(from_dtype(value.dtype), value.ndim, "C")
    if isinstance(value, np.dtype):
        return types.Array(from_dtype(value), 1, "C")
    return value if isinstance(value, types.Type) else typeof(value)


@contextlib.contextmanager
def _on_device(capability):
    """Device functions are compiled for the device that is there; let one be there."""
    before = numba.cuda.dispatcher.get_current_device
    numba.cuda.dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    try:
        yield
    finally:
        numba.cuda.dispatcher.get_current_device = before


def compile_ptx(kernel, arguments, capability=(8, 0), **options) -> str:
    """PTX of ``kernel`` for arguments, dtypes (for flat arrays of them) or Numba types."""
    signature = types.void(*map(numba_type, arguments))
    options = {**getattr(kernel, "targetoptions", {}), **options}
    kept = {name: options[name] for name in ("fastmath", "opt", "max_registers", "launch_bounds") if options.get(name)}
    function = getattr(kernel, "py_func", kernel)
    with _on_device(capability):
        text, _ = cuda.compile(function, signature, device=False, abi="numba", cc=capability, output="ptx", **kept)
    return text.decode() if isinstance(text, bytes) else text
