"""
Reading handwritten digits
==========================

A network of two convolutions learns to read digits that people wrote by hand: 1,797 images of 8 x 8 pixels that come
with scikit-learn. Everything is a plain function of NumPy arrays: the forward pass keeps what the backward pass needs,
the backward pass takes the chain rule one layer at a time, and training is gradient descent with momentum in a few
lines.

Run it with ``python digits.py``; it takes a few seconds and leaves its figures in ``figures/``.
"""

# %%
# Setup
# -----

import argparse
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm.auto import tqdm

import fastconv as fc

matplotlib.use("Agg")  # figures become files; no window is needed
import matplotlib.pyplot as plt

# %%
# The data
# --------
# One channel of 8 x 8 pixels from 0 to 1. A quarter of the images is held out: the network never learns from these, so
# they tell how well it reads digits that it has not seen.


def load():
    """Training images and labels, then the held-out ones."""
    digits = load_digits()
    images = (digits.images[:, np.newaxis] / 16).astype(np.float32)
    train, test, train_labels, test_labels = train_test_split(
        images, digits.target, test_size=0.25, random_state=0, stratify=digits.target
    )
    return train, train_labels, test, test_labels


# %%
# The network
# -----------
# Convolution, ReLU, max-pooling, twice; then one dense layer. ReLU is part of the convolution's last step. The weights
# start as random numbers whose size keeps the activations' scale from layer to layer.


class Parameters(NamedTuple):
    """Weights and biases of the three layers."""

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


class Activations(NamedTuple):
    """What the forward pass computed, in its order."""

    conv1: np.ndarray  # (N, 32, 8, 8)
    pool1: np.ndarray  # (N, 32, 4, 4)
    indices1: np.ndarray
    conv2: np.ndarray  # (N, 64, 4, 4)
    pool2: np.ndarray  # (N, 64, 2, 2)
    indices2: np.ndarray
    logits: np.ndarray  # (N, 10)


def forward(images, p):
    """One score for each of the ten digits, and everything on the way there."""
    conv1 = fc.conv2d(images, p.weight1, p.bias1, padding=2, activation="relu")
    pool1, indices1 = fc.max_pool2d(conv1, 2, return_indices=True)
    conv2 = fc.conv2d(pool1, p.weight2, p.bias2, padding=1, activation="relu")
    pool2, indices2 = fc.max_pool2d(conv2, 2, return_indices=True)
    logits = fc.linear(pool2.reshape(len(images), -1), p.weight3, p.bias3)
    return Activations(conv1, pool1, indices1, conv2, pool2, indices2, logits)


# %%
# The gradient
# ------------
# The same layers from the last to the first. Each takes the gradient of the loss with respect to its output, and gives
# the gradients with respect to its weights and to its input, which is the output of the layer before.


def backward(images, labels, p, a):
    """Return the gradient of the loss with respect to every parameter."""
    grad_logits = fc.cross_entropy_backward(a.logits, labels)
    dense = fc.linear_backward(grad_logits, a.pool2.reshape(len(images), -1), p.weight3)

    grad_pool2 = dense.x.reshape(a.pool2.shape)
    grad_conv2 = fc.relu_backward(fc.max_pool2d_backward(grad_pool2, a.indices2, a.conv2.shape), a.conv2)
    layer2 = fc.conv2d_backward(grad_conv2, a.pool1, p.weight2, padding=1)

    grad_conv1 = fc.relu_backward(fc.max_pool2d_backward(layer2.x, a.indices1, a.conv1.shape), a.conv1)
    weight1 = fc.conv2d_backward_weight(grad_conv1, images, p.weight1.shape, padding=2)
    bias1 = grad_conv1.sum(axis=(0, 2, 3))  # and nothing needs the gradient with respect to the images
    return Parameters(weight1, bias1, layer2.weight, layer2.bias, dense.weight, dense.bias)


# %%
# Training
# --------
# In every epoch each image is seen once, moved by up to one pixel so that the network does not learn places by heart.
# Momentum averages the gradient over the last steps; weight decay pulls towards zero what no image needs; and the steps
# become shorter as a cosine falls, so that the end settles down.


