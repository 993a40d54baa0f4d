"""What hypothesis draws for every operation: arrays of any memory order, of all types that it takes, and options."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

import fastconv as fc
from tests import strategies
from tests.cuda.agreement import on_cpu
from tests.strategies import ARRANGEMENTS, channels_last, contiguous, gaps, paddings, per_axis, smallest_size, values

DTYPES = (np.float32, np.float64, np.float16)
SPECIAL = (np.nan, -0.0, 0.0, np.inf, -np.inf)


class Call(NamedTuple):
    """Arguments, and what :func:`tests.cuda.agreement.assert_agree` needs to know of the sums that they lead to."""

    args: tuple[Any, ...]
    options: dict[str, Any]
    sums: dict[str, Any] = {}  # noqa: RUF012


def calls(name):
    """Calls of the public function of this name."""
    family, rank = name.removesuffix("_backward"), 0
    for digit in "123":
        if f"{digit}d" in name:
            family, rank = name[: name.index(f"{digit}d")], int(digit)
    if rank:
        return (_convolutions if "conv" in family else _poolings)(name, family, rank)
    if family.startswith("global"):
        return _global_poolings(name)
    return {"linear": _dense_layers, "cross_entropy": _losses}.get(family, _elementwise)(name)


# -------------------------------------------------------------------------------------------------- sums of products
@st.composite
def _convolutions(draw, name, family, rank):
    make = strategies.convolutions if family == "conv" else strategies.transposed_convolutions
    case = draw(make(ranks=(rank,), dtypes=DTYPES))
    x, weight, options = case.x, case.weight, case.options
    y = on_cpu(getattr(fc, f"{family}{rank}d"), x, weight, case.bias, **options)
    grad_out = values(y.shape, x.dtype, case.seed + 3)
    args = {
        "_backward": (grad_out, x, weight),
        "_backward_input": (grad_out, weight, x.shape),
        "_backward_weight": (grad_out, x, weight.shape),
    }.get(name.partition(f"{rank}d")[2], (x, weight, case.bias))
    if name == f"conv{rank}d":
        options = {**options, "activation": draw(st.sampled_from((None, "relu")))}
    return Call(args, options, {"products": True})


@st.composite
def _dense_layers(draw, name):
    batch, features, out_features = (draw(st.integers(low, 40)) for low in (0, 0, 1))
    dtype, seed, arrange = draw(st.sampled_from(DTYPES)), draw(st.integers(0, 99)), draw(strategies.arrangements())
    x, weight = (arrange(values(shape, dtype, seed)) for shape in ((batch, features), (out_features, features)))
    if name == "linear_backward":
        return Call((values((batch, out_features), dtype, seed + 1), x, weight), {}, {"products": True})
    bias = draw(st.sampled_from((None, values(out_features, dtype, seed + 2))))
    return Call((x, weight, bias), {"activation": draw(st.sampled_from((None, "relu")))}, {"products": True})


# -------------------------------------------------------------------------------------------------------------- pooling
@st.composite
def images(draw, rank):
    """An image in some memory order, of some type, with a NaN in it or not."""
    sizes = tuple(draw(st.integers(1, {1: 40, 2: 9, 3: 5}[rank])) for _ in range(rank))
    shape = (draw(st.integers(0, 3)), draw(st.integers(1, 5)), *sizes)
    x = values(shape, draw(st.sampled_from(DTYPES)), draw(st.integers(0, 999)))
    if x.size and draw(st.booleans()):
        x.reshape(-1)[draw(st.integers(0, x.size - 1))] = np.nan
    return draw(st.sampled_from((contiguous, channels_last, gaps)))(x)


def _poolings(name, family, rank):
    make = {"adaptive_avg_pool": _shared_axes, "adaptive_max_pool": _shared_axes, "lp_pool": _power_norms}
    return make.get(family, _unpoolings if "unpool" in family else _windows)(name, family, rank)


@st.composite
def _windows(draw, name, family, rank):
    """Windows that slide: maxima, averages and sums."""
    x, kernel = draw(images(rank)), draw(st.tuples(*[st.integers(1, 3)] * rank))
    dilation = 1 if family == "sum_pool" else draw(per_axis(rank, 2))
    padding = draw(paddings(rank, 2))
    least = [smallest_size(axis, rank, kernel, padding, dilation) for axis in range(rank)]
    sizes = [max(n, m) for n, m in zip(x.shape[2:], least, strict=True)]
    x = np.resize(np.nan_to_num(x), (*x.shape[:2], *sizes)) if list(x.shape[2:]) != sizes else x
    options = {"stride": draw(per_axis(rank, 3)), "padding": padding, "ceil_mode": draw(st.booleans())}
    options |= {} if family == "sum_pool" else {"dilation": dilation}
    if family == "avg_pool":
        divisor = draw(st.sampled_from((None, None, 1, 7)))
        options |= {"count_include_pad": draw(st.booleans()), "divisor_override": divisor}
    backward, sums = name.endswith("_backward"), {"length": 27, "scale": 16.0}
    if family == "max_pool":
        y, indices = on_cpu(getattr(fc, f"max_pool{rank}d"), x, kernel, return_indices=True, **options)
        if backward:
            return Call((_like(x, y), indices, x.shape), {}, sums)
        return Call((x, kernel), {**options, "return_indices": draw(st.booleans())}, sums)
    y = on_cpu(getattr(fc, f"{family}{rank}d"), x, kernel, **options)
    return Call((_like(x, y), x.shape, kernel) if backward else (x, kernel), options, sums)


@st.composite
def _unpoolings(draw, name, family, rank):
    x = draw(images(rank))
    kernel = tuple(min(2, n) for n in x.shape[2:])
    y, indices = on_cpu(getattr(fc, f"max_pool{rank}d"), x, kernel, return_indices=True)
    return Call((x, indices) if name.endswith("_backward") else (y.astype(x.dtype), indices, x.shape), {})


@st.composite
def _shared_axes(draw, name, family, rank):
    x = draw(images(rank))
    size = tuple(draw(st.integers(1, n)) for n in x.shape[2:])
    if name.endswith("_backward"):
        return Call((_like(x, np.zeros((*x.shape[:2], *size))), x.shape), {}, {"length": 40, "scale": 4.0})
    return Call((x, size), {"return_indices": True} if "max" in family else {}, {"length": 40, "scale": 4.0})


@st.composite
def _power_norms(draw, name, family, rank):
    x = draw(images(rank))
    x = np.abs(np.nan_to_num(x)) + x.dtype.type(0.5)
    args = x, draw(st.sampled_from((1.0, 2.0, 3.0, 2.5))), tuple(min(2, n) for n in x.shape[2:])
    options = {"stride": draw(st.sampled_from((None, 1))), "ceil_mode": draw(st.booleans())}
    if name.endswith("_backward"):
        args = (_like(x, on_cpu(getattr(fc, f"lp_pool{rank}d"), *args, **options)), *args)
    return Call(args, options, {"length": 60, "scale": 4.0})


@st.composite
def _global_poolings(draw, name):
    x = draw(images(draw(st.integers(1, 3))))
    if name == "global_max_pool_backward":
        y, indices = on_cpu(fc.global_max_pool, x, return_indices=True)
        return Call((_like(x, y), indices, x.shape), {})
    if name == "global_avg_pool_backward":
        return Call((values(x.shape[:2], x.dtype, 3), x.shape), {})
    return Call((x,), {"return_indices": True} if "max" in name else {}, {"length": max(x.size, 1), "scale": 4.0})


def _like(x, y):
    """Gradients of y, in the memory order and of the type of x."""
    grad = values(y.shape, x.dtype, 5)
    return channels_last(grad) if x.strides[1] < x.strides[-1] else grad


# ----------------------------------------------------------------------------------------- activation, softmax and loss
@st.composite
def arrays(draw):
    """An array of some rank, type and order in memory, with special values in it or not."""
    shape = tuple(draw(st.lists(st.integers(0, 9), min_size=1, max_size=4)))
    x = values(shape, draw(st.sampled_from(DTYPES)), draw(st.integers(0, 999)))
    special = draw(st.lists(st.sampled_from(SPECIAL), max_size=min(x.size, 3)))
    x.reshape(-1)[: len(special)] = special
    return draw(st.sampled_from(list(ARRANGEMENTS.values())))(x)


@st.composite
def _elementwise(draw, name):
    """ReLU, leaky ReLU, softmax and log-softmax."""
    x, forward = draw(arrays()), name.removesuffix("_backward")
    options = {"negative_slope": draw(st.sampled_from((0.01, 0.25, -2.0)))} if "leaky" in name else {}
    sums = {}
    if "softmax" in name:
        options, sums = {"axis": draw(st.integers(-x.ndim, x.ndim - 1))}, {"length": 40, "scale": 8.0}
    if name == forward:
        return Call((x,), options, sums)
    if "softmax" in name:
        x = on_cpu(getattr(fc, forward), np.nan_to_num(x, posinf=1, neginf=-1), **options).astype(x.dtype)
    return Call((values(x.shape, x.dtype, 1), x), options, sums)


@st.composite
def _losses(draw, name):
    x = np.nan_to_num(draw(arrays()), posinf=1, neginf=-1)
    dtype = draw(st.sampled_from((np.int64, np.int32, np.uint8)))
    classes, shape = x.shape[min(x.ndim - 1, 1)], x.shape[:1] + x.shape[2:] if x.ndim > 1 else ()
    ignored = np.array(draw(st.sampled_from((-100, 0, 200)))).astype(dtype)
    labels = np.full(shape, ignored)
    if classes:
        labels = np.random.default_rng(1).integers(0, classes, shape).astype(dtype)
    reduction = draw(st.sampled_from(("mean", "sum", "none")))
    scale = 8.0 * (max(labels.size, 1) if reduction == "sum" else 1)
    return Call((x, labels), {"reduction": reduction, "ignore_index": int(ignored)}, {"length": 40, "scale": scale})
