"""Memory order of arrays, and the moves between it and what the micro-kernel reads and writes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv.cpu._jit import made
from fastconv.cpu._target import LINE_BYTES

Array = npt.NDArray[Any]

LARGE = 1 << 18  # elements of a new array from which on it matters where it starts


# --------------------------------------------------------------------------------- arrays as kernels take and give them
def is_channels_last(x: Array) -> bool:
    """Whether the channel axis of (N, C, *spatial) is the fastest in memory (an inserted axis of stride 0 is not).

    A single channel is if its stride says so: that of gray images (N, H, W, 1) is one element, else it is a plane.
    """
    if x.ndim <= 2 or (x.flags.c_contiguous and x.shape[1] != 1):  # the usual case, told apart quickly
        return False
    if x.shape[1] == 1 < x.shape[-1] and x.strides[1] > x.strides[-1] > 0:  # and so is a single plane
        return False
    _, step, *spatial = map(abs, x.strides)
    if x.shape[1] == 1:
        spatial = [s + 1 for s, size in zip(spatial, x.shape[2:], strict=True) if size > 1]
    return 0 < step < min(spatial, default=0)


def flat(x: Array) -> tuple[Array, bool]:
    """``x`` as a read-only 1-D view in memory order, and whether that order is channels-last; copied if it has gaps.

    Kernels always see the same array type (1-D, contiguous, read-only), so each compiles once per dtype.
    """
    channels_last = is_channels_last(x)
    return read_only(_channels_to_end(x) if channels_last else x), channels_last


def read_only(x: Array) -> Array:
    """``x`` as a flat, contiguous, aligned, read-only view, of numpy's own class; copied where it has gaps."""
    flags = x.flags
    view = (x if flags.c_contiguous and flags.aligned else _contiguous(x)).ravel()
    if type(view) is not np.ndarray:
        view = view.view(np.ndarray)
    # By position, and ravel above: half of the time that a keyword and reshape take.
    view.setflags(False)  # type: ignore[call-arg]
    return view


def _contiguous(x: Array) -> Array:
    view = np.ascontiguousarray(x)
    return view if view.flags.aligned else view.copy()


def flat_alike(x: Array, channels_last: bool) -> Array:
    """``x`` as a read-only 1-D view in a memory order that another array has; copied where its own is another one."""
    return flat(np.ascontiguousarray(_channels_to_end(x)).reshape(-1) if channels_last else x.reshape(-1))[0]


def _channels_to_end(x: Array) -> Array:
    return x.transpose(0, *range(2, x.ndim), 1)  # np.moveaxis takes ten times as long


def _memory(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """A new array; a large one starts with a cache line.

    NumPy's starts 16 bytes behind one, so that vectors are stored across two: the first layer of VGG took 2.2 ms in
    place of 1.7. Where results stay in cache it is nothing.
    """
    count = math.prod(shape)
    if count < LARGE:
        return np.empty(shape, dtype)
    memory = np.empty(count + LINE_BYTES, dtype)
    first = -memory.__array_interface__["data"][0] % LINE_BYTES // memory.itemsize
    return memory[first : first + count].reshape(shape)


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike, channels_last: bool) -> Array:
    """A new array of shape (N, C, *spatial) in the memory order asked for."""
    if not channels_last:
        return made(_memory(shape, dtype))
    memory = made(_memory((shape[0], *shape[2:], shape[1]), dtype))
    return memory.transpose(0, -1, *range(1, memory.ndim - 1))


def target(
    out: Array | None, shape: tuple[int, ...], dtype: npt.DTypeLike, channels_last: bool, *inputs: Array | None
) -> Array:
    """The array a kernel writes: ``out`` where its memory order allows and no input overlaps it, else a new one."""
    if out is not None and _writable_in_place(out, channels_last) and not _overlaps(out, inputs):
        return out
    return empty(shape, dtype, channels_last)


def _overlaps(out: Array, inputs: tuple[Array | None, ...]) -> bool:
    return any(x is not None and np.may_share_memory(out, x) for x in inputs)


def _writable_in_place(out: Array, channels_last: bool) -> bool:
    ordered = _channels_to_end(out) if channels_last else out
    return bool(ordered.flags.c_contiguous and ordered.flags.aligned)


def flat_target(result: Array, channels_last: bool) -> Array:
    """The 1-D writable view in memory order of an array that :func:`target` returned."""
    flat = (_channels_to_end(result) if channels_last else result).ravel()
    return flat if type(flat) is np.ndarray else flat.view(np.ndarray)


def deliver(result: Array, out: Array | None) -> Array:
    """``result``, moved into ``out`` where the caller gave one and the kernel could not write to it directly."""
    if out is None or result is out:
        return result
    out[...] = result
    return out
