"""Panels hold what NumPy's padding and slicing gives, whatever the order, stride, dilation and box."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastconv._window import make_window
from fastconv.cpu import _jit
from fastconv.cpu._target import lanes
from fastconv.cpu.panel import make_reader, read_box, transpose_run
from fastconv.cpu.plan import box_at, make_plan, phase_header
from fastconv.cpu.pointers import lanes_at, pointer
from tests import naive, strategies
from tests.cpu.test_plan import READINGS, SmallBoxes, phases, plans, small_boxes


# ---------------------------------------------------------------------------------------------------------------- boxes
@_jit.compiled
def gather(x, channels_last, numbers, tables, phase, group, columns):
    """columns[image, grid pixel, summand], read through the panel of every box; how much is written beyond a panel."""
    header, reader = phase_header(numbers, phase), make_reader(x, channels_last, numbers, tables, phase)
    reader.panel[:] = np.nan
    for index in range(header.boxes):
        box = box_at(numbers, phase, index)
        start = read_box(reader, numbers, phase, box, group)
        each = box.depth * box.height * box.width
        for p in range(box.images * each):
            for r in range(columns.shape[2]):
                columns[box.n + p // each, box.grid + p % each, r] = start[reader.pixels[p] + reader.summands[r]]
    beyond = header.panel + 2 * lanes_at(pointer(x, 0))  # its start is aligned, and its last store may spill
    return np.sum(~np.isnan(reader.panel[beyond:])) + 0 * (x.size + tables.size)


def forward_coordinates(window, axes):
    """For every axis, tap and grid pixel the input pixel that is read, or one beyond the input."""
    lists = zip(window.stride, window.padding_before, window.dilation, axes, strict=True)
    return [[[s * o - p + d * k for o in range(a.count)] for k in range(a.kernel_size)] for s, p, d, a in lists]


def backward_coordinates(window, axes):
    """The same of the gradient that pixels of a phase read."""
    lists = zip(window.stride, window.padding_before, window.dilation, axes, strict=True)
    return [
        [[(a.start + a.step * o + p - d * (a.first_tap + t * a.tap_step)) // s for o in range(a.count)]
         for t in range(a.taps)]
        for s, p, d, a in lists
    ]  # fmt: skip


def expected_columns(x, coordinates, segment):
    """(images, grid, summands) of x, summands in the order (segment of channels, tap, channel)."""
    borders = [1 + max(abs(i) for row in axis for i in row) for axis in coordinates]
    padded = naive.pad(x, [(border, border) for border in borders])
    inside = [[np.array(row) + border for row in axis] for axis, border in zip(coordinates, borders, strict=True)]
    taps = [padded[(..., *np.ix_(*rows))] for rows in itertools.product(*inside)]
    stacked = np.stack(taps, 2).reshape(*x.shape[:2], len(taps), -1)
    parts = [stacked[:, c : c + segment].transpose(0, 3, 2, 1) for c in range(0, x.shape[1], segment)]
    return np.concatenate([part.reshape(*part.shape[:2], -1) for part in parts], 2)


def check(window, backward, images, channels, groups, itemsize, reading):
    dtype, size = {4: np.float32, 8: np.float64}[itemsize], window.output_size if backward else window.input_size
    x = strategies.values((images, channels * groups, *size), dtype, 1)
    flat = np.ascontiguousarray(np.moveaxis(x, 1, -1) if reading.channels_last else x).reshape(-1)
    made = make_plan(window, backward, images, channels, groups, itemsize, reading)
    for phase, (header, (_, *axes)) in enumerate(phases(made)):
        if header.taps == 0:
            continue
        coordinates = backward_coordinates(window, axes) if backward else forward_coordinates(window, axes)
        for group in range(groups):
            expected = expected_columns(x[:, group * channels :][:, :channels], coordinates, header.segment)
            columns = np.full(expected.shape, np.nan, dtype)
            assert gather(flat, reading.channels_last, made.numbers, made.tables, phase, group, columns) == 0
            np.testing.assert_array_equal(columns, expected)


@given(plans(largest=((1, 2), (1, 5), (1, 9))), small_boxes)
def test_panels_hold_the_windows_of_any_pass(arguments, limits):
    with limits:
        check(*arguments)


CASES = {
    "padding before": ((6, 7), (3, 3), (1, 1), ((2, 0), (1, 0)), (1, 1)),
    "padding after": ((6, 7), (3, 3), (1, 1), ((0, 1), (0, 2)), (1, 1)),
    "one column of padding": ((6, 7), (3, 3), (1, 1), ((0, 0), (0, 1)), (1, 1)),
    "more padding than input": ((2, 3), (2, 2), (1, 1), ((7, 6), (5, 8)), (1, 1)),
    "windows wholly in the padding": ((1, 1), (1, 2), (2, 2), ((3, 3), (3, 3)), (1, 1)),
    "stride skips pixels": ((9, 11), (1, 1), (3, 2), ((0, 0), (0, 0)), (1, 1)),
    "stride and dilation share a divisor": ((11, 23), (3, 3), (2, 4), ((1, 0), (3, 2)), (4, 6)),
    "dilation beyond the input": ((4, 5), (3, 2), (1, 1), ((6, 6), (6, 6)), (6, 6)),
    "even kernel": ((8, 9), (2, 4), (1, 1), ((1, 1), (2, 1)), (1, 1)),
    "a wide row": ((1, 301), (1, 7), (1, 1), ((0, 0), (3, 3)), (1, 1)),
    "a tall column": ((301, 1), (7, 1), (1, 1), ((3, 3), (0, 0)), (1, 1)),
    "depth": ((5, 4, 6), (2, 3, 3), (2, 1, 2), ((1, 0), (1, 1), (0, 2)), (1, 1, 2)),
}
LIMITS = {"one box": (1 << 20, 24), "bands of rows": (4000, 3), "parts of rows": (200, 4)}


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS)
def test_panels_of_named_windows(reading, limits):
    with SmallBoxes(*limits):
        for case, channels, backward in itertools.product(CASES.values(), (5, 16), (False, True)):
            check(make_window(*case), backward, 3, channels, 2, 4, reading)


# ----------------------------------------------------------------------------------------------------------------- runs
@_jit.compiled
def call_run(source, stride, rows, target, start, to, count, readable):
    transpose_run(pointer(source, 0), stride, rows, pointer(target, start), pointer(to, 0), count, readable)
    return source.size + target.size + to.size


@given(st.data(), st.sampled_from(strategies.DTYPES))
def test_a_run_is_transposed_and_spills_behind_its_last_pixel_only(data, dtype):
    width = lanes(np.dtype(dtype).itemsize)
    rows, count = data.draw(st.integers(1, 3 * width)), data.draw(st.integers(1, 3 * width))
    stride, seed = count + data.draw(st.integers(0, 9)), data.draw(st.integers(0, 1000))
    skipped = np.random.default_rng(seed).random(count) < data.draw(st.sampled_from([0, 0.5, 1]))
    pitch = rows + data.draw(st.integers(0, 5))
    vectors_may_read = data.draw(st.booleans())
    to = np.append(np.where(skipped, -1, np.cumsum(~skipped) * pitch), np.full(width, -1))
    source = 1 + np.arange((rows - 1) * stride + max(count, width if vectors_may_read else 0)).astype(dtype)
    target = np.zeros(7 + (count + 1) * pitch + width, dtype)
    call_run(source, stride, rows, target, 7, to, count, source.size if vectors_may_read else 0)
    expected, last = np.zeros_like(target), 0
    for q in np.flatnonzero(~skipped):
        last = 7 + to[q] + rows
        expected[7 + to[q] : last] = source[q : q + (rows - 1) * stride + 1 : stride]
    spilled = slice(last, last + width if last else 0)
    gap = [7 + to[q] + k for q in np.flatnonzero(~skipped) for k in range(rows, pitch)]  # nobody reads between pixels
    expected[gap], expected[spilled] = target[gap], target[spilled]
    np.testing.assert_array_equal(target, expected)
