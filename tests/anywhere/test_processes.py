"""Many threads, and processes of every kind, under every threading layer of Numba that is installed."""

import os
import sys

import numba
import pytest

from tests.anywhere.processes import LAYERS, ROOT, answer, run, start, threading_layer

pytestmark = pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="NUMBA_NUM_THREADS allows one thread only")
CHILDREN = """
import concurrent.futures, multiprocessing, sys, threading
import numpy as np, numba, fastconv as fc

x = np.linspace(-1, 1, 1 << 18, dtype=np.float32)


def bits(_=None):
    return fc.relu(x).tobytes()


if __name__ == "__main__":
    layer, method, busy = sys.argv[1:]
    expected = bits()
    assert numba.threading_layer() == layer
    stop = threading.Event()

    def work():
        while not stop.is_set():
            assert bits() == expected

    threads = [threading.Thread(target=work) for _ in range(2 if busy == "busy" else 0)]
    for thread in threads:
        thread.start()
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        assert list(pool.map(bits, range(4))) == [expected] * 4
    stop.set()
    for thread in threads:
        thread.join()
    assert bits() == expected
    print("all equal")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="not all ways of starting a process are there")
@pytest.mark.parametrize(
    ("method", "busy"), [("fork", "quiet"), ("fork", "busy"), ("forkserver", "quiet"), ("spawn", "quiet")]
)
@pytest.mark.parametrize("layer", LAYERS)
def test_children(layer, method, busy, tmp_path):
    """Also of a parent whose other threads are computing."""
    (tmp_path / "children.py").write_text(CHILDREN)
    script = f"""
        import subprocess, sys
        command = [sys.executable, "-W", "ignore", {str(tmp_path / "children.py")!r}, {layer!r}, {method!r}, {busy!r}]
        sys.exit(subprocess.run(command).returncode)
    """
    assert run(script, **threading_layer(layer))[-1] == "all equal"  # before it, TBB may say that it was at work


FORKED_TWICE = """
import os, numpy as np, fastconv as fc
x = np.linspace(-1, 1, 1 << 18, dtype=np.float32)
expected = fc.relu(x).tobytes()
child = os.fork()
if child == 0:
    grandchild = os.fork()
    same = fc.relu(x).tobytes() == expected
    if grandchild == 0:
        os._exit(0 if same else 1)
    os._exit(0 if same and os.waitpid(grandchild, 0)[1] == 0 else 1)
print(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
@pytest.mark.parametrize("layer", LAYERS)
def test_a_child_of_a_child(layer):
    assert run(FORKED_TWICE, **threading_layer(layer)) == ["0"]


FIRST_CALLS = """
import threading, numpy as np, numba, fastconv as fc
x = np.linspace(-1, 1, 1 << 18, dtype=np.float32)
results, together = [], threading.Barrier(8)

def work():
    together.wait()
    results.append(fc.relu(x).tobytes())

threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(results), len(set(results)), results[0] == np.maximum(x, 0).tobytes())
"""


@pytest.mark.parametrize("cache", ["", None])
@pytest.mark.parametrize("layer", LAYERS)
def test_threads_whose_first_call_is_at_the_same_time(layer, cache, tmp_path):
    place = tmp_path if cache is None else cache
    assert run(FIRST_CALLS, **threading_layer(layer), FASTCONV_CACHE_DIR=place) == ["8 1 True"]


COUNTED = """
import numba, numpy as np
from fastconv.cpu import _jit

@_jit.compiled
def core(worker, workers, seen):
    seen[worker] = workers

def workers(threads):
    numba.set_num_threads(threads)
    seen = np.zeros(8, np.int64)
    _jit.launch(core, 8, seen)
    return seen.max()

print(workers(1), workers(2), workers(1))
"""


def test_the_number_of_threads_is_numbas():
    assert run(COUNTED, FASTCONV_CACHE_DIR="") == ["1 2 1"]


INTERRUPTED = """
import signal, sys, threading, time, os
import numpy as np, fastconv as fc

x, weight = np.ones((8, 64, 112, 112), np.float32), np.ones((64, 64, 3, 3), np.float32)
expected = fc.conv2d(x, weight, padding=1).tobytes()
out = np.empty((8, 64, 112, 112), np.float32)
calls = 0
threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    while True:
        fc.conv2d(x, weight, padding=1, out=out)
        calls += 1
except KeyboardInterrupt:
    print("interrupted")
print(fc.conv2d(x, weight, padding=1, out=out).tobytes() == expected)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent in another way")
@pytest.mark.parametrize("layer", LAYERS)
def test_an_interrupt_is_answered_and_leaves_the_library_usable(layer):
    assert run(INTERRUPTED, **threading_layer(layer)) == ["interrupted", "True"]


SHAPES = """
import resource, numpy as np, numba, fastconv as fc
numba.set_num_threads(2)

def calls(turned):
    for n in range(1100):  # more than any table of geometries keeps
        sizes = 3 + n % 31, 40 + n // 31
        x = np.ones((1, 2 + n % 7, *(sizes[::-1] if turned else sizes)), np.float32)
        weight = np.ones((3, x.shape[1], 2, 2), np.float32)
        y = fc.relu(fc.conv2d(x, weight))
        fc.conv2d_backward(y, x, weight)
        pooled, indices = fc.max_pool2d(x, 2, return_indices=True)
        fc.max_pool2d_backward(pooled, indices, x.shape)

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

calls(False)
calls(True)
before = resident()
calls(False)
calls(True)
for _ in range(10000):
    fc.relu(np.ones((3, 4), np.float32))
print((resident() - before) >> 20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_is_flat_over_many_shapes_and_calls():
    (grown,) = run(SHAPES)
    assert int(grown) <= 4  # MiB


WRONG = """
import numpy as np, fastconv as fc
out = np.full((1, 4, 6, 6), 7, np.float32)
x, weight = np.ones((1, 2, 8, 8), np.float32), np.ones((4, 2, 3, 3), np.float32)
wrong = {"stride": 0, "padding": -1, "groups": 3, "activation": "tanh", "algorithm": "none", "bias": x}
for name, value in wrong.items():
    options = {name: value}
    try:
        fc.conv2d(x, weight, **options, out=out)
    except (TypeError, ValueError):
        assert (out == 7).all()
        continue
    raise AssertionError(options)
print("untouched")
"""


def test_an_error_leaves_out_untouched():
    assert run(WRONG) == ["untouched"]


IMPORT = """
import sys, numba
before = set(sys.modules)
import fastconv
print(sorted(name for name in set(sys.modules) - before if name.startswith(("scipy", "numba.cuda", "tqdm", "torch"))))
print(fastconv.cpu._jit._parallel._is_initialized)
"""


def test_an_import_starts_no_threads_and_loads_nothing_large():
    assert run(IMPORT) == ["[]", "False"]


def test_the_root_is_the_one_under_test():
    out, _ = answer(start("import fastconv; print(fastconv.__file__)"))
    assert out.startswith(str(ROOT))
