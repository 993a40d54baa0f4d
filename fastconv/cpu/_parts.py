"""Kernels and their parts: functions that only other compiled functions call, without machine code of their own.

Numba optimises a function, and makes machine code of it, at every level of calls: what a kernel calls indirectly is
optimised once more in each function on the way. A part is handed on as it was written, and linked, optimised and
translated in the kernel that it ends up in, once. What Numba does for code unlike ours is left out.
"""

from __future__ import annotations

import gc
import operator
from collections.abc import Iterator
from typing import Any, ClassVar

from llvmlite import binding as llvm
from numba import _dynfunc, types
from numba.core import cgutils, codegen, compiler, lowering, typed_passes, untyped_passes
from numba.core.compiler_machinery import LoweringPass, PassManager, _pass_registry, register_pass
from numba.core.runtime.context import NRTContext
from numba.cpython import builtins
from numba.extending import intrinsic

# Passes for closures, literals, overloads written in place, Python objects, and for reports on what was compiled.
_UNUSED = {
    untyped_passes.WithLifting,
    untyped_passes.InlineClosureLikes,
    untyped_passes.RewriteDynamicRaises,
    untyped_passes.MakeFunctionToJitFunction,
    untyped_passes.InlineInlinables,
    untyped_passes.FindLiterallyCalls,
    untyped_passes.LiteralUnroll,
    untyped_passes.LiteralPropagationSubPipelinePass,
    untyped_passes.RewriteSemanticConstants,
    untyped_passes.DeadBranchPrune,
    untyped_passes.ReconstructSSA,
    typed_passes.InlineOverloads,
    typed_passes.NopythonRewrites,
    typed_passes.NoPythonSupportedFeatureValidation,
    typed_passes.AnnotateTypes,
    typed_passes.DumpParforDiagnostics,
}


# ------------------------------------------------------------------------------------------------------------ libraries
class _PartLibrary(codegen.JITCodeLibrary):  # type: ignore[misc]
    """The code of a part, for linking into kernels."""

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def finalize(self) -> None:
        """Nothing is linked, optimised or translated: that is done where the part is used."""
        self._raise_if_finalized()
        for function in self._final_module.functions:  # several kernels have it
            if not function.is_declaration and function.linkage == llvm.Linkage.external:
                function.linkage = "linkonce_odr"
        self._shared_module = self._final_module
        self._finalized = True


class _KernelLibrary(codegen.JITCodeLibrary):  # type: ignore[misc]
    """The code of a kernel with all its parts."""

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def finalize(self) -> None:
        self._linking_libraries = list(dict.fromkeys(_all_libraries(self)))
        super().finalize()

    def _optimize_final_module(self) -> None:
        passes, builder = self._codegen._module_pass_manager()
        passes.run(self._final_module, builder)


def _all_libraries(library: Any) -> Iterator[Any]:
    """What the library needs, and what its parts need."""
    for needed in library._linking_libraries:
        yield needed
        if isinstance(needed, _PartLibrary):
            yield from _all_libraries(needed)


# ---------------------------------------------------------------------------------------------------------- the passes
class _Counting(NRTContext):  # type: ignore[misc]
    """References of the arrays in a value, without code to read its numbers."""

    def get_meminfos(self, builder: Any, ty: Any, value: Any) -> Any:
        """Pairs of a type and its reference count."""
        if not self._context.data_model_manager[ty].contains_nrt_meminfo():
            return []
        return super().get_meminfos(builder, ty, value)


class Lower(lowering.Lower):  # type: ignore[misc]
    """From Numba's code to LLVM's. A variable that ends is cleared where it counts references, and nowhere else."""

    def delvar(self, name: str) -> None:
        """End a variable."""
        if self.context.enable_nrt and self.context.data_model_manager[self.typeof(name)].contains_nrt_meminfo():
            super().delvar(name)
        elif name not in self._blk_local_varmap:
            self._singly_assigned_vars.discard(name)


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(typed_passes.BaseNativeLowering):  # type: ignore[misc]
    _name = "part_lowering"

    @property
    def lowering_class(self) -> Any:
        return Lower


