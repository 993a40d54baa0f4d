"""Operations read and write nothing outside the arrays they are given."""

import pathlib
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
