"""CUDA arrays of any library as the operations see them, and results as the caller's library makes them.

An :class:`Array` is a pointer, a shape, strides and a stream; the memory belongs to the caller's object, and nothing is
copied on the way in. Kernels take flat arrays: one-dimensional and contiguous, in memory order. Only an array with gaps
or negative strides is copied, by a kernel, on the device.
"""

from __future__ import annotations

import importlib
import inspect
import math
import sys
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

LIMIT = 2**32  # elements: kernels count with 32 bits


class Flags(NamedTuple):
    """What the checks and the moves ask of an array's memory."""

    c_contiguous: bool
    writeable: bool


class Array:
    """A CUDA array: strides are in bytes, ``stream`` is a pointer, 0 for the default stream."""

    __slots__ = ("dtype", "owner", "pointer", "read_only", "shape", "stream", "strides")

    def __init__(
        self,
        owner: Any,
        pointer: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...] | None,
        dtype: npt.DTypeLike,
        stream: int,
        read_only: bool = False,
    ) -> None:
        self.owner, self.pointer, self.shape, self.dtype = owner, pointer, tuple(shape), np.dtype(dtype)
        self.strides = c_strides(self.shape, self.dtype.itemsize) if strides is None else tuple(strides)
        self.stream, self.read_only = stream, read_only

    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: math.prod(self.shape))
    itemsize = property(lambda self: self.dtype.itemsize)
    nbytes = property(lambda self: self.size * self.dtype.itemsize)
    T = property(lambda self: self.transpose(range(self.ndim)[::-1]))

    @property
    def flags(self) -> Flags:
        return Flags(self._is_contiguous(), not self.read_only)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        # No stream: a launch is on the right one already, and Numba would wait for it.
        return {
            "shape": self.shape,
            "strides": None if self._is_contiguous() else self.strides,
            "typestr": self.dtype.str,
            "data": (self.pointer, False),
            "version": 3,
            "stream": None,
        }

    def __getitem__(self, key: Any) -> Array:
        """A new first axis for None, the first element of it for 0; the only keys that the operations use."""
        if key is None:
            return self._view((1, *self.shape), (self.nbytes, *self.strides))
        if isinstance(key, tuple) and all(item is None or item == slice(None) for item in key):
            return self._with_axes(key)
        if key != 0:
            raise IndexError(f"a CUDA array has no key {key!r} here")
        return self._view(self.shape[1:], self.strides[1:])

    def _with_axes(self, key: tuple[Any, ...]) -> Array:
        """New axes of one element where the key says None."""
        axes = iter(zip(self.shape, self.strides, strict=True))
        sizes = [(1, self.itemsize) if item is None else next(axes) for item in key]
        return self._view(*zip(*[*sizes, *axes], strict=True))

    def __setitem__(self, key: Any, value: Array) -> None:
        if key is not Ellipsis:
            raise IndexError(f"a CUDA array has no key {key!r} here")
        from fastconv.cuda import layout

        layout.copy(value, self)

    def transpose(self, axes: Any) -> Array:
        return self._view(tuple(self.shape[a] for a in axes), tuple(self.strides[a] for a in axes))

    def reshape(self, *shape: Any) -> Array:
        """The same elements with other axes; copied on the device if they are not in C order."""
        sizes = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
        rest = math.prod(n for n in sizes if n != -1)
        sizes = tuple(self.size // rest if n == -1 else n for n in sizes)
        if not self._is_contiguous():
            from fastconv.cuda import layout

            return layout.contiguous(self).reshape(sizes)
        return self._view(sizes, c_strides(sizes, self.itemsize))

    def _view(self, shape: tuple[int, ...], strides: tuple[int, ...]) -> Array:
        return Array(self.owner, self.pointer, shape, strides, self.dtype, self.stream, self.read_only)

    def _is_contiguous(self) -> bool:
        expected = c_strides(self.shape, self.dtype.itemsize)
        return self.size == 0 or all(
            n == 1 or s == e for n, s, e in zip(self.shape, self.strides, expected, strict=True)
        )


def c_strides(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Strides in bytes of a C-contiguous array."""
    strides, step = [], itemsize
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


# ----------------------------------------------------------------------------------------------------- in from a caller
def wrap(name: str, owner: Any) -> Array:
    """The :class:`Array` of an object with ``__cuda_array_interface__`` or, on a CUDA device, ``__dlpack__``."""
    if isinstance(owner, Array):
        return owner
    try:
        interface = getattr(owner, "__cuda_array_interface__", None)
    except RuntimeError as error:  # PyTorch refuses tensors that require gradients
        raise TypeError(f"{name} cannot be read as a CUDA array: {error}") from error
    array = _from_dlpack(name, owner) if interface is None else _from_interface(name, owner, interface)
    if array.dtype.kind not in "fiu" or array.dtype.byteorder == ">":
        given = getattr(owner, "dtype", array.dtype)  # bfloat16 is two bytes of nothing known in an interface
        raise TypeError(
            f"{name} must have a dtype of integers, float16, float32 or float64 on a CUDA device, got {given}"
        )
    if array.size >= LIMIT:
        raise ValueError(f"{name} must have fewer than 2**32 elements on a CUDA device, got shape {array.shape}")
    return array


def _from_interface(name: str, owner: Any, interface: dict[str, Any]) -> Array:
    if interface.get("mask") is not None:
        raise TypeError(f"{name} must have no mask, got a masked CUDA array")
    pointer, read_only = interface["data"]
    stream = interface.get("stream")
    shape = tuple(interface["shape"])
    stream = _current_stream(owner) if stream is None else stream
    return Array(owner, pointer, shape, interface.get("strides"), interface["typestr"], stream, read_only)


def _from_dlpack(name: str, owner: Any) -> Array:
    """DLPack's producer orders its own work before what comes on the stream that it is given: the default one."""
    from cuda.core.utils import StridedMemoryView

    view = StridedMemoryView.from_dlpack(owner, stream_ptr=1)
    try:
        dtype = np.dtype(view.dtype)
    except (NotImplementedError, TypeError) as error:  # NumPy has no such dtype
        raise TypeError(f"{name} cannot be read as a CUDA array: {error}") from error
    strides = None if view.strides is None else tuple(s * dtype.itemsize for s in view.strides)
    return Array((owner, view), view.ptr, tuple(view.shape), strides, dtype, 1, view.readonly)


def is_cuda(value: Any) -> bool:
    """Whether ``value`` is an array on a CUDA device."""
    if hasattr(type(value), "__cuda_array_interface__"):
        try:
            return value.__cuda_array_interface__ is not None
        except AttributeError:  # PyTorch's tensors on the CPU
            return False
        except RuntimeError:  # those that require gradients; wrap says so
            return True
    device = getattr(value, "__dlpack_device__", None)
    return device is not None and not isinstance(value, np.ndarray) and int(device()[0]) in (2, 13)


def _library(owner: Any) -> Any:
    """The package that the class of ``owner`` comes from."""
    return sys.modules.get(type(owner).__module__.partition(".")[0])


def _current_stream(owner: Any) -> int:
    """The stream that the caller's library works on where the array does not carry one."""
    library = _library(owner)
    if library is not None and library.__name__ == "torch":
        return int(library.cuda.current_stream(owner.device).cuda_stream)
    return 0


def call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call an operation with its CUDA arrays as :class:`Array`, on the stream of the first; unwrap what it returns."""
    backend = importlib.import_module("fastconv.cuda._jit")
    if not backend.runs():
        raise RuntimeError("CUDA arrays need a CUDA driver and a device, and Numba finds none here")
    names = (*inspect.signature(function).parameters,)
    values = dict(zip(names, args, strict=False)) | kwargs
    arrays = {name: wrap(name, value) for name, value in values.items() if is_cuda(value)}
    first = next(iter(arrays.values()))
    others = {array.stream for array in arrays.values()} - {first.stream}
    if others:
        backend.executor().wait(first.stream, others)
    for array in arrays.values():
        array.stream = first.stream
    return _unwrapped(function(**(values | arrays)))


def _unwrapped(result: Any) -> Any:
    if isinstance(result, Array):
        return unwrap(result)
    return type(result)(*map(_unwrapped, result)) if isinstance(result, tuple) else result


# ------------------------------------------------------------------------------------------------------ out to a caller
def empty(like: Array, shape: tuple[int, ...], dtype: npt.DTypeLike, axes: tuple[int, ...] | None = None) -> Array:
    """A new array whose memory order is ``axes`` (slowest first), from the library that made ``like``."""
    if math.prod(shape) >= LIMIT:
        raise ValueError(f"a result must have fewer than 2**32 elements on a CUDA device, got shape {shape}")
    order = tuple(range(len(shape))) if axes is None else axes
    memory = tuple(shape[a] for a in order)
    owner = _allocate(like, memory, np.dtype(dtype))
    interface = owner.__cuda_array_interface__
    flat = Array(owner, interface["data"][0], memory, None, dtype, like.stream)
    return flat.transpose([order.index(a) for a in range(len(shape))])


def _allocate(like: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    from fastconv.cuda import _jit

    library = _library(like.owner)
    if library is not None and library.__name__ == "torch":
        return library.empty(shape, dtype=getattr(library, dtype.name), device=like.owner.device)
    if library is None or not hasattr(library, "empty"):
        return _jit.executor().empty(shape, dtype, like.stream)
    with like.owner.device:  # CuPy allocates on its current device
        return library.empty(shape, dtype=dtype)


def unwrap(result: Array) -> Any:
    """The caller's kind of array for a result: a view of what its library allocated."""
    owner = result.owner
    if isinstance(owner, tuple):  # what came by DLPack and is returned is the caller's out
        return owner[0]
    interface = owner.__cuda_array_interface__
    shape, strides = (
        tuple(interface["shape"]),
        interface.get("strides") or c_strides(interface["shape"], result.itemsize),
    )
    if (shape, tuple(strides)) == (result.shape, result.strides):
        return owner
    return _restrided(owner, result)


def _restrided(owner: Any, result: Array) -> Any:
    """A view of ``owner`` with the shape and strides of ``result``."""
    steps = tuple(s // result.itemsize for s in result.strides)
    library = _library(owner)
    if library is not None and library.__name__ == "torch":
        return owner.as_strided(result.shape, steps)
    if library is not None and hasattr(library, "lib"):
        return library.lib.stride_tricks.as_strided(owner, result.shape, result.strides)
    from fastconv.cuda import _jit

    return _jit.executor().view(result)
