"""Convolution in groups of a few channels, around the tiles of :mod:`group_kernel`: plans and moves are depthwise's.

Results run on from row to row of the panel, in a buffer, so that what lies between two rows costs some lanes and no
case; rows are then put where they belong. Sums for the weight have pixels of a row in their lanes, which are added at
the end.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastconv.cpu import layout
from fastconv.cpu._jit import compiled, flushing, inlined, internal, launch, made
from fastconv.cpu.depthwise_kernel import COLUMN, lanes_of
from fastconv.cpu.depthwise_moves import copy_rows_in, fill_panel, make_channels, make_piece, move_rows_out, result_of
from fastconv.cpu.depthwise_plan import Plan, read_header, read_lists
from fastconv.cpu.group_kernel import CHANNELS, NARROW_VECTORS, TAPS, add_lanes, sum_group, sum_group_pixels
from fastconv.cpu.memory import empty
from fastconv.cpu.plan import WORK
from fastconv.cpu.pointers import advance, aligned, clear, pointer

AHEAD = 1 << 16  # elements of the next planes that are fetched ahead
SLACK = 64  # elements at the end of a buffer: what aligning its start may take


# ------------------------------------------------------------------------------------------- forward and backward_input
@flushing
def group_core(worker, workers, x, weight, taps, bias, floor, out, images, channels, shared, plan):
    """Every worker takes a share of the images, groups and boxes.

    ``taps`` counts the weights of an output channel; those of a group's channels lie side by side.
    """
    header, lanes = read_header(plan), lanes_of(pointer(x, 0))
    channel = make_channels(header, channels, shared, False, lanes)
    panel = empty(header.panel + SLACK, x.dtype)
    pitch = header.buffer * header.phases + NARROW_VECTORS * lanes
    buffer = empty(header.together * pitch + SLACK, x.dtype)
    items = images * channel.units
    begin, end = header.boxes * items * worker // workers, header.boxes * items * (worker + 1) // workers
    cleared, done = -1, 0
    for number in range(begin, end):
        item, index = number // header.boxes, number % header.boxes
        lists = read_lists(plan, header, index)
        piece = make_piece(header, channel, item // channel.units, item % channel.units, lanes)
        if lists.move_list != cleared:  # the padding is the same for all boxes that are alike
            cleared = lists.move_list
            clear(pointer(panel, 0), panel.size)
        # Pointers are taken in the loop: an array lives until its last use, which that of its pointer is not.
        there, results = aligned(pointer(panel, 0)), aligned(pointer(buffer, 0))
        fill_panel(there, pointer(x, 0), pointer(plan, 0), header, lists, channel, piece)
        size, out_size, next_item = header.planes * header.pixels, shared * header.out_pixels, min(item + 1, items - 1)
        ahead, coming, done = pointer(x, next_item * size), pointer(out, next_item * out_size), done if index > 0 else 0
        for c in range(0, shared, header.together):
            count = min(header.together, shared - c)
            target = result_of(pointer(out, 0), header, lists, channel, piece, piece.first + c)
            rows, added = pointer(weight, piece.first * taps + c), pointer(bias, piece.first + c)
            done = _sum_tiles(
                there, rows, shared, added, floor, results, pitch, plan, header, lists,
                Stream(ahead, min(size, AHEAD), coming, min(out_size, AHEAD), done),
            )  # fmt: skip
            for k in range(count):
                move_rows_out(
                    advance(target, k * header.out_pixels), advance(results, k * pitch), pointer(plan, lists.row_list),
                    lists.rows, 1, header.row_phases, header.buffer,
                )  # fmt: skip


class Stream(NamedTuple):
    """What the next item reads and writes: addresses, elements, and how many of them have been fetched."""

    ahead: Any
    size: Any
    results: Any
    results_size: Any
    done: Any


@internal
def _sum_tiles(panel, rows, shared, bias, floor, results, pitch, plan, header, lists, stream):
    """The tiles of every target phase, for some output channels."""
    done = stream.done
    for phase in range(header.phases):
        numbers = pointer(plan, header.phase_list + phase * (2 + COLUMN))
        tiles, count = pointer(plan, lists.tile_list + 2 * phase), numbers[1 + COLUMN]  # all columns have one tap
        places, factors = pointer(plan, header.column_list + numbers[0]), advance(rows, numbers[1] * shared)
        for n in range(tiles[0]):
            tile, more = pointer(plan, tiles[1] + 4 * n), count * lanes_of(panel)
            sum_group(
                header.together, count, places, advance(panel, tile[0]), factors, shared, bias, floor,
                advance(results, tile[1]), pitch, advance(stream.ahead, _within(done, more, stream.size)),
                advance(stream.results, _within(done, more, stream.results_size)),
            )  # fmt: skip
            done += more
    return done


@inlined
def _within(start, count, size):
    """``start``, or the last place that ``count`` elements have before ``size``."""
    return max(0, min(start, size - count))


@compiled
def group_order_core(worker, workers, weight, tap_order, taps, backward, planes, shared, ordered):
    """[group][plane, tap in its order][channel] of a weight (O, C / groups, *K), without taps that meet nothing."""
    size, ordered_size = planes * shared * taps, tap_order.size * shared
    for group in range(worker, weight.size // size, workers):
        for t in range(tap_order.size):
            plane, tap = tap_order[t] // taps, tap_order[t] % taps
            start, step = (plane * shared * taps, taps) if backward else (plane * taps, planes * taps)
            for c in range(shared):
                ordered[group * ordered_size + t * shared + c] = weight[group * size + start + tap + c * step]


# ------------------------------------------------------------------------------------------------------ backward_weight
@flushing
def group_weight_core(worker, workers, x, grad_out, grad_weight, images, channels, shared, plan, taps):
    """Every worker takes a share of the groups; a weight's channel has ``taps`` taps of all planes."""
    header, lanes = read_header(plan), lanes_of(pointer(x, 0))
    channel = make_channels(header, channels, shared, False, lanes)
    many = min(header.images, images)
    panel = empty(many * header.panel + SLACK, x.dtype)
    buffer = empty(CHANNELS * many * header.buffer + SLACK, x.dtype)
    pitch = (header.columns + TAPS) * lanes  # sums of an output channel
    sums = empty((shared + CHANNELS) * pitch + lanes * lanes + SLACK, x.dtype)
    begin, end = channel.units * worker // workers, channel.units * (worker + 1) // workers
    cleared, done = -1, 0
    size, out_size = header.planes * header.pixels, shared * header.out_pixels
    for unit in range(begin, end):
        for number in range((images + many - 1) // many * header.boxes):
            image, index = number // header.boxes * many, number % header.boxes
            lists, count = read_lists(plan, header, index), min(many, images - image)
            if lists.move_list != cleared:  # the padding is the same for all boxes that are alike
                cleared = lists.move_list
                clear(pointer(panel, 0), panel.size)
            there, grads, into = aligned(pointer(panel, 0)), aligned(pointer(buffer, 0)), aligned(pointer(sums, 0))
            first = make_piece(header, channel, image, unit, lanes)
            for i in range(count):
                piece = make_piece(header, channel, image + i, unit, lanes)
                target = advance(there, i * header.panel)
                fill_panel(target, pointer(x, 0), pointer(plan, 0), header, lists, channel, piece)
            after = (image + 1) * channel.units + unit if image + 1 < images else min(unit + 1, end - 1)
            done = done if index > 0 else 0
            for c in range(0, shared, CHANNELS):
                source = result_of(pointer(grad_out, 0), header, lists, channel, first, first.first + c)
                _copy_grads(grads, source, plan, header, lists, many, min(CHANNELS, shared - c), count, channels)
                stream = Stream(grads, 0, grads, 0, 0)  # where planes of several images lie apart: what is there
                if many == 1:
                    stream = Stream(
                        pointer(x, after * size), min(size, AHEAD), pointer(grad_out, after * out_size),
                        min(out_size, AHEAD), done,
                    )  # fmt: skip
                done = _sum_box(
                    there, grads, many, plan, header, lists, count, advance(into, c * pitch), pitch, number > 0, stream
                )
        _store_sums(grad_weight, aligned(pointer(sums, 0)), pitch, taps, unit * shared, shared, lanes)


@internal
def _copy_grads(target, source, plan, header, lists, many, count, images, channels):
    """Rows of a box of grad_out to rows that start with cache lines: [channel][image of ``many``]."""
    for o in range(count):
        for i in range(images):
            here = advance(source, (i * channels + o) * header.out_pixels)
            there = advance(target, (o * many + i) * header.buffer)
            copy_rows_in(there, here, pointer(plan, lists.row_list), lists.rows)


@internal
def _sum_box(panel, grads, many, plan, header, lists, images, sums, pitch, more, stream):
    """Add a box's products of grad_out and the input, of some images, for some channels of a group."""
    tiles, done, lanes = pointer(plan, lists.tile_list), stream.done, lanes_of(sums)
    for n in range(tiles[0]):
        tile = pointer(plan, tiles[1] + 4 * n)
        lines = images * tile[2] * ((tile[3] + lanes - 1) // lanes) * lanes
        for t in range(0, header.columns, TAPS):
            columns, into = pointer(plan, header.column_list + t), advance(sums, t * lanes)
            ahead = advance(stream.ahead, _within(done, lines, stream.size))
            if t // TAPS % 2 == 1:  # by turns
                ahead = advance(stream.results, _within(done, lines, stream.results_size))
                done += lines
            sum_group_pixels(
                columns, advance(panel, tile[0]), header.panel, advance(grads, tile[1]), header.buffer,
                many * header.buffer, header.step, images, tile[2], tile[3], into, pitch, more or n > 0, ahead,
            )  # fmt: skip
    return done


@internal
def _store_sums(grad_weight, sums, pitch, taps, first, shared, lanes):
    """The sums of all lanes to the channels from ``first`` on."""
    rest = empty(lanes, grad_weight.dtype)
    for o in range(shared):
        for k in range(0, taps, lanes):
            here, there = advance(sums, o * pitch + k * lanes), (first + o) * taps + k
            if k + lanes <= taps:
                add_lanes(here, pointer(grad_weight, there))
            else:
                add_lanes(here, pointer(rest, 0))
                for l in range(taps - k):
                    grad_weight[there + l] = rest[l]


# ----------------------------------------------------------------------------------------------------------- in Python
def convolve(
    pass_: str, x: Any, weight: Any, bias: Any, floor: Any, result: Any, images: int, groups: int, plan: Plan,
    prepared: Any,
) -> None:  # fmt: skip
    """Write the convolution of ``x``, flat, or the gradient with respect to the input, to ``result``."""
    channels, backward = result.shape[1], pass_ == "backward_input"
    planes, shared = weight.size // (weight[0, 0].size * channels), channels // groups

    def order() -> Any:
        ordered = made(np.empty(weight.size + SLACK, weight.dtype))
        launch(
            group_order_core, 1, layout.read_only(weight), plan.order, weight[0, 0].size, backward, planes, shared,
            ordered,
        )  # fmt: skip
        return ordered

    ordered = order() if prepared is None else prepared.form(("groups", plan.order.tobytes()), order)
    launch(
        group_core, max(1, result.size * plan.order.size >> WORK), x, ordered, plan.order.size, bias, floor,
        layout.flat_target(result, False), images, channels, shared, plan.numbers,
    )  # fmt: skip


def weight_gradient(x: Any, grad_out: Any, result: Any, images: int, groups: int, plan: Plan) -> None:
    """Write the gradient with respect to the weight, for ``x`` and ``grad_out``, flat, to ``result``."""
    channels, taps = result.shape[0], result[0].size
    launch(
        group_weight_core, max(1, grad_out.size * taps >> WORK), x, grad_out, layout.flat_target(result, False), images,
        channels, channels // groups, plan.numbers, taps,
    )  # fmt: skip
