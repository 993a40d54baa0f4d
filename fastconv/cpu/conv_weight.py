"""The weight gradient: output pixels are summed, and either channel may lie along the lanes.

    in_channels in the lanes:   C[out_channel, in_channel] += sum over pixels of grad_out * x[pixel's window at tap]
    out_channels in the lanes:  C[(in_channel, tap), out_channel] += sum over pixels of x[pixel's window] * grad_out

The first reads grad_out where it lies; the second wastes no lanes where in_channels are few. Sums run over the pixels of a
box in chains, over the boxes of a slice in their order, over the slices in their order: the shape decides all three.
"""  # noqa: D400

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastconv._window import Window
from fastconv.cpu import layout
from fastconv.cpu._jit import compiled, inlined, launch
from fastconv.cpu.conv import BOX_PIXELS, PANEL_BYTES
from fastconv.cpu.microkernel import MAX_VECTORS, ROWS, advance, aligned, clear, copy, lanes, lanes_at, pointer, tile
from fastconv.cpu.panel import SLACK, make_reader, read_box, transpose_run
from fastconv.cpu.walk import axis, box_at, box_shape, boxes, forward_walk, is_padded, taps_of
from fastconv.cpu.weights import block_count, block_start, padded_channels, vectors_of

CHAIN = 384  # pixels of one chain
MAX_SLICES = 16
SLICE_BYTES = 8 << 20  # of all slices' sums together


class Problem(NamedTuple):
    """Addresses, orders and sizes; channels are per group."""

    grad_out: Any
    grad_last: Any
    sums: Any
    groups: Any
    in_channels: Any
    out_channels: Any
    taps: Any
    plane: Any  # output pixels of an image
    out_lanes: Any  # whether out_channels lie in the lanes


@inlined
def _rows(problem):
    """Rows of C in use, and rows of the buffer: whole tiles."""
    rows = problem.in_channels * problem.taps if problem.out_lanes else problem.out_channels
    return rows, (rows + ROWS - 1) // ROWS * ROWS


@inlined
def _lane_vectors(problem):
    return vectors_of(problem.out_channels if problem.out_lanes else problem.in_channels, lanes_at(problem.sums))


@inlined
def _runs(problem):
    """Runs of lanes: one, or one for each tap."""
    return 1 if problem.out_lanes else problem.taps


@inlined
def _slice_size(problem):
    """Elements of one slice's sums for one group, laid out as [run][block][row][lane]."""
    return _runs(problem) * _lane_vectors(problem) * lanes_at(problem.sums) * _rows(problem)[1]


