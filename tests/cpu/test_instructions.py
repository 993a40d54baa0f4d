"""The vector code compiled for machines that the tests do not run on: the right instructions, no calls, no spills."""

import re
from typing import NamedTuple

import pytest
from llvmlite import binding, ir
from numba import types
from numba.core.registry import cpu_target

from fastconv.cpu import _jit, _target, microkernel, transpose, vector_ir


class Machine(NamedTuple):
    """A target of LLVM, its vector unit as ``_jit`` describes it, and what its assembly looks like."""

    triple: str
    cpu: str
    unit: tuple[int, int, bool]  # bytes of a vector, registers, fused multiply-add
    products: tuple[str, str]  # a multiply-add, or a multiplication, of float32 and of float64 vectors
    call: str
    spill: str  # a whole vector on the stack


MACHINES = {
    "AArch64": Machine(
        "aarch64-linux-gnu", "generic", (16, 32, True), (r"\bfmla\s+v\d+\.4s,", r"\bfmla\s+v\d+\.2d,"), r"\bblr?\s",
        r"\b(st|ld)[rp]\s+q.*\[sp",
    ),
    "AVX-512": Machine(
        "x86_64-linux-gnu", "skylake-avx512", (64, 32, True), (r"\bvfmadd\d+ps\s.*%zmm", r"\bvfmadd\d+pd\s.*%zmm"),
        r"\bcall", r"\(%rsp\).*%zmm|%zmm.*\(%rsp\)",
    ),
    "AVX2": Machine(
        "x86_64-linux-gnu", "haswell", (32, 16, True), (r"\bvfmadd\d+ps\s.*%ymm", r"\bvfmadd\d+pd\s.*%ymm"),
        r"\bcall", r"\(%rsp\).*%ymm|%ymm.*\(%rsp\)",
    ),
    "SSE2": Machine(
        "x86_64-linux-gnu", "x86-64", (16, 16, False), (r"\bmulps\s", r"\bmulpd\s"), r"\bcall",
        "never",  # a multiplication overwrites an operand: one register too few
    ),
}  # fmt: skip
ELEMENTS = {"float32": types.float32, "float64": types.float64}


@pytest.fixture(params=MACHINES)
def machine(request, monkeypatch):
    """A machine that the generators emit for; skipped where LLVM was built without it."""
    machine = MACHINES[request.param]
    for name in ("initialize_all_targets", "initialize_all_asmprinters"):
        getattr(binding, name, lambda: None)()
    try:
        binding.Target.from_triple(machine.triple)
    except RuntimeError as error:
        pytest.skip(f"llvmlite compiles for {request.param} not here: {error}")
    for module in (_target, microkernel):
        monkeypatch.setattr(module, "VECTOR_BYTES", machine.unit[0])
    monkeypatch.setattr(vector_ir, "HAS_FMA", machine.unit[2])
    return machine


def module_of(intrinsic, *args):
    """A function that does what the intrinsic does for arguments of these types, as Numba would have it emitted."""
    signature, codegen = intrinsic._defn(None, *args)
    context, module = cpu_target.target_context, ir.Module()
    kinds = [context.get_value_type(kind) for kind in signature.args]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), "kernel")
    builder = ir.IRBuilder(function.append_basic_block())
    codegen(context, builder, signature, function.args)
    builder.ret_void()
    return module


def assembly(module, machine):
    target = binding.Target.from_triple(machine.triple).create_target_machine(cpu=machine.cpu, opt=3)
    module.triple, module.data_layout = machine.triple, str(target.target_data)
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    passes = binding.create_pass_builder(target, binding.PipelineTuningOptions(speed_level=3))
    passes.getModulePassManager().run(parsed, passes)
    return target.emit_assembly(parsed)


def lines(pattern, text):
    return [line for line in text.splitlines() if re.search(pattern, line)]


def kernel_types(element):
    address, index = types.CPointer(element), types.CPointer(types.intp)
    return types.intp, address, index, index, address, index, types.intp, address, types.intp, types.boolean


def transpose_types(element):
    return types.CPointer(element), types.intp, types.intp, types.CPointer(element), types.CPointer(types.intp)


@pytest.mark.parametrize("element", ELEMENTS)
def test_micro_kernels_are_multiply_adds_in_registers(machine, element):
    most = 4 if machine.unit[1] >= 32 else 2
    product = machine.products[list(ELEMENTS).index(element)]
    for rows, vectors in [*((microkernel.ROWS, v) for v in range(1, most + 1)), (microkernel.FEW_ROWS, most)]:
        kernel = microkernel.make_microkernel(rows, vectors)
        text = assembly(module_of(kernel, *kernel_types(ELEMENTS[element])), machine)
        assert len(lines(product, text)) >= 3 * rows * vectors  # two rows of B a turn, and an odd last one
        assert lines(machine.call, text) == []
        assert lines(machine.spill, text) == []


@pytest.mark.parametrize("element", ELEMENTS)
def test_transposes_are_shuffles_in_registers(machine, element):
    kind = ELEMENTS[element]
    for intrinsic, more in (
        (transpose.transpose, ()),
        (transpose.transpose_epilogue, (types.CPointer(kind), kind)),
    ):
        text = assembly(module_of(intrinsic, *transpose_types(kind), *more), machine)
        assert lines(machine.call, text) == []
        assert lines(machine.spill, text) == []


def test_the_unit_of_this_machine_is_known():
    assert (_jit.VECTOR_BYTES, _jit.VECTOR_REGISTERS, _jit.HAS_FMA) in [
        *(machine.unit for machine in MACHINES.values()),
        (32, 16, False),
    ]