def shifted(images, rng):
    """Each image moved by -1, 0 or 1 pixels on both axes."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    corners = rng.integers(0, 3, (len(images), 2))
    return np.stack([image[:, i : i + 8, j : j + 8] for image, (i, j) in zip(padded, corners, strict=True)])


def step(parameters, velocities, gradients, rate):
    """One step of gradient descent with momentum and weight decay, in place."""
    for parameter, velocity, gradient in zip(parameters, velocities, gradients, strict=True):
        velocity *= 0.9
        velocity += gradient + 4e-3 * parameter
        parameter -= rate * velocity


def train(images, labels, epochs, seed=0, batch=32, rate=0.05):
    """Parameters that were learnt from the images, and the mean loss of every epoch."""
    rng = np.random.default_rng(seed)
    parameters = initialise(rng)
    velocities = [np.zeros_like(parameter) for parameter in parameters]
    losses = []
    progress = tqdm(range(epochs), desc="training", unit="epoch")
    for epoch in progress:
        order = rng.permutation(len(images))[: len(images) // batch * batch].reshape(-1, batch)
        total = 0.0
        for i, chosen in enumerate(order):
            x, y = shifted(images[chosen], rng), labels[chosen]
            activations = forward(x, parameters)
            total += fc.cross_entropy(activations.logits, y)
            done = (epoch + i / len(order)) / epochs
            step(parameters, velocities, backward(x, y, parameters, activations), rate * (1 + np.cos(np.pi * done)) / 2)
        losses.append(total / len(order))
        progress.set_postfix(loss=f"{losses[-1]:.4f}")
    return parameters, losses


# %%
# Looking inside
# --------------


def plot_loss(losses):
    """Draw the loss over the epochs."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.semilogy(range(1, len(losses) + 1), losses)
    axes.set(title="Loss while learning", xlabel="epoch", ylabel="mean cross-entropy")
    axes.grid(alpha=0.3)
    return figure


def grid(images, titles, columns, cmap, heading):
    """Small images side by side; red and blue are above and below zero where there are both."""
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(columns, 1.05 * rows + 0.5), layout="constrained")
    limit = np.abs(images).max()
    for ax in axes.flat:
        ax.axis("off")
    for ax, image, title in zip(axes.flat, images, titles, strict=False):
        ax.imshow(image, cmap=cmap, vmin=-limit if cmap == "RdBu_r" else 0, vmax=limit)
        ax.set_title(title, fontsize=8)
    figure.suptitle(heading)
    return figure


def plot_confusion(labels, predictions):
    """How often each digit was read as each."""
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (labels, predictions), 1)
    figure, axes = plt.subplots(figsize=(5.5, 5.5), layout="constrained")
    axes.imshow(np.sqrt(counts), cmap="Blues")  # the square root shows single mistakes beside forty right answers
    for (i, j), count in np.ndenumerate(counts):
        if count:
            axes.text(j, i, count, ha="center", va="center", color="white" if i == j else "black")
    axes.set(title="Held-out digits", xlabel="read as", ylabel="written", xticks=range(10), yticks=range(10))
    return figure


# %%
# All together
# ------------


def main(arguments=None):
    """Train, test, and save the figures; returns the share of held-out digits that were read right."""
    parser = argparse.ArgumentParser(description="Train a small network on handwritten digits.")
    parser.add_argument("--output", type=Path, default=Path("figures"), help="folder of the figures")
    parser.add_argument("--quick", action="store_true", help="train for a moment only")
    options = parser.parse_args(arguments)

    images, labels, test_images, test_labels = load()
    parameters, losses = train(images, labels, epochs=2 if options.quick else 30)
    activations = forward(test_images, parameters)
    predictions = activations.logits.argmax(axis=1)
    accuracy = float(np.mean(predictions == test_labels))
    print(f"{accuracy:.2%} of {len(test_labels)} held-out digits read correctly")

    digit, maps = test_images[0, 0], activations.conv1[0]
    figures = {
        "digits_loss": plot_loss(losses),
        "digits_filters": grid(parameters.weight1[:, 0], range(32), 8, "RdBu_r", "What the first layer looks for"),
        "digits_feature_maps": grid(
            [digit / digit.max() * maps.max(), *maps], ["digit", *range(32)], 11, "gray", "What it finds in one digit"
        ),
        "digits_confusion": plot_confusion(test_labels, predictions),
    }
    options.output.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(options.output / f"{name}.png", dpi=120)
    print(f"{len(figures)} figures in {options.output}")
    return accuracy


if __name__ == "__main__":
    main()
