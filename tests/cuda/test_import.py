"""What is missing of CUDA is no hindrance to anything but CUDA arrays, and those say what is missing.

Each case is a process that sees the packages installed here, less those that it is to do without.
"""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NUMBA_CUDA = ("numba_cuda", "_numba_cuda_redirector.pth", "_numba_cuda_redirector.py", "cuda", "nvidia")
SCRIPT = """
import site
import sys
site.addsitedir({packages!r})
sys.path.insert(0, {root!r})
{before}
import numpy as np
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
INSTALL = (
    "ImportError fastconv needs Numba's CUDA package for arrays on the GPU: install fastconv[cuda12] or "
    "fastconv[cuda13], whichever CUDA version the driver supports ("
)
NO_DEVICE = "RuntimeError CUDA arrays need a CUDA driver and a device, and Numba finds none here"


NO_TOOLKIT = """
from cuda import pathfinder
def nothing(name):
    raise pathfinder.DynamicLibNotFoundError(f"no {name} on this machine")
pathfinder.load_nvidia_dynamic_lib = nothing
"""


def messages(packages, *missing, before=""):
    """What two calls with CUDA arrays say where these packages are missing."""
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if entry.name not in missing and "fastconv" not in entry.name:
            (packages / entry.name).symlink_to(entry)
    script = SCRIPT.format(packages=str(packages), root=str(ROOT), before=before)
    hidden = {"CUDA_HOME", "CUDA_PATH", "LD_LIBRARY_PATH", "PYTHONPATH"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [sys.executable, "-I", "-S", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=packages)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == second
    return first


def test_without_numba_cuda(tmp_path):
    assert messages(tmp_path, *NUMBA_CUDA).startswith(f"{INSTALL}ModuleNotFoundError: No module named 'numba.cuda")


@pytest.fixture
def jit():
    return pytest.importorskip("fastconv.cuda._jit", reason="the CUDA packages are not installed", exc_type=ImportError)


def test_numba_cuda_without_a_toolkit(jit, tmp_path):
    """As ``pip install numba-cuda`` leaves it; what the machine has for all its programs is hidden, too."""
    message = messages(tmp_path, "nvidia", before=NO_TOOLKIT)
    assert message.startswith(f"{INSTALL}DynamicLibNotFoundError: no cudart on this machine")


def test_without_a_driver(jit, tmp_path):
    if jit.cuda.is_available():
        pytest.skip("a device is here")
    assert messages(tmp_path) == NO_DEVICE
