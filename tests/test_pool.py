"""Pooling gives the right numbers: against the naive definition, PyTorch, and its own gradients."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import ndimage

import fastconv as fc
from tests import naive, strategies
from tests.tolerance import assert_close


# The public functions, by the rank of their operands.
def of_rank(name, rank):
    family, backward, _ = name.partition("_backward")
    return getattr(fc, f"{family}{rank}d{backward}")


def max_pool(x, *window):
    return of_rank("max_pool", x.ndim - 2)(x, *window, return_indices=True)


def max_pool_values(x, *window):
    return of_rank("max_pool", x.ndim - 2)(x, *window)


def max_pool_backward(grad_out, indices, input_shape):
    return of_rank("max_pool_backward", grad_out.ndim - 2)(grad_out, indices, input_shape)


def avg_pool(x, kernel, stride, padding, dilation, ceil_mode, *averaging):
    return of_rank("avg_pool", x.ndim - 2)(x, kernel, stride, padding, ceil_mode, *averaging, dilation=dilation)


def avg_pool_backward(grad_out, shape, kernel, stride, padding, dilation, ceil_mode, *averaging):
    backward = of_rank("avg_pool_backward", grad_out.ndim - 2)
    return backward(grad_out, shape, kernel, stride, padding, ceil_mode, *averaging, dilation=dilation)


@dataclasses.dataclass
class Case:
    """An input, the window on it, how averages count, and gradients of the result."""

    x: Any
    window: tuple[Any, ...]
    averaging: tuple[Any, ...]
    seed: int

    def grad_out(self, y, integers=False):
        return strategies.values(y.shape, y.dtype, self.seed + 1, integers)


@st.composite
def cases(draw, ranks=(1, 2, 3), integers=False, dilation=3):
    """Windows from one element to more than a vector register has lanes, on rows of as many lengths."""
    rank = draw(st.sampled_from(ranks))
    largest = {1: 40, 2: 7, 3: 3}[rank]
    kernel = draw(st.tuples(*[st.integers(1, largest if rank == 1 else 4)] * rank))
    stride = draw(st.one_of(st.none(), strategies.per_axis(rank, 4)))
    padding, dilation = draw(strategies.paddings(rank)), draw(strategies.per_axis(rank, dilation))
    ceil_mode = draw(st.booleans())
    sizes = tuple(
        strategies.smallest_size(axis, rank, kernel, padding, dilation) + draw(st.integers(0, largest))
        for axis in range(rank)
    )
    if rank > 1 and draw(st.booleans()):  # rows longer than a register
        sizes = (*sizes[:-1], sizes[-1] + draw(st.integers(0, 40)))
    averaging = (draw(st.booleans()), draw(st.one_of(st.none(), st.sampled_from([1, 2, 8]))))
    dtype, seed = draw(st.sampled_from(strategies.DTYPES)), draw(st.integers(0, 2**31))
    x = strategies.values((draw(st.integers(0, 2)), draw(st.integers(0, 5)), *sizes), dtype, seed, integers)
    return Case(draw(strategies.arrangements())(x), (kernel, stride, padding, dilation, ceil_mode), averaging, seed)


# -------------------------------------------------------------------------------------------------------------- maximum
@given(cases(), st.sampled_from(["normal", "few values", "nan", "all -inf"]))
def test_maxima_are_the_naive_ones(case, kind):
    x = case.x.copy()
    if kind == "few values":
        x = np.round(x)
    elif kind == "nan":
        x[strategies.values(x.shape, np.float64, case.seed + 2) > 1] = np.nan
    elif kind == "all -inf":
        x[...] = -np.inf
    y, indices = max_pool(x, *case.window)
    expected, expected_indices = naive.max_pool_forward(x, *case.window)
    np.testing.assert_array_equal(y, expected.astype(x.dtype))
    np.testing.assert_array_equal(indices, expected_indices)
    np.testing.assert_array_equal(max_pool_values(x, *case.window), y)
    assert y.dtype == x.dtype
    assert indices.dtype == np.int64


@given(cases())
def test_gradients_of_maxima_are_the_naive_ones(case):
    y, indices = max_pool(case.x, *case.window)
    grad_out = case.grad_out(y)
    grad_x = max_pool_backward(grad_out, indices, case.x.shape)
    expected = naive.max_pool_backward(grad_out, indices, case.x.shape)
    magnitude = naive.max_pool_backward(np.abs(grad_out), indices, case.x.shape)
    assert_close(grad_x, expected, magnitude, np.prod(case.window[0]))
    assert grad_x.dtype == case.x.dtype


@given(cases(integers=True))
def test_gradients_of_maxima_are_the_adjoint(case):
    """Given the indices, the maxima are a linear map: <P x, g> = <x, P* g>, exactly for integers."""
    y, indices = max_pool(case.x, *case.window)
    grad_out = case.grad_out(y, integers=True)
    y = np.where(np.isinf(y), 0, y)
    grad_out[np.isinf(max_pool(case.x, *case.window).values)] = 0  # windows without elements depend on nothing
    assert np.vdot(y, grad_out) == np.vdot(case.x, max_pool_backward(grad_out, indices, case.x.shape))


@pytest.mark.parametrize("dtype", strategies.DTYPES)
@pytest.mark.parametrize("arrange", [strategies.contiguous, strategies.channels_last])
@pytest.mark.parametrize(("kernel", "stride"), [((2, 2), 2), ((3, 3), 1), ((3, 3), 2), ((2, 5), 3), ((4, 11), 1)])
def test_nan_wins_at_every_place_of_the_window(dtype, arrange, kernel, stride):
    shape = (1, 2, 9, 40)
    for place in itertools.product(range(kernel[0]), range(kernel[1])):
        x = strategies.values(shape, dtype, 1)
        x[:, :, place[0], place[1]] = np.nan
        x[:, :, place[0] + 2, place[1] + 20] = -np.nan
        x[:, :, place[0] + 2, place[1] + 21] = np.inf
        y, indices = fc.max_pool2d(arrange(x), kernel, stride, return_indices=True)
        assert np.isnan(y[0, 0, 0, 0])
        assert indices[0, 0, 0, 0] == place[0] * shape[3] + place[1]
        expected, expected_indices = naive.max_pool_forward(x, kernel, stride)
        np.testing.assert_array_equal(y, expected.astype(dtype))
        np.testing.assert_array_equal(indices, expected_indices)
        np.testing.assert_array_equal(fc.max_pool2d(arrange(x), kernel, stride), y)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kernel", [2, 3, 10])
def test_the_first_of_equal_elements_wins(value, kernel):
    x = np.full((1, 1, 30, 40), value, np.float32)
    y, indices = fc.max_pool2d(x, kernel, 1, return_indices=True)
    np.testing.assert_array_equal(y, value)
    np.testing.assert_array_equal(indices[0, 0], np.arange(1200).reshape(30, 40)[: 31 - kernel, : 41 - kernel])


def test_padding_never_wins():
    x = np.full((1, 1, 4, 5), -np.inf, np.float32)
    y, indices = fc.max_pool2d(x, 3, 1, 1, return_indices=True)
    assert (y == -np.inf).all()
    expected = np.maximum(np.arange(4) - 1, 0)[:, np.newaxis] * 5 + np.maximum(np.arange(5) - 1, 0)
    np.testing.assert_array_equal(indices[0, 0], expected)


@pytest.mark.parametrize("arrange", [strategies.contiguous, strategies.channels_last])
def test_windows_that_lie_in_the_padding(arrange):
    x = arrange(strategies.values((2, 3, 3, 4), np.float32, 1))
    y, indices = fc.max_pool2d(x, 2, 1, 3, return_indices=True)
    assert (y[:, :, [0, 1, -1, -2]] == -np.inf).all()
    assert (indices[:, :, [0, 1, -1, -2]] == 0).all()
    assert (indices >= 0).all()
    assert np.isfinite(y[:, :, 2:-2, 2:-2]).all()
    for count_include_pad in (True, False):
        mean = fc.avg_pool2d(x, 2, 1, 3, count_include_pad=count_include_pad)
        assert (mean[:, :, [0, 1, -1, -2]] == 0).all()
        assert (mean[:, :, 2:-2, 2:-2] != 0).all()


def test_indices_decide_where_gradients_go():
    indices = np.array([[[[5, 5], [0, 11]]]])
    grad_x = fc.max_pool2d_backward(np.array([[[[1.0, 2.0], [4.0, 8.0]]]]), indices, (1, 1, 3, 4))
    np.testing.assert_array_equal(grad_x, [[[[4, 0, 0, 0], [0, 3, 0, 0], [0, 0, 0, 8]]]])


# ------------------------------------------------------------------------------------------------------- sums and means
@given(cases())
def test_means_are_the_naive_ones(case):
    y = avg_pool(case.x, *case.window, *case.averaging)
    expected = naive.avg_pool_forward(case.x, *case.window, *case.averaging)
    magnitude = naive.avg_pool_forward(np.abs(case.x), *case.window, *case.averaging)
    assert_close(y, expected, magnitude, np.prod(case.window[0]) + 2)
    assert y.dtype == case.x.dtype


@given(cases())
def test_gradients_of_means_are_the_naive_ones(case):
    grad_out = case.grad_out(avg_pool(case.x, *case.window))
    options = (case.x.shape, *case.window, *case.averaging)
    grad_x = avg_pool_backward(grad_out, *options)
    expected = naive.avg_pool_backward(grad_out, *options)
    assert_close(grad_x, expected, naive.avg_pool_backward(np.abs(grad_out), *options), np.prod(case.window[0]) + 4)
    assert grad_x.dtype == case.x.dtype


@given(cases(integers=True), st.sampled_from([1, 2, 8]))
def test_gradients_of_sums_are_the_adjoint(case, divisor):
    """<P x, g> = <x, P* g>, exactly for integers and a divisor that is a power of two."""
    y = avg_pool(case.x, *case.window, True, divisor)
    grad_out = case.grad_out(y, integers=True)
    grad_x = avg_pool_backward(grad_out, case.x.shape, *case.window, True, divisor)
    assert np.vdot(y, grad_out) == np.vdot(case.x, grad_x)


@given(cases(dilation=1))
def test_sums_are_means_with_a_divisor_of_one(case):
    rank = case.x.ndim - 2
    kernel, stride, padding, _, ceil_mode = case.window
    y = of_rank("sum_pool", rank)(case.x, kernel, stride, padding, ceil_mode)
    np.testing.assert_array_equal(y, avg_pool(case.x, *case.window, True, 1))
    grad_out = case.grad_out(y)
    np.testing.assert_array_equal(
        of_rank("sum_pool_backward", rank)(grad_out, case.x.shape, kernel, stride, padding, ceil_mode),
        avg_pool_backward(grad_out, case.x.shape, *case.window, True, 1),
    )


def test_a_constant_has_itself_as_mean():
    for kernel in range(1, 20):
        x = np.ones((1, 1, 40, 40), np.float32)
        np.testing.assert_array_equal(fc.avg_pool2d(x, kernel, 1), 1)
        np.testing.assert_array_equal(fc.avg_pool2d(x, kernel, 1, "same", count_include_pad=False), 1)


def test_what_ceil_mode_covers_beyond_the_padding_does_not_count():
    x = np.ones((1, 1, 1, 5), np.float64)
    options = {"stride": (1, 3), "padding": ((0, 0), (1, 1)), "ceil_mode": True}
    # Windows start at -1, 2 and 5; the padded input ends at 5, and a window that starts at 5 starts in the padding.
    np.testing.assert_array_equal(fc.avg_pool2d(x, (1, 4), **options)[0, 0, 0], [0.75, 0.75])
    np.testing.assert_array_equal(fc.avg_pool2d(x, (1, 4), **options, count_include_pad=False)[0, 0, 0], [1, 1])
    # Windows start at -1, 1 and 3: the last one covers 3, 4, the padding's 5, and a 6 that does not count.
    options["stride"] = (1, 2)
    np.testing.assert_array_equal(fc.avg_pool2d(x, (1, 4), **options)[0, 0, 0], [0.75, 1, 2 / 3])
    np.testing.assert_array_equal(fc.avg_pool2d(x, (1, 4), **options, count_include_pad=False)[0, 0, 0], [1, 1, 1])


def test_nan_and_infinity_stay_in_their_windows():
    x = np.zeros((1, 1, 6, 40), np.float32)
    x[0, 0, 2, 20], x[0, 0, 2, 30] = np.nan, np.inf
    y = fc.avg_pool2d(x, 3, 1, 1)[0, 0]
    np.testing.assert_array_equal(np.argwhere(np.isnan(y)), list(itertools.product((1, 2, 3), (19, 20, 21))))
    np.testing.assert_array_equal(np.argwhere(np.isinf(y)), list(itertools.product((1, 2, 3), (29, 30, 31))))


# ---------------------------------------------------------------------------------------------------------------- SciPy
@given(cases(dilation=1))
def test_windows_are_scipys(case):
    """Filters of every position, of which every stride-th is taken: padded by -inf for maxima, by zeros for sums."""
    kernel, stride, padding, *_ = case.window
    rank = len(kernel)
    stride = naive.per_axis(kernel if stride is None else stride, rank)
    pairs = naive.padding_pairs(padding, case.x.shape[2:], kernel, stride, (1,) * rank)
    whole = [(0, 0), (0, 0), *pairs]
    x, size = case.x.astype(np.float64), (1, 1, *kernel)
    assume(x.size)
    sizes = [n + sum(pair) for n, pair in zip(x.shape[2:], pairs, strict=True)]
    centres = [slice(k // 2, n - (k - 1) // 2, s) for k, s, n in zip(kernel, stride, sizes, strict=True)]
    inside = (..., *centres)
    largest = ndimage.maximum_filter(np.pad(x, whole, constant_values=-np.inf), size, mode="constant", cval=-np.inf)
    window = kernel, stride, padding
    np.testing.assert_array_equal(of_rank("max_pool", rank)(case.x, *window), largest[inside])
    sums, magnitude = (
        ndimage.correlate(np.pad(a, whole), np.ones(size), mode="constant")[inside] for a in (x, np.abs(x))
    )
    assert_close(of_rank("sum_pool", rank)(case.x, *window), sums, magnitude, np.prod(kernel) + 1)


# ---------------------------------------------------------------------------------------- the sizes that kernels divide
WIDTHS = [*range(1, 36), 63, 64, 65, 129]


@pytest.mark.parametrize("arrange", [strategies.contiguous, strategies.channels_last])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (3, 1, 1), (2, 1, 1), (3, 3, 1), (1, 2, 0), (9, 1, 4)]
)
@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_rows_of_every_length(arrange, kernel, stride, padding, dtype):
    for width in WIDTHS:
        x = strategies.values((1, 2, 3, width), dtype, width, integers=True)
        window = ((2, kernel), (1, stride), ((1, 0), (padding, padding)), 1, True)
        if width + 2 * padding < kernel:
            continue
        y, indices = max_pool(arrange(x), *window)
        expected, expected_indices = naive.max_pool_forward(x, *window)
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(indices, expected_indices)
        np.testing.assert_array_equal(max_pool_values(arrange(x), *window), expected)
        np.testing.assert_array_equal(
            avg_pool(arrange(x), *window, True, 1), naive.avg_pool_forward(x, *window, True, 1)
        )
        grad_out = arrange(strategies.values(y.shape, dtype, width, integers=True))
        np.testing.assert_array_equal(
            avg_pool_backward(grad_out, x.shape, *window, True, 1),
            naive.avg_pool_backward(grad_out, x.shape, *window, True, 1),
        )
        np.testing.assert_array_equal(
            max_pool_backward(grad_out, arrange(indices), x.shape), naive.max_pool_backward(grad_out, indices, x.shape)
        )


@pytest.mark.parametrize("padding", [0, 1, ((1, 0), (0, 1)), ((2, 1), (3, 2))])
@pytest.mark.parametrize("kernel", [2, 3])
def test_gradients_of_windows_that_move_by_two(kernel, padding):
    """They have kernels of their own: planes of all small sizes, of some vectors, and of more rows than scratch."""
    shapes = [(1, 2, h, w) for h in range(1, 5) for w in range(1, 7)]
    for shape in [*shapes, *((2, 1, 3, w) for w in range(30, 36)), (1, 2, 7, 66), (1, 1, 400, 17)]:
        if padding == 0 and min(shape[2:]) < kernel:
            continue
        window = (kernel, 2, padding, 1, True)
        grad_out = strategies.values(max_pool_values(np.zeros(shape), *window).shape, np.float32, 1, integers=True)
        np.testing.assert_array_equal(
            avg_pool_backward(grad_out, shape, *window, True, 1),
            naive.avg_pool_backward(grad_out, shape, *window, True, 1),
        )


@pytest.mark.parametrize("channels", [*range(1, 36), 65])
def test_every_number_of_channels(channels):
    x = strategies.channels_last(strategies.values((2, channels, 6, 5), np.float32, channels, integers=True))
    for window in ((3, 2, 1, 1, False), (3, 1, 1, 1, False), (2, 2, 0, 1, True)):
        y, indices = max_pool(x, *window)
        expected, expected_indices = naive.max_pool_forward(x, *window)
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(indices, expected_indices)
        np.testing.assert_array_equal(avg_pool(x, *window, True, 1), naive.avg_pool_forward(x, *window, True, 1))
        grad_out = strategies.channels_last(strategies.values(y.shape, np.float32, channels, integers=True))
        np.testing.assert_array_equal(
            avg_pool_backward(grad_out, x.shape, *window, True, 1),
            naive.avg_pool_backward(grad_out, x.shape, *window, True, 1),
        )


@pytest.mark.parametrize("kernel", [(13, 13), (1, 31), (31, 1), (20, 2)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
def test_large_windows(kernel, stride, dilation):
    x = strategies.values((1, 2, 33, 34), np.float64, 1, integers=True)
    window = (kernel, stride, tuple((k * dilation // 2, 5) for k in kernel), dilation, False)
    if any(n + k * dilation // 2 + 5 <= dilation * (k - 1) for n, k in zip(x.shape[2:], kernel, strict=True)):
        window = (kernel, stride, "same", dilation, False)
    y, indices = max_pool(x, *window)
    expected, expected_indices = naive.max_pool_forward(x, *window)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(indices, expected_indices)
    np.testing.assert_array_equal(max_pool_values(x, *window), expected)
    np.testing.assert_array_equal(avg_pool(x, *window, True, 1), naive.avg_pool_forward(x, *window, True, 1))
    grad_out = strategies.values(y.shape, np.float64, 2, integers=True)
    np.testing.assert_array_equal(
        avg_pool_backward(grad_out, x.shape, *window, True, 1),
        naive.avg_pool_backward(grad_out, x.shape, *window, True, 1),
    )


def test_more_rows_than_one_band_holds():
    """Planes of more rows than scratch, planes that share scratch, and depth."""
    for shape in ((1, 1, 600, 3), (3, 40, 9, 7), (1, 2, 5, 70, 90), (1, 300, 2, 2)):
        x = strategies.values(shape, np.float32, 1, integers=True)
        for window in ((2, 2, 0, 1, False), (2, 1, 1, 1, False)):
            y, indices = max_pool(x, *window)
            expected, expected_indices = naive.max_pool_forward(x, *window)
            np.testing.assert_array_equal(y, expected)
            np.testing.assert_array_equal(indices, expected_indices)
            np.testing.assert_array_equal(max_pool_values(x, *window), expected)
            grad_out = strategies.values(y.shape, np.float32, 2, integers=True)
            np.testing.assert_array_equal(
                avg_pool_backward(grad_out, shape, *window, True, 1),
                naive.avg_pool_backward(grad_out, shape, *window, True, 1),
            )


# --------------------------------------------------------------------------------------------------------- global pools
@given(cases(), st.booleans())
def test_global_pools_are_the_naive_ones(case, with_nan):
    x, size = case.x.copy(), case.x.shape[2:]
    if with_nan:
        x[strategies.values(x.shape, np.float64, case.seed + 2) > 1.5] = np.nan
    window, length, channels = (size, 1, 0, 1, False), int(np.prod(size)), x.shape[:2]
    y, indices = fc.global_max_pool(x, return_indices=True)
    expected, expected_indices = naive.max_pool_forward(x, *window)
    np.testing.assert_array_equal(y, expected.reshape(channels).astype(x.dtype))
    np.testing.assert_array_equal(indices, expected_indices.reshape(channels))
    np.testing.assert_array_equal(fc.global_max_pool(x), y)
    mean, magnitude = (naive.avg_pool_forward(a, *window).reshape(channels) for a in (case.x, np.abs(case.x)))
    assert_close(fc.global_avg_pool(case.x), mean, magnitude, length + 2)
    grad_out = case.grad_out(y)
    np.testing.assert_array_equal(
        fc.global_max_pool_backward(grad_out, indices, x.shape),
        naive.max_pool_backward(grad_out.reshape(expected.shape), indices.reshape(expected.shape), x.shape),
    )
    shares = np.broadcast_to((grad_out / grad_out.dtype.type(length)).reshape(expected.shape), x.shape)
    np.testing.assert_array_equal(fc.global_avg_pool_backward(grad_out, x.shape), shares)


@given(cases(integers=True))
def test_global_pools_and_their_gradients_are_adjoint(case):
    """<P x, g> = <x, P* g>, exactly for multiples of the number of elements, and for maxima with their indices."""
    size = int(np.prod(case.x.shape[2:]))
    x = case.x.astype(np.float64) * size
    mean, (largest, indices) = fc.global_avg_pool(x), fc.global_max_pool(x, return_indices=True)
    grad_out = case.grad_out(mean, integers=True) * size
    assert np.vdot(mean, grad_out) == np.vdot(x, fc.global_avg_pool_backward(grad_out, x.shape))
    assert np.vdot(largest, grad_out) == np.vdot(x, fc.global_max_pool_backward(grad_out, indices, x.shape))


@pytest.mark.parametrize("size", [*range(1, 70), 1000])
def test_global_pools_of_planes_of_every_size(size):
    x = strategies.values((2, 3, size), np.float32, size, integers=True)
    y, indices = fc.global_max_pool(x, return_indices=True)
    np.testing.assert_array_equal(indices, x.argmax(axis=2))
    np.testing.assert_array_equal(y, x.max(axis=2))
    np.testing.assert_array_equal(fc.global_avg_pool(x), x.sum(axis=2) / np.float32(size))
    for place in range(0, size, 7):
        with_nan = x.copy()
        with_nan[:, :, place::5] = np.nan
        y, indices = fc.global_max_pool(with_nan, return_indices=True)
        np.testing.assert_array_equal(indices, place)
        assert np.isnan(y).all()


# -------------------------------------------------------------------------------------------------------------- PyTorch
@pytest.mark.torch
@pytest.mark.parametrize("dtype", strategies.DTYPES)
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_everything_is_pytorchs(dtype, ceil_mode):
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    x = strategies.values((2, 3, 13, 18), dtype, 1)
    t = torch.tensor(x, requires_grad=True)
    for kernel, stride, padding, dilation in itertools.product((1, 2, 3, (2, 5)), (1, 2, 3, (3, 1)), (0, 1), (1, 2)):
        if padding and (kernel == 1 or np.ndim(kernel)):
            continue  # PyTorch pads by half a window at most
        maxima, positions = F.max_pool2d(t, kernel, stride, padding, dilation, ceil_mode, return_indices=True)
        y, indices = fc.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode, return_indices=True)
        np.testing.assert_array_equal(y, maxima.detach().numpy())
        np.testing.assert_array_equal(indices, positions.numpy())
        grad_out = strategies.values(y.shape, dtype, 2)
        (grad_x,) = torch.autograd.grad(maxima, t, torch.tensor(grad_out))
        close(fc.max_pool2d_backward(grad_out, indices, x.shape), grad_x)
        if dilation > 1:
            continue
        for options in ((True, None), (False, None), (True, 3)):
            means = F.avg_pool2d(t, kernel, stride, padding, ceil_mode, *options)
            close(fc.avg_pool2d(x, kernel, stride, padding, ceil_mode, *options), means)
            (grad_x,) = torch.autograd.grad(means, t, torch.tensor(grad_out))
            close(fc.avg_pool2d_backward(grad_out, x.shape, kernel, stride, padding, ceil_mode, *options), grad_x)


def close(ours, theirs):
    scale = 1e-14 if ours.dtype == np.float64 else 1e-6
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=10 * scale, atol=5 * scale)


@pytest.mark.torch
def test_sizes_are_pytorchs_for_every_small_case():
    torch = pytest.importorskip("torch")
    for size, kernel, stride, padding in itertools.product(range(1, 12), range(1, 6), range(1, 5), range(3)):
        if 2 * padding > kernel:
            continue
        for ceil_mode in (False, True):
            window = (((size, 1), (kernel, 1), (stride, 1), ((padding, padding), (0, 0))), ceil_mode)
            (shape, kernels, strides, pads), _ = window
            try:
                expected = torch.nn.functional.max_pool2d(
                    torch.zeros(1, 1, *shape), kernels, strides, (padding, 0), 1, ceil_mode
                ).shape
            except RuntimeError:
                with pytest.raises(ValueError, match="must fit into the padded input"):
                    fc.max_pool2d(np.zeros((1, 1, *shape)), kernels, strides, pads, 1, ceil_mode)
                continue
            assert fc.max_pool2d(np.zeros((1, 1, *shape)), kernels, strides, pads, 1, ceil_mode).shape == expected
