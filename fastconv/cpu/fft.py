"""Long kernels along the last axis by Fourier transforms of tiles (overlap-save): K products become a few.

    Y[f][tile, out_channel] = sum over in_channels of X[f][tile, in_channel] * conj(W[f][in_channel, out_channel])

for each frequency f, where X are transforms of pieces of the input of a size N, each of which gives N - K + 1 results,
and W transforms of the kernels (T. G. Stockham, "High-speed convolution and correlation", 1966). The input gradient is
the same of grad_out with kernels turned round; the weight gradient sums over tiles, with pieces of grad_out for W.

A complex product is a real one of twice the depth: spectra have the parts (re, im, -re), and Y's real and imaginary
parts are the micro-kernel's sums over parts (0, 1) and (1, 2) times (re, im) of W.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from fastconv._window import Window
from fastconv.cpu import layout
from fastconv.cpu._jit import flushing, internal, launch, made
from fastconv.cpu._target import lanes
from fastconv.cpu.bias import padded_bias
from fastconv.cpu.epilogue import make_target, store_tile
from fastconv.cpu.fft_plan import PARTS, Block, Part, Signals, blocks, make_signals, parts, steps
from fastconv.cpu.fourier import real_spectrum, roots, store_halves, transform
from fastconv.cpu.memory import empty, multiples
from fastconv.cpu.microkernel import MAX_VECTORS, ROWS, tile
from fastconv.cpu.panel import SLACK
from fastconv.cpu.plan import DEPTH, WORK, Reading, make_plan
from fastconv.cpu.pointers import advance, aligned, clear, lanes_at, pointer
from fastconv.cpu.vector import load, store_first
from fastconv.cpu.weights import block_lanes, make_lanes, padded_channels
from fastconv.cpu.winograd_plan import mirrored

AHEAD = 4  # rows of W that are prefetched ahead of their use
FILL = 128  # elements of a signal that are moved before those of the next one
TASK = 15  # a thread gets at least 2**TASK elements to transform


# ------------------------------------------------------------------------------------------------------------- spectra
@flushing
def spectra_core(worker, workers, x, spectra, factors, half_factors, scale, numbers, signals, size):
    """spectra[group][f][part][signal] = the transforms of all signals times ``scale``, for f from 0 to size / 2."""
    width, half = lanes_at(pointer(x, 0)), size // 2
    buffers, places = empty(2 * size * width + SLACK, x.dtype), np.empty((3, width), np.int64)
    batches = signals // width
    for item in range(worker, numbers[0] * batches, workers):
        group, first = item // batches, item % batches * width
        re = aligned(pointer(buffers, 0))
        other = advance(re, size * width)
        for k in range(width):
            _place(places, k, numbers, group, first + k)
        _fill(re, x, places, numbers[9], size)
        re, im = transform(re, advance(re, width), other, advance(other, width), pointer(half_factors, 0), half)
        there = pointer(spectra, group * (half + 1) * PARTS * signals + first)
        for f in range(half + 1):
            a, b = real_spectrum(re, im, pointer(factors, 0), f, half)
            here = advance(there, f * PARTS * signals)
            store_first(here, a * scale, width)
            store_first(advance(here, signals), b * scale, width)
            store_first(advance(here, 2 * signals), a * -scale, width)


@internal
def _place(places, k, numbers, group, signal):
    """places[:, k] = where element 0 of a signal would lie, and its first element and the end inside the row."""
    rows, outer_rows, tiles, channels = numbers[1], numbers[2], numbers[3], numbers[4]
    t, row = signal // channels % tiles, signal // (channels * tiles)
    start = numbers[11] + t * numbers[12]
    at = group * numbers[5] + row // rows * numbers[6] + row % rows * numbers[7] + signal % channels * numbers[8]
    places[0, k], places[1, k] = at + start * numbers[9], max(0, -start)
    places[2, k] = min(numbers[13], numbers[10] - start) if row < rows * outer_rows else 0


@internal
def _fill(target, x, places, stride, size):
    """Signals with zeros around them to [n][lane], some elements of every lane at a time: they stay in L1."""
    width = lanes_at(target)
    for first in range(0, size, FILL):
        clear(advance(target, first * width), min(FILL, size - first) * width)
        for lane in range(width):
            there, at = advance(target, lane), places[0, lane]
            for n in range(max(first, places[1, lane]), min(first + FILL, places[2, lane])):
                there[n * width] = x[at + n * stride]


# ------------------------------------------------------------------------------------------------------------ products
@flushing
def products_core(
    worker, workers, x, w, out, a_rows, a_columns, b_rows, x_pitch, w_pitch, count, groups, channels, accumulate
):
    """out[group][f][part][row][lane] (+)= sums over a_columns of x's rows times w's, for the two parts of a number."""
    lanes = make_lanes(channels, lanes_at(pointer(x, 0)))
    rows, depth = a_rows.size, a_columns.size
    for item in range(worker, groups * count, workers):
        a, b = pointer(x, item * PARTS * x_pitch), pointer(w, item * PARTS * w_pitch)
        for part in range(2):
            there = pointer(out, (item * 2 + part) * rows * lanes.row)
            for block in range(lanes.blocks):
                lane, pitch, _ = block_lanes(lanes, block)
                for start in range(0, depth, DEPTH):
                    for i in range(0, rows, ROWS):
                        tile(
                            pitch // lanes.width, min(DEPTH, depth - start), advance(a, part * x_pitch),
                            pointer(a_rows, i), pointer(a_columns, start), advance(b, lane), pointer(b_rows, start),
                            AHEAD * pitch, advance(there, i * lanes.row + lane), lanes.row, accumulate or start > 0,
                        )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- results
@flushing
def results_core(
    worker, workers, spectra, out, out_last, all_channels, bias, floor, factors, half_factors, plan, numbers, rows,
    groups, channels, size,
):  # fmt: skip
    """The inverse transforms, a vector of lanes each, to their places in the output, bias and ReLU added."""
    lanes, half = make_lanes(channels, lanes_at(pointer(spectra, 0))), size // 2
    width, pitch = lanes.width, rows * lanes.row
    target = make_target(pointer(out, 0), out_last, all_channels, plan, 0)
    buffers, square = empty(2 * size * width + SLACK, spectra.dtype), empty(width * width, spectra.dtype)
    planes, pixels = empty(width, np.int64), multiples(size + width, width)
    inner, tiles = numbers[1], numbers[3]
    vectors = numbers[2] * inner * tiles * lanes.vectors
    for item in range(worker, groups * vectors, workers):
        group, v, t = item // vectors, item % lanes.vectors, item % vectors // lanes.vectors % tiles
        row = item % vectors // (lanes.vectors * tiles)
        re = aligned(pointer(buffers, 0))
        im, other = advance(re, width), advance(re, size * width)
        here = pointer(spectra, group * (half + 1) * 2 * pitch + item % vectors * width)
        for f in range(half):
            a, b = advance(here, f * 2 * pitch), advance(here, (half - f) * 2 * pitch)
            store_halves(
                re, im, pointer(factors, 0), f, load(a), load(advance(a, pitch)), load(b), load(advance(b, pitch))
            )  # fmt: skip
        _, re = transform(im, re, advance(other, width), other, pointer(half_factors, 0), half)
        left = min(width, channels - v * width)
        for c in range(width):
            planes[c] = c * target.plane if c < left else -1
        store_tile(
            re, width, min(numbers[13], numbers[10] - t * numbers[12]), target, row // inner,
            group * channels + v * width, left, pointer(bias, group * lanes.row + v * width), floor,
            row % inner * numbers[10] + t * numbers[12], pointer(planes, 0), pointer(pixels, 0), pointer(square, 0),
        )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ in Python
def convolve(
    x: Any, weight: Any, bias: Any, floor: Any, result: Any, channels_last: bool, window: Window, backward: bool,
    groups: int, size: int, prepared: Any = None,
) -> None:  # fmt: skip
    """Convolve ``x``, flat, with a weight (O, C / groups, *K), or with kernels turned round, into ``result``."""
    window = mirrored(window) if backward else window
    outs, ins = weight.shape[0] // groups, weight.shape[1]
    if backward:
        kernels = weight.reshape(groups, outs, ins, -1)[..., ::-1].swapaxes(1, 2)
        outs, ins, weight = ins, outs, np.ascontiguousarray(kernels).reshape(groups * ins, outs, -1)
    step = size - window.kernel_size[2] + 1
    tiles = -(-window.output_size[2] // step), -window.padding_before[2], step, size
    signals = make_signals(window.input_size, len(result), groups, ins, channels_last, *tiles)
    target, all_channels = layout.flat_target(result, channels_last), groups * outs
    to = Target(target, channels_last, all_channels, window, bias, floor)
    part = block = spectra = w = None
    for next_part, next_block in steps(signals, outs, size, x.itemsize, prepared is not None):
        if next_part is not part:
            part, spectra = next_part, None  # memory goes before more is taken
            spectra = _spectra(x[part.signals.start(part.image, part.row) :], part.signals, size, 0.5)
        if next_block is not block:
            block, w = next_block, None
            w = _weight_spectra(weight, groups, block, ins, size) if prepared is None else prepared.form(
                ("fft", size), lambda: _weight_spectra(weight, groups, (0, outs), ins, size)
            )  # fmt: skip
        _convolve_part(spectra, w, part, block, to, size)


class Target(NamedTuple):
    """Where the result goes, and what is done to it on the way."""

    memory: Any
    channels_last: bool
    channels: int
    window: Window
    bias: Any
    floor: Any


def _convolve_part(spectra: Any, w: Any, part: Part, block: Block, to: Target, size: int) -> None:
    """The results of a part of the signals and a block of the output channels."""
    (spectra, pitch), (w, w_pitch), signals, (first, outs) = spectra, w, part.signals, block
    ins, columns, length = signals.channels, np.arange(2 * signals.channels), to.window.output_size[2]
    a_rows = np.minimum(np.arange(-(-signals.pieces // ROWS) * ROWS), signals.pieces - 1) * ins
    products = _products(
        spectra, w, a_rows, _columns(columns, ins, pitch, 1), _columns(columns, ins, w_pitch, outs), signals.groups,
        outs, size,
    )  # fmt: skip
    plan = make_plan(
        to.window, False, signals.outer_rows, ins, signals.groups, spectra.itemsize, Reading(to.channels_last)
    )
    plane, pixel = math.prod(to.window.output_size), part.row * length + part.tile * signals.step
    pixels, channels = (to.channels, 1) if to.channels_last else (1, plane)
    there = to.memory[part.image * to.channels * plane + pixel * pixels + first * channels :]
    rest = signals._replace(size=length - part.tile * signals.step, length=signals.step)
    _results(products, there, to.channels_last, to.channels, to.bias[first:], to.floor, plan, rest, len(a_rows), outs,
             size)  # fmt: skip


def weight_gradient(
    x: Any, x_last: bool, grad_out: Any, grad_last: bool, result: Any, window: Window, images: int, groups: int,
    size: int,
) -> None:  # fmt: skip
    """Write the gradient for ``x`` and ``grad_out``, flat, to ``result``."""
    outs, ins, taps = result.shape[0] // groups, result.shape[1], window.kernel_size[2]
    step = size - taps + 1
    tiles = -(-window.output_size[2] // step)
    signals = make_signals(window.input_size, images, groups, ins, x_last, tiles, -window.padding_before[2], step, size)
    grads = make_signals(window.output_size, images, groups, outs, grad_last, tiles, 0, step, step)
    line, one, zero = (1, 1, ins * taps), (1, 1, 1), (0, 0, 0)
    plan = make_plan(Window(line, one, one, zero, zero, one, line), False, 1, 1, 1, x.itemsize, Reading(False))
    bias = padded_bias(None, groups, outs, x.dtype)
    target = layout.flat_target(result, False)
    for first, count in blocks(groups, ins, outs, size, x.itemsize):
        some = grads._replace(channels=count)
        products = _gradient_products(x, signals, grad_out[first * grads.channel_stride :], some, size)
        rows = Signals(groups, ins, 1, 1, count, 0, 0, 0, 0, 1, taps, 0, taps, taps)
        _results(products, target[first * ins * taps :], False, groups * count, bias, x.dtype.type(-np.inf), plan, rows,
                 -(-ins // ROWS) * ROWS, count, size)  # fmt: skip
        products = None  # memory goes before more is taken


def _gradient_products(x: Any, signals: Signals, grad_out: Any, grads: Signals, size: int) -> Any:
    """The spectra of a weight's gradient: sums over the pieces of all parts, one part after the other."""
    ins, outs, products = signals.channels, grads.channels, None
    a_rows = np.minimum(np.arange(-(-ins // ROWS) * ROWS), ins - 1)
    for part in parts(signals, outs, size, x.itemsize):
        count = part.signals.pieces
        there = grads._replace(
            outer_rows=part.signals.outer_rows, rows=part.signals.rows, tiles=part.signals.tiles,
            low=part.tile * grads.step,
        )  # fmt: skip
        spectra, pitch = _spectra(x[part.signals.start(part.image, part.row) :], part.signals, size, 0.5)
        beyond = MAX_VECTORS * lanes(x.itemsize)
        w, w_pitch = _spectra(grad_out[there.start(part.image, part.row) :], there, size, 0.5 / size, beyond)
        columns = np.arange(2 * count)
        products = _products(
            spectra, w, a_rows, _columns(columns, count, pitch, ins), _columns(columns, count, w_pitch, outs),
            signals.groups, outs, size, products,
        )  # fmt: skip
        spectra = w = None  # memory goes before more is taken
    return products


def _columns(columns: Any, count: int, pitch: int, step: int) -> Any:
    """Where the summands (part, number) lie."""
    return columns // count * pitch + columns % count * step


def _weight_spectra(weight: Any, groups: int, block: Block, ins: int, size: int) -> tuple[Any, int]:
    """Of a weight (O, C / groups, *K), and of a block of each group's output channels."""
    first, outs = block
    taps = weight[0, 0].size
    weight = layout.read_only(weight[first:] if groups == 1 else weight)
    signals = Signals(groups, ins, 1, 1, outs, outs * ins * taps, 0, taps, ins * taps, 1, taps, 0, 0, taps)
    return _spectra(weight, signals, size, 0.5 / size, MAX_VECTORS * lanes(weight.itemsize))


def _spectra(x: Any, signals: Signals, size: int, scale: float, beyond: int = 0) -> tuple[Any, int]:
    """Spectra, and the distance of their parts. Zeros follow on the last signal, for vectors that begin among them."""
    batch = lanes(x.itemsize)
    pitch = -(-(signals.pieces * signals.channels + beyond) // batch) * batch
    spectra = made(np.empty(signals.groups * (size // 2 + 1) * PARTS * pitch + SLACK, x.dtype))
    launch(
        spectra_core, max(1, pitch * signals.groups * size >> TASK), x, spectra, roots(size, x.dtype),
        roots(size // 2, x.dtype), x.dtype.type(scale), np.array(signals), pitch, size,
    )  # fmt: skip
    return spectra, pitch


def _products(
    x: Any, w: Any, a_rows: Any, a_columns: Any, b_rows: Any, groups: int, outs: int, size: int, out: Any = None
) -> Any:
    count, lane_row, accumulate = size // 2 + 1, padded_channels(outs, x.itemsize), out is not None
    if out is None:
        out = made(np.empty(groups * count * 2 * len(a_rows) * lane_row, x.dtype))
    x_pitch, w_pitch = ((array.size - SLACK) // (groups * count * PARTS) for array in (x, w))
    launch(
        products_core, max(1, out.size * len(a_columns) >> WORK), x, w, out, a_rows, a_columns, b_rows, x_pitch,
        w_pitch, count, groups, outs, accumulate,
    )  # fmt: skip
    return out


def _results(
    products: Any, out: Any, out_last: bool, all_channels: int, bias: Any, floor: Any, plan: Any, signals: Signals,
    rows: int, outs: int, size: int,
) -> None:  # fmt: skip
    launch(
        results_core, max(1, products.size >> TASK), products, out, out_last, all_channels, bias, floor,
        roots(size, out.dtype), roots(size // 2, out.dtype), plan.numbers, np.array(signals), rows, signals.groups,
        outs, size,
    )  # fmt: skip
