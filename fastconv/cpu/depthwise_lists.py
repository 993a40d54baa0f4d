"""The lists of a plan of depthwise convolution: what is done for a box, and for all that are alike.

Offsets in arrays are pixels of a plane, counted from the first pixel that belongs to the box; in the panel and in the
buffer they are elements.
"""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastconv.cpu.depthwise_axes import Axis

Numbers = npt.NDArray[np.int64]


class Part(NamedTuple):
    """A box on one axis: its windows in each target phase, and the panel pixels of each source phase in the input."""

    counts: tuple[int, ...]
    inside: tuple[range, ...]


def part_of(axis: Axis, start: int) -> Part:
    windows = [min(axis.box, -(-(axis.out_size - f) // axis.out_step) - start) for f in range(len(axis.taps))]
    length = max(windows) + axis.more
    inside = []
    for q in range(axis.phases):
        first = axis.low + q * axis.phase_step + start * axis.step
        low = min(max(0, -(first // axis.step)), length)
        inside.append(range(low, max(low, min(length, (axis.size - 1 - first) // axis.step + 1))))
    return Part(tuple(windows), tuple(inside))


def _pixels(axis: Axis, part: Part) -> tuple[Numbers, Numbers]:
    """The panel pixels inside the input: their places there, counted from the box's start, and in the panel."""
    pairs = [
        (axis.low + q * axis.phase_step + i * axis.step, q * axis.phase_pitch + i * axis.pitch)
        for q, inside in enumerate(part.inside)
        for i in inside
    ]
    source, target = np.array(pairs, np.int64).reshape(-1, 2).T
    return source, target


def _grid(d: Numbers, h: Numbers, w: Numbers) -> Numbers:
    """All sums of one number of each axis."""
    return d[:, np.newaxis, np.newaxis] + h[:, np.newaxis] + w


def _table(*columns: Any) -> Numbers:
    """The columns, broadcast to one shape, of a table."""
    return np.stack(np.broadcast_arrays(*columns), -1).reshape(-1, len(columns))


# ---------------------------------------------------------------------------------------------------------------- lists
def list_moves(axes: list[Axis], parts: tuple[Part, ...]) -> Numbers:
    """Rows of the panel, in its order."""
    (d, d_to), (h, h_to), (w, w_to) = (_pixels(axis, part) for axis, part in zip(axes, parts, strict=True))
    lengths = [len(inside) for inside in parts[2].inside if inside]
    first = np.cumsum([0, *lengths])[:-1]
    _, height, width = (axis.size for axis in axes)
    source, target = _grid(d * height * width, h * width, w[first]), _grid(d_to, h_to, w_to[first])
    table = _table(source, target, np.array(lengths, np.int64))
    return table[np.argsort(table[:, 1])]


def list_places(axes: list[Axis], parts: tuple[Part, ...]) -> tuple[int, Numbers]:
    """The first input pixel of a run that has all the panel's pixels, and their places."""
    (d, d_to), (h, h_to), (w, w_to) = (_pixels(axis, part) for axis, part in zip(axes, parts, strict=True))
    _, height, width = (axis.size for axis in axes)
    source, target = _grid(d * height * width, h * width, w), _grid(d_to, h_to, w_to)
    if not source.size:
        return 0, np.zeros(0, np.int64)
    first = int(source.min())
    places = np.full(int(source.max()) - first + 1, -1)
    places[source - first] = target
    return first, places


class Results(NamedTuple):
    """Where a target phase's first result goes, and how far neighbouring windows' results are apart on each axis."""

    first: int
    d: int
    h: int
    w: int


class Tile(NamedTuple):
    """Windows that are summed together, and how many of them make a vector."""

    height: int
    width: int
    vector: int


def list_tiles(axes: list[Axis], counts: list[int], to: Results, tile: Tile, elements: int, overlap: bool) -> Numbers:
    """The tiles of a target phase: from a panel element, to a result, number of vectors, elements of the first one.

    The last tiles of rows and columns have less, or overlap the ones before them.
    """
    z, y, x = np.arange(counts[0]), _starts(counts[1], tile.height, overlap), _starts(counts[2], tile.width, overlap)
    source = _grid(*(start * axis.pitch for start, axis in zip((z, y, x), axes, strict=True)))
    target = to.first + _grid(z * to.d, y * to.h, x * to.w)
    height, width = np.minimum(tile.height, counts[1] - y)[:, np.newaxis], np.minimum(tile.width, counts[2] - x)
    return _table(source, target, height * -(-width // tile.vector), elements if tile.vector == 1 else width)


def _starts(count: int, size: int, overlap: bool) -> Numbers:
    starts = np.arange(0, count, size)
    return np.minimum(starts, count - size) if overlap and count >= size else starts


def list_rows(counts: tuple[int, int], source: Results, target: Results, length: int) -> list[tuple[int, int, int]]:
    """Rows of the output: from a buffer element, to an output pixel, number of pixels."""
    return [
        (source.first + z * source.d + y * source.h, target.first + z * target.d + y * target.h, length)
        for z, y in product(*map(range, counts))
    ]
