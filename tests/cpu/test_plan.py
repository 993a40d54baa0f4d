"""Plans: the walks visit what a plain loop visits, the boxes cut the grid, tables and pitches stay in the panel."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastconv._window import make_window
from fastconv.cpu import _jit, plan
from fastconv.cpu.plan import Reading, box_at, make_plan, phase_axes, phase_header
from fastconv.cpu.plan_phases import Axis, Header


# ---------------------------------------------------------------------------------------------------------------- draws
@st.composite
def windows(draw, largest=((1, 2), (1, 7), (1, 12))):
    """Windows of sizes up to ``largest`` on each axis, with any stride, dilation and padding that leave an output."""
    axes = []
    for low, high in largest:
        kernel, stride, dilation = draw(st.integers(1, min(high, 4))), draw(st.integers(1, 4)), draw(st.integers(1, 4))
        before, after = draw(st.integers(0, 4)), draw(st.integers(0, 4))
        least = max(low, dilation * (kernel - 1) + 1 - before - after)
        axes.append((least + draw(st.integers(0, high - 1)), kernel, stride, (before, after), dilation))
    return make_window(*zip(*axes, strict=True))


READINGS = {
    "channels last": Reading(True),
    "channels last, beyond": Reading(True, beyond=True),
    "channels first": Reading(False),
    "planar": Reading(False, planar=True),
    "pixels in lanes": Reading(False, pixels=True, beyond=True),
}


@st.composite
def readings(draw):
    """A reading, with or without a low limit on the pixels of a box."""
    reading = draw(st.sampled_from(list(READINGS.values())))
    return reading._replace(most=draw(st.one_of(st.just(reading.most), st.integers(1, 200))))


@st.composite
def plans(draw, **sizes):
    """The arguments of a plan."""
    images, channels, groups = draw(st.integers(1, 7)), draw(st.integers(1, 40)), draw(st.integers(1, 3))
    return (
        draw(windows(**sizes)), draw(st.booleans()), images, channels, groups, draw(st.sampled_from([4, 8])),
        draw(readings()),
    )  # fmt: skip


class SmallBoxes:
    """Plans whose panels hold this much at most, so that small arrays take many boxes."""

    def __init__(self, panel_bytes, least):
        self.limits = {"PANEL_BYTES": panel_bytes, "LEAST_PIXELS": least}

    def __enter__(self):
        self.patch = pytest.MonkeyPatch()
        for name, value in self.limits.items():
            self.patch.setattr(plan, name, value)
        make_plan.cache_clear()

    def __exit__(self, *error):
        self.patch.undo()
        make_plan.cache_clear()


small_boxes = st.builds(SmallBoxes, st.integers(16, 20_000), st.integers(1, 6))


def phases(made):
    """For every phase of a plan its header and axes (images, depth, height, width)."""
    for rows in made.numbers:
        yield Header(*map(int, rows[0, : len(Header._fields)])), [Axis(*map(int, row)) for row in rows[1:]]


# ---------------------------------------------------------------------------------------------------------------- walks
def visited(axes):
    """(input, tap, output) on the three axes, for every grid pixel and tap of a phase that meets the input."""

    def on_axis(a):
        for o, t in itertools.product(range(a.count), range(a.taps)):
            i = a.stride * o + a.low + a.offset + a.offset_step * t
            if 0 <= i < a.size:
                yield i, a.first_tap + a.tap_step * t, a.start + a.step * o

    return [tuple(zip(*triple, strict=True)) for triple in itertools.product(*map(on_axis, axes))]


def looped(window):
    """The same of a convolution, by plain loops: output o meets input o * stride - padding + tap * dilation."""

    def on_axis(a):
        for o, k in itertools.product(range(window.output_size[a]), range(window.kernel_size[a])):
            i = o * window.stride[a] - window.padding_before[a] + k * window.dilation[a]
            if 0 <= i < window.input_size[a]:
                yield i, k, o

    return [tuple(zip(*triple, strict=True)) for triple in itertools.product(*(on_axis(a) for a in range(3)))]


@given(plans(largest=((1, 2), (1, 4), (1, 6))))
def test_a_plan_visits_what_loops_visit_once(arguments):
    window, backward, *_ = arguments
    found = [triple for _, (_, *axes) in phases(make_plan(*arguments)) for triple in visited(axes)]
    if backward:  # reads the output and writes the input
        found = [(i, k, o) for o, k, i in found]
    assert sorted(found) == sorted(looped(window))


@given(plans())
def test_phases_share_out_the_result(arguments):
    """Every pixel of the result, padding and all, is written by one phase; sizes are those of the arrays."""
    window, backward, images, *_ = arguments
    size, out_size = (window.output_size, window.input_size) if backward else (window.input_size, window.output_size)
    written = np.zeros(out_size, int)
    for _, (n, *axes) in phases(make_plan(*arguments)):
        written[tuple(slice(a.start, a.start + a.count * a.step, a.step) for a in axes)] += 1
        assert (n.count, tuple(a.size for a in axes), tuple(a.out_size for a in axes)) == (images, size, out_size)
        assert all(a.start + (a.count - 1) * a.step < a.out_size for a in axes)
    np.testing.assert_array_equal(written, 1)


@given(plans())
def test_low_and_span_are_the_reach_of_the_taps(arguments):
    for header, (_, *axes) in phases(make_plan(*arguments)):
        assert header.taps == np.prod([a.taps for a in axes])
        for a in axes:
            offsets = {a.offset + t * a.offset_step for t in range(a.taps)} or {0}
            assert (min(offsets), max(offsets)) == (0, a.span)
            pixels = {a.stride * o for o in range(a.count)}
            assert a.unit == (math.gcd(*pixels, *offsets) or 1)


# ---------------------------------------------------------------------------------------------------------------- boxes
@_jit.compiled
def read_box(numbers, phase, index):
    return box_at(numbers, phase, index)


def make_read(read, tuple_class):
    """A kernel that reads all fields of a place in the plan by their names."""
    names = {"read": read}
    fields = ", ".join(f"there.{name}" for name in tuple_class._fields)
    exec(f"def read_all(numbers, phase, k):\n    there = read(numbers, phase, k)\n    return {fields}", names)
    return _jit.compiled(names["read_all"])


@_jit.inlined
def header_of(numbers, phase, k):
    return phase_header(numbers, phase)


@_jit.inlined
def axis_of(numbers, phase, k):
    return phase_axes(numbers, phase)[k]


read_header, read_axis = make_read(header_of, Header), make_read(axis_of, Axis)


def pixels_of(box):
    """A box's pixels (image, depth, height, width), in order."""
    axes = zip((box.n, box.d, box.h, box.w), (box.images, box.depth, box.height, box.width), strict=True)
    return itertools.product(*(range(first, first + count) for first, count in axes))


