"""Kernels and their parts: functions that only other compiled functions call, without machine code of their own.

Numba optimises a function, and makes machine code of it, at every level of calls: what a kernel calls indirectly is
optimised once more in each function on the way. A part is handed on as it was written, and optimised in the kernel that
it ends up in, once. That saves a quarter of the time that the first call of an operation takes.
"""

from __future__ import annotations

import gc
from typing import Any

from llvmlite import binding as llvm
from numba.core import codegen, compiler
from numba.core.compiler_machinery import LoweringPass, register_pass
from numba.core.typed_passes import AnnotateTypes


class _PartLibrary(codegen.JITCodeLibrary):  # type: ignore[misc]
    """The code of a part, for linking into others."""

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        """That is done where the part is used."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._share()
        self._codegen._add_module(self._environments())
        self._codegen._engine.finalize_object()
        self._finalized = True

    def _share(self) -> None:
        """Several others may have the same functions."""
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage == llvm.Linkage.external:
                function.linkage = "linkonce_odr"
        self._shared_module = self._final_module

    def _environments(self) -> Any:
        """A module with nothing but the variables that Numba sets for each function that it has compiled."""
        module = self._codegen._create_empty_module(self.name)
        text = [
            f"@{v.name} = common global ptr null" for v in self._final_module.global_variables if _is_environment(v)
        ]
        self._variables = llvm.parse_assembly("\n".join([str(module), *text]))
        return self._variables


def _is_environment(variable: Any) -> bool:
    return "NumbaEnv" in variable.name


@register_pass(mutates_CFG=False, analysis_only=False)
class _MakePart(LoweringPass):  # type: ignore[misc]
    """Numba's next pass fills the library that is there."""

    _name = "make_part"

    def __init__(self) -> None:
        LoweringPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        state.library = _PartLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return True


class Kernel(compiler.Compiler):  # type: ignore[misc]
    """Numba's compiler, for kernels."""

    def compile_extra(self, func: Any) -> Any:
        """Without Python's collector of cycles, which finds nothing yet and takes a tenth of the time."""
        collecting = gc.isenabled()
        gc.disable()
        try:
            return super().compile_extra(func)
        finally:
            if collecting:
                gc.enable()


class Part(compiler.CompilerBase):  # type: ignore[misc]
    """Numba's compiler, for parts."""

    def define_pipelines(self) -> list[Any]:
        pipeline = compiler.DefaultPassBuilder.define_nopython_pipeline(self.state)
        pipeline.add_pass_after(_MakePart, AnnotateTypes)
        pipeline.finalize()
        return [pipeline]
