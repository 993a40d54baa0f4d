"""The smoke group in Numba's simulator, which is chosen when a process starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastconv.cuda._jit", reason="the CUDA packages are not installed", exc_type=ImportError)


def test_simulator():
    command = [sys.executable, "-m", "tests.cuda.simulator"]
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], env=environment)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 10
