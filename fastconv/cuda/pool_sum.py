"""Sum and average pooling, forward and backward, by windows and over whole planes."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from fastconv._window import Window
from fastconv.cuda import layout
from fastconv.cuda._jit import i64, kernel, storage_and_sum, types, u32, u64
from fastconv.cuda.arrays import Array, empty
from fastconv.cuda.elements import each, element
from fastconv.cuda.pool_window import candidate, candidates, coordinate, counted, place_of, plane_at, reach_of
from fastconv.cuda.reduction import sum_of


# -------------------------------------------------------------------------------------------------------------- windows
@lru_cache(maxsize=16)
def _sum_pool(dtype: np.dtype[Any]) -> Any:
    storage, value = storage_and_sum(dtype)

    @kernel
    def sum_pool(x, y, channels, channels_last, window, count_include_pad, divisor, count):
        """The sum of each window over the divisor, 0 for what counts of it; one thread for each window."""
        i = element()
        if i < u32(count):
            image, channel, _, oz, oy, ox = place_of(i, channels, window.output_size, channels_last)
            plane, step = plane_at(image, channel, channels, window.input_size, channels_last)
            total = value(0)
            (z0, zs), (y0, ys) = reach_of(oz, 0, window), reach_of(oy, 1, window)
            x0, xs = reach_of(ox, 2, window)
            for kz in range(zs):
                iz = coordinate(z0, kz, 0, window)
                if iz < u64(window.input_size[0]):
                    for ky in range(ys):
                        iy = coordinate(y0, ky, 1, window)
                        if iy < u64(window.input_size[1]):
                            line = u32(u32(u32(iz) * u32(window.input_size[1])) + u32(iy))
                            for kx in range(xs):
                                ix = coordinate(x0, kx, 2, window)
                                if ix < u64(window.input_size[2]):
                                    position = u32(u32(line * u32(window.input_size[2])) + u32(ix))
                                    total += value(x[u32(plane + u32(position * step))])
            if divisor == 0:
                number = counted(oz, 0, window, count_include_pad)
                number *= counted(oy, 1, window, count_include_pad) * counted(ox, 2, window, count_include_pad)
                y[i] = storage(total / value(max(number, i64(1))))
            else:
                y[i] = storage(total / value(divisor))

    return sum_pool


@lru_cache(maxsize=16)
def _sum_pool_backward(dtype: np.dtype[Any]) -> Any:
    storage, value = storage_and_sum(dtype)

    @kernel
    def sum_pool_backward(grad_out, grad_x, channels, channels_last, window, count_include_pad, divisor, count):
        """The sum of what the windows over each element have; window q meets it by tap k where q stride + k dilation
        is its position in the padded plane. One thread for each element.
        """
        i = element()
        if i < u32(count):
            image, channel, _, z, y, x = place_of(i, channels, window.input_size, channels_last)
            plane, step = plane_at(image, channel, channels, window.output_size, channels_last)
            total = value(0)
            for kz in range(candidates(z, 0, window)):
                oz = candidate(z, kz, 0, window)
                if oz >= i64(0):
                    nz = counted(oz, 0, window, count_include_pad) if divisor == 0 else i64(1)
                    for ky in range(candidates(y, 1, window)):
                        oy = candidate(y, ky, 1, window)
                        if oy >= i64(0):
                            ny = counted(oy, 1, window, count_include_pad) if divisor == 0 else i64(1)
                            line = u32(u32(u32(oz) * u32(window.output_size[1])) + u32(oy))
                            for kx in range(candidates(x, 2, window)):
                                ox = candidate(x, kx, 2, window)
                                if ox >= i64(0):
                                    nx = counted(ox, 2, window, count_include_pad) if divisor == 0 else i64(1)
                                    position = u32(u32(line * u32(window.output_size[2])) + u32(ox))
                                    g = value(grad_out[u32(plane + u32(position * step))])
                                    total += g / value(max(nz * ny * nx, i64(1))) if divisor == 0 else g
            grad_x[i] = storage(total if divisor == 0 else total / value(divisor))

    return sum_pool_backward


def sum_pool_forward(
    x: Array, window: Window, count_include_pad: bool, divisor: int | None, out: Array | None
) -> Array:
    """The sums of x (N, C, *spatial) over a divisor, or the number of elements that count."""
    source, channels_last = layout.flat_channels(x)
    shape = (*x.shape[:2], *window.output_size[5 - x.ndim :])
    axes = layout.channel_axes(x.ndim, channels_last)
    y = layout.target(out, x, shape, axes, x)
    arguments = x.shape[1], channels_last, window, count_include_pad, divisor or 0
    each(_sum_pool(x.dtype), y, source, layout.flat(y, axes), *arguments, y.size)
    return layout.deliver(y, out)


def sum_pool_backward(
    grad_out: Array, input_shape: tuple[int, ...], window: Window, count_include_pad: bool, divisor: int | None
) -> Array:
    """The gradient of x of that shape."""
    source, channels_last = layout.flat_channels(grad_out)
    axes = layout.channel_axes(grad_out.ndim, channels_last)
    grad_x = empty(grad_out, input_shape, grad_out.dtype, axes)
    arguments = input_shape[1], channels_last, window, count_include_pad, divisor or 0
    each(_sum_pool_backward(grad_out.dtype), grad_x, source, layout.flat(grad_x, axes), *arguments, grad_x.size)
    return grad_x


# --------------------------------------------------------------------------------------------------------------- planes
def global_avg_pool_forward(x: Array) -> Array:
    """The mean of each channel of x (N, C, *spatial)."""
    source, channels_last = layout.flat_channels(x)
    images, channels = x.shape[:2]
    size = math.prod(x.shape[2:])
    shape = (images, size, channels, 1) if channels_last else (1, 1, images * channels, size)
    return sum_of(source, shape, (images, channels), size)


@lru_cache(maxsize=16)
def _spread(dtype: np.dtype[Any]) -> Any:
    storage, value = storage_and_sum(dtype)

    @kernel
    def spread(grad_out, grad_x, size, count):
        """Every element of a plane gets the same share."""
        i = element()
        if i < u32(count):
            grad_x[i] = storage(value(grad_out[u32(i // u32(size))]) / value(types.int64(size)))

    return spread


def global_avg_pool_backward(grad_out: Array, input_shape: tuple[int, ...]) -> Array:
    """Every element of a channel gets the same share."""
    grad_x = empty(grad_out, input_shape, grad_out.dtype)
    flat = layout.flat(grad_out, (0, 1)), layout.flat(grad_x, tuple(range(grad_x.ndim)))
    each(_spread(grad_out.dtype), grad_x, *flat, math.prod(input_shape[2:]), grad_x.size)
    return grad_x
