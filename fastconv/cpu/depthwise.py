"""Convolution with one or a few channels per group: an input element meets few weights, no operand is worth packing.

    forward:          y[o, p]         = sum over (c, taps)   of x[group's c, p's window at tap]  * weight[o, c, tap]
    backward_input:   grad_x[c, p]    = sum over (o, taps)   of grad_out[group's o, p's windows] * weight[o, c, tap]
    backward_weight:  grad_w[o, c, t] = sum over (images, p) of x[group's c, p's window at t]    * grad_out[o, p]

Lanes are neighbouring pixels where planes lie apart in memory; with one input channel per group they are neighbouring
channels else. Groups of a few channels leave most lanes of a vector of channels idle, but none of a row of pixels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv._window import Window
from fastconv.cpu import group_sums, layout, order, winograd_plan, winograd_weight
from fastconv.cpu._jit import compiled, done, flushing, internal, launch, made, separate
from fastconv.cpu.bias import pad_core
from fastconv.cpu.depthwise_kernel import COLUMN, COLUMNS, TAPS, WIDTH, lanes_of, sum_pixels, sum_taps
from fastconv.cpu.depthwise_moves import (
    fill_panel,
    gather_grads,
    make_channels,
    make_piece,
    move_rows_out,
    result_of,
    transpose_out,
)
from fastconv.cpu.depthwise_plan import make_plan, read_header, read_lists
from fastconv.cpu.fft_plan import transform_size
from fastconv.cpu.group_kernel import channels_together
from fastconv.cpu.memory import empty, multiples
from fastconv.cpu.pointers import advance, aligned, clear, lanes_at, pointer
from fastconv.cpu.vector import splat, store_first

MOST_GAIN = 2.3  # of Winograd's algorithm, where sums by planes are faster for groups that fill a vector
SLACK = 64  # elements at the end of a buffer: what aligning its start, or a vector that begins inside, may take


# ------------------------------------------------------------------------------------------- forward and backward_input
@flushing
def depthwise_core(
    worker, workers, x, weight, row, taps, bias, floor, out, images, channels, shared, channels_last, plan
):
    """Box by box, every worker takes a share of the images and channels, or vectors of channels.

    ``taps`` counts the weights of an output channel; the next one's lie ``row`` elements behind each of them.
    """
    header, lanes = read_header(plan), lanes_of(pointer(x, 0))
    channel = make_channels(header, channels, shared, channels_last, lanes)
    panel = empty(header.panel + SLACK, x.dtype)
    buffer = empty(header.buffer * header.phases * header.buffered + SLACK, x.dtype)
    factors = empty((taps + 1) * lanes + SLACK, x.dtype)  # of a channel, in all lanes, and its bias
    places = empty(lanes, np.int64)
    items = max(1, images * channel.units)
    begin, end = header.boxes * items * worker // workers, header.boxes * items * (worker + 1) // workers
    for index in range(begin // items, (end + items - 1) // items):
        lists = read_lists(plan, header, index)
        clear(pointer(panel, 0), panel.size)  # the padding is the same for all that follows
        for item in range(max(0, begin - index * items), min(items, end - index * items)):
            piece = make_piece(header, channel, item // channel.units, item % channel.units, lanes)
            # Pointers are taken in the loop: an array lives until its last use, which that of its pointer is not.
            there = aligned(pointer(panel, 0))
            fill_panel(there, pointer(x, 0), pointer(plan, 0), header, lists, channel, piece)
            for c in range(piece.first, piece.first + piece.outs):
                rows, added = pointer(weight, c), pointer(bias, c)
                if not header.blocked:
                    rows = aligned(pointer(factors, 0))
                    added = advance(rows, taps * lanes)
                    _spread(rows, pointer(weight, c * taps), taps, lanes)
                    _spread(added, pointer(bias, c), 1, lanes)
                result = result_of(pointer(out, 0), header, lists, channel, piece, c)
                target = pointer(buffer, 0) if header.buffered else result
                _sum_phases(there, rows, row, added, floor, target, pointer(plan, 0), header, lists, piece)
                if header.buffered:
                    _store_rows(
                        result, target, pointer(plan, 0), header, lists, channel, piece, pointer(places, 0), lanes
                    )


@separate  # 8 % of a small layer
def _spread(target, values, count, lanes):
    """Every value in all lanes of a vector."""
    width = lanes_at(target)
    for r in range(count):
        value = splat(target, values[r])
        for l in range(0, lanes, width):
            store_first(advance(target, r * lanes + l), value, width)


@internal
def _sum_phases(panel, rows, row, bias, floor, target, plan, header, lists, piece):
    """The tiles of every target phase."""
    for phase in range(header.phases):
        numbers, tiles = (
            advance(plan, header.phase_list + phase * (2 + COLUMN)),
            advance(plan, lists.tile_list + 2 * phase),
        )
        columns, factors = advance(plan, header.column_list + numbers[0]), advance(rows, numbers[1] * row)
        for n in range(tiles[0]):
            tile = advance(plan, tiles[1] + 4 * n)
            sum_taps(
                advance(numbers, 2), columns, advance(panel, tile[0]), header.step, factors, row, bias, floor,
                advance(target, tile[1]), header.out_step, tile[2], min(tile[3], piece.limit), header.drop,
            )  # fmt: skip


@internal
def _store_rows(target, buffer, plan, header, lists, channel, piece, places, lanes):
    """The rows of the output, in its order, from what the target phases have left in the buffer."""
    rows = advance(plan, lists.row_list)
    if header.blocked:
        transpose_out(target, header.out_pixels, buffer, rows, lists.rows, lanes, piece.limit, places)
    else:
        step = channel.count if channel.last else 1
        move_rows_out(target, buffer, rows, lists.rows, step, header.row_phases, header.buffer)


# ------------------------------------------------------------------------------------------------------ backward_weight
@flushing
def depthwise_weight_core(
    worker, workers, x, grad_out, grad_weight, images, channels, shared, channels_last, plan, tap_order
):
    """Every worker takes a share of the channels, or vectors of channels; ``tap_order`` has the tap of each sum."""
    header, lanes = read_header(plan), lanes_of(pointer(x, 0))
    channel = make_channels(header, channels, shared, channels_last, lanes)
    panel = empty(header.panel + SLACK, x.dtype)
    buffer = empty(header.buffer * header.buffered + SLACK, x.dtype)
    places = multiples(header.buffer * header.buffered, lanes)
    sums = empty((1 if header.blocked else shared) * tap_order.size * lanes, x.dtype)
    begin, end = channel.units * worker // workers, channel.units * (worker + 1) // workers
    for unit in range(begin, end):
        clear(pointer(sums, 0), sums.size)
        for index in range(header.boxes):
            lists = read_lists(plan, header, index)
            if unit == begin or header.boxes > 1:
                clear(pointer(panel, 0), panel.size)
            for image in range(images):
                piece = make_piece(header, channel, image, unit, lanes)
                there = aligned(pointer(panel, 0))
                fill_panel(there, pointer(x, 0), pointer(plan, 0), header, lists, channel, piece)
                for o in range(piece.outs):
                    grads = result_of(pointer(grad_out, 0), header, lists, channel, piece, piece.first + o)
                    if header.buffered:
                        gather_grads(
                            pointer(buffer, 0),
                            grads,
                            pointer(plan, 0),
                            header,
                            lists,
                            channel,
                            piece,
                            pointer(places, 0),
                        )
                        grads = pointer(buffer, 0)
                    _sum_columns(
                        there, grads, pointer(plan, 0), header, lists, piece, pointer(sums, o * tap_order.size * lanes)
                    )
        piece = make_piece(header, channel, 0, unit, lanes)
        _store_sums(grad_weight, sums, tap_order, header.blocked, piece, lanes)


@internal
def _sum_columns(panel, grads, plan, header, lists, piece, sums):
    """Add a box's products of grad_out and the input, COLUMNS columns of taps a time."""
    tiles = advance(plan, lists.tile_list)
    for k in range(0, header.columns, COLUMNS):
        columns, into = advance(plan, header.column_list + k), advance(sums, k * TAPS * lanes_of(sums))
        for n in range(tiles[0]):
            tile = advance(plan, tiles[1] + 4 * n)
            sum_pixels(
                columns, advance(panel, tile[0]), header.step, advance(grads, tile[1]), header.out_step, tile[2],
                min(tile[3], piece.limit), header.drop, into,
            )  # fmt: skip


