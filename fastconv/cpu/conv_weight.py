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
from fastconv.cpu import fft, layout, winograd
from fastconv.cpu._jit import compiled, internal, launch, made
from fastconv.cpu.depthwise import depthwise_backward_weight, sums_planes
from fastconv.cpu.fft_plan import transform_size
from fastconv.cpu.microkernel import MAX_VECTORS, ROWS, advance, aligned, copy, lanes, lanes_at, pointer, tile
from fastconv.cpu.panel import SLACK, make_reader, read_box, transpose_run
from fastconv.cpu.plan import WORK, Reading, box_at, make_plan, phase_axes, phase_header
from fastconv.cpu.weights import block_lanes, make_lanes, padded_channels
from fastconv.cpu.winograd_weight import LEAST_CHANNELS, weight_gradient

CHAIN = 384  # pixels of one chain
AHEAD = 8  # pixels that are prefetched ahead of their use
MAX_SLICES = 16
SLICE_BYTES = 2 << 20  # of all slices' sums together
FEW_TILES = 4  # whose sums wait in L2 for their way to the weight, where one box holds all pixels


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
def _make_problem(grad_out, grad_last, sums, plan, groups, out_channels, out_lanes, most):
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


# ---------------------------------------------------------------------------------------------------------------- sums
@compiled
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
    problem = _make_problem(grad_out, grad_last, sums, plan, groups, out_channels, out_lanes, most)
    boxes = phase_header(plan, 0).boxes
    reader = make_reader(x, x_last, plan, tables, 0)
    operand = _make_operand(problem, reader, grad_out, phase_header(plan, 0).box_pixels)
    memory = np.empty((problem.slice if few else 0) + SLACK, x.dtype)
    to = _lane_offsets(problem)
    tiles = (problem.rows + ROWS - 1) // ROWS
    splits = 1 if slices * groups % workers == 0 or slices * groups >= 4 * workers else min(tiles, workers)
    for item in range(worker, slices * groups * splits, workers):
        split, group, slice_ = item % splits, item // splits % groups, item // splits // groups
        first, last = split * tiles // splits, (split + 1) * tiles // splits
        into = advance(problem.sums, (slice_ * groups + group) * problem.slice)
        start, stop = slice_ * boxes // slices, (slice_ + 1) * boxes // slices
        for index in range(start, stop):
            box = box_at(plan, 0, index)
            panel = read_box(reader, plan, 0, box, group)
            step = FEW_TILES if few else tiles
            for k in range(first, last, step):
                if few:
                    into = aligned(pointer(memory, 0))
                until = min(last, k + step)
                _add_box(
                    problem, reader, operand, panel, box, group, k, until, 0 if not few else k, into, index > start
                )
                if few:
                    for row in range(k * ROWS, min(until * ROWS, out_channels)):
                        there = pointer(grad_weight, (group * out_channels + row) * problem.taps * problem.in_channels)
                        _order_row(problem, into, row - k * ROWS, there, pointer(to, 0))


class Operand(NamedTuple):
    """How grad_out is read: in place as rows, or from a panel of pixels as lanes."""

    memory: Any
    pixels: Any  # where each pixel of a full box lies
    rows: Any  # where each row of C starts in its operand


