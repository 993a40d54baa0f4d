"""How kernels are compiled: once for each type, kept where they may be, and started serially where threads may not."""

import importlib
import inspect
import os
import pathlib
import pkgutil
import shutil
import subprocess
import sys
import textwrap

import numba
import numpy as np
import pytest
from numba.core.registry import cpu_target

import fastconv as fc
import fastconv.cpu
from fastconv.cpu import _jit, _target
from fastconv.cpu.memory import empty
from tests import strategies

PACKAGE = pathlib.Path(fc.__file__).parent


# ----------------------------------------------------------------------------------------------------------- the target
def test_the_processor_is_what_numba_compiles_for():
    assert _target.magic() == cpu_target.target_context.codegen().magic_tuple()


@pytest.mark.parametrize(
    ("triple", "flags", "unit"),
    [
        ("x86_64-unknown-linux-gnu", "+avx,+avx2,+avx512f,+fma,+sse2", (64, 32, True)),
        ("x86_64-unknown-linux-gnu", "+avx,+avx2,+fma,-avx512f,+sse2", (32, 16, True)),
        ("x86_64-pc-windows-msvc", "+avx,-fma,+sse2", (32, 16, False)),
        ("x86_64-apple-darwin", "+sse2,-avx", (16, 16, False)),
        ("x86_64-unknown-linux-gnu", "", (16, 16, False)),
        ("aarch64-unknown-linux-gnu", "+neon,+sve", (16, 32, True)),
        ("arm64-apple-darwin24.0.0", "", (16, 32, True)),
    ],
)
def test_vector_unit_of_a_target(triple, flags, unit, monkeypatch):
    monkeypatch.setattr(_target, "magic", lambda: (triple, "cpu", flags))
    assert _target._vector_unit() == unit


@pytest.mark.parametrize(("text", "size"), [("2048K\n", 2 << 20), ("512K\n", 512 << 10), ("many\n", 512 << 10)])
def test_size_of_the_cache(text, size, monkeypatch):
    monkeypatch.setattr(pathlib.Path, "read_text", lambda path: text)
    assert _target._l2_bytes() == size


def test_size_of_the_cache_where_the_system_does_not_say(monkeypatch):
    def missing(path):
        raise FileNotFoundError

    monkeypatch.setattr(pathlib.Path, "read_text", missing)
    assert _target._l2_bytes() == 512 << 10


# ------------------------------------------------------------------------------------------------------------ the cache
RELU = """
import numpy as np, fastconv as fc
from fastconv.cpu import _jit
from fastconv.cpu.activation import _relu

assert fc.relu(np.array([-1, 2], np.float32)).tolist() == [0, 2]
assert fc.relu(np.full(1 << 18, -1, np.float32)).max() == 0  # on two threads
loaded, compiled = (sum(hits.values()) for hits in (_relu.stats.cache_hits, _relu.stats.cache_misses))
print(f"{loaded} loaded, compiled: {compiled > 0}")
"""
COMPILED, LOADED = "0 loaded, compiled: True\n", "1 loaded, compiled: False\n"
WHERE = "from fastconv.cpu import _cache; print(_cache.directory())"


def run(script, *options, package=PACKAGE, **environment):
    """Runs a script in a process of its own, whose home is nobody's; None takes a variable away."""
    path = os.pathsep.join([str(package.parent), *filter(None, sys.path)])
    variables = {**os.environ, "NUMBA_NUM_THREADS": "2", "PYTHONPATH": path, **environment}
    variables = {name: str(value) for name, value in variables.items() if value is not None}
    command = [sys.executable, *options, "-c", textwrap.dedent(script)]
    return subprocess.run(command, cwd=package.parent, env=variables, capture_output=True, text=True, check=True)


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_compiled_code_is_kept_and_loaded(tmp_path):
    cache, home = tmp_path / "cache", tmp_path / "home"
    assert run(RELU, FASTCONV_CACHE_DIR=cache, XDG_CACHE_HOME=home).stdout == COMPILED
    kept = files(cache)
    assert len({path.parent for path in kept}) == 1
    assert {path.parent.parent for path in kept} == {cache}
    assert {path.suffix for path in kept} == {".nbc"}
    assert run(RELU, FASTCONV_CACHE_DIR=cache, XDG_CACHE_HOME=home).stdout == LOADED
    assert files(cache) == kept
    assert not home.exists()