@inlined
def _problem(grad_out, grad_last, sums, walk, groups, in_channels, out_channels, out_lanes):
    plane = walk[0, 0, 2] * walk[0, 1, 2] * walk[0, 2, 2]
    return Problem(
        pointer(grad_out, 0), grad_last, aligned(pointer(sums, 0)), groups, in_channels, out_channels, taps_of(walk, 0),
        plane, out_lanes,
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------- sums
@compiled
def weight_sums_core(
    worker, workers, x, x_last, grad_out, grad_last, sums, walk, images, groups, in_channels, out_channels, out_lanes,
    slices,
):  # fmt: skip
    """Every slice's sums, for every group; every worker takes some slices, or some rows of all of them."""
    problem = _problem(grad_out, grad_last, sums, walk, groups, in_channels, out_channels, out_lanes)
    width = lanes_at(problem.sums)
    d, h, w = axis(walk, 0, 0), axis(walk, 0, 1), axis(walk, 0, 2)
    shape = box_shape(walk, 0, images, in_channels * sums.itemsize, PANEL_BYTES, BOX_PIXELS)
    planar = out_lanes and not x_last and in_channels < width
    readable = planar or (x_last and (out_lanes or in_channels % width == 0))  # whole vectors do not reach beyond x
    in_place = readable and not (is_padded(d) or is_padded(h) or is_padded(w))
    reader = make_reader(x, x_last, walk, 0, shape, groups, in_channels, planar, in_place)
    operand = _make_operand(problem, reader, grad_out)
    tiles = _rows(problem)[1] // ROWS
    count = boxes(walk, 0, images, shape)
    splits = 1 if slices * groups % workers == 0 or slices * groups >= 4 * workers else min(tiles, workers)
    for item in range(worker, slices * groups * splits, workers):
        split, group, slice_ = item % splits, item // splits % groups, item // splits // groups
        first, last = split * tiles // splits, (split + 1) * tiles // splits
        into = advance(problem.sums, (slice_ * groups + group) * _slice_size(problem))
        start, stop = slice_ * count // slices, (slice_ + 1) * count // slices
        for index in range(start, stop):
            box = box_at(walk, 0, images, shape, index)
            panel = read_box(reader, walk, 0, box, group)
            grid = (box.d * h.count + box.h) * w.count + box.w
            _add_box(problem, reader, operand, panel, box, grid, group, first, last, into, index > start)


class Operand(NamedTuple):
    """How grad_out is read: in place as rows, or from a panel of pixels as lanes."""

    memory: Any
    pixels: Any  # where each pixel of a full box lies
    rows: Any  # where each row of C starts in its operand


@compiled
def _make_operand(problem, reader, grad_out):
    count, (used, rows) = reader.pixels.size, _rows(problem)
    pitch = _lane_vectors(problem) * lanes_at(problem.sums)
    memory = np.empty((count * pitch if problem.out_lanes else 0) + SLACK, grad_out.dtype)
    pixels, row_offsets = np.empty(count, np.int64), np.empty(rows, np.int64)
    all_channels = problem.out_channels * problem.groups
    for p in range(count):
        if problem.out_lanes:
            pixels[p] = p * pitch
        elif problem.grad_last:
            pixels[p] = p * all_channels
        else:
            pixels[p] = p // problem.plane * problem.plane * all_channels + p % problem.plane
    for i in range(rows):
        row = min(i, used - 1)
        if problem.out_lanes:  # in the order of the weight: (in_channel, tap)
            row_offsets[i] = reader.summands[row % problem.taps * problem.in_channels + row // problem.taps]
        else:
            row_offsets[i] = row if problem.grad_last else row * problem.plane
    return Operand(memory, pixels, row_offsets)


@compiled
def _add_box(problem, reader, operand, panel, box, grid, group, first, last, into, accumulate):
    """Add a box's pixels to rows first * ROWS to last * ROWS of the sums."""
    count = box.images * box.depth * box.height * box.width
    all_channels = problem.groups * problem.out_channels
    channel = group * problem.out_channels
    if problem.grad_last:
        grads = advance(problem.grad_out, (box.n * problem.plane + grid) * all_channels + channel)
    else:
        grads = advance(problem.grad_out, (box.n * all_channels + channel) * problem.plane + grid)
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
                problem, panel, operand.rows, pointer(reader.pixels, start), grads, pointer(operand.pixels, start),
                stop - start, first, last, into, more,
            )  # fmt: skip
            continue
        for t in range(problem.taps):
            window = advance(panel, reader.summands[t * problem.in_channels])
            sums = advance(into, t * (_slice_size(problem) // problem.taps))
            _add_chain(
                problem, grads, operand.rows, pointer(operand.pixels, start), window, pointer(reader.pixels, start),
                stop - start, first, last, sums, more,
            )  # fmt: skip


@compiled
def _fill_lanes(problem, operand, grads, there, images, pixels):
    """grad_out as a panel of pixels, out_channels in the lanes."""
    all_channels, pitch = problem.groups * problem.out_channels, _lane_vectors(problem) * lanes_at(problem.sums)
    for n in range(images):
        target = advance(there, n * pixels * pitch)
        if problem.grad_last:
            for p in range(pixels):
                copy(advance(target, p * pitch), advance(grads, (n * pixels + p) * all_channels), problem.out_channels)
        else:
            source = advance(grads, n * problem.plane * all_channels)
            transpose_run(source, problem.plane, problem.out_channels, target, pointer(operand.pixels, 0), pixels)


@compiled
def _add_chain(problem, a, rows, a_pixels, b, b_pixels, count, first, last, into, accumulate):
    """One chain of pixels, for all blocks of lanes and rows first * ROWS to last * ROWS."""
    width, vectors, height = lanes_at(problem.sums), _lane_vectors(problem), _rows(problem)[1]
    for block in range(block_count(vectors)):
        start = block_start(vectors, block) * width
        pitch = block_start(vectors, block + 1) * width - start
        lane, sums = advance(b, start), advance(into, start * height)
        for i in range(first * ROWS, last * ROWS, ROWS):
            tile(
                pitch // width, count, a, pointer(rows, i), a_pixels, lane, b_pixels, advance(sums, i * pitch), pitch,
                accumulate,
            )  # fmt: skip


# ------------------------------------------------------------------------------------------------------ to the weight
@compiled
def weight_order_core(
    worker, workers, grad_weight, grad_out, sums, walk, groups, in_channels, out_channels, out_lanes, slices
):
    """The slices' sums, added up in their order and moved to grad_weight (O, C / groups, *K)."""
    problem = _problem(grad_out, False, sums, walk, groups, in_channels, out_channels, out_lanes)
    if out_lanes:
        _order_out_lanes(worker, workers, problem, grad_weight, slices)
    else:
        _order_in_lanes(worker, workers, problem, grad_weight, slices)


@compiled
def _sum_slices(problem, offset, count, slices, total):
    """total[k] = sum over slices of sums[slice, offset + k]."""
    step = problem.groups * _slice_size(problem)
    copy(total, advance(problem.sums, offset), count)
    for s in range(1, slices):
        here = advance(problem.sums, s * step + offset)
        for k in range(count):
            total[k] += here[k]


@compiled
def _order_in_lanes(worker, workers, problem, grad_weight, slices):
    """Row by row: sums [tap][block][out_channel][in_channel] to [out_channel][in_channel][tap]."""
    width, vectors, height = lanes_at(problem.sums), _lane_vectors(problem), _rows(problem)[1]
    taps, lanes = problem.taps, vectors * width
    total = np.empty(taps * lanes + SLACK, grad_weight.dtype)
    to = np.empty(lanes, np.int64)
    for c in range(lanes):
        to[c] = c * taps
    for row in range(worker, problem.groups * problem.out_channels, workers):
        group, o = row // problem.out_channels, row % problem.out_channels
        for t in range(taps):
            for block in range(block_count(vectors)):
                start = block_start(vectors, block) * width
                pitch = block_start(vectors, block + 1) * width - start
                offset = group * _slice_size(problem) + t * lanes * height + start * height + o * pitch
                _sum_slices(problem, offset, pitch, slices, pointer(total, t * lanes + start))
        there = pointer(grad_weight, row * taps * problem.in_channels)
        _transpose_within(pointer(total, 0), lanes, taps, there, pointer(to, 0), problem.in_channels)


@compiled
def _order_out_lanes(worker, workers, problem, grad_weight, slices):
    """Block by block: sums [block][(in_channel, tap)][out_channel] to [out_channel][(in_channel, tap)]."""
    width, vectors, (rows, height) = lanes_at(problem.sums), _lane_vectors(problem), _rows(problem)
    blocks = block_count(vectors)
    total = np.empty(height * MAX_VECTORS * width + SLACK, grad_weight.dtype)
    to = np.empty(MAX_VECTORS * width, np.int64)
    for o in range(to.size):
        to[o] = o * rows
    for item in range(worker, problem.groups * blocks, workers):
        group, block = item // blocks, item % blocks
        start = block_start(vectors, block) * width
        pitch = block_start(vectors, block + 1) * width - start
        offset = group * _slice_size(problem) + start * height
        _sum_slices(problem, offset, height * pitch, slices, pointer(total, 0))
        there = pointer(grad_weight, (group * problem.out_channels + start) * rows)
        channels = min(pitch, problem.out_channels - start)
        _transpose_within(pointer(total, 0), pitch, rows, there, pointer(to, 0), channels)


@compiled
def _transpose_within(source, stride, rows, target, to, count):
    """Like transpose_run with to[q] = q * rows, but nothing is stored beyond target[count * rows]."""
    width = lanes_at(source)
    spill = (width - rows % width) % width
    inside = max(0, count - (spill + rows - 1) // rows)
    if rows == 1:
        copy(target, source, count)
        return
    if inside >= width:
        transpose_run(source, stride, rows, target, to, inside)
    else:
        inside = 0
    for q in range(inside, count):
        for c in range(rows):
            target[to[q] + c] = source[c * stride + q]


# ------------------------------------------------------------------------------------------------------------- in Python
def _out_channels_in_lanes(in_channels: int, out_channels: int, taps: int, itemsize: int) -> bool:
    """Whether more of the micro-kernel's tiles is used with out_channels in the lanes; grad_out is then moved once."""
    rows = in_channels * taps
    out_lanes = out_channels / padded_channels(out_channels, itemsize) * rows / (-(-rows // ROWS) * ROWS)
    in_lanes = in_channels / padded_channels(in_channels, itemsize) * out_channels / (-(-out_channels // ROWS) * ROWS)
    return out_lanes > 1.1 * in_lanes


def conv_backward_weight(
    grad_out: Any, x: Any, weight_shape: tuple[int, ...], window: Window, groups: int, out: Any = None
) -> Any:
    """The gradient of the convolution's result with respect to its weight, contiguous."""
    result = (
        out if out is not None and out.flags.c_contiguous and out.flags.aligned else np.empty(weight_shape, x.dtype)
    )
    if x.size == 0 or result.size == 0:
        result[...] = 0
        return layout.deliver(result, out)
    (source, x_last), (grads, grad_last) = layout.flat(x), layout.flat(grad_out)
    out_channels, in_channels = weight_shape[0] // groups, weight_shape[1]
    taps, walk = int(np.prod(weight_shape[2:])), forward_walk(window)
    out_lanes = _out_channels_in_lanes(in_channels, out_channels, taps, x.itemsize)
    rows, lane_channels = (in_channels * taps, out_channels) if out_lanes else (out_channels, in_channels * 1)
    size = -(-rows // ROWS) * ROWS * padded_channels(lane_channels, x.itemsize) * (1 if out_lanes else taps) * groups
    shape = box_shape(walk, 0, x.shape[0], in_channels * x.itemsize, PANEL_BYTES, BOX_PIXELS)
    slices = max(1, min(MAX_SLICES, SLICE_BYTES // (size * x.itemsize), boxes(walk, 0, x.shape[0], shape)))
    sums = np.empty(slices * size + SLACK, x.dtype)
    work = grad_out.size * in_channels * taps
    launch(
        weight_sums_core, max(1, work >> 19), source, x_last, grads, grad_last, sums, walk, x.shape[0], groups,
        in_channels, out_channels, out_lanes, slices,
    )  # fmt: skip
    launch(
        weight_order_core, max(1, slices * size >> 17), result.reshape(-1), grads, sums, walk, groups, in_channels,
        out_channels, out_lanes, slices,
    )  # fmt: skip
    return layout.deliver(result, out)
