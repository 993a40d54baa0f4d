"""What a user waits for and pays beside the arithmetic: import, first calls, cache, memory, and tiny calls.

Every figure is from a fresh process. First calls are cold (an empty cache) and from the cache, each the slowest of the
small calls of its operation that the self-test makes; seconds are processor time of one thread, so that another
program's work counts little. `docs/startup.md` is what this prints.

    NUMBA_NUM_THREADS=1 python benchmarks/startup.py > docs/startup.md
"""

from __future__ import annotations

import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
from typing import Any

import llvmlite
import numba
import numpy as np
from compare import processor
from tqdm import tqdm

ROOT = pathlib.Path(__file__).parent.parent
START = """
import json, sys, time
import numpy as np
import numba
def memory():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024
def timed(function):
    start = time.process_time()
    function()
    return time.process_time() - start
before, start = memory(), time.process_time()
import fastconv as fc
seconds = time.process_time() - start
def calls(wanted):
    from fastconv._samples import samples
    return [lambda s=s: getattr(fc, s.operation)(*s.arguments, **s.options)
            for s in samples(np.float32) if wanted(s.operation)]
"""
IMPORT = "print(json.dumps([seconds, before, memory()]))"
FIRST = """
import os, tempfile
from fastconv._samples import samples
def first(call, cache):  # in a process that has imported everything and called nothing
    there, here = os.pipe()
    if os.fork() == 0:
        os.environ["FASTCONV_CACHE_DIR"] = cache
        os.write(here, json.dumps([timed(call), memory()]).encode())
        os._exit(0)
    os.wait()
    return json.loads(os.read(there, 1000))
rows = {}
for s in samples(np.float32):
    if "1d" in s.operation or "3d" in s.operation or not s.operation.startswith(tuple(sys.argv[1:])):
        continue
    with tempfile.TemporaryDirectory() as cache:
        call = lambda: getattr(fc, s.operation)(*s.arguments, **s.options)
        (cold, used), (kept, _) = first(call, cache), first(call, cache)
    rows[s.operation] = [max(pair) for pair in zip(rows.get(s.operation, [0, 0, 0]), [cold, kept, used])]
print(json.dumps(rows))
"""
ALL = """
print(json.dumps([sum(timed(call) for call in calls(lambda name: name.startswith(tuple(sys.argv[1:])))), memory()]))
"""
STEP = """
sys.path.insert(0, "docs/examples")
import digits
rng = np.random.default_rng(0)
x, labels, parameters = rng.random((32, 1, 8, 8), np.float32), np.arange(32) % 10, digits.initialise(rng)
def step():
    activations = digits.forward(x, parameters)
    gradients = digits.backward(x, labels, parameters, activations)
    digits.step(parameters, [np.zeros_like(p) for p in parameters], gradients, 0.05)
print(json.dumps([timed(step), memory()]))
"""
TINY = """
x, image, weight = np.ones(16, np.float32), np.ones((1, 1, 8, 8), np.float32), np.ones((1, 1, 3, 3), np.float32)
python = {"relu": lambda: fc.relu(x), "conv2d": lambda: fc.conv2d(image, weight)}
@numba.njit
def many_relu(x, weight, count):
    for _ in range(count):
        fc.relu(x)
@numba.njit
def many_conv2d(x, weight, count):
    for _ in range(count):
        fc.conv2d(x, weight)
compiled = {"relu": lambda n: many_relu(x, weight, n), "conv2d": lambda n: many_conv2d(image, weight, n)}
times = {}
for name, call in python.items():
    call(), compiled[name](3)
    repeated = [timed(lambda: [call() for _ in range(2000)]) for _ in range(9)]
    times[name] = [min(repeated) / 2000, min(timed(lambda: compiled[name](2000)) for _ in range(9)) / 2000]
print(json.dumps(times))
"""
FAMILIES = {
    "convolutions": ("conv",),
    "poolings": ("max_", "avg_", "sum_", "lp_", "adaptive_", "global_"),
    "activation, dense layer, softmax, loss": ("relu", "leaky_relu", "linear", "softmax", "log_softmax", "cross"),
    "every operation": ("",),
}


def run(script: str, cache: str, *arguments: object) -> Any:
    """What the script prints as JSON, in a process of its own."""
    environment = {**os.environ, "FASTCONV_CACHE_DIR": cache, "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
    command = [sys.executable, "-c", START + script, *map(str, arguments)]
    done = subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def cold_and_kept(script: str, *arguments: object) -> tuple[Any, Any]:
    """The script with an empty cache, and with the one that it has left."""
    with tempfile.TemporaryDirectory() as cache:
        return run(script, cache, *arguments), run(script, cache, *arguments)


def first_calls() -> None:
    """A line for each operation on two axes, and for those on any number."""
    print("| operation | cold, s | from the cache, s | memory, MB |\n| --- | --- | --- | --- |")
    for prefixes in tqdm(list(FAMILIES.values())[:-1], unit="family", leave=False):
        for name, (cold, kept, memory) in run(FIRST, "", *prefixes).items():
            print(f"| {name} | {cold:.2f} | {kept:.3f} | {memory:.0f} |", flush=True)


def families() -> None:
    """Whole families in one process."""
    print("| in one process | cold, s | memory, MB | from the cache, s | memory, MB | cache files | MB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, prefixes in tqdm(FAMILIES.items(), unit="family", leave=False):
        with tempfile.TemporaryDirectory() as cache:
            (cold, much), (kept, little) = run(ALL, cache, *prefixes), run(ALL, cache, *prefixes)
            sizes = [path.stat().st_size for path in pathlib.Path(cache).rglob("*.nbc")]
        row = f"{cold:.1f} | {much:.0f} | {kept:.2f} | {little:.0f} | {len(sizes)} | {sum(sizes) / 1e6:.1f}"
        print(f"| {name} | {row} |", flush=True)
    (cold, much), (kept, little) = cold_and_kept(STEP)
    print(f"| a training step of `digits.py` | {cold:.1f} | {much:.0f} | {kept:.2f} | {little:.0f} | | |")


def main() -> None:
    """Print the page."""
    versions = f"Python {platform.python_version()}, NumPy {np.__version__}, Numba {numba.__version__}"
    print("# Start-up, memory and overhead\n\nMade by `benchmarks/startup.py`.")
    print(f"{processor()}, {versions}, llvmlite {llvmlite.__version__}; float32, processor time of one thread.\n")
    imports = [run(IMPORT, "") for _ in range(7)]
    seconds, before, after = (statistics.median(values) for values in zip(*imports, strict=True))
    print(
        f"`import fastconv` after Numba: {seconds * 1e3:.0f} ms, {after - before:.0f} MB more than its {before:.0f}.\n"
    )
    print("| tiny call | from Python, us | from compiled code, us |\n| --- | --- | --- |")
    for name, times in run(TINY, "").items():
        print(f"| {name} | {times[0] * 1e6:.1f} | {times[1] * 1e6:.1f} |")
    print("\n## In one process\n\nMemory of the digits' step has scikit-learn and Matplotlib in it.\n")
    families()
    print("\n## The first call\n\nThe slowest of an operation's small calls, in a process that has made no other.\n")
    first_calls()


if __name__ == "__main__":
    main()
