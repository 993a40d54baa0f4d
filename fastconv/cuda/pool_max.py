"""Max pooling and unpooling, forward and backward."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from fastconv._window import Window
from fastconv.cuda import layout
from fastconv.cuda._jit import cuda, i64, kernel, launch, storage_and_sum, types, u32, u64
from fastconv.cuda.arrays import Array, empty
from fastconv.cuda.elements import THREADS, each, element
from fastconv.cuda.pool_window import coordinate, place_of, plane_at, plane_of, reach_of


# -------------------------------------------------------------------------------------------------------------- forward
@lru_cache(maxsize=16)
def _max_pool(dtype: np.dtype[Any]) -> Any:
    storage, value = storage_and_sum(dtype)
    lowest = -math.inf if dtype.kind == "f" else int(np.iinfo(dtype).min)

    @kernel
    def max_pool(x, y, indices, return_indices, channels, channels_last, window, count):
        """The first NaN of a window, or else the first of its largest elements; one thread for each window."""
        i = element()
        if i < u32(count):
            image, channel, _, oz, oy, ox = place_of(i, channels, window.output_size, channels_last)
            plane, step = plane_at(image, channel, channels, window.input_size, channels_last)
            best, at = value(lowest), i64(-1)
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
                                    v = value(x[u32(plane + u32(position * step))])
                                    if at < i64(0) or v > best or (v != v and best == best):
                                        best, at = v, i64(position)
            y[i] = storage(best)
            if return_indices:
                indices[i] = max(at, i64(0))

    return max_pool


def max_pool_forward(x: Array, window: Window, return_indices: bool, out: Array | None) -> tuple[Array, Array | None]:
    """The maxima of x (N, C, *spatial) and, if asked for, their positions in the plane."""
    source, channels_last = layout.flat_channels(x)
    shape = (*x.shape[:2], *window.output_size[5 - x.ndim :])
    axes = layout.channel_axes(x.ndim, channels_last)
    y = layout.target(out, x, shape, axes, x)
    indices = empty(x, shape if return_indices else (0,) * x.ndim, np.int64, axes)
    arguments = source, layout.flat(y, axes), layout.flat(indices, axes), return_indices
    each(_max_pool(x.dtype), y, *arguments, x.shape[1], channels_last, window, y.size)
    return layout.deliver(y, out), indices if return_indices else None


# ------------------------------------------------------------------------------------------------------------- backward
@lru_cache(maxsize=32)
def _scatter(source_dtype: np.dtype[Any], dtype: np.dtype[Any], add: bool) -> Any:
    """The kernel that puts each element of a plane where its index says; later ones after earlier ones.

    Windows overlap, so that several elements may meet in one place, and where is not known before. A block has a plane,
    each of its threads owns a part of that, and takes what falls into it from a list that all threads read: no atomic
    operation, and the order of sums is that of the elements.
    """
    storage, value = storage_and_sum(dtype)

    @kernel
    def scatter(source, indices, result, channels, count, size, channels_last, part):
        positions = cuda.shared.array(THREADS, types.int64)
        values = cuda.shared.array(THREADS, value)
        t, plane = u32(cuda.threadIdx.x), u32(cuda.blockIdx.x)
        first, _ = plane_of(plane, channels, count, channels_last)
        start, step = plane_of(plane, channels, size, channels_last)
        low = i64(t) * i64(part)
        high = min(low + i64(part), i64(size))
        for position in range(low, high):
            result[u32(start + u32(u32(position) * step))] = storage(0)
        for chunk in range(0, count, THREADS):
            here = u32(u32(chunk) + t)
            if here < u32(count):
                positions[t] = indices[u32(first + u32(here * step))]
                values[t] = value(source[u32(first + u32(here * step))])
            cuda.syncthreads()
            for k in range(min(count - chunk, THREADS)):
                position = positions[u32(k)]
                if low <= position and position < high:
                    place = u32(start + u32(u32(position) * step))
                    if add:
                        result[place] = storage(value(result[place]) + values[u32(k)])
                    else:
                        result[place] = storage(values[u32(k)])
            cuda.syncthreads()

    return scatter


def _placed(source: Array, indices: Array, shape: tuple[int, ...], dtype: np.dtype[Any], add: bool) -> Array:
    """An array of this shape with the elements of ``source`` at their indices, and zeros elsewhere."""
    flat, channels_last = layout.flat_channels(source)
    positions = layout.flat(indices, layout.channel_axes(indices.ndim, channels_last))
    result = layout.empty_channels(source, shape, dtype, channels_last)
    target = layout.flat(result, layout.channel_axes(len(shape), channels_last))
    count, size = math.prod(source.shape[2:]), math.prod(shape[2:])
    planes = shape[0] * shape[1] if size else 0
    threads = min(THREADS, -(-max(size, 1) // 32) * 32)
    part = -(-size // threads)
    scatter = _scatter(source.dtype, dtype, add)
    launch(
        scatter, planes, THREADS, source.stream,
        flat, positions, target, shape[1], count, size, channels_last, part,
    )  # fmt: skip
    return result


def max_pool_backward(grad_out: Array, indices: Array, input_shape: tuple[int, ...]) -> Array:
    """The gradient of x of that shape. Whether an index lies outside of its plane is not known here without waiting
    for the device: such a gradient goes nowhere.
    """
    if grad_out.dtype != np.float16:
        return _placed(grad_out, indices, input_shape, grad_out.dtype, True)
    sums = _placed(grad_out, indices, input_shape, np.dtype(np.float32), True)
    axes = layout.memory_axes(sums)
    grad_x = empty(sums, input_shape, np.float16, axes)
    each(_rounded(grad_out.dtype), grad_x, layout.flat(sums, axes), layout.flat(grad_x, axes), grad_x.size)
    return grad_x


# ------------------------------------------------------------------------------------------------------------ unpooling
def max_unpool_forward(x: Array, indices: Array, output_shape: tuple[int, ...]) -> Array:
    """Zeros, and the elements of x at their indices; of several with one index the last stays."""
    return _placed(x, indices, output_shape, x.dtype, False)


@lru_cache(maxsize=16)
def _taken(dtype: np.dtype[Any]) -> Any:
    storage, _ = storage_and_sum(dtype)

    @kernel
    def taken(grad_out, indices, grad_x, channels, number, size, channels_last, count):
        """What stands at the index of each element in its plane; zero for an index outside."""
        i = element()
        if i < u32(count):
            plane, step = u32(i // u32(number)), u32(1)
            start = u32(plane * u32(size))
            if channels_last:
                rest = u32(i // u32(channels))
                image, step = u32(rest // u32(number)), u32(channels)
                start = u32(u32(u32(image * u32(size)) * u32(channels)) + u32(i - u32(rest * u32(channels))))
            at = indices[i]
            inside = at >= i64(0) and at < i64(size)
            grad_x[i] = grad_out[u32(start + u32(u32(at) * step))] if inside else storage(0)

    return taken


def max_unpool_backward(grad_out: Array, indices: Array) -> Array:
    """The gradients at the indices."""
    source, channels_last = layout.flat_channels(grad_out)
    axes = layout.channel_axes(indices.ndim, channels_last)
    grad_x = empty(grad_out, indices.shape, grad_out.dtype, axes)
    number, size = math.prod(indices.shape[2:]), math.prod(grad_out.shape[2:])
    flat = source, layout.flat(indices, axes), layout.flat(grad_x, axes)
    each(_taken(grad_out.dtype), grad_x, *flat, indices.shape[1], number, size, channels_last, grad_x.size)
    return grad_x


@lru_cache(maxsize=16)
def _rounded(dtype: np.dtype[Any]) -> Any:
    storage, _ = storage_and_sum(dtype)

    @kernel
    def rounded(x, y, count):
        i = element()
        if i < u32(count):
            y[i] = storage(x[i])

    return rounded


# -------------------------------------------------------------------------------------------------------------- planes
@lru_cache(maxsize=16)
def _global_max(dtype: np.dtype[Any]) -> Any:
    storage, value = storage_and_sum(dtype)
    lowest = -math.inf if dtype.kind == "f" else int(np.iinfo(dtype).min)

    @kernel
    def global_max(x, y, indices, channels, size, channels_last):
        """The first NaN of a plane, or else the first of its largest elements; one block for each plane."""
        values = cuda.shared.array(THREADS, value)
        positions = cuda.shared.array(THREADS, types.int64)
        t, plane = u32(cuda.threadIdx.x), u32(cuda.blockIdx.x)
        start, step = plane_of(plane, channels, size, channels_last)
        best, at = value(lowest), i64(size)
        for position in range(i64(t), size, THREADS):
            v = value(x[u32(start + u32(u32(position) * step))])
            if at == i64(size) or v > best or (v != v and best == best):
                best, at = v, i64(position)
        values[t] = best
        positions[t] = at
        width = u32(THREADS // 2)
        while width > u32(0):
            cuda.syncthreads()
            if t < width:
                other, there = values[u32(t + width)], positions[u32(t + width)]
                nan = other != other
                wins = other > best or (nan and best == best)
                ties = there < at and (other == best or (nan and best != best))
                if there < i64(size) and (at == i64(size) or wins or ties):
                    best, at = other, there
                    values[t] = best
                    positions[t] = at
            width = u32(width >> u32(1))
        if t == u32(0):
            y[plane] = storage(best)
            indices[plane] = at

    return global_max


def global_max_pool_forward(x: Array, return_indices: bool) -> tuple[Array, Array]:
    """The maximum of each channel of x (N, C, *spatial), and its position, asked for or not."""
    source, channels_last = layout.flat_channels(x)
    y, indices = empty(x, x.shape[:2], x.dtype), empty(x, x.shape[:2], np.int64)
    flat = (layout.flat(y, (0, 1)), layout.flat(indices, (0, 1)))
    size = math.prod(x.shape[2:])
    launch(_global_max(x.dtype), y.size, THREADS, x.stream, source, *flat, x.shape[1], size, channels_last)
    return y, indices


def global_max_pool_backward(grad_out: Array, indices: Array, input_shape: tuple[int, ...]) -> Array:
    """The gradient goes where the maximum was."""
    one = (*grad_out.shape, *[1] * (len(input_shape) - 2))
    return max_pool_backward(grad_out.reshape(one), indices.reshape(one), input_shape)
