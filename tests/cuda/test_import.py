"""What is missing of CUDA is no hindrance to anything but CUDA arrays, and those say what is missing."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SCRIPT = """
import sys
import numpy as np

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "numba_cuda" or name.startswith("numba.cuda"):
            raise {error}
if {blocked}:
    sys.meta_path.insert(0, Block())

import fastconv as fc
assert fc.relu(np.array([-1.0, 2.0])).tolist() == [0.0, 2.0]
assert not any(name.startswith("numba_cuda.numba") for name in sys.modules), "import is to leave CUDA alone"
assert fc.cuda.is_available() is False

class CudaArray:
    __cuda_array_interface__ = {{"shape": (3,), "typestr": "<f4", "data": (4096, False), "version": 3}}

for call in (lambda: fc.relu(CudaArray()), lambda: fc.softmax(CudaArray())):
    try:
        call()
    except Exception as error:
        print(type(error).__name__, error)
assert fc.cuda.is_available() is False
"""


def run(blocked, error="ImportError"):
    script = SCRIPT.format(blocked=blocked, error=error)
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=ROOT)
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        ("ModuleNotFoundError(\"No module named 'numba.cuda'\")", "ModuleNotFoundError: No module named 'numba.cuda'"),
        ('RuntimeError("libcudart is not there")', "RuntimeError: libcudart is not there"),  # the package alone
    ],
)
def test_without_the_packages(error, cause):
    expected = (
        "ImportError fastconv needs Numba's CUDA package for arrays on the GPU: install fastconv[cuda12] or "
        f"fastconv[cuda13], whichever CUDA version the driver supports ({cause})"
    )
    assert run(True, error) == [expected] * 2


def test_without_a_driver():
    jit = pytest.importorskip("fastconv.cuda._jit", reason="the CUDA packages are not installed", exc_type=ImportError)
    if jit.cuda.is_available():
        pytest.skip("a device is here")
    expected = "RuntimeError CUDA arrays need a CUDA driver and a device, and Numba finds none here"
    assert run(False) == [expected] * 2
