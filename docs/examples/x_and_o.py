"""
Is it an X or an O?
===================

The classic first problem of convolutional networks: tell a cross from a circle, however they are moved, turned, scaled,
thickened or disturbed by noise. In the textbook a person makes up the filters: a diagonal stroke, the other diagonal,
and the place where the two cross. Here the filters start as random noise, the network learns them from the drawings
alone, and in the end they contain the textbook's strokes.

Run it with ``python x_and_o.py``; it takes a few seconds and leaves its figures in ``figures/``.
"""

# %%
# Setup
# -----

import argparse
from pathlib import Path

import matplotlib
import numpy as np
from tqdm.auto import tqdm

import fastconv as fc

matplotlib.use("Agg")  # figures become files; no window is needed
import matplotlib.pyplot as plt

X, O = 0, 1
SIZE = 16  # pixels of a drawing on each side
FILTERS, KERNEL = 48, 7

# The textbook's filters: ink is 1 and paper -1.
TEMPLATES = {
    "diagonal": [[1, -1, -1], [-1, 1, -1], [-1, -1, 1]],
    "antidiagonal": [[-1, -1, 1], [-1, 1, -1], [1, -1, -1]],
    "cross": [[1, -1, 1], [-1, 1, -1], [1, -1, 1]],
}

# %%
# The drawings
# ------------
# Every pixel's distance to the nearest stroke decides its ink. In coordinates (u, v) that are turned and centred as the
# drawing is, an X is two line segments along u = v and u = -v, and an O is a circle.


def draw(labels, rng):
    """Make one drawing per label, moved, turned, scaled, thickened and disturbed at random: (N, 1, SIZE, SIZE)."""

    def random(low, high):
        return rng.uniform(low, high, (len(labels), 1, 1))

    row, column = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    row, column = row - random(-1.5, 1.5), column - random(-1.5, 1.5)
    angle, reach, thickness = np.radians(random(-15, 15)), random(4, 6.5), random(0.5, 1.1)
    u, v = np.cos(angle) * column + np.sin(angle) * row, np.cos(angle) * row - np.sin(angle) * column

    def to_segment(u, v):
        along = np.clip((u + v) / 2, -reach, reach)  # the nearest point of the segment is (along, along)
        return np.hypot(u - along, v - along)

    to_x = np.minimum(to_segment(u, v), to_segment(u, -v))
    to_o = np.abs(np.hypot(u, v) - reach)
    distance = np.where((labels == X)[:, np.newaxis, np.newaxis], to_x, to_o)
    ink = 2 * np.clip(thickness + 0.5 - distance, 0, 1) - 1
    return (ink + rng.normal(0, 0.3, ink.shape)).astype(np.float32)[:, np.newaxis]


# %%
# The network
# -----------
# Each filter looks at every place of the drawing; ReLU keeps where it fits, the mean says how much that is, and each
# filter votes for X or O with a weight of its own. There are no biases: a vote needs something that was seen.


def forward(drawings, filters, votes):
    """Feature maps (N, FILTERS, 10, 10), their means (N, FILTERS), and the scores of X and O (N, 2)."""
    maps = fc.conv2d(drawings, filters, activation="relu")
    means = fc.global_avg_pool(maps)
    return maps, means, fc.linear(means, votes)


def backward(drawings, labels, filters, votes, maps, means, scores):
    """Gradients of the loss with respect to the filters and the votes."""
    dense = fc.linear_backward(fc.cross_entropy_backward(scores, labels), means, votes)
    grad_maps = fc.relu_backward(fc.global_avg_pool_backward(dense.x, maps.shape), maps)
    return fc.conv2d_backward_weight(grad_maps, drawings, filters.shape), dense.weight


# %%
# Learning
# --------
# Gradient descent with momentum. Weight decay fades what the drawings do not ask for, so that strokes remain.


def initialise(rng):
    """Random filters and votes."""
    filters = 0.1 * rng.standard_normal((FILTERS, 1, KERNEL, KERNEL), dtype=np.float32)
    votes = 0.2 * rng.standard_normal((2, FILTERS), dtype=np.float32)
    return filters, votes


def train(drawings, labels, epochs, seed=0, batch=32, rate=0.2):
    """Learned filters and votes, and the loss of every step."""
    rng = np.random.default_rng(seed)
    parameters = initialise(rng)
    velocities = [np.zeros_like(parameter) for parameter in parameters]
    batches = np.concatenate([rng.permutation(len(labels)) for _ in range(epochs)]).reshape(-1, batch)
    losses = []
    progress = tqdm(batches, desc="learning", unit="step")
    for i, chosen in enumerate(progress):
        x, y = drawings[chosen], labels[chosen]
        activations = forward(x, *parameters)
        losses.append(float(fc.cross_entropy(activations[-1], y)))
        step = rate * (1 + np.cos(np.pi * i / len(batches))) / 2
        gradients = backward(x, y, *parameters, *activations)
        for parameter, velocity, gradient in zip(parameters, velocities, gradients, strict=True):
            velocity *= 0.9
            velocity += gradient + 1e-2 * parameter
            parameter -= step * velocity
        if i % 50 == 0:
            progress.set_postfix(loss=f"{np.mean(losses[-50:]):.4f}")
    return (*parameters, losses)


