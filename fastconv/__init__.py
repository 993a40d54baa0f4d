"""Fast convolution, pooling and the other layers of convolutional networks on NumPy arrays."""

from fastconv.activation import leaky_relu, leaky_relu_backward, relu, relu_backward
from fastconv.conv import ConvGrads, conv2d, conv2d_backward, conv2d_backward_input, conv2d_backward_weight
from fastconv.linear import LinearGrads, linear, linear_backward
from fastconv.loss import (
    cross_entropy,
    cross_entropy_backward,
    log_softmax,
    log_softmax_backward,
    softmax,
    softmax_backward,
)

__all__ = [
    "ConvGrads",
    "LinearGrads",
    "conv2d",
    "conv2d_backward",
    "conv2d_backward_input",
    "conv2d_backward_weight",
    "cross_entropy",
    "cross_entropy_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "linear",
    "linear_backward",
    "log_softmax",
    "log_softmax_backward",
    "relu",
    "relu_backward",
    "softmax",
    "softmax_backward",
]

__version__ = "0.1.0"
