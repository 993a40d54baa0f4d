"""Convolution with pixels in the lanes: for few output channels, on channels-first arrays.

    C[out_channel, pixel] = sum over (tap, in_channel) of weight[out_channel, in_channel, tap] * x[in_channel, pixel]

The weight is read where it lies, x from planes with their padding, and whole rows of pixels are stored: nothing is
transposed. Lanes run on from row to row, so that what lies between the rows costs a few lanes and no case.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from fastconv._window import Window
from fastconv.cpu._jit import flushing, internal, launch
from fastconv.cpu._target import lanes
from fastconv.cpu.epilogue import make_target
from fastconv.cpu.memory import empty
from fastconv.cpu.microkernel import FEW_ROWS, MAX_VECTORS, ROWS, few_rows_tile, tile
from fastconv.cpu.panel import SLACK, make_reader, read_box
from fastconv.cpu.plan import WORK, Plan, Reading, make_plan, phase_axes, phase_header
from fastconv.cpu.plan_phases import Axis
from fastconv.cpu.pointers import advance, aligned, lanes_at, pointer
from fastconv.cpu.shares import MOVE, NO_MOVE, box_of, extent_of, is_empty, share_at, share_boxes
from fastconv.cpu.weights import block_lanes, make_lanes, make_weight, segment_of, segments_of


@flushing
def pixels_core(worker, workers, x, weight, backward, bias, floor, out, plan, tables, groups, out_channels):
    """The plan's convolution of x, phase by phase; every worker takes every ``workers``-th piece of work."""
    whole = make_weight(weight, backward, out_channels, plan)
    height = FEW_ROWS if out_channels <= FEW_ROWS else ROWS
    tiles = (out_channels + height - 1) // height
    lane_stride = whole.taps if backward else whole.summed * whole.taps
    reader, held = make_reader(x, False, plan, tables, 0), -1  # the piece of work that its panel holds
    turn = worker
    for phase in range(plan.shape[0]):
        header, (n, d, h, _) = phase_header(plan, phase), phase_axes(plan, phase)
        if phase > 0 and not header.again:
            reader, held = make_reader(x, False, plan, tables, phase), -1
        target = make_target(pointer(out, 0), False, groups * out_channels, plan, phase)
        columns = _weight_offsets(whole, plan, phase)
        rows = empty(ROWS, np.int64)
        boxes = header.boxes * groups
        reading = out_channels * max(header.taps, 1) / MOVE
        shares = share_boxes(boxes, tiles, extent_of(plan, phase), reading, NO_MOVE, workers)
        memory = empty(ROWS * (header.pitch + SLACK), x.dtype)
        for number in range(turn, shares.items, workers):
            item = share_at(shares, number, workers)
            group, box = box_of(item, groups, plan, phase)
            if is_empty(box):
                continue
            piece = item.index * item.parts + item.part
            if piece != held:
                read_box(reader, plan, phase, box, group)
                held = piece
            panel = aligned(pointer(reader.panel, 0))
            # Lanes up to the last pixel; beyond it and between rows they hold what nobody reads.
            last = (box.images - 1) * n.pitch + (box.depth - 1) * d.pitch + (box.height - 1) * h.pitch + box.width
            along = make_lanes(last, lanes_at(panel))
            there = pointer(weight, group * out_channels * whole.summed * whole.taps)
            for k in range(item.first, item.last):
                first, count = k * height, min(height, out_channels - k * height)
                for i in range(ROWS):
                    rows[i] = (first + min(i, count - 1)) * lane_stride
                sums, channel = aligned(pointer(memory, 0)), group * out_channels + first
                _multiply_rows(header, there, pointer(rows, 0), columns, panel, reader.summands, along, height, sums)
                _store_rows(sums, along.row, target, box, channel, count, pointer(bias, channel), floor)
        turn = (turn - shares.items) % workers


