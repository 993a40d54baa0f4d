"""How a pass of convolution walks over its arrays: axes, boxes of output pixels, and tables of offsets.

Forward, input gradient and transposed convolution are one walk with other numbers: on each axis the output pixel ``o`` of
a grid reads the input at ``stride * o + offset(tap)`` for a progression of taps, and is written at ``start + step * o``.
The input gradient of a strided convolution is one such walk per *phase* of its stride, each with the taps that meet it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastconv._window import Window
from fastconv.cpu._jit import compiled, inlined


class Axis(NamedTuple):
    """One axis of a walk."""

    input_size: int
    output_size: int
    count: int  # grid pixels
    stride: int  # of the grid on the input
    start: int  # of the grid on the output
    step: int
    kernel_size: int
    taps: int
    first_tap: int  # the taps' places in the kernel
    tap_step: int
    low: int  # the smallest tap offset, and how far the largest is from it
    span: int
    unit: int  # panel pixels stand for every unit-th input pixel: others are never read
    offset: int  # of the first tap, in units from low
    offset_step: int


FIELDS = len(Axis._fields)


def _axis(
    input_size: int, output_size: int, count: int, stride: int, start: int, step: int,
    kernel_size: int, taps: int, first_tap: int, tap_step: int, offset: int, offset_step: int,
) -> Axis:  # fmt: skip
    span = max(taps - 1, 0) * abs(offset_step)
    low = min(offset, offset + max(taps - 1, 0) * offset_step)
    unit = math.gcd(stride if count > 1 else 0, offset_step if taps > 1 else 0) or 1
    return Axis(
        input_size, output_size, count, stride, start, step, kernel_size, taps, first_tap, tap_step,
        low, span, unit, (offset - low) // unit, offset_step // unit,
    )  # fmt: skip


def _forward_axis(window: Window, a: int) -> Axis:
    size, count, kernel_size = window.input_size[a], window.output_size[a], window.kernel_size[a]
    return _axis(
        size, count, count, window.stride[a], 0, 1, kernel_size, kernel_size, 0, 1,
        -window.padding_before[a], window.dilation[a],
    )  # fmt: skip


def _backward_axes(window: Window, a: int) -> Iterator[Axis]:
    """The phases of axis ``a``: input pixels ``phase + stride * o`` meet taps with ``phase + pad - dilation * tap`` divisible."""
    stride, dilation, pad, kernel_size = (
        window.stride[a], window.dilation[a], window.padding_before[a], window.kernel_size[a],
    )  # fmt: skip
    tap_step = stride // math.gcd(stride, dilation)
    for phase in range(min(stride, window.input_size[a])):
        first = next((k for k in range(min(tap_step, kernel_size)) if (phase + pad - dilation * k) % stride == 0), None)
        taps = 0 if first is None else -(-(kernel_size - first) // tap_step)
        first = first or 0
        count = -(-(window.input_size[a] - phase) // stride)
        yield _axis(
            window.output_size[a], window.input_size[a], count, 1, phase, stride, kernel_size, taps, first, tap_step,
            (phase + pad - dilation * first) // stride, -dilation * tap_step // stride,
        )  # fmt: skip


@lru_cache(maxsize=256)
def forward_walk(window: Window) -> npt.NDArray[np.int64]:
    """The walk of a forward convolution: one phase, as an int64 array of shape (1, 3, FIELDS)."""
    return _packed([[_forward_axis(window, a) for a in range(3)]])


@lru_cache(maxsize=256)
def backward_walk(window: Window) -> npt.NDArray[np.int64]:
    """The walk of an input gradient (and of a transposed convolution): (phases, 3, FIELDS)."""
    return _packed([list(axes) for axes in product(*(_backward_axes(window, a) for a in range(3)))])


def _packed(phases: list[list[Axis]]) -> npt.NDArray[np.int64]:
    table = np.array(phases, dtype=np.int64).reshape(-1, 3, FIELDS)
    table.setflags(write=False)
    return table


# ------------------------------------------------------------------------------------------- inside compiled code: axes
@inlined
def axis(walk, phase, a):
    """Row ``a`` of a phase as an :class:`Axis`."""
    row = walk[phase, a]
    return Axis(
        row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7], row[8], row[9], row[10], row[11], row[12],
        row[13], row[14],
    )  # fmt: skip


@inlined
def extent(axis, count):
    """Panel pixels that ``count`` consecutive grid pixels read."""
    return ((count - 1) * axis.stride + axis.span) // axis.unit + 1


@inlined
def taps_of(walk, phase):
    return walk[phase, 0, 7] * walk[phase, 1, 7] * walk[phase, 2, 7]


@inlined
def is_padded(axis):
    """Whether a grid pixel reads beyond the input."""
    return axis.low < 0 or axis.low + (axis.count - 1) * axis.stride + axis.span >= axis.input_size


# ---------------------------------------------------------------------------------------------------------------- boxes
class Box(NamedTuple):
    """A piece of a phase's grid: its first image and pixel, and its size."""

    n: int
    d: int
    h: int
    w: int
    images: int
    depth: int
    height: int
    width: int


