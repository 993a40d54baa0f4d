"""Where the time of a convolution goes: its forward pass with one part of the kernel left out, beside the whole.

    python benchmarks/floors.py --algorithm direct

Each process replaces one part of the kernels by nothing before they are compiled: the products, the stores to the
caller's array (with bias and ReLU), the panels that boxes are read into, or the packing of the weight. Results are
then wrong, and the time that is missing is what the part takes, as far as nothing else hides it: parts need not add up
to the whole. Processes take turns, layer by layer. Floors are those of ``compare.py``; layers below 90 % of theirs are
printed with their parts, or all with ``--all``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

PARTS = {
    "products": (
        "conv.tile",
        "conv.tall_tile",
        "conv_pixels.tile",
        "conv_pixels.few_rows_tile",
        "pointwise.tile",
        "depthwise.sum_taps",
        "group_sums.sum_group",
    ),
    "stores": (
        "conv.store_tile",
        "conv.expect_tile",
        "conv_pixels._store_rows",
        "pointwise._store",
        "pointwise._expect",
        "depthwise._store_rows",
        "group_sums.move_rows_out",
    ),
    "panels": (
        "conv.read_box",
        "conv_pixels.read_box",
        "pointwise._read_block",
        "depthwise.fill_panel",
        "group_sums.fill_panel",
    ),
    "packing": ("conv._pack", "weights.pack_segment"),
}
WHOLE = "whole"
SECONDS = 0.01  # that a layer is timed for at a time


# ------------------------------------------------------------------------------------------------- a process for a part
def leave_out(part: str) -> None:
    """Put a function that does nothing in the place of the part's, before anything is compiled."""
    from fastconv.cpu import _jit

    def nothing(*args):  # type: ignore[no-untyped-def]
        pass

    for place in PARTS.get(part, ()):
        module, _, name = place.partition(".")
        module = importlib.import_module(f"fastconv.cpu.{module}")
        there = getattr(module, name)
        setattr(module, name, unread(there) if name == "read_box" else _jit.inlined(nothing))


def unread(read_box: Any) -> Any:
    """The panel's address alone; a box that is read in place stays where it is."""
    from fastconv.cpu import _jit
    from fastconv.cpu.plan import phase_header
    from fastconv.cpu.pointers import aligned, pointer

    def address(reader, plan, phase, box, group):  # type: ignore[no-untyped-def]
        if phase_header(plan, phase).in_place:
            return read_box(reader, plan, phase, box, group)
        return aligned(pointer(reader.panel, 0))

    return _jit.inlined(address)


def serve(part: str, algorithm: str) -> None:
    """For every name of a layer, a line with its seconds, floors, and share of the peak's time."""
    leave_out(part)
    from cases import Source, conv
    from compare import keep_memory
    from peers import FastConv

    from fastconv.cpu.peak import copy_rate, fma_peak

    keep_memory()
    own, calls = FastConv(1, algorithm), {}
    for case in conv(Source("float32")):
        if case.pass_ == "forward":
            calls[case.layer] = case, own.prepare(case.operation, case.arguments, case.options)
    for line in sys.stdin:
        case, call = calls[line.strip()]
        call()
        count, start = 0, time.thread_time()
        while count == 0 or time.thread_time() - start < SECONDS:
            call()
            count += 1
        seconds = (time.thread_time() - start) / count
        peak, rate = (f(g, clock=time.thread_time) for f, g in ((fma_peak, "float32"), (copy_rate, case.moved)))
        print(json.dumps([seconds, case.flops / peak / 1e9, case.moved / rate / 1e9]), flush=True)


# -------------------------------------------------------------------------------------------------------- all processes
class Row(NamedTuple):
    """What is known of a layer."""

    layer: str
    seconds: float
    floor: str
    share: float
    parts: dict[str, float]  # of the time

    def markdown(self) -> str:
        parts = " | ".join(f"{share:.0%}" for share in self.parts.values())
        return f"| {self.layer} | {self.seconds * 1e3:.3g} | {self.floor} | {self.share:.0%} | {parts} |"


def measured(ask: Callable[[str, str], list[float]], layer: str, rounds: int) -> Row:
    """Shares of times that were taken in the same round."""
    times: list[dict[str, list[float]]] = [{part: ask(part, layer) for part in (WHOLE, *PARTS)} for _ in range(rounds)]
    seconds, arithmetic, memory = map(statistics.median, zip(*(each[WHOLE] for each in times), strict=True))
    floor = "arithmetic" if arithmetic > memory else "memory"
    share = statistics.median(max(each[WHOLE][1:]) / each[WHOLE][0] for each in times)
    parts = {part: statistics.median(1 - each[part][0] / each[WHOLE][0] for each in times) for part in PARTS}
    return Row(layer, seconds, floor, share, parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithm", choices=("direct", "auto"), default="direct")
    parser.add_argument("--layers", default="", help="only layers whose name contains one of these; commas between")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--all", action="store_true", help="layers at 90 % of their floor, too")
    parser.add_argument("--serve", choices=(WHOLE, *PARTS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.algorithm)
        return
    from benchmarks.layers import CONV_LAYERS

    processes = {part: start(part, options.algorithm) for part in (WHOLE, *PARTS)}

    def ask(part: str, layer: str) -> list[float]:
        stdin, stdout = processes[part].stdin, processes[part].stdout
        assert stdin is not None
        assert stdout is not None
        print(layer, file=stdin, flush=True)
        return list(json.loads(stdout.readline()))

    print("| layer | ms | floor | of floor | " + " | ".join(PARTS) + " |\n" + "| --- " * (4 + len(PARTS)) + "|")
    for layer in CONV_LAYERS:
        if any(name in layer.name for name in options.layers.split(",")):
            row = measured(ask, layer.name, options.rounds)
            if options.all or row.share < 0.9:
                print(row.markdown(), flush=True)
    for process in processes.values():
        process.communicate()


def start(part: str, algorithm: str) -> subprocess.Popen[str]:
    """Nothing that lacks a part may be kept on disk."""
    kept = {} if part == WHOLE else {"FASTCONV_CACHE_DIR": ""}
    command = [sys.executable, str(pathlib.Path(__file__)), "--serve", part, "--algorithm", algorithm]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env={**os.environ, **kept})


if __name__ == "__main__":
    main()
