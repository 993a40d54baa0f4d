"""Entries of convolution and dense layer: arrays of 16-bit floats go through float32, others straight on.

A few images, rows of a large image, or rows of a dense layer's weight are widened at a time, so that float32 copies
stay small and in cache. Every result is summed in float32 and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from fastconv._window import Window
from fastconv.cpu import bias as bias_gradient
from fastconv.cpu import conv, conv_weight, layout, linear, product
from fastconv.cpu.half import is_brain, is_half, narrow, narrowed, widen

CHUNK = 1 << 20  # elements in float32 at a time
WEIGHTS = 1 << 18  # of a dense layer's weight: each is used once, from L2
ROWS = 4  # a band is a multiple of Winograd's tiles


def _wide_weight(weight: Any, prepared: Any) -> Any:
    return widen(weight) if prepared is None else prepared.form("float32", lambda: widen(weight))


def _wide_bias(bias: Any) -> Any:
    return None if bias is None else widen(bias)


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


# ------------------------------------------------------------------------------------------------------ bands of images
def _bands(images: int, rows: int, elements: int) -> Iterator[tuple[slice, slice]]:
    """Some images whole, or some rows of one image where that is large; ``elements`` are those of all.

    What an image is cut into depends on its size alone, so that a batch gives the bits of its images.
    """
    each = max(1, elements // max(images, 1))
    together, bands = max(1, CHUNK // each), -(-each // CHUNK)
    step = max(1, -(-rows // (bands * ROWS)) * ROWS)
    for first in range(0, images, together):
        for row in range(0, rows, step):
            yield slice(first, min(images, first + together)), slice(row, min(rows, row + step))


def _forward_band(window: Window, axis: int, rows: slice) -> tuple[slice, Window]:
    """The rows of the input that these rows of the output see, and the window between the two."""
    size, stride, before = window.input_size[axis], window.stride[axis], window.padding_before[axis]
    first = rows.start * stride - before
    stop = (rows.stop - 1) * stride - before + window.dilation[axis] * (window.kernel_size[axis] - 1) + 1
    low, high = (max(first, 0), min(stop, size)) if first < size and stop > 0 else (0, 0)
    above = low - first if high > low else stop - first
    numbers = (high - low, above, max(0, stop - first - above - (high - low)), rows.stop - rows.start)
    return slice(low, high), _on_axis(window, axis, *numbers)


def _backward_band(window: Window, axis: int, rows: slice) -> tuple[slice, Window]:
    """The rows of the output that these rows of the input are seen by, one at least, and the window between the two."""
    stride, before, count = window.stride[axis], window.padding_before[axis], window.output_size[axis]
    reach = window.dilation[axis] * (window.kernel_size[axis] - 1)
    low = max(0, min(-(-(rows.start + before - reach) // stride), (rows.start + before) // stride, count - 1))
    high = max(low + 1, min(count, (rows.stop - 1 + before) // stride + 1))
    above, inside = rows.start + before - stride * low, rows.stop - rows.start
    below = max(0, stride * (high - low - 1) + reach + 1 - above - inside)
    return slice(low, high), _on_axis(window, axis, inside, above, below, high - low)


def _on_axis(window: Window, axis: int, size: int, before: int, after: int, count: int) -> Window:
    names = ("input_size", "padding_before", "padding_after", "output_size")
    changed = {}
    for name, number in zip(names, (size, before, after, count), strict=True):
        triple = list(getattr(window, name))
        triple[axis] = number
        changed[name] = tuple(triple)
    return window._replace(**changed)


# ---------------------------------------------------------------------------------------------------------- convolution
def conv_forward(
    x: Any, weight: Any, bias: Any, window: Window, groups: int, relu: bool = False, out: Any = None,
    algorithm: str = "auto", prepared: Any = None,
) -> Any:  # fmt: skip
    if not is_half(x.dtype):
        return conv.conv_forward(x, weight, bias, window, groups, relu, out, algorithm, prepared)
    wide, wide_bias = _wide_weight(weight, prepared), _wide_bias(bias)

    def compute(images: Any, shape: tuple[int, ...], band: Window) -> Any:
        return conv.conv_forward(images, wide, wide_bias, band, groups, relu, None, algorithm, prepared)

    shape = (x.shape[0], weight.shape[0], *window.output_size[5 - x.ndim :])
    return _band_by_band(compute, _forward_band, x, shape, window, out, weight, bias)


def conv_transpose_forward(
    x: Any, weight: Any, bias: Any, shape: tuple[int, ...], window: Window, groups: int, out: Any = None,
    algorithm: str = "auto",
) -> Any:  # fmt: skip
    if not is_half(x.dtype):
        return conv.conv_transpose_forward(x, weight, bias, shape, window, groups, out, algorithm)
    wide, wide_bias = widen(weight), _wide_bias(bias)

    def compute(images: Any, shape: tuple[int, ...], band: Window) -> Any:
        return conv.conv_transpose_forward(images, wide, wide_bias, shape, band, groups, None, algorithm)

    return _band_by_band(compute, _backward_band, x, shape, window, out, weight, bias)


def conv_backward_input(
    grad_out: Any, weight: Any, input_shape: tuple[int, ...], window: Window, groups: int, out: Any = None,
    algorithm: str = "auto",
) -> Any:  # fmt: skip
    return conv_transpose_forward(grad_out, weight, None, input_shape, window, groups, out, algorithm)


def _band_by_band(
    compute: Callable[..., Any], band_of: Callable[..., Any], x: Any, shape: tuple[int, ...], window: Window, out: Any,
    *inputs: Any,
) -> Any:  # fmt: skip
    channels_last = layout.is_channels_last(x)
    result = layout.target(out, shape, x.dtype, channels_last, x, *inputs)
    for images, rows in _bands(shape[0], shape[2], x.size + result.size):
        whole = rows == slice(0, shape[2])
        seen, band = (slice(None), window) if whole else band_of(window, 5 - x.ndim, rows)
        there = result[images, :, rows]
        y = compute(widen(x[images, :, seen]), there.shape, band)
        if whole:
            narrow(y, there, channels_last)
        else:
            there[...] = narrowed(y, x.dtype)
    return layout.deliver(result, out)


def conv_backward_weight(
    grad_out: Any, x: Any, weight_shape: tuple[int, ...], window: Window, groups: int, out: Any = None,
    algorithm: str = "auto",
) -> Any:  # fmt: skip
    if not is_half(x.dtype):
        return conv_weight.conv_backward_weight(grad_out, x, weight_shape, window, groups, out, algorithm)
    result = layout.target(out, weight_shape, x.dtype, False, x, grad_out)
    parts = (
        conv_weight.conv_backward_weight(
            widen(grad_out[images, :, rows]), widen(x[images, :, seen]), weight_shape, band, groups, None, algorithm
        )
        for images, rows in _bands(len(x), grad_out.shape[2], x.size + grad_out.size)
        for seen, band in [_forward_band(window, 5 - x.ndim, rows)]
    )
    narrow(_sum(parts, weight_shape), result, False)
    return layout.deliver(result, out)


def conv_backward_bias(grad_out: Any) -> Any:
    if not is_half(grad_out.dtype):
        return bias_gradient.conv_backward_bias(grad_out)
    bands = _bands(len(grad_out), grad_out.shape[2], grad_out.size)
    sums = (bias_gradient.conv_backward_bias(widen(grad_out[images, :, rows])) for images, rows in bands)
    return _narrowed(_sum(sums, grad_out.shape[1:2]), grad_out.dtype)


# --------------------------------------------------------------------------------------------------------- dense layers
def _parts(count: int, elements: int) -> Iterator[slice]:
    """Runs of ``count`` rows of a weight of this many elements: of WEIGHTS elements or of one row."""
    step = max(1, WEIGHTS * count // max(elements, 1))
    return (slice(first, first + step) for first in range(0, count, step))


def linear_forward(x: Any, weight: Any, bias: Any, relu: bool = False, out: Any = None, prepared: Any = None) -> Any:
    if not is_half(x.dtype):
        return linear.linear_forward(x, weight, bias, relu, out, prepared)
    rows, wide_bias = widen(x), _wide_bias(bias)
    if prepared is not None:
        y = linear.linear_forward(rows, _wide_weight(weight, prepared), wide_bias, relu, None, prepared)
        return _narrowed(y, x.dtype, out)
    if weight.flags.c_contiguous and product.reads_in_place(len(x), *weight.shape):
        bits = weight.view(np.int16 if is_brain(x.dtype) else np.uint16)
        return _narrowed(linear.linear_forward(rows, bits, wide_bias, relu), x.dtype, out)
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
