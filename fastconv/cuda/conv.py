"""Convolution: the entries of the backend. Forward and input gradient are the same kernel with other numbers.

A pass is one product of matrices on the tile (:mod:`fastconv.cuda.convolve`), or sums without it where groups are so
small that a tile would be mostly padding (:mod:`fastconv.cuda.direct`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fastconv._window import Window
from fastconv.cuda import _precision, arrays, layout, pack, strided, tensor, tile
from fastconv.cuda._jit import launch
from fastconv.cuda.convolve import AnyTile, make_convolve, make_correlate
from fastconv.cuda.direct import make_direct, make_direct_weight
from fastconv.cuda.geometry import Filters, Matrix, Phase, backward_phases, blocks, divisor, forward_phase, grid
from fastconv.cuda.layout import THREADS
from fastconv.cuda.sums import make_fold, make_pixel_sums
from fastconv.cuda.vector import lanes

FEW = 8  # up to here the products of a group's channels are summed without a tile
FULL = 96  # blocks that are enough for a large device, which has 108 to 148 multiprocessors
PARTS = 256  # blocks that a sum over pixels is divided among, at most
SHORTEST = 512  # pixels of a part, at least


def conv_forward(
    x: Any, weight: Any, bias: Any, window: Window, groups: int, relu: bool = False, out: Any = None,
    algorithm: str = "auto", prepared: Any = None,
) -> Any:  # fmt: skip
    """The convolution of x (N, C, *spatial) with weight (O, C // groups, *K), plus bias, then ReLU."""
    _check_algorithm(algorithm)
    shape = (x.shape[0], weight.shape[0], *window.output_size[5 - x.ndim :])
    y = strided.target(out, shape, x, x, weight, bias)
    _apply(x, weight, bias, y, groups, [forward_phase(window)], relu, backward=False)
    return layout.deliver(y, out)


def conv_backward_input(
    grad_out: Any, weight: Any, input_shape: tuple[int, ...], window: Window, groups: int, out: Any = None,
    algorithm: str = "auto",
) -> Any:  # fmt: skip
    """The gradient of the input, in the memory order of grad_out."""
    return conv_transpose_forward(grad_out, weight, None, input_shape, window, groups, out, algorithm)


def _check_algorithm(algorithm: str) -> None:
    if algorithm not in ("auto", "direct"):
        raise ValueError(f'algorithm "{algorithm}" cannot serve these arguments: CUDA arrays have "direct"')


def conv_transpose_forward(
    x: Any, weight: Any, bias: Any, shape: tuple[int, ...], window: Window, groups: int, out: Any = None,
    algorithm: str = "auto",
) -> Any:  # fmt: skip
    """The result of this shape is the input gradient of a convolution with ``window``, plus bias."""
    _check_algorithm(algorithm)
    y = strided.target(out, tuple(shape), x, x, weight, bias)
    _apply(x, weight, bias, y, groups, backward_phases(window), False, backward=True)
    return layout.deliver(y, out)


def _apply(
    x: Any, weight: Any, bias: Any, out: Any, groups: int, phases: Iterable[Phase], relu: bool, backward: bool
) -> None:
    if math.prod(out.shape) == 0:
        return
    rows, channels = out.shape[1] // groups, x.shape[1] // groups
    small = groups > 1 and rows * channels <= FEW
    weight = strided.aligned(weight)
    bias = None if bias is None else layout.contiguous(bias)
    source = None if small else pack.packed_pixels(x, groups)
    for phase in phases:
        if small:
            _direct(x, weight, bias, out, groups, rows, channels, phase, relu, backward)
        else:
            _product(source, weight, bias, out, groups, rows, channels, phase, relu, backward)


def _product(source, weight, bias, out, groups, rows, channels, phase, relu, backward) -> None:
    dtype, sum_dtype = strided.types_of(out.dtype)
    filters = phase.taps_of(strided.filters(weight, groups, backward)[1])
    taps = tuple(axis.number for axis in phase.taps)
    gather = phase.gather(out.shape[0])
    shape, row_tiles, column_tiles = _tiles(out.dtype, rows, gather.pixels, groups)
    unit, rows_last = shape.depth_of(out.itemsize), isinstance(shape, tile.Tile)
    packed = pack.packed_weight(weight, filters, rows, channels, groups, taps, unit, rows_last)
    data, places = strided.images(out)
    launch(
        make_convolve(shape, dtype, sum_dtype), groups * row_tiles * column_tiles, shape.threads, out.stream,
        source.data, packed.data, packed.data if bias is None else bias, data, bias is not None, relu, packed.terms,
        packed.depth, rows, packed.matrix, divisor(row_tiles), divisor(column_tiles), gather, source.channels,
        phase.pixels_of(places),
    )  # fmt: skip


def _direct(x, weight, bias, out, groups, rows, channels, phase, relu, backward) -> None:
    dtype, sum_dtype = strided.types_of(out.dtype)
    gather, count = phase.gather(out.shape[0]), out.shape[1]
    (source, source_places), (data, places) = strided.images(x), strided.images(out)
    filter_data, filters = strided.filters(weight, groups, backward)
    total = gather.pixels * count
    kernel = make_direct(dtype, sum_dtype, layout.is_channels_last(out))
    launch(
        kernel, blocks(total, THREADS), THREADS, out.stream, source,
        filter_data, filter_data if bias is None else bias, data, bias is not None, relu, total,
        divisor(gather.pixels), divisor(count), divisor(rows), channels, gather, source_places,
        phase.taps_of(filters), phase.pixels_of(places),
    )  # fmt: skip


def _tiles(dtype: Any, rows: int, columns: int, groups: int) -> tuple[AnyTile, int, int]:
    """The largest tile that the product fills, in enough blocks, and how many of it there are each way."""
    tiles: Sequence[AnyTile] = tile.DOUBLE_TILES if dtype == np.float64 else tile.TILES
    if _precision.on_tensor_cores(dtype):
        tiles = tensor.TILES
    for shape in tiles:
        down, across = blocks(rows, shape.rows), blocks(columns, shape.columns)
        if rows * 2 > shape.rows and groups * down * across >= FULL:
            break
    return shape, down, across


# ------------------------------------------------------------------------------------------------ sums over all pixels
def conv_backward_weight(
    grad_out: Any, x: Any, weight_shape: tuple[int, ...], window: Window, groups: int, out: Any = None,
    algorithm: str = "auto",
) -> Any:  # fmt: skip
    """The gradient of the weight, summed over parts of the pixels and then over the parts."""
    _check_algorithm(algorithm)
    grad_weight = out if out is not None else arrays.empty(x, tuple(weight_shape), x.dtype)
    if math.prod(weight_shape) == 0:
        return grad_weight
    rows, channels = weight_shape[0] // groups, weight_shape[1]
    gather = forward_phase(window).gather(x.shape[0])
    correlate = _direct_weight if groups > 1 and rows * channels <= FEW else _correlate
    partial, parts, padded = correlate(grad_out, x, rows, channels, groups, gather)
    data, filters = strided.filters(grad_weight, groups, False)
    taps = tuple(size.value for size in gather.taps)
    _fold(partial, data, x.dtype, weight_shape[0], parts, channels, padded, taps, filters)
    return grad_weight


def _correlate(grad_out, x, rows, channels, groups, gather):
    dtype, sum_dtype = strided.types_of(x.dtype)
    gradient, source = pack.packed_pixels(grad_out, groups), pack.packed_pixels(x, groups)
    width = lanes(x.dtype)
    padded = blocks(channels, width) * width
    columns = math.prod(size.value for size in gather.taps) * padded
    shape, row_tiles, column_tiles = _tiles(x.dtype, rows, columns, groups * blocks(gather.pixels, SHORTEST))
    tiles = groups * row_tiles * column_tiles
    parts, part_pixels = _parts(gather.pixels, tiles, shape.depth_of(x.itemsize))
    matrix = Matrix(gradient.channels.group, gradient.channels.pitch, gradient.channels.group)
    partial = strided.scratch(x, parts * groups * rows * columns, strided.sum_dtype(x.dtype))
    launch(
        make_correlate(shape, dtype, sum_dtype), parts * tiles, shape.threads, x.stream, gradient.data, source.data,
        partial, columns, rows, matrix, part_pixels, divisor(groups), divisor(row_tiles), divisor(column_tiles), gather,
        source.channels,
    )  # fmt: skip
    return partial, parts, padded


def _direct_weight(grad_out, x, rows, channels, groups, gather):
    dtype, sum_dtype = strided.types_of(x.dtype)
    (gradient, grad_places), (source, places) = strided.images(grad_out), strided.images(x)
    taps = math.prod(size.value for size in gather.taps)
    sums = groups * rows * channels * taps
    parts, part_pixels = _parts(gather.pixels, sums, THREADS)
    partial = strided.scratch(x, parts * sums, strided.sum_dtype(x.dtype))
    launch(
        make_direct_weight(dtype, sum_dtype), parts * sums, THREADS, x.stream, gradient, source, partial, part_pixels,
        divisor(parts), groups * rows, divisor(rows), divisor(channels), divisor(taps), gather, grad_places, places,
    )  # fmt: skip
    return partial, parts, channels


def _parts(pixels: int, blocks_each: int, unit: int) -> tuple[int, int]:
    """How many parts a sum over pixels is divided into, and the pixels of one; the shape alone decides."""
    parts = max(1, min(PARTS // blocks_each, blocks(pixels, SHORTEST)))
    part_pixels = max(1, blocks(blocks(pixels, parts), unit)) * unit
    return max(1, blocks(pixels, part_pixels)), part_pixels


def _fold(partial, data, dtype, rows, parts, channels, padded, taps, filters) -> None:
    all_taps = math.prod(taps)
    count = rows * all_taps * padded
    launch(
        make_fold(*strided.types_of(dtype)), blocks(count, THREADS), THREADS, data.stream, partial, data, count, parts,
        channels, divisor(padded), divisor(all_taps), grid(taps), filters,
    )  # fmt: skip


def conv_backward_bias(grad_out: Any) -> Any:
    """grad_out (N, C, *spatial) summed over batch and space, shape (C,)."""
    channels, pixels = grad_out.shape[1], grad_out.shape[0] * math.prod(grad_out.shape[2:])
    grad_bias = arrays.empty(grad_out, (channels,), grad_out.dtype)
    if channels == 0:
        return grad_bias
    across = 32 if layout.is_channels_last(grad_out) else 1
    parts, part_pixels = _parts(pixels, blocks(channels, across), THREADS // across)
    partial = strided.scratch(grad_out, parts * channels, strided.sum_dtype(grad_out.dtype))
    source, places = strided.images(grad_out)
    sizes = (1,) * (5 - grad_out.ndim) + tuple(grad_out.shape[2:])
    kernel = make_pixel_sums(*strided.types_of(grad_out.dtype), across)
    launch(
        kernel, parts * blocks(channels, across), THREADS, grad_out.stream, source, partial,
        pixels, part_pixels, channels, divisor(parts), grid(sizes), places,
    )  # fmt: skip
    filters = Filters(0, 0, 1, 0, 0, 0, 0)
    _fold(partial, strided.span(grad_bias)[0], grad_out.dtype, channels, parts, 1, 1, (1, 1, 1), filters)
    return grad_bias
