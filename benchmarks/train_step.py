"""Whole training steps of small and large networks, in plain NumPy with fastconv and in PyTorch eager, side by side.

A step is the forward pass, the mean cross-entropy, the gradients of all parameters and their update by stochastic
gradient descent. Both start from the same parameters, take the same ten steps on the same batch first, and their losses
must agree. Then steps are timed in turns; times are medians, with one thread of its processor time.

    python benchmarks/train_step.py --threads 1
"""

from __future__ import annotations

import argparse
import concurrent.futures
import itertools
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from compare import Clock, clock_for, keep_memory, print_row, processor

Array = np.ndarray[Any, Any]
STEPS = 10  # whose losses are compared
TOLERANCE = 1e-4  # relative


# -------------------------------------------------------------------------------------------------------- the networks
class Conv(NamedTuple):
    """A convolution and ReLU."""

    in_channels: int
    out_channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1


class MaxPool(NamedTuple):
    kernel: int
    stride: int


class GlobalMaxPool(NamedTuple):
    pass


class Linear(NamedTuple):
    """A dense layer, with ReLU unless it is the last one."""

    in_features: int
    out_features: int
    relu: bool = True


class Network(NamedTuple):
    name: str
    input_shape: tuple[int, ...]
    classes: int
    rate: float  # of learning; where steps overshoot, losses multiply rounding errors
    layers: tuple[Conv | MaxPool | GlobalMaxPool | Linear, ...]


def vgg(*plan: int) -> Iterator[Conv | MaxPool]:
    """3x3 convolutions with so many channels; 0 stands for a pooling."""
    channels = 3
    for number in plan:
        if number == 0:
            yield MaxPool(2, 2)
        else:
            yield Conv(channels, number, 3, padding=1)
            channels = number


NETWORKS = (
    Network(
        "LeNet, batch 64", (64, 1, 28, 28), 10, 1e-2,
        (
            Conv(1, 6, 5, padding=2), MaxPool(2, 2), Conv(6, 16, 5), MaxPool(2, 2),
            Linear(400, 120), Linear(120, 84), Linear(84, 10, relu=False),
        ),
    ),
    Network(
        "two layers, batch 16", (16, 3, 32, 32), 1000, 1e-2,
        (Conv(3, 50, 3), Conv(50, 100, 3), GlobalMaxPool(), Linear(100, 1000, relu=False)),
    ),
    Network(
        "AlexNet, batch 4", (4, 3, 227, 227), 1000, 3e-5,
        (
            Conv(3, 96, 11, stride=4), MaxPool(3, 2), Conv(96, 256, 5, padding=2, groups=2), MaxPool(3, 2),
            Conv(256, 384, 3, padding=1), Conv(384, 384, 3, padding=1, groups=2),
            Conv(384, 256, 3, padding=1, groups=2), MaxPool(3, 2),
            Linear(9216, 4096), Linear(4096, 4096), Linear(4096, 1000, relu=False),
        ),
    ),
    Network(
        "VGG-11, batch 1", (1, 3, 224, 224), 1000, 2e-7,
        (
            *vgg(64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0),
            Linear(25088, 4096), Linear(4096, 4096), Linear(4096, 1000, relu=False),
        ),
    ),
)  # fmt: skip


