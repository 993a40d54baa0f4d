"""The weight gradient: output pixels are summed, and either channel may lie along the lanes.

    in_channels in the lanes:   C[out_channel, in_channel] += sum over pixels of grad_out * x[pixel's window at tap]
    out_channels in the lanes:  C[(in_channel, tap), out_channel] += sum over pixels of x[pixel's window] * grad_out

The first reads grad_out where it lies; the second wastes no lanes where in_channels are few. Sums run over the pixels
of a box in chains, over the boxes of a slice in their order, over the slices in their order: the shape decides all
three.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from fastconv._window import Window
from fastconv.cpu import fft, layout, winograd_weight
from fastconv.cpu._jit import flushing, internal, launch, made
from fastconv.cpu._target import lanes
from fastconv.cpu.conv_weight_order import lane_offsets, make_problem, order_row, weight_order_core
from fastconv.cpu.depthwise import depthwise_backward_weight, sums_planes
from fastconv.cpu.fft_plan import transform_size
from fastconv.cpu.memory import empty
from fastconv.cpu.microkernel import ROWS, tile
from fastconv.cpu.panel import SLACK, make_reader, read_box, transpose_run
from fastconv.cpu.plan import WORK, Reading, box_at, make_plan, phase_axes, phase_header
from fastconv.cpu.pointers import advance, aligned, copy, pointer
from fastconv.cpu.shares import MOVE, NO_MOVE, share_at, share_boxes
from fastconv.cpu.weights import block_lanes, padded_channels
from fastconv.cpu.winograd_plan import chosen
from fastconv.cpu.winograd_weight import LEAST_CHANNELS

CHAIN = 384  # pixels of one chain
AHEAD = 8  # pixels that are prefetched ahead of their use
MAX_SLICES = 16
SLICE_BYTES = 2 << 20  # of all slices' sums together
FEW_TILES = 4  # whose sums wait in L2 for their way to the weight, where one box holds all pixels


# ---------------------------------------------------------------------------------------------------------------- sums
@flushing
def weight_sums_core(
    worker, workers, x, x_last, grad_out, grad_last, sums, grad_weight, plan, tables, groups, out_channels, out_lanes,
    slices,
):  # fmt: skip
    """Every slice's sums, for every group; every worker takes some slices, or some rows of all of them.

    Where ``grad_weight`` is not empty, there is one box: a few rows at a time go straight to it, and ``sums`` is not
    used.
    """
    few = grad_weight.size > 0
    most = FEW_TILES * ROWS if few else 1 << 62
    problem = make_problem(grad_out, grad_last, sums, plan, groups, out_channels, out_lanes, most)
    boxes = phase_header(plan, 0).boxes
    reader = make_reader(x, x_last, plan, tables, 0)
    operand = _make_operand(problem, reader, grad_out, phase_header(plan, 0).box_pixels)
    memory = empty((problem.slice if few else 0) + SLACK, x.dtype)
    to = lane_offsets(problem)
    tiles = (problem.rows + ROWS - 1) // ROWS
    shares = share_boxes(slices * groups, tiles, 1, out_channels * problem.taps / MOVE, NO_MOVE, workers)
    for number in range(worker, shares.items, workers):
        item = share_at(shares, number, workers)
        group, slice_ = item.index % groups, item.index // groups
        into = advance(problem.sums, (slice_ * groups + group) * problem.slice)
        start, stop = slice_ * boxes // slices, (slice_ + 1) * boxes // slices
        for index in range(start, stop):
            box = box_at(plan, 0, index)
            panel = read_box(reader, plan, 0, box, group)
            step = FEW_TILES if few else tiles
            for k in range(item.first, item.last, step):
                if few:
                    into = aligned(pointer(memory, 0))
                until = min(item.last, k + step)
                _add_box(
                    problem, reader, operand, panel, plan, box, group, k, until, 0 if not few else k, into,
                    index > start,
                )  # fmt: skip
                if few:
                    for row in range(k * ROWS, min(until * ROWS, out_channels)):
                        there = pointer(grad_weight, (group * out_channels + row) * problem.taps * problem.in_channels)
                        order_row(problem, into, row - k * ROWS, there, pointer(to, 0))


class Operand(NamedTuple):
    """How grad_out is read: in place as rows, or from a panel of pixels as lanes."""

    memory: Any
    pixels: Any  # where each pixel of a full box lies
    rows: Any  # where each row of C starts in its operand


@internal
def _make_operand(problem, reader, grad_out, box_pixels):
    count, pitch = box_pixels, problem.lanes.row
    memory = empty((count * pitch if problem.out_lanes else 0) + SLACK, grad_out.dtype)
    pixels, row_offsets = empty(count, np.int64), empty((problem.rows + ROWS - 1) // ROWS * ROWS, np.int64)
    all_channels = problem.out_channels * problem.groups
    for p in range(count):
        if problem.out_lanes:
            pixels[p] = p * pitch
        elif problem.grad_last:
            pixels[p] = p * all_channels
        else:
            pixels[p] = p // problem.plane * problem.plane * all_channels + p % problem.plane
    for i in range(row_offsets.size):
        row = min(i, problem.rows - 1)
        if problem.out_lanes:  # in the order of the weight: (in_channel, tap)
            channel, tap = row // problem.taps, row % problem.taps
            row_offsets[i] = reader.summands[tap * problem.segment] + channel * problem.channel_pitch
        else:
            row_offsets[i] = row if problem.grad_last else row * problem.plane
    return Operand(memory, pixels, row_offsets)


@internal
def _add_box(problem, reader, operand, panel, plan, box, group, first, last, base, into, accumulate):
    """Add a box's pixels to rows first * ROWS to last * ROWS of C; the sums start with row base * ROWS."""
    count = box.images * box.depth * box.height * box.width
    all_channels = problem.groups * problem.out_channels
    channel = group * problem.out_channels
    if problem.grad_last:
        grads = advance(problem.grad_out, (box.n * problem.plane + box.grid) * all_channels + channel)
    else:
        grads = advance(problem.grad_out, (box.n * all_channels + channel) * problem.plane + box.grid)
    if problem.out_lanes:
        there = aligned(pointer(operand.memory, 0))
        _fill_lanes(problem, operand, grads, there, box.images, count // box.images)
        grads = there
    parts = (count + CHAIN - 1) // CHAIN
    for part in range(parts):
        start, stop = part * count // parts, (part + 1) * count // parts
        more = accumulate or part > 0
        if problem.out_lanes:
            _add_chain(
                problem, panel, operand.rows, advance(reader.pixels, start), grads, pointer(operand.pixels, start),
                AHEAD * problem.lanes.row, stop - start, first, last, base, into, more,
            )  # fmt: skip
            continue
        for t in range(problem.taps):
            window = advance(panel, reader.summands[t * problem.segment])
            sums = advance(into, t * problem.lanes.row * problem.height)
            low, high = _pixels_of_tap(plan, box, t, start, stop)
            if low < high or not more:
                _add_chain(
                    problem, grads, operand.rows, pointer(operand.pixels, low), window, advance(reader.pixels, low),
                    AHEAD * problem.pixel_pitch, high - low, first, last, base, sums, more,
                )  # fmt: skip


@internal
def _pixels_of_tap(plan, box, tap, start, stop):
    """The pixels from ``start`` to ``stop`` of a box without those in rows where the tap meets nothing but padding.

    A kernel with dilation 12 on 33x33 to 65x65 pixels gains 10 to 19 % by that.
    """
    _, _, h, w = phase_axes(plan, 0)
    if box.images > 1 or box.depth > 1:
        return start, stop
    place = box.h * h.stride + h.low + h.offset + tap // w.taps % h.taps * h.offset_step  # of the box's first row
    low = max(start, (h.stride - 1 - place) // h.stride * box.width)
    return low, max(low, min(stop, ((h.size - 1 - place) // h.stride + 1) * box.width))


@internal
def _fill_lanes(problem, operand, grads, there, images, pixels):
    """grad_out as a panel of pixels, out_channels in the lanes."""
    all_channels, pitch = problem.groups * problem.out_channels, problem.lanes.row
    for n in range(images):
        target = advance(there, n * pixels * pitch)
        if problem.grad_last:
            for p in range(pixels):
                copy(advance(target, p * pitch), advance(grads, (n * pixels + p) * all_channels), problem.out_channels)
        else:
            source = advance(grads, n * problem.plane * all_channels)
            transpose_run(source, problem.plane, problem.out_channels, target, pointer(operand.pixels, 0), pixels, 0)


@internal
def _add_chain(problem, a, rows, a_pixels, b, b_pixels, ahead, count, first, last, base, into, accumulate):
    """One chain of pixels, for all blocks of lanes and rows first * ROWS to last * ROWS."""
    for block in range(problem.lanes.blocks):
        start, pitch, _ = block_lanes(problem.lanes, block)
        lane, sums = advance(b, start), advance(into, start * problem.height)
        for i in range(first * ROWS, last * ROWS, ROWS):
            tile(
                pitch // problem.lanes.width, count, a, pointer(rows, i), a_pixels, lane, b_pixels, ahead,
                advance(sums, (i - base * ROWS) * pitch), pitch, accumulate,
            )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ in Python
def _out_channels_in_lanes(in_channels: int, out_channels: int, taps: int, itemsize: int) -> bool:
    """Whether more of the micro-kernel's tiles is used with out_channels in the lanes; grad_out is then moved once."""

    def use(rows: int, channels: int) -> float:
        return rows / (-(-rows // ROWS) * ROWS) * channels / padded_channels(channels, itemsize)

    return use(in_channels * taps, out_channels) > 1.1 * use(out_channels, in_channels)


def conv_backward_weight(
    grad_out: Any, x: Any, weight_shape: tuple[int, ...], window: Window, groups: int, out: Any = None,
    algorithm: str = "auto",
) -> Any:  # fmt: skip
    """The gradient of the convolution's result with respect to its weight, contiguous."""
    if x.size > 0 and sums_planes("backward_weight", weight_shape, groups, window, x, algorithm):
        return depthwise_backward_weight(grad_out, x, weight_shape, window, groups, out)
    result = layout.target(out, weight_shape, x.dtype, False, x, grad_out)
    if x.size == 0 or result.size == 0:
        result[...] = 0
        return layout.deliver(result, out)
    args = *layout.flat(x), *layout.flat(grad_out), result, window, x.shape[0], groups
    out_channels, in_channels = weight_shape[0] // groups, weight_shape[1]
    size = transform_size("backward_weight", algorithm, window, in_channels, out_channels, groups, x.itemsize)
    if size:
        fft.weight_gradient(*args, size)
    elif chosen(algorithm, window, False, in_channels, out_channels, LEAST_CHANNELS):
        winograd_weight.weight_gradient(*args)
    else:
        _weight_gradient(*args)
    return layout.deliver(result, out)


def _weight_gradient(
    x: Any, x_last: bool, grad_out: Any, grad_last: bool, result: Any, window: Window, images: int, groups: int
) -> None:
    """The same of flat arrays, by sums over all pixels."""
    out_channels, in_channels, taps = result.shape[0] // groups, result.shape[1], math.prod(result.shape[2:])
    x_last = x_last and in_channels * groups > 1  # one channel is a plane in either order
    out_lanes = _out_channels_in_lanes(in_channels, out_channels, taps, x.itemsize)
    width = lanes(x.itemsize)
    beyond = not out_lanes and in_channels % width > 0
    planar = out_lanes and not x_last and in_channels < width
    reading = Reading(x_last, planar, beyond=beyond, apart=beyond)
    plan = make_plan(window, False, images, in_channels, groups, x.itemsize, reading)
    runs, rows, channels = (1, in_channels * taps, out_channels) if out_lanes else (taps, out_channels, in_channels)
    size = runs * -(-rows // ROWS) * ROWS * padded_channels(channels, x.itemsize) * groups
    boxes = plan.header.boxes
    few = boxes == 1 and not out_lanes
    slices = max(1, min(MAX_SLICES, SLICE_BYTES // result.nbytes, boxes))  # sums depend on it: no word of the machine
    sums = made(np.empty((0 if few else slices * size) + SLACK, x.dtype))
    target = layout.flat_target(result, False)
    launch(
        weight_sums_core, max(1, grad_out.size * in_channels * taps >> WORK), x, x_last, grad_out, grad_last, sums,
        target if few else target[:0], plan.numbers, plan.tables, groups, out_channels, out_lanes, slices,
    )  # fmt: skip
    if not few:
        launch(
            weight_order_core, max(1, slices * size >> 17), target, grad_out, sums, plan.numbers, groups, out_channels,
            out_lanes, slices,
        )  # fmt: skip
