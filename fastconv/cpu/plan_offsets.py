"""A plan's tables: where pixels, summands and rows of pixels lie in what a kernel reads."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastconv.cpu.plan_phases import Axis, Header


def _grid(*axes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """All sums of one entry of each table, the last table running fastest."""
    total = np.zeros(1, np.int64)
    for axis in axes:
        total = (total[:, None] + axis).reshape(-1)
    return total


def pixel_offsets(n: Axis, d: Axis, h: Axis, w: Axis) -> npt.NDArray[np.int64]:
    """Where the window of each pixel of a full box starts; a smaller box uses the first entries."""
    return _grid(np.arange(n.box) * n.pitch, *(np.arange(a.box) * a.pixel_pitch for a in (d, h, w)))


def summand_offsets(header: Header, n: Axis, d: Axis, h: Axis, w: Axis) -> npt.NDArray[np.int64]:
    """Where each summand (segment of channels, tap, channel) of a window lies from its start."""
    taps = _grid(*(a.tap_start + np.arange(a.taps) * a.tap_pitch for a in (d, h, w)))
    channels = np.arange(header.channels) * header.pitch
    firsts = range(0, header.channels, max(1, header.segment))
    segments = [_grid(taps, channels[first : first + header.segment]) for first in firsts]
    return np.concatenate(segments) if segments else taps[:0]


def row_offsets(header: Header, n: Axis, d: Axis, h: Axis, w: Axis) -> npt.NDArray[np.int64]:
    """Where each pixel of a run of input pixels goes in a plane of the panel, -1 where nothing reads it.

    A run is all the rows that a full box reads, or one row from the leftmost pixel on that a window reads.
    """
    if header.in_place or header.planar:
        return np.zeros(0, np.int64)
    width = w.extent(w.box)
    length, first = (w.size, w.low) if header.many else ((width - 1) * w.unit + 1, 0)
    column, rest = np.divmod(np.arange(length) - first, w.unit)
    inside = (rest == 0) & (column >= 0) & (column < width)
    rows = np.arange(h.extent(h.box) if header.many else 1) * h.pitch
    return np.where(inside, rows[:, None] + column * w.pitch, -1).reshape(-1)