def initial(network: Network) -> list[tuple[Array, Array]]:
    """A weight and a bias for every layer that has them; they keep the scale of what flows through (He et al. 2015)."""
    random, parameters = np.random.default_rng(0), []
    for layer in network.layers:
        if isinstance(layer, Conv):
            shape: tuple[int, ...] = (layer.out_channels, layer.in_channels // layer.groups, layer.kernel, layer.kernel)
        elif isinstance(layer, Linear):
            shape = (layer.out_features, layer.in_features)
        else:
            continue
        weight = random.standard_normal(shape, np.float32)
        weight *= np.float32(math.sqrt(2 / math.prod(shape[1:])))
        parameters.append((weight, np.zeros(shape[0], np.float32)))
    return parameters


# ------------------------------------------------------------------------------------------------ in NumPy and fastconv
class Trainer(Protocol):
    version: str

    def step(self) -> float:
        """One training step; returns the loss before it."""


class FastConv:
    """The network as a loop over its layers; what the backward pass needs is kept in a list."""

    name = "fastconv"

    def __init__(self, network: Network, images: Array, labels: Array, threads: int) -> None:
        import numba

        import fastconv

        numba.set_num_threads(threads)
        self.fc, self.version = fastconv, fastconv.__version__
        self.layers, self.images, self.labels = network.layers, images, labels
        self.parameters, self.descend = initial(network), Descent(network.rate, threads)

    def step(self) -> float:
        logits, kept = self.forward()
        loss = self.fc.cross_entropy(logits, self.labels)
        self.backward(self.fc.cross_entropy_backward(logits, self.labels), kept)
        return float(loss)

    def forward(self) -> tuple[Array, list[Any]]:
        """The logits, and for every layer its input and what else its backward pass needs."""
        fc, parameters, x, kept = self.fc, iter(self.parameters), self.images, []
        for layer in self.layers:
            if isinstance(layer, Conv):
                weight, bias = next(parameters)
                options = layer.stride, layer.padding, 1, layer.groups
                y = fc.conv2d(x, weight, bias, *options, activation="relu")
                kept.append((x, y))
            elif isinstance(layer, Linear):
                weight, bias = next(parameters)
                rows = x.reshape(len(x), -1)
                y = fc.linear(rows, weight, bias, activation="relu" if layer.relu else None)
                kept.append((rows, y))
            elif isinstance(layer, MaxPool):
                y, indices = fc.max_pool2d(x, layer.kernel, layer.stride, return_indices=True)
                kept.append((x, indices))
            else:
                y, indices = fc.global_max_pool(x, return_indices=True)
                kept.append((x, indices))
            x = y
        return x, kept

    def backward(self, grad: Array, kept: list[Any]) -> None:
        """Go back through the layers; each one's parameters change as soon as its gradients are there."""
        fc, parameters = self.fc, list(self.parameters)
        for index in range(len(self.layers) - 1, -1, -1):
            layer, (x, other) = self.layers[index], kept.pop()
            if isinstance(layer, MaxPool):
                grad = fc.max_pool2d_backward(grad.reshape(other.shape), other, x.shape)
            elif isinstance(layer, GlobalMaxPool):
                grad = fc.global_max_pool_backward(grad, other, x.shape)
            elif isinstance(layer, Linear):
                weight, bias = parameters.pop()
                grads = fc.linear_backward(fc.relu_backward(grad, other) if layer.relu else grad, x, weight)
                self.descend(weight, grads.weight)
                self.descend(bias, grads.bias)
                grad = grads.x
            else:
                weight, bias = parameters.pop()
                options = layer.stride, layer.padding, 1, layer.groups
                grad = fc.relu_backward(grad.reshape(other.shape), other)
                if index > 0:
                    grads = fc.conv2d_backward(grad, x, weight, *options)
                    grad_weight, grad_bias, grad = grads.weight, grads.bias, grads.x
                else:  # nobody asks for the gradient of the images
                    grad_weight = fc.conv2d_backward_weight(grad, x, weight.shape, *options)
                    grad_bias = grad.sum((2, 3)).sum(0)
                self.descend(weight, grad_weight)
                self.descend(bias, grad_bias)


class Descent:
    """parameter -= rate * grad, in pieces that stay in cache, since NumPy makes two passes of it; by threads."""

    piece, least = 1 << 17, 1 << 20  # numbers at a time, and from how many on a second thread pays

    def __init__(self, rate: float, threads: int) -> None:
        self.rate, self.threads = np.float32(rate), threads
        self.pool = concurrent.futures.ThreadPoolExecutor(threads)

    def __call__(self, parameter: Array, grad: Array) -> None:
        parameter, grad = parameter.reshape(-1), grad.reshape(-1)
        parts = min(self.threads, 1 + parameter.size // self.least)
        cuts = [parameter.size * part // parts for part in range(parts + 1)]
        pairs = [(parameter[start:stop], grad[start:stop]) for start, stop in itertools.pairwise(cuts)]
        if parts == 1:
            self.move(*pairs[0])
        else:  # NumPy releases the interpreter's lock while it computes
            list(self.pool.map(self.move, *zip(*pairs, strict=True)))

    def move(self, parameter: Array, grad: Array) -> None:
        scaled = np.empty(min(self.piece, parameter.size), np.float32)
        for start in range(0, parameter.size, self.piece):
            here = parameter[start : start + self.piece]
            np.multiply(grad[start : start + self.piece], self.rate, out=scaled[: here.size])
            np.subtract(here, scaled[: here.size], out=here)


# ----------------------------------------------------------------------------------------------------------- in PyTorch
class PyTorch:
    """The network as torch.nn modules, trained by torch.optim.SGD."""

    name = "PyTorch"

    def __init__(self, network: Network, images: Array, labels: Array, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.torch, self.version = torch, torch.__version__
        self.images, self.labels = torch.from_numpy(images), torch.from_numpy(labels)
        self.model = torch.nn.Sequential(*self.modules(network))
        with torch.no_grad():
            for parameter, array in zip(
                self.model.parameters(), (array for pair in initial(network) for array in pair), strict=True
            ):
                parameter.copy_(torch.from_numpy(array))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=network.rate)

    def modules(self, network: Network) -> Iterator[Any]:
        nn, flat = self.torch.nn, False
        for layer in network.layers:
            if isinstance(layer, Conv):
                yield nn.Conv2d(*layer[:5], groups=layer.groups)
                yield nn.ReLU(inplace=True)
            elif isinstance(layer, MaxPool):
                yield nn.MaxPool2d(layer.kernel, layer.stride)
            elif isinstance(layer, GlobalMaxPool):
                yield nn.AdaptiveMaxPool2d(1)
            else:
                if not flat:
                    yield nn.Flatten()
                    flat = True
                yield nn.Linear(layer.in_features, layer.out_features)
                if layer.relu:
                    yield nn.ReLU(inplace=True)

    def step(self) -> float:
        self.optimizer.zero_grad()
        loss = self.torch.nn.functional.cross_entropy(self.model(self.images), self.labels)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())


# ------------------------------------------------------------------------------------------------------------ measuring
def check(network: Network, trainers: list[Any]) -> None:
    """The losses of the first steps agree."""
    for step in range(STEPS):
        first, second = (trainer.step() for trainer in trainers)
        if not abs(first - second) <= TOLERANCE * abs(second):
            raise SystemExit(f"{network.name}, step {step}: losses {first!r} and {second!r} differ")


def measure(network: Network, threads: int, rounds: int) -> list[float]:
    """Median seconds of a step, of fastconv and of PyTorch."""
    random = np.random.default_rng(1)
    images = random.standard_normal(network.input_shape, np.float32)
    labels = random.integers(network.classes, size=len(images))
    trainers = [make(network, images.copy(), labels.copy(), threads) for make in (FastConv, PyTorch)]
    check(network, trainers)
    times: list[list[float]] = [[], []]
    for _ in range(rounds):
        for trainer, series in zip(trainers, times, strict=True):
            time.sleep(0.005)  # threads of the other may spin for some milliseconds
            trainer.step()
            series.append(timed(trainer.step, clock_for(threads)))
    return [statistics.median(series) for series in times]


def timed(step: Callable[[], float], clock: Clock) -> float:
    """Seconds of a step, on average over a tenth of a second."""
    count, start = 0, clock()
    while count == 0 or clock() - start < 0.1:
        step()
        count += 1
    return (clock() - start) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--networks", default="", help="only networks whose name contains one of these")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    os.environ["NUMBA_NUM_THREADS"] = str(max(options.threads, int(os.environ.get("NUMBA_NUM_THREADS", "1"))))
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    keep_memory()
    print(f"{processor()}, {options.threads} thread(s), float32, Python {platform.python_version()}")
    widths, ratios = (24, 14, 14, 8), []
    print_row(["network", "fastconv ms", "PyTorch ms", "ratio"], widths)
    for network in NETWORKS:
        if any(name in network.name for name in options.networks.split(",")):
            own, peer = measure(network, options.threads, options.rounds)
            ratios.append(peer / own)
            print_row([network.name, f"{own * 1e3:.4g}", f"{peer * 1e3:.4g}", f"{peer / own:.2f}"], widths)
    if not ratios:
        raise SystemExit("no network matches")
    print(f"geometric mean {math.exp(statistics.mean(map(math.log, ratios))):.2f}, worst {min(ratios):.2f}")


if __name__ == "__main__":
    main()
