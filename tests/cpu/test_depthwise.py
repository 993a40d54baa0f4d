"""Depthwise convolution and small groups: exactly the naive one in all layouts and boxes; the same bits always."""

import dataclasses
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastconv import _convolution
from fastconv._window import make_window
from fastconv.cpu import depthwise, depthwise_axes, depthwise_plan
from tests import naive, strategies

ORDERS = (strategies.contiguous, strategies.channels_last)


@dataclasses.dataclass
class Case:
    """One convolution in groups of a few channels, of integers."""

    x: Any
    weight: Any
    bias: Any
    grad_out: Any
    options: dict[str, Any]

    def forward(self, activation=None):
        rank = self.weight.ndim - 2
        return _convolution.forward(
            rank, self.x, self.weight, self.bias, *self.options.values(), activation, "auto", None
        )

    def backward(self):
        grads = _convolution.backward(
            self.weight.ndim - 2, self.grad_out, self.x, self.weight, *self.options.values(), "auto"
        )
        return grads.x, grads.weight

    def check(self):
        y = naive.conv_forward(self.x, self.weight, self.bias, **self.options)
        np.testing.assert_array_equal(self.forward(), y)
        np.testing.assert_array_equal(self.forward("relu"), np.maximum(y, 0))
        grad_x, grad_weight = self.backward()
        expected = naive.conv_backward_input(self.grad_out, self.weight, self.x.shape, **self.options)
        np.testing.assert_array_equal(grad_x, expected)
        expected = naive.conv_backward_weight(self.grad_out, self.x, self.weight.shape, **self.options)
        np.testing.assert_array_equal(grad_weight, expected)


def make_case(shape, multiplier, kernel, arrange, dtype, *, ins=1, stride=1, padding=0, dilation=1, integers=True):
    """As many groups as the shape has channels, of ``ins`` channels each."""
    rank, groups = len(kernel), shape[1]
    pairs = naive.padding_pairs(
        padding, shape[2:], kernel, naive.per_axis(stride, rank), naive.per_axis(dilation, rank)
    )
    window = make_window(
        shape[2:], kernel, naive.per_axis(stride, rank), tuple(pairs), naive.per_axis(dilation, rank)
    )  # fmt: skip
    outs, shape = groups * multiplier, (shape[0], groups * ins, *shape[2:])
    shapes = shape, (outs, ins, *kernel), (outs,), (shape[0], outs, *window.output_size[3 - rank :])
    x, weight, bias, grad_out = (strategies.values(s, dtype, seed, integers) for seed, s in enumerate(shapes))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return Case(arrange(x), weight, bias, arrange(grad_out), options)


@st.composite
def cases(draw):
    rank = draw(st.integers(1, 3))
    kernel, stride, dilation = (
        draw(st.tuples(*[st.integers(1, most)] * rank)) for most in ({1: 9, 2: 6, 3: 4}[rank], 4, 3)
    )
    padding = draw(st.tuples(*[st.tuples(st.integers(0, 4), st.integers(0, 4))] * rank))
    most = {1: 150, 2: 20, 3: 6}[rank]
    size = tuple(
        max(1, d * (k - 1) + 1 - sum(pair)) + draw(st.integers(0, most))
        for k, d, pair in zip(kernel, dilation, padding, strict=True)
    )
    shape = (draw(st.integers(1, 2)), draw(st.integers(2, 20)), *size)
    return make_case(
        shape, draw(st.sampled_from([1, 1, 2, 3, 4, 9])), kernel, draw(st.sampled_from(ORDERS)),
        draw(st.sampled_from(strategies.DTYPES)), ins=draw(st.sampled_from([1, 1, 2, 5])), stride=stride,
        padding=padding, dilation=dilation,
    )  # fmt: skip


@pytest.fixture
def small_boxes(monkeypatch):
    """Boxes of a few windows, so that there are many of them, with and without padding on each side."""
    monkeypatch.setattr(depthwise_axes, "PANEL_BYTES", 4096)
    monkeypatch.setattr(depthwise_axes, "LEAST_WIDTH", 16)
    depthwise_plan.make_plan.cache_clear()
    yield
    depthwise_plan.make_plan.cache_clear()


