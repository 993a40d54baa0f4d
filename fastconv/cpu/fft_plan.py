"""Whether a convolution is computed by Fourier transforms, of which size, and which signals are transformed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

from fastconv._window import LONGEST_ROW, Window, is_row
from fastconv.cpu.microkernel import ROWS

SIZES = tuple(2**k for k in range(5, LONGEST_ROW.bit_length() + 1))  # of transforms: twice the longest kernel fits
LEAST_TAPS = 16  # of a kernel, below which direct sums are always faster

# Nanoseconds of an AVX-512 core for float32, of which only the ratios count: for an element of a signal on its way to a
# spectrum and back from it, for a complex product, and for a product of direct sums whose vectors are full.
TO_SPECTRUM, FROM_SPECTRUM, COMPLEX, PRODUCT = 2.4, 1.1, 0.12, 0.0105
PIXELS_IN_LANES = 1 / 3  # of the lanes are used where channels are few
PARTS = 3  # of a spectrum: re, im, -re
PART_BYTES = 6 << 20  # of the spectra of a part of the signals, and of what becomes of them
BLOCK_BYTES = 8 << 20  # of the spectra of a block of the weight, or of what becomes its gradient
MARGIN = 0.7  # of the time of direct sums that transforms may take


def transform_size(
    pass_: str, algorithm: str, window: Window, channels: int, out_channels: int, groups: int, itemsize: int
) -> int:
    """Elements of a tile of a pass over so many channels per group; 0 where another algorithm computes it.

    For "backward_input" the channels are those of grad_out and of the input, in this order.
    """
    if algorithm not in ("auto", "fft") or (algorithm == "auto" and window.kernel_size[2] < LEAST_TAPS):
        return 0
    return _size(pass_, algorithm == "fft", window, channels, out_channels, groups, itemsize)


@lru_cache(maxsize=256)
def _size(
    pass_: str, forced: bool, window: Window, channels: int, out_channels: int, groups: int, itemsize: int
) -> int:
    taps, sizes = window.kernel_size[2], window.input_size if pass_ == "backward_input" else window.output_size
    if channels * out_channels == 0 or not (forced or is_row(window)):
        return 0
    cost = _gradient_cost if pass_ == "backward_weight" else _cost
    width, rows = 64 // itemsize, sizes[0] * sizes[1]  # on every machine, for the same choice and the same bits
    costs = {
        size: cost(size, rows * -(-sizes[2] // (size - taps + 1)), channels, out_channels, width)
        for size in SIZES
        if size > taps
        and (forced or groups == 1 or len(blocks(1, groups * channels, out_channels, size, itemsize)) == 1)
    }
    if not costs:
        return 0
    best = min(costs, key=lambda size: costs[size])
    use = max(out_channels / _whole(out_channels, width), PIXELS_IN_LANES if groups == 1 else 1)
    direct = rows * sizes[2] * taps * channels * out_channels * PRODUCT / use
    return best if forced or costs[best] < MARGIN * direct else 0


def _cost(size: int, tiles: int, channels: int, out_channels: int, width: int) -> float:
    """Of an image and its share of the weight: spectra of tiles and weights, products, results; in whole vectors."""
    batch, rows, row = width, _whole(tiles, ROWS), _whole(out_channels, width)
    signals = _whole(tiles * channels, batch) + _whole(channels * out_channels + batch, batch)
    signals += _made_again(size, tiles, channels, out_channels, 64 // width)
    return size * (signals * TO_SPECTRUM + rows * row * (FROM_SPECTRUM + channels / 2 * COMPLEX))


def _gradient_cost(size: int, tiles: int, channels: int, out_channels: int, width: int) -> float:
    """Of a weight gradient: spectra of tiles of both arrays, products, and the gradient from its spectrum."""
    batch, rows, row = width, _whole(channels, ROWS), _whole(out_channels, width)
    signals = _whole(tiles * channels, batch) + _whole(tiles * out_channels + batch, batch)
    signals += (len(blocks(1, channels, out_channels, size, 64 // width)) - 1) * tiles * channels
    return size * (signals * TO_SPECTRUM + rows * row * (FROM_SPECTRUM + tiles / 2 * COMPLEX))


def _made_again(size: int, tiles: int, channels: int, out_channels: int, itemsize: int) -> int:
    """Signals of the image or of the weight that are transformed more than once, as ``steps`` does it."""
    shares = blocks(1, channels, out_channels, size, itemsize)
    most = max(1, PART_BYTES // (PARTS * (channels + shares[0][1]) * size // 2 * itemsize))
    return channels * min((len(shares) - 1) * tiles, (-(-tiles // most) - 1) * out_channels)


def _whole(count: int, size: int) -> int:
    return -(-count // size) * size


# ------------------------------------------------------------------------------------------------------------- signals
class Signals(NamedTuple):
    """Pieces of rows of an array, as signals (row, tile, channel) of each group, the last running fastest."""

    groups: int
    rows: int
    outer_rows: int  # rows are numbered (outer, inner)
    tiles: int
    channels: int
    group_stride: int  # elements between groups, and so on
    outer_stride: int
    row_stride: int
    channel_stride: int
    stride: int  # between neighbours in a row
    size: int  # elements of a row
    low: int  # where the first tile begins
    step: int  # from a tile to the next
    length: int  # elements of a tile

    @property
    def pieces(self) -> int:
        """Tiles of all rows."""
        return self.outer_rows * self.rows * self.tiles

    def start(self, image: int, row: int) -> int:
        """Where a row of an image lies."""
        return image * self.outer_stride + row * self.row_stride


def make_signals(
    sizes: Any, images: int, groups: int, channels: int, channels_last: bool, tiles: int, low: int, step: int,
    length: int,
) -> Signals:  # fmt: skip
    """The rows of an array (images, groups * channels, *sizes), in tiles."""
    plane, all_channels = sizes[0] * sizes[1] * sizes[2], groups * channels
    pixel, channel = (all_channels, 1) if channels_last else (1, plane)
    return Signals(
        groups, sizes[0] * sizes[1], images, tiles, channels, channels * channel, all_channels * plane,
        sizes[2] * pixel, channel, pixel, sizes[2], low, step, length,
    )  # fmt: skip


class Part(NamedTuple):
    """Some images, or rows of one image, or tiles of one row: the first of each, and all signals."""

    image: int
    row: int
    tile: int
    signals: Signals


def parts(signals: Signals, outs: int, size: int, itemsize: int) -> list[Part]:
    """Parts whose spectra, with as many parts of ``outs`` channels, take about PART_BYTES."""
    one = PARTS * (signals.channels + outs) * signals.groups * size // 2 * itemsize
    most = max(1, PART_BYTES // one)
    tiles = min(most, signals.tiles)
    rows = min(most // tiles, signals.rows) if tiles == signals.tiles else 1
    images = min(most // (tiles * rows), signals.outer_rows) if rows == signals.rows else 1
    wholes, steps = (signals.outer_rows, signals.rows, signals.tiles), (images, rows, tiles)
    return [
        Part(image, row, t, signals._replace(
            outer_rows=min(images, signals.outer_rows - image), rows=min(rows, signals.rows - row),
            tiles=min(tiles, signals.tiles - t), low=signals.low + t * signals.step,
        ))
        for image, row, t in product(*(range(0, whole, step) for whole, step in zip(wholes, steps, strict=True)))
    ]  # fmt: skip


Block = tuple[int, int]  # the first output channel, and their number


def blocks(groups: int, channels: int, outs: int, size: int, itemsize: int) -> list[Block]:
    """Blocks of a weight whose spectra take about BLOCK_BYTES; groups stay whole."""
    vector = PARTS * (size // 2 + 1) * channels * 64  # a cache line of output channels
    step = max(1, BLOCK_BYTES // vector) * (64 // itemsize) if groups == 1 else outs
    return [(first, min(step, outs - first)) for first in range(0, outs, step)]


def steps(signals: Signals, outs: int, size: int, itemsize: int, whole: bool) -> Iterator[tuple[Part, Block]]:
    """Every part with every block, in the order in which fewer spectra are made again."""
    shares = [(0, outs)] if whole else blocks(signals.groups, signals.channels, outs, size, itemsize)
    pieces = parts(signals, shares[0][1], size, itemsize)
    if (len(shares) - 1) * signals.pieces < (len(pieces) - 1) * outs:
        return ((part, block) for block in shares for part in pieces)
    return ((part, block) for part in pieces for block in shares)
