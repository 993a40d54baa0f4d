"""Kernels of one element: the weight times the planes of channels-first images, which are read and written in place.

    y[n, o, p] = sum over c of weight[o, c] * x[n, c, p]

and the input gradient, where o and c change places. Lanes are pixels, image after image, and rows of a tile are output
channels: nothing is transposed, and the weight is read where it lies.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from fastconv._window import Window
from fastconv.cpu import layout
from fastconv.cpu._jit import VECTOR_BYTES, compiled, flushing, internal, launch, made
from fastconv.cpu._target import lanes
from fastconv.cpu.memory import empty, multiples
from fastconv.cpu.microkernel import MAX_VECTORS, ROWS, tile
from fastconv.cpu.panel import SLACK, transpose_run
from fastconv.cpu.plan import PANEL_BYTES, WORK, chain_channels
from fastconv.cpu.pointers import advance, aligned, clear, copy, lanes_at, pointer, prefetch
from fastconv.cpu.shares import MOVE, NO_MOVE, share_at, share_boxes
from fastconv.cpu.weights import block_lanes, make_lanes, padded_channels

TOGETHER = 8  # blocks of lanes that a few rows of the weight meet in turn: 2 to 5 % faster than 2
TURN = 64  # columns of the weight
LEAST_VECTORS = 3  # of a plane: smaller ones leave lanes empty where a batch is small
TURNED = 192  # pixels for which turning the weight round pays: an image of 7x7 and 2048 channels ran 25 % slower


class Planes(NamedTuple):
    """Some channels of all images: channel c of image n starts at ``address + (n * all_channels + c) * size``."""

    address: Any
    all_channels: Any
    size: Any


@flushing
def pointwise_core(
    worker, workers, x, weight, weight_pitch, bias, floor, out, images, groups, channels, out_channels, plane, segment,
    most,
):  # fmt: skip
    """Every worker takes every ``workers``-th batch of ``most`` blocks of lanes, or of a part of its rows."""
    width = lanes_at(pointer(x, 0))
    along, pitch = make_lanes(images * plane, width), MAX_VECTORS * width
    tiles, batches = (out_channels + ROWS - 1) // ROWS, (along.blocks + most - 1) // most
    shares = share_boxes(groups * batches, tiles, 1, out_channels / MOVE, NO_MOVE, workers)
    panel, memory = empty(most * channels * pitch + SLACK, x.dtype), empty(ROWS * pitch + SLACK, x.dtype)
    rows, columns = empty(ROWS, np.int64), multiples(channels, 1)
    places, starts = multiples(channels, pitch), empty(2 * most, np.int64)
    for number in range(worker, shares.items, workers):
        item = share_at(shares, number, workers)
        group, batch = item.index % groups, item.index // groups
        first, last = batch * most, min(along.blocks, (batch + 1) * most)
        ready, sums = aligned(pointer(panel, 0)), aligned(pointer(memory, 0))
        source = Planes(pointer(x, group * channels * plane), groups * channels, plane)
        for block in range(first, last):
            lane, _, count = block_lanes(along, block)
            image, pixel = lane // plane, lane % plane
            starts[2 * (block - first)], starts[2 * (block - first) + 1] = image, pixel
            _read_block(
                source, channels, image, pixel, count, advance(ready, (block - first) * channels * pitch), pitch
            )
        for k in range(item.first, item.last):
            row, height = k * ROWS, min(ROWS, out_channels - k * ROWS)
            for i in range(ROWS):  # rows without a channel repeat the last one
                rows[i] = (group * out_channels + row + min(i, height - 1)) * weight_pitch
            channel = group * out_channels + row
            target = Planes(pointer(out, channel * plane), groups * out_channels, plane)
            for block in range(first, last):
                _, lanes, count = block_lanes(along, block)
                image, pixel = starts[2 * (block - first)], starts[2 * (block - first) + 1]
                _expect(target, height, image, pixel, count)
                for start in range(0, max(1, channels), max(1, segment)):
                    tile(
                        lanes // width, min(segment, channels - start), pointer(weight, 0), pointer(rows, 0),
                        pointer(columns, start), advance(ready, (block - first) * channels * pitch),
                        pointer(places, start), 0, sums, pitch, start > 0,
                    )  # fmt: skip
                _store(sums, pitch, target, height, image, pixel, count, pointer(bias, channel), floor)


@internal
def _read_block(planes, channels, image, pixel, count, target, pitch):
    """target[c * pitch + q] = the q-th pixel from ``pixel`` of ``image`` on, through all images, of channel c."""
    width = lanes_at(target)
    beyond, done = (width - count % width) % width, 0
    while done < count:
        run = min(count - done, planes.size - pixel)
        source = advance(planes.address, image * planes.all_channels * planes.size + pixel)
        for c in range(channels):
            copy(advance(target, c * pitch + done), advance(source, c * planes.size), run)
        image, pixel, done = image + 1, 0, done + run
    if beyond:  # what nobody reads must not be slow to multiply
        for c in range(channels):
            clear(advance(target, c * pitch + count), beyond)


@internal
def _expect(planes, channels, image, pixel, count):
    """Prefetch what :func:`_store` is going to write, but for the rare second image: multiplying hides the wait."""
    there, last = advance(planes.address, image * planes.all_channels * planes.size + pixel), planes.size - pixel - 1
    for c in range(channels):
        for q in range(0, count + lanes_at(there) - 1, lanes_at(there)):
            prefetch(advance(there, c * planes.size + min(q, count - 1, last)))


@internal
def _store(sums, pitch, planes, channels, image, pixel, count, bias, floor):
    """Rows of sums plus bias, then ReLU, to their places."""
    done = 0
    while done < count:
        run = min(count - done, planes.size - pixel)
        there = advance(planes.address, image * planes.all_channels * planes.size + pixel)
        for c in range(channels):
            source, target, start = advance(sums, c * pitch + done), advance(there, c * planes.size), bias[c]
            for p in range(run):
                value = source[p] + start
                target[p] = floor if value < floor else value
        image, pixel, done = image + 1, 0, done + run


@compiled
def turn_core(worker, workers, weight, turned, pitch, groups, rows, columns):
    """turned[group, c * pitch + r] = weight[group, r, c], some columns at a time."""
    parts = (columns + TURN - 1) // TURN
    to = multiples(TURN, pitch)
    for item in range(worker, groups * parts, workers):
        group, first = item // parts, item % parts * TURN
        source, target = group * rows * columns + first, (group * columns + first) * pitch
        count = min(TURN, columns - first)
        transpose_run(pointer(weight, source), columns, rows, pointer(turned, target), pointer(to, 0), count, 0)


# ------------------------------------------------------------------------------------------------------------ in Python
def chosen(window: Window, backward: bool, channels_last: bool, images: int, itemsize: int) -> bool:
    """Whether a convolution is this product, and is faster so; its bits are those of any other way."""
    if channels_last or window.kernel_size != (1, 1, 1) or window.stride != (1, 1, 1):
        return False
    plane = math.prod(window.input_size)
    enough = images * plane >= TURNED or not backward
    return enough and window.input_size == window.output_size and plane >= LEAST_VECTORS * lanes(itemsize)


def convolve(
    x: Any, weight: Any, bias: Any, floor: Any, out: Any, window: Window, backward: bool, images: int, groups: int,
    channels: int, out_channels: int,
) -> None:  # fmt: skip
    """Convolve flat channels-first arrays."""
    pitch = channels
    if backward:  # (summed, lanes) turned round, each row with room for whole vectors
        pitch = padded_channels(channels, x.itemsize)
        turned = made(np.empty(groups * out_channels * pitch, x.dtype))
        launch(turn_core, max(1, weight.size >> 15), weight, turned, pitch, groups, channels, out_channels)
        weight = layout.read_only(turned)  # as the caller's is: one compilation for both
    block_bytes = max(1, channels) * MAX_VECTORS * VECTOR_BYTES
    launch(
        pointwise_core, max(1, out.size * channels >> WORK), x, weight, pitch, bias, floor, out, images, groups,
        channels, out_channels, math.prod(window.input_size), chain_channels(1, channels),
        max(1, min(TOGETHER, PANEL_BYTES // block_bytes)),
    )  # fmt: skip
