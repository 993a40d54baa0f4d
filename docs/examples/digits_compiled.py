"""
A training step in compiled code
================================

The network of :ref:`sphx_glr_gallery_digits.py` once more, with its whole training step as one function that Numba
compiles: fastconv's functions can be called there like NumPy's. Then a step that shares every batch out among threads
by a loop of its own. It gives the same numbers, bit for bit, however many threads there are.

Run it with ``python digits_compiled.py``; it takes a few seconds and leaves its figures in ``figures/``.
"""

# %%
# Setup
# -----

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numba
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm.auto import tqdm

import fastconv as fc

matplotlib.use("Agg")  # figures become files; no window is needed
import matplotlib.pyplot as plt

# %%
# The data and the network
# ------------------------
# Images of 8 x 8 pixels from 0 to 1, a quarter of them held out. Two convolutions with ReLU and max-pooling, then a
# dense layer.


def load():
    """Training images and labels, then the held-out ones."""
    digits = load_digits()
    images = (digits.images[:, np.newaxis] / 16).astype(np.float32)
    train, test, train_labels, test_labels = train_test_split(
        images, digits.target, test_size=0.25, random_state=0, stratify=digits.target
    )
    return train, train_labels, test, test_labels


class Parameters(NamedTuple):
    """Weights and biases of the three layers, or their gradients, or velocities."""

    weight1: np.ndarray
    bias1: np.ndarray
    weight2: np.ndarray
    bias2: np.ndarray
    weight3: np.ndarray
    bias3: np.ndarray


def initialise(rng):
    """Random weights and no biases."""

    def normal(*shape):
        return rng.standard_normal(shape, dtype=np.float32) * np.float32(np.sqrt(2 / np.prod(shape[1:])))

    def zeros(count):
        return np.zeros(count, np.float32)

    layers = normal(32, 1, 5, 5), normal(64, 32, 3, 3), normal(10, 64 * 2 * 2)
    return Parameters(*(array for weight in layers for array in (weight, zeros(len(weight)))))


# %%
# The step
# --------
# What is below ``@numba.njit`` is the step of the plain example: the same calls with the same arguments. Options like
# ``padding=2`` are constants, and named tuples come back as named tuples. ``nogil`` says that other Python threads may
# run meanwhile.
#
# In compiled code these functions run on the thread that calls them. The first two calls with arguments of some shapes
# go through Python, where they are checked and planned; later ones run the kernels alone.


@numba.njit(nogil=True)
def forward(images, p):
    """One score for each of the ten digits."""
    pool1 = fc.max_pool2d(fc.conv2d(images, p.weight1, p.bias1, padding=2, activation="relu"), 2)
    pool2 = fc.max_pool2d(fc.conv2d(pool1, p.weight2, p.bias2, padding=1, activation="relu"), 2)
    return fc.linear(pool2.reshape(len(images), -1), p.weight3, p.bias3)


@numba.njit(nogil=True)
def gradients(images, labels, p):
    """The loss, and its gradient with respect to every parameter."""
    conv1 = fc.conv2d(images, p.weight1, p.bias1, padding=2, activation="relu")
    pool1, indices1 = fc.max_pool2d(conv1, 2, return_indices=True)
    conv2 = fc.conv2d(pool1, p.weight2, p.bias2, padding=1, activation="relu")
    pool2, indices2 = fc.max_pool2d(conv2, 2, return_indices=True)
    features = pool2.reshape(len(images), -1)
    logits = fc.linear(features, p.weight3, p.bias3)

    dense = fc.linear_backward(fc.cross_entropy_backward(logits, labels), features, p.weight3)
    grad_pool2 = dense.x.reshape(pool2.shape)
    grad_conv2 = fc.relu_backward(fc.max_pool2d_backward(grad_pool2, indices2, conv2.shape), conv2)
    layer2 = fc.conv2d_backward(grad_conv2, pool1, p.weight2, padding=1)
    grad_conv1 = fc.relu_backward(fc.max_pool2d_backward(layer2.x, indices1, conv1.shape), conv1)
    layer1 = fc.conv2d_backward(grad_conv1, images, p.weight1, padding=2)
    grads = Parameters(layer1.weight, layer1.bias, layer2.weight, layer2.bias, dense.weight, dense.bias)
    return fc.cross_entropy(logits, labels), grads


@numba.njit(nogil=True)
def descend(parameter, velocity, gradient, rate):
    """Gradient descent with momentum and weight decay, in place."""
    velocity *= np.float32(0.9)
    velocity += gradient + np.float32(4e-3) * parameter
    parameter -= rate * velocity


@numba.njit(nogil=True)
def update(parameters, velocities, grads, rate):
    """One step of descent for every parameter."""
    descend(parameters.weight1, velocities.weight1, grads.weight1, rate)
    descend(parameters.bias1, velocities.bias1, grads.bias1, rate)
    descend(parameters.weight2, velocities.weight2, grads.weight2, rate)
    descend(parameters.bias2, velocities.bias2, grads.bias2, rate)
    descend(parameters.weight3, velocities.weight3, grads.weight3, rate)
    descend(parameters.bias3, velocities.bias3, grads.bias3, rate)


@numba.njit(nogil=True)
def step(images, labels, parameters, velocities, rate):
    """One step of training; returns the loss."""
    loss, grads = gradients(images, labels, parameters)
    update(parameters, velocities, grads, rate)
    return loss


# %%
# The step on many threads
# ------------------------
# Data parallelism in one loop: every turn of the ``prange`` computes the gradients of its shard of the batch, on the
# thread that it runs on, and leaves them in a row of its own. The rows are then added up in the order of the shards, so
# that the sum does not depend on who was first.


