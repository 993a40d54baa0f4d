"""The dense layer: a 1x1 convolution whose pixels are the batch, in channels-last order."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv._window import Window, make_window
from fastconv.cpu.bias import conv_backward_bias
from fastconv.cpu.conv import conv_backward_input, conv_forward
from fastconv.cpu.conv_weight import conv_backward_weight


def _pixels(x: Any) -> Any:
    """(batch, features) seen as (1, features, batch)."""
    return x.T[None]


def _window(batch: int) -> Window:
    return make_window((batch,), (1,), (1,), ((0, 0),), (1,))


def linear_forward(x: Any, weight: Any, bias: Any, relu: bool = False, out: Any = None, prepared: Any = None) -> Any:
    """x @ weight.T + bias, then ReLU; x (B, in_features), weight (out_features, in_features)."""
    target = None if out is None else _pixels(out)
    window = _window(x.shape[0])
    y = conv_forward(_pixels(x), weight[:, :, None], bias, window, 1, relu, target, prepared=prepared)
    return np.ascontiguousarray(y[0].T) if out is None else out


def linear_backward_input(grad_out: Any, weight: Any) -> Any:
    """grad_out @ weight."""
    shape = (1, weight.shape[1], grad_out.shape[0])
    grad_x = conv_backward_input(_pixels(grad_out), weight[:, :, None], shape, _window(shape[2]), 1)[0].T
    return np.ascontiguousarray(grad_x)  # a copy only where a single feature makes the orders look alike


def linear_backward_weight(grad_out: Any, x: Any) -> Any:
    """grad_out.T @ x."""
    shape = (grad_out.shape[1], x.shape[1], 1)
    return conv_backward_weight(_pixels(grad_out), _pixels(x), shape, _window(x.shape[0]), 1)[:, :, 0]


def linear_backward_bias(grad_out: Any) -> Any:
    """grad_out summed over the batch."""
    return conv_backward_bias(_pixels(grad_out))
