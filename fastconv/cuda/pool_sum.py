"""Sum and average pooling, forward and backward, by windows and over whole planes."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from fastconv._window import Window
from fastconv.cuda import layout
from fastconv.cuda._jit import kernel, storage_and_sum, types, u32, u64
from fastconv.cuda.arrays import Array, empty
from fastconv.cuda.elements import each, element
from fastconv.cuda.pool_window import counted, i64, place_of, plane_at
from fastconv.cuda.reduction import sum_of


# -------------------------------------------------------------------------------------------------------------- windows
@lru_cache(maxsize=16)
def _sum_pool(dtype: np.dtype[Any], channels_last: bool, count_include_pad: bool, averaged: bool) -> Any:
    storage, value = storage_and_sum(dtype)

    @kernel
    def sum_pool(x, y, channels, window, divisor, count):
        """The sum of each window over its divisor; one thread for each window."""
        i = element()
        if i < u32(count):
            image, channel, _, oz, oy, ox = place_of(i, channels, window.output_size, channels_last)
            plane, step = plane_at(image, channel, channels, window.input_size, channels_last)
            total = value(0)
            for kz in range(window.kernel_size[0]):
                z = i64(oz) * window.stride[0] + kz * window.dilation[0] - window.padding_before[0]
                if u64(z) < u64(window.input_size[0]):
                    for ky in range(window.kernel_size[1]):
                        y_ = i64(oy) * window.stride[1] + ky * window.dilation[1] - window.padding_before[1]
                        if u64(y_) < u64(window.input_size[1]):
                            line = u32(u32(u32(z) * u32(window.input_size[1])) + u32(y_))
                            for kx in range(window.kernel_size[2]):
                                x_ = i64(ox) * window.stride[2] + kx * window.dilation[2] - window.padding_before[2]
                                if u64(x_) < u64(window.input_size[2]):
                                    position = u32(u32(line * u32(window.input_size[2])) + u32(x_))
                                    total += value(x[u32(plane + u32(position * step))])
            if averaged:
                number = counted(oz, 0, window, count_include_pad)
                number *= counted(oy, 1, window, count_include_pad) * counted(ox, 2, window, count_include_pad)
                y[i] = storage(total / value(max(number, i64(1))))
            else:
                y[i] = storage(total / value(divisor))

    return sum_pool


@lru_cache(maxsize=16)
def _sum_pool_backward(dtype: np.dtype[Any], channels_last: bool, count_include_pad: bool, averaged: bool) -> Any:
    storage, value = storage_and_sum(dtype)

    @kernel
    def sum_pool_backward(grad_out, grad_x, channels, window, divisor, count):
        """The sum of what the windows over each element have; window q meets it by tap k where q stride + k dilation
        is its position in the padded plane. One thread for each element.
        """
        i = element()
        if i < u32(count):
            image, channel, _, z, y, x = place_of(i, channels, window.input_size, channels_last)
            plane, step = plane_at(image, channel, channels, window.output_size, channels_last)
            pz, py = i64(z) + window.padding_before[0], i64(y) + window.padding_before[1]
            px = i64(x) + window.padding_before[2]
            total = value(0)
            for kz in range(window.kernel_size[0]):
                sz = pz - kz * window.dilation[0]
                oz = u32(u32(sz) // u32(window.stride[0]))
                if sz >= i64(0) and i64(oz) * window.stride[0] == sz and oz < u32(window.output_size[0]):
                    nz = counted(oz, 0, window, count_include_pad) if averaged else i64(1)
                    for ky in range(window.kernel_size[1]):
                        sy = py - ky * window.dilation[1]
                        oy = u32(u32(sy) // u32(window.stride[1]))
                        if sy >= i64(0) and i64(oy) * window.stride[1] == sy and oy < u32(window.output_size[1]):
                            ny = counted(oy, 1, window, count_include_pad) if averaged else i64(1)
                            line = u32(u32(oz * u32(window.output_size[1])) + oy)
                            for kx in range(window.kernel_size[2]):
                                sx = px - kx * window.dilation[2]
                                ox = u32(u32(sx) // u32(window.stride[2]))
                                inside = sx >= i64(0) and i64(ox) * window.stride[2] == sx
                                if inside and ox < u32(window.output_size[2]):
                                    nx = counted(ox, 2, window, count_include_pad) if averaged else i64(1)
                                    position = u32(u32(line * u32(window.output_size[2])) + ox)
                                    g = value(grad_out[u32(plane + u32(position * step))])
                                    total += g / value(max(nz * ny * nx, i64(1))) if averaged else g
            grad_x[i] = storage(total if averaged else total / value(divisor))

    return sum_pool_backward


def sum_pool_forward(
    x: Array, window: Window, count_include_pad: bool, divisor: int | None, out: Array | None
) -> Array:
    """The sums of x (N, C, *spatial) over a divisor, or the number of elements that count."""
    source, channels_last = layout.flat_channels(x)
    shape = (*x.shape[:2], *window.output_size[5 - x.ndim :])
    axes = layout.channel_axes(x.ndim, channels_last)
    y = layout.target(out, x, shape, axes, x)
    pool = _sum_pool(x.dtype, channels_last, count_include_pad, divisor is None)
    each(pool, y, source, layout.flat(y, axes), x.shape[1], window, divisor or 1, y.size)
    return layout.deliver(y, out)


def sum_pool_backward(
    grad_out: Array, input_shape: tuple[int, ...], window: Window, count_include_pad: bool, divisor: int | None
) -> Array:
    """The gradient of x of that shape."""
    source, channels_last = layout.flat_channels(grad_out)
    axes = layout.channel_axes(grad_out.ndim, channels_last)
    grad_x = empty(grad_out, input_shape, grad_out.dtype, axes)
    pool = _sum_pool_backward(grad_out.dtype, channels_last, count_include_pad, divisor is None)
    each(pool, grad_x, source, layout.flat(grad_x, axes), input_shape[1], window, divisor or 1, grad_x.size)
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
