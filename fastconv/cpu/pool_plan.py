"""Where the windows of a pooling operation lie: tables of rows, divisors, and the layout of scratch.

Everything here is NumPy on one axis at a time, made once per shape; kernels only read the tables.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv._window import Window

Table = npt.NDArray[np.int64]

BAND_ELEMENTS = 4096  # of scratch: 16 KiB of float32, a part of an L1 cache
BAND_ROWS = 256
SMALLEST_IN_PARTS = 9  # taps along a row from which a window is made of part windows


# -------------------------------------------------------------------------------------------------- windows on one axis
def taps_inside(start: Any, dilation: int, kernel: int, size: int) -> tuple[Any, Any]:
    """First, and one past the last, of the taps t < kernel with 0 <= start + t * dilation < size, for many starts."""
    first = np.maximum(-(start // dilation), 0)
    return first, np.maximum(np.minimum(-((start - size) // dilation), kernel), first)


def bounds(window: Window, axis: int, before: int = 0, after: int = 0) -> tuple[Table, Table]:
    """For each output the first position that its window covers, and how many: of the input, or of more around it.

    From each position to the next it is the window's dilation.
    """
    size, outputs = window.input_size[axis], np.arange(window.output_size[axis])
    if window.kernel_size[axis] == 0:
        return _shares(size, window.output_size[axis])
    start, step = outputs * window.stride[axis] - window.padding_before[axis] + before, window.dilation[axis]
    first, last = taps_inside(start, step, window.kernel_size[axis], before + size + after)
    return start + first * step - before, last - first


def _shares(size: int, count: int) -> tuple[Table, Table]:
    """First element and number of elements of each of ``count`` windows that share ``size`` elements."""
    place = np.arange(count)
    first = place * size // count
    return first, -(-(place + 1) * size // count) - first


def covered(window: Window, axis: int) -> tuple[Table, int]:
    """For each output the input positions that its window covers: their table, and the step from one to the next."""
    return _table(*bounds(window, axis), window.stride[axis]), window.dilation[axis]


def covering(window: Window, axis: int) -> tuple[Table, int]:
    """For each input position the outputs whose windows cover it: their table, and the (negative) step."""
    outputs = window.output_size[axis]
    if window.kernel_size[axis] == 0:  # of two sets of shares each covers the other
        first, number = _shares(outputs, window.input_size[axis])
        return _table(first + number - 1, number, 0), -1
    output, number, step = _covering(window, axis, window.input_size[axis])
    skipped = np.maximum(-((outputs - 1 - output) // step), 0)
    number = np.minimum(number, output // step + 1) - skipped
    return _table(output - skipped * step, np.maximum(number, 0), 1, window.stride[axis]), -step


def _covering(window: Window, axis: int, positions: int) -> tuple[Table, Table, int]:
    """The same as if there were outputs without end on both sides: the last output, their number, the step between."""
    stride, dilation, kernel = window.stride[axis], window.dilation[axis], window.kernel_size[axis]
    common = math.gcd(stride, dilation)
    # From one tap that meets a position to the next one, and from its output to the next one's.
    taps, step = stride // common, dilation // common
    place = np.arange(positions) + window.padding_before[axis]
    tap = place // common * pow(step, -1, taps) % taps  # the first one with tap * dilation = place modulo stride
    tap = np.where(place % common == 0, tap, kernel)
    return (place - tap * dilation) // stride, np.maximum(-((tap - kernel) // taps), 0), step


def _table(first: Any, number: Any, step: int, every: int = 1) -> Table:
    """Three tables in one: the first row of each position, the number of rows, and how many positions go on alike.

    Alike means the same number of rows, each ``step`` further on than those of the position ``every`` before it.
    """
    alike = np.ones(len(first))
    for phase in range(min(every, len(first))):
        breaks = (np.diff(number[phase::every]) != 0) | (np.diff(first[phase::every]) != step)
        ends = np.append(np.flatnonzero(breaks), len(breaks)) + 1
        place = np.arange(len(breaks) + 1)
        alike[phase::every] = ends[np.searchsorted(ends, place, side="right")] - place
    return np.concatenate([first, number, alike]).astype(np.int64)


# ------------------------------------------------------------------------------------------------------------- divisors
def divisors(window: Window, count_include_pad: bool, divisor: int | None) -> tuple[Any, Any]:
    """What a window's sum is divided by: one factor per row of the result, and one per position in it.

    With ``count_include_pad`` the elements of the padding count, but nothing beyond it: with ``ceil_mode`` the last
    window may reach further. A window of which nothing counts has the sum 0, and the divisor 1.
    """
    if divisor is not None:
        return np.full(math.prod(window.output_size[:2]), float(divisor)), np.ones(window.output_size[2])
    depth, height, width = (np.maximum(_counts(window, axis, count_include_pad), 1).astype(float) for axis in range(3))
    return np.outer(depth, height).ravel(), width


def _counts(window: Window, axis: int, count_include_pad: bool) -> Any:
    around = (window.padding_before[axis], window.padding_after[axis]) if count_include_pad else (0, 0)
    return bounds(window, axis, *around)[1]


@lru_cache(maxsize=256)
def some_are_empty(window: Window) -> bool:
    """Whether a window lies in the padding with all its elements."""
    return any(bounds(window, axis)[1].min() == 0 for axis in range(3))


# -------------------------------------------------------------------------------------------------------------- forward
# A plan is one int64 array, so that kernels take one argument: these numbers, then the tables of depth and height, and
# of width where windows share it.
(
    SOURCE_ROWS, SOURCE_WIDTH, SOURCE_COUNT, DEPTH, HEIGHT, COUNT, DEPTH_STEP, HEIGHT_STEP, ROW_STEP, KERNEL, PART,
    STRIDE, DILATION, RUN_COUNT, REPEATS, JUMP, GAP, PITCH, BAND, SEAMLESS, TALL, HEADER,
) = range(22)  # fmt: skip


@lru_cache(maxsize=256)
def forward_plan(window: Window, run: int, lanes: int) -> Table:
    """How windows are pooled whose positions are ``run`` channels each. Rows of scratch have padding on both sides."""
    size, kernel, stride, before, _, dilation, count = (field[2] for field in window)
    (depth, depth_step), (height, height_step) = covered(window, 0), covered(window, 1)
    seamless = run == 1 and before == 0 and dilation * (kernel - 1) < stride and size == stride * count
    pitch = max(before + size, (count - 1) * stride + dilation * (kernel - 1) + 1) * run
    pitch = pitch if seamless else -(-pitch // lanes) * lanes
    one_run = stride == 1 or (run == 1 and kernel > 0)
    line = (stride, dilation * run, count * run, 1, 0) if one_run else _runs(window, run)
    source_height = window.input_size[1]
    depth[: window.output_size[0]] *= source_height  # tables count rows
    header = (
        window.input_size[0] * source_height, size, size * run, *window.output_size[:2], count * run,
        depth_step * source_height, height_step, window.stride[1], kernel, part(kernel), *line,
        before * run, pitch, max(1, min(BAND_ELEMENTS // pitch, BAND_ROWS)), seamless, _is_tall(window, height),
    )  # fmt: skip
    first, number = bounds(window, 2) if kernel == 0 else (depth[:0], depth[:0])
    return _plan(header, depth, height, first * run, number)


def _runs(window: Window, run: int) -> tuple[int, ...]:
    return 1, window.dilation[2] * run, run, window.output_size[2], window.stride[2] * run


def part(kernel: int) -> int:
    """Taps of the part windows that a large window is made of: about 2 sqrt(kernel) steps then, instead of kernel."""
    return math.isqrt(kernel + math.isqrt(kernel)) if kernel >= SMALLEST_IN_PARTS else 1


def _is_tall(window: Window, height: Table) -> bool:
    """Whether the rows of one plane go on into the next one as if all planes were one."""
    (depth, rows, _), (out_depth, out_rows, _) = window.input_size, window.output_size
    return depth == out_depth == 1 and rows == window.stride[1] * out_rows and height[2 * out_rows] == out_rows


def _plan(header: tuple[Any, ...], *tables: Table) -> Table:
    plan = np.concatenate([np.array(header, np.int64), *tables])
    plan.setflags(write=False)
    return plan


# ------------------------------------------------------------------------------------------------------------- backward
# These numbers, the tables of depth and height, and for the phases of the stride along a row the first output, counted
# from the one at the phase's index, and the number of outputs. Where windows share the row every position is a phase.
(
    B_SOURCE_HEIGHT, B_SOURCE_WIDTH, B_SOURCE_ROWS, B_DEPTH, B_HEIGHT, B_WIDTH, B_DEPTH_STEP, B_HEIGHT_STEP,
    B_WIDTH_STEP, B_ROW_STEP, B_ROW_EVERY, B_STRIDE, B_PHASES, B_GAP, B_PITCH, B_BAND, B_BAND_ROWS, B_HEADER,
) = range(18)  # fmt: skip


@lru_cache(maxsize=256)
def backward_plan(window: Window, run: int, lanes: int) -> Table:
    """How gradients of sums are spread. A row of scratch has zeros on both sides, where there are no outputs."""
    (_, _, size), (_, _, stride), (_, _, count) = window.input_size, window.stride, window.output_size
    (depth, depth_step), (height, height_step) = covering(window, 0), covering(window, 1)
    first, number, step = _phases(window, size, stride)
    gap = max(0, -int((first - np.maximum(number - 1, 0) * step).min()))
    pitch = (gap + max(count, int(first.max()) + (-(-size // stride) if stride > 0 else 1))) * run
    depth[: window.input_size[0]] *= window.output_size[1]  # tables count rows
    band, band_rows = _band(height, -height_step, max(BAND_ELEMENTS // max(size * run, 1), 1))
    header = (
        window.output_size[1], count, math.prod(window.output_size[:2]), *window.input_size,
        depth_step * window.output_size[1], height_step, -step, min(window.stride[1], 1), max(window.stride[1], 1),
        stride, len(first), gap * run,
        -(-pitch // lanes) * lanes, band, band_rows,
    )  # fmt: skip
    return _plan(header, depth, height, first, number)


def _phases(window: Window, size: int, stride: int) -> tuple[Table, Table, int]:
    if stride == 0:
        first, number = _shares(window.output_size[2], size)
        return first + number - 1, number, 1
    first, number, step = _covering(window, 2, min(size, stride))
    return np.where(number > 0, first, 0), number, step


def _band(table: Table, step: int, rows: int) -> tuple[int, int]:
    """How many rows to make together, and the most rows that they are made of.

    ``rows``, or more where bands would share most of the rows that they are made of.
    """
    first, number, _ = table.reshape(3, -1)
    low, high = first - np.maximum(number - 1, 0) * step, np.where(number > 0, first, -1)
    low = np.where(number > 0, low, np.iinfo(np.int64).max)
    rows = min(len(first), max(rows, 2 * int(np.max(number) - 1) * step))
    tops = np.arange(0, len(first), rows)
    spans = np.maximum.reduceat(high, tops) - np.minimum.reduceat(low, tops) + 1
    return rows, max(0, int(spans.max()))
