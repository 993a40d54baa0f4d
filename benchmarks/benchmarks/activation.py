"""ReLU, forward and backward, beside a plain copy of the same array."""

import numpy as np

import fastconv as fc

from .layers import ACTIVATION_LAYERS


class Relu:
    params = ([*ACTIVATION_LAYERS],)
    param_names = ("layer",)

    def setup(self, name: str) -> None:
        self.x = np.random.default_rng(0).standard_normal(ACTIVATION_LAYERS[name], np.float32)
        self.y = fc.relu(self.x)
        self.out = np.empty_like(self.x)
        self.time_relu_out(name)
        self.time_relu_backward(name)

    def time_relu(self, name: str) -> None:
        fc.relu(self.x)

    def time_relu_out(self, name: str) -> None:
        fc.relu(self.x, out=self.out)

    def time_relu_backward(self, name: str) -> None:
        fc.relu_backward(self.x, self.y)

    def time_copy(self, name: str) -> None:
        np.copyto(self.out, self.x)