# ----------------------------------------------------------------------------------------- against the naive definition
@given(cases())
def test_all_passes_are_exact(case):
    case.check()


@pytest.mark.parametrize("arrange", ORDERS)
@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_every_side_of_a_map(arrange, dtype):
    """Rows narrower than a vector, as wide, wider, and every remainder; columns of every remainder of a tile."""
    for side in range(1, 36):
        make_case((1, 3, side, side), 1, (3, 3), arrange, dtype, padding=1).check()
        make_case((2, 17, side, 3), 1, (3, 2), arrange, dtype, padding=1, stride=(1, 2)).check()


@pytest.mark.parametrize("arrange", ORDERS)
@pytest.mark.parametrize("dtype", strategies.DTYPES)
@pytest.mark.parametrize("size", range(1, 13))
def test_every_kernel_size(size, arrange, dtype):
    for shape in ((1, 9, 15, 20), (1, 9, 13, 13), (1, 2, 40)):
        make_case(shape, 1, (size,) * (len(shape) - 2), arrange, dtype).check()
        make_case(shape, 1, (size,) * (len(shape) - 2), arrange, dtype, stride=2, padding=size // 2).check()


@pytest.mark.parametrize("arrange", ORDERS)
@pytest.mark.parametrize(
    ("shape", "kernel"),
    [((2, 5, 60, 70), (3, 3)), ((1, 20, 40, 9), (5, 2)), ((1, 3, 9, 8, 24), (2, 3, 3)), ((1, 2, 3001), (7,))],
)
@pytest.mark.parametrize("options", [{"padding": 2}, {"stride": 2, "padding": ((1, 3),)}, {"dilation": 3}])
def test_many_boxes_are_as_exact_as_one(shape, kernel, options, arrange, small_boxes):
    if np.ndim(options.get("padding", 0)) == 2:
        options = {**options, "padding": options["padding"] * len(kernel)}
    make_case(shape, 2, kernel, arrange, np.float32, **options).check()


@pytest.mark.parametrize("dtype", strategies.DTYPES)
@pytest.mark.parametrize(("ins", "outs"), [(4, 4), (2, 6), (6, 2), (7, 3), (3, 1), (7, 8), (5, 11)])
@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"stride": (1, 3), "dilation": 2}])
def test_groups_of_a_few_channels(ins, outs, dtype, options):
    for side in (17, 28, 45):
        case = make_case((2, 3, 9, side), outs, (3, 3), strategies.contiguous, dtype, ins=ins, padding=1, **options)
        window = make_window((9, side), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
        case.check()
        if dtype == np.float32 and not options:  # by the kernels of this file
            assert all(
                depthwise.sums_planes(pass_, case.weight.shape, 3, window, case.x, "auto")
                for pass_ in ("forward", "backward_input", "backward_weight")
            )


@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_images_of_a_group_are_summed_together(dtype):
    """For the weight, as many as make some rows; the last ones are fewer."""
    for stride in (1, 2):
        make_case((9, 2, 12, 18), 5, (3, 3), strategies.contiguous, dtype, ins=4, stride=stride, padding=1).check()


@pytest.mark.parametrize(
    ("shape", "kernel"), [((2, 2, 60, 70), (3, 3)), ((1, 2, 9, 8, 24), (2, 3, 3)), ((3, 2, 3001), (7,))]
)
@pytest.mark.parametrize("options", [{"padding": 2}, {"stride": 2, "padding": 1}, {"dilation": 3}])
def test_many_boxes_of_groups_are_as_exact_as_one(shape, kernel, options, small_boxes):
    make_case(shape, 5, kernel, strategies.contiguous, np.float32, ins=3, **options).check()


def test_windows_may_see_nothing_but_padding():
    make_case((1, 3, 0, 7), 8, (2, 1), strategies.contiguous, np.float32, ins=9, padding=((3, 0), (4, 4))).check()


@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_taps_may_meet_no_row_of_the_input(dtype):
    """An input of fewer rows than the stride: half of the taps of every group see padding alone."""
    options = {"stride": (2, 1), "padding": ((1, 1), (0, 0))}
    make_case((2, 3, 1, 9), 4, (3, 5), strategies.contiguous, dtype, ins=4, **options).check()
    make_case((1, 2, 1, 20), 5, (2, 3), strategies.contiguous, dtype, ins=3, stride=3, padding=1).check()


def test_orders_may_differ():
    for arrange, other in (ORDERS, ORDERS[::-1]):
        for channels, side in ((3, 20), (20, 20), (20, 5)):
            case = make_case((2, channels, side, side), 1, (3, 3), arrange, np.float32, padding=1)
            dataclasses.replace(case, grad_out=other(case.grad_out)).check()


# ----------------------------------------------------------------------------------------------------------- same bits
SHAPES = [((4, 24, 30, 33), 3, 1), ((4, 64, 9, 7), 3, 1), ((4, 48, 30, 33), 5, 2), ((8, 3, 64, 64), 5, 1)]


@pytest.mark.parametrize("arrange", ORDERS)
@pytest.mark.parametrize("dtype", strategies.DTYPES)
@pytest.mark.parametrize(("shape", "kernel", "stride"), SHAPES)
@pytest.mark.parametrize("ins", [1, 3])
def test_threads_and_batches_change_no_bit(ins, shape, kernel, stride, dtype, arrange):
    case = make_case(
        shape, ins, (kernel, kernel), arrange, dtype, ins=ins, stride=stride, padding=kernel // 2, integers=False
    )  # fmt: skip
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        alone = case.forward(), *case.backward()
        numba.set_num_threads(2)
        together = case.forward(), *case.backward()
    finally:
        numba.set_num_threads(before)
    for one, two in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, two)
    for image in range(len(case.x)):
        part = slice(image, image + 1)
        single = dataclasses.replace(case, x=case.x[part], grad_out=case.grad_out[part])
        np.testing.assert_array_equal(single.forward(), alone[0][part])
        np.testing.assert_array_equal(single.backward()[0], alone[1][part])


