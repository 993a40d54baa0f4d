"""What Winograd's algorithm is used for, as numbers: kernels in parts of 3x3 taps, outputs in tiles of 4x4 results.

A kernel is a sum of parts, each with its own tile of the input, and sums of products run over parts as over channels:
27 taps are three parts, 5x5 taps four, with zeros where a kernel ends. A kernel along one axis has parts of 3 or 4
taps and tiles of 4 or 3 results. Tiles of dilated kernels lie interleaved: a position of the grid has those of
neighbouring columns, and an image counts as often as there are rows between its neighbours, each time from its next
row on. A strided kernel is a sum of dense ones, of every other row and column: more parts, and those of neighbouring
columns are side by side in memory, like channels.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastconv._window import Triple, Window, is_tileable
from fastconv.cpu._jit import inlined
from fastconv.cpu._target import lanes
from fastconv.cpu.microkernel import MAX_VECTORS
from fastconv.cpu.plan import Plan, Reading, make_plan
from fastconv.cpu.winograd_transforms import PLANE, ROW, SHORT_ROW, SIZE

PART, STEP = 3, 4  # taps of a part and results of a tile on an axis; the other way round for some kernels in rows
PIECE, ROW_PIECE = 64, 128  # about as many (part, summed channel) make a chain, and where tiles are rows
LEAST_CHANNELS = 8  # on both sides, below which direct sums are faster
ROW_CHANNELS, LEAST_ROW_GAIN = 4, 1.25  # times as many, and products to be spared, where tiles are rows
LEAST_STRIDED_GAIN = 2.5  # products to be spared where kernels are strided
BOX_BYTES, SMALL_BOX_BYTES = 396, 192  # of a channel's elements in a box, and where all of U stays in L2
ROW_BOX_BYTES = 1056  # where tiles are rows: U is small, and soon transformed again
TILES_BYTES = 6 << 20  # of a box's transformed tiles, at most


class Shape(NamedTuple):
    """Parts and tiles of a kernel."""

    depth: Any  # parts along each axis
    rows: Any
    columns: Any
    row_stride: Any  # parts along rows are first those of the kernel's first rows, of every row_stride-th
    column_stride: Any  # parts that follow on one another, whose tiles start at neighbouring columns
    parts: Any
    down: Any  # 1 where tiles extend along rows or columns, else 0
    across: Any
    products: Any  # of a tile, and how many lie from one of its rows to the next
    row: Any
    dilation: Any  # tiles at a position of the grid
    kernel_rows: Any
    kernel_columns: Any
    taps: Any  # of all parts
    form: Any  # of tiles
    part: Any  # taps of a part on an axis, and results of a tile
    step: Any


@lru_cache(maxsize=64)
def shape_of(window: Window) -> tuple[Shape, npt.NDArray[np.int64]]:
    """The shape of the window's kernel, and the same as kernels take it."""
    (depth, height, width), (_, down_by, across_by) = window.kernel_size, window.stride
    down, across = int(height > 1), int(width > 1)
    form, part, step = form_of(window)
    rows, columns = down_by * parts_of(height, down_by, part) if down else 1, parts_of(width, across_by, part)
    column_stride = across_by if across else 1
    parts = depth * rows * columns * column_stride
    shape = Shape(
        depth, rows, columns, down_by if down else 1, column_stride, parts, down, across, SIZE ** (down + across),
        SIZE * down * across, _steps(window, 2), height, width, parts * part ** (down + across),
        form, part, step,
    )  # fmt: skip
    numbers = np.array(shape, np.int64)
    numbers.setflags(write=False)
    return shape, numbers


@inlined
def make_shape(numbers):  # type: ignore[no-untyped-def]
    """The :class:`Shape` of these numbers: read once. As fields in memory, 512 channels on 7x7 ran 10 % slower."""
    return Shape(
        numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6], numbers[7], numbers[8],
        numbers[9], numbers[10], numbers[11], numbers[12], numbers[13], numbers[14], numbers[15], numbers[16],
    )  # fmt: skip


@inlined
def one_part(shape):  # type: ignore[no-untyped-def]
    """The same tiles with a kernel of one part."""
    return Shape(
        1, 1, 1, 1, 1, 1, shape.down, shape.across, shape.products, shape.row, shape.dilation, shape.kernel_rows,
        shape.kernel_columns, shape.taps, shape.form, shape.part, shape.step,
    )  # fmt: skip


