"""Floors of the convolutions' forward pass on an H100 (SXM), on paper: no GPU is needed, and nothing is timed.

    python benchmarks/roofline.py

For each layer: the work, the bytes that kernels move (packing of channels-first images and of the weight counted), the
tile that is chosen, how evenly its blocks divide among multiprocessors, how many of a multiprocessor's 64 warps there
are (its registers, its shared memory or the number of blocks are the limit), and the larger of two times: arithmetic at
the peak, less what tiles waste and less the instructions of the loop that are no multiply-adds, and memory at its peak.
Groups of few channels have a thread for each result in place of a tile.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from benchmarks.layers import CONV_LAYERS, ConvLayer

from fastconv import cuda
from fastconv.cuda import _jit, conv
from fastconv.cuda.geometry import blocks
from fastconv.cuda.layout import THREADS
from fastconv.cuda.vector import lanes

PROCESSORS, BANDWIDTH = 132, 3.35e12  # NVIDIA H100 Tensor Core GPU data sheet, SXM5; bytes per second
PEAKS = {"float32": 66.9e12, "tf32": 494.7e12, "float16": 989.4e12}  # dense, operations per second
LOOP = {128: 0.862, 64: 0.775, 32: 0.683}  # multiply-adds of the loop on sm_90, by rows of the tile, in float32
REGISTERS = {128: 128, 64: 120, 32: 88, 0: 32}  # of a thread, likewise, in eights; 0 for kernels without a tile
SHARED = {128: 33280, 64: 16896, 32: 8704, 0: 0}  # bytes of a block
WARPS, REGISTER_FILE, SHARED_MEMORY, RESIDENT = 64, 65536, 233472, 32  # of a multiprocessor


class Floor(NamedTuple):
    """What a layer takes at least."""

    moved: int
    tile: str
    blocks: int
    occupancy: float  # warps of a multiprocessor, of those that it could hold
    even: float  # blocks of a multiprocessor on average, over those of the busiest
    useful: float  # part of the tiles' products that is asked for
    arithmetic: float  # seconds
    memory: float


class H100:
    """An executor that only says what it is."""

    capability = (9, 0)


def floor(layer: ConvLayer, precision: str) -> Floor:
    dtype = np.dtype("float16" if precision == "float16" else "float32")
    rows, channels = layer.out_channels // layer.groups, layer.in_channels // layer.groups
    if layer.groups > 1 and rows * channels <= conv.FEW:
        return without_tile(layer, dtype)
    channels = blocks(channels, lanes(dtype)) * lanes(dtype)
    pixels = layer.output_shape[0] * math.prod(layer.output_shape[2:])
    with _jit.running_on(H100()), cuda.precision("tf32" if precision == "tf32" else "float32"):
        shape, down, across = conv._tiles(dtype, rows, pixels, layer.groups)
    unit = shape.depth_of(dtype.itemsize)
    depth = blocks(math.prod(layer.weight_shape[2:]) * channels, unit) * unit
    count = layer.groups * down * across
    done = 2 * count * shape.rows * shape.columns * depth
    packed = layer.input_shape[0] * math.prod(layer.input_shape[2:]) * layer.groups * channels
    inputs, weights = math.prod(layer.input_shape), math.prod(layer.weight_shape)
    moved = dtype.itemsize * (inputs + 2 * packed + 3 * weights + math.prod(layer.output_shape))
    even = count / (blocks(count, PROCESSORS) * PROCESSORS)
    share = LOOP[shape.rows] if precision == "float32" else 1.0  # tensor cores run beside the other instructions
    arithmetic = done / (PEAKS[precision] * share * even)
    tile = f"{shape.rows} x {shape.columns}"
    occupied = occupancy(shape.rows, shape.threads, count)
    return Floor(moved, tile, count, occupied, even, layer.flops / done, arithmetic, moved / BANDWIDTH)


def without_tile(layer: ConvLayer, dtype: np.dtype) -> Floor:
    """Every array is read or written once; what is read again is in a cache."""
    moved = dtype.itemsize * sum(map(math.prod, (layer.input_shape, layer.weight_shape, layer.output_shape)))
    count = blocks(math.prod(layer.output_shape), THREADS)
    even = count / (blocks(count, PROCESSORS) * PROCESSORS)
    arithmetic = layer.flops / (PEAKS["float32"] * even)
    return Floor(moved, "none", count, occupancy(0, THREADS, count), even, 1.0, arithmetic, moved / BANDWIDTH)


def occupancy(rows: int, threads: int, count: int) -> float:
    """The part of a multiprocessor's warps that its share of ``count`` blocks fills."""
    fit = min(REGISTER_FILE // (REGISTERS[rows] * threads), SHARED_MEMORY // max(SHARED[rows], 1), RESIDENT)
    fit = min(fit, WARPS * 32 // threads, blocks(count, PROCESSORS))
    return fit * threads / (WARPS * 32)


def main() -> None:
    print(
        "| layer | GFLOP | MB | FLOP/byte | tile | blocks | occupancy | even | asked for | float32 | TF32 | float16 |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for layer in CONV_LAYERS:
        floors = {precision: floor(layer, precision) for precision in PEAKS}
        first = floors["float32"]
        times = (
            f"{1e6 * max(f.arithmetic, f.memory):.0f} us{' (memory)' if f.memory > f.arithmetic else ''}"
            for f in floors.values()
        )
        print(
            f"| {layer.name} | {layer.flops / 1e9:.2f} | {first.moved / 1e6:.1f} | {layer.flops / first.moved:.0f} | "
            f"{first.tile} | {first.blocks} | {first.occupancy:.0%} | {first.even:.0%} | {first.useful:.0%} | "
            f"{' | '.join(times)} |"
        )


if __name__ == "__main__":
    main()
