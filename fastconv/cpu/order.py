"""Arrays of any rank as kernels without geometry take and give them: one run of memory, in the array's own order."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv.cpu import layout
from fastconv.cpu._jit import made

Array = npt.NDArray[Any]

NATURAL = tuple(tuple(range(ndim)) for ndim in range(65))  # axes in their order, compared by identity: calls are short


def memory_axes(x: Array) -> tuple[int, ...]:
    """The axes of ``x`` from the slowest to the fastest in memory."""
    if x.flags.c_contiguous:
        return NATURAL[x.ndim]
    return tuple(sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis])))


def flat(x: Array, axes: tuple[int, ...]) -> Array:
    """``x`` with its axes in this order as a read-only 1-D view; copied if that would have gaps or step backwards."""
    return layout.read_only(x if axes is NATURAL[x.ndim] else x.transpose(axes))


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike, axes: tuple[int, ...]) -> Array:
    """A new array of this shape whose memory order is ``axes``."""
    if axes == NATURAL[len(shape)]:
        return made(np.empty(shape, dtype))
    ordered = made(np.empty([shape[axis] for axis in axes], dtype))
    return ordered.transpose([axes.index(axis) for axis in range(len(axes))])


def flat_target(result: Array, axes: tuple[int, ...]) -> Array:
    """The writable 1-D view of an array whose memory order is ``axes``."""
    view = (result if axes is NATURAL[result.ndim] else result.transpose(axes)).ravel()
    return view if type(view) is np.ndarray else view.view(np.ndarray)


def fits(out: Array | None, axes: tuple[int, ...], x: Array) -> bool:
    """Whether an elementwise kernel may write straight into ``out`` while it reads ``flat(x, axes)``.

    It may where ``out`` has the same memory order and is ``x`` itself or shares no memory with it.
    """
    if out is None or not (out.flags.aligned and out.transpose(axes).flags.c_contiguous):
        return False
    if not np.may_share_memory(out, x):
        return True
    same_start = out.__array_interface__["data"][0] == x.__array_interface__["data"][0]
    return same_start and x.transpose(axes).flags.c_contiguous
