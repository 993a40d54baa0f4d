"""Floors of the convolutions' forward pass on an H100 (SXM), on paper: no GPU is needed, and nothing is timed.

    python benchmarks/roofline.py

For each layer: the work, the bytes that kernels move (packing of channels-first images and of the weight counted), the
tile that is chosen, how evenly its blocks divide among multiprocessors, and the larger of two times: arithmetic at the
peak, less what tiles waste and less the instructions of the loop that are no multiply-adds, and memory at its peak.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from benchmarks.layers import CONV_LAYERS, ConvLayer

from fastconv import cuda
from fastconv.cuda import _jit, conv
from fastconv.cuda.vector import lanes

PROCESSORS, BANDWIDTH = 132, 3.35e12  # NVIDIA H100 Tensor Core GPU data sheet, SXM5; bytes per second
PEAKS = {"float32": 66.9e12, "tf32": 494.7e12, "float16": 989.4e12}  # dense, operations per second
LOOP = {128: 0.862, 64: 0.775, 32: 0.683}  # multiply-adds of the loop on sm_90, by rows of the tile, in float32


class Floor(NamedTuple):
    """What a layer takes at least."""

    moved: int
    tile: str
    blocks: int
    even: float  # blocks of a multiprocessor on average, over those of the busiest
    useful: float  # part of the tiles' products that is asked for
    arithmetic: float  # seconds
    memory: float


class H100:
    """An executor that only says what it is."""

    capability = (9, 0)


def floor(layer: ConvLayer, precision: str) -> Floor:
    dtype = np.dtype("float16" if precision == "float16" else "float32")
    rows, width = layer.out_channels // layer.groups, lanes(dtype)
    channels = -(-layer.in_channels // layer.groups // width) * width
    taps = math.prod(layer.weight_shape[2:])
    pixels = layer.output_shape[0] * math.prod(layer.output_shape[2:])
    with _jit.running_on(H100()), cuda.precision("tf32" if precision == "tf32" else "float32"):
        shape, down, across = conv._tiles(dtype, rows, pixels, layer.groups)
    depth = -(-taps * channels // shape.depth_of(dtype.itemsize)) * shape.depth_of(dtype.itemsize)
    blocks = layer.groups * down * across
    done = 2 * blocks * shape.rows * shape.columns * depth
    packed = layer.input_shape[0] * math.prod(layer.input_shape[2:]) * layer.groups * channels
    inputs, weights = math.prod(layer.input_shape), math.prod(layer.weight_shape)
    moved = dtype.itemsize * (inputs + 2 * packed + 3 * weights + math.prod(layer.output_shape))
    even = blocks / (-(-blocks // PROCESSORS) * PROCESSORS)
    share = LOOP[shape.rows] if precision == "float32" else 1.0  # tensor cores run beside the other instructions
    arithmetic = done / (PEAKS[precision] * share * even)
    return Floor(
        moved, f"{shape.rows} x {shape.columns}", blocks, even, layer.flops / done, arithmetic, moved / BANDWIDTH
    )


def main() -> None:
    print("| layer | GFLOP | MB | FLOP/byte | tile | blocks | even | products asked for | float32 | TF32 | float16 |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for layer in CONV_LAYERS:
        small = layer.groups > 1 and math.prod(layer.weight_shape[:2]) // layer.groups <= conv.FEW
        if small:
            continue  # depthwise and the like: memory is their only floor
        floors = {precision: floor(layer, precision) for precision in PEAKS}
        first = floors["float32"]
        times = (
            f"{1e6 * max(f.arithmetic, f.memory):.0f} us{' (memory)' if f.memory > f.arithmetic else ''}"
            for f in floors.values()
        )
        print(
            f"| {layer.name} | {layer.flops / 1e9:.2f} | {first.moved / 1e6:.1f} | {layer.flops / first.moved:.0f} | "
            f"{first.tile} | {first.blocks} | {first.even:.0%} | {first.useful:.0%} | {' | '.join(times)} |"
        )


if __name__ == "__main__":
    main()