@internal
def _store_sums(grad_weight, sums, tap_order, blocked, piece, lanes):
    """Lanes are channels, or partial sums that are added in pairs."""
    taps = 0
    for k in range(tap_order.size):
        taps = max(taps, tap_order[k] + 1)
    for o in range(piece.outs):
        for k in range(tap_order.size):
            here = pointer(sums, (o * tap_order.size + k) * lanes)
            if tap_order[k] >= 0 and blocked:
                for l in range(piece.limit):
                    grad_weight[(piece.first + l) * taps + tap_order[k]] = here[l]
            elif tap_order[k] >= 0:
                half = lanes // 2
                while half > 0:
                    for l in range(half):
                        here[l] += here[l + half]
                    half //= 2
                grad_weight[(piece.first + o) * taps + tap_order[k]] = here[0]


@compiled
def order_core(worker, workers, weight, tap_order, blocked, channels, ordered):
    """The taps of every channel in this order; channel after channel, or ``blocked`` tap after tap."""
    taps = weight.size // channels
    for c in range(channels):
        for t in range(tap_order.size):
            ordered[t * channels + c if blocked else c * tap_order.size + t] = weight[c * taps + tap_order[t]]


# ----------------------------------------------------------------------------------------------------------- in Python
def sums_planes(pass_: str, weight_shape: tuple[int, ...], groups: int, window: Window, x: Any, algorithm: str) -> bool:
    """Whether a pass over x (or grad_out) goes plane by plane: depthwise, or groups of at most a vector of channels."""
    if groups == 1 or algorithm == "winograd":
        return False
    outs, ins, lanes = weight_shape[0] // groups, weight_shape[1], WIDTH // x.itemsize
    channels = (outs, ins) if pass_ == "backward_input" else (ins, outs)
    if transform_size(pass_, algorithm, window, *channels, groups, x.itemsize):
        return False
    if outs == 0 or ins <= 1:
        return outs > 0 and ins == 1
    backward = pass_ == "backward_input"
    windows = -(-window.input_size[2] // window.stride[2]) if backward else window.output_size[2]
    if max(ins, outs) > lanes or windows <= lanes // 2 or layout.is_channels_last(x):
        return False
    if channels_together(pass_, channels[1]) == 1:  # sums of one output channel: strided columns of taps are short
        use = windows / (-(-windows // lanes) * lanes)
        return use > 1.1 * channels[1] / lanes and (pass_ != "backward_weight" or max(window.stride) == 1)
    if math.prod(window.kernel_size) == 1 and pass_ != "backward_weight":
        return False
    least = winograd_weight.LEAST_CHANNELS if pass_ == "backward_weight" else winograd_plan.LEAST_CHANNELS
    if min(ins, outs) < lanes or not winograd_plan.chosen(algorithm, window, backward, *channels, least):
        return True
    return winograd_plan.gain_of(window, backward) < MOST_GAIN


def depthwise_forward(
    x: Any, weight: Any, bias: Any, window: Window, groups: int, relu: bool = False, out: Any = None,
    prepared: Any = None,
) -> Any:  # fmt: skip
    """The convolution of x (N, C, *spatial) with weight (O, C / groups, *K), plus bias, then ReLU."""
    shape = (x.shape[0], weight.shape[0], *window.output_size[5 - x.ndim :])
    return _convolve("forward", x, weight, bias, shape, window, groups, relu, out, prepared)


def depthwise_backward_input(
    grad_out: Any, weight: Any, input_shape: tuple[int, ...], window: Window, groups: int, out: Any = None,
    bias: Any = None,
) -> Any:  # fmt: skip
    """The gradient of the convolution's result with respect to its input, plus a transposed convolution's bias."""
    return _convolve("backward_input", grad_out, weight, bias, input_shape, window, groups, False, out)


def _convolve(
    pass_: str, x: Any, weight: Any, bias: Any, shape: tuple[int, ...], window: Window, groups: int, relu: bool,
    out: Any, prepared: Any = None,
) -> Any:  # fmt: skip
    source, channels_last = layout.flat(x)
    result = layout.target(out, shape, x.dtype, channels_last, x, weight, bias)
    if result.size == 0:
        return layout.deliver(result, out)
    channels, lanes = shape[1], WIDTH // x.itemsize
    planes, shared = x.shape[1] // groups, channels // groups
    plan = make_plan(window, pass_, planes, x.itemsize, channels, shared, channels_last)
    added = made(np.zeros(channels + lanes, x.dtype), cleared=True)
    if bias is not None:
        added[:channels] = bias
        done(pad_core, layout.read_only(bias), added, 1, channels)
    floor, target = x.dtype.type(0 if relu else -np.inf), layout.flat_target(result, channels_last)
    if plan.together > 1:
        group_sums.convolve(pass_, source, weight, added, floor, result, shape[0], groups, plan, prepared)
        return layout.deliver(result, out)
    if pass_ == "backward_input" and planes > 1:  # the rows of an input channel lie apart
        weight = weight.reshape(groups, planes, shared, *weight.shape[2:]).swapaxes(1, 2)
    if prepared is None:
        ordered = _ordered(weight, channels, plan, lanes)
    else:
        key = "depthwise", plan.blocked, plan.order.tobytes()
        ordered = prepared.form(key, lambda: _ordered(weight, channels, plan, lanes))
    launch(
        depthwise_core, max(1, result.size * plan.order.size >> 17), source, ordered,
        channels if plan.blocked else lanes, plan.order.size, added, floor, target, shape[0], channels, shared,
        channels_last, plan.numbers,
    )  # fmt: skip
    return layout.deliver(result, out)


def _ordered(weight: Any, channels: int, plan: Any, lanes: int) -> Any:
    """The weight in the order of a plan's taps, a vector of channels or a channel at a time."""
    factors = np.ascontiguousarray(weight).reshape(channels, -1)[:, plan.order]
    ordered = made(np.zeros(factors.size + lanes, weight.dtype), cleared=True)
    ordered[: factors.size] = (factors.T if plan.blocked else factors).reshape(-1)
    done(order_core, layout.read_only(weight), plan.order, plan.blocked, channels, ordered)
    return ordered


def depthwise_backward_weight(
    grad_out: Any, x: Any, weight_shape: tuple[int, ...], window: Window, groups: int, out: Any = None
) -> Any:
    """The gradient of the convolution's result with respect to its weight, contiguous."""
    result = layout.target(out, weight_shape, x.dtype, False, x, grad_out)
    source, channels_last = layout.flat(x)
    axes = range(x.ndim)
    grads = order.flat(grad_out, (0, *axes[2:], 1) if channels_last else tuple(axes))
    channels, shared = weight_shape[0], weight_shape[0] // groups
    plan = make_plan(window, "backward_weight", weight_shape[1], x.itemsize, channels, shared, channels_last)
    if plan.together > 1:
        group_sums.weight_gradient(source, grads, result, x.shape[0], groups, plan)
        return layout.deliver(result, out)
    launch(
        depthwise_weight_core, max(1, grad_out.size * plan.order.size >> 17), source, grads,
        layout.flat_target(result, False), x.shape[0], channels, shared, channels_last, plan.numbers, plan.order,
    )  # fmt: skip
    return layout.deliver(result, out)
