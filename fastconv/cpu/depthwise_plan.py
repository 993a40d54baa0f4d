"""Plans of depthwise convolution: what a kernel does for each box, as lists of numbers.

Rows to move into the panel, tiles of results to sum, and rows to move out of the buffer where results do not go
straight to the output. The panel holds one channel (planar), or a vector of channels (blocked). Boxes that are alike
share lists.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from fastconv._window import Window
from fastconv.cpu._jit import inlined
from fastconv.cpu.depthwise_axes import (
    Axis,
    Column,
    backward_axis,
    columns_of,
    even_part,
    forward_axis,
    with_boxes,
    with_pitches,
)
from fastconv.cpu.depthwise_kernel import COLUMN, COLUMNS, TAPS, TILE, WIDTH
from fastconv.cpu.depthwise_lists import (
    Numbers,
    Results,
    Tile,
    list_moves,
    list_places,
    list_rows,
    list_tiles,
    part_of,
)
from fastconv.cpu.group_kernel import NARROW_VECTORS, channels_together, vectors_of
from fastconv.cpu.group_kernel import TAPS as GROUP_TAPS

LEAST_HEIGHT = 4  # from here on a tile of pixels goes down the rows, below it goes along a row
GRAD_BYTES = 4096  # of a channel that meet all taps before the next ones: those of a tile's channels stay in L1


class Header(NamedTuple):
    """The first numbers of a plan. Lists are given by the places of their first numbers."""

    blocked: Any  # whether a panel pixel is a vector of channels
    together: Any  # output channels of a tile
    images: Any  # whose panels lie side by side, for the weight of groups
    buffered: Any  # whether results go through a buffer, to be put in the output's order
    planes: Any  # input channels that make one output channel
    plane: Any  # elements of a plane of the panel
    panel: Any  # elements of the panel
    step: Any  # elements from one vector of a tile to the next in the panel,
    out_step: Any  # and among the results
    drop: Any  # by which a tile's vectors have fewer and fewer elements
    buffer: Any  # elements of the buffer of one target phase
    pixels: Any  # of a plane of the input
    pixel_step: Any  # between neighbours in a row of the panel, in the input
    out_pixels: Any  # of a plane of the output
    row_phases: Any  # target phases that make a row of the output
    phases: Any  # target phases
    phase_list: Any  # for each its first column and tap, and the numbers of columns of COLUMN, COLUMN - 1, ... taps
    columns: Any  # all columns, and where they start in a window
    column_list: Any
    boxes: Any  # all boxes, and for each the place of its Lists but for the last three, which follow
    box_list: Any


class Lists(NamedTuple):
    """What is done for a box: numbers of entries and where they are, shared by all boxes that are alike."""

    moves: Any  # from an input pixel, to a panel element, number of panel pixels
    move_list: Any
    places: Any  # where the input pixels of a run go in the panel, -1 for nowhere
    place_list: Any
    first_place: Any
    rows: Any  # from a buffer element, to an output pixel, number of pixels
    row_list: Any
    tile_list: Any  # where numbers and places of the lists of tiles are, for each target phase
    in_pixel: Any  # the box's first pixel in the input, and in the output
    out_pixel: Any


class Plan(NamedTuple):
    """A plan as kernels take it, and what Python needs of it."""

    numbers: Numbers
    order: Numbers  # of the taps (plane, tap) in the columns
    blocked: bool
    together: int  # output channels of a tile


class _Numbers:
    """The numbers of a plan, as they grow."""

    def __init__(self) -> None:
        self.lists: list[Any] = []
        self.size = 0

    def add(self, numbers: Any) -> int:
        """Append a list, and return its place."""
        numbers = np.asarray(numbers, np.int64).reshape(-1)
        self.lists.append(numbers)
        self.size += numbers.size
        return self.size - int(numbers.size)


class Shape(NamedTuple):
    """What all lists of a plan are made with."""

    axes: list[Axis]
    plane: int  # elements of a plane of the panel
    tile: Tile
    lanes: int
    blocked: bool
    together: int
    buffered: bool
    upright: bool  # whether a tile goes down the rows
    size: int  # elements of an output pixel where results go straight to the output
    overlap: bool  # whether tiles may

    @property
    def grouped(self) -> bool:
        """Whether several output channels make a tile."""
        return self.together > 1

    @property
    def buffer(self) -> int:
        """Elements of the buffer of one target phase."""
        d, h, w = self.axes
        return d.box * h.box * (w.box * self.lanes if self.blocked else h.pitch) + self.lanes


def _shape(
    window: Window, pass_: str, planes: int, itemsize: int, channels: int, shared: int, channels_last: bool
) -> Shape:
    lanes = WIDTH // itemsize
    axes = [(backward_axis if pass_ == "backward_input" else forward_axis)(window, a) for a in range(3)]
    # Short rows waste lanes when these are pixels; moving channels into the lanes costs less.
    blocked = channels >= lanes // 2 if channels_last else axes[2].windows <= lanes // 2
    together = 1 if blocked or channels_last else channels_together(pass_, shared)
    grouped = together > 1
    pixel = lanes if blocked else 1
    axes = with_boxes(axes, planes * pixel * itemsize)
    # Groups' results run on from row to row, so that the next row starts where a row ends.
    axes, plane = with_pitches(axes, 1 if grouped and pass_ != "backward_weight" else lanes, pixel)
    upright = not blocked and not grouped and axes[1].windows >= LEAST_HEIGHT
    vector = 1 if blocked else lanes  # pixels of a vector
    return Shape(
        axes, plane, Tile(TILE, vector, vector) if upright else Tile(1, TILE * vector, vector), lanes, blocked,
        together, buffered=not channels_last if blocked else channels_last or grouped or axes[2].out_step > 1,
        upright=upright, size=channels if blocked else 1, overlap=pass_ != "backward_weight",
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- the plan
@lru_cache(maxsize=256)
def make_plan(
    window: Window, pass_: str, planes: int, itemsize: int, channels: int, shared: int, channels_last: bool
) -> Plan:
    """The plan of "forward", "backward_input" or "backward_weight", the last of which walks over forward's windows.

    ``channels`` are those of the output (of forward's for the weight), each made of ``planes`` channels of the input;
    ``shared`` of them are made of the same.
    """
    shape = _shape(window, pass_, planes, itemsize, channels, shared, channels_last)
    d, h, w = shape.axes
    numbers = _Numbers()
    numbers.add([0] * len(Header._fields))
    phases = list(product(*(range(len(axis.taps)) for axis in shape.axes)))
    tables = _weight_columns if pass_ == "backward_weight" else _columns
    phase_list, columns, order = tables(shape, phases, planes, window.kernel_size)
    boxes = _list_boxes(numbers, shape, phases)
    header = Header(
        blocked=shape.blocked, together=shape.together, images=max(1, GRAD_BYTES // (itemsize * d.box * h.box * w.box)),
        buffered=shape.buffered, planes=planes, plane=shape.plane,
        panel=shape.plane * planes + max((TILE + COLUMN) * _step(shape), NARROW_VECTORS * shape.lanes),
        step=_step(shape), out_step=_out_step(shape),
        drop=0 if shape.blocked or shape.upright else shape.lanes, buffer=shape.buffer,
        pixels=d.size * h.size * w.size, pixel_step=w.step, out_pixels=d.out_size * h.out_size * w.out_size,
        row_phases=len(w.taps), phases=len(phases), phase_list=numbers.add(phase_list), columns=len(columns),
        column_list=numbers.add(columns), boxes=len(boxes), box_list=numbers.add(boxes),
    )  # fmt: skip
    numbers.lists[0] = np.array(header, np.int64)
    plan = Plan(np.concatenate(numbers.lists), np.array(order, np.int64), shape.blocked, shape.together)
    plan.numbers.setflags(write=False)
    return plan


def _step(shape: Shape) -> int:
    """Elements from one vector of a tile to the next in the panel,"""
    return shape.axes[1].pitch if shape.grouped or shape.upright else shape.lanes


def _out_step(shape: Shape) -> int:
    """and among the results."""
    _, h, w = shape.axes
    if shape.upright:
        return h.pitch if shape.buffered else h.out_step * w.out_size
    if not shape.blocked or shape.buffered:
        return shape.lanes * (w.out_step if shape.blocked else 1)
    return w.out_step * shape.size


def _columns(shape: Shape, phases: list[Any], planes: int, kernel_size: Any) -> tuple[list[Any], list[int], list[int]]:
    """For every target phase its first column and tap, and its numbers of columns, longest first; columns; taps."""
    phase_list: list[Any] = []
    places: list[int] = []
    order: list[int] = []
    for phase in phases:
        columns = _of_planes(shape, phase, planes, kernel_size, 1 if shape.grouped else COLUMN)
        columns.sort(key=lambda column: -len(column.taps))
        lengths = [len(column.taps) for column in columns]
        phase_list.append((len(places), len(order), *(lengths.count(COLUMN - k) for k in range(COLUMN))))
        places += [column.place for column in columns]
        order += [tap for column in columns for tap in column.taps]
    return phase_list, places, order


def _weight_columns(
    shape: Shape, phases: list[Any], planes: int, kernel_size: Any
) -> tuple[list[Any], list[int], list[int]]:
    """The same for the weight: COLUMNS columns a time, which have TAPS taps, or single taps; -1 is one too many."""
    taps, most = (1, GROUP_TAPS) if shape.grouped else (TAPS, COLUMNS)
    columns = _of_planes(shape, phases[0], planes, kernel_size, taps)
    columns += [columns[-1]._replace(taps=[])] * (-len(columns) % most)
    order = [tap for column in columns for tap in [*column.taps, *[-1] * (taps - len(column.taps))]]
    return [], [column.place for column in columns], order


def _of_planes(shape: Shape, phase: Any, planes: int, kernel_size: Any, most: int) -> list[Column]:
    along = 2 if shape.blocked else 1 if shape.upright else -1
    columns = columns_of(shape.axes, phase, along, most, kernel_size)
    taps = math.prod(kernel_size)
    return [
        Column(j * shape.plane + column.place, [j * taps + tap for tap in column.taps])
        for j, column in product(range(planes), columns)
    ]


def _list_boxes(numbers: _Numbers, shape: Shape, phases: list[Any]) -> list[tuple[int, int, int]]:
    """For every box the place of its lists, and its first pixel in the input and in the output."""
    known: dict[Any, int] = {}
    boxes = []
    (_, height, width), (_, out_height, out_width) = (
        [getattr(axis, name) for axis in shape.axes] for name in ("size", "out_size")
    )
    for starts in product(*(range(0, axis.windows, axis.box) for axis in shape.axes)):
        parts = tuple(part_of(axis, start) for axis, start in zip(shape.axes, starts, strict=True))
        if parts not in known:
            known[parts] = _add_lists(numbers, shape, phases, parts)
        z, y, x = (start * axis.step for start, axis in zip(starts, shape.axes, strict=True))
        out_z, out_y, out_x = (start * axis.out_step for start, axis in zip(starts, shape.axes, strict=True))
        boxes.append(
            (known[parts], (z * height + y) * width + x, (out_z * out_height + out_y) * out_width + out_x)
        )  # fmt: skip
    return boxes


def _add_lists(numbers: _Numbers, shape: Shape, phases: list[Any], parts: Any) -> int:
    """Add the lists of all boxes of these parts."""
    moves = list_moves(shape.axes, parts)
    first, places = list_places(shape.axes, parts) if shape.blocked and shape.buffered else (0, np.zeros(0, np.int64))
    tiles, rows = [], []
    for index, phase in enumerate(phases):
        to, more = _results(shape, parts, index, phase)
        counts = [part.counts[f] for part, f in zip(parts, phase, strict=True)]
        table = _list_tiles(shape, counts, to)
        tiles.append((len(table), numbers.add(table)))
        rows += more
    lists = [len(moves), numbers.add(moves), len(places), numbers.add(places), first, len(rows), numbers.add(rows)]
    return numbers.add([*lists, *np.reshape(tiles, -1)])


def _list_tiles(shape: Shape, counts: list[int], to: Results) -> Numbers:
    """The tiles of some windows; of groups they are runs over rows, or all pixels of some rows."""
    if not shape.grouped:
        return list_tiles(shape.axes, counts, to, shape.tile, shape.lanes, shape.overlap)
    depth, height, width = counts
    if not shape.overlap:  # those of the weight
        rows = even_part(height, GRAD_BYTES // (WIDTH // shape.lanes * width))
        return list_tiles(shape.axes, counts, to, Tile(rows, width, width), shape.lanes, False)
    run = (height - 1) * shape.axes[1].pitch + width if height and width else 0
    tile = Tile(1, vectors_of(shape.together) * shape.lanes, shape.lanes)
    return list_tiles(shape.axes, [depth, min(height, 1), run], to, tile, shape.lanes, False)


def _results(shape: Shape, parts: Any, index: int, phase: Any) -> tuple[Results, list[Any]]:
    """Where the results of a target phase go, and the rows of the output that begin with them, if they are buffered."""
    (d, h, w), (fd, fh, fw) = shape.axes, phase
    plane, width = h.out_size * w.out_size, w.out_size
    output = Results(fd * plane + fh * width + fw, d.out_step * plane, h.out_step * width, w.out_step)
    if not shape.buffered:
        return Results(*(number * shape.size for number in output)), []
    depth, height = parts[0].counts[fd], parts[1].counts[fh]
    if shape.blocked:  # the buffer is the box of the output, each of its pixels a vector of channels
        width = sum(parts[2].counts)
        plane = width * sum(parts[1].counts)
        inside = Results(fd * plane + fh * width + fw, d.out_step * plane, h.out_step * width, w.out_step)
        inside = Results(*(number * shape.lanes for number in inside))
        return inside, list_rows((depth, 1), inside, output, plane) if fh == fw == 0 else []
    # The buffer has one phase after the other.
    inside = Results(index * shape.buffer, height * h.pitch, h.pitch, 1)
    return inside, list_rows((depth, height), inside, output, sum(parts[2].counts)) if fw == 0 else []


# ------------------------------------------------------------------------------------------------- inside compiled code
@inlined
def read_header(plan):
    return Header(
        plan[0] != 0, plan[1], plan[2], plan[3] != 0, plan[4], plan[5], plan[6], plan[7], plan[8], plan[9], plan[10],
        plan[11], plan[12], plan[13], plan[14], plan[15], plan[16], plan[17], plan[18], plan[19], plan[20],
    )  # fmt: skip


@inlined
def read_lists(plan, header, index):
    box = header.box_list + 3 * index
    at = plan[box]
    return Lists(
        plan[at], plan[at + 1], plan[at + 2], plan[at + 3], plan[at + 4], plan[at + 5], plan[at + 6], at + 7,
        plan[box + 1], plan[box + 2],
    )  # fmt: skip
