"""Pooling, forward and backward."""

import numpy as np

import fastconv as fc

from .layers import GLOBAL_POOL_LAYERS, POOL_LAYERS

_LAYERS = {layer.name: layer for layer in POOL_LAYERS}


class Pool2d:
    """Windows that slide."""

    params = ([*_LAYERS],)
    param_names = ("layer",)

    def setup(self, name: str) -> None:
        layer = _LAYERS[name]
        random = np.random.default_rng(0)
        self.x = random.standard_normal(layer.input_shape, np.float32)
        self.grad_out = random.standard_normal(layer.output_shape, np.float32)
        self.window = {"kernel_size": layer.kernel, "stride": layer.stride, "padding": layer.padding}
        _, self.indices = fc.max_pool2d(self.x, **self.window, return_indices=True)
        for measured in (self.time_max, self.time_max_backward, self.time_avg, self.time_avg_backward):
            measured(name)

    def time_max(self, name: str) -> None:
        fc.max_pool2d(self.x, **self.window)

    def time_max_with_indices(self, name: str) -> None:
        fc.max_pool2d(self.x, **self.window, return_indices=True)

    def time_max_backward(self, name: str) -> None:
        fc.max_pool2d_backward(self.grad_out, self.indices, self.x.shape)

    def time_avg(self, name: str) -> None:
        fc.avg_pool2d(self.x, **self.window)

    def time_avg_backward(self, name: str) -> None:
        fc.avg_pool2d_backward(self.grad_out, self.x.shape, **self.window)


class GlobalPool:
    """One value per channel."""

    params = ([*GLOBAL_POOL_LAYERS],)
    param_names = ("layer",)

    def setup(self, name: str) -> None:
        self.x = np.random.default_rng(0).standard_normal(GLOBAL_POOL_LAYERS[name], np.float32)
        self.time_avg(name)
        self.time_max(name)

    def time_avg(self, name: str) -> None:
        fc.global_avg_pool(self.x)

    def time_max(self, name: str) -> None:
        fc.global_max_pool(self.x)