def test_an_empty_setting_keeps_nothing(tmp_path):
    assert run(RELU, FASTCONV_CACHE_DIR="", XDG_CACHE_HOME=tmp_path, HOME=tmp_path).stdout == COMPILED
    assert run(WHERE, FASTCONV_CACHE_DIR="").stdout == "None\n"
    assert not files(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="XDG_CACHE_HOME is Linux's")
def test_without_a_setting_it_is_the_users_cache(tmp_path):
    place = pathlib.Path(run(WHERE, FASTCONV_CACHE_DIR=None, XDG_CACHE_HOME=tmp_path).stdout.strip())
    assert place.parent == tmp_path / "fastconv"
    assert not place.parent.exists()  # before there is anything to keep


def unwritable(tmp_path):
    """A folder that cannot be made, and for all but the superuser one that cannot be written."""
    (tmp_path / "file").touch()
    yield tmp_path / "file" / "cache"
    if hasattr(os, "geteuid") and os.geteuid() != 0:
        read_only = tmp_path / "read-only"
        read_only.mkdir(mode=0o500)
        yield read_only


def test_a_place_that_cannot_be_written_warns_once_and_computes(tmp_path):
    for place in unwritable(tmp_path):
        done = run(RELU, "-W", "always", FASTCONV_CACHE_DIR=place)
        assert done.stdout == COMPILED
        assert done.stderr.count("fastconv compiles anew what its cache does not keep") == 1
        assert str(place) in done.stderr


