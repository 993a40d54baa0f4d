"""Sums over many elements in an order that only the shape decides: within a block of threads, then over parts."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastconv.cuda._jit import cuda, device, kernel, u32
from fastconv.cuda.layout import THREADS
from fastconv.cuda.operands import divide, multiply_add, position
from fastconv.cuda.pack import offset_of


@cache
def make_block_sum(sum_dtype: Any, across: int) -> Any:
    """A device function: a value summed over the threads of the same remainder modulo ``across``, in a tree.

    The first ``across`` threads get the sums.
    """

    @device
    def block_sum(value):
        sums = cuda.shared.array(THREADS, sum_dtype)
        t = u32(cuda.threadIdx.x)
        sums[t] = value
        cuda.syncthreads()
        half = u32(THREADS // 2)
        while half >= u32(across):
            if t < half:
                sums[t] += sums[u32(t + half)]
            cuda.syncthreads()
            half = u32(half >> u32(1))
        return sums[t]

    return block_sum


@cache
def make_pixel_sums(dtype: Any, sum_dtype: Any, across: int) -> Any:
    """partial[part, channel] = sum over a part of all pixels of x[pixel, channel].

    A block sums ``across`` channels side by side, as many as are neighbours in memory.
    """
    block_sum = make_block_sum(sum_dtype, across)
    zero = sum_dtype(0)

    @kernel
    def pixel_sums(x, partial, pixels, part_pixels, channels, parts, grid, source):
        t = u32(cuda.threadIdx.x)
        block, part = divide(u32(cuda.blockIdx.x), parts)
        channel = multiply_add(block, across, u32(t % u32(across)))
        begin = u32(part * u32(part_pixels))
        end = min(u32(begin + u32(part_pixels)), u32(pixels))
        total = zero
        n = u32(begin + u32(t // u32(across)))
        while n < end and channel < u32(channels):
            image, z, y, column = position(n, grid)
            at = multiply_add(image, source.image, multiply_add(channel, source.channel, source.first))
            total += sum_dtype(x[offset_of(z, y, column, source, at)])
            n = u32(n + u32(THREADS // across))
        total = block_sum(total)
        if t < u32(across) and channel < u32(channels):
            partial[multiply_add(part, channels, channel)] = total

    return pixel_sums


@cache
def make_fold(dtype: Any, sum_dtype: Any) -> Any:
    """out[row, channel, tap] = sum over parts of partial[part, row, tap, channel], one part after the other."""
    zero = sum_dtype(0)

    @kernel
    def fold(partial, out, count, parts, channels, padded, all_taps, taps, target):
        n = multiply_add(u32(cuda.blockIdx.x), THREADS, u32(cuda.threadIdx.x))
        line, channel = divide(n, padded)
        row, tap = divide(line, all_taps)
        if n >= u32(count) or channel >= u32(channels):
            return
        total = zero
        for part in range(u32(parts)):
            total += partial[multiply_add(u32(part), count, n)]
        _, z, y, x = position(tap, taps)
        where = multiply_add(row, target.row, multiply_add(channel, target.channel, target.first))
        out[offset_of(z, y, x, target, where)] = dtype(total)

    return fold
