"""Axes, boxes and taps of depthwise convolution: where the elements of a window lie in a panel.

A panel is a padded copy of what a box of windows reads, in which every tap of every window lies a fixed distance from
the window's first element, and windows that are neighbours are neighbours in memory. A strided window needs its input
sorted for that: input pixels that the same taps read make a *source phase*, one after the other in the panel. The
gradient with respect to a strided window's input is the other way round: one source phase, and one *target phase* of
output pixels for each set of taps.
"""

from __future__ import annotations

import math
from itertools import product
from typing import NamedTuple

from fastconv._window import Window

PANEL_BYTES = 192 << 10  # of a panel, which stays in L2; the rows that a row of windows reads then stay in L1
LEAST_WIDTH = 64  # of a box, even where a panel gets larger


class Tap(NamedTuple):
    """One tap on one axis."""

    number: int  # in the kernel
    phase: int  # of the source
    place: int  # panel pixels from the window's first element


class Axis(NamedTuple):
    """One spatial axis. Panel pixel i of source phase q is input pixel ``low + q * phase_step + step * i``."""

    taps: tuple[tuple[Tap, ...], ...]  # of each target phase
    size: int  # of the input
    low: int
    step: int
    phases: int
    phase_step: int
    more: int  # windows at n neighbouring pixels read n + more panel pixels of each source phase
    windows: int  # in the largest target phase
    out_size: int
    out_step: int  # window o of target phase f belongs to output pixel f + out_step * o
    box: int = 0  # windows of a full box
    pitch: int = 0  # elements between neighbours in the panel, and between source phases
    phase_pitch: int = 0

    @property
    def length(self) -> int:
        """Panel pixels of a full box."""
        return self.box + self.more


# ----------------------------------------------------------------------------------------------------------------- axes
def forward_axis(window: Window, a: int) -> Axis:
    """Output pixel o reads input pixels stride * o + dilation * k - padding."""
    stride, dilation, kernel_size = window.stride[a], window.dilation[a], window.kernel_size[a]
    common = math.gcd(stride, dilation)
    phases, shift = stride // common, dilation // common
    taps = tuple(Tap(k, k % phases, k // phases * shift) for k in range(kernel_size))
    return Axis(
        (taps,), size=window.input_size[a], low=-window.padding_before[a], step=stride, phases=min(phases, kernel_size),
        phase_step=dilation, more=taps[-1].place, windows=window.output_size[a],
        out_size=window.output_size[a], out_step=1,
    )  # fmt: skip


def backward_axis(window: Window, a: int) -> Axis:
    """Input pixel f + stride * o is read by windows (f + padding - dilation * k) / stride + o, where that is whole."""
    size, stride, dilation = window.input_size[a], window.stride[a], window.dilation[a]
    places = [
        [(k, *divmod(f + window.padding_before[a] - dilation * k, stride)) for k in range(window.kernel_size[a])]
        for f in range(min(stride, size))
    ]
    phases = [[(k, place) for k, place, rest in phase if rest == 0] for phase in places]
    reached = [place for phase in phases for _, place in phase] or [0]
    low = min(reached)
    taps = tuple(tuple(Tap(k, 0, place - low) for k, place in phase) for phase in phases)
    return Axis(
        taps, size=window.output_size[a], low=low, step=1, phases=1, phase_step=0, more=max(reached) - low,
        windows=-(-size // stride), out_size=size, out_step=stride,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ boxes and their panel
def even_part(count: int, most: int) -> int:
    """The largest even part of ``count`` that is at most ``most``."""
    return -(-count // -(-count // max(1, min(count, most))))


def with_boxes(axes: list[Axis], pixel_bytes: int) -> list[Axis]:
    """Boxes of whole axes where a panel of PANEL_BYTES allows, else of parts.

    The outermost axis is divided first, as long as few pixels of a part are read for the next one too.
    """
    axes = [axis._replace(box=axis.windows) for axis in axes]
    for a, axis in enumerate(axes):
        others = math.prod(other.phases * other.length for b, other in enumerate(axes) if b != a)
        room = PANEL_BYTES // max(1, others * axis.phases * pixel_bytes) - axis.more
        least = max(4 * axis.more, LEAST_WIDTH if a == 2 else 1)
        axes[a] = axis._replace(box=even_part(axis.windows, max(room, least)))
    return axes


def with_pitches(axes: list[Axis], lanes: int, pixel: int) -> tuple[list[Axis], int]:
    """The axes with their pitches in the panel, (phase, depth, phase, phase, height, width), and its elements.

    A pixel has ``pixel`` elements, and every row starts at a multiple of ``lanes``.
    """
    d, h, w = axes
    row = -(-w.length * pixel // lanes) * lanes
    w = w._replace(pitch=pixel, phase_pitch=row * h.length)
    h = h._replace(pitch=row, phase_pitch=w.phase_pitch * w.phases)
    d = d._replace(pitch=h.phase_pitch * h.phases, phase_pitch=h.phase_pitch * h.phases * d.length)
    return [d, h, w], d.phase_pitch * d.phases


# ------------------------------------------------------------------------------------------------------ columns of taps
class Column(NamedTuple):
    """Taps that are neighbours in the panel."""

    place: int  # of the first one in a window
    taps: list[int]  # their numbers in the kernel


def columns_of(
    axes: list[Axis], phases: tuple[int, ...], along: int, most: int, kernel_size: tuple[int, ...]
) -> list[Column]:
    """All taps of a target phase in columns of at most ``most`` neighbours on the axis ``along`` (-1: single taps)."""
    taps = [axis.taps[f] for axis, f in zip(axes, phases, strict=True)]
    groups = [_runs(on_axis, most) if a == along else [[tap] for tap in on_axis] for a, on_axis in enumerate(taps)]
    columns = []
    for group in product(*groups):
        places = (
            run[0].phase * axis.phase_pitch + run[0].place * axis.pitch for run, axis in zip(group, axes, strict=True)
        )
        indices = [(z.number * kernel_size[1] + y.number) * kernel_size[2] + x.number for z, y, x in product(*group)]
        columns.append(Column(sum(places), indices))
    return columns


def _runs(taps: tuple[Tap, ...], most: int) -> list[list[Tap]]:
    """Runs of neighbouring taps, in even parts of at most ``most``."""
    ordered = sorted(taps, key=lambda tap: (tap.phase, tap.place))
    runs: list[list[Tap]] = []
    for tap in ordered:
        if runs and (runs[-1][-1].phase, runs[-1][-1].place + 1) == (tap.phase, tap.place):
            runs[-1].append(tap)
        else:
            runs.append([tap])
    parts = [(run, -(-len(run) // most)) for run in runs]
    return [run[k * len(run) // n : (k + 1) * len(run) // n] for run, n in parts for k in range(n)]
