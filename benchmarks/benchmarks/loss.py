"""Softmax, log-softmax and cross-entropy, forward and backward."""

import numpy as np

import fastconv as fc

from .layers import LOSS_LAYERS


class Classes:
    """Rows of logits."""

    params = ([*LOSS_LAYERS],)
    param_names = ("layer",)

    def setup(self, name: str) -> None:
        shape = LOSS_LAYERS[name]
        self.logits = np.random.default_rng(0).standard_normal(shape, np.float32)
        self.labels = np.arange(shape[0]) % shape[1]
        self.y, self.log_y = fc.softmax(self.logits), fc.log_softmax(self.logits)
        for measured in (
            self.time_softmax_backward,
            self.time_log_softmax_backward,
            self.time_cross_entropy,
            self.time_cross_entropy_backward,
        ):
            measured(name)

    def time_softmax(self, name: str) -> None:
        fc.softmax(self.logits)

    def time_softmax_backward(self, name: str) -> None:
        fc.softmax_backward(self.logits, self.y)

    def time_log_softmax(self, name: str) -> None:
        fc.log_softmax(self.logits)

    def time_log_softmax_backward(self, name: str) -> None:
        fc.log_softmax_backward(self.logits, self.log_y)

    def time_cross_entropy(self, name: str) -> None:
        fc.cross_entropy(self.logits, self.labels)

    def time_cross_entropy_backward(self, name: str) -> None:
        fc.cross_entropy_backward(self.logits, self.labels)
