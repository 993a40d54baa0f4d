"""What the assembler makes of the kernels, for each architecture, without a device.

``FASTCONV_ARCHITECTURES="sm_75 sm_80 sm_90 sm_100 sm_120"`` compiles all kernels for all of these; the usual run takes
one, and all of them for the tile in float32.
"""

from __future__ import annotations

import os

import pytest

pytest.importorskip("numba.cuda", reason="needs Numba's CUDA package", exc_type=ImportError)
pytest.importorskip("fastconv.cuda._jit", reason="needs Numba's CUDA package", exc_type=ImportError)

from tests.cuda import kernels, machine_code

pytestmark = pytest.mark.skipif(machine_code.tools() is None, reason="needs ptxas and nvdisasm from Python packages")

ASKED = os.environ.get("FASTCONV_ARCHITECTURES", "").split()
TILES = ("convolve large float32", "correlate large float32")


def pairs():
    for name in kernels.KERNELS:
        for architecture in ASKED or (machine_code.ARCHITECTURES if name in TILES else ("sm_80",)):
            if "tensor" not in name or architecture != "sm_75":
                yield name, architecture


@pytest.mark.parametrize(("name", "architecture"), list(pairs()))
def test_kernel(name, architecture, tmp_path):
    kernel, arguments = kernels.KERNELS[name]()
    code = machine_code.code_of(kernel, arguments, architecture, tmp_path)
    assert code.spills == 0
    assert code.stack == 0
    assert code.registers <= (128 if "large" in name else 255)  # two blocks of 256 threads share a multiprocessor
    if "tensor" in name:
        assert code.share("HMMA") >= 0.08
        assert set(code.widths("LDGSTS")) == {128}  # asynchronous copies, and no other way into shared memory
        assert not code.widths("LDG")
        assert code.share("LDSM") > 0 or ("correlate" in name and "float32" in name)
    elif any(size in name for size in kernels.SIZES):
        assert set(code.widths("LDS")) == {128}
        assert set(code.widths("LDG")) == {128}
    if name in TILES:
        assert code.share("FFMA") >= 0.85
