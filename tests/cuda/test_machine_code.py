"""What the assembler makes of the kernels, for each architecture, without a device."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba.cuda", reason="needs Numba's CUDA package", exc_type=ImportError)
pytest.importorskip("fastconv.cuda._jit", reason="needs Numba's CUDA package", exc_type=ImportError)

from tests.cuda import kernels, machine_code

pytestmark = pytest.mark.skipif(machine_code.tools() is None, reason="needs ptxas and nvdisasm from Python packages")

LARGEST = ("convolve large float32", "correlate large float32")


def codes(name, kernel, arguments, folder, architectures=machine_code.ARCHITECTURES):
    """The kernel for each architecture; what holds for all kernels does."""
    for architecture in machine_code.architectures_of(name, architectures):
        code = machine_code.code_of(kernel, arguments, architecture, folder)
        assert code.spills == 0, architecture
        assert code.stack == 0, architecture
        assert not [name for name in code.instructions if name.startswith(("ATOM", "RED."))], "order is to be fixed"
        yield code


@pytest.mark.parametrize("name", kernels.PRODUCTS)
def test_products(name, tmp_path):
    for code in codes(name, *kernels.PRODUCTS[name](), tmp_path):
        assert code.registers <= (128 if "large" in name else 255)  # two blocks of 256 threads share a multiprocessor
        if "tensor" in name:
            assert code.share("HMMA") >= 0.07
            assert set(code.widths("LDGSTS")) == {128}  # asynchronous copies, and no other way into shared memory
            assert not code.widths("LDG")
            assert code.share("LDSM") > 0 or ("correlate" in name and "float32" in name)
        else:
            assert set(code.widths("LDS")) == {128}
            assert set(code.widths("LDG")) == {128}
        if name in LARGEST:
            assert code.share("FFMA") >= 0.85


@pytest.mark.parametrize("name", kernels.OTHERS)
def test_others(name, tmp_path):
    """All architectures in float32, one in the other types."""
    architectures = machine_code.ARCHITECTURES if "float32" in name else ("sm_80",)
    for code in codes(name, *kernels.OTHERS[name], tmp_path, architectures):
        assert code.registers <= 128  # two blocks of 256 threads share a multiprocessor


def test_the_peak_of_benchmarks_is_one_of_multiply_adds(tmp_path):
    spec = importlib.util.spec_from_file_location("gpu", Path(__file__).parents[2] / "benchmarks" / "gpu.py")
    gpu = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gpu)
    code = machine_code.code_of(gpu.chains_of("float32"), (np.dtype(np.float32), 0.5), "sm_90", tmp_path)
    assert code.share("FFMA") > 0.95
