"""
A small network as two functions
================================

Convolution to 50 channels, ReLU, convolution to 100 channels, ReLU, the maximum over height and width, a dense layer to
1,000 classes, softmax. Frameworks write such a network as a class whose ``backward`` is made for them; here it is two
functions, so that every intermediate result and every gradient is an array that can be looked at.

Because the maximum is taken over the whole image, the network takes images of any size, and each of its 100 last
channels answers one question: how strongly does my pattern occur anywhere, and where?

Run it with ``python basic_cnn.py``; it takes a few seconds and leaves its figures in ``figures/``.
"""

# %%
# Setup
# -----

import argparse
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from sklearn.datasets import load_sample_images
from tqdm.auto import tqdm

import fastconv as fc

matplotlib.use("Agg")  # figures become files; no window is needed
import matplotlib.pyplot as plt

CLASSES = "temple", "flower"  # the first two of a thousand

# %%
# The network
# -----------


class Parameters(NamedTuple):
    """Weights and biases of the three layers; also their gradients."""

    weight1: np.ndarray  # (50, 3, 3, 3)
    bias1: np.ndarray
    weight2: np.ndarray  # (100, 50, 3, 3)
    bias2: np.ndarray
    weight3: np.ndarray  # (1000, 100)
    bias3: np.ndarray


