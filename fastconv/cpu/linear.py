"""The dense layer, forward and backward: three products of matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.cpu import layout
from fastconv.cpu._jit import made
from fastconv.cpu.bias import conv_backward_bias, padded_bias
from fastconv.cpu.product import multiply


def linear_forward(x: Any, weight: Any, bias: Any, relu: bool = False, out: Any = None, prepared: Any = None) -> Any:
    """x @ weight.T + bias, then ReLU; x (B, in_features), weight (out_features, in_features)."""
    result = layout.target(out, (x.shape[0], weight.shape[0]), x.dtype, False, x, weight, bias)
    added = padded_bias(bias, 1, weight.shape[0], x.dtype) if bias is not None or relu else None
    multiply(x, weight.T, result, added, relu)
    return layout.deliver(result, out)


def linear_backward_input(grad_out: Any, weight: Any) -> Any:
    """grad_out @ weight."""
    return _product(grad_out, weight)


def linear_backward_weight(grad_out: Any, x: Any) -> Any:
    """grad_out.T @ x."""
    return _product(grad_out.T, x)


def linear_backward_bias(grad_out: Any) -> Any:
    """grad_out summed over the batch."""
    return conv_backward_bias(grad_out.T[None])


def _product(a: Any, b: Any) -> Any:
    result = made(np.empty((a.shape[0], b.shape[1]), a.dtype))
    multiply(a, b, result)
    return result
