"""Window geometry: sizes, padding forms and the three axes that kernels see."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fastconv import _checks, _window
from fastconv._checks import windows
from tests import naive, strategies

axes = {
    "size": st.integers(1, 40),
    "kernel": st.integers(1, 9),
    "stride": st.integers(1, 9),
    "before": st.integers(0, 9),
    "after": st.integers(0, 9),
    "dilation": st.integers(1, 5),
}


@given(**axes)
def test_output_size_counts_the_windows_that_fit(size, kernel, stride, before, after, dilation):
    reach = dilation * (kernel - 1) + 1
    starts = [p for p in range(0, before + size + after, stride) if p + reach <= before + size + after]
    assert max(_window.output_size(size, kernel, stride, before, after, dilation), 0) == len(starts)


@given(**axes)
def test_ceil_mode_adds_a_partial_window_unless_it_starts_in_the_padding(size, kernel, stride, before, after, dilation):
    reach, end = dilation * (kernel - 1) + 1, before + size + after
    starts = [p for p in range(0, end, stride) if p + reach <= end]
    assume(starts)
    if starts[-1] + reach < end and starts[-1] + stride < before + size:
        starts.append(starts[-1] + stride)
    assert _window.output_size(size, kernel, stride, before, after, dilation, ceil_mode=True) == len(starts)


@pytest.mark.parametrize(
    ("arguments", "floor", "ceil"),
    [
        ((7, 2, 2, 0, 0, 1), 3, 4),
        ((8, 2, 2, 0, 0, 1), 4, 4),
        ((6, 3, 2, 0, 0, 1), 2, 3),
        ((6, 3, 2, 1, 1, 1), 3, 4),
        ((5, 1, 4, 0, 0, 1), 2, 2),
        ((6, 1, 4, 0, 0, 1), 2, 2),
        ((4, 2, 4, 1, 1, 1), 2, 2),
        ((3, 2, 4, 1, 1, 1), 1, 1),  # the window that ceil_mode adds would start at 4, in the padding after
        ((3, 2, 1, 5, 5, 1), 12, 12),  # whole windows in the padding after stay
        ((3, 2, 4, 5, 5, 1), 3, 3),
        ((32, 5, 1, 0, 0, 1), 28, 28),
        ((9, 3, 1, 0, 0, 1), 7, 7),
        ((2, 5, 1, 0, 0, 1), -2, -2),
    ],
)
def test_output_size_by_example(arguments, floor, ceil):
    assert _window.output_size(*arguments) == floor
    assert _window.output_size(*arguments, ceil_mode=True) == ceil


@given(st.integers(1, 50), st.integers(1, 9), st.integers(1, 9), st.integers(1, 5))
def test_same_padding_gives_a_window_per_stride(size, kernel, stride, dilation):
    upper = _window.same_padding(size, kernel, stride, dilation)
    lower = _window.same_padding(size, kernel, stride, dilation, lower=True)
    assert lower == upper[::-1]
    assert 0 <= upper[1] - upper[0] <= 1
    assert upper == naive.padding_pairs("same", (size,), (kernel,), (stride,), (dilation,))[0]
    assert _window.output_size(size, kernel, stride, *upper, dilation) == -(-size // stride)


@given(st.data(), st.sampled_from([1, 2, 3]))
def test_every_form_of_the_arguments_gives_the_same_window(data, rank):
    kernel = data.draw(st.tuples(*[st.integers(1, 5)] * rank))
    stride, dilation = data.draw(strategies.per_axis(rank, 4)), data.draw(strategies.per_axis(rank, 4))
    padding = data.draw(strategies.paddings(rank))
    size = tuple(
        strategies.smallest_size(axis, rank, kernel, padding, dilation) + data.draw(st.integers(0, 9))
        for axis in range(rank)
    )
    window = _checks.window(size, kernel, stride, padding, dilation)
    strides, dilations = naive.per_axis(stride, rank), naive.per_axis(dilation, rank)
    pairs = naive.padding_pairs(padding, size, kernel, strides, dilations)
    before, after = zip(*pairs, strict=True)
    output = naive.Sliding(size, kernel, stride, padding, dilation).output_size
    expected = (size, kernel, strides, before, after, dilations, output)
    assert [field[3 - rank :] for field in window] == list(expected)
    leading = (1, 1, 1, 0, 0, 1, 1)
    assert [set(field[: 3 - rank]) for field in window] == [{value} if rank < 3 else set() for value in leading]


def test_packed_has_the_fields_in_order():
    window = _checks.window((9, 8), (3, 2), (2, 1), ((1, 2), (3, 4)), 2)
    packed = window.packed()
    assert packed.dtype == np.int64
    assert packed.tolist() == [
        [1, 9, 8],
        [1, 3, 2],
        [1, 2, 1],
        [0, 1, 3],
        [0, 2, 4],
        [1, 2, 2],
        [1, 4, 13],
    ]
    assert packed is window.packed()
    with pytest.raises(ValueError, match="read-only"):
        packed[0, 0] = 2


def test_memory_of_shapes_seen_is_bounded():
    for cache in (windows._fitting_window, windows._convolution, _window._packed):
        assert cache.cache_info().maxsize == 1024
