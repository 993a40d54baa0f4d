"""Scripts that run in a process of their own, and how they are started."""

import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
LAYERS = ("omp", "tbb", "workqueue")
NO_LAYER = "No threading layer could be loaded"


def threading_layer(name):
    """The variables that choose it. Where pip has put TBB's library, beside Python, nobody looks without being told."""
    if name != "tbb":
        return {"NUMBA_THREADING_LAYER": name}
    places = os.environ.get("LD_LIBRARY_PATH"), str(pathlib.Path(sys.prefix, "lib"))
    return {"NUMBA_THREADING_LAYER": name, "LD_LIBRARY_PATH": os.pathsep.join(filter(None, places))}


def start(script, *options, root=ROOT, **environment):
    """A process that runs the script with the package in ``root``; None takes a variable of the environment away."""
    variables = {**os.environ, "NUMBA_NUM_THREADS": "2", "PYTHONPATH": str(root), **environment}
    variables = {name: str(value) for name, value in variables.items() if value is not None}
    command = [sys.executable, "-W", "ignore::DeprecationWarning", *options, "-c", textwrap.dedent(script)]
    return subprocess.Popen(command, cwd=root, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def answer(process, seconds=300):
    """What it prints, and its warnings; a failure or a hang is one of the test."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    if NO_LAYER in err:
        pytest.skip("Numba's threading layer is not installed")
    assert process.returncode == 0, f"exit {process.returncode}\n{out[-1000:]}\n{err[-3000:]}"
    return out, err


def run(script, *options, **environment):
    """The lines that it prints."""
    return answer(start(script, *options, **environment))[0].splitlines()