@register_pass(mutates_CFG=False, analysis_only=False)
class _MakeKernel(LoweringPass):  # type: ignore[misc]
    """Numba's next pass fills the library that is there."""

    _name, _library = "make_kernel", _KernelLibrary

    def __init__(self) -> None:
        LoweringPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        state.library = self._library(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return True


@register_pass(mutates_CFG=True, analysis_only=False)
class _MakePart(_MakeKernel):
    """The same for a part. One that only borrows arrays, from its caller, has no need to count references."""

    _name, _library = "make_part", _PartLibrary

    def run_pass(self, state: Any) -> bool:
        models = state.targetctx.data_model_manager
        calls = [call.return_type for each, call in state.calltypes.items() if getattr(each, "op", "") == "call"]
        state.targetctx.enable_nrt = any(models[kind].contains_nrt_meminfo() for kind in [state.return_type, *calls])
        return super().run_pass(state)


def _extreme(name: str, better: Any) -> Any:
    """``min`` or ``max`` in one piece: Numba's own are two functions each, compiled for every kind of arguments."""

    def extreme(typingctx: Any, *values: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builtins.do_minmax(context, builder, values, cgutils.unpack_tuple(builder, args[0]), better)

        return typingctx.unify_types(*values)(types.StarArgTuple(values)), codegen

    extreme.__name__ = name
    return intrinsic(extreme)


_least, _most = _extreme("min", operator.lt), _extreme("max", operator.gt)


class _Typing:
    """Numba's types of calls; those of arithmetic on numbers, which takes it a long search, are kept.

    A part is compiled for types of arguments, where Numba would do so once more for every constant.
    """

    _known: ClassVar[dict[Any, Any]] = {}

    def __init__(self, context: Any) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def resolve_value_type(self, value: Any) -> Any:
        """The type of a constant."""
        return self._context.resolve_value_type(_least if value is min else _most if value is max else value)

    def resolve_function_type(self, function: Any, args: Any, options: Any) -> Any:
        """The signature of a call."""
        resolve = self._context.resolve_function_type
        if isinstance(function, types.Dispatcher):
            return resolve(function, tuple(map(types.unliteral, args)), options)
        if options or not isinstance(function, types.Function) or not all(isinstance(a, types.Number) for a in args):
            return resolve(function, args, options)
        key = function, tuple(args)
        if key not in self._known:
            self._known[key] = resolve(function, args, options)
        return self._known[key]


class _Passes(PassManager):  # type: ignore[misc]
    """Numba's passes, one after the other: between them it also reports, and examines what each has left."""

    def run(self, state: Any) -> None:
        """Run all."""
        for step, _ in self.passes:
            _pass_registry.get(step).pass_inst.run_pass(state)


class _Compiler(compiler.CompilerBase):  # type: ignore[misc]
    """Numba's compiler, without the passes that find nothing here."""

    _make: Any
    _lowering: Any = _Lowering

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.state.typingctx = _Typing(self.state.typingctx)
        self.state.targetctx.nrt = _Counting(self.state.targetctx, True)

    def define_pipelines(self) -> list[Any]:
        pipeline = compiler.DefaultPassBuilder.define_nopython_pipeline(self.state)
        lean = _Passes(pipeline.pipeline_name)
        lean.passes = [
            (self._lowering if step is typed_passes.NativeLowering else step, *rest)
            for step, *rest in pipeline.passes
            if step not in _UNUSED
        ]
        lean.add_pass_after(self._make, typed_passes.IRLegalization)
        lean.finalize()
        return [lean]


class Kernel(_Compiler):
    """The compiler of kernels."""

    _make = _MakeKernel

    def compile_extra(self, func: Any) -> Any:
        """Without Python's collector of cycles, which finds nothing yet and takes a tenth of the time."""
        collecting = gc.isenabled()
        gc.disable()
        try:
            return super().compile_extra(func)
        finally:
            if collecting:
                gc.enable()


class Part(_Compiler):
    """The compiler of parts."""

    _make = _MakePart

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.state.targetctx.get_executable = _stand_in


def _stand_in(library: Any, fndesc: Any, env: Any) -> Any:
    """What a part is in Numba's tables; it has no address that Python could call."""
    return _dynfunc.make_function(fndesc.lookup_module(), fndesc.qualname, "", 0, env, (library,))