def test_other_sources_and_other_machines_have_other_folders(tmp_path):
    copy = tmp_path / "fastconv"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {"FASTCONV_CACHE_DIR": tmp_path / "cache"}

    def folder(**more):
        return run(WHERE, **environment, **more).stdout

    places = [folder(), folder(package=copy), folder(NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")]
    for name in ("linear.py", "__init__.py", "cpu/layout.py"):
        (copy / name).write_text((copy / name).read_text() + "# another version\n")
        places.append(folder(package=copy))
    places.append(folder(package=copy, NUMBA_BOUNDSCHECK=1))
    same, other_cpu, other_version, other_source, other_flags = [places[i] for i in (0, 2, 4, 5, 6)]
    assert places == [same, same, other_cpu, same, other_version, other_source, other_flags]
    assert len({same, other_cpu, other_version, other_source, other_flags}) == 5


# -------------------------------------------------------------------------------------------------- compiled just once
def kernels():
    """All compiled functions that Python starts, by name."""
    found = {}
    for module in pkgutil.iter_modules(fastconv.cpu.__path__, "fastconv.cpu."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, _jit.Kernel):
                found[value.py_func.__qualname__] = value
    return found


def element_types(signature):
    kinds = [kind for group in signature for kind in (group if isinstance(group, numba.types.BaseTuple) else [group])]
    return tuple(kind.dtype for kind in kinds if isinstance(kind, numba.types.Array))


def run_everything(arrange, dtype, size, images):
    """All operations, on arrays arranged in one way; gradients flow back from one to the next."""

    def values(*shape):
        return arrange(strategies.values(shape, dtype, 1))

    x, labels = values(images, 6, size, size + 1), np.arange(images) % 5
    for weight, options in ((values(20, 6, 3, 3), {"padding": 1}), (values(6, 1, 3, 3), {"groups": 6, "stride": 2})):
        y = arrange(fc.conv2d(x, weight, values(len(weight)), **options, activation="relu"))
        fc.conv2d(x, weight, **options, out=fc.conv2d(x, weight, **options))
        fc.conv2d_backward(fc.relu_backward(y, y), x, weight, **options)
    fc.leaky_relu_backward(fc.leaky_relu(fc.relu(x, out=x.copy()), 0.1), x, 0.1)
    pooled, indices = fc.max_pool2d(x, 3, 2, 1, return_indices=True)
    fc.max_pool2d_backward(arrange(pooled), arrange(indices), x.shape)
    fc.max_pool2d(x, 2, out=fc.max_pool2d(x, 2))
    fc.avg_pool2d_backward(arrange(fc.avg_pool2d(x, 3, 2, 1)), x.shape, 3, 2, 1)
    fc.sum_pool2d_backward(arrange(fc.sum_pool2d(x, 2)), x.shape, 2)
    largest, indices = fc.global_max_pool(x, return_indices=True)
    fc.global_max_pool_backward(arrange(largest), indices, x.shape)
    mean = arrange(fc.global_avg_pool(x))
    fc.global_avg_pool_backward(mean, x.shape)
    logits = arrange(fc.linear(mean, values(5, 6), values(5)))
    fc.linear_backward(logits, mean, values(5, 6))
    for axis in (0, 1):
        fc.softmax_backward(logits, arrange(fc.softmax(logits, axis)), axis)
        fc.log_softmax_backward(logits, arrange(fc.log_softmax(logits, axis)), axis)
    for kind in (np.int64, np.int32):
        fc.cross_entropy(logits, labels.astype(kind))
        fc.cross_entropy_backward(logits, labels.astype(kind), reduction="sum")


def compiled_more_than_once():
    """Kernels that everything above compiles more often than once for a type, on one thread and on two."""
    for threads in {1, min(2, numba.config.NUMBA_NUM_THREADS)}:
        numba.set_num_threads(threads)
        for dtype in strategies.DTYPES:
            for arrange in strategies.ARRANGEMENTS.values():
                run_everything(arrange, dtype, 7, 2)
            for size, images in ((28, 40), (3, 1), (60, 8)):
                run_everything(strategies.contiguous, dtype, size, images)
    used = {name: kernel.signatures for name, kernel in kernels().items() if kernel.signatures}
    assert len(used) > 20
    return {
        name: signatures
        for name, signatures in used.items()
        if len(signatures) != len(set(map(element_types, signatures)))
    }


def test_one_compilation_for_each_type():
    """However many shapes, memory orders and views; in a process that has computed nothing in place."""
    script = "from tests.cpu.test_jit import compiled_more_than_once; print(compiled_more_than_once())"
    assert run(script).stdout == "{}\n"


TWICE = """
import numpy as np, fastconv as fc
from fastconv.cpu.activation import _relu

fc.relu(np.ones(1, np.float32))
fc.relu(np.ones(1 << 18, np.float32))  # on two threads
print(len(_relu.signatures))
"""


def test_threads_run_what_was_compiled_for_one():
    assert run(TWICE, FASTCONV_CACHE_DIR="").stdout == "1\n"


FOREIGN = """
import numpy as np
from fastconv.cpu import _jit

exec(compile("def core(worker, workers, seen):\\n    seen[worker] = NUMBER", "elsewhere.py", "exec"))
core, seen = _jit.compiled(core), np.zeros(2, np.int64)
START
print(seen)
"""


@pytest.mark.parametrize("start", ["core(0, 1, seen)", "_jit.start(core, 1, (seen,))"])
def test_functions_of_other_files_are_not_taken_from_the_cache(start, tmp_path):
    """A changed function would be answered by its old code."""
    script = FOREIGN.replace("START", start)
    seen = [run(script.replace("NUMBER", number), FASTCONV_CACHE_DIR=tmp_path).stdout for number in "12"]
    assert seen == ["[1 0]\n", "[2 0]\n"]


# ----------------------------------------------------------------------------------------------------------- the launch
class Started:
    """A core that records how it is started."""

    def __init__(self, monkeypatch, threads=8, layer="omp", forked=False):
        self.calls = []
        monkeypatch.setattr(numba, "get_num_threads", lambda: threads)
        monkeypatch.setattr(_jit, "_layer", lambda: layer)
        monkeypatch.setattr(_jit, "_forked_with_layer", forked)
        monkeypatch.setattr(_jit, "start", lambda core, workers, args: self.start(workers, args))

    def core(self, worker, workers, *args):
        self.calls.append(("serial", worker, workers, args))

    def start(self, workers, args):
        self.calls.append(("parallel", workers, args))

    def launch(self, tasks):
        _jit.launch(self.core, tasks, "a", 2)
        return self.calls.pop()


SERIAL = ("serial", 0, 1, ("a", 2))


@pytest.mark.parametrize("layer", ["omp", "tbb", "workqueue", None])
def test_one_task_or_one_thread_runs_the_serial_core(layer, monkeypatch):
    started = Started(monkeypatch, 8, layer)
    assert [started.launch(tasks) for tasks in (-1, 0, 1)] == [SERIAL] * 3
    assert [started.launch(tasks)[1] for tasks in (2, 7, 8, 9, 1000)] == [2, 7, 8, 8, 8]
    assert Started(monkeypatch, 1, layer).launch(1000) == SERIAL


def test_a_forked_child_of_a_team_runs_the_serial_core(monkeypatch):
    assert Started(monkeypatch, 8, "omp", forked=True).launch(8) == SERIAL
    assert Started(monkeypatch, 8, "tbb", forked=True).launch(8) == SERIAL
    assert Started(monkeypatch, 8, "workqueue", forked=True).launch(8) == ("parallel", 8, ("a", 2))


@pytest.mark.parametrize("layer", ["workqueue", None])
def test_workqueue_is_entered_by_one_thread_at_a_time(layer, monkeypatch):
    started = Started(monkeypatch, 8, layer)
    with _jit._entry:
        assert started.launch(8) == SERIAL
    assert started.launch(8) == ("parallel", 8, ("a", 2))

    def failing(workers, args):
        assert _jit._entry.locked()
        raise ArithmeticError

    started.start = failing
    with pytest.raises(ArithmeticError):
        started.launch(8)
    assert not _jit._entry.locked()


FORK = """
import os, numba, numpy as np
from fastconv.cpu import _jit

@_jit.compiled
def core(worker, workers, seen):
    seen[worker] = workers

def workers_of(tasks):
    seen = np.zeros(2, np.int64)
    _jit.launch(core, tasks, seen)
    return seen.tolist()

numba.set_num_threads(2)
print(workers_of(1), workers_of(2), numba.threading_layer(), flush=True)
child = os.fork()
if child == 0:
    print(workers_of(1), workers_of(2), flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(workers_of(2))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="NUMBA_NUM_THREADS allows one thread only")
def test_threads_before_and_after_a_fork():
    environment = {"NUMBA_THREADING_LAYER": "omp", "FASTCONV_CACHE_DIR": ""}
    try:
        lines = run(FORK, "-W", "ignore", **environment).stdout.splitlines()
    except subprocess.CalledProcessError as error:
        if "No threading layer could be loaded" not in error.stderr:
            raise
        pytest.skip("Numba's omp layer is not installed")
    assert lines == ["[1, 0] [2, 2] omp", "[1, 0] [1, 0]", "[2, 2]"]


def test_what_python_starts_takes_a_share_of_the_work():
    """All kernels run on threads; a part of one, decorated like a kernel, would not."""
    for kernel in _jit.kernels:
        assert list(inspect.signature(kernel.py_func).parameters)[:2] == ["worker", "workers"], kernel


@_jit.compiled
def failing_core(worker, workers, counts, seen):
    seen[worker] = workers
    empty(counts[worker], np.float32)[0] = 0


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="NUMBA_NUM_THREADS allows one thread only")
@pytest.mark.parametrize("counts", [[2**60], [1, 2**60], [2**60, 1], [2**60, 2**60, 2**60]])
def test_what_fails_on_a_thread_is_raised(counts):
    seen = np.zeros(len(counts), np.int64)
    with pytest.raises(MemoryError):
        _jit.start(failing_core, len(counts), (np.array(counts), seen))
    assert seen.tolist() == [len(counts)] * len(counts)
    _jit.start(failing_core, 2, (np.ones(2, np.int64), np.zeros(2, np.int64)))


@_jit.compiled
def share_core(worker, workers, seen, scale, flag):
    seen[worker] += scale if flag else workers


@pytest.mark.parametrize("workers", [1, 2, 3, 7, 100])
def test_every_worker_runs_once_with_all_arguments(workers):
    threads = numba.get_num_threads()
    for flag in (True, False):
        seen = np.zeros(workers)
        _jit.start(share_core, workers, (seen, 2.5, flag))
        assert seen.tolist() == [2.5 if flag else workers] * workers
    assert numba.get_num_threads() == threads
