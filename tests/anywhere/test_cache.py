"""The cache of compiled code, where it can be used, where it cannot, and where others use it at the same time."""

import os
import pathlib
import shutil
import sys

import pytest

from tests.anywhere.processes import ROOT, answer, run, start

RELU = """
import numpy as np, fastconv as fc
from fastconv import cpu
assert fc.relu(np.array([-1, 2], np.float32)).tolist() == [0, 2]
print(cpu.compilations())
"""
WARNING = "fastconv compiles anew what its cache does not keep"
not_root = pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A cache with the kernel of relu."""
    folder = tmp_path_factory.mktemp("kept")
    assert run(RELU, FASTCONV_CACHE_DIR=folder) == ["1"]
    return folder


@pytest.fixture
def cache(kept, tmp_path):
    """A copy of it."""
    return pathlib.Path(shutil.copytree(kept, tmp_path / "cache"))


def only_file(cache):
    (path,) = cache.glob("*/*.nbc")
    return path


@pytest.mark.parametrize("damage", ["truncated", "empty", "one bit"])
def test_a_damaged_file_is_compiled_anew_and_replaced(damage, cache):
    path = only_file(cache)
    content = bytearray(path.read_bytes())
    if damage == "one bit":
        content[len(content) // 2] ^= 1
    path.write_bytes(content[: {"truncated": len(content) // 2, "empty": 0}.get(damage, len(content))])
    out, err = answer(start(RELU, FASTCONV_CACHE_DIR=cache))
    assert out == "1\n"
    assert err.count(WARNING) == 1
    assert str(path) in err
    out, err = answer(start(RELU, FASTCONV_CACHE_DIR=cache))
    assert (out, err) == ("0\n", "")


def test_a_file_that_cannot_be_opened_is_replaced(cache):
    path = only_file(cache)
    path.unlink()
    path.symlink_to(path)
    assert run(RELU, FASTCONV_CACHE_DIR=cache) == ["1"]
    assert run(RELU, FASTCONV_CACHE_DIR=cache) == ["0"]


FULL = """
import errno, pathlib
def write(path, content):
    with path.open("wb") as file:
        file.write(content[:1000])
    raise OSError(errno.ENOSPC, "No space left on device")
pathlib.Path.write_bytes = write
"""
LIMITED = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
"""


@pytest.mark.parametrize(
    "limit",
    [FULL, pytest.param(LIMITED, marks=pytest.mark.skipif(sys.platform == "win32", reason="no limits of this kind"))],
)
def test_a_full_disk_warns_once_and_leaves_nothing(limit, tmp_path):
    both = RELU + "fc.softmax(np.ones((2, 3), np.float32))\n"
    out, err = answer(start(limit + both, FASTCONV_CACHE_DIR=tmp_path))
    assert out == "1\n"
    assert err.count(WARNING) == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.skipif(sys.platform == "win32", reason="homes are found in another way")
@pytest.mark.parametrize("home", ["/nonexistent/home", None, "relative"])
def test_without_a_home(home, tmp_path):
    out, err = answer(start(RELU, FASTCONV_CACHE_DIR=None, XDG_CACHE_HOME=home and f"{home}/x", HOME=home))
    assert out in ("0\n", "1\n")
    assert err.count(WARNING) <= 1
    assert not (ROOT / "~").exists()
    assert not (ROOT / "relative").exists()


@not_root
def test_a_folder_that_may_only_be_read_serves_without_a_warning(cache):
    folder = only_file(cache).parent
    folder.chmod(0o500)
    out, err = answer(start(RELU, FASTCONV_CACHE_DIR=cache))
    folder.chmod(0o700)
    assert (out, err) == ("0\n", "")


def test_eight_processes_that_start_cold_together(tmp_path):
    processes = [start(RELU, FASTCONV_CACHE_DIR=tmp_path, NUMBA_NUM_THREADS=1) for _ in range(8)]
    for process in processes:
        out, err = answer(process)
        assert out in ("0\n", "1\n")
        assert err == ""
    assert [path.suffix for path in tmp_path.glob("*/*")] == [".nbc"]
    assert run(RELU, FASTCONV_CACHE_DIR=tmp_path) == ["0"]


UPGRADE = """
import pathlib, fastconv
source = pathlib.Path(fastconv.__file__).parent / "cpu" / "activation.py"
source.write_text(source.read_text() + "\\n# the next version\\n")
"""


def test_an_upgrade_in_place_runs_no_stale_code(tmp_path):
    """Code of before the upgrade is not kept under the name of after it, or taken."""
    shutil.copytree(ROOT / "fastconv", tmp_path / "fastconv", ignore=shutil.ignore_patterns("__pycache__"))
    settings = {"root": tmp_path, "FASTCONV_CACHE_DIR": tmp_path / "cache"}
    assert run(UPGRADE + RELU, **settings) == ["1"]
    assert not list(tmp_path.glob("cache/*/*"))
    assert run(RELU, **settings) == ["1"]
    assert run(RELU, **settings) == ["0"]
    assert (tmp_path / "fastconv" / "cpu" / "activation.py").read_text().endswith("# the next version\n")


def test_folders_of_other_versions_are_pruned(tmp_path):
    for number in range(12):
        folder = tmp_path / f"{number:020x}"
        folder.mkdir()
        (folder / "kernel.nbc").write_bytes(b"old")
        os.utime(folder, (number, number))
    for name in ("documents", "0123"):
        (tmp_path / name).mkdir()
    assert run(RELU, FASTCONV_CACHE_DIR=tmp_path) == ["1"]
    left = sorted(path.name for path in tmp_path.iterdir())
    assert {"documents", "0123"} <= set(left)
    assert [name for name in left if len(name) == 20 and name.startswith("0000")] == [
        f"{number:020x}" for number in range(4, 12)
    ]


def test_unfinished_files_are_removed_when_they_are_old(cache):
    folder = only_file(cache).parent
    for name, age in (("old.tmp", 0), ("new.tmp", None)):
        (folder / name).touch()
        if age is not None:
            os.utime(folder / name, (age, age))
    only_file(cache).unlink()
    assert run(RELU, FASTCONV_CACHE_DIR=cache) == ["1"]
    assert not (folder / "old.tmp").exists()
    assert (folder / "new.tmp").exists()
