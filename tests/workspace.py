"""Measures the memory that a convolution takes beside its arrays: ``python -m tests.workspace`` prints a line per case.

A process of its own, because the peak of a process counts: Linux forgets the last peak when it is told to.
"""

import ctypes
import pathlib

import numpy as np

import fastconv as fc

STATUS = pathlib.Path("/proc/self/status")


def kilobytes(field):
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1])


def return_what_is_freed():
    """Tell glibc to give large blocks back to the system at once; else one that was freed before hides a new one."""
    ctypes.CDLL(None).mallopt(-3, 1 << 16)  # M_MMAP_THRESHOLD


def peak(call):
    """Bytes that the process grew by while ``call`` ran, at most."""
    ctypes.CDLL(None).malloc_trim(0)
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = kilobytes("VmRSS")
    call()
    return max(0, kilobytes("VmHWM") - before) * 1024


CASES = {  # shapes of x and of the weight, options
    "2-D": ((1, 64, 224, 224), (64, 64, 3, 3), {"padding": 1}),
    "2-D, stride 2": ((1, 64, 224, 224), (64, 64, 3, 3), {"padding": 1, "stride": 2}),
    "2-D, pointwise": ((1, 64, 224, 224), (64, 64, 1, 1), {}),
    "2-D, depthwise": ((1, 64, 224, 224), (64, 1, 3, 3), {"padding": 1, "groups": 64}),
    "1-D, Fourier transforms": ((1, 64, 50176), (64, 64, 128), {"padding": 64}),
    "3-D": ((1, 32, 24, 56, 56), (32, 32, 3, 3, 3), {"padding": 1}),
}


def calls(x, weight, options, algorithm):
    """Every pass with its result's memory there."""
    rank = x.ndim - 2
    forward, backward_input, backward_weight = (
        getattr(fc, f"conv{rank}d{which}") for which in ("", "_backward_input", "_backward_weight")
    )
    options = {**options, "algorithm": algorithm}
    y = forward(x, weight, **options)
    outs = np.ones_like(y), np.ones_like(x), np.ones_like(weight)
    yield "forward", lambda: forward(x, weight, **options, out=outs[0])
    yield "backward_input", lambda: backward_input(y, weight, x.shape, **options, out=outs[1])
    yield "backward_weight", lambda: backward_weight(y, x, weight.shape, **options, out=outs[2])


def main():
    return_what_is_freed()
    print(f"32 MiB of ones: {peak(lambda: np.ones(1 << 22))} {1 << 25}")
    for dtype in (np.float32, np.float16):
        for name, (x_shape, weight_shape, options) in CASES.items():
            rng = np.random.default_rng(0)
            x, weight = (rng.standard_normal(shape, np.float32).astype(dtype) for shape in (x_shape, weight_shape))
            padded = x.itemsize * x.shape[1] * np.prod([n + 2 * options.get("padding", 0) for n in x.shape[2:]])
            for algorithm in ("auto", "direct"):
                for pass_, call in calls(x, weight, options, algorithm):
                    call()  # compiles what a smaller image may not need
                    print(f"{np.dtype(dtype)} {name} {algorithm} {pass_}: {peak(call)} {padded}", flush=True)


if __name__ == "__main__":
    main()
