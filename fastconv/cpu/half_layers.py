"""Entries of convolution and dense layer: arrays of 16-bit floats go through float32, others straight on.

A few images, or a few rows of a dense layer's weight, are widened at a time, so that float32 copies stay small and in
cache. Every result is summed in float32 and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from fastconv._window import Window
from fastconv.cpu import bias as bias_gradient
from fastconv.cpu import conv, conv_weight, layout, linear
from fastconv.cpu.half import is_half, narrow, widen

CHUNK = 1 << 20  # elements in float32 at a time


def _parts(count: int, elements: int) -> Iterator[slice]:
    """Runs of ``count`` items that have about this many elements in all, of CHUNK elements or of one item."""
    step = max(1, CHUNK * count // max(elements, 1))
    return (slice(first, first + step) for first in range(0, count, step))


def _wide_weight(weight: Any, prepared: Any) -> Any:
    return widen(weight) if prepared is None else prepared.form("float32", lambda: widen(weight))


def _wide_bias(bias: Any) -> Any:
    return None if bias is None else widen(bias)


# ---------------------------------------------------------------------------------------------------------- convolution
def conv_forward(
    x: Any, weight: Any, bias: Any, window: Window, groups: int, relu: bool = False, out: Any = None,
    algorithm: str = "auto", prepared: Any = None,
) -> Any:  # fmt: skip
    if not is_half(x.dtype):
        return conv.conv_forward(x, weight, bias, window, groups, relu, out, algorithm, prepared)
    wide, wide_bias = _wide_weight(weight, prepared), _wide_bias(bias)

    def compute(images: Any) -> Any:
        return conv.conv_forward(images, wide, wide_bias, window, groups, relu, None, algorithm, prepared)

    shape = (x.shape[0], weight.shape[0], *window.output_size[5 - x.ndim :])
    return _image_by_image(compute, x, shape, out, weight, bias)


def conv_transpose_forward(
    x: Any, weight: Any, bias: Any, shape: tuple[int, ...], window: Window, groups: int, out: Any = None,
    algorithm: str = "auto",
) -> Any:  # fmt: skip
    if not is_half(x.dtype):
        return conv.conv_transpose_forward(x, weight, bias, shape, window, groups, out, algorithm)
    wide, wide_bias = widen(weight), _wide_bias(bias)

    def compute(images: Any) -> Any:
        size = (len(images), *shape[1:])
        return conv.conv_transpose_forward(images, wide, wide_bias, size, window, groups, None, algorithm)

    return _image_by_image(compute, x, shape, out, weight, bias)


def conv_backward_input(
    grad_out: Any, weight: Any, input_shape: tuple[int, ...], window: Window, groups: int, out: Any = None,
    algorithm: str = "auto",
) -> Any:  # fmt: skip
    return conv_transpose_forward(grad_out, weight, None, input_shape, window, groups, out, algorithm)


def _image_by_image(compute: Callable[[Any], Any], x: Any, shape: tuple[int, ...], out: Any, *inputs: Any) -> Any:
    channels_last = layout.is_channels_last(x)
    result = layout.target(out, shape, x.dtype, channels_last, x, *inputs)
    for part in _parts(len(x), x.size + result.size):
        narrow(compute(widen(x[part])), result[part], channels_last)
    return layout.deliver(result, out)


def conv_backward_weight(
    grad_out: Any, x: Any, weight_shape: tuple[int, ...], window: Window, groups: int, out: Any = None,
    algorithm: str = "auto",
) -> Any:  # fmt: skip
    if not is_half(x.dtype):
        return conv_weight.conv_backward_weight(grad_out, x, weight_shape, window, groups, out, algorithm)
    parts = (
        conv_weight.conv_backward_weight(
            widen(grad_out[part]), widen(x[part]), weight_shape, window, groups, None, algorithm
        )
        for part in _parts(len(x), x.size + grad_out.size)
    )
    result = layout.target(out, weight_shape, x.dtype, False, x, grad_out)
    narrow(_sum(parts, weight_shape), result, False)
    return layout.deliver(result, out)


def conv_backward_bias(grad_out: Any) -> Any:
    if not is_half(grad_out.dtype):
        return bias_gradient.conv_backward_bias(grad_out)
    parts = _parts(len(grad_out), grad_out.size)
    sums = (bias_gradient.conv_backward_bias(widen(grad_out[part])) for part in parts)
    return _narrowed(_sum(sums, grad_out.shape[1:2]), grad_out.dtype)


def _sum(parts: Iterable[Any], shape: tuple[int, ...]) -> Any:
    """The sum of float32 arrays, in their order; zeros for none."""
    total: Any = None
    for part in parts:
        total = part if total is None else np.add(total, part, out=total)
    return np.zeros(shape, np.float32) if total is None else total


def _narrowed(x: Any, dtype: Any, out: Any = None) -> Any:
    """A C-contiguous float32 array in ``dtype``, in ``out`` if there is one."""
    result = np.empty(x.shape, dtype)
    narrow(x, result, False)
    return layout.deliver(result, out)


# --------------------------------------------------------------------------------------------------------- dense layers
def linear_forward(x: Any, weight: Any, bias: Any, relu: bool = False, out: Any = None, prepared: Any = None) -> Any:
    if not is_half(x.dtype):
        return linear.linear_forward(x, weight, bias, relu, out, prepared)
    rows, wide_bias = widen(x), _wide_bias(bias)
    if prepared is not None:
        y = linear.linear_forward(rows, _wide_weight(weight, prepared), wide_bias, relu, None, prepared)
        return _narrowed(y, x.dtype, out)
    y = np.empty((len(x), len(weight)), np.float32)
    for part in _parts(len(weight), weight.size):
        some = None if wide_bias is None else wide_bias[part]
        y[:, part] = linear.linear_forward(rows, widen(weight[part]), some, relu)
    return _narrowed(y, x.dtype, out)


def linear_backward_input(grad_out: Any, weight: Any) -> Any:
    if not is_half(weight.dtype):
        return linear.linear_backward_input(grad_out, weight)
    parts = _parts(len(weight), weight.size)
    sums = (linear.linear_backward_input(widen(grad_out[:, part]), widen(weight[part])) for part in parts)
    return _narrowed(_sum(sums, (len(grad_out), weight.shape[1])), weight.dtype)


def linear_backward_weight(grad_out: Any, x: Any) -> Any:
    if not is_half(x.dtype):
        return linear.linear_backward_weight(grad_out, x)
    rows, result = widen(x), np.empty((grad_out.shape[1], x.shape[1]), x.dtype)
    for part in _parts(len(result), result.size):
        narrow(linear.linear_backward_weight(widen(grad_out[:, part]), rows), result[part], False)
    return result


def linear_backward_bias(grad_out: Any) -> Any:
    if not is_half(grad_out.dtype):
        return linear.linear_backward_bias(grad_out)
    return _narrowed(linear.linear_backward_bias(widen(grad_out)), grad_out.dtype)
