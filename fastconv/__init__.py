"""Fast convolution, pooling and the other layers of convolutional networks on NumPy arrays."""

from fastconv.conv import ConvGrads, conv2d, conv2d_backward, conv2d_backward_input, conv2d_backward_weight
from fastconv.linear import LinearGrads, linear, linear_backward

__all__ = [
    "ConvGrads",
    "LinearGrads",
    "conv2d",
    "conv2d_backward",
    "conv2d_backward_input",
    "conv2d_backward_weight",
    "linear",
    "linear_backward",
]

__version__ = "0.1.0"