@given(plans(), small_boxes)
def test_every_grid_pixel_lies_in_one_box(arguments, limits):
    with limits:
        made = make_plan(*arguments)
    for phase, (header, (n, *axes)) in enumerate(phases(made)):
        grid = (n.count, *(a.count for a in axes))
        times = np.zeros(grid, int)
        for index in range(header.boxes):
            box = read_box(made.numbers, phase, index)
            pixels = list(pixels_of(box))
            for pixel in pixels:
                times[pixel] += 1
            assert len(pixels) <= header.box_pixels <= arguments[-1].most
            # Of every image the box holds a run of pixels from box.grid on, as stores of whole vectors want it.
            each = len(pixels) // box.images
            numbers = np.ravel_multi_index(np.array(pixels).T[1:], grid[1:]).reshape(box.images, each)
            np.testing.assert_array_equal(numbers, box.grid + np.arange(each) + 0 * numbers)
        np.testing.assert_array_equal(times, 1)


@given(plans(), small_boxes)
def test_kernels_read_the_plan_as_it_was_made(arguments, limits):
    with limits:
        made = make_plan(*arguments)
    assert next(phases(made))[0]._replace(pixels=0, summands=0, rows=0) == made.header
    assert made.most_boxes == max(header.boxes for header, _ in phases(made))
    for phase, (header, axes) in enumerate(phases(made)):
        assert read_header(made.numbers, phase, 0) == tuple(header)
        assert [read_axis(made.numbers, phase, k) for k in range(4)] == [tuple(a) for a in axes]


@given(plans(), small_boxes)
def test_boxes_keep_to_their_bytes_where_they_can(arguments, limits):
    with limits:
        made = make_plan(*arguments)
    *_, channels, _, itemsize, _ = arguments
    for _, (n, d, h, w) in phases(made):
        read = n.box * d.extent(d.box) * h.extent(h.box) * w.extent(w.box) * channels * itemsize
        smallest = (n.box, d.box, h.box) == (1, 1, 1) and w.box <= limits.limits["LEAST_PIXELS"]
        assert read <= limits.limits["PANEL_BYTES"] or smallest


