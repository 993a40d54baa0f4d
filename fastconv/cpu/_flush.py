"""Kernels that take denormal numbers for zeros: the thread's floating-point mode, set for as long as they run.

A processor takes a hundred cycles and more for a product with a denormal number, in which a kernel of sums and products
would spend all its time. Its mode is a register of the thread. A kernel sets it where it begins and puts back what was
there, wherever it ends, also with an error: whoever calls a kernel, on whichever thread, finds the mode as it was.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import BaseNativeLowering

from fastconv.cpu import _target
from fastconv.cpu._parts import Lower, Part

X86_64, AARCH64 = (_target.magic()[0].startswith(names) for names in (("x86_64",), ("aarch64", "arm64")))
# MXCSR: denormal operands are zeros (bit 6), denormal results become zeros (15). FPCR: both (24).
FLUSHING = 1 << 6 | 1 << 15 if X86_64 else 1 << 24 if AARCH64 else 0

MODE = ir.IntType(64 if AARCH64 else 32)


def read_mode(builder: Any, place: Any) -> None:
    """Store the thread's mode, of type MODE, at ``place``."""
    if X86_64:
        builder.call(_intrinsic(builder, "x86.sse.stmxcsr", ir.VoidType(), MODE.as_pointer()), [place])
    elif AARCH64:
        builder.store(builder.call(_intrinsic(builder, "aarch64.get.fpcr", MODE), []), place)


def write_mode(builder: Any, place: Any) -> None:
    """Set the thread's mode; the fences keep what the kernel loads and stores on its side."""
    builder.fence("seq_cst", "singlethread")
    if X86_64:
        builder.call(_intrinsic(builder, "x86.sse.ldmxcsr", ir.VoidType(), MODE.as_pointer()), [place])
    elif AARCH64:
        builder.call(_intrinsic(builder, "aarch64.set.fpcr", ir.VoidType(), MODE), [builder.load(place)])
    builder.fence("seq_cst", "singlethread")


def _intrinsic(builder: Any, name: str, result: Any, *operands: Any) -> Any:
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, operands), f"llvm.{name}")


class _Lower(Lower):
    """From Numba's code to LLVM's."""

    def lower_normal_function(self, fndesc: Any) -> None:
        super().lower_normal_function(fndesc)
        if FLUSHING:
            self._flush()

    def _flush(self) -> None:
        builder, entry = self.builder, self.function.entry_basic_block
        builder.position_at_start(entry)
        before, flushing = builder.alloca(MODE), builder.alloca(MODE)
        read_mode(builder, before)
        builder.store(builder.or_(builder.load(before), MODE(FLUSHING)), flushing)
        write_mode(builder, flushing)
        for block in self.function.blocks:
            if isinstance(block.terminator, ir.Ret):  # an error, too, returns
                builder.position_before(block.terminator)
                write_mode(builder, before)


@register_pass(mutates_CFG=True, analysis_only=False)
class _FlushingLowering(BaseNativeLowering):  # type: ignore[misc]
    _name = "flushing_lowering"

    @property
    def lowering_class(self) -> Any:
        return _Lower


class FlushingPart(Part):
    """The compiler of cores that take denormal numbers for zeros, on whichever thread."""

    _lowering = _FlushingLowering
