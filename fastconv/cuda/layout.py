"""Memory order of CUDA arrays, and the copies that bring them into one that kernels take.

The counterpart of ``fastconv.cpu.layout`` and ``fastconv.cpu.order``: the same names mean the same.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv.cuda._jit import i64, kernel, launch, u32, u64
from fastconv.cuda.arrays import Array, empty
from fastconv.cuda.elements import THREADS as THREADS
from fastconv.cuda.elements import element


# ---------------------------------------------------------------------------------------------------------------- order
def memory_axes(x: Array) -> tuple[int, ...]:
    """The axes of ``x`` from the slowest to the fastest in memory."""
    if x.flags.c_contiguous:
        return tuple(range(x.ndim))
    return tuple(sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis])))


def is_channels_last(x: Array) -> bool:
    """Whether the channel axis of (N, C, *spatial) is the fastest in memory (an inserted axis of stride 0 is not)."""
    return x.ndim > 2 and 0 < abs(x.strides[1]) < min(abs(s) for s in x.strides[2:])


def channel_axes(ndim: int, channels_last: bool) -> tuple[int, ...]:
    """The memory order of (N, C, *spatial) that the flag says."""
    return (0, *range(2, ndim), 1) if channels_last else tuple(range(ndim))


# ------------------------------------------------------------------------------------------------------- flat arguments
def flat(x: Array, axes: tuple[int, ...]) -> Array:
    """``x`` with its axes in this order as a 1-D array; copied if that would have gaps or step backwards."""
    return contiguous(x.transpose(axes)).reshape(x.size)


def flat_channels(x: Array) -> tuple[Array, bool]:
    """``x`` (N, C, *spatial) as a 1-D array in memory order, and whether that order is channels-last."""
    channels_last = is_channels_last(x)
    return flat(x, channel_axes(x.ndim, channels_last)), channels_last


def empty_channels(like: Array, shape: tuple[int, ...], dtype: npt.DTypeLike, channels_last: bool) -> Array:
    """A new array of shape (N, C, *spatial) in the memory order asked for."""
    return empty(like, shape, dtype, channel_axes(len(shape), channels_last))


def target(out: Array | None, like: Array, shape: tuple[int, ...], axes: tuple[int, ...], *inputs: Any) -> Array:
    """The array a kernel writes: ``out`` where its memory order allows and no input overlaps it, else a new one."""
    if out is not None and is_target(out, axes) and not any(overlap(out, x) for x in inputs if x is not None):
        return out
    return empty(like, shape, like.dtype, axes)


def is_target(out: Array, axes: tuple[int, ...]) -> bool:
    """Whether a kernel can write to ``out`` in this order."""
    return out.transpose(axes).flags.c_contiguous and out.pointer % out.itemsize == 0


def overlap(a: Array, b: Array) -> bool:
    """Whether the ranges of memory of two arrays meet."""
    low, high = extent(a)
    other_low, other_high = extent(b)
    return low < other_high and other_low < high


def extent(x: Array) -> tuple[int, int]:
    """The first address of ``x``, and the one after its last."""
    if x.size == 0:
        return x.pointer, x.pointer
    reach = [(n - 1) * s for n, s in zip(x.shape, x.strides, strict=True)]
    return x.pointer + sum(min(r, 0) for r in reach), x.pointer + sum(max(r, 0) for r in reach) + x.itemsize


def deliver(result: Array, out: Array | None) -> Array:
    """``result``, copied to ``out`` where the caller gave one and the kernel could not write to it directly."""
    if out is None or result is out:
        return result
    copy(result, out)
    return out


# --------------------------------------------------------------------------------------------------------------- copies
def contiguous(x: Array) -> Array:
    """``x`` in C order and aligned: itself, or a copy made on the device."""
    if x.flags.c_contiguous and x.pointer % x.itemsize == 0:
        return x
    result = empty(x, x.shape, x.dtype)
    copy(x, result)
    return result


def copy(source: Array, result: Array) -> None:
    """Copy elements between two arrays of one shape, with any strides."""
    if any((a.pointer | abs(s)) % a.itemsize for a in (source, result) for s in (0, *a.strides)):
        source, result = _as_bytes(source), _as_bytes(result)
    if source.size == 0:
        return
    sizes, source_steps, result_steps = _merged(source, result)
    source_run, source_first = _run(source)
    result_run, result_first = _run(result)
    launch(
        _copy(len(sizes)), -(-source.size // THREADS), THREADS, source.stream,
        source_run, result_run, source.size, sizes, source_first, source_steps, result_first, result_steps,
    )  # fmt: skip


def _as_bytes(x: Array) -> Array:
    """``x`` with its bytes on a last axis: what is not aligned can be moved by bytes."""
    shape, strides = (*x.shape, x.itemsize), (*x.strides, 1)
    return Array(x.owner, x.pointer, shape, strides, np.uint8, x.stream, x.read_only)


def _run(x: Array) -> tuple[Array, int]:
    """All memory between the first and the last element of ``x`` as a 1-D array, and where x[0, 0, ...] is in it."""
    low, high = extent(x)
    run = Array(x.owner, low, ((high - low) // x.itemsize,), None, x.dtype, x.stream)
    return run, (x.pointer - low) // x.itemsize


def _merged(source: Array, result: Array) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Sizes and steps, in elements, with axes merged where both arrays step through them as through one."""
    axes = [
        (n, s // source.itemsize, r // result.itemsize)
        for n, s, r in zip(source.shape, source.strides, result.strides, strict=True)
        if n != 1
    ]
    merged = axes[:1] or [(1, 1, 1)]
    for n, s, r in axes[1:]:
        outer, outer_s, outer_r = merged[-1]
        if (outer_s, outer_r) == (n * s, n * r):
            merged[-1] = (outer * n, s, r)
        else:
            merged.append((n, s, r))
    sizes, source_steps, result_steps = zip(*merged, strict=True)
    return sizes, source_steps, result_steps


@lru_cache(maxsize=16)
def _copy(rank: int) -> Any:
    """The kernel of :func:`copy` for arrays of ``rank`` axes."""

    @kernel
    def copy(source, result, count, sizes, source_first, source_steps, result_first, result_steps):
        n = element()
        if n < u32(count):
            here, there, rest = source_first, result_first, n
            for back in range(rank):
                axis = rank - 1 - back
                size = u32(sizes[axis])
                quotient = u32(rest // size)
                index = u32(rest - u32(quotient * size))
                here += i64(index) * source_steps[axis]
                there += i64(index) * result_steps[axis]
                rest = quotient
            result[u64(there)] = source[u64(here)]

    return copy
