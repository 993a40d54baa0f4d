"""fastconv's kernels beside PyTorch's cuDNN on a CUDA device: time, GFLOP/s, share of the measured peak, and the ratio.

Both get the same tensors on the device. Results are compared before anything is timed; each contender is called until
it is warm (compiled, its algorithm chosen), and then timed by events on the device, turn by turn. Times are medians.
cuDNN may choose among its algorithms (``cudnn.benchmark``); TF32 is off, as fastconv computes in float32. The peak is
that of a kernel of multiply-add chains on this device, in the same minutes.

    python benchmarks/gpu.py --ops conv,pool --markdown docs/gpu.md
"""

from __future__ import annotations

import argparse
import importlib.util
import pathlib
import statistics
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

CHAINS, STEPS = 8, 4096  # independent multiply-adds of a thread, and how many each chain has
Call = Callable[[], Any]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--ops", default="conv,conv_transpose,pool,activation,loss,linear", help="of these; commas between"
    )
    parser.add_argument("--layers", default="", help="only layers whose name contains one of these")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--markdown", type=pathlib.Path, metavar="FILE", help="also write the table to a file")
    return parser.parse_args()


# ------------------------------------------------------------------------------------------------------------ measuring
class Result(NamedTuple):
    """A case's median seconds for each contender."""

    case: Any
    ours: float
    theirs: float | None


def seconds(torch: Any, call: Call) -> float:
    """Time of one call on the device."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000


def medians(torch: Any, calls: list[Call], rounds: int) -> list[float]:
    """Median seconds of each call; they take turns, so that a change of the clock meets all."""
    for call in calls * 3:
        call()
    torch.cuda.synchronize()
    times = [[seconds(torch, call) for call in calls] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def chains_of(dtype: str) -> Any:
    """The kernel of :func:`peak`, whose loop is multiply-adds and next to nothing else."""
    from fastconv.cuda._jit import cuda, device, kernel, types, u32

    number = getattr(types, dtype)

    @device
    def step(sums, x):  # type: ignore[no-untyped-def]
        a, b, c, d, e, f, g, h = sums
        return a * x + x, b * x - x, c * x + a, d * x - b, e * x + c, f * x - d, g * x + e, h * x - f

    @device
    def eight(sums, x):  # type: ignore[no-untyped-def]
        sums = step(step(step(step(sums, x), x), x), x)
        return step(step(step(step(sums, x), x), x), x)

    @kernel
    def chains(out, factor):  # type: ignore[no-untyped-def]
        start, x, n = number(cuda.threadIdx.x), number(factor), u32(0)
        sums = start, start, start, start, start, start, start, start
        while n < u32(STEPS):  # 98 % of the loop's instructions are multiply-adds
            n = u32(n + u32(32))
            sums = eight(eight(eight(eight(sums, x), x), x), x)
        a, b, c, d, e, f, g, h = sums
        out[cuda.grid(1)] = a + b + c + d + e + f + g + h

    return chains


def peak(torch: Any, dtype: str, rounds: int) -> float:
    """Floating-point operations per second of chains of multiply-adds that wait for nothing else."""
    chains = chains_of(dtype)
    blocks = 16 * torch.cuda.get_device_properties(0).multi_processor_count
    out = torch.empty(blocks * 256, dtype=getattr(torch, dtype), device="cuda")
    (time,) = medians(torch, [lambda: chains[blocks, 256](out, 0.999)], rounds)
    return 2 * CHAINS * STEPS * blocks * 256 / time


def what_is_missing() -> str | None:
    """What keeps this script from running on this machine, or None."""
    import fastconv

    if importlib.util.find_spec("torch") is None:
        return "PyTorch with CUDA is not installed"
    import torch

    if not torch.cuda.is_available():
        return "PyTorch finds no CUDA device"
    if not fastconv.cuda.is_available():
        return "fastconv[cuda12] or fastconv[cuda13] is not installed, or finds no CUDA device"
    return None


# ---------------------------------------------------------------------------------------------------------------- cases
def selected(options: argparse.Namespace) -> Iterator[Any]:
    """The cases asked for, without those of packed weights."""
    import cases

    source = cases.Source(options.dtype)
    for family in options.ops.split(","):
        for case in getattr(cases, family)(source):
            wanted = any(name in case.layer for name in options.layers.split(","))
            if wanted and not cases.is_packed(case.operation):
                yield case


def agree(ours: Any, theirs: Any) -> None:
    """Both computed the same, up to the rounding of long sums."""
    pairs = zip(*(x if isinstance(x, tuple) else (x,) for x in (ours, theirs)), strict=True)
    for one, other in pairs:
        scale = float(other.abs().max()) or 1.0
        error = float((one - other).abs().max())
        if not error <= 1e-3 * scale:
            raise AssertionError(f"results differ by {error} where the largest is {scale}")


def measure(torch: Any, case: Any, rounds: int) -> Result:
    import peers

    import fastconv

    tensors = [torch.from_numpy(a).cuda() if isinstance(a, np.ndarray) else a for a in case.arguments]
    options = {} if case.operation == "max_pool2d_backward" else case.options  # the indices say what the window would
    function = getattr(fastconv, case.operation)
    calls: list[Call] = [lambda: function(*tensors, **options)]
    peer = peers.PyTorch(1, "cuda").prepare(case.operation, case.arguments, case.options)
    if peer is not None:
        agree(calls[0](), peer())
        calls.append(peer)
    ours, *theirs = medians(torch, calls, rounds)
    return Result(case, ours, theirs[0] if theirs else None)


# --------------------------------------------------------------------------------------------------------------- report
HEAD = (
    "| layer | operation | fastconv ms | cuDNN ms | cuDNN / fastconv | GFLOP/s | of the peak | GB/s |",
    "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
)


def rows(results: list[Result], peak: float) -> Iterator[str]:
    for case, ours, theirs in results:
        other = ("", "") if theirs is None else (f"{1e3 * theirs:.3f}", f"{theirs / ours:.2f}")
        rate = (f"{case.flops / ours / 1e9:.0f}", f"{case.flops / ours / peak:.0%}") if case.flops else ("", "")
        moved = f"{case.moved / ours / 1e9:.0f}" if case.moved else ""
        cells = (case.layer, case.operation, f"{1e3 * ours:.3f}", *other, *rate, moved)
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    options = arguments()
    if missing := what_is_missing():
        sys.exit(f"nothing can be measured here: {missing}")
    import torch

    import fastconv

    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    highest = peak(torch, options.dtype, options.rounds)
    results = []
    print(*HEAD, sep="\n")
    for case in selected(options):
        results.append(measure(torch, case, options.rounds))
        print(*rows(results[-1:], highest), sep="\n", flush=True)
    head = f"{torch.cuda.get_device_name()}, {options.dtype}, peak of multiply-adds {highest / 1e12:.1f} TFLOP/s, "
    head += f"PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}, fastconv {fastconv.__version__}"
    print("", head, sep="\n")
    if options.markdown:
        options.markdown.write_text("\n".join([head, "", *HEAD, *rows(results, highest)]) + "\n")


if __name__ == "__main__":
    main()
