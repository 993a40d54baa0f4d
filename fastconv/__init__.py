"""Fast convolution, pooling and the other layers of convolutional networks on NumPy arrays."""

from fastconv.activation import leaky_relu, leaky_relu_backward, relu, relu_backward
from fastconv.conv import ConvGrads, conv2d, conv2d_backward, conv2d_backward_input, conv2d_backward_weight
from fastconv.global_pool import (
    global_avg_pool,
    global_avg_pool_backward,
    global_max_pool,
    global_max_pool_backward,
)
from fastconv.linear import LinearGrads, linear, linear_backward
from fastconv.loss import (
    cross_entropy,
    cross_entropy_backward,
    log_softmax,
    log_softmax_backward,
    softmax,
    softmax_backward,
)
from fastconv.pool import (
    MaxPooled,
    avg_pool2d,
    avg_pool2d_backward,
    max_pool2d,
    max_pool2d_backward,
    sum_pool2d,
    sum_pool2d_backward,
)

__all__ = [
    "ConvGrads",
    "LinearGrads",
    "MaxPooled",
    "avg_pool2d",
    "avg_pool2d_backward",
    "conv2d",
    "conv2d_backward",
    "conv2d_backward_input",
    "conv2d_backward_weight",
    "cross_entropy",
    "cross_entropy_backward",
    "global_avg_pool",
    "global_avg_pool_backward",
    "global_max_pool",
    "global_max_pool_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "linear",
    "linear_backward",
    "log_softmax",
    "log_softmax_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "relu",
    "relu_backward",
    "softmax",
    "softmax_backward",
    "sum_pool2d",
    "sum_pool2d_backward",
]

__version__ = "0.1.0"
