"""fastconv beside PyTorch, NumPy, ONNX Runtime and OpenVINO in one run: time, GFLOP/s, floors and ratios.

Each case has two floors: its operations at the peak, and the bytes of its arrays at the speed of a copy of as many
bytes. The larger one binds, and the table says which it is, and what share of the time it is.

Arrays are channels-first going in and coming out, and whatever a library does to them in between is timed. Every
contender gets the same arrays and the same number of threads, and their results are compared before anything is timed.
ONNX Runtime and OpenVINO prepare constant weights once, untimed: they are compared with packed weights, in the pass
forward_packed. PyTorch prepares none, so it is compared in both.

Times are medians over rounds; each round times every contender, and the machine's peak, once, so that a change of the
machine's speed meets them all alike. With one thread, times are the processor time of that thread, which leaves out
what other processes take; with more they are wall-clock time. Memory that is freed stays with the process (with glibc),
so that no contender waits for the system to hand out fresh pages.

    python benchmarks/compare.py --threads 1 --ops conv --algorithm direct
"""

from __future__ import annotations

import argparse
import ctypes
import math
import os
import pathlib
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

SLOT = 0.03  # seconds that a contender is timed for in a round, at least one call: the first ones pay for the change
REST = 0.005  # seconds before it: threads of the one before may spin for some milliseconds


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--ops", default="conv", help="of conv, conv_transpose, pool, activation, loss, linear; commas between"
    )
    parser.add_argument(
        "--passes", default="", help="of forward, forward_packed, backward, backward_input, backward_weight"
    )
    parser.add_argument("--layers", default="", help="only layers whose name contains one of these")
    parser.add_argument("--algorithm", choices=("direct", "auto"), default="auto", help="fastconv's convolution")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--quick", action="store_true", help="3 rounds")
    parser.add_argument("--no-peers", action="store_true", help="fastconv alone")
    parser.add_argument("--markdown", type=pathlib.Path, metavar="FILE", help="also write the tables to a file")
    return parser.parse_args()


Clock = Callable[[], float]


# ------------------------------------------------------------------------------------------------------------ measuring
class Result(NamedTuple):
    """A case's median seconds for each contender, and the median peak in its rounds."""

    case: Any
    seconds: dict[str, float]
    peak: float  # GFLOP/s
    rate: float  # GB/s of a copy of as many bytes

    @property
    def own(self) -> float:
        return self.seconds["fastconv"]

    @property
    def gflops(self) -> float:
        return self.case.flops / self.own / 1e9

    @property
    def share(self) -> float:
        """fastconv's share of the machine's peak."""
        return self.gflops / self.peak

    @property
    def floors(self) -> dict[str, float]:
        """Seconds that the operations take at the peak, and the bytes at the speed of a copy."""
        return {"arithmetic": self.case.flops / self.peak / 1e9, "memory": self.case.moved / self.rate / 1e9}

    @property
    def floor(self) -> str:
        """The floor that binds."""
        return max(self.floors, key=lambda name: self.floors[name])

    @property
    def of_floor(self) -> float:
        """Its share of the time; above 1 where an algorithm takes fewer products than the sums have."""
        return self.floors[self.floor] / self.own

    def against(self, peer: str) -> float:
        """How many times faster than ``peer`` fastconv is; NaN where the peer lacks the operation."""
        return self.seconds.get(peer, math.nan) / self.own

    @property
    def against_best(self) -> float:
        others = [seconds for name, seconds in self.seconds.items() if name != "fastconv"]
        return min(others) / self.own if others else math.nan


def flatten(value: Any) -> list[np.ndarray[Any, Any]]:
    """Every array of a result, flat and in float64."""
    if isinstance(value, (tuple, list)):
        return [array for item in value for array in flatten(item)]
    return [np.asarray(value, np.float64).reshape(-1)]


def check(case: Any, calls: dict[str, Callable[[], Any]]) -> None:
    """All contenders give the same result, up to rounding."""
    results = {name: flatten(call()) for name, call in calls.items()}
    reference = results.pop("fastconv")
    tolerance = 1e-4 if case.arguments[0].dtype == np.float32 else 1e-11
    for name, arrays in results.items():
        for ours, theirs in zip(reference, arrays, strict=False):
            if "indices" in case.layer and theirs is not arrays[0]:
                continue  # ONNX counts indices through the whole array
            error = float(np.abs(ours - theirs).max())
            if not error <= tolerance * max(float(np.abs(theirs).max()), 1.0):
                raise SystemExit(f"{case.layer} {case.operation}: fastconv and {name} differ by {error:g}")


def clock_for(threads: int) -> Clock:
    """Every contender does all its work on the calling thread where it may use only one."""
    fine = time.get_clock_info("thread_time").resolution <= 1e-6
    return time.thread_time if threads == 1 and fine else time.perf_counter


def keep_memory() -> None:
    """Tell glibc to reuse what is freed; other systems are left as they are."""
    if platform.libc_ver()[0] == "glibc":
        mallopt, trim_threshold, mmap_max = ctypes.CDLL(None).mallopt, -1, -4
        mallopt(trim_threshold, 1 << 30)
        mallopt(mmap_max, 0)  # a threshold has a maximum of 32 MiB: larger results would be fresh pages now and then