@inlined
def _part(count, most):
    """The largest even part of ``count`` that is at most ``most``: 56 in parts of at most 30 gives 28."""
    most = max(1, min(count, most))
    parts = (count + most - 1) // most
    return (count + parts - 1) // parts


@inlined
def _fit(axis, room):
    """Grid pixels that read at most ``room`` panel pixels of an axis."""
    return (room * axis.unit - 1 - axis.span) // axis.stride + 1


@compiled
def box_shape(walk, phase, images, pixel_bytes, budget, most):
    """(images, depth, height, width) of the boxes that a phase's grid is cut into.

    A box takes whole inner axes and a part of one, so its pixels are one run of the flattened grid. Its panel stays within
    ``budget`` bytes, so that it lives in the L2 cache, and it has at most ``most`` pixels (24 always: four tiles).
    """
    d, h, w = axis(walk, phase, 0), axis(walk, phase, 1), axis(walk, phase, 2)
    row = extent(w, w.count) * pixel_bytes
    plane = extent(h, h.count) * row
    volume = extent(d, d.count) * plane
    pixels = d.count * h.count * w.count
    if volume <= budget and pixels <= most:
        return _part(images, min(budget // volume, most // pixels)), d.count, h.count, w.count
    depth = min(_fit(d, budget // plane), most // (h.count * w.count))
    if depth >= 1:
        return 1, _part(d.count, depth), h.count, w.count
    row *= extent(d, 1)
    height = min(_fit(h, budget // row), most // w.count)
    if height >= 1:
        return 1, 1, _part(h.count, height), w.count
    width = min(_fit(w, budget // (pixel_bytes * extent(d, 1) * extent(h, 1))), most)
    return 1, 1, 1, _part(w.count, max(width, 24))


@inlined
def boxes(walk, phase, images, shape):
    """Number of boxes of this shape."""
    n = (images + shape[0] - 1) // shape[0]
    d = (walk[phase, 0, 2] + shape[1] - 1) // shape[1]
    h = (walk[phase, 1, 2] + shape[2] - 1) // shape[2]
    w = (walk[phase, 2, 2] + shape[3] - 1) // shape[3]
    return n * d * h * w


@inlined
def box_at(walk, phase, images, shape, index):
    """The box of that index."""
    parts_d = (walk[phase, 0, 2] + shape[1] - 1) // shape[1]
    parts_h = (walk[phase, 1, 2] + shape[2] - 1) // shape[2]
    parts_w = (walk[phase, 2, 2] + shape[3] - 1) // shape[3]
    w = index % parts_w * shape[3]
    h = index // parts_w % parts_h * shape[2]
    d = index // (parts_w * parts_h) % parts_d * shape[1]
    n = index // (parts_w * parts_h * parts_d) * shape[0]
    size_n, size_d = min(shape[0], images - n), min(shape[1], walk[phase, 0, 2] - d)
    return Box(n, d, h, w, size_n, size_d, min(shape[2], walk[phase, 1, 2] - h), min(shape[3], walk[phase, 2, 2] - w))
