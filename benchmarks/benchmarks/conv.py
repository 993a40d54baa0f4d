"""Convolution: the three passes of every named layer."""

import numpy as np

import fastconv as fc

from .layers import CONV_LAYERS

_LAYERS = {layer.name: layer for layer in CONV_LAYERS}


class Conv2d:
    """Channels-first arrays of float32 in and out."""

    params = ([*_LAYERS], ["forward", "backward_input", "backward_weight"])
    param_names = ("layer", "pass")

    def setup(self, name: str, pass_: str) -> None:
        layer = _LAYERS[name]
        random = np.random.default_rng(0)
        x, weight, grad_out = (
            random.standard_normal(shape, np.float32)
            for shape in (layer.input_shape, layer.weight_shape, layer.output_shape)
        )
        bias = np.zeros(layer.out_channels, np.float32)
        self.call = {
            "forward": lambda: fc.conv2d(x, weight, bias, **layer.options),
            "backward_input": lambda: fc.conv2d_backward_input(grad_out, weight, x.shape, **layer.options),
            "backward_weight": lambda: fc.conv2d_backward_weight(grad_out, x, weight.shape, **layer.options),
        }[pass_]
        self.call()

    def time_conv2d(self, name: str, pass_: str) -> None:
        self.call()


class Conv2dMemoryOrder:
    """One layer in both memory orders and dtypes."""

    params = (["channels_first", "channels_last"], ["float32", "float64"])
    param_names = ("order", "dtype")

    def setup(self, order: str, dtype: str) -> None:
        layer = _LAYERS["res.2.3x3"]
        random = np.random.default_rng(0)
        self.x = random.standard_normal(layer.input_shape, np.dtype(dtype))
        if order == "channels_last":
            self.x = np.ascontiguousarray(self.x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        self.weight = random.standard_normal(layer.weight_shape, np.dtype(dtype))
        self.time_forward(order, dtype)

    def time_forward(self, order: str, dtype: str) -> None:
        fc.conv2d(self.x, self.weight, padding=1)
