"""Dense layers, forward with and without a packed weight, and their gradients."""

import numpy as np

import fastconv as fc

from .layers import LINEAR_LAYERS

_LAYERS = {layer.name: layer for layer in LINEAR_LAYERS}


class Linear:
    """Arrays of float32."""

    params = ([*_LAYERS], ["forward", "forward_packed", "backward"])
    param_names = ("layer", "pass")

    def setup(self, name: str, pass_: str) -> None:
        layer = _LAYERS[name]
        random = np.random.default_rng(0)
        shapes = (layer.batch, layer.in_features), (layer.out_features, layer.in_features)
        x, weight = (random.standard_normal(shape, np.float32) for shape in shapes)
        grad_out = random.standard_normal((layer.batch, layer.out_features), np.float32)
        packed = fc.pack(weight)
        self.call = {
            "forward": lambda: fc.linear(x, weight),
            "forward_packed": lambda: fc.linear(x, packed),
            "backward": lambda: fc.linear_backward(grad_out, x, weight),
        }[pass_]
        self.call()

    def time_linear(self, name: str, pass_: str) -> None:
        self.call()
