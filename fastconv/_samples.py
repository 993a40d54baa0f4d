"""A small call of every operation, with what NumPy says about its result: for precompiling and for the self-test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from fastconv._checks import Array

SIZES = {1: (14,), 2: (9, 10), 3: (4, 5, 6)}  # of an image, by rank
KERNEL = 3


class Sample(NamedTuple):
    """One call; ``error`` says how far its result is off, as a share of the largest value."""

    operation: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    error: Callable[[Any], float]


class Source:
    """Arrays of one dtype, the same in every run."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self._random = np.random.default_rng(0)

    def __call__(self, *shape: int) -> Array:
        return self._random.standard_normal(shape).astype(self.dtype)


def samples(dtype: Any) -> Iterator[Sample]:
    """Calls of all operations, such that every kernel is used."""
    source = Source(dtype)
    for rank in SIZES:
        yield from _convolutions(rank, source)
        yield from _transposed_convolutions(rank, source)
        yield from _maxima(rank, source)
        yield from _means(rank, source)
        yield from _norms(rank, source)
        yield from _adaptive(rank, source)
    yield from _global(source)
    yield from _activations(source)
    yield from _dense(source)
    yield from _classes(source)


# -------------------------------------------------------------------------------------------------------------- errors
def _close(expected: Any) -> Callable[[Any], float]:
    """The largest difference; tuples are compared item by item."""

    def error(result: Any) -> float:
        if isinstance(expected, tuple):
            return max(_close(e)(r) for e, r in zip(expected, result, strict=True))
        wanted = np.asarray(expected, np.float64)
        if np.shape(result) != wanted.shape:
            return np.inf
        return float(np.abs(result - wanted).max(initial=0) / max(1, np.abs(wanted).max(initial=0)))

    return error


def _adjoint(forward: Callable[[Array], Array], probe: Array, grad_out: Array) -> Callable[[Any], float]:
    """How far <forward(probe), grad_out> is from <probe, gradient>, for a linear ``forward``."""

    def error(gradient: Any) -> float:
        if gradient.shape != probe.shape:
            return np.inf
        there, back = forward(probe) * grad_out.astype(np.float64), probe * gradient.astype(np.float64)
        return float(abs(there.sum() - back.sum()) / max(1, np.abs(back).sum()))

    return error


def _all(*errors: Callable[[Any], float]) -> Callable[[Any], float]:
    return lambda result: max(error(item) for error, item in zip(errors, result, strict=True))


# ------------------------------------------------------------------------------------------------------------- windows
def _windows(x: Array, kernel: int, stride: int = 1, padding: int = 0, fill: float = 0) -> Array:
    """The elements under each window position, (N, C, *out_size, kernel elements), in float64."""
    rank = x.ndim - 2
    padded = np.pad(x.astype(np.float64), [(0, 0)] * 2 + [(padding, padding)] * rank, constant_values=fill)
    views = np.lib.stride_tricks.sliding_window_view(padded, (kernel,) * rank, tuple(range(2, x.ndim)))
    views = views[(slice(None),) * 2 + (slice(None, None, stride),) * rank]
    return views.reshape(*views.shape[: x.ndim], -1)


def _correlate(x: Array, weight: Array, stride: int = 1, padding: int = 0, groups: int = 1) -> Array:
    out_channels, count = len(weight) // groups, x.shape[1] // groups
    windows = _windows(x, weight.shape[-1], stride, padding)
    parts = []
    for group in range(groups):
        kernels = weight[group * out_channels : (group + 1) * out_channels].reshape(out_channels, count, -1)
        part = windows[:, group * count : (group + 1) * count]
        parts.append(np.einsum("nc...k,ock->no...", part, kernels.astype(np.float64)))
    return np.concatenate(parts, 1)