@pytest.mark.parametrize("arrange", ORDERS)
def test_boxes_change_no_bit(arrange, request):
    case = make_case((1, 18, 50, 61), 1, (3, 4), arrange, np.float32, stride=2, padding=2, integers=False)
    whole = case.forward(), case.backward()[0]
    request.getfixturevalue("small_boxes")
    for one, many in zip(whole, (case.forward(), case.backward()[0]), strict=True):
        np.testing.assert_array_equal(one, many)


# ------------------------------------------------------------------------------------------------------- special values
@pytest.mark.parametrize("arrange", ORDERS)
@pytest.mark.parametrize(
    ("groups", "ins", "outs", "side"),
    [(3, 1, 1, 20), (20, 1, 1, 20), (20, 1, 1, 5), (3, 1, 1, 5), (2, 3, 5, 20), (2, 4, 3, 35)],
)
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_stay_where_they_belong(special, groups, ins, outs, side, arrange):
    """Vectors reach beyond rows and maps: what they find there must not count."""
    for place in ((0, 0, 0, 0), (1, groups * ins - 1, side - 1, side - 1), (0, 1, side // 2, side - 1)):
        case = make_case((2, groups, side, side), outs, (3, 3), arrange, np.float32, ins=ins, integers=False)
        case.x[place] = special
        with np.errstate(invalid="ignore"):
            expected = (
                naive.conv_forward(case.x, case.weight, case.bias, **case.options),
                naive.conv_backward_weight(case.grad_out, case.x, case.weight.shape, **case.options),
            )
        for actual, exact in zip((case.forward(), case.backward()[1]), expected, strict=True):
            np.testing.assert_array_equal(np.isfinite(actual), np.isfinite(exact))
            np.testing.assert_array_equal(np.isnan(actual), np.isnan(exact))