@internal
def _make_operand(problem, reader, grad_out, box_pixels):
    count, pitch = box_pixels, problem.lanes.row
    memory = np.empty((count * pitch if problem.out_lanes else 0) + SLACK, grad_out.dtype)
    pixels, row_offsets = np.empty(count, np.int64), np.empty((problem.rows + ROWS - 1) // ROWS * ROWS, np.int64)
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
def _add_box(problem, reader, operand, panel, box, group, first, last, base, into, accumulate):
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
            _add_chain(
                problem, grads, operand.rows, pointer(operand.pixels, start), window, advance(reader.pixels, start),
                AHEAD * problem.pixel_pitch, stop - start, first, last, base, sums, more,
            )  # fmt: skip


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


# ------------------------------------------------------------------------------------------------------- to the weight
@compiled
def weight_order_core(worker, workers, grad_weight, grad_out, sums, plan, groups, out_channels, out_lanes, slices):
    """The slices' sums, added up in their order and moved to grad_weight (O, C / groups, *K)."""
    problem = _make_problem(grad_out, False, sums, plan, groups, out_channels, out_lanes, 1 << 62)
    to = _lane_offsets(problem)
    if out_lanes:
        _order_out_lanes(worker, workers, problem, grad_weight, slices, to)
    else:
        _order_in_lanes(worker, workers, problem, grad_weight, slices, to)


@internal
def _lane_offsets(problem):
    """Where the lanes of a block lie in the weight, from the first one."""
    to = np.empty(MAX_VECTORS * problem.lanes.width, np.int64)
    for q in range(to.size):
        to[q] = q * (problem.rows if problem.out_lanes else problem.taps)
    return to


@internal
def _order_row(problem, sums, row, there, to):
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
        _order_row(problem, advance(problem.sums, group * problem.slice), o, there, pointer(to, 0))


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
    if sums_planes("backward_weight", weight_shape, groups, window, x, algorithm):
        return depthwise_backward_weight(grad_out, x, weight_shape, window, groups, out)
    result = layout.target(out, weight_shape, x.dtype, False, x, grad_out)
    if x.size == 0 or result.size == 0:
        result[...] = 0
        return layout.deliver(result, out)
    (source, x_last), (grads, grad_last) = layout.flat(x), layout.flat(grad_out)
    size = transform_size(
        "backward_weight", algorithm, window, weight_shape[1], weight_shape[0] // groups, groups, x.itemsize
    )
    if size:
        fft.weight_gradient(source, x_last, grads, grad_last, result, window, x.shape[0], groups, size)
        return layout.deliver(result, out)
    if winograd.chosen(algorithm, window, False, weight_shape[1], weight_shape[0] // groups, LEAST_CHANNELS):
        weight_gradient(source, x_last, grads, grad_last, result, window, x.shape[0], groups)
        return layout.deliver(result, out)
    x_last = x_last and x.shape[1] > 1  # one channel is a plane in either order
    out_channels, in_channels, taps = weight_shape[0] // groups, weight_shape[1], math.prod(weight_shape[2:])
    out_lanes = _out_channels_in_lanes(in_channels, out_channels, taps, x.itemsize)
    width = lanes(x.itemsize)
    planar = out_lanes and not x_last and in_channels < width
    by_vectors = not out_lanes and in_channels % width > 0
    plan = make_plan(
        window, False, x.shape[0], in_channels, groups, x.itemsize, Reading(x_last, planar=planar, beyond=by_vectors)
    )
    runs, rows, channels = (1, in_channels * taps, out_channels) if out_lanes else (taps, out_channels, in_channels)
    size = runs * -(-rows // ROWS) * ROWS * padded_channels(channels, x.itemsize) * groups
    boxes = plan.header.boxes
    few = boxes == 1 and not out_lanes
    slices = max(1, min(MAX_SLICES, SLICE_BYTES // result.nbytes, boxes))  # sums depend on it: no word of the machine
    sums = made(np.empty((0 if few else slices * size) + SLACK, x.dtype))
    target = layout.flat_target(result, False)
    launch(
        weight_sums_core, max(1, grad_out.size * in_channels * taps >> WORK), source, x_last, grads, grad_last, sums,
        target if few else target[:0], plan.numbers, plan.tables, groups, out_channels, out_lanes, slices,
    )  # fmt: skip
    if not few:
        launch(
            weight_order_core, max(1, slices * size >> 17), target, grads, sums, plan.numbers, groups, out_channels,
            out_lanes, slices,
        )  # fmt: skip
    return layout.deliver(result, out)
