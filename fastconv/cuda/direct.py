"""Convolution without the tile, for groups of so few channels that a tile of them would be mostly padding: depthwise.

Each product is read where it lies, in any memory order, and each thread makes one result.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from fastconv.cuda._jit import cuda, device, kernel, u32
from fastconv.cuda.layout import THREADS
from fastconv.cuda.operands import divide, inside, multiply_add, position
from fastconv.cuda.pack import offset_of
from fastconv.cuda.sums import make_block_sum


@device
def numbered(n, pixels, rows, channels_last):
    """Pixel and row of the n-th result, those that are neighbours in memory being neighbours."""
    if channels_last:
        pixel, row = divide(n, rows)
    else:
        row, pixel = divide(n, pixels)
    return pixel, row


@cache
def make_direct(dtype: Any, sum_dtype: Any, channels_last: bool) -> Any:
    """out[pixel, row] = bias[row] + sum over (tap, channel) of weight[row, channel, tap] * x[pixel's window].

    For the input gradient, x is grad_out, rows are the input's channels, and channels are the output's.
    """
    add, zero = _make_add(sum_dtype), sum_dtype(0)

    @kernel
    def direct(
        x, weight, bias, out, has_bias, relu, count, pixels, rows, group_rows, channels, gather, source, filters, target
    ):
        n = multiply_add(u32(cuda.blockIdx.x), THREADS, u32(cuda.threadIdx.x))
        if n >= u32(count):
            return
        pixel, row = numbered(n, pixels, rows, channels_last)
        group, inner = divide(row, group_rows)
        image, z, y, column = position(pixel, gather.grid)
        total = sum_dtype(bias[row]) if has_bias else zero
        for c in range(u32(channels)):
            channel = multiply_add(group, channels, u32(c))
            at = multiply_add(image, source.image, multiply_add(channel, source.channel, source.first))
            w_at = multiply_add(inner, filters.row, multiply_add(group, filters.group, filters.first))
            w_at = multiply_add(u32(c), filters.channel, w_at)
            total = add(total, x, weight, (z, y, column), gather, source, at, filters, w_at)
        if relu and total <= zero:
            total = zero
        where = multiply_add(image, target.image, multiply_add(row, target.channel, target.first))
        out[offset_of(z, y, column, target, where)] = dtype(total)

    return direct


def _make_add(sum_dtype: Any) -> Any:
    """A device function: ``total`` + the products of one channel's window, where there is an element, and its taps."""

    @device
    def add(total, x, weight, pixel, gather, source, at, filters, w_at):
        z0 = multiply_add(pixel[0], gather.z.pixel_step, gather.z.start)
        y0 = multiply_add(pixel[1], gather.y.pixel_step, gather.y.start)
        x0 = multiply_add(pixel[2], gather.x.pixel_step, gather.x.start)
        for jz in range(u32(gather.taps.z.value)):
            for jy in range(u32(gather.taps.y.value)):
                for jx in range(u32(gather.taps.x.value)):
                    iz = multiply_add(u32(jz), gather.z.tap_step, z0)
                    iy = multiply_add(u32(jy), gather.y.tap_step, y0)
                    ix = multiply_add(u32(jx), gather.x.tap_step, x0)
                    if inside(iz, iy, ix, gather):
                        factor = sum_dtype(weight[offset_of(u32(jz), u32(jy), u32(jx), filters, w_at)])
                        total += sum_dtype(x[offset_of(iz, iy, ix, source, at)]) * factor
        return total

    return add


@cache
def make_direct_weight(dtype: Any, sum_dtype: Any) -> Any:
    """partial[part, row, tap, channel] = sum over a part of all pixels of grad_out[pixel, row] * x[pixel's window].

    A block makes one of these sums.
    """
    block_sum, add = make_block_sum(sum_dtype, 1), _make_add_pixels(sum_dtype)

    @kernel
    def direct_weight(
        grad_out, x, partial, part_pixels, parts, rows, group_rows, channels, taps, gather, gradient, source
    ):
        rest, part = divide(u32(cuda.blockIdx.x), parts)
        rest, tap = divide(rest, taps)
        row, channel = divide(rest, channels)
        group, _ = divide(row, group_rows)
        g_first = multiply_add(row, gradient.channel, gradient.first)
        x_first = multiply_add(multiply_add(group, channels.value, channel), source.channel, source.first)
        begin = u32(part * u32(part_pixels))
        end = min(u32(begin + u32(part_pixels)), u32(gather.pixels))
        total = add(grad_out, x, begin, end, tap, gather, gradient, g_first, source, x_first)
        total = block_sum(total)
        if u32(cuda.threadIdx.x) == u32(0):
            size = u32(u32(u32(rows) * u32(channels.value)) * u32(taps.value))
            index = multiply_add(multiply_add(row, taps.value, tap), channels.value, channel)
            partial[multiply_add(part, size, index)] = total

    return direct_weight


def _make_add_pixels(sum_dtype: Any) -> Any:
    """A device function: the sum of a thread's share of the pixels, for one tap."""
    zero = sum_dtype(0)

    @device
    def add(grad_out, x, begin, end, tap, gather, gradient, g_first, source, x_first):
        _, jz, jy, jx = position(tap, gather.taps)
        z0 = multiply_add(jz, gather.z.tap_step, gather.z.start)
        y0 = multiply_add(jy, gather.y.tap_step, gather.y.start)
        x0 = multiply_add(jx, gather.x.tap_step, gather.x.start)
        total, n = zero, u32(begin + u32(cuda.threadIdx.x))
        while n < end:
            image, z, y, column = position(n, gather.grid)
            iz = multiply_add(z, gather.z.pixel_step, z0)
            iy = multiply_add(y, gather.y.pixel_step, y0)
            ix = multiply_add(column, gather.x.pixel_step, x0)
            if inside(iz, iy, ix, gather):
                g_at = offset_of(z, y, column, gradient, multiply_add(image, gradient.image, g_first))
                x_at = offset_of(iz, iy, ix, source, multiply_add(image, source.image, x_first))
                total += sum_dtype(grad_out[g_at]) * sum_dtype(x[x_at])
            n = u32(n + u32(THREADS))
        return total

    return add
