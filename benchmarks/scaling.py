"""How convolution scales to 64 cores: a model of shares that are really run, one after the other, on one core.

    python benchmarks/scaling.py --algorithm direct
    python benchmarks/scaling.py --algorithm direct --check

A kernel is a serial function that does one worker's share, so each share of a call on 64 threads can be timed alone.
The model adds what a call takes outside of kernels, the slowest share of each kernel, and the start of its threads:

    T(W) = one thread alone + sum over kernels of (start(workers) + longest share), workers = min(W, its tasks)

It knows nothing of what cores do to each other: of memory that they share it says how much they ask for, the bytes of
input, weight and result by T(64), the weight once for each worker. ``--check`` runs calls on one and on two threads,
interleaved, and prints what was measured beside what the model says.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

THREADS = (2, 4, 8, 16, 32, 64)
os.environ["NUMBA_NUM_THREADS"] = str(THREADS[-1])  # none is started that is not asked for

import numba
import numpy as np
from cases import Case, Source, conv
from compare import keep_memory, markdown, processor

import fastconv as fc
from fastconv.cpu import _jit

ROUNDS = 5


# ------------------------------------------------------------------------------------------------------------- shares
class Launch(NamedTuple):
    """A kernel that was started, its arguments, and how many workers it would have on 64 cores."""

    core: Any
    args: tuple[Any, ...]
    workers: int


class Recorder:
    """Takes down what would be started on several threads; runs it on one, or not at all."""

    def __init__(self, runs: bool) -> None:
        self.launches: list[Launch] = []
        self.runs = runs

    def start(self, core: Any, workers: int, args: tuple[Any, ...]) -> None:
        """In place of several threads."""
        self.launches.append(Launch(core, args, workers))
        if self.runs:
            core(0, 1, *args)


@contextlib.contextmanager
def recorded(runs: bool = True) -> Iterator[list[Launch]]:
    """Calls take down what they would start on 64 threads."""
    recorder, start = Recorder(runs), _jit.start
    _jit.start = recorder.start
    numba.set_num_threads(THREADS[-1])
    try:
        yield recorder.launches
    finally:
        _jit.start = start
        numba.set_num_threads(1)


def least(call: Callable[[], Any], rounds: int = ROUNDS, clock: Callable[[], float] = time.thread_time) -> float:
    """The shortest of some times, of this thread alone."""
    times = []
    for _ in range(rounds):
        start = clock()
        call()
        times.append(clock() - start)
    return min(times)


def shares(launch: Launch, threads: int) -> list[float]:
    """Seconds of every worker's share."""
    workers = min(threads, launch.workers)
    return [
        least(lambda worker=worker: launch.core(worker, workers, *launch.args))  # type: ignore[misc]
        for worker in range(workers)
    ]


# ---------------------------------------------------------------------------------------------------------- the model
class Layer(NamedTuple):
    """A case with its call and what it starts on 64 threads."""

    case: Case
    call: Callable[[], Any]
    launches: list[Launch]
    seconds: float  # of the call on one thread
    alone: float  # of them before, between and after what several threads do


class Model(NamedTuple):
    """What a call takes on so many threads, and what keeps it from W times the speed of one."""

    work: float  # of one thread, over W
    alone: float  # the part of the call that one thread does: Python, small kernels
    starts: float
    waiting: float  # of an average worker for the slowest
    again: float  # what shares do beyond the work of one worker, such as reading the same box
    idle: float  # of threads that get no work, since a share would be too small

    @property
    def seconds(self) -> float:
        return sum(self)

    @property
    def obstacle(self) -> str:
        names = "one thread alone", "starting threads", "uneven shares", "work done twice", "too small"
        return max(zip(self[1:], names, strict=True))[1]


def model(layer: Layer, start: float, threads: int) -> Model:
    """Shares are scaled to what the call takes on one thread: in a call their memory is new, or out of the caches."""
    whole = [shares(launch, 1)[0] for launch in layer.launches]
    scale = (layer.seconds - layer.alone) / sum(whole) if whole else 0.0
    starts, waiting, again, idle = 0.0, 0.0, 0.0, 0.0
    for launch, one in zip(layer.launches, whole, strict=True):
        parts = shares(launch, threads)
        mean, count = sum(parts) / len(parts), len(parts)
        starts += start * math.log2(count)  # as a tree of threads wakes and waits
        waiting += (max(parts) - mean) * scale
        again += (mean - one / count) * scale
        idle += (one / count - one / threads) * scale
    work = (layer.seconds - layer.alone) / threads
    return Model(work, layer.alone, starts, waiting, max(again, 0.0), idle)


