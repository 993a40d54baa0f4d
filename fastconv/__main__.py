"""``python -m fastconv``: what is there, whether it computes right, and how fast."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import fastconv
from fastconv import cpu
from fastconv._bench import bench
from fastconv._precompile import precompile
from fastconv._selftest import selftest


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status is 1 where an operation computes wrong or nothing can be computed."""
    options = _parser().parse_args(arguments)
    return int(options.run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fastconv", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    as_json = argparse.ArgumentParser(add_help=False)
    as_json.add_argument("--json", action="store_true", help="print JSON")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, parents=[as_json])
        added.set_defaults(run=run)
        return added

    command("info", _info, "versions, processor, threads, cache and CUDA")
    test = command("selftest", _selftest, "check every operation against NumPy on this machine")
    test.add_argument("--cuda", action="store_true", help="on the CUDA device")
    speed = command("bench", _bench, "a table of speeds, in about a minute")
    speed.add_argument("--seconds", type=float, default=2.0, help="for each of 15 lines (default: 2)")
    ahead = command("precompile", _precompile, "compile ahead of the first call, for images and CI")
    ahead.add_argument("--ops", nargs="+", help="names of functions (default: all)")
    ahead.add_argument("--dtypes", nargs="+", default=["float32", "float64"], help="float32, float64 (default: both)")
    return parser


def _print(value: Any, as_json: bool, lines: list[str]) -> None:
    print(json.dumps(value) if as_json else "\n".join(lines), flush=True)


def _info(options: argparse.Namespace) -> int:
    facts = {"fastconv": fastconv.__version__, **cpu.describe(), "cuda": _cuda_state() or "available"}
    _print(facts, options.json, [f"{name:17} {value}" for name, value in facts.items()])
    return 0


def _cuda_state() -> str:
    """What is missing for CUDA arrays; nothing if they can be computed on."""
    if fastconv.cuda.is_available():
        return ""
    return 'not available: it takes an NVIDIA driver, a device, and "pip install fastconv[cuda12]" or "[cuda13]"'


def _selftest(options: argparse.Namespace) -> int:
    missing = _cuda_state() if options.cuda else ""
    if missing:
        _print({"passed": False, "missing": missing}, options.json, [f"CUDA is {missing}"])
        return 1
    results = list(selftest(options.cuda))
    passed = all(result.passed for result in results)
    lines = [
        f"{'ok' if r.passed else 'WRONG':6} {r.operation:30} {r.dtype:8} error {r.error:.1e} {r.message}".rstrip()
        for r in results
    ]
    wrong = sum(not result.passed for result in results)
    lines.append("all operations compute right" if passed else f"{wrong} of {len(results)} compute wrong")
    listed = [{**r._asdict(), "error": r.error if r.error < float("inf") else None} for r in results]
    _print({"passed": passed, "operations": listed}, options.json, lines)
    return 0 if passed else 1


def _bench(options: argparse.Namespace) -> int:
    speeds = list(bench(options.seconds))
    lines = [f"{'layer':26}{'pass':17}{'GFLOP/s':>9}{'of FMA peak':>13}"]
    lines += [f"{s.layer:26}{s.which:17}{s.gflops:9.1f}{s.share:12.0%} " for s in speeds]
    _print([speed._asdict() for speed in speeds], options.json, lines)
    return 0


def _precompile(options: argparse.Namespace) -> int:
    try:
        count = precompile(options.ops, options.dtypes, progress=not options.json)
    except (TypeError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    place = cpu.describe()["cache"]
    _print({"compiled": count, "cache": place}, options.json, [f"{count} compilations; they are kept in {place}"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
