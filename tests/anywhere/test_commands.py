"""``python -m fastconv``, and the calls behind it."""

import json
import subprocess
import sys

import numpy as np
import pytest

import fastconv as fc
from fastconv import __main__, _precompile, _samples, _selftest
from tests.anywhere.processes import run

NOT_OPERATIONS = {"pack", "precompile"}


def test_every_operation_has_a_sample():
    assert set(_precompile.operations()) == {name for name in fc.__all__ if name.islower()} - NOT_OPERATIONS


def output(capsys, *arguments):
    status = __main__.main(list(arguments))
    return status, capsys.readouterr().out


def test_info(capsys):
    status, text = output(capsys, "info")
    facts = json.loads(output(capsys, "info", "--json")[1])
    assert status == 0
    assert facts["fastconv"] == fc.__version__
    assert facts["numpy"] == np.__version__
    assert facts["vector bytes"] in (16, 32, 64)
    assert [line.split()[0] for line in text.splitlines()] == [name.split()[0] for name in facts]


@pytest.fixture
def few(monkeypatch):
    """Only some operations."""
    all_samples = _samples.samples
    chosen = ("relu", "softmax_backward", "global_max_pool")
    monkeypatch.setattr(_selftest, "samples", lambda dtype: (s for s in all_samples(dtype) if s.operation in chosen))
    return chosen


def test_selftest(few, capsys):
    status, text = output(capsys, "selftest")
    assert status == 0
    assert text.splitlines()[-1] == "all operations compute right"
    report = json.loads(output(capsys, "selftest", "--json")[1])
    assert report["passed"]
    assert sorted((r["operation"], r["dtype"]) for r in report["operations"]) == sorted(
        (name, dtype) for name in few for dtype in ("float32", "float64")
    )


def test_selftest_finds_what_is_wrong(few, capsys, monkeypatch):
    monkeypatch.setattr(fc, "relu", lambda x, out=None: np.maximum(x, 0) + 1)
    monkeypatch.setattr(fc, "global_max_pool", lambda x: 1 / 0)
    status, text = output(capsys, "selftest")
    wrong = [line.split()[1] for line in text.splitlines() if line.startswith("WRONG")]
    assert status == 1
    assert sorted(wrong) == ["global_max_pool"] * 2 + ["relu"] * 2
    assert "ZeroDivisionError" in text or "TypeError" in text
    assert text.splitlines()[-1] == "4 of 6 compute wrong"


@pytest.mark.skipif(fc.cuda.is_available(), reason="there is a device")
def test_selftest_on_cuda_says_what_is_missing(capsys):
    status, text = output(capsys, "selftest", "--cuda")
    assert status == 1
    assert text.startswith("CUDA is not available: it takes an NVIDIA driver")


def test_bench(capsys):
    status, text = output(capsys, "bench", "--seconds", "0.001")
    assert status == 0
    assert len(text.splitlines()) == 16


PRECOMPILED = """
import numpy as np, numba, fastconv as fc
from fastconv import cpu
numba.set_num_threads(2)
fc.relu(np.ones(3, np.float32))
fc.relu(np.ones(1 << 18, np.float32))
x = np.ones(3, np.float32)
fc.relu(x, out=x)
print(cpu.compilations())
"""


def test_what_is_precompiled_is_loaded_later(tmp_path):
    settings = {"FASTCONV_CACHE_DIR": tmp_path}
    script = 'import fastconv as fc; print(fc.precompile(["relu"], ["float32"]))'
    assert run(script, **settings) == ["2"]  # into another array and in place; each on one thread and on several
    assert run(script, **settings) == ["0"]
    assert run(PRECOMPILED, **settings) == ["0"]


def test_precompile_without_tqdm(tmp_path):
    script = """
        import sys
        sys.modules["tqdm"] = None
        import fastconv as fc
        print(fc.precompile(["relu"], ["float32"], progress=True))
    """
    assert run(script, FASTCONV_CACHE_DIR="") == ["2"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"ops": ["conv"]}, ValueError),
        ({"ops": "relu"}, ValueError),
        ({"dtypes": ["int8"]}, TypeError),
        ({"dtypes": ["float"], "ops": ["none"]}, ValueError),
    ],
)
def test_precompile_says_what_is_wrong(arguments, error):
    with pytest.raises(error, match=r"ops must be|dtypes must be"):
        fc.precompile(**arguments)


def test_a_wrong_command_line_is_told(capsys):
    assert __main__.main(["precompile", "--ops", "conv"]) == 2
    assert "ops must be names of operations" in capsys.readouterr().err


def test_as_a_module():
    done = subprocess.run([sys.executable, "-m", "fastconv", "info"], capture_output=True, text=True, check=True)
    assert "vector bytes" in done.stdout
