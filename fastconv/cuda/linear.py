"""The dense layer: a 1x1 convolution whose pixels are the batch, in channels-last order."""

from __future__ import annotations

from typing import Any

from fastconv._window import Window, make_window
from fastconv.cuda import arrays, layout, strided
from fastconv.cuda.conv import conv_backward_bias, conv_backward_input, conv_backward_weight, conv_forward


def _pixels(x: Any) -> Any:
    """(batch, features) seen as (1, features, batch)."""
    return strided.view(x, (1, x.shape[1], x.shape[0]), (x.shape[0] * x.shape[1], *strided.steps(x)[::-1]))


def _matrix(weight: Any) -> Any:
    """(rows, columns) seen as a weight of one tap."""
    return strided.view(weight, (*weight.shape, 1), (*strided.steps(weight), 1))


def _window(batch: int) -> Window:
    return make_window((batch,), (1,), (1,), ((0, 0),), (1,))


def linear_forward(x: Any, weight: Any, bias: Any, relu: bool = False, out: Any = None, prepared: Any = None) -> Any:
    """x @ weight.T + bias, then ReLU; x (B, in_features), weight (out_features, in_features)."""
    y = strided.target(out, (x.shape[0], weight.shape[0]), x, x, weight, bias)
    conv_forward(_pixels(x), _matrix(weight), bias, _window(x.shape[0]), 1, relu, _pixels(y))
    return layout.deliver(y, out)


def linear_backward_input(grad_out: Any, weight: Any) -> Any:
    """grad_out @ weight."""
    grad_x = arrays.empty(grad_out, (grad_out.shape[0], weight.shape[1]), grad_out.dtype)
    shape = (1, weight.shape[1], grad_out.shape[0])
    conv_backward_input(_pixels(grad_out), _matrix(weight), shape, _window(shape[2]), 1, _pixels(grad_x))
    return grad_x


def linear_backward_weight(grad_out: Any, x: Any) -> Any:
    """grad_out.T @ x."""
    grad_weight = arrays.empty(x, (grad_out.shape[1], x.shape[1]), x.dtype)
    target = _matrix(grad_weight)
    conv_backward_weight(_pixels(grad_out), _pixels(x), target.shape, _window(x.shape[0]), 1, target)
    return grad_weight


def linear_backward_bias(grad_out: Any) -> Any:
    """grad_out summed over the batch."""
    return conv_backward_bias(_pixels(grad_out))
