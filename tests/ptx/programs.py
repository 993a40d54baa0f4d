"""Small kernels in PTX, written by hand, and how tests run them."""

from __future__ import annotations

import numpy as np

from tests.ptx.machine import Kernel, Pointer

HEAD = """
.version 7.0
.target sm_80
.address_size 64
"""
REGISTERS = """
    .reg .pred %p<9>;
    .reg .b16 %h<9>;
    .reg .b32 %r<40>;
    .reg .f32 %f<20>;
    .reg .b64 %rd<30>;
    .reg .f64 %fd<9>;
"""


def kernel(body, arrays=2, scalars=(), shared="", functions=""):
    """A kernel with pointers in %rd1, %rd2, ... and scalars as parameters s0, s1, ...; %r1 is the thread."""
    params = [f".param .u64 a{n}" for n in range(arrays)] + [f".param .{kind} s{n}" for n, kind in enumerate(scalars)]
    loads = "".join(f"ld.param.u64 %rd{n + 1}, [a{n}];\n" for n in range(arrays))
    start = "mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mov.u32 %r4, %tid.x; mad.lo.s32 %r1, %r2, %r3, %r4;"
    return Kernel(
        f"{HEAD}{functions}.visible .entry k({', '.join(params)})\n{{{REGISTERS}{shared}{loads}{start}{body}}}"
    )


def run(program, *arrays, blocks=1, threads=32, scalars=(), checked=True):
    """Run a kernel; arrays are changed in place, as on a device."""
    pointers = [Pointer(a.ctypes.data) for a in arrays]
    memory = [(a.ctypes.data, a.reshape(-1).view(np.uint8)) for a in arrays]
    program.run((blocks,), (threads,), [*pointers, *scalars], memory, checked)


def each(number, width=4):
    """The address of this thread's element of an array, in %rd10 + number."""
    return f"mul.wide.u32 %rd20, %r1, {width}; add.s64 %rd1{number}, %rd{number + 1}, %rd20;"


def compute(code, *inputs, result=np.uint32):
    """Run code on registers %a, %b, ... of the inputs' types, one thread for each element, and give register %out."""
    kinds = [a.dtype for a in (*inputs, np.empty(0, result))]
    names = [f"%{'abcd'[n]}" for n in range(len(inputs))] + ["%out"]
    declared = "".join(f".reg .{register(kind)} {name};" for kind, name in zip(kinds, names, strict=True))
    body = declared
    for n, (kind, name) in enumerate(zip(kinds, names, strict=True)):
        body += each(n, kind.itemsize)
        if name != "%out":
            body += f"ld.global.{register(kind)} {name}, [%rd1{n}];"
    store = f"st.global.{register(kinds[-1])} [%rd1{len(inputs)}], %out;"
    out = np.zeros(len(inputs[0]), result)
    run(kernel(f"{body}{code}{store} ret;", arrays=len(names)), *inputs, out, threads=len(out))
    return out


def register(dtype):
    dtype = np.dtype(dtype)
    if dtype.kind == "f" and dtype.itemsize > 2:
        return f"f{8 * dtype.itemsize}"
    return f"b{8 * dtype.itemsize}"
