"""A convolution as kernels see it: where the pixels, the taps and the channels of a product lie in memory.

Kernels get these tuples as they are: nested tuples of ints, in the device's constant memory. A kernel is compiled once
for a dtype and a tile, never for a geometry.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from fastconv._window import Triple, Window

COUNT = 2**31  # elements of an array, from which on 32 bits do not serve: a Divisor needs one to itself


class Divisor(NamedTuple):
    """``n // value`` for 0 <= n < 2**31 is ``((n * magic >> 32) + n) >> shift``, which takes three instructions."""

    value: int
    magic: int
    shift: int


class Grid(NamedTuple):
    """Sizes of a box of numbered positions, the last axis fastest."""

    z: Divisor
    y: Divisor
    x: Divisor


class Axis(NamedTuple):
    """One spatial axis: pixel i and tap j meet at the coordinate ``start + i * pixel_step + j * tap_step``.

    What they meet is zero unless the coordinate is from 0 to ``size - 1``.
    """

    size: int
    start: int
    pixel_step: int
    tap_step: int


class Gather(NamedTuple):
    """An array, read by pixels (of all images) and taps."""

    grid: Grid
    taps: Grid
    z: Axis
    y: Axis
    x: Axis
    pixels: int


class Channels(NamedTuple):
    """Channels-last memory: ``vectors`` of a group, the last one filled up with zeros, and elements."""

    vectors: Divisor
    group: int  # elements of a group,
    pitch: int  # of all groups


class Matrix(NamedTuple):
    """The operand of rows: elements of a group, elements from one line to the next, and how many rows can be read."""

    group: int
    pitch: int
    rows: int


class Images(NamedTuple):
    """Where the elements of an array (N, C, *spatial) lie, in elements: the first one, and the steps between them."""

    first: int
    image: int
    channel: int
    z: int
    y: int
    x: int


class Filters(NamedTuple):
    """Where the elements of a weight lie, in elements; rows and channels are those of a matrix product."""

    first: int
    group: int
    row: int
    channel: int
    z: int
    y: int
    x: int


class Taps(NamedTuple):
    """The taps of a kernel's axis that a phase meets: ``first``, ``first + step``, ..."""

    first: int
    step: int
    number: int


class Phase(NamedTuple):
    """Pixels of the result that meet the same taps."""

    axes: tuple[Axis, Axis, Axis]
    counts: Triple  # pixels on each axis,
    first: Triple  # where they are,
    step: Triple
    taps: tuple[Taps, Taps, Taps]

    def gather(self, images: int) -> Gather:
        """The form that kernels take."""
        pixels = images * math.prod(self.counts)
        return Gather(grid(self.counts), grid(tuple(taps.number for taps in self.taps)), *self.axes, pixels)

    def pixels_of(self, images: Images) -> Images:
        """The phase's pixels of a result."""
        first = images.first + sum(i * step for i, step in zip(self.first, images[3:], strict=True))
        return Images(first, *images[1:3], *(i * step for i, step in zip(self.step, images[3:], strict=True)))

    def taps_of(self, filters: Filters) -> Filters:
        """The phase's taps of a weight."""
        first = filters.first + sum(taps.first * step for taps, step in zip(self.taps, filters[4:], strict=True))
        steps = (taps.step * step for taps, step in zip(self.taps, filters[4:], strict=True))
        return Filters(first, *filters[1:4], *steps)


@lru_cache(maxsize=4096)
def divisor(value: int) -> Divisor:
    """Granlund and Montgomery, "Division by invariant integers using multiplication", PLDI 1994, figure 4.1."""
    at_least = max(value, 1)  # an axis without taps keeps its 0, and nothing is divided by it
    shift = (at_least - 1).bit_length()
    return Divisor(value, ((1 << 32) * ((1 << shift) - at_least)) // at_least + 1, shift)


def blocks(count: int, size: int) -> int:
    """How many of ``size`` hold ``count``."""
    return -(-count // size)


def grid(sizes: tuple[int, ...]) -> Grid:
    """Three sizes as kernels divide by them."""
    return Grid(*(divisor(size) for size in sizes))


def forward_phase(window: Window) -> Phase:
    """All pixels of the result, all taps."""
    axes = (
        Axis(size, -before, stride, dilation) for size, _, stride, before, _, dilation, _ in zip(*window, strict=True)
    )
    taps = (Taps(0, 1, kernel) for kernel in window.kernel_size)
    return Phase(tuple(axes), window.output_size, (0, 0, 0), (1, 1, 1), tuple(taps))  # type: ignore[arg-type]


def backward_phases(window: Window) -> Iterator[Phase]:
    """The input gradient falls apart: pixels with the same remainder modulo the stride meet the same taps."""
    for phases in itertools.product(*(list(_axis_phases(*axis)) for axis in zip(*window, strict=True))):
        yield Phase(*zip(*phases, strict=True))  # type: ignore[arg-type]


def _axis_phases(
    size: int, kernel: int, stride: int, before: int, after: int, dilation: int, count: int
) -> Iterator[tuple[Axis, int, int, int, Taps]]:
    """Input p meets output q by tap k where ``p + before = stride * q + dilation * k``."""
    common = math.gcd(stride, dilation)
    step = stride // common
    for first in range(min(stride, size)):
        tap = next((k for k in range(min(step, kernel)) if (first + before - dilation * k) % stride == 0), kernel)
        axis = Axis(count, (first + before - dilation * tap) // stride, 1, -dilation // common)
        yield axis, len(range(first, size, stride)), first, stride, Taps(tap, step, len(range(tap, kernel, step)))
