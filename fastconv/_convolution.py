"""Convolution over any number of spatial axes, forward and backward: what the public names of each rank call.

``rank`` is the number of spatial axes; the other arguments are those of :func:`fastconv.conv2d` and its gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy.typing as npt

from fastconv import _checks, _dispatch
from fastconv._batch import with_batch, without_batch
from fastconv._window import Padding, Sizes
from fastconv.pack import PackedWeight, unpacked

Array = npt.NDArray[Any]


class ConvGrads(NamedTuple):
    """Gradients of a convolution, each of the shape of the argument that it is named after."""

    x: Array
    weight: Array
    bias: Array


@_dispatch.operation
def forward(
    rank: int,
    x: Array,
    weight: Array | PackedWeight,
    bias: Array | None,
    stride: Sizes,
    padding: Padding,
    dilation: Sizes,
    groups: int,
    activation: str | None,
    algorithm: str,
    out: Array | None,
) -> Array:
    """The convolution of ``x``; see :func:`fastconv.conv2d`."""
    weight, prepared, algorithm = unpacked(weight, rank, stride, dilation, groups, algorithm)
    backend = _dispatch.backend(x=x, weight=weight, bias=bias, out=out)
    _checks.array("x", x, (rank + 2, rank + 1))
    _checks.array("weight", weight, (rank + 2,))
    _checks.same_dtype("weight", weight, "x", x)
    relu = _checks.activation(activation)
    window, groups, shape = _checks.convolution(
        "x", x.shape, "weight.shape", weight.shape, stride, padding, dilation, groups
    )
    _checks.algorithm(algorithm, window, rank)
    if bias is not None:
        _checks.shape("bias", bias, (weight.shape[0],))
        _checks.same_dtype("bias", bias, "x", x)
    _checks.output(out, shape, x.dtype)
    unbatched = x.ndim == rank + 1
    x, target = with_batch(x, unbatched), with_batch(out, unbatched)
    y = backend.conv_forward(x, weight, bias, window, groups, relu, target, algorithm, prepared)
    return without_batch(y, unbatched, out)


@_dispatch.operation
def backward(
    rank: int,
    grad_out: Array,
    x: Array,
    weight: Array,
    stride: Sizes,
    padding: Padding,
    dilation: Sizes,
    groups: int,
    algorithm: str,
) -> ConvGrads:
    """All gradients; see :func:`fastconv.conv2d_backward`."""
    backend = _dispatch.backend(grad_out=grad_out, x=x, weight=weight)
    _checks.array("x", x, (rank + 2, rank + 1))
    _checks.array("weight", weight, (rank + 2,))
    _checks.same_dtype("weight", weight, "x", x)
    window, groups, shape = _checks.convolution(
        "x", x.shape, "weight.shape", weight.shape, stride, padding, dilation, groups
    )
    _checks.algorithm(algorithm, window, rank)
    _checks.shape("grad_out", grad_out, shape)
    _checks.same_dtype("grad_out", grad_out, "x", x)
    unbatched = x.ndim == rank + 1
    grad_out, x = with_batch(grad_out, unbatched), with_batch(x, unbatched)
    grad_x = backend.conv_backward_input(grad_out, weight, x.shape, window, groups, None, algorithm)
    grad_weight = backend.conv_backward_weight(grad_out, x, weight.shape, window, groups, None, algorithm)
    return ConvGrads(without_batch(grad_x, unbatched), grad_weight, backend.conv_backward_bias(grad_out))


@_dispatch.operation
def backward_input(
    rank: int,
    grad_out: Array,
    weight: Array,
    input_shape: Sequence[int],
    stride: Sizes,
    padding: Padding,
    dilation: Sizes,
    groups: int,
    algorithm: str,
    out: Array | None,
) -> Array:
    """The gradient with respect to the input; see :func:`fastconv.conv2d_backward_input`."""
    backend = _dispatch.backend(grad_out=grad_out, weight=weight, out=out)
    input_shape = _checks.shape_argument("input_shape", input_shape, (rank + 2, rank + 1))
    _checks.array("weight", weight, (rank + 2,))
    window, groups, shape = _checks.convolution(
        "input_shape", input_shape, "weight.shape", weight.shape, stride, padding, dilation, groups
    )
    _checks.algorithm(algorithm, window, rank)
    _checks.shape("grad_out", grad_out, shape)
    _checks.same_dtype("grad_out", grad_out, "weight", weight)
    _checks.output(out, input_shape, weight.dtype)
    unbatched = len(input_shape) == rank + 1
    grad_out, target = with_batch(grad_out, unbatched), with_batch(out, unbatched)
    input_shape = (1, *input_shape) if unbatched else input_shape
    grad_x = backend.conv_backward_input(grad_out, weight, input_shape, window, groups, target, algorithm)
    return without_batch(grad_x, unbatched, out)


@_dispatch.operation
def backward_weight(
    rank: int,
    grad_out: Array,
    x: Array,
    weight_shape: Sequence[int],
    stride: Sizes,
    padding: Padding,
    dilation: Sizes,
    groups: int,
    algorithm: str,
    out: Array | None,
) -> Array:
    """The gradient with respect to the weight; see :func:`fastconv.conv2d_backward_weight`."""
    backend = _dispatch.backend(grad_out=grad_out, x=x, out=out)
    _checks.array("x", x, (rank + 2, rank + 1))
    weight_shape = _checks.shape_argument("weight_shape", weight_shape, (rank + 2,))
    window, groups, shape = _checks.convolution(
        "x", x.shape, "weight_shape", weight_shape, stride, padding, dilation, groups
    )
    _checks.algorithm(algorithm, window, rank)
    _checks.shape("grad_out", grad_out, shape)
    _checks.same_dtype("grad_out", grad_out, "x", x)
    _checks.output(out, weight_shape, x.dtype)
    unbatched = x.ndim == rank + 1
    grad_out, x = with_batch(grad_out, unbatched), with_batch(x, unbatched)
    grad_weight: Array = backend.conv_backward_weight(grad_out, x, weight_shape, window, groups, out, algorithm)
    return grad_weight


# ---------------------------------------------------------------------------------------------------------- transposed
@_dispatch.operation
def transposed_forward(
    rank: int,
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Sizes,
    padding: Padding,
    output_padding: Sizes,
    groups: int,
    dilation: Sizes,
    out: Array | None,
) -> Array:
    """The transposed convolution of ``x``; see :func:`fastconv.conv_transpose2d`."""
    backend = _dispatch.backend(x=x, weight=weight, bias=bias, out=out)
    _checks.array("x", x, (rank + 2, rank + 1))
    _checks.array("weight", weight, (rank + 2,))
    _checks.same_dtype("weight", weight, "x", x)
    window, groups, shape = _checks.transposed(x.shape, weight.shape, stride, padding, output_padding, groups, dilation)
    if bias is not None:
        _checks.shape("bias", bias, (weight.shape[1] * groups,))
        _checks.same_dtype("bias", bias, "x", x)
    _checks.output(out, shape, x.dtype)
    unbatched = x.ndim == rank + 1
    x, target = with_batch(x, unbatched), with_batch(out, unbatched)
    y = backend.conv_transpose_forward(x, weight, bias, (1, *shape) if unbatched else shape, window, groups, target)
    return without_batch(y, unbatched, out)


@_dispatch.operation
def transposed_backward(
    rank: int,
    grad_out: Array,
    x: Array,
    weight: Array,
    stride: Sizes,
    padding: Padding,
    output_padding: Sizes,
    groups: int,
    dilation: Sizes,
) -> ConvGrads:
    """All gradients, of which a convolution is the first; see :func:`fastconv.conv_transpose2d_backward`."""
    backend = _dispatch.backend(grad_out=grad_out, x=x, weight=weight)
    _checks.array("x", x, (rank + 2, rank + 1))
    _checks.array("weight", weight, (rank + 2,))
    _checks.same_dtype("weight", weight, "x", x)
    window, groups, shape = _checks.transposed(x.shape, weight.shape, stride, padding, output_padding, groups, dilation)
    _checks.shape("grad_out", grad_out, shape)
    _checks.same_dtype("grad_out", grad_out, "x", x)
    unbatched = x.ndim == rank + 1
    grad_out, x = with_batch(grad_out, unbatched), with_batch(x, unbatched)
    grad_x = backend.conv_forward(grad_out, weight, None, window, groups)
    grad_weight = backend.conv_backward_weight(x, grad_out, weight.shape, window, groups)
    return ConvGrads(without_batch(grad_x, unbatched), grad_weight, backend.conv_backward_bias(grad_out))