# --------------------------------------------------------------------------------------------------------- convolution
def _convolutions(rank: int, source: Source) -> Iterator[Sample]:
    """Direct sums, few channels on either side, one per group, and what Winograd's algorithm is for."""
    for channels, out_channels, options in (
        (16, 18, {"padding": 1}),
        (16, 18, {"stride": 2, "padding": 1}),
        (1, 16, {"padding": 1}),
        (16, 1, {"padding": 1}),
        (6, 6, {"padding": 1, "groups": 6}),
        (6, 8, {"stride": 2, "groups": 2}),
    ):
        x = source(2, channels, *SIZES[rank])
        weight = source(out_channels, channels // options.get("groups", 1), *(KERNEL,) * rank)
        bias = source(out_channels)
        y = _correlate(x, weight, **options) + bias.reshape(-1, *(1,) * rank)
        grad_out = source(*y.shape)
        yield Sample(f"conv{rank}d", (x, weight, bias), options, _close(y))
        yield from _convolution_gradients(rank, x, weight, grad_out, options, source)


def _convolution_gradients(
    rank: int, x: Array, weight: Array, grad_out: Array, options: dict[str, Any], source: Source
) -> Iterator[Sample]:
    of_x = _adjoint(lambda p: _correlate(p, weight, **options), source(*x.shape), grad_out)
    of_weight = _adjoint(lambda p: _correlate(x, p, **options), source(*weight.shape), grad_out)
    of_bias = _close(grad_out.sum((0, *range(2, x.ndim)), dtype=np.float64))
    name = f"conv{rank}d_backward"
    yield Sample(name, (grad_out, x, weight), options, _all(of_x, of_weight, of_bias))
    yield Sample(f"{name}_input", (grad_out, weight, x.shape), options, of_x)
    yield Sample(f"{name}_weight", (grad_out, x, weight.shape), options, of_weight)


def _transposed_convolutions(rank: int, source: Source) -> Iterator[Sample]:
    """y is the input gradient of a convolution whose result has the shape of x."""
    x, weight, bias = source(2, 8, *SIZES[rank]), source(8, 6, *(KERNEL,) * rank), source(6)
    options = {"stride": 2, "padding": 1}
    shape = (2, 6, *(2 * size - 1 for size in SIZES[rank]))
    no_bias, grad_out, probe = np.zeros(6, source.dtype), source(*shape), source(*shape)
    of_y = _adjoint(lambda p: _correlate(p, weight, **options), probe, x)
    yield Sample(f"conv_transpose{rank}d", (x, weight, no_bias), options, of_y)
    of_x = _close(_correlate(grad_out, weight, **options))
    of_weight = _adjoint(lambda p: _correlate(grad_out, p, **options), source(*weight.shape), x)
    of_bias = _close(grad_out.sum((0, *range(2, x.ndim)), dtype=np.float64))
    arguments = (grad_out, x, weight)
    yield Sample(f"conv_transpose{rank}d_backward", arguments, options, _all(of_x, of_weight, of_bias))
    yield Sample(
        f"conv_transpose{rank}d", (x, weight, bias), {"stride": 3}, lambda y: 0.0 if np.isfinite(y).all() else 1
    )


# ------------------------------------------------------------------------------------------------------------- pooling
def _maxima(rank: int, source: Source) -> Iterator[Sample]:
    x = source(2, 5, *SIZES[rank])
    places = np.broadcast_to(np.arange(float(np.prod(SIZES[rank]))).reshape(SIZES[rank]), x.shape)
    for kernel, stride in ((2, 2), (3, 1)):
        windows = _windows(x, kernel, stride)
        y, first = windows.max(-1), windows.argmax(-1)[..., None]
        indices = np.take_along_axis(_windows(places, kernel, stride), first, -1)[..., 0].astype(np.int64)
        grad_out = source(*y.shape)
        there = (*np.indices(y.shape)[:2], indices)
        grad_x = np.zeros((*x.shape[:2], places[0, 0].size))
        np.add.at(grad_x, there, grad_out)
        yield Sample(f"max_pool{rank}d", (x, kernel, stride), {}, _close(y))
        yield Sample(f"max_pool{rank}d", (x, kernel, stride), {"return_indices": True}, _close((y, indices)))
        yield Sample(f"max_pool{rank}d_backward", (grad_out, indices, x.shape), {}, _close(grad_x.reshape(x.shape)))
        if kernel == stride:
            unpooled = _close(grad_x.reshape(x.shape))
            yield Sample(f"max_unpool{rank}d", (grad_out, indices, x.shape), {}, unpooled)
            taken = x.reshape(*x.shape[:2], -1)[there]
            yield Sample(f"max_unpool{rank}d_backward", (x, indices), {}, _close(taken))


def _means(rank: int, source: Source) -> Iterator[Sample]:
    x = source(2, 5, *SIZES[rank])
    for (name, reduce), (kernel, stride, padding) in itertools.product(
        (("avg", np.mean), ("sum", np.sum)), ((2, 2, 0), (3, 1, 1), (3, 2, 1))
    ):

        def forward(p: Array, reduce: Any = reduce, window: Any = (kernel, stride, padding)) -> Array:
            return np.asarray(reduce(_windows(p, *window), -1))

        grad_out = source(*forward(x).shape)
        window = kernel, stride, padding
        yield Sample(f"{name}_pool{rank}d", (x, *window), {}, _close(forward(x)))
        of_x = _adjoint(forward, source(*x.shape), grad_out)
        yield Sample(f"{name}_pool{rank}d_backward", (grad_out, x.shape, *window), {}, of_x)


def _norms(rank: int, source: Source) -> Iterator[Sample]:
    x = source(2, 5, *SIZES[rank])
    y = np.sqrt((_windows(x, 2, 2) ** 2).sum(-1))
    yield Sample(f"lp_pool{rank}d", (x, 2.0, 2), {}, _close(y))
    # The gradient of <y, y> / 2 is x wherever windows reach.
    covered: tuple[Any, ...] = (..., *(slice(0, size // 2 * 2) for size in SIZES[rank]))
    grad_x = np.zeros_like(x)
    grad_x[covered] = x[covered]
    arguments = y.astype(x.dtype), x, 2.0, 2
    yield Sample(f"lp_pool{rank}d_backward", arguments, {}, _close(grad_x))


def _adaptive(rank: int, source: Source) -> Iterator[Sample]:
    """Output sizes that divide the input's: plain windows."""
    x = source(2, 5, *(6,) * rank)
    y, grad_out = _windows(x, 2, 2), source(2, 5, *(3,) * rank)
    yield Sample(f"adaptive_avg_pool{rank}d", (x, 3), {}, _close(y.mean(-1)))
    yield Sample(f"adaptive_max_pool{rank}d", (x, 3), {}, _close(y.max(-1)))
    yield Sample(f"adaptive_max_pool{rank}d", (x, 3), {"return_indices": True}, lambda r: _close(y.max(-1))(r[0]))
    of_x = _adjoint(lambda p: _windows(p, 2, 2).mean(-1), source(*x.shape), grad_out)
    yield Sample(f"adaptive_avg_pool{rank}d_backward", (grad_out, x.shape), {}, of_x)


def _global(source: Source) -> Iterator[Sample]:
    x, grad_out = source(3, 5, 7, 6), source(3, 5)
    planes = x.reshape(3, 5, -1).astype(np.float64)
    largest, indices = planes.max(-1), planes.argmax(-1)
    spread = np.zeros_like(planes)
    np.put_along_axis(spread, indices[..., None], grad_out[..., None], -1)
    mean = np.broadcast_to(grad_out[..., None, None] / 42.0, x.shape)
    yield Sample("global_avg_pool", (x,), {}, _close(planes.mean(-1)))
    yield Sample("global_avg_pool_backward", (grad_out, x.shape), {}, _close(mean))
    yield Sample("global_max_pool", (x,), {}, _close(largest))
    yield Sample("global_max_pool", (x,), {"return_indices": True}, _close((largest, indices)))
    yield Sample("global_max_pool_backward", (grad_out, indices, x.shape), {}, _close(spread.reshape(x.shape)))


# ------------------------------------------------------------------------------------------------------ all the others
def _activations(source: Source) -> Iterator[Sample]:
    x, grad_out = source(3, 5, 7), source(3, 5, 7)
    yield Sample("relu", (x,), {}, _close(np.maximum(x, 0)))
    yield Sample("relu", (x,), {"out": np.empty_like(x)}, _close(np.maximum(x, 0)))
    yield Sample("relu_backward", (grad_out, x), {}, _close(np.where(x > 0, grad_out, 0)))
    yield Sample("leaky_relu", (x, 0.1), {}, _close(np.where(x > 0, x, 0.1 * x.astype(np.float64))))
    expected = np.where(x > 0, grad_out, 0.1 * grad_out.astype(np.float64))
    yield Sample("leaky_relu_backward", (grad_out, x, 0.1), {}, _close(expected))
    in_place = x.copy()
    yield Sample("relu", (in_place,), {"out": in_place}, _close(np.maximum(x, 0)))


def _dense(source: Source) -> Iterator[Sample]:
    x, weight, bias, grad_out = source(7, 19), source(18, 19), source(18), source(7, 18)
    exact = x.astype(np.float64)
    yield Sample("linear", (x, weight, bias), {}, _close(exact @ weight.T + bias))
    gradients = grad_out.astype(np.float64) @ weight, grad_out.T @ exact, grad_out.sum(0, dtype=np.float64)
    yield Sample("linear_backward", (grad_out, x, weight), {}, _close(gradients))


def _classes(source: Source) -> Iterator[Sample]:
    x, grad_out = source(7, 5), source(7, 5)
    for axis in (0, 1):
        powers = np.exp(x.astype(np.float64))
        p = powers / powers.sum(axis, keepdims=True)
        y, log_y = p.astype(x.dtype), np.log(p).astype(x.dtype)
        of_softmax = p * (grad_out - (grad_out * p).sum(axis, keepdims=True))
        of_log_softmax = grad_out - p * grad_out.sum(axis, keepdims=True)
        yield Sample("softmax", (x, axis), {}, _close(p))
        yield Sample("softmax_backward", (grad_out, y, axis), {}, _close(of_softmax))
        yield Sample("log_softmax", (x, axis), {}, _close(np.log(p)))
        yield Sample("log_softmax_backward", (grad_out, log_y, axis), {}, _close(of_log_softmax))
    labels = np.arange(7) % 5
    one_hot = np.eye(5)[labels]
    for kind in (np.int64, np.int32):
        loss = _close(-np.log(p[one_hot > 0]).mean())
        yield Sample("cross_entropy", (x, labels.astype(kind)), {}, loss)
        yield Sample("cross_entropy_backward", (x, labels.astype(kind)), {}, _close((p - one_hot) / 7))
