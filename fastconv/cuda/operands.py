"""The operands of a product: how tiles of them are read from global memory and put into shared memory.

Every read is 128 bits wide. A thread reads the same places of every tile, and finds them from k alone, with no state
that a loop would have to carry: that is what keeps the tile within its registers.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from fastconv.cuda._jit import cuda, device, u32, u64
from fastconv.cuda.tile import Engine, Shared, Tile, make_product, make_spread
from fastconv.cuda.vector import lanes, make_load, opaque

OUTSIDE = 1 << 30  # a coordinate that no tap brings inside


class Operand(NamedTuple):
    """What :func:`fastconv.cuda.tile.make_product` takes; ``values`` counts what a thread moves."""

    fetch: Any
    put: Any
    values: int


@device
def divide(n, divisor):
    """Quotient and remainder of n < 2**31."""
    q = u32(u32(u32((u64(n) * u64(u32(divisor.magic))) >> u64(32)) + n) >> u32(divisor.shift))
    return q, u32(n - u32(q * u32(divisor.value)))


@device
def multiply_add(a, b, c):
    """a * b + c in 32 bits; Numba would widen them."""
    return u32(u32(u32(a) * u32(b)) + u32(c))


@device
def position(n, grid):
    """The n-th position of a grid; first what is left over, the image of a pixel."""
    line, x = divide(n, grid.x)
    plane, y = divide(line, grid.y)
    rest, z = divide(plane, grid.z)
    return rest, z, y, x


@device
def inside(z, y, x, gather):
    """Whether there is an element at these coordinates; negative ones are large as unsigned numbers."""
    return z < u32(gather.z.size) and y < u32(gather.y.size) and x < u32(gather.x.size)


@device
def element(image, z, y, x, channel, gather, channels):
    """Where in channels-last memory a channel of these coordinates is."""
    line = multiply_add(multiply_add(image, gather.z.size, z), gather.y.size, y)
    return multiply_add(multiply_add(line, gather.x.size, x), channels.pitch, channel)


@device
def shift_of(vector, width, gather, channels):
    """How far the tap and the channels of a vector of k move coordinates, and a place in channels-last memory."""
    tap, inner = divide(vector, channels.vectors)
    _, tap_z, tap_y, tap_x = position(tap, gather.taps)
    z, y, x = (
        u32(tap_z * u32(gather.z.tap_step)),
        u32(tap_y * u32(gather.y.tap_step)),
        u32(tap_x * u32(gather.x.tap_step)),
    )
    return z, y, x, element(u32(0), z, y, x, u32(inner * u32(width)), gather, channels)


@cache
def make_locate_row(across: int, width: int) -> Any:
    """A device function: where in a matrix [k, row] a thread reads at k = 0; ``across`` threads read a k.

    The last vector of rows is read in place of what would be beyond it: nobody stores these rows of the product.
    """

    @device
    def locate(places, first, row, pitch, limit):
        t = u32(cuda.threadIdx.x)
        row = min(multiply_add(u32(t % u32(across)), width, row), u32(u32(limit) - u32(width)))
        places[0] = opaque(multiply_add(u32(t // u32(across)), pitch, u32(first + row)))

    return locate


@cache
def make_locate_pixels(loads: int, across: int, step: int) -> Any:
    """A device function: where the pixels that a thread reads are, and their first coordinates.

    These are ``loads`` pixels, ``step`` apart, and ``across`` threads read one of them.
    """

    @device
    def locate(where, first, channel, gather, channels):
        for i in range(loads):
            n = u32(first + u32(u32(u32(cuda.threadIdx.x) // u32(across)) + u32(i * step)))
            image, z, y, x = position(n, gather.grid)
            z = multiply_add(z, gather.z.pixel_step, gather.z.start)
            y = multiply_add(y, gather.y.pixel_step, gather.y.start)
            x = multiply_add(x, gather.x.pixel_step, gather.x.start)
            where[4 * i] = opaque(element(image, z, y, x, channel, gather, channels))
            where[4 * i + 1] = opaque(z if n < u32(gather.pixels) else u32(OUTSIDE))
            where[4 * i + 2] = opaque(y)
            where[4 * i + 3] = opaque(x)

    return locate


@cache
def make_locate_taps(loads: int, across: int, width: int) -> Any:
    """A device function: the channel of each vector of columns that a thread reads, and how its tap moves coordinates.

    These are ``loads`` vectors, as far apart as there are threads ``across``.
    """

    @device
    def locate(where, first, channel, limit, gather, channels):
        for i in range(loads):
            column = u32(first + u32(u32(u32(u32(cuda.threadIdx.x) % u32(across)) + u32(i * across)) * u32(width)))
            tap, inner = divide(u32(column // u32(width)), channels.vectors)
            _, tap_z, tap_y, tap_x = position(tap, gather.taps)
            z = multiply_add(tap_z, gather.z.tap_step, gather.z.start)
            where[4 * i] = multiply_add(inner, width, channel)
            where[4 * i + 1] = z if column < limit else u32(OUTSIDE)
            where[4 * i + 2] = multiply_add(tap_y, gather.y.tap_step, gather.y.start)
            where[4 * i + 3] = multiply_add(tap_x, gather.x.tap_step, gather.x.start)

    return locate


@cache
def matrix(tile: Tile, dtype: Any, sum_dtype: Any, whole: bool) -> tuple[Any, Operand]:
    """Rows of a matrix [k, row]: packed weights, which have a whole number of tiles of k, or a gradient by pixels.

    The source is (array, places, pitch), with the elements of a k, and ``places`` as the first function returned fills
    it.
    """
    width, rows = lanes(np.dtype(dtype.name)), tile.rows
    across = rows // width
    loads, step = tile.depth * across // tile.threads, tile.threads // across
    load, zero = make_load(dtype, sum_dtype, tile.instructions), sum_dtype(0)

    @device
    def fetch(values, k, stop, source):
        array, places, pitch = source
        for i in range(loads):
            at = u32(k + u32(i * step))
            if not whole:
                for e in range(width):
                    values[i * width + e] = zero
            if k < stop if whole else u32(at + u32(u32(cuda.threadIdx.x) // u32(across))) < stop:
                load(values, i * width, array, multiply_add(at, pitch, places[0]))

    @device
    def put(shared, start, values):
        t = u32(cuda.threadIdx.x)
        at = multiply_add(u32(t // u32(across)), rows, multiply_add(u32(t % u32(across)), width, start))
        for i in range(loads):
            for e in range(width):
                shared[u64(u64(at) + u64(i * step * rows + e))] = values[i * width + e]

    return make_locate_row(across, width), Operand(fetch, put, loads * width)


@cache
def pixels(tile: Tile, dtype: Any, sum_dtype: Any) -> tuple[Any, Operand]:
    """Columns are pixels; k counts channels within taps.

    The source is (array, where, limit, gather, channels), with ``where`` as the first function returned fills it.
    Zeros are read from k = limit on.
    """
    width, pitch = lanes(np.dtype(dtype.name)), Shared.of(tile, sum_dtype).pitch
    across = tile.depth // width
    loads, step = tile.columns * across // tile.threads, tile.threads // across
    load, zero = make_load(dtype, sum_dtype, tile.instructions), sum_dtype(0)

    @device
    def fetch(values, k, stop, source):
        array, where, limit, gather, channels = source
        at = u32(u32(k // u32(width)) + u32(u32(cuda.threadIdx.x) % u32(across)))
        shift_z, shift_y, shift_x, shift = shift_of(at, width, gather, channels)
        for i in range(loads):
            z, y, x = u32(where[4 * i + 1] + shift_z), u32(where[4 * i + 2] + shift_y), u32(where[4 * i + 3] + shift_x)
            for e in range(width):
                values[i * width + e] = zero
            if u32(at * u32(width)) < limit and inside(z, y, x, gather):
                load(values, i * width, array, u32(where[4 * i] + shift))

    @device
    def put(shared, start, values):
        t = u32(cuda.threadIdx.x)
        at = multiply_add(u32(u32(t % u32(across)) * u32(width)), pitch, u32(start + u32(t // u32(across))))
        for i in range(loads):
            for e in range(width):
                shared[u64(u64(at) + u64(i * step + e * pitch))] = values[i * width + e]

    return make_locate_pixels(loads, across, step), Operand(fetch, put, loads * width)


@cache
def taps(tile: Tile, dtype: Any, sum_dtype: Any) -> tuple[Any, Operand]:
    """Columns are channels within taps; k counts pixels.

    The source is (array, where, gather, channels), with ``where`` as the first function returned fills it. A thread
    reads all its vectors for one pixel, so that it has one to find.
    """
    width, pitch = lanes(np.dtype(dtype.name)), Shared.of(tile, sum_dtype).pitch
    across = tile.threads // tile.depth
    loads = tile.columns // width // across
    load, zero = make_load(dtype, sum_dtype, tile.instructions), sum_dtype(0)

    @device
    def fetch(values, k, stop, source):
        array, where, gather, channels = source
        n = u32(k + u32(u32(cuda.threadIdx.x) // u32(across)))
        image, pixel_z, pixel_y, pixel_x = position(n, gather.grid)
        for i in range(loads):
            z = multiply_add(pixel_z, gather.z.pixel_step, where[4 * i + 1])
            y = multiply_add(pixel_y, gather.y.pixel_step, where[4 * i + 2])
            x = multiply_add(pixel_x, gather.x.pixel_step, where[4 * i + 3])
            for e in range(width):
                values[i * width + e] = zero
            if n < stop and inside(z, y, x, gather):
                load(values, i * width, array, element(image, z, y, x, where[4 * i], gather, channels))

    @device
    def put(shared, start, values):
        t = u32(cuda.threadIdx.x)
        at = multiply_add(u32(t // u32(across)), pitch, multiply_add(u32(t % u32(across)), width, start))
        for i in range(loads):
            for e in range(width):
                shared[u64(u64(at) + u64(i * across * width + e))] = values[i * width + e]

    return make_locate_taps(loads, across, width), Operand(fetch, put, loads * width)


def convolution(tile: Tile, dtype: Any, sum_dtype: Any) -> Engine:
    """Rows are those of packed weights, columns are pixels."""
    return _engine(tile, dtype, sum_dtype, matrix(tile, dtype, sum_dtype, True), pixels(tile, dtype, sum_dtype))


def correlation(tile: Tile, dtype: Any, sum_dtype: Any) -> Engine:
    """Rows are channels of a gradient, columns are channels within taps."""
    return _engine(tile, dtype, sum_dtype, matrix(tile, dtype, sum_dtype, False), taps(tile, dtype, sum_dtype))


def _engine(tile: Tile, dtype: Any, sum_dtype: Any, rows: Any, columns: Any) -> Engine:
    (locate_rows, row_operand), (locate_columns, column_operand) = rows, columns
    column_words = 4 * column_operand.values // lanes(np.dtype(dtype.name))
    product = make_product(tile, sum_dtype, row_operand, column_operand)
    return Engine(make_spread(tile, sum_dtype), locate_rows, 1, locate_columns, column_words, product)