@inlined
def part_at(shape, part):  # type: ignore[no-untyped-def]
    """How many planes, rows and columns of taps lie before those parts that follow on one another: the ``part``-th."""
    z, y, x = part // (shape.rows * shape.columns), part // shape.columns % shape.rows, part % shape.columns
    each = shape.rows // shape.row_stride
    return z, y // each + y % each * shape.part * shape.row_stride, x * shape.part * shape.column_stride


@inlined
def first_tap(shape, part):  # type: ignore[no-untyped-def]
    """The first tap of a part."""
    return part * (shape.taps // shape.parts)


@inlined
def tap_in_parts(shape, tap):  # type: ignore[no-untyped-def]
    """Where a tap of the kernel lies among the taps of all parts."""
    row, x = tap // shape.kernel_columns, tap % shape.kernel_columns
    z, y = row // shape.kernel_rows, row % shape.kernel_rows
    i, j = y // shape.row_stride, x // shape.column_stride
    part = (z * shape.rows + y % shape.row_stride * (shape.rows // shape.row_stride) + i // shape.part) * shape.columns
    part = (part + j // shape.part) * shape.column_stride + x % shape.column_stride
    return first_tap(shape, part) + i % shape.part * (shape.part if shape.across else 1) + j % shape.part


def form_of(window: Window) -> tuple[int, int, int]:
    """The form of the window's tiles, and on an axis the taps of a part and the results of a tile.

    Kernels along one axis take what makes fewer products, which are as many for a tile: seven taps are two parts of 4.
    """
    kernel = max(window.kernel_size[1:])
    if min(window.kernel_size[1:]) > 1:
        return PLANE, PART, STEP
    short = STEP * -(-kernel // STEP) < PART * -(-kernel // PART)
    return (SHORT_ROW, STEP, PART) if short and window.stride == (1, 1, 1) else (ROW, PART, STEP)


def parts_of(size: int, stride: int, part: int) -> int:
    """Parts of a kernel of that size along an axis, for each of the places between two steps."""
    return -(-size // (part * stride))


def _steps(window: Window, axis: int) -> int:
    """Elements between neighbours of a tile."""
    return window.dilation[axis] if window.kernel_size[axis] > 1 else 1


# ----------------------------------------------------------------------------------------------------------- the choice
def chosen(
    algorithm: str, window: Window, backward: bool, channels: int, out_channels: int, least: int = LEAST_CHANNELS
) -> bool:
    """Whether Winograd's algorithm computes a convolution of so many channels per group.

    ``least`` is how many of them there are on both sides, below which direct sums are faster.
    """
    if algorithm != "auto":
        return algorithm == "winograd" and channels > 0
    channels *= math.prod(window.stride)  # pixels that a stride skips are like channels
    if min(channels, out_channels) < least:
        return False
    return min(channels, out_channels) >= least * _worth(window, backward)


@lru_cache(maxsize=256)
def _worth(window: Window, backward: bool) -> float:
    """How many times as many channels it takes as for dense kernels of 3x3 taps.

    A box of few tiles does not repay that kernels are transformed for it, about the time of six tiles' products. Tiles
    that are rows have half of the gain, for the same moves; those of dilated kernels are smaller, and fill less.
    """
    dense, strided = window.dilation == (1, 1, 1), window.stride != (1, 1, 1)
    if not is_tileable(window._replace(stride=(1, 1, 1))) or 2 in window.kernel_size[1:]:
        return math.inf
    shape, _ = shape_of(window)
    if strided and (backward or not dense or window.stride[0] > 1 or shape.row == 0):
        return math.inf
    if gain_of(window, backward) <= (LEAST_STRIDED_GAIN if strided else 1 if shape.row else LEAST_ROW_GAIN):
        return math.inf
    return (1 if shape.row else ROW_CHANNELS) * (1 if dense and not strided else 2)


def gain_of(window: Window, backward: bool) -> float:
    """How many times fewer products there are than in direct sums, for kernels that can be cut into parts."""
    (shape, _), size = shape_of(window), window.input_size if backward else window.output_size
    tiles = size[0]
    for axis in (1, 2):
        steps = _steps(window, axis)
        tiles *= steps * -(-size[axis] // (shape.step * steps)) if window.kernel_size[axis] > 1 else size[axis]
    return math.prod(window.kernel_size) * math.prod(size) / float(shape.products * shape.parts * (tiles + 6))


# ------------------------------------------------------------------------------------------------------------ the plans
def mirrored(window: Window) -> Window:
    """The window on grad_out that gives the input gradient, by kernels turned round."""

    def opposite(padding: Triple) -> Triple:
        axes = zip(window.kernel_size, window.dilation, padding, strict=True)
        d, h, w = (step * (k - 1) - p for k, step, p in axes)
        return d, h, w

    before, after = opposite(window.padding_before), opposite(window.padding_after)
    return window._replace(
        input_size=window.output_size, output_size=window.input_size, padding_before=before, padding_after=after
    )


def tile_window(window: Window, results: bool = False) -> Window:
    """The window whose positions are the tiles of the input, or those of the results."""
    (depth, height, width), (_, down_by, across_by) = window.kernel_size, window.stride
    down, across, (_, part, step) = _steps(window, 1), _steps(window, 2), form_of(window)

    def taps(kernel: int, stride: int) -> int:
        if kernel == 1:
            return 1
        return step if results else (part * (parts_of(kernel, stride, part) - 1) + SIZE) * stride

    steps = (1, step * down if height > 1 else 1, step * across if width > 1 else 1)
    d, h, w = (-(-count // each) for count, each in zip(window.output_size, steps, strict=True))
    if results:
        down_by = across_by = 1
    tiles = window._replace(
        kernel_size=(1 if results else depth, taps(height, down_by), taps(width, across_by) * across),
        stride=(1, steps[1] * down_by, steps[2] * across_by), dilation=(window.dilation[0], down, 1),
        output_size=(d, h, w),
    )  # fmt: skip
    if results:
        tiles = tiles._replace(input_size=window.output_size, padding_before=(0, 0, 0), padding_after=(0, 0, 0))
    return tiles


def reading_of(window: Window, channels_last: bool, beyond: bool, tiles: int) -> Reading:
    """How boxes of up to so many tiles are read."""
    most = max(1, tiles // _steps(window, 2))
    beyond = beyond or _steps(window, 1) > 1 or window.stride != (1, 1, 1)
    return Reading(channels_last, beyond=beyond, most=most, shifts=_steps(window, 1))


def box_tiles(shape: Shape, channels: int, itemsize: int, small: bool) -> int:
    """Tiles of a box."""
    most = ROW_BOX_BYTES if shape.row == 0 else SMALL_BOX_BYTES if small else BOX_BYTES
    return max(1, min(most, TILES_BYTES // int(shape.products * shape.parts * channels)) // itemsize)


@lru_cache(maxsize=64)
def make_plans(
    window: Window, backward: bool, images: int, channels: int, groups: int, itemsize: int, channels_last: bool,
    out_channels: int,
) -> tuple[Plan, Plan]:  # fmt: skip
    """The plans of tiles, by pieces of channels, and of pixels."""
    window = mirrored(window) if backward else window
    shape, _ = shape_of(window)
    width = lanes(itemsize)
    piece = even_piece(channels, shape)
    few = piece == channels and out_channels <= MAX_VECTORS * width and groups == 1
    reading = reading_of(window, channels_last, piece % width > 0, box_tiles(shape, channels, itemsize, few))
    grid = make_plan(tile_window(window), False, images, piece, groups * (channels // piece), itemsize, reading)
    return grid, make_plan(window, False, images, channels, groups, itemsize, Reading(channels_last))


def even_piece(channels: int, shape: Shape) -> int:
    """The divisor whose summands come closest to PIECE, from a quarter of it to its double; all where there is none."""
    parts, ideal = shape.parts, PIECE if shape.row else ROW_PIECE
    few, many = max(1, ideal // 4 // parts), max(1, 2 * ideal // parts)
    divisors = [d for d in range(min(few, channels), min(channels, many) + 1) if channels % d == 0]
    return min(divisors, key=lambda d: max(d * parts / ideal, ideal / (d * parts)), default=channels)
