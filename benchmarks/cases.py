"""The cases of ``compare.py``: an operation with its arrays, its options and the work it does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from benchmarks.layers import (
    ACTIVATION_LAYERS,
    CONV_LAYERS,
    CONV_TRANSPOSE_LAYERS,
    GLOBAL_POOL_LAYERS,
    LINEAR_LAYERS,
    LOSS_LAYERS,
    POOL_LAYERS,
    ConvLayer,
    PoolLayer,
)

Arrays = tuple[Any, ...]


class Case(NamedTuple):
    """One call to time. ``flops`` is 0 where memory, not arithmetic, is the limit; ``moved`` is bytes in and out."""

    layer: str
    operation: str
    arguments: Arrays
    options: dict[str, Any]
    flops: int = 0
    moved: int = 0
    spec: ConvLayer | None = None

    @property
    def pass_(self) -> str:
        """forward, forward_packed, backward, backward_input or backward_weight."""
        _, backward, which = self.operation.partition("_backward")
        return f"backward{which}" if backward else "forward_packed" if is_packed(self.operation) else "forward"


def is_packed(operation: str) -> bool:
    """Whether the weight is a constant, which those who can prepare once."""
    return operation.endswith("_packed")


class Source:
    """Arrays of one dtype, the same in every run."""

    def __init__(self, dtype: str) -> None:
        self.dtype = np.dtype(dtype)
        self._random = np.random.default_rng(0)

    def __call__(self, *shape: int) -> np.ndarray[Any, Any]:
        return self._random.standard_normal(shape, self.dtype)

    def labels(self, rows: int, classes: int) -> np.ndarray[Any, Any]:
        return self._random.integers(classes, size=rows)

    def bytes(self, *shapes: tuple[int, ...]) -> int:
        return self.dtype.itemsize * sum(int(np.prod(shape)) for shape in shapes)


def conv(source: Source) -> Iterator[Case]:
    for layer in CONV_LAYERS:
        x, weight, grad_out = source(*layer.input_shape), source(*layer.weight_shape), source(*layer.output_shape)
        bias = source(layer.out_channels)
        moved = source.bytes(layer.input_shape, layer.weight_shape, layer.output_shape)
        passes: dict[str, Arrays] = {
            "": (x, weight, bias),
            "_packed": (x, weight, bias),
            "_backward_input": (grad_out, weight, layer.input_shape),
            "_backward_weight": (grad_out, x, layer.weight_shape),
        }
        for pass_, arguments in passes.items():
            yield Case(layer.name, layer.function + pass_, arguments, layer.options, layer.flops, moved, layer)


def conv_transpose(source: Source) -> Iterator[Case]:
    for layer in CONV_TRANSPOSE_LAYERS:
        x, weight, bias = source(*layer.output_shape), source(*layer.weight_shape), source(layer.in_channels)
        moved = source.bytes(layer.input_shape, layer.weight_shape, layer.output_shape)
        options = {"stride": layer.stride, "padding": layer.padding}
        yield Case(layer.name, "conv_transpose2d", (x, weight, bias), options, layer.flops, moved)


def pool(source: Source) -> Iterator[Case]:
    for layer in POOL_LAYERS:
        yield from _pool_layer(source, layer)
    for name, shape in GLOBAL_POOL_LAYERS.items():
        x = source(*shape)
        for operation in ("global_avg_pool", "global_max_pool"):
            yield Case(name, operation, (x,), {}, moved=source.bytes(shape, shape[:2]))


def _pool_layer(source: Source, layer: PoolLayer) -> Iterator[Case]:
    x, grad_out = source(*layer.input_shape), source(*layer.output_shape)
    window = {"kernel_size": layer.kernel, "stride": layer.stride, "padding": layer.padding}
    moved = source.bytes(layer.input_shape, layer.output_shape)
    moved_indices = 8 * grad_out.size
    yield Case(layer.name, "max_pool2d", (x,), window, moved=moved)
    indexed = {**window, "return_indices": True}
    yield Case(f"{layer.name}+indices", "max_pool2d", (x,), indexed, moved=moved + moved_indices)
    yield Case(
        layer.name,
        "max_pool2d_backward",
        (grad_out, _indices(x, layer), layer.input_shape),
        window,
        moved=moved + moved_indices,
    )
    yield Case(layer.name, "avg_pool2d", (x,), window, moved=moved)
    yield Case(layer.name, "avg_pool2d_backward", (grad_out, layer.input_shape), window, moved=moved)


def _indices(x: np.ndarray[Any, Any], layer: PoolLayer) -> np.ndarray[Any, Any]:
    """The flat index of each window's maximum within its plane, computed by NumPy."""
    pad, kernel, width = layer.padding, layer.kernel, layer.input_shape[3]
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), constant_values=-np.inf)
    views = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), (2, 3))
    views = views[:, :, :: layer.stride, :: layer.stride]
    row, column = np.divmod(views.reshape(*views.shape[:4], -1).argmax(-1), kernel)
    rows = np.arange(views.shape[2])[:, None] * layer.stride - pad + row
    columns = np.arange(views.shape[3]) * layer.stride - pad + column
    return (rows * width + columns).astype(np.int64)


def activation(source: Source) -> Iterator[Case]:
    for name, shape in ACTIVATION_LAYERS.items():
        x, grad_out = source(*shape), source(*shape)
        yield Case(name, "relu", (x,), {}, moved=source.bytes(shape) * 2)
        yield Case(name, "relu_backward", (grad_out, np.maximum(x, 0)), {}, moved=source.bytes(shape) * 3)


def loss(source: Source) -> Iterator[Case]:
    for name, (rows, classes) in LOSS_LAYERS.items():
        x, grad_out = source(rows, classes), source(rows, classes)
        once = source.bytes(x.shape)
        probabilities = np.exp(x) / np.exp(x).sum(1, keepdims=True)
        yield Case(name, "softmax", (x,), {}, moved=2 * once)
        yield Case(name, "softmax_backward", (grad_out, probabilities), {}, moved=3 * once)
        yield Case(name, "log_softmax", (x,), {}, moved=2 * once)
        yield Case(name, "log_softmax_backward", (grad_out, np.log(probabilities)), {}, moved=3 * once)
        yield Case(name, "cross_entropy", (x, source.labels(rows, classes)), {}, moved=once)


def linear(source: Source) -> Iterator[Case]:
    for layer in LINEAR_LAYERS:
        x, weight = source(layer.batch, layer.in_features), source(layer.out_features, layer.in_features)
        grad_out, bias = source(layer.batch, layer.out_features), source(layer.out_features)
        moved = source.bytes(x.shape, weight.shape, grad_out.shape)
        for operation in ("linear", "linear_packed"):
            yield Case(layer.name, operation, (x, weight, bias), {}, layer.flops, moved)
        yield Case(layer.name, "linear_backward", (grad_out, x, weight), {}, 2 * layer.flops, 2 * moved)


FAMILIES = {
    "conv": conv,
    "conv_transpose": conv_transpose,
    "pool": pool,
    "activation": activation,
    "loss": loss,
    "linear": linear,
}
