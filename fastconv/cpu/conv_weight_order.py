"""The weight gradient's sums: how they lie in memory, and their way to the weight."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastconv.cpu._jit import compiled, internal
from fastconv.cpu.memory import empty
from fastconv.cpu.microkernel import MAX_VECTORS, ROWS
from fastconv.cpu.panel import transpose_run
from fastconv.cpu.plan import phase_axes, phase_header
from fastconv.cpu.pointers import advance, aligned, copy, lanes_at, pointer
from fastconv.cpu.weights import block_lanes, make_lanes


class Problem(NamedTuple):
    """Addresses, orders and sizes; channels are per group."""

    grad_out: Any
    grad_last: Any
    sums: Any
    groups: Any
    in_channels: Any
    out_channels: Any
    segment: Any  # see Header
    channel_pitch: Any
    taps: Any
    plane: Any  # output pixels of an image
    pixel_pitch: Any  # elements between the windows of neighbouring pixels
    out_lanes: Any  # whether out_channels lie in the lanes
    lanes: Any
    runs: Any  # of lanes: one, or one for each tap
    rows: Any  # of C
    height: Any  # rows that the sums hold: whole tiles, of all rows or of a few at a time
    slice: Any  # elements of one slice's sums for one group, laid out as [run][block][row][lane]


@internal
def make_problem(grad_out, grad_last, sums, plan, groups, out_channels, out_lanes, most):
    header, (_, d, h, w) = phase_header(plan, 0), phase_axes(plan, 0)
    there = aligned(pointer(sums, 0))
    lanes = make_lanes(out_channels if out_lanes else header.channels, lanes_at(there))
    runs, rows = (1, header.channels * header.taps) if out_lanes else (header.taps, out_channels)
    height = min(most, (rows + ROWS - 1) // ROWS * ROWS)
    return Problem(
        pointer(grad_out, 0), grad_last, there, groups, header.channels, out_channels, header.segment, header.pitch,
        header.taps,
        d.count * h.count * w.count, w.pixel_pitch, out_lanes, lanes, runs, rows, height, runs * lanes.row * height,
    )  # fmt: skip


@compiled
def weight_order_core(worker, workers, grad_weight, grad_out, sums, plan, groups, out_channels, out_lanes, slices):
    """The slices' sums, added up in their order and moved to grad_weight (O, C / groups, *K)."""
    problem = make_problem(grad_out, False, sums, plan, groups, out_channels, out_lanes, 1 << 62)
    to = lane_offsets(problem)
    if out_lanes:
        _order_out_lanes(worker, workers, problem, grad_weight, slices, to)
    else:
        _order_in_lanes(worker, workers, problem, grad_weight, slices, to)


@internal
def lane_offsets(problem):
    """Where the lanes of a block lie in the weight, from the first one."""
    to = empty(MAX_VECTORS * problem.lanes.width, np.int64)
    for q in range(to.size):
        to[q] = q * (problem.rows if problem.out_lanes else problem.taps)
    return to


@internal
def order_row(problem, sums, row, there, to):
    """A row of sums [tap][block][row][in_channel] to [in_channel][tap]."""
    for block in range(problem.lanes.blocks):
        start, pitch, channels = block_lanes(problem.lanes, block)
        source = advance(sums, start * problem.height + row * pitch)
        stride = problem.lanes.row * problem.height
        _transpose_within(source, stride, problem.taps, advance(there, start * problem.taps), to, channels)


@internal
def _order_in_lanes(worker, workers, problem, grad_weight, slices, to):
    """Row by row: sums [tap][block][out_channel][in_channel] to [out_channel][in_channel][tap]."""
    for row in range(worker, problem.groups * problem.out_channels, workers):
        group, o = row // problem.out_channels, row % problem.out_channels
        for t in range(problem.taps):
            for block in range(problem.lanes.blocks):
                start, pitch, _ = block_lanes(problem.lanes, block)
                offset = group * problem.slice + (t * problem.lanes.row + start) * problem.height + o * pitch
                _sum_slices(problem, offset, pitch, slices, advance(problem.sums, offset))
        there = pointer(grad_weight, row * problem.taps * problem.in_channels)
        order_row(problem, advance(problem.sums, group * problem.slice), o, there, pointer(to, 0))


@internal
def _order_out_lanes(worker, workers, problem, grad_weight, slices, to):
    """Block by block: sums [block][(in_channel, tap)][out_channel] to [out_channel][(in_channel, tap)]."""
    for item in range(worker, problem.groups * problem.lanes.blocks, workers):
        group, block = item // problem.lanes.blocks, item % problem.lanes.blocks
        start, pitch, channels = block_lanes(problem.lanes, block)
        offset = group * problem.slice + start * problem.height
        total = advance(problem.sums, offset)
        _sum_slices(problem, offset, problem.height * pitch, slices, total)
        there = pointer(grad_weight, (group * problem.out_channels + start) * problem.rows)
        _transpose_within(total, pitch, problem.rows, there, pointer(to, 0), channels)


@internal
def _sum_slices(problem, offset, count, slices, total):
    """Add the other slices' sums to the first one's: total[k] = sum over slices of sums[slice, offset + k]."""
    for s in range(1, slices):
        here = advance(problem.sums, s * problem.groups * problem.slice + offset)
        for k in range(count):
            total[k] += here[k]


@internal
def _transpose_within(source, stride, rows, target, to, count):
    """Like transpose_run with to[q] = q * rows, but nothing is stored beyond target[count * rows]."""
    if rows == 1:
        copy(target, source, count)
        return
    width = lanes_at(source)
    spill = (width - rows % width) % width
    inside = count - (spill + rows - 1) // rows
    if inside >= width:
        transpose_run(source, stride, rows, target, to, inside, 0)
    for q in range(inside if inside >= width else 0, count):
        for c in range(rows):
            target[to[q] + c] = source[c * stride + q]
