"""The kernels of convolution with arguments of the types that they get, to compile them without arrays."""

from __future__ import annotations

from functools import partial

import numpy as np

from fastconv._window import make_window
from fastconv.cuda import strided, tensor, tile
from fastconv.cuda.convolve import make_convolve, make_correlate
from fastconv.cuda.direct import make_direct, make_direct_weight
from fastconv.cuda.geometry import Channels, Filters, Images, Matrix, divisor, forward_phase
from fastconv.cuda.pack import make_pack_pixels, make_pack_weight
from fastconv.cuda.sums import make_fold, make_pixel_sums

GATHER = forward_phase(make_window((8, 8), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))).gather(2)
IMAGES, FILTERS = Images(0, 0, 0, 0, 0, 0), Filters(0, 0, 0, 0, 0, 0, 0)
CHANNELS, MATRIX, THREE = Channels(divisor(3), 3, 3), Matrix(3, 3, 3), divisor(3)


def convolve(shape, dtype):
    dtype, sum_dtype = strided.types_of(np.dtype(dtype))
    array = dtype[::1]
    arguments = (array, array, array, array, True, True, 3, 3, 3, MATRIX, THREE, THREE, GATHER, CHANNELS, IMAGES)
    return make_convolve(shape, dtype, sum_dtype), arguments


def correlate(shape, dtype):
    dtype, sum_dtype = strided.types_of(np.dtype(dtype))
    arguments = (dtype[::1], dtype[::1], sum_dtype[::1], 3, 3, MATRIX, 8, THREE, THREE, THREE, GATHER, CHANNELS)
    return make_correlate(shape, dtype, sum_dtype), arguments


def direct(dtype):
    array = strided.types_of(np.dtype(dtype))[0][::1]
    arguments = (array, array, array, array, True, True, 9, THREE, THREE, THREE, 3, GATHER, IMAGES, FILTERS, IMAGES)
    return make_direct(*strided.types_of(np.dtype(dtype)), False), arguments


def direct_weight(dtype):
    dtype, sum_dtype = strided.types_of(np.dtype(dtype))
    arguments = (
        dtype[::1], dtype[::1], sum_dtype[::1], 9, THREE, 3, THREE, THREE, THREE, GATHER, IMAGES, IMAGES,
    )  # fmt: skip
    return make_direct_weight(dtype, sum_dtype), arguments


def pack_pixels(dtype, channels_last):
    dtype, _ = strided.types_of(np.dtype(dtype))
    arguments = (dtype[::1], dtype[::1], 9, 3, THREE, 4, THREE, GATHER.grid, IMAGES)
    return make_pack_pixels(dtype, channels_last), arguments


def pack_weight(dtype):
    dtype, _ = strided.types_of(np.dtype(dtype))
    arguments = (dtype[::1], dtype[::1], 3, 3, 4, 16, MATRIX, THREE, THREE, GATHER.taps, FILTERS)
    return make_pack_weight(dtype, True), arguments


def pixel_sums(dtype, across):
    dtype, sum_dtype = strided.types_of(np.dtype(dtype))
    arguments = (dtype[::1], sum_dtype[::1], 9, 3, 3, THREE, GATHER.grid, IMAGES)
    return make_pixel_sums(dtype, sum_dtype, across), arguments


def fold(dtype):
    dtype, sum_dtype = strided.types_of(np.dtype(dtype))
    arguments = (sum_dtype[::1], dtype[::1], 9, 3, 3, THREE, THREE, GATHER.taps, FILTERS)
    return make_fold(dtype, sum_dtype), arguments


SIZES = ("large", "medium", "small")
SHAPES = {
    "float32": dict(zip(SIZES, tile.TILES, strict=True)),
    "float16": dict(zip(SIZES, tile.TILES, strict=True)),
    "float64": dict(zip(SIZES[::2], tile.DOUBLE_TILES, strict=True)),
}

KERNELS = {
    f"{make.__name__} {name} {dtype}": partial(make, shape, dtype)
    for dtype, shapes in SHAPES.items()
    for name, shape in shapes.items()
    for make in (convolve, correlate)
}
KERNELS |= {
    f"{make.__name__} tensor {name} {dtype}": partial(make, shape, dtype)
    for dtype in ("float16", "float32")
    for name, shape in zip(SIZES[::2], tensor.TILES, strict=True)
    for make in (convolve, correlate)
}
KERNELS |= {
    f"{make.__name__} float32": partial(make, "float32", *options)
    for make, options in (
        (direct, ()), (direct_weight, ()), (pack_pixels, (False,)), (pack_weight, ()), (pixel_sums, (1,)), (fold, ()),
    )
}  # fmt: skip
