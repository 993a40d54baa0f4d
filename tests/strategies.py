"""What hypothesis draws: memory arrangements, window arguments and whole convolution calls."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from hypothesis import strategies as st

DTYPES = (np.float32, np.float64)


# ------------------------------------------------------------------------------------------------- memory arrangements
def contiguous(x):
    return np.ascontiguousarray(x)


def channels_last(x):
    """The channel axis (the second) is the fastest in memory, as in ``images.transpose(0, 3, 1, 2)``."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1) if x.ndim > 2 else contiguous(x)


def gaps(x):
    """Every second element of a larger array on every axis; what lies between is NaN, or the largest integer."""
    filler = np.iinfo(x.dtype).max if x.dtype.kind in "iu" else np.nan
    larger = np.full([2 * n + 1 for n in x.shape], filler, x.dtype)
    view = larger[(..., *(slice(1, 2 * n, 2) for n in x.shape))]
    view[...] = x
    return view


def backwards(x):
    """Negative strides on every axis."""
    turned = (slice(None, None, -1),) * x.ndim
    return np.ascontiguousarray(x[turned])[turned]


def fortran(x):
    return np.asfortranarray(x)


def read_only(x):
    view = x.copy()
    view.setflags(write=False)
    return view


def unaligned(x):
    """The data starts at an odd address."""
    buffer = np.zeros(x.nbytes + 1, np.uint8)
    view = buffer[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


ARRANGEMENTS = {
    arrange.__name__: arrange for arrange in (contiguous, channels_last, gaps, backwards, fortran, read_only, unaligned)
}


def arrangements():
    """A function that gives an array with the same values, arranged differently in memory."""
    return st.sampled_from(list(ARRANGEMENTS.values()))


def values(shape, dtype, seed, integers=False):
    """Normal random numbers, or integers from -4 to 4 so that sums of products are exact in any order."""
    rng = np.random.default_rng(seed)
    return (rng.integers(-4, 5, shape) if integers else rng.standard_normal(shape)).astype(dtype)


# ----------------------------------------------------------------------------------------------------- window arguments
def per_axis(count, largest, smallest=1):
    """One int, or one per axis as a tuple or a list."""
    one = st.integers(smallest, largest)
    several = st.tuples(*[one] * count)
    return st.one_of(one, several, several.map(list))


def paddings(count, largest=4):
    """Every form of padding."""
    pair = st.tuples(st.integers(0, largest), st.integers(0, largest))
    names = st.sampled_from(["valid", "same", "same_lower"])
    return st.one_of(per_axis(count, largest, 0), st.tuples(*[pair] * count), names)


def smallest_size(axis, count, kernel, padding, dilation):
    """The fewest elements on one axis of the input that the window still fits into."""
    if padding in ("same", "same_lower"):
        return 1
    reach = (dilation if isinstance(dilation, int) else dilation[axis]) * (kernel[axis] - 1) + 1
    around = 0
    if padding != "valid":
        item = padding if isinstance(padding, int) else padding[axis]
        around = 2 * item if isinstance(item, int) else sum(item)
    return max(reach - around, 1)


# -------------------------------------------------------------------------------------------------------- convolutions
@dataclasses.dataclass
class Convolution:
    """The arguments of one call and a gradient of its result."""

    x: Any
    weight: Any
    bias: Any
    options: dict[str, Any]
    seed: int

    def grad_out(self, y, integers=False):
        return values(y.shape, y.dtype, self.seed + 3, integers)


@st.composite
def convolutions(draw, ranks=(1, 2, 3), integers=False, dtypes=DTYPES):
    """A convolution of any rank with random options, its arrays arranged in memory at random."""
    rank = draw(st.sampled_from(ranks))
    largest = {1: 12, 2: 6, 3: 3}[rank]
    kernel = draw(st.tuples(*[st.integers(1, min(largest, 5))] * rank))
    options = {
        "stride": draw(per_axis(rank, 3)),
        "padding": draw(paddings(rank)),
        "dilation": draw(per_axis(rank, 3)),
        "groups": draw(st.integers(1, 3)),
    }
    sizes = tuple(
        smallest_size(axis, rank, kernel, options["padding"], options["dilation"]) + draw(st.integers(0, largest))
        for axis in range(rank)
    )
    group_in, group_out = draw(st.integers(0, 9)), draw(st.integers(1, 9))
    dtype, seed = draw(st.sampled_from(dtypes)), draw(st.integers(0, 2**31))
    x = values((draw(st.integers(0, 3)), group_in * options["groups"], *sizes), dtype, seed, integers)
    weight = values((group_out * options["groups"], group_in, *kernel), dtype, seed + 1, integers)
    bias = values(len(weight), dtype, seed + 2, integers) if draw(st.booleans()) else None
    return Convolution(draw(arrangements())(x), draw(arrangements())(weight), bias, options, seed)


@st.composite
def transposed_convolutions(draw, ranks=(1, 2, 3), integers=False, dtypes=DTYPES):
    """A transposed convolution of any rank with random options, its arrays arranged in memory at random."""
    rank = draw(st.sampled_from(ranks))
    kernel = draw(st.tuples(*[st.integers(1, 4)] * rank))
    stride, dilation = (draw(st.tuples(*[st.integers(1, 3)] * rank)) for _ in range(2))
    more = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    sizes, pairs = [], []
    for k, s, d, m in zip(kernel, stride, dilation, more, strict=True):
        sizes.append(draw(st.integers(1, {1: 9, 2: 5, 3: 3}[rank])))
        whole = (sizes[-1] - 1) * s + d * (k - 1) + 1 + m
        before = draw(st.integers(0, min(4, whole - 1)))
        pairs.append((before, draw(st.integers(0, min(4, whole - 1 - before)))))
    groups, group_in, group_out = draw(st.integers(1, 3)), draw(st.integers(1, 9)), draw(st.integers(1, 9))
    options = {"stride": stride, "padding": pairs, "output_padding": more, "groups": groups, "dilation": dilation}
    dtype, seed = draw(st.sampled_from(dtypes)), draw(st.integers(0, 2**31))
    x = values((draw(st.integers(1, 3)), group_in * groups, *sizes), dtype, seed, integers)
    weight = values((group_in * groups, group_out, *kernel), dtype, seed + 1, integers)
    bias = values(group_out * groups, dtype, seed + 2, integers) if draw(st.booleans()) else None
    return Convolution(draw(arrangements())(x), draw(arrangements())(weight), bias, options, seed)
