"""Whether a convolution is computed by Fourier transforms, and of which size."""

from __future__ import annotations

from functools import lru_cache

from fastconv._window import LONGEST_ROW, Window, is_row
from fastconv.cpu.microkernel import ROWS

SIZES = tuple(2**k for k in range(5, LONGEST_ROW.bit_length() + 1))  # of transforms: twice the longest kernel fits
LEAST_TAPS = 16  # of a kernel, below which direct sums are always faster

# Nanoseconds of an AVX-512 core for float32, of which only the ratios count: for an element of a signal on its way to a
# spectrum and back from it, for a complex product, and for a product of direct sums whose vectors are full.
TO_SPECTRUM, FROM_SPECTRUM, COMPLEX, PRODUCT = 2.4, 1.1, 0.12, 0.0105
PIXELS_IN_LANES = 1 / 3  # of the lanes are used where channels are few
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
    }
    best = min(costs, key=lambda size: costs[size])
    use = max(out_channels / _whole(out_channels, width), PIXELS_IN_LANES if groups == 1 else 1)
    direct = rows * sizes[2] * taps * channels * out_channels * PRODUCT / use
    return best if forced or costs[best] < MARGIN * direct else 0


def _cost(size: int, tiles: int, channels: int, out_channels: int, width: int) -> float:
    """Of an image and its share of the weight: spectra of tiles and weights, products, results; in whole vectors."""
    batch, rows, row = width, _whole(tiles, ROWS), _whole(out_channels, width)
    signals = _whole(tiles * channels, batch) + _whole(channels * out_channels + batch, batch)
    return size * (signals * TO_SPECTRUM + rows * row * (FROM_SPECTRUM + channels / 2 * COMPLEX))


def _gradient_cost(size: int, tiles: int, channels: int, out_channels: int, width: int) -> float:
    """Of a weight gradient: spectra of tiles of both arrays, products, and the gradient from its spectrum."""
    batch, rows, row = width, _whole(channels, ROWS), _whole(out_channels, width)
    signals = _whole(tiles * channels, batch) + _whole(tiles * out_channels + batch, batch)
    return size * (signals * TO_SPECTRUM + rows * row * (FROM_SPECTRUM + tiles / 2 * COMPLEX))


def _whole(count: int, size: int) -> int:
    return -(-count // size) * size