def timed(call: Callable[[], Any], count: int, clock: Clock) -> float:
    start = clock()
    for _ in range(count):
        call()
    return (clock() - start) / count


def measure(
    case: Any,
    contenders: Iterable[Any],
    rounds: int,
    clock: Clock,
    peak: Callable[[], float],
    rate: Callable[[int], float],
) -> Result | None:
    """Time ``case`` in interleaved rounds; None where fastconv lacks it."""
    prepared = {c.name: c.prepare(case.operation, case.arguments, case.options) for c in contenders}
    calls = {name: call for name, call in prepared.items() if call is not None}
    if "fastconv" not in calls:
        return None
    check(case, calls)
    counts = {name: max(1, min(1000, int(SLOT / timed(call, 1, clock)))) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    peaks, rates = [], []
    order = list(calls)
    for _ in range(rounds):
        peaks.append(peak())
        rates.append(rate(case.moved))
        for name in order:
            time.sleep(REST)
            calls[name]()  # untimed: brings back what the one before has pushed out of the caches
            times[name].append(timed(calls[name], counts[name], clock))
        order = order[1:] + order[:1]
    seconds = {name: statistics.median(series) for name, series in times.items()}
    return Result(case, seconds, statistics.median(peaks), statistics.median(rates))


# -------------------------------------------------------------------------------------------------------------- groups
class Group(NamedTuple):
    """Layers that are averaged together, by share of the peak or, for a ``peer``, by ratio to it or to the best."""

    title: str
    passes: tuple[str, ...]
    member: Callable[[Any], bool]
    peer: str | None = None


def inner(layer: Any) -> int:
    """Input channels that an output channel sees."""
    return int(layer.in_channels // layer.groups)


def is_3x3(layer: Any) -> bool:
    """The layers that most networks are made of."""
    usual = (layer.kernel, layer.stride, layer.dilation, layer.groups, len(layer.size)) == (3, 1, 1, 1, 2)
    return usual and min(layer.in_channels, layer.out_channels) >= 32


BEST = "best"
PASSES = ("forward", "backward_input", "backward_weight")
CONV_GROUPS = (
    Group("forward, 16 or more input channels, not depthwise", ("forward",), lambda layer: inner(layer) >= 16),
    Group(
        "backward_input, stride 1, 4 or more input channels, not depthwise",
        ("backward_input",),
        lambda layer: layer.stride == 1 and inner(layer) >= 4,
    ),
    Group(
        "backward_weight, 32 or more channels on both sides, not depthwise",
        ("backward_weight",),
        lambda layer: min(inner(layer), layer.out_channels // layer.groups) >= 32,
    ),
    *(
        Group(f"{name}, {title}against {'the best peer' if peer == BEST else peer}", (name,), member, peer)
        for title, member, names in (
            ("", lambda layer: True, (*PASSES, "forward_packed")),
            ("3x3, stride 1, 32 or more channels, ", is_3x3, ("forward",)),
            ("1 to 3 input channels, ", lambda layer: layer.in_channels <= 3, PASSES),
            ("depthwise, ", lambda layer: layer.depthwise, PASSES),
            ("32 groups, ", lambda layer: layer.groups == 32 and not layer.depthwise, PASSES),
        )
        for name in names
        for peer in (BEST if name == "forward_packed" else "PyTorch",)
    ),
)


def geometric_mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def group_rows(results: list[Result]) -> Iterator[list[str]]:
    for group in CONV_GROUPS:
        members = [r for r in results if r.case.spec and r.case.pass_ in group.passes and group.member(r.case.spec)]
        scored = [(score(r, group.peer), r) for r in members]
        scored = [pair for pair in scored if not math.isnan(pair[0])]
        if scored:
            yield [group.title, *summary(scored, "{:.1%}" if group.peer is None else "{:.2f} x")]


def score(result: Result, peer: str | None) -> float:
    if peer is None:
        return result.share
    return result.against_best if peer == BEST else result.against(peer)


def ratio_rows(results: list[Result]) -> Iterator[list[str]]:
    """Ratios to the best peer, for every operation and pass."""
    for operation in dict.fromkeys(r.case.operation for r in results):
        scored = [(r.against_best, r) for r in results if r.case.operation == operation]
        scored = [pair for pair in scored if not math.isnan(pair[0])]
        if scored:
            yield [f"{operation}, against the best peer", *summary(scored, "{:.2f} x")]


def summary(scored: list[tuple[float, Result]], form: str) -> list[str]:
    worst, result = min(scored, key=lambda pair: pair[0])
    mean = geometric_mean([score for score, _ in scored])
    return [str(len(scored)), form.format(mean), form.format(worst), result.case.layer]


# -------------------------------------------------------------------------------------------------------------- tables
def layer_row(result: Result, peers: list[str]) -> list[str]:
    case = result.case
    rate = f"{result.gflops:.1f}" if case.flops else ""
    share = f"{result.share:.1%}" if case.flops else ""
    row = [case.layer, case.operation, f"{result.own * 1e3:.4g}", rate, share, f"{case.moved / result.own / 1e9:.2f}"]
    row += [result.floor, f"{result.of_floor:.0%}"]
    for peer in peers:
        known = peer in result.seconds
        row += [f"{result.seconds[peer] * 1e3:.4g}", f"{result.against(peer):.2f}"] if known else ["", ""]
    return [*row, "" if math.isnan(result.against_best) else f"{result.against_best:.2f}"]


def layer_header(peers: list[str]) -> list[str]:
    header = ["layer", "operation", "ms", "GF/s", "of peak", "GB/s", "floor", "of floor"]
    for peer in peers:
        header += [f"{peer} ms", "ratio"]
    return [*header, "best ratio"]


WIDTHS = (19, 23, 9, 7, 8, 7, 10, 8)


def print_row(row: list[str], widths: tuple[int, ...] = WIDTHS) -> None:
    cells = [
        cell.ljust(width) if index < 2 else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    print("  ".join(cells).rstrip(), flush=True)


def markdown(title: str, header: list[str], rows: list[list[str]]) -> str:
    line = ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]
    return f"## {title}\n\n" + "\n".join(line) + "\n"


def processor() -> str:
    """The processor's name."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
        return next(line.partition(": ")[2] for line in text.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


# ------------------------------------------------------------------------------------------------------------- the run
def chosen(options: argparse.Namespace) -> Iterator[Any]:
    """The cases that the options ask for."""
    from cases import FAMILIES, Source

    layers, passes = options.layers.split(","), options.passes.split(",")
    for family in options.ops.split(","):
        if family not in FAMILIES:
            raise SystemExit(f"--ops must be of {', '.join(FAMILIES)}, got {family!r}")
        for case in FAMILIES[family](Source(options.dtype)):
            if any(name in case.layer for name in layers) and (passes == [""] or case.pass_ in passes):
                yield case


def run(options: argparse.Namespace) -> list[str]:
    """Measure and print; returns the tables as Markdown."""
    from peers import contenders

    from fastconv.cpu.peak import VECTOR_BYTES, copy_rate, fma_peak

    found = contenders(options.threads, options.algorithm)[: 1 if options.no_peers else None]
    names = [contender.name for contender in found[1:]]
    head = (
        f"{processor()}, {VECTOR_BYTES}-byte vectors, {options.threads} thread(s), {options.dtype}, "
        f"algorithm={options.algorithm!r}, Python {platform.python_version()}; "
        + ", ".join(f"{contender.name} {contender.version}" for contender in found)
    )
    print(head, "ratio: a peer's time over fastconv's, so above 1 fastconv is faster", sep="\n", end="\n\n")
    widths = (*WIDTHS, *(max(len(name) + 3, 9) if ms else 6 for name in names for ms in (True, False)), 10)
    print_row(layer_header(names), widths)
    results: list[Result] = []
    clock, rounds = clock_for(options.threads), 3 if options.quick else options.rounds
    for case in chosen(options):
        result = measure(
            case, found, rounds, clock, lambda: fma_peak(options.dtype, options.threads, clock=clock),
            lambda moved: copy_rate(moved, options.threads, clock=clock),
        )  # fmt: skip
        if result is not None:
            results.append(result)
            print_row(layer_row(result, names), widths)
    if not results:
        raise SystemExit("no case was measured: no layer, pass or operation matches, or fastconv lacks it")
    return [f"{head}\n", *report(results, names)]


def report(results: list[Result], names: list[str]) -> list[str]:
    """Print the summary; returns all tables as Markdown."""
    peaks = [result.peak for result in results]
    print(f"\nFMA peak, GF/s: median {statistics.median(peaks):.1f}, {min(peaks):.1f} to {max(peaks):.1f}")
    title = ["group", "layers", "geometric mean", "worst", "worst layer"]
    groups = [*group_rows(results), *ratio_rows(results)]
    print()
    for row in (title, *groups):
        print_row(row, (68, 6, 14, 8, 18))
    layers = [layer_row(result, names) for result in results]
    worst = sorted((r for r in results if not math.isnan(r.against_best)), key=lambda r: r.against_best)[:8]
    if worst:
        print("\nworst against the best peer:")
        for result in worst:
            print(f"  {result.case.layer:18} {result.case.operation:23} {result.against_best:.2f} x")
    return [markdown("Groups", title, groups), markdown("Layers", layer_header(names), layers)]


def main() -> None:
    options = arguments()
    if options.threads < 1:
        raise SystemExit(f"--threads must be at least 1, got {options.threads}")
    # Read when the libraries are imported, which happens below.
    os.environ["NUMBA_NUM_THREADS"] = str(max(options.threads, int(os.environ.get("NUMBA_NUM_THREADS", "1"))))
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    keep_memory()
    tables = run(options)
    if options.markdown:
        command = " ".join(["python", "benchmarks/compare.py", *sys.argv[1:]])
        options.markdown.write_text("\n".join([f"`{command}`\n", *tables]))


if __name__ == "__main__":
    main()
