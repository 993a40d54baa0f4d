"""Packed weights are the weight: every channel, lane and tap of every phase in its place."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastconv._window import make_window
from fastconv.cpu import _jit
from fastconv.cpu._target import lanes
from fastconv.cpu.layout import read_only
from fastconv.cpu.microkernel import MAX_VECTORS
from fastconv.cpu.panel import SLACK
from fastconv.cpu.plan import make_plan
from fastconv.cpu.weights import block_lanes, make_lanes, pack, pack_core, padded_channels
from tests import strategies
from tests.cpu.test_plan import READINGS, phases, windows


# ---------------------------------------------------------------------------------------------------------------- lanes
def blocks(channels, width):
    """First lane, lanes and channels of every block."""
    along = make_lanes.py_func(channels, width)
    return [block_lanes.py_func(along, block) for block in range(along.blocks)]


@given(st.integers(1, 500), st.sampled_from([2, 4, 8, 16]))
def test_vectors_are_dealt_out_evenly(channels, width):
    along, dealt = make_lanes.py_func(channels, width), blocks(channels, width)
    vectors = [pitch // width for _, pitch, _ in dealt]
    assert all(pitch % width == 0 for _, pitch, _ in dealt)
    assert 1 <= min(vectors) <= max(vectors) <= min(MAX_VECTORS, min(vectors) + 1)
    assert len(dealt) == -(-sum(vectors) // MAX_VECTORS)
    assert [first for first, *_ in dealt] == [sum(vectors[:k]) * width for k in range(len(dealt))]
    assert sum(count for *_, count in dealt) == channels
    assert along.row == sum(vectors) * width < channels + width


def test_five_vectors_are_two_and_three_where_four_fit():
    expected = [2, 3] if MAX_VECTORS == 4 else [1, 2, 2]
    assert [pitch // 8 for _, pitch, _ in blocks(40, 8)] == expected


# -------------------------------------------------------------------------------------------------------------- packing
def expected_packing(weight, backward, groups, made):
    """[phase][group][block][segment][tap, channel][lane], by NumPy's indexing; NaN in lanes without a channel."""
    out_channels, in_channels, *kernel = weight.shape
    grouped = weight.reshape(groups, out_channels // groups, in_channels, *kernel)
    if not backward:
        grouped = grouped.swapaxes(1, 2)
    along, parts = grouped.shape[2], []  # grouped is (groups, summed channels, lanes, *kernel)
    for header, (_, *axes) in phases(made):
        taps = list(itertools.product(*([a.first_tap + t * a.tap_step for t in range(a.taps)] for a in axes)))
        firsts = range(0, header.channels, header.segment)
        for group, (lane, pitch, count), first in itertools.product(
            grouped, blocks(along, lanes(weight.itemsize)), firsts
        ):
            part = group[first : first + header.segment, lane : lane + count]
            padded = np.full((len(taps), part.shape[0], pitch), np.nan)
            for row, tap in zip(padded, taps, strict=True):
                row[:, :count] = part[(..., *tap)]
            parts.append(padded.reshape(-1))
    return np.concatenate(parts)


def assert_packed(packed, expected):
    """Equal in the lanes that are read."""
    read = ~np.isnan(expected)
    np.testing.assert_array_equal(packed[read], expected[read])
    assert np.isfinite(packed).all()


def packed_part(packed, size):
    """What lies in the buffer from its first whole vector on."""
    start = -(packed.ctypes.data // packed.itemsize) % lanes(packed.itemsize)
    return packed[start : start + size], np.append(packed[:start], packed[start + size :])


def check(window, backward, group_in, group_out, groups, dtype):
    kernel = window.kernel_size
    weight = 1 + np.arange(group_out * groups * group_in * np.prod(kernel)).astype(dtype)
    weight = weight.reshape(group_out * groups, group_in, *kernel)
    summed, along = (group_out, group_in) if backward else (group_in, group_out)
    made = make_plan(window, backward, 1, summed, groups, weight.itemsize, READINGS["channels last"])
    expected = expected_packing(weight, backward, groups, made)
    packed, _ = packed_part(pack(read_only(weight), backward, along, groups, made.numbers), expected.size)
    assert_packed(packed, expected)
    return read_only(weight), along, made, expected


@given(
    windows(largest=((1, 2), (1, 3), (1, 6))), st.booleans(), st.integers(1, 40), st.integers(1, 80), st.integers(1, 3),
    st.sampled_from(strategies.DTYPES),
)  # fmt: skip
def test_packing_any_weight(window, backward, group_in, group_out, groups, dtype):
    check(window, backward, group_in, group_out, groups, dtype)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_packing_every_remainder_of_a_vector(backward, dtype):
    """Lanes and summed channels of all remainders, in kernels of one and of several taps, several segments."""
    for kernel, channels in itertools.product((1, 3), range(1, 2 * lanes(4) + 2)):
        window = make_window((5, 5), (kernel, kernel), (1, 1), ((1, 1), (1, 1)), (1, 1))
        for shape in ((channels, 3), (3, channels), (130, channels), (channels, 130)):
            check(window, backward, *shape, 1, dtype)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("workers", [2, 3, 8])
def test_workers_share_the_packing_and_write_nothing_else(backward, workers):
    window = make_window((9, 9), (3, 2), (2, 1), ((1, 1), (0, 0)), (1, 1))
    weight, along, made, expected = check(window, backward, 70, 90, 2, np.float32)
    times = np.zeros(expected.size, int)
    packed = np.full(expected.size + SLACK, np.nan, np.float32)
    for worker in range(workers):
        alone = np.full(expected.size + SLACK, np.nan, np.float32)
        for target in (alone, packed):
            pack_core(worker, workers, weight, target, backward, along, 2, made.numbers)
        part, beside = packed_part(alone, expected.size)
        assert np.isnan(beside).all()
        times += ~np.isnan(part)
    np.testing.assert_array_equal(times, 1)
    assert_packed(packed_part(packed, expected.size)[0], expected)


# ------------------------------------------------------------------------------------------------------------ in Python
def test_padded_channels_are_whole_vectors():
    width = lanes(4)
    assert width == _jit.VECTOR_BYTES // 4
    assert [padded_channels(c, 4) for c in (0, 1, width, width + 1)] == [0, width, width, 2 * width]


@pytest.mark.parametrize("arrange", strategies.ARRANGEMENTS.values(), ids=strategies.ARRANGEMENTS)
def test_read_only_has_the_weight_in_its_order(arrange):
    weight = strategies.values((4, 3, 2, 5), np.float32, 1)
    flat = read_only(arrange(weight))
    np.testing.assert_array_equal(flat, weight.reshape(-1))
    assert flat.flags.c_contiguous
    assert not flat.flags.writeable
    assert type(flat) is np.ndarray
