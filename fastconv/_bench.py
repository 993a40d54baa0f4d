"""A table of speeds that takes about a minute."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import fastconv
from fastconv import cpu
from fastconv.cpu.peak import fma_peak

# Shapes of x and weight, and options, from networks that everybody knows.
LAYERS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "LeNet 5x5": ((64, 6, 14, 14), (16, 6, 5, 5), {}),
    "AlexNet 11x11, stride 4": ((8, 3, 224, 224), (64, 3, 11, 11), {"stride": 4, "padding": 2}),
    "VGG 3x3": ((4, 128, 56, 56), (128, 128, 3, 3), {"padding": 1}),
    "ResNet 1x1": ((8, 256, 28, 28), (64, 256, 1, 1), {}),
    "MobileNet 3x3 depthwise": ((8, 128, 56, 56), (128, 1, 3, 3), {"padding": 1, "groups": 128}),
}
PASSES = ("forward", "backward_input", "backward_weight")


class Speed(NamedTuple):
    """GFLOP/s of one pass of one layer. Winograd's algorithm may be above the peak: it multiplies less."""

    layer: str
    which: str
    gflops: float
    share: float


def bench(seconds: float = 2.0) -> Iterator[Speed]:
    """The speed of every layer's passes, about ``seconds`` for each, in float32 on all of Numba's threads."""
    peak = fma_peak("float32", cpu.threads(), 0.1)
    for layer, (x_shape, weight_shape, options) in LAYERS.items():
        x, weight = np.ones(x_shape, np.float32), np.ones(weight_shape, np.float32)
        grad_out = fastconv.conv2d(x, weight, **options)
        operations = 2 * grad_out.size * weight[0].size
        calls = (
            partial(fastconv.conv2d, x, weight, **options),
            partial(fastconv.conv2d_backward_input, grad_out, weight, x.shape, **options),
            partial(fastconv.conv2d_backward_weight, grad_out, x, weight.shape, **options),
        )
        for which, call in zip(PASSES, calls, strict=True):
            gflops = operations / _fastest(call, seconds) / 1e9
            yield Speed(layer, which, round(gflops, 1), round(gflops / peak, 3))


def _fastest(call: Callable[[], Any], seconds: float) -> float:
    call()
    fastest, end = np.inf, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        fastest = min(fastest, time.perf_counter() - start)
    return fastest
