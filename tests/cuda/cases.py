"""One call of every operation, with arrays that are small enough for the interpreter."""

from __future__ import annotations

import numpy as np

import fastconv as fc

SIZES = {1: (12,), 2: (7, 8), 3: (4, 5, 6)}


def draw(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def convolutions(rank):
    sizes, kernel, d = SIZES[rank], (3,) * rank, f"{rank}d"
    x, weight, bias = draw(2, 4, *sizes), draw(6, 4, *kernel), draw(6)
    options = {"stride": 2, "padding": 1}
    name = f"conv{d}"
    y = getattr(fc, name)(x, weight, bias, **options)
    yield name, (x, weight, bias), {**options, "activation": "relu"}
    yield f"{name}_backward", (y, x, weight), options
    yield f"{name}_backward_input", (y, weight, x.shape), options
    yield f"{name}_backward_weight", (y, x, weight.shape), options
    name, weight, bias = f"conv_transpose{d}", draw(4, 5, *kernel), draw(5)
    y = getattr(fc, name)(x, weight, bias, **options)
    yield name, (x, weight, bias), options
    yield f"{name}_backward", (y, x, weight), options


def poolings(rank):
    x, d = draw(2, 3, *SIZES[rank]), f"{rank}d"
    size, half = (2,) * rank, tuple(n // 2 for n in SIZES[rank])
    y, indices = getattr(fc, f"max_pool{d}")(x, size, return_indices=True)
    yield f"max_pool{d}", (x, size), {"return_indices": True}
    yield f"max_pool{d}_backward", (y, indices, x.shape), {}
    yield f"max_unpool{d}", (y, indices, x.shape), {}
    yield f"max_unpool{d}_backward", (x, indices), {}
    for name in (f"avg_pool{d}", f"sum_pool{d}"):
        yield name, (x, size), {}
        yield f"{name}_backward", (y, x.shape, size), {}
    yield f"lp_pool{d}", (abs(x), 2.0, size), {}
    yield f"lp_pool{d}_backward", (y, abs(x) + 1, 2.0, size), {}
    yield f"adaptive_avg_pool{d}", (x, half), {}
    yield f"adaptive_avg_pool{d}_backward", (y, x.shape), {}
    yield f"adaptive_max_pool{d}", (x, half), {"return_indices": True}


def others():
    x, grads = draw(3, 4, 5, 6), draw(3, 4)
    maxima, indices = fc.global_max_pool(x, return_indices=True)
    yield "global_avg_pool", (x,), {}
    yield "global_avg_pool_backward", (grads, x.shape), {}
    yield "global_max_pool", (x,), {"return_indices": True}
    yield "global_max_pool_backward", (maxima, indices, x.shape), {}
    yield "relu", (x,), {}
    yield "relu_backward", (x[::-1], x), {}
    yield "leaky_relu", (x, 0.2), {}
    yield "leaky_relu_backward", (x[::-1], x, 0.2), {}
    rows, weight = draw(5, 7, 20), draw(9, 20)
    yield "linear", (rows, weight, draw(9)), {"activation": "relu"}
    yield "linear_backward", (draw(5, 7, 9), rows, weight), {}
    labels = np.random.default_rng(0).integers(0, 4, (3, 5, 6))
    for name in ("softmax", "log_softmax"):
        yield name, (x, 1), {}
        yield f"{name}_backward", (x[::-1], getattr(fc, name)(x, 1), 1), {}
    yield "cross_entropy", (x, labels), {}
    yield "cross_entropy_backward", (x, labels), {}


def cases():
    for rank in SIZES:
        yield from convolutions(rank)
        yield from poolings(rank)
    yield from others()
