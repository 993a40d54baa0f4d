"""Into the panel and out of the buffer of depthwise convolution: moves of rows, and transposes."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastconv.cpu._jit import inlined, internal, separate
from fastconv.cpu.depthwise_kernel import lanes_of
from fastconv.cpu.panel import transpose_run
from fastconv.cpu.pointers import advance, lanes_at
from fastconv.cpu.transpose import transpose
from fastconv.cpu.vector import every_other, interleave_high, interleave_low, load, load_first, splat, store_first


class Channels(NamedTuple):
    """Output channel c is made of the input channels ``c // shared * planes + j``, j < planes."""

    count: Any  # of the output
    shared: Any
    last: Any  # whether channels are the fastest axis in memory
    units: Any  # of work: channels that share input, or vectors of channels


class Piece(NamedTuple):
    """One unit of work: output channels of an image, one at a time or (blocked) a vector of them."""

    image: Any
    first: Any
    outs: Any
    limit: Any  # elements that a vector of results may have


@inlined
def make_channels(header, count, shared, last, lanes):
    return Channels(count, shared, last, (count + lanes - 1) // lanes if header.blocked else count // shared)


@inlined
def make_piece(header, channel, image, unit, lanes):
    if header.blocked:
        return Piece(image, unit * lanes, 1, min(lanes, channel.count - unit * lanes))
    return Piece(image, unit * channel.shared, channel.shared, header.out_pixels)


@internal
def result_of(out, header, lists, channel, piece, c):
    """The first pixel of the box in a plane of the output, or of an array like it."""
    image = advance(out, piece.image * channel.count * header.out_pixels)
    if channel.last:
        return advance(image, lists.out_pixel * channel.count + c)
    return advance(image, c * header.out_pixels + lists.out_pixel)


# ---------------------------------------------------------------------------------------------------------- the panel
@internal
def fill_panel(panel, x, plan, header, lists, channel, piece):
    """What the box's windows read for the output channel ``piece.first``, or for a vector of them from it on."""
    in_channels = channel.count // channel.shared * header.planes
    step, plane = (in_channels, 1) if channel.last else (1, header.pixels)
    source = advance(x, piece.image * in_channels * header.pixels + lists.in_pixel * step)
    whole = channel.shared == 1 and header.planes == 1
    moves = advance(plan, lists.move_list)
    for j in range(header.planes):
        here = advance(source, (piece.first // channel.shared * header.planes + j) * plane)
        target = advance(panel, j * header.plane)
        if not header.blocked:
            move_rows_in(target, here, moves, lists.moves, step, header.pixel_step * step)
        elif whole and channel.last:
            move_channels_in(target, here, moves, lists.moves, step, header.pixel_step * step, piece.limit)
        elif whole:
            _transpose_in(
                target, here, plane, piece.limit, advance(plan, lists.place_list), lists.first_place, lists.places
            )
        else:
            for l in range(piece.limit):
                lane = advance(source, ((piece.first + l) // channel.shared * header.planes + j) * plane)
                move_lane_in(advance(target, l), lane, moves, lists.moves, step, header.pixel_step * step)


@internal
def gather_grads(target, grads, plan, header, lists, channel, piece, places):
    """Rows of grad_out as the buffer of the forward pass holds its results; places[q] = q * lanes."""
    rows, step = advance(plan, lists.row_list), channel.count if channel.last else 1
    for n in range(lists.rows):
        there, pixel, length = advance(target, rows[3 * n]), rows[3 * n + 1], rows[3 * n + 2]
        if header.blocked:
            _transpose_in(there, grads, header.out_pixels, piece.limit, places, pixel, length)
        else:
            for i in range(length):
                there[i] = grads[(pixel + i) * step]


# ------------------------------------------------------------------------------------------------------ rows of pixels
@inlined
def _copy_row(target, source, length):
    """target[:length] = source[:length] by whole vectors, of which the last one overlaps the one before it."""
    width = lanes_at(target)
    if length < width:
        store_first(target, load_first(source, length, splat(source, 0)), length)
    else:
        for start in range(0, length, width):
            i = start if start + width <= length else length - width  # min() is not linked to what is compiled alone
            store_first(advance(target, i), load(advance(source, i)), width)


@internal
def copy_rows_in(target, source, rows, count):
    """For each of the rows: target[from + i] = source[to + i], the way back of :func:`move_rows_out`."""
    for n in range(count):
        _copy_row(advance(target, rows[3 * n]), advance(source, rows[3 * n + 1]), rows[3 * n + 2])


@separate  # 4 % of a small layer
def move_rows_in(target, source, moves, count, stride, step):
    """For each of the moves: target[to + i] = source[from * stride + i * step] for i < count."""
    width, zero = lanes_at(source), splat(source, 0)
    for n in range(count):
        row, there, length = advance(source, moves[3 * n] * stride), advance(target, moves[3 * n + 1]), moves[3 * n + 2]
        if step == 1:
            _copy_row(there, row, length)
        elif step == 2 and length >= width:
            for start in range(0, length, width):
                here = advance(row, 2 * min(start, length - width))
                value = every_other(load(here), load(advance(here, width - 1)))
                store_first(advance(there, min(start, length - width)), value, width)
        elif step == 2:
            low = load_first(row, 2 * length - 1, zero)
            high = load_first(advance(row, width - 1), max(0, 2 * length - width), zero)
            store_first(there, every_other(low, high), width)
        else:
            for i in range(length):
                there[i] = row[i * step]


@internal
def move_rows_out(target, source, rows, count, step, phases, pitch):
    """For each of the rows: target[(to + i * phases + q) * step] = source[from + q * pitch + i]."""
    width = lanes_at(target)
    for n in range(count):
        here, row, length = advance(source, rows[3 * n]), advance(target, rows[3 * n + 1] * step), rows[3 * n + 2]
        if step == 1 and phases == 1:
            _copy_row(row, here, length)
        elif step == 1 and phases == 2:
            for i in range(0, length, 2 * width):
                even, odd = load(advance(here, i // 2)), load(advance(here, pitch + i // 2))
                store_first(advance(row, i), interleave_low(even, odd), length - i)
                store_first(advance(row, i + width), interleave_high(even, odd), max(0, length - i - width))
        else:
            for q in range(phases):
                for i in range((length - q + phases - 1) // phases):
                    row[(i * phases + q) * step] = here[q * pitch + i]


# ------------------------------------------------------------------------------------------------- vectors of channels
@internal
def move_channels_in(target, source, moves, count, stride, step, channels):
    """For each of the moves: target[to + i * lanes + l] = source[from * stride + i * step + l] for l < channels."""
    width, lanes, zero = lanes_at(source), lanes_of(source), splat(source, 0)
    for n in range(count):
        row, there = advance(source, moves[3 * n] * stride), advance(target, moves[3 * n + 1])
        for i in range(moves[3 * n + 2]):
            for l in range(0, lanes, width):
                value = load_first(advance(row, i * step + l), max(0, channels - l), zero)
                store_first(advance(there, i * lanes + l), value, width)


@internal
def move_lane_in(target, source, moves, count, stride, step):
    """The same for a single lane."""
    for n in range(count):
        for i in range(moves[3 * n + 2]):
            target[moves[3 * n + 1] + i * lanes_of(source)] = source[moves[3 * n] * stride + i * step]


@internal
def _transpose_in(target, source, plane, channels, places, first, count):
    """target[places[q] + l] = source[l * plane + first + q] for l < channels, q < count."""
    transpose_run(advance(source, first), plane, channels, target, places, count, 0)


@internal
def transpose_out(target, plane, source, rows, count, lanes, channels, places):
    """For each of the rows: target[l * plane + to + i] = source[from + i * lanes + l] for l < channels."""
    width = lanes_at(target)
    for l in range(lanes):
        places[l] = l * plane if l < channels else -1
    for n in range(count):
        here, there, length = advance(source, rows[3 * n]), advance(target, rows[3 * n + 1]), rows[3 * n + 2]
        for c in range(0, channels, width):
            for start in range(0, length if length >= width else 0, width):
                i = min(start, length - width)
                transpose(advance(here, i * lanes + c), lanes, width, advance(there, i), advance(places, c))
        for l in range(channels if length < width else 0):
            for i in range(length):
                there[places[l] + i] = here[i * lanes + l]
