"""Windows of pooling, of convolution and of transposed convolution."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from fastconv._checks.numbers import integer, integers, padding
from fastconv._window import Pairs, Window, make_window

ELEMENTS = 2**47  # of one padded image; more than a process can address


def window(
    input_size: tuple[int, ...],
    kernel_size: tuple[int, ...],
    stride: Any,
    pad: Any,
    dilation: Any,
    ceil_mode: bool = False,
) -> Window:
    """The :class:`Window` of checked arguments; the window must fit into the padded input at least once."""
    count = len(input_size)
    strides, dilations = integers("stride", stride, count, 1), integers("dilation", dilation, count, 1)
    return _fitting_window(input_size, kernel_size, strides, padding(pad, count), dilations, bool(ceil_mode))


@lru_cache(maxsize=1024)
def _fitting_window(
    input_size: tuple[int, ...],
    kernel_size: tuple[int, ...],
    stride: tuple[int, ...],
    pad: Pairs | str,
    dilation: tuple[int, ...],
    ceil_mode: bool,
) -> Window:
    result = make_window(input_size, kernel_size, stride, pad, dilation, ceil_mode)
    padded = tuple(map(sum, zip(result.input_size, result.padding_before, result.padding_after, strict=True)))
    if math.prod(padded) > ELEMENTS:
        sizes = " * ".join(str(size) for size in padded[3 - len(input_size) :])
        raise ValueError(f"padding must leave at most 2**47 elements per channel, got {sizes} of them")
    for axis, count in enumerate(result.output_size):
        if count <= 0:
            reach = result.dilation[axis] * (result.kernel_size[axis] - 1) + 1
            raise ValueError(
                f"kernel_size {kernel_size} with dilation {dilation} must fit into the padded input, got a reach of "
                f"{reach} on spatial axis {axis - 3 + len(input_size)}, where the padded input has {padded[axis]}"
            )
    return result


def convolution(
    input_name: str,
    input_shape: tuple[int, ...],
    weight_name: str,
    weight_shape: tuple[int, ...],
    stride: Any,
    pad: Any,
    dilation: Any,
    groups: Any,
) -> tuple[Window, int, tuple[int, ...]]:
    """The :class:`Window` of a convolution of checked arrays or shapes, its groups and the shape of its result."""
    count = len(weight_shape) - 2
    strides, dilations = integers("stride", stride, count, 1), integers("dilation", dilation, count, 1)
    pads, groups = padding(pad, count), integer("groups", groups, 1)
    return _convolution(input_name, input_shape, weight_name, weight_shape, strides, pads, dilations, groups)


@lru_cache(maxsize=1024)
def _convolution(
    input_name: str,
    input_shape: tuple[int, ...],
    weight_name: str,
    weight_shape: tuple[int, ...],
    stride: tuple[int, ...],
    pad: Pairs | str,
    dilation: tuple[int, ...],
    groups: int,
) -> tuple[Window, int, tuple[int, ...]]:
    out_channels, group_channels, *kernel_size = weight_shape
    count = len(kernel_size)
    channels, batch = input_shape[-count - 1], input_shape[: -count - 1]
    if group_channels * groups != channels:
        raise ValueError(
            f"{input_name} must have {group_channels * groups} channels ({weight_name}[1] * groups = "
            f"{group_channels} * {groups}), got {channels} (shape {input_shape})"
        )
    if out_channels % groups:
        raise ValueError(f"{weight_name}[0] must be a multiple of groups = {groups}, got {out_channels}")
    if min(kernel_size) < 1:
        raise ValueError(f"{weight_name}[2:], the kernel size, must be at least 1, got {tuple(kernel_size)}")
    result = _fitting_window(input_shape[-count:], tuple(kernel_size), stride, pad, dilation, False)
    return result, groups, (*batch, out_channels, *result.output_size[3 - count :])


def transposed(
    x_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    stride: Any,
    pad: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
) -> tuple[Window, int, tuple[int, ...]]:
    """The :class:`Window` of the convolution that a transposed one reverses, its groups and the result's shape."""
    count = len(weight_shape) - 2
    if isinstance(pad, str):
        raise ValueError(f"padding of a transposed convolution must be ints or pairs, got {pad!r}")
    strides, dilations = integers("stride", stride, count, 1), integers("dilation", dilation, count, 1)
    pads, more = padding(pad, count), integers("output_padding", output_padding, count, 0)
    return _transposed(x_shape, weight_shape, strides, pads, more, integer("groups", groups, 1), dilations)


@lru_cache(maxsize=1024)
def _transposed(
    x_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    stride: tuple[int, ...],
    pad: Pairs,
    output_padding: tuple[int, ...],
    groups: int,
    dilation: tuple[int, ...],
) -> tuple[Window, int, tuple[int, ...]]:
    in_channels, group_channels, *kernel_size = weight_shape
    count = len(kernel_size)
    channels, batch, sizes = x_shape[-count - 1], x_shape[: -count - 1], x_shape[-count:]
    if channels != in_channels:
        raise ValueError(f"x must have weight.shape[0] = {in_channels} channels, got {channels} (shape {x_shape})")
    if in_channels % groups:
        raise ValueError(f"weight.shape[0] must be a multiple of groups = {groups}, got {in_channels}")
    if min(kernel_size) < 1:
        raise ValueError(f"weight.shape[2:], the kernel size, must be at least 1, got {tuple(kernel_size)}")
    if min(sizes) < 1:
        raise ValueError(f"x must have at least 1 element on each spatial axis, got shape {x_shape}")
    for more, step, spread in zip(output_padding, stride, dilation, strict=True):
        if more >= max(step, spread):
            raise ValueError(
                f"output_padding must be smaller than stride or dilation on each axis, got {more} with stride {step} "
                f"and dilation {spread}"
            )
    padded = tuple(
        (size - 1) * step + spread * (kernel - 1) + 1 + more
        for size, step, spread, kernel, more in zip(sizes, stride, dilation, kernel_size, output_padding, strict=True)
    )
    if math.prod(padded) > ELEMENTS:
        raise ValueError(f"x of shape {x_shape} must give at most 2**47 elements per channel, got sizes {padded}")
    result = tuple(size - before - after for size, (before, after) in zip(padded, pad, strict=True))
    if min(result) < 1:
        raise ValueError(f"padding {pad} must leave at least 1 element on each axis of the result, got sizes {result}")
    # With output_padding >= stride, more window positions would fit than there are inputs.
    window = make_window(result, tuple(kernel_size), stride, pad, dilation)
    depth, height, width = (*window.output_size[: 3 - count], *sizes)
    return window._replace(output_size=(depth, height, width)), groups, (*batch, group_channels * groups, *result)
