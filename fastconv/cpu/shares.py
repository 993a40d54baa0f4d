"""How boxes are shared out among workers: whole ones as long as all get one, and what is left in parts.

A part is a range of blocks of lanes and a range of the box along its outermost axis. No sum is cut: an output pixel is
computed from all of its window by one worker, in whatever part it lies, so that its bits are the same.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastconv.cpu._jit import inlined, internal
from fastconv.cpu.plan import Box, box_at, phase_axes

MOVE = 16.0  # products that take as long as to move an element into a panel or a packed weight
NO_MOVE = 1e9  # where a weight is ready


class Shares(NamedTuple):
    """Items 0 to ``whole`` are boxes; the parts of a box that is left follow each other."""

    whole: Any
    blocks: Any
    across: Any  # ranges of blocks
    along: Any  # ranges of the box
    items: Any


@inlined
def share_boxes(boxes, blocks, extent, reading, preparing, workers):
    """The shares of ``boxes``, each of so many blocks and so long on its outermost axis, that end first.

    Every part reads its range of the box and prepares its range of the weight; the products of a box take ``reading``
    times as long as to read it, and ``preparing`` times as long as to prepare the weight.
    """
    left, across, along = boxes % workers, 1, 1
    if left > 0:
        most = (2 * workers + left - 1) // left  # parts of a box
        least = np.inf
        for a in range(1, min(blocks, most) + 1):
            for l in range(1, min(extent, most // a) + 1):
                b, e = (blocks + a - 1) // a, (extent + l - 1) // l
                rounds = (left * a * l + workers - 1) // workers
                time = rounds * (b * e + e * blocks / reading + b * extent / preparing)
                if time < least:
                    least, across, along = time, a, l
    return Shares(boxes - left, blocks, across, along, boxes - left + left * across * along)


class Item(NamedTuple):
    """One piece of work: a box, which part of it, and which blocks."""

    index: Any
    part: Any
    parts: Any
    first: Any
    last: Any


@inlined
def share_at(shares, number, workers):
    """The piece of work of that number; every worker takes every ``workers``-th one.

    Whole boxes of a worker are neighbours, which read some of the same input.
    """
    rest = max(number - shares.whole, 0)
    across, along = (1, 1) if number < shares.whole else (shares.across, shares.along)
    split, part = rest % across, rest // across % along
    near = number % workers * (shares.whole // workers) + number // workers
    return Item(
        near if number < shares.whole else shares.whole + rest // (across * along), part, along,
        split * shares.blocks // across, (split + 1) * shares.blocks // across,
    )  # fmt: skip


@inlined
def extent_of(plan, phase):
    """The length of a full box on its outermost axis."""
    return _outermost(box_at(plan, phase, 0), plan, phase)[1]


@inlined
def _outermost(box, plan, phase):
    """The first axis of a box (images, depth, height, width) that is longer than one, and its length.

    A width that no box cuts stays whole, since panels are then filled by whole rows of the input.
    """
    if box.images > 1:
        return 0, box.images
    if box.depth > 1:
        return 1, box.depth
    if box.height > 1 or phase_axes(plan, phase)[3].parts == 1:
        return 2, box.height
    return 3, box.width


@inlined
def is_empty(box):
    """Whether it has no pixels: a box at an edge may be shorter than parts that it is cut into."""
    return box.images * box.depth * box.height * box.width == 0


@internal
def part_of(box, plan, phase, part, parts):
    """A range of a box along its outermost axis, see :func:`is_empty`."""
    axis, count = _outermost(box, plan, phase)
    first, count = part * count // parts, (part + 1) * count // parts - part * count // parts
    _, _, h, w = phase_axes(plan, phase)
    n, z, y, x = box.n, box.d, box.h, box.w
    if axis == 0:
        return Box(n + first, z, y, x, count, box.depth, box.height, box.width, box.grid)
    if axis == 1:
        return Box(n, z + first, y, x, 1, count, box.height, box.width, box.grid + first * h.count * w.count)
    if axis == 2:
        return Box(n, z, y + first, x, 1, 1, count, box.width, box.grid + first * w.count)
    return Box(n, z, y, x + first, 1, 1, 1, count, box.grid + first)


@inlined
def box_of(item, groups, plan, phase):
    """The group of an item, and its box or part of one."""
    group, index = item.index % groups, item.index // groups
    return group, part_of(box_at(plan, phase, index), plan, phase, item.part, item.parts)