@numba.njit(nogil=True)
def mean(rows, like):
    """The mean of the rows, which are added up in their order, in the shape of another array."""
    total = np.zeros(like.size, np.float32)
    for row in rows:
        total += row
    return (total / np.float32(len(rows))).reshape(like.shape)


@numba.njit(parallel=True)
def parallel_step(images, labels, p, velocities, rate, shards=4):
    """The same step, by shards of equal size."""
    size = len(images) // shards
    losses = np.zeros(shards, np.float32)
    weight1, bias1 = np.zeros((shards, p.weight1.size), np.float32), np.zeros((shards, p.bias1.size), np.float32)
    weight2, bias2 = np.zeros((shards, p.weight2.size), np.float32), np.zeros((shards, p.bias2.size), np.float32)
    weight3, bias3 = np.zeros((shards, p.weight3.size), np.float32), np.zeros((shards, p.bias3.size), np.float32)
    for s in numba.prange(shards):
        loss, grads = gradients(images[s * size : (s + 1) * size], labels[s * size : (s + 1) * size], p)
        losses[s] = loss
        weight1[s], bias1[s] = grads.weight1.reshape(-1), grads.bias1
        weight2[s], bias2[s] = grads.weight2.reshape(-1), grads.bias2
        weight3[s], bias3[s] = grads.weight3.reshape(-1), grads.bias3
    total = Parameters(
        mean(weight1, p.weight1), mean(bias1, p.bias1), mean(weight2, p.weight2), mean(bias2, p.bias2),
        mean(weight3, p.weight3), mean(bias3, p.bias3),
    )  # fmt: skip
    update(p, velocities, total, rate)
    return losses.mean()


# %%
# Training
# --------
# Every Numba function keeps its Python form as ``py_func``: the step that calls fastconv from Python needs no second
# writing. All steps see the same images in the same order.


def python_step(images, labels, parameters, velocities, rate):
    """The same step with the calls made by Python."""
    loss, grads = gradients.py_func(images, labels, parameters)
    update(parameters, velocities, grads, rate)
    return loss


def shifted(images, rng):
    """Each image moved by -1, 0 or 1 pixels on both axes."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    corners = rng.integers(0, 3, (len(images), 2))
    return np.stack([image[:, i : i + 8, j : j + 8] for image, (i, j) in zip(padded, corners, strict=True)])


def train(take_step, images, labels, epochs, seed=0, batch=32, rate=0.05):
    """Parameters that were learnt, the mean loss of every epoch, and the seconds that the fastest epoch took."""
    rng = np.random.default_rng(seed)
    parameters = initialise(rng)
    velocities = Parameters(*(np.zeros_like(parameter) for parameter in parameters))
    losses, seconds = [], []
    for epoch in tqdm(range(epochs), desc=take_step.__name__, unit="epoch"):
        order = rng.permutation(len(images))[: len(images) // batch * batch].reshape(-1, batch)
        total, spent = 0.0, 0.0
        for i, chosen in enumerate(order):
            x, y = shifted(images[chosen], rng), labels[chosen]
            here = np.float32(rate * (1 + np.cos(np.pi * (epoch + i / len(order)) / epochs)) / 2)
            start = time.perf_counter()
            total += take_step(x, y, parameters, velocities, here)
            spent += time.perf_counter() - start
        losses.append(total / len(order))
        seconds.append(spent)
    return parameters, losses, min(seconds)


# %%
# All together
# ------------


def plot_losses(losses):
    """Draw the losses of all steps over the epochs."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for width, (name, values) in zip((7, 3, 1), losses.items(), strict=True):
        axes.semilogy(range(1, len(values) + 1), values, linewidth=width, label=name)
    axes.set(title="Loss while learning", xlabel="epoch", ylabel="mean cross-entropy")
    axes.legend()
    axes.grid(alpha=0.3)
    return figure


def plot_times(seconds):
    """Draw how long an epoch takes with each step."""
    figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
    bars = axes.barh(list(seconds), [1e3 * value for value in seconds.values()])
    axes.bar_label(bars, fmt="%.0f", padding=3)
    axes.set(title="Steps of an epoch, in milliseconds", xlabel=f"on {numba.get_num_threads()} threads")
    axes.margins(x=0.1)
    return figure


def main(arguments=None):
    """Train with each step, and save the figures; returns the share of held-out digits that were read right."""
    parser = argparse.ArgumentParser(description="Train a small network in compiled code.")
    parser.add_argument("--output", type=Path, default=Path("figures"), help="folder of the figures")
    parser.add_argument("--quick", action="store_true", help="train for a moment only")
    options = parser.parse_args(arguments)

    images, labels, test_images, test_labels = load()
    losses, seconds = {}, {}
    for take_step in (python_step, step, parallel_step):
        name = take_step.__name__
        parameters, losses[name], seconds[name] = train(take_step, images, labels, epochs=2 if options.quick else 20)
        print(f"{name}: loss {losses[name][-1]:.6f}, {1e3 * seconds[name]:.0f} ms for the steps of an epoch")
    predictions = forward(test_images, parameters).argmax(axis=1)
    accuracy = float(np.mean(predictions == test_labels))
    print(f"{accuracy:.2%} of {len(test_labels)} held-out digits read correctly")

    figures = {"digits_compiled_loss": plot_losses(losses), "digits_compiled_times": plot_times(seconds)}
    options.output.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(options.output / f"{name}.png", dpi=120)
    print(f"{len(figures)} figures in {options.output}")
    return accuracy


if __name__ == "__main__":
    main()
