"""Convolution: every named layer, forward with and without a packed weight, and both gradients."""

import numpy as np

import fastconv as fc

from .layers import CONV_LAYERS, CONV_TRANSPOSE_LAYERS

_LAYERS = {layer.name: layer for layer in CONV_LAYERS if hasattr(fc, layer.function)}


class Conv:
    """Channels-first arrays of float32 in and out."""

    params = ([*_LAYERS], ["forward", "forward_packed", "backward_input", "backward_weight"])
    param_names = ("layer", "pass")

    def setup(self, name: str, pass_: str) -> None:
        layer = _LAYERS[name]
        random = np.random.default_rng(0)
        x, weight, grad_out = (
            random.standard_normal(shape, np.float32)
            for shape in (layer.input_shape, layer.weight_shape, layer.output_shape)
        )
        bias = np.zeros(layer.out_channels, np.float32)
        packed = fc.pack(weight, layer.stride, layer.dilation, layer.groups)
        forward, backward_input, backward_weight = (
            getattr(fc, layer.function + end) for end in ("", "_backward_input", "_backward_weight")
        )
        self.call = {
            "forward": lambda: forward(x, weight, bias, **layer.options),
            "forward_packed": lambda: forward(x, packed, bias, **layer.options),
            "backward_input": lambda: backward_input(grad_out, weight, x.shape, **layer.options),
            "backward_weight": lambda: backward_weight(grad_out, x, weight.shape, **layer.options),
        }[pass_]
        self.call()

    def time_conv(self, name: str, pass_: str) -> None:
        self.call()


class OneAxis:
    """The same convolution along one axis, as three functions can be asked for it; all should take equally long."""

    params = (["conv1d", "conv2d (1, k)", "conv2d (k, 1)"], ["forward", "backward_input", "backward_weight"])
    param_names = ("form", "pass")

    def setup(self, form: str, pass_: str) -> None:
        random = np.random.default_rng(0)
        axes = {"conv1d": (), "conv2d (1, k)": (2,), "conv2d (k, 1)": (3,)}[form]
        x, weight, grad_out = (
            np.expand_dims(random.standard_normal(shape, np.float32), axes)
            for shape in ((4, 64, 4096), (64, 64, 7), (4, 64, 4096))
        )
        padding = {"conv1d": 3, "conv2d (1, k)": (0, 3), "conv2d (k, 1)": (3, 0)}[form]
        name = form.partition(" ")[0]
        forward, backward_input, backward_weight = (
            getattr(fc, name + end) for end in ("", "_backward_input", "_backward_weight")
        )
        self.call = {
            "forward": lambda: forward(x, weight, padding=padding),
            "backward_input": lambda: backward_input(grad_out, weight, x.shape, padding=padding),
            "backward_weight": lambda: backward_weight(grad_out, x, weight.shape, padding=padding),
        }[pass_]
        self.call()

    def time_conv(self, form: str, pass_: str) -> None:
        self.call()


class ConvTranspose:
    """Transposed convolutions, in the table as the convolutions that they reverse."""

    params = ([layer.name for layer in CONV_TRANSPOSE_LAYERS], ["forward", "backward"])
    param_names = ("layer", "pass")

    def setup(self, name: str, pass_: str) -> None:
        layer = next(layer for layer in CONV_TRANSPOSE_LAYERS if layer.name == name)
        random = np.random.default_rng(0)
        x, weight, grad_out = (
            random.standard_normal(shape, np.float32)
            for shape in (layer.output_shape, layer.weight_shape, layer.input_shape)
        )
        options = {"stride": layer.stride, "padding": layer.padding}
        self.call = {
            "forward": lambda: fc.conv_transpose2d(x, weight, **options),
            "backward": lambda: fc.conv_transpose2d_backward(grad_out, x, weight, **options),
        }[pass_]
        self.call()

    def time_conv_transpose(self, name: str, pass_: str) -> None:
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


class Half:
    """What storage in 16 bits costs beside float32: sums bound by arithmetic, by memory, and a depthwise layer."""

    params = (["vgg.conv3_2", "res.2.1x1", "res.5.3x3", "mob.dw112"], ["float32", "float16"])
    param_names = ("layer", "dtype")

    def setup(self, name: str, dtype: str) -> None:
        self.layer = _LAYERS[name]
        random = np.random.default_rng(0)
        shapes = self.layer.input_shape, self.layer.weight_shape
        self.x, self.weight = (random.standard_normal(shape, np.float32).astype(dtype) for shape in shapes)
        self.time_forward(name, dtype)

    def time_forward(self, name: str, dtype: str) -> None:
        fc.conv2d(self.x, self.weight, **self.layer.options)


class Denormal:
    """What denormal numbers cost: inputs of which all are, beside ordinary ones."""

    params = (["res.2.3x3", "res.2.1x1", "mob.dw14"], ["forward", "backward_weight"], ["normal", "denormal"])
    param_names = ("layer", "pass", "numbers")

    def setup(self, name: str, pass_: str, numbers: str) -> None:
        layer = _LAYERS[name]
        random = np.random.default_rng(0)
        shapes = layer.input_shape, layer.weight_shape, layer.output_shape
        x, weight, grad_out = (random.standard_normal(shape, np.float32) for shape in shapes)
        if numbers == "denormal":
            x *= np.float32(1e-40)
        self.call = {
            "forward": lambda: fc.conv2d(x, weight, **layer.options),
            "backward_weight": lambda: fc.conv2d_backward_weight(grad_out, x, weight.shape, **layer.options),
        }[pass_]
        self.call()

    def time_conv(self, name: str, pass_: str, numbers: str) -> None:
        self.call()
