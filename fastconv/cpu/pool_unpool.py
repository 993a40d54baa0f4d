"""Max unpooling, forward and backward: elements go where their indices say, and gradients come from there.

Nothing is computed, so kernels move bits, and are compiled once for each size of an element.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv.cpu import layout
from fastconv.cpu._jit import compiled, flag, inlined, launch
from fastconv.cpu.pointers import clear, pointer
from fastconv.cpu.pool_bands import SERIAL_BYTES, runs_and_planes

Array = layout.Array


@inlined
def _outside(position, count, size):
    """Whether one of ``count`` positions is not one of a plane of ``size``."""
    largest = np.uint64(0)
    for j in range(count):
        largest = max(largest, np.uint64(position[j]))
    return count > 0 and largest >= np.uint64(size)


@compiled
def unpool_core(worker, workers, x, indices, y, planes, count, size, run, outside):
    """y[indices] = x in each plane, zero elsewhere; of several elements with one index the last one stays."""
    for plane in range(planes * worker // workers, planes * (worker + 1) // workers):
        source, position = pointer(x, plane * count * run), pointer(indices, plane * count * run)
        target = pointer(y, plane * size * run)
        if _outside(position, count * run, size):
            outside[0] = 1
            return
        clear(target, size * run)
        for j in range(count):
            for channel in range(run):
                target[position[j * run + channel] * run + channel] = source[j * run + channel]


@compiled
def unpool_backward_core(worker, workers, grad_out, indices, grad_x, planes, count, size, run, outside):
    """grad_x = grad_out[indices] in each plane."""
    for plane in range(planes * worker // workers, planes * (worker + 1) // workers):
        source, position = pointer(grad_out, plane * size * run), pointer(indices, plane * count * run)
        target = pointer(grad_x, plane * count * run)
        if _outside(position, count * run, size):
            outside[0] = 1
            return
        for j in range(count):
            for channel in range(run):
                target[j * run + channel] = source[position[j * run + channel] * run + channel]


def _run(core: Any, x: Array, indices: Array, shape: tuple[int, ...], plane: tuple[int, ...]) -> Array | None:
    """The result of this shape in the memory order of x; None where an index lies outside of ``plane``."""
    source, channels_last = layout.flat(x)
    position = layout.flat_alike(indices, channels_last)
    result = layout.empty(shape, x.dtype, channels_last)
    bits = f"u{x.itemsize}"
    run, planes = runs_and_planes((*shape[:2], 1), channels_last)
    outside = flag()
    tasks = planes if max(source.nbytes, result.nbytes) > SERIAL_BYTES else 1
    numbers = planes, math.prod(indices.shape[2:]), math.prod(plane), run
    target = layout.flat_target(result, channels_last).view(bits)
    launch(core, tasks, source.view(bits), position, target, *numbers, outside)
    return None if outside[0] else result


def max_unpool_forward(x: Array, indices: Array, output_shape: tuple[int, ...]) -> Array | None:
    """Zeros of that shape with the elements of x at their indices; None where an index lies outside of its plane."""
    return _run(unpool_core, x, indices, output_shape, output_shape[2:])


def max_unpool_backward(grad_out: Array, indices: Array) -> Array | None:
    """The elements of grad_out at the indices; None where an index lies outside of its plane."""
    return _run(unpool_backward_core, grad_out, indices, indices.shape, grad_out.shape[2:])
