"""Biases as kernels take them, and the bias gradient: grad_out summed over batch and space in a fixed order."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.cpu import layout
from fastconv.cpu._jit import compiled, done, launch, made, separate
from fastconv.cpu.memory import empty
from fastconv.cpu.pointers import clear, pointer
from fastconv.cpu.weights import padded_channels

LANES = 32  # partial sums side by side: whole vectors on every machine, and the same sums on all of them


@compiled
def bias_core(worker, workers, grad_out, grad_bias, images, channels, pixels, channels_last):
    """grad_bias[c] = sum over images and pixels of grad_out."""
    if channels_last:
        start, stop = channels * worker // workers, channels * (worker + 1) // workers
        _sum_columns(grad_out, grad_bias, images * pixels, channels, start, stop)
        return
    partial = empty(LANES, grad_bias.dtype)
    for c in range(worker, channels, workers):
        clear(pointer(partial, 0), LANES)
        for n in range(images):
            row = pointer(grad_out, (n * channels + c) * pixels)
            for p in range(0, pixels - LANES + 1, LANES):
                for k in range(LANES):
                    partial[k] += row[p + k]
            for k in range(pixels % LANES):
                partial[k] += row[pixels - pixels % LANES + k]
        total = partial[0]
        for k in range(1, LANES):
            total += partial[k]
        grad_bias[c] = total


@separate
def _sum_columns(grad_out, grad_bias, rows, channels, start, stop):
    # Blocks of rows first: a running sum over a whole batch of pixels would lose digits that the planes' sums keep.
    block = empty(stop - start, grad_bias.dtype)
    clear(pointer(grad_bias, start), stop - start)
    for first in range(0, rows, 1024):
        clear(pointer(block, 0), stop - start)
        for r in range(first, min(rows, first + 1024)):
            row = pointer(grad_out, r * channels + start)
            for c in range(stop - start):
                block[c] += row[c]
        for c in range(stop - start):
            grad_bias[start + c] += block[c]


@compiled
def pad_core(worker, workers, values, padded, rows, count):
    """The first elements of each row of ``padded`` become a row of ``values``."""
    for row in range(rows):
        for k in range(count):
            padded[row * (padded.size // rows) + k] = values[row * count + k]


def plain_bias(bias: Any, channels: int, dtype: Any) -> Any:
    """A bias as it is; zeros for none."""
    return layout.read_only(made(np.zeros(channels, dtype), cleared=True) if bias is None else bias)


def padded_bias(bias: Any, groups: int, channels: int, dtype: Any) -> Any:
    """A bias of whole vectors per group; zeros for none."""
    padded = made(np.zeros((groups, padded_channels(channels, dtype.itemsize)), dtype), cleared=True)
    if bias is not None:
        padded[:, :channels] = bias.reshape(groups, channels)
        done(pad_core, layout.read_only(bias), padded.reshape(-1), groups, channels)
    return layout.read_only(padded)


def conv_backward_bias(grad_out: Any) -> Any:
    """The sum of grad_out (N, C, *spatial) over batch and space, shape (C,)."""
    images, channels = grad_out.shape[:2]
    source, channels_last = layout.flat(grad_out)
    grad_bias = made(np.zeros(channels, grad_out.dtype))
    if grad_out.size:
        pixels = grad_out.size // (images * channels)
        launch(bias_core, grad_out.size >> 17, source, grad_bias, images, channels, pixels, channels_last)
    return grad_bias
