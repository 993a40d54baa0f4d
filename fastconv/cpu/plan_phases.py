"""The phases of a pass of convolution, each with its axes: which input a grid pixel's taps meet, and where it goes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from fastconv._window import Window


class Axis(NamedTuple):
    """One axis of a phase; the images are its first."""

    size: int = 1  # of the input
    out_size: int = 1
    count: int = 1  # type: ignore[assignment]  # grid pixels; hides tuple.count
    stride: int = 1  # of the grid on the input
    start: int = 0  # of the grid on the output
    step: int = 1
    kernel_size: int = 1
    taps: int = 1
    first_tap: int = 0  # the taps' places in the kernel
    tap_step: int = 1
    low: int = 0  # the smallest tap offset, and how far the largest lies from it
    span: int = 0
    unit: int = 1  # panel pixels stand for every unit-th input pixel: the others are never read
    offset: int = 0  # of the first tap from low
    offset_step: int = 0
    box: int = 1  # grid pixels of a full box, and boxes
    parts: int = 1
    given: int = 0  # elements between neighbours in the input
    pitch: int = 0  # and in what is read: the panel, or the input in place
    pixel_pitch: int = 0  # elements between the windows of neighbouring grid pixels
    tap_start: int = 0  # where the first tap lies from the start of a window, and the next ones from it
    tap_pitch: int = 0

    def extent(self, count: int) -> int:
        """Panel pixels that ``count`` consecutive grid pixels read."""
        return ((count - 1) * self.stride + self.span) // self.unit + 1

    def fit(self, room: int) -> int:
        """Grid pixels that read at most ``room`` panel pixels."""
        return (room * self.unit - 1 - self.span) // self.stride + 1

    def shared(self) -> int:
        """Panel pixels beyond the input that lie both before and behind the axis: one run of zeros can be both."""
        length = self.extent(self.count)
        before, behind = -(self.low // self.unit), length + (self.low - self.size) // self.unit
        return max(0, min(before, behind)) if before + behind < length else 0

    def is_padded(self) -> bool:
        """Whether a grid pixel reads beyond the input."""
        return self.low < 0 or self.low + (self.count - 1) * self.stride + self.span >= self.size


class Header(NamedTuple):
    """What a phase's axes share."""

    taps: int
    boxes: int
    channels: int  # of a group
    segment: int  # channels whose summands (tap, channel) make a chain; the last segment may have fewer
    in_place: int
    planar: int
    many: int  # whether panel rows are neighbours in the input, so that one run of input pixels fills them all
    given: int  # elements between channels in the input
    pitch: int  # and in what is read
    panel: int  # elements of a panel
    kernel_taps: int  # of the whole kernel
    box_pixels: int  # of a full box
    again: int = 0  # whether its boxes and tables are those of the phase before
    pixels: int = 0  # where the phase's tables start: see pixel_offsets, summand_offsets and row_offsets
    summands: int = 0
    rows: int = 0


def _axis(offset: int, offset_step: int, **numbers: int) -> Axis:
    """An axis whose taps lie at offset, offset + offset_step, ... from a window's origin."""
    axis = Axis(**numbers)
    more = max(axis.taps - 1, 0)
    low = min(offset, offset + more * offset_step)
    unit = math.gcd(axis.stride if axis.count > 1 else 0, offset_step if more else 0) or 1
    return axis._replace(low=low, span=more * abs(offset_step), unit=unit, offset=offset - low, offset_step=offset_step)


def _forward_axis(window: Window, a: int) -> Axis:
    count, kernel_size = window.output_size[a], window.kernel_size[a]
    return _axis(
        -window.padding_before[a], window.dilation[a], size=window.input_size[a], out_size=count, count=count,
        stride=window.stride[a], kernel_size=kernel_size, taps=kernel_size,
    )  # fmt: skip


def _backward_axes(window: Window, a: int) -> Iterator[Axis]:
    """The phases: input pixel phase + stride * o meets the taps where phase + padding - dilation * tap is divisible."""
    size, stride, dilation, kernel_size = (
        window.input_size[a], window.stride[a], window.dilation[a], window.kernel_size[a],
    )  # fmt: skip
    tap_step = stride // math.gcd(stride, dilation)
    for phase in range(min(stride, size)):
        origin = phase + window.padding_before[a]
        first = next(
            (k for k in range(min(tap_step, kernel_size)) if (origin - dilation * k) % stride == 0), kernel_size
        )
        yield _axis(
            (origin - dilation * first) // stride, -dilation * tap_step // stride, size=window.output_size[a],
            out_size=size, count=-(-(size - phase) // stride), start=phase, step=stride, kernel_size=kernel_size,
            taps=-(-(kernel_size - first) // tap_step), first_tap=first, tap_step=tap_step,
        )  # fmt: skip


@lru_cache(maxsize=256)
def make_phases(window: Window, backward: bool) -> list[tuple[Axis, ...]]:
    """For every phase its axes (depth, height, width)."""
    axes = (tuple(_backward_axes(window, a)) if backward else (_forward_axis(window, a),) for a in range(3))
    return list(product(*axes))