def initialise(rng, dtype=np.float32):
    """Make random weights that keep the scale of what flows through them, and no biases."""
    shapes = (50, 3, 3, 3), (100, 50, 3, 3), (1000, 100)
    weights = [(rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(dtype) for shape in shapes]
    return Parameters(*(array for weight in weights for array in (weight, np.zeros(len(weight), dtype))))


class Activations(NamedTuple):
    """Every intermediate result for images (N, 3, H, W)."""

    conv1: np.ndarray  # (N, 50, H - 2, W - 2)
    relu1: np.ndarray
    conv2: np.ndarray  # (N, 100, H - 4, W - 4)
    relu2: np.ndarray
    pooled: np.ndarray  # (N, 100)
    indices: np.ndarray  # where in its plane each maximum lies
    logits: np.ndarray  # (N, 1000)
    probabilities: np.ndarray  # (N, 1000)


def forward(images, p):
    """Probabilities of the 1,000 classes, and everything on the way there."""
    conv1 = fc.conv2d(images, p.weight1, p.bias1)
    relu1 = fc.relu(conv1)
    conv2 = fc.conv2d(relu1, p.weight2, p.bias2)
    relu2 = fc.relu(conv2)
    pooled, indices = fc.global_max_pool(relu2, return_indices=True)
    logits = fc.linear(pooled, p.weight3, p.bias3)
    return Activations(conv1, relu1, conv2, relu2, pooled, indices, logits, fc.softmax(logits))


# %%
# The chain rule, from the loss back to the image
# -----------------------------------------------
# Each line takes the gradient with respect to a layer's output, and gives those with respect to its input and weights.
# That of the cross-entropy with respect to the logits is simple: the probabilities, less one at the right class.


class Gradients(NamedTuple):
    """Gradients of the mean loss with respect to intermediate results, images and parameters."""

    logits: np.ndarray
    pooled: np.ndarray
    relu2: np.ndarray
    conv2: np.ndarray
    relu1: np.ndarray
    conv1: np.ndarray
    images: np.ndarray
    parameters: Parameters


def backward(images, labels, p, a):
    """All gradients of the mean cross-entropy of the images' labels."""
    logits = fc.cross_entropy_backward(a.logits, labels)
    pooled, weight3, bias3 = fc.linear_backward(logits, a.pooled, p.weight3)
    relu2 = fc.global_max_pool_backward(pooled, a.indices, a.relu2.shape)
    conv2 = fc.relu_backward(relu2, a.relu2)
    relu1, weight2, bias2 = fc.conv2d_backward(conv2, a.relu1, p.weight2)
    conv1 = fc.relu_backward(relu1, a.relu1)
    grad_images, weight1, bias1 = fc.conv2d_backward(conv1, images, p.weight1)
    parameters = Parameters(weight1, bias1, weight2, bias2, weight3, bias3)
    return Gradients(logits, pooled, relu2, conv2, relu1, conv1, grad_images, parameters)


# %%
# Two photographs
# ---------------
# scikit-learn comes with a picture of a temple and one of a flower. Random pieces of them, to be told apart, are enough
# to see the network learn: it must find patterns that occur in one of them only. The pieces of every step have another
# size, since a maximum over more places is larger. The photographs are stored channels-last; transposing makes a view
# that is computed on as it lies in memory.


def load():
    """Both photographs as (1, 3, H, W) views with values around zero."""
    photographs = [image.astype(np.float32) / 128 - 1 for image in load_sample_images().images]
    return [image[np.newaxis].transpose(0, 3, 1, 2) for image in photographs]


def pieces(photographs, count, size, rng):
    """Random squares of the photographs, and which photograph each is from."""
    labels = rng.integers(0, len(photographs), count)
    squares = []
    for label in labels:
        _, _, height, width = photographs[label].shape
        i, j = rng.integers(0, height - size), rng.integers(0, width - size)
        squares.append(photographs[label][0, :, i : i + size, j : j + size])
    return np.stack(squares), labels


def train(photographs, parameters, steps, rng, rate=0.01):
    """Gradient descent with momentum, in place; the loss and the share of right answers at every step."""
    velocities = [np.zeros_like(parameter) for parameter in parameters]
    history = []
    progress = tqdm(range(steps), desc="learning", unit="step")
    for _ in progress:
        images, labels = pieces(photographs, 8, rng.choice([24, 32, 48, 96]), rng)
        activations = forward(images, parameters)
        loss = float(fc.cross_entropy(activations.logits, labels))
        history.append((loss, np.mean(activations.logits.argmax(axis=1) == labels)))
        gradients = backward(images, labels, parameters, activations)
        for parameter, velocity, gradient in zip(parameters, velocities, gradients.parameters, strict=True):
            velocity *= 0.9
            velocity += gradient
            parameter -= rate * velocity
        progress.set_postfix(loss=f"{loss:.3f}")
    return np.array(history)


# %%
# Figures
# -------


def picture(image):
    """Turn an image (3, H, W) into what matplotlib wants."""
    return np.clip((image.transpose(1, 2, 0) + 1) / 2, 0, 1)


def plot_history(history):
    """Loss and share of right answers, averaged over ten steps."""
    window = min(10, len(history))
    loss, right = (np.convolve(column, np.ones(window) / window, "valid") for column in history.T)
    figure, (left, other) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    left.semilogy(loss)
    left.set(title="Loss", xlabel="step", ylabel="cross-entropy")
    other.plot(100 * right, color="C1")
    other.set(title="Pieces recognised", xlabel="step", ylabel="%", ylim=(0, 102))
    for axes in (left, other):
        axes.grid(alpha=0.3)
    return figure


def plot_maps(image, activations):
    """Show the image and the channels of both layers that answer most strongly."""
    figure, axes = plt.subplots(2, 6, figsize=(13, 3.6), layout="constrained")
    axes[0, 0].imshow(picture(image))
    for row, maps, name in zip(axes, (activations.relu1[0], activations.relu2[0]), "12", strict=True):
        strongest = np.argsort(-maps.mean(axis=(1, 2)))[:5]
        for ax, channel in zip(row[1:], strongest, strict=True):
            ax.imshow(maps[channel], cmap="magma")
            ax.set_title(f"layer {name}, channel {channel}", fontsize=9)
    for ax in axes.flat:
        ax.axis("off")
    return figure


def plot_maxima(photographs, parameters):
    """Where in each photograph the channels that speak most for its class find their maximum."""
    figure, axes = plt.subplots(1, 2, figsize=(12, 4.2), layout="constrained")
    for label, (ax, image) in enumerate(zip(axes, photographs, strict=True)):
        a = forward(image, parameters)
        speaks = a.pooled[0] * (parameters.weight3[label] - parameters.weight3[1 - label])
        channels = np.argsort(-speaks)[:20]
        i, j = np.unravel_index(a.indices[0, channels], a.relu2.shape[2:])
        ax.imshow(picture(image[0]))
        ax.scatter(j + 2, i + 2, s=60, facecolors="none", edgecolors="yellow", linewidths=1.5)  # a map is 2 pixels in
        ax.set_title(f"{CLASSES[label]}: probability {a.probabilities[0, label]:.3f}")
        ax.axis("off")
    figure.suptitle("The twenty places that decide")
    return figure


# %%
# All together
# ------------


def main(arguments=None):
    """Learn, look at both photographs, and save the figures; returns the share of new pieces that were recognised."""
    parser = argparse.ArgumentParser(description="Tell pieces of two photographs apart.")
    parser.add_argument("--output", type=Path, default=Path("figures"), help="folder of the figures")
    parser.add_argument("--quick", action="store_true", help="learn for a moment only")
    options = parser.parse_args(arguments)

    rng = np.random.default_rng(0)
    photographs, parameters = load(), initialise(rng)
    history = train(photographs, parameters, 5 if options.quick else 150, rng)

    images, labels = pieces(photographs, 64 if options.quick else 512, 32, rng)
    accuracy = float(np.mean(forward(images, parameters).logits.argmax(axis=1) == labels))
    print(f"{accuracy:.2%} of {len(labels)} new pieces recognised")

    flower = photographs[1][..., ::2, ::2]
    figures = {
        "basic_cnn_learning": plot_history(history),
        "basic_cnn_maps": plot_maps(flower[0], forward(flower, parameters)),
        "basic_cnn_maxima": plot_maxima(photographs, parameters),
    }
    options.output.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(options.output / f"{name}.png", dpi=120)
    print(f"{len(figures)} figures in {options.output}")
    return accuracy


if __name__ == "__main__":
    main()