@_jit.compiled
def _nothing(worker, workers, x):  # type: ignore[no-untyped-def]
    x[worker] = worker


def start_of_threads() -> float:
    """Seconds by which a kernel of two workers without work takes longer than of one."""
    x = np.zeros(2, np.int64)
    numba.set_num_threads(2)
    _jit.launch(_nothing, 2, x), _jit.launch(_nothing, 1, x)
    several = [least(lambda: _jit.launch(_nothing, 2, x), 1, time.perf_counter) for _ in range(2000)]
    return statistics.median(several) - least(lambda: _jit.launch(_nothing, 1, x), 2000, time.perf_counter)


def layers(options: argparse.Namespace) -> Iterator[Layer]:
    names = options.layers.split(",")
    for case in conv(Source("float32")):
        if case.operation.endswith("_packed") or not any(name in case.layer for name in names):
            continue
        if options.passes and case.pass_ not in options.passes.split(","):
            continue
        function, arguments, keywords = getattr(fc, case.operation), case.arguments, dict(case.options)
        assert case.spec is not None
        if not case.spec.depthwise:
            keywords["algorithm"] = options.algorithm

        def call(function: Any = function, arguments: Any = arguments, keywords: Any = keywords) -> Any:
            return function(*arguments, **keywords)

        call()
        with recorded() as launches:
            call()
        seconds = least(call, 2 * ROUNDS)
        with recorded(runs=False):
            alone = least(call, 4 * ROUNDS) if launches else seconds
        yield Layer(case, call, launches, seconds, alone)


HEADER = ["layer", "pass", "ms", "workers", *(str(w) for w in THREADS), "what is lost most at 64", "GB/s at 64"]


def row(layer: Layer, start: float) -> list[str]:
    models = {w: model(layer, start, w) for w in THREADS}
    last, workers = models[THREADS[-1]], max((launch.workers for launch in layer.launches), default=1)
    weight = 4 * math.prod(layer.case.spec.weight_shape) if layer.case.spec else 0
    moved = layer.case.moved + (workers - 1) * weight
    speedups = [f"{layer.seconds / each.seconds:.1f}" for each in models.values()]
    return [
        layer.case.layer, layer.case.pass_, f"{layer.seconds * 1e3:.3g}", str(workers), *speedups, last.obstacle,
        f"{moved / last.seconds / 1e9:.0f}",
    ]  # fmt: skip


def checked(layer: Layer, start: float, rounds: int) -> list[str]:
    """One and two threads in turn, and the model's word."""
    times: dict[int, list[float]] = {1: [], 2: []}
    count = max(1, int(0.02 / layer.seconds))
    for _ in range(rounds):
        for threads, series in times.items():
            numba.set_num_threads(threads)
            layer.call()
            series.append(least(lambda: [layer.call() for _ in range(count)], 1, time.perf_counter) / count)
    numba.set_num_threads(1)
    one, two = (statistics.median(series) for series in times.values())
    best, said = min(times[1]) / min(times[2]), layer.seconds / model(layer, start, 2).seconds
    return [layer.case.layer, layer.case.pass_, f"{one * 1e3:.3g}", f"{one / two:.2f}", f"{best:.2f}", f"{said:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithm", choices=("direct", "auto"), default="direct")
    parser.add_argument("--layers", default="", help="only layers whose name contains one of these; commas between")
    parser.add_argument("--passes", default="", help="of forward, backward_input, backward_weight")
    parser.add_argument("--check", action="store_true", help="measure one and two threads")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--markdown", type=pathlib.Path, metavar="FILE", help="also write the table to a file")
    options = parser.parse_args()
    keep_memory()
    start = start_of_threads()
    title = f"{processor()}, algorithm={options.algorithm!r}; starting two threads takes {start * 1e6:.1f} us"
    measured = ["layer", "pass", "ms", "median of 2 over 1", "least of 2 over 1", "model"]
    header, rows = measured if options.check else HEADER, []
    print(title, " | ".join(header), sep="\n")
    for layer in layers(options):
        rows.append(checked(layer, start, options.rounds) if options.check else row(layer, start))
        print(" | ".join(rows[-1]), flush=True)
    if options.markdown:
        command = " ".join(["python", "benchmarks/scaling.py", *sys.argv[1:]])
        options.markdown.write_text(f"`{command}`\n\n" + markdown(title, header, rows))


if __name__ == "__main__":
    main()
