"""Operations read and write nothing outside the arrays they are given, and take little memory beside them."""

import os
import pathlib
import platform
import subprocess
import sys

import pytest


@pytest.mark.skipif(sys.platform == "win32", reason="pages are protected by mprotect")
def test_nothing_beside_an_array_is_touched():
    """In a process of its own, which an access to a guard page would end."""
    command = [sys.executable, "-m", "tests.guard_pages"]
    root = pathlib.Path(__file__).parent.parent
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"the last case: {run.stdout.splitlines()[-1:]}\n{run.stderr[-2000:]}"
    assert "float64, guard page before: linear" in run.stdout


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the peak is read as Linux with glibc tells it")
def test_a_convolution_takes_at_most_its_padded_input_and_16_mebibytes():
    """On one thread; it is 16 MiB for each."""
    command = [sys.executable, "-m", "tests.workspace"]
    root = pathlib.Path(__file__).parent.parent
    environment = {**os.environ, "NUMBA_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    known, *lines = run.stdout.splitlines()
    measured, expected = map(int, known.split()[-2:])
    assert abs(measured - expected) < 1 << 22, "the peak of a known call is measured wrong"
    assert len(lines) == 72
    for line in lines:
        measured, padded = map(int, line.split()[-2:])
        assert measured <= padded + (16 << 20), line