@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS)
def test_boxes_of_common_layers_fill_their_bytes(reading):
    """As many pixels as fit, up to making the parts even."""
    for images, channels, size in ((32, 64, 56), (1, 3, 224), (8, 256, 14), (1, 512, 7), (16, 16, 112)):
        window = make_window((size, size), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
        [(header, (n, d, h, w))] = phases(make_plan(window, False, images, channels, 1, 4, reading))
        read = n.box * d.extent(d.box) * h.extent(h.box) * w.extent(w.box) * channels * 4
        assert read <= plan.PANEL_BYTES
        most = min(reading.most, images * size * size)
        assert 3 * header.box_pixels > most or 3 * read > plan.PANEL_BYTES
        assert header.boxes == n.parts * h.parts * w.parts


@given(plans(), small_boxes)
def test_segments_make_chains_of_an_even_length(arguments, limits):
    """Neither order, nor type, nor limits count: they must not, for results to be the same."""
    window, backward, images, channels, groups, itemsize, _ = arguments
    with limits:
        segments = [
            [header.segment for header, _ in phases(make_plan(window, backward, n, channels, g, size, reading))]
            for reading in READINGS.values()
            for n, g, size in ((images, groups, itemsize), (1, 1, 12 - itemsize))
        ]
    assert all(one == segments[0] for one in segments)
    for (header, _), segment in zip(phases(make_plan(*arguments)), segments[0], strict=True):
        assert 1 <= segment <= channels
        assert segment * header.taps <= plan.DEPTH or segment <= 8
        parts = -(-channels // segment)
        assert (parts - 1) * segment < channels
        assert parts == 1 or (segment + 8) * header.taps * 2 > plan.DEPTH


# --------------------------------------------------------------------------------------------------------------- tables
def table(made, start, length):
    return made.tables[start : start + length]


ZERO = "zero"


@given(plans(), small_boxes)
def test_tables_lead_to_places_of_their_own_in_the_panel(arguments, limits):
    """Two (pixel, summand) pairs share a place if they read the same input element, and lie in the panel if any.

    With pixels in the lanes zeros beyond the input share places as well, among each other.
    """
    with limits:
        made = make_plan(*arguments)
    channels, reading = arguments[3], arguments[6]
    for header, (n, d, h, w) in phases(made):
        pixels = table(made, header.pixels, header.box_pixels)
        summands = table(made, header.summands, header.taps * header.channels)
        assert len(pixels) == header.box_pixels
        if header.taps == 0:
            continue
        places = pixels[:, None] + summands
        first = (n.box, d.box, h.box, w.box)
        inputs = np.array([
            [(i, *(a.stride * o + a.offset + a.offset_step * t for a, o, t in zip((d, h, w), at, tap, strict=True)), c)
             for c0 in range(0, channels, header.segment)
             for tap in itertools.product(*(range(a.taps) for a in (d, h, w)))
             for c in range(c0, min(channels, c0 + header.segment))]
            for i, *at in itertools.product(*map(range, first))
        ])  # fmt: skip
        zeros = np.zeros(inputs.shape[:2], bool)
        for k, axis in enumerate((d, h, w) if reading.pixels else (), 1):
            zeros |= (inputs[..., k] + axis.low < 0) | (inputs[..., k] + axis.low >= axis.size)
        reached = {}
        elements = map(tuple, inputs.reshape(-1, 5).tolist())
        for place, element, zero in zip(places.ravel().tolist(), elements, zeros.ravel().tolist(), strict=True):
            assert reached.setdefault(place, ZERO if zero else element) == (ZERO if zero else element)
        own = [element for element in reached.values() if element != ZERO]
        assert len(set(own)) == len(own)
        assert min(reached) == 0
        if not header.in_place:
            assert max(reached) < header.panel


@given(plans(), small_boxes)
def test_phases_are_the_same_again_where_boxes_and_tables_are(arguments, limits):
    with limits:
        made = make_plan(*arguments)
    before = None
    for header, axes in phases(made):
        tables = [table(made, header.pixels, header.box_pixels), table(made, header.summands, header.taps)]
        boxes = [axis._replace(start=0, first_tap=0) for axis in axes]
        now = header._replace(again=0, pixels=0, summands=0, rows=0), boxes, [part.tolist() for part in tables]
        assert header.again == (now == before)
        before = now


@given(plans())
def test_plans_are_read_only_and_kept(arguments):
    made = make_plan(*arguments)
    assert make_plan(*arguments) is made
    assert not made.numbers.flags.writeable
    assert not made.tables.flags.writeable
    assert made.numbers.dtype == made.tables.dtype == np.int64


def test_no_more_plans_are_kept_than_a_network_needs():
    before = make_plan.cache_info()
    assert before.maxsize is not None
    for size in range(before.maxsize + 5):
        make_plan(make_window((size + 3,), (3,), (1,), ((0, 0),), (1,)), False, 1, 1, 1, 4, READINGS["planar"])
    assert make_plan.cache_info().currsize == before.maxsize


def test_in_place_where_nothing_is_padded():
    for padding, pair in (((0, 0), True), ((1, 0), False), ((0, 1), False)):
        window = make_window((9, 9), (3, 3), (1, 1), ((0, 0), padding), (1, 1))
        in_place = {
            name: next(phases(make_plan(window, False, 2, 5, 1, 4, reading)))[0].in_place
            for name, reading in READINGS.items()
        }
        expected = {name: pair and name in ("channels last", "planar") for name in READINGS}
        assert in_place == expected