# %%
# What was learned?
# -----------------
# The textbook's templates are 3 x 3 and the learned filters larger, so the templates are enlarged. The correlation of a
# filter and a template is 1 if they are the same but for brightness and contrast, and near 0 if they have nothing in
# common.


def enlarged(template):
    """Enlarge a 3 x 3 template to the filters' size, by linear interpolation along both axes."""
    places = np.linspace(0, 2, KERNEL)
    between = np.maximum(0, 1 - np.abs(places[:, np.newaxis] - np.arange(3)))
    return between @ np.array(template) @ between.T


def best_matches(filters):
    """For each template its name, the filter that is most like it, and their correlation."""
    matches = []
    for name, template in TEMPLATES.items():
        correlations = [np.corrcoef(enlarged(template).ravel(), one.ravel())[0, 1] for one in filters]
        best = int(np.argmax(correlations))
        matches.append((name, best, correlations[best]))
    return matches


# %%
# Figures
# -------


def show(ax, image, title, limit=None):
    """One image; red is positive and blue negative, or black is ink if no limit is given."""
    if limit is None:
        ax.imshow(image, cmap="gray_r", vmin=-1.5, vmax=1.5)
    else:
        ax.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit)
    ax.set_title(title, fontsize=9)


def blank_grid(rows, columns, heading):
    """Make a figure of axes without ticks."""
    figure, axes = plt.subplots(rows, columns, figsize=(1.15 * columns, 1.25 * rows + 0.4), layout="constrained")
    for ax in axes.flat:
        ax.axis("off")
    figure.suptitle(heading)
    return figure, axes


def plot_drawings(drawings, labels):
    """Show a row of each kind."""
    figure, axes = blank_grid(2, 8, "Crosses and circles")
    for row, kind in zip(axes, (X, O), strict=True):
        for ax, drawing in zip(row, drawings[labels == kind], strict=False):
            show(ax, drawing[0], "XO"[kind])
    return figure


def plot_filters(filters, votes):
    """All filters, those that vote for X first."""
    figure, axes = blank_grid(4, FILTERS // 4, "What each filter looks for, and its vote: X above zero, O below")
    leaning = votes[X] - votes[O]
    for ax, i in zip(axes.flat, np.argsort(-leaning), strict=True):
        show(ax, filters[i, 0], f"{leaning[i]:+.1f}", np.abs(filters[i]).max())
    return figure


def plot_matches(filters, drawings, labels):
    """Each template beside the filter that is most like it, and where that filter fits an X and an O."""
    examples = np.stack([drawings[labels == X][0], drawings[labels == O][0]])
    maps = fc.conv2d(examples, filters, activation="relu")
    figure, axes = blank_grid(3, 6, "The textbook's strokes, found again")
    for row, (name, i, correlation) in zip(axes, best_matches(filters), strict=True):
        show(row[0], enlarged(TEMPLATES[name]), name, 1)
        show(row[1], filters[i, 0], f"correlation {correlation:.2f}", np.abs(filters[i]).max())
        for kind in (X, O):
            show(row[2 + 2 * kind], examples[kind, 0], "XO"[kind])
            show(row[3 + 2 * kind], maps[kind, i], "fits here", maps[:, i].max())
    return figure


def plot_loss(losses):
    """Draw the loss over the steps, and its mean over fifty of them."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    window = min(50, len(losses))
    axes.plot(losses, alpha=0.3)
    axes.plot(np.arange(window - 1, len(losses)), np.convolve(losses, np.ones(window) / window, "valid"), color="C0")
    axes.set(title="Loss while learning", xlabel="step", ylabel="cross-entropy")
    axes.grid(alpha=0.3)
    return figure


# %%
# All together
# ------------


def main(arguments=None):
    """Draw, learn, test, and save the figures; returns the share of new drawings that were named right."""
    parser = argparse.ArgumentParser(description="Learn to tell X from O.")
    parser.add_argument("--output", type=Path, default=Path("figures"), help="folder of the figures")
    parser.add_argument("--quick", action="store_true", help="learn for a moment only")
    options = parser.parse_args(arguments)

    rng = np.random.default_rng(0)
    labels, new_labels = rng.integers(0, 2, 3200), rng.integers(0, 2, 2000)
    drawings, new_drawings = draw(labels, rng), draw(new_labels, rng)
    filters, votes, losses = train(drawings, labels, epochs=1 if options.quick else 12)

    *_, scores = forward(new_drawings, filters, votes)
    accuracy = float(np.mean(scores.argmax(axis=1) == new_labels))
    print(f"{accuracy:.2%} of {len(new_labels)} new drawings named correctly")
    before, _ = initialise(np.random.default_rng(0))
    for (name, _, at_first), (_, i, learned) in zip(best_matches(before), best_matches(filters), strict=True):
        print(f"{name:12}: filter {i:2} correlates {learned:.2f} with it; before learning the best had {at_first:.2f}")

    figures = {
        "x_and_o_drawings": plot_drawings(new_drawings, new_labels),
        "x_and_o_loss": plot_loss(losses),
        "x_and_o_filters": plot_filters(filters, votes),
        "x_and_o_matches": plot_matches(filters, new_drawings, new_labels),
    }
    options.output.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(options.output / f"{name}.png", dpi=120)
    print(f"{len(figures)} figures in {options.output}")
    return accuracy


if __name__ == "__main__":
    main()