@internal
def _weight_offsets(weight, plan, phase):
    """Where each summand (segment of channels, tap, channel) lies in the weight, from its output channel on."""
    header, (_, d, h, w) = phase_header(plan, phase), phase_axes(plan, phase)
    stride = weight.lanes * weight.taps if weight.backward else weight.taps
    table = empty(header.taps * header.channels, np.int64)
    r = 0
    for first in range(0, header.channels, max(1, header.segment)):
        for z in range(d.taps):
            for y in range(h.taps):
                for x in range(w.taps):
                    tap = (d.first_tap + z * d.tap_step) * h.kernel_size + h.first_tap + y * h.tap_step
                    tap = tap * w.kernel_size + w.first_tap + x * w.tap_step
                    for c in range(first, min(header.channels, first + header.segment)):
                        table[r] = c * stride + tap
                        r += 1
    return table


@internal
def _multiply_rows(header, weight, rows, columns, panel, summands, along, height, sums):
    """sums[i, lane] = sum over r of weight[rows[i] + columns[r]] * panel[summands[r] + lane], segment by segment."""
    for index in range(segments_of(header)):
        first, segment = segment_of(header, index)
        start, depth = first * header.taps, segment * header.taps
        for block in range(along.blocks):
            lane, pitch, _ = block_lanes(along, block)
            there, into = advance(panel, lane), advance(sums, lane)
            a_col, b_row = pointer(columns, start), advance(summands, start)
            if height == FEW_ROWS and pitch == MAX_VECTORS * along.width:
                few_rows_tile(depth, weight, rows, a_col, there, b_row, 0, into, along.row, index > 0)
            else:
                tile(pitch // along.width, depth, weight, rows, a_col, there, b_row, 0, into, along.row, index > 0)


@internal
def _store_rows(sums, pitch, target, box, channel, channels, bias, floor):
    """Rows of pixels plus bias, then ReLU, to their places in the output."""
    n, d, h, w = phase_axes(target.plan, target.phase)
    flat = target.whole and h.pitch == box.width and (box.depth == 1 or d.pitch == box.height * box.width)
    width = box.depth * box.height * box.width if flat else box.width
    for c in range(channels):
        for i in range(box.images):
            plane = advance(target.address, ((box.n + i) * target.all_channels + channel + c) * target.plane)
            for z in range(1 if flat else box.depth):
                for y in range(1 if flat else box.height):
                    row = (d.start + (box.d + z) * d.step) * h.out_size + h.start + (box.h + y) * h.step
                    there = advance(plane, row * w.out_size + w.start + box.w * w.step)
                    here = advance(sums, c * pitch + i * n.pitch + z * d.pitch + y * h.pitch)
                    if w.step == 1:
                        for x in range(width):
                            value = here[x] + bias[c]
                            there[x] = floor if value < floor else value
                    else:
                        for x in range(width):
                            value = here[x] + bias[c]
                            there[x * w.step] = floor if value < floor else value


# ------------------------------------------------------------------------------------------------------------ in Python
@lru_cache(maxsize=256)
def pixels_in_lanes(
    window: Window, backward: bool, images: int, channels: int, groups: int, itemsize: int, out_channels: int
) -> bool:
    """Whether pixels fill the lanes better than the output's channels do, moves included."""
    plan = make_plan(window, backward, images, channels, groups, itemsize, Reading(False, pixels=True, beyond=True))
    space = [Axis(*map(int, row)) for phase in plan.numbers for row in phase[2:]]
    if any(axis.count > 1 and axis.stride != axis.unit for axis in space):  # neighbours on the grid lie apart
        return False
    height = FEW_ROWS if out_channels <= FEW_ROWS else ROWS
    between = space[2].box / max(space[2].box, space[1].pitch)  # lanes in use: the rest lies between rows
    by_pixels = between * out_channels / (-(-out_channels // height) * height)
    by_channels = out_channels / (-(-out_channels // lanes(itemsize)) * lanes(itemsize))
    return by_pixels > 1.4 * by_channels


def convolve_pixels(
    x: Any, weight: Any, bias: Any, floor: Any, out: Any, plan: Plan, backward: bool, groups: int, out_channels: int
) -> None:
    """Convolve flat channels-first arrays."""
    operations = out.size * plan.header.channels * plan.header.taps
    launch(
        pixels_core, max(1, operations >> WORK), x, weight, backward, bias, floor, out, plan.numbers, plan.tables,
        groups, out_channels,
    )  # fmt: skip
