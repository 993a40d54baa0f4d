"""Winograd's algorithm gives the direct result up to rounding, whatever the sizes, threads and split of the batch."""

import itertools
import math

import numba
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import fastconv as fc
from fastconv import _convolution
from fastconv.cpu import winograd_transforms
from tests import naive, strategies
from tests.guard_pages import guarded, guarded_channels_last
from tests.tolerance import assert_close

PADDINGS = st.tuples(st.integers(0, 5), st.integers(0, 5))


def forward(x, weight, bias=None, padding=1, groups=1, dilation=1, *, algorithm="winograd", activation=None, out=None):
    options = 1, padding, dilation, groups, activation, algorithm, out
    return _convolution.forward(x.ndim - 2, x, weight, bias, *options)


def backward_input(grad_out, weight, shape, padding=1, groups=1, dilation=1, *, algorithm="winograd", out=None):
    options = 1, padding, dilation, groups, algorithm, out
    return _convolution.backward_input(len(shape) - 2, grad_out, weight, shape, *options)


def backward_weight(grad_out, x, shape, padding=1, groups=1, dilation=1, *, algorithm="winograd", out=None):
    options = 1, padding, dilation, groups, algorithm, out
    return _convolution.backward_weight(len(shape) - 2, grad_out, x, shape, *options)


# ------------------------------------------------------------------------------------------------------- the transforms
@pytest.mark.parametrize(("length", "kernel"), [(4, 3), (3, 4)])
def test_the_matrices_convolve_exactly(length, kernel):
    """In rational numbers, for every pair of an input element and a kernel element."""
    size = winograd_transforms.SIZE
    b, g = winograd_transforms.input_matrix(), winograd_transforms.kernel_matrix(kernel)
    a = winograd_transforms.output_matrix(length)
    for i, j, k in itertools.product(range(length), range(size), range(kernel)):
        assert sum(a[i][p] * b[p][j] * g[p][k] for p in range(size)) == (j == i + k)


# ---------------------------------------------------------------------------------------------------------- the numbers
def check(x, weight, bias, padding, groups, dilation=1, arrange=lambda array: array):
    """All three passes against the naive ones."""
    options = {"padding": padding, "groups": groups, "dilation": dilation}
    y = forward(x, weight, bias, **options)
    grad_out = arrange(strategies.values(y.shape, y.dtype, 7))
    abs_x, abs_weight, abs_grad = abs(x), abs(weight), abs(grad_out)
    assert_close(
        y,
        naive.conv_forward(x, weight, bias, **options),
        naive.conv_forward(abs_x, abs_weight, None if bias is None else abs(bias), **options),
        math.prod(weight.shape[1:]) + 1,
        "winograd",
    )
    assert_close(
        backward_input(grad_out, weight, x.shape, **options),
        naive.conv_backward_input(grad_out, weight, x.shape, **options),
        naive.conv_backward_input(abs_grad, abs_weight, x.shape, **options),
        weight[:, :1].size,
        "winograd",
    )
    assert_close(
        backward_weight(grad_out, x, weight.shape, **options),
        naive.conv_backward_weight(grad_out, x, weight.shape, **options),
        naive.conv_backward_weight(abs_grad, abs_x, weight.shape, **options),
        len(y) * math.prod(y.shape[2:]),
        "winograd",
    )
    fused = forward(x, weight, bias, **options, activation="relu")
    np.testing.assert_array_equal(fused, np.where(y <= 0, y.dtype.type(0), y))


@given(st.data(), st.sampled_from(strategies.DTYPES), strategies.arrangements(), strategies.arrangements())
def test_drawn_convolutions_are_the_naive_ones(data, dtype, arrange, arrange_weight):
    draw = data.draw
    kernel, groups = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple)), draw(st.integers(1, 3))
    assume(max(kernel[-2:]) > 1)
    dilation = tuple(draw(st.integers(1, 3)) for _ in kernel)
    padding = tuple(draw(PADDINGS) for _ in kernel)
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    most = 10 if len(kernel) < 3 else 4
    size = [max(1, s - sum(pair)) + draw(st.integers(0, most)) for s, pair in zip(spans, padding, strict=True)]
    ins, outs, seed = draw(st.integers(1, 20)), draw(st.integers(1, 20)), draw(st.integers(0, 1000))
    x = strategies.values((draw(st.integers(0, 3)), ins * groups, *size), dtype, seed)
    weight = strategies.values((outs * groups, ins, *kernel), dtype, seed + 1)
    bias = strategies.values((outs * groups,), dtype, seed + 2) if draw(st.booleans()) else None
    check(arrange(x), arrange_weight(weight), bias, padding, groups, dilation, arrange)


# Shapes, padding, groups and dilation.
NAMED = {
    "17 to 23 channels": ((2, 17, 9, 14), (23, 17, 3, 3), 1, 1, 1),
    "pieces of channels": ((2, 160, 7, 7), (70, 160, 3, 3), 1, 1, 1),
    "a prime number of channels": ((1, 97, 5, 6), (97, 97, 3, 3), 1, 1, 1),
    "groups": ((2, 40, 13, 13), (80, 20, 3, 3), 1, 2, 1),
    "depthwise": ((1, 5, 6, 7), (5, 1, 3, 3), 1, 5, 1),
    "a wide row": ((1, 3, 3, 701), (4, 3, 3, 3), 0, 1, 1),
    "many tiles": ((3, 16, 40, 44), (20, 16, 3, 3), 1, 1, 1),
    "one pixel": ((3, 18, 1, 1), (17, 18, 3, 3), 1, 1, 1),
    "padding only": ((2, 3, 0, 4), (4, 3, 3, 3), 2, 1, 1),
    "no channels": ((2, 0, 4, 4), (3, 0, 3, 3), 1, 1, 1),
    "padding wider than the kernel": ((1, 4, 5, 6), (3, 4, 3, 3), 6, 1, 1),
    "four parts": ((2, 70, 11, 13), (20, 35, 5, 5), 2, 2, 1),
    "the largest kernel": ((1, 5, 15, 16), (3, 5, 15, 15), (7, 3), 1, 1),
    "2x4": ((1, 20, 9, 10), (18, 20, 2, 4), 1, 1, 1),
    "rows": ((3, 40, 9, 30), (24, 40, 1, 7), (0, 3), 1, 1),
    "columns": ((3, 40, 19, 10), (24, 40, 7, 1), (3, 0), 1, 1),
    "one axis": ((2, 24, 300), (33, 24, 11), 5, 1, 1),
    "one axis, dilated": ((2, 24, 60), (33, 24, 5), 4, 1, 4),
    "three axes": ((2, 24, 5, 9, 10), (20, 24, 3, 3, 3), 1, 1, 1),
    "three axes, dilated": ((1, 9, 6, 9, 10), (7, 9, 2, 1, 3), (2, 0, 3), 1, (3, 2, 4)),
    "dilated": ((2, 20, 13, 18), (24, 20, 3, 3), (2, 3), 1, (2, 3)),
    "the largest dilation": ((1, 6, 20, 37), (5, 6, 3, 3), 16, 1, 16),
    "more steps than pixels": ((2, 6, 4, 3), (5, 6, 3, 3), 9, 1, 9),
}


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("arrange", [strategies.contiguous, strategies.channels_last])
@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_named_cases(name, arrange, dtype):
    x_shape, weight_shape, padding, groups, dilation = NAMED[name]
    x, weight = arrange(strategies.values(x_shape, dtype, 1)), strategies.values(weight_shape, dtype, 2)
    check(x, weight, strategies.values(weight_shape[:1], dtype, 3), padding, groups, dilation, arrange)


def test_integers_come_out_exact():
    """float64 errs by far less than one half where weights and inputs are small integers."""
    x = strategies.values((2, 24, 11, 13), np.float64, 1, integers=True)
    weight = strategies.values((20, 24, 3, 3), np.float64, 2, integers=True)
    grad_out = strategies.values((2, 20, 11, 13), np.float64, 3, integers=True)
    for got, expected in (
        (forward(x, weight), naive.conv_forward(x, weight, padding=1)),
        (backward_input(grad_out, weight, x.shape), naive.conv_backward_input(grad_out, weight, x.shape, padding=1)),
        (backward_weight(grad_out, x, weight.shape), naive.conv_backward_weight(grad_out, x, weight.shape, padding=1)),
    ):
        np.testing.assert_array_equal(np.rint(got), expected)
        assert abs(got - expected).max() < 1e-9


@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 5e-6), (np.float64, 1e-14)])
@pytest.mark.parametrize(("size", "kernel"), [((12, 12), (3, 3)), ((3, 8, 8), (3, 3, 3)), ((12, 12), (5, 5))])
def test_512_channels_err_little(size, kernel, dtype, bound):
    """Relative to the largest result, for standard-normal data; 3e-5 is what the documentation promises in float32."""
    outs = 512 if kernel == (3, 3) else 48
    x, weight = strategies.values((1, 512, *size), dtype, 1), strategies.values((outs, 512, *kernel), dtype, 2)
    padding = tuple(k // 2 for k in kernel)
    grad_out = strategies.values((1, outs, *size), dtype, 3)
    for operation, a, b, *shape in (
        (forward, x, weight),
        (backward_input, grad_out, weight, x.shape),
        (backward_weight, grad_out, x, weight.shape),
    ):
        options = {"padding": padding}
        expected = operation(a.astype(np.float64), b.astype(np.float64), *shape, algorithm="direct", **options)
        error = abs(operation(a, b, *shape, **options) - expected).max()
        assert error <= bound * abs(expected).max()


# ------------------------------------------------------------------------------------------ threads, batches and memory
BIG = ((6, 64, 15, 18), (96, 64, 3, 3))


@pytest.fixture
def threads():
    before = numba.get_num_threads()
    yield numba.set_num_threads
    numba.set_num_threads(before)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="NUMBA_NUM_THREADS allows one thread only")
@pytest.mark.parametrize("dtype", strategies.DTYPES)
@pytest.mark.parametrize(
    ("x_shape", "weight_shape", "dilation"),
    [
        ((6, 64, 15, 18), (96, 64, 3, 3), 1),
        ((1, 64, 15, 18), (96, 64, 3, 3), 1),
        ((8, 32, 30, 30), (48, 32, 3, 3), 1),
        ((2, 192, 14, 14), (256, 192, 3, 3), 1),
        ((3, 64, 20, 30), (96, 64, 5, 5), 1),
        ((3, 64, 30, 30), (48, 64, 3, 3), 3),
        ((2, 64, 6, 14, 14), (48, 64, 3, 3, 3), 1),
        ((6, 96, 300), (96, 96, 7), 1),
    ],
)
def test_two_threads_give_the_bits_of_one(dtype, x_shape, weight_shape, dilation, threads):
    x, weight = strategies.values(x_shape, dtype, 1), strategies.values(weight_shape, dtype, 2)
    results = []
    for count in (1, 2):
        threads(count)
        y = forward(x, weight, dilation=dilation)
        grads = (
            backward_input(y, weight, x.shape, dilation=dilation),
            backward_weight(y, x, weight.shape, dilation=dilation),
        )
        results.append([array.tobytes() for array in (y, *grads)])
    assert results[0] == results[1]


@pytest.mark.parametrize("dtype", strategies.DTYPES)
@pytest.mark.parametrize(("weight_shape", "dilation"), [(BIG[1], 1), ((40, 64, 5, 5), 1), ((40, 64, 3, 3), 2)])
def test_a_batch_gives_the_bits_of_its_images(weight_shape, dilation, dtype):
    x, weight = strategies.values(BIG[0], dtype, 1), strategies.values(weight_shape, dtype, 2)
    y = forward(x, weight, dilation=dilation)
    grad_x = backward_input(y, weight, x.shape, dilation=dilation)
    for n in range(len(x)):
        one = slice(n, n + 1)
        assert forward(x[one], weight, dilation=dilation).tobytes() == y[one].tobytes()
        grad = backward_input(y[one], weight, x[one].shape, dilation=dilation)
        assert grad.tobytes() == grad_x[one].tobytes()


@pytest.mark.parametrize("arrange", [guarded, guarded_channels_last])
@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_nothing_beside_an_array_is_touched(arrange, at_end, dtype):
    """An access to a guard page would end the process; that nothing beside is written shows in equal results."""
    for x_shape, weight_shape, *options in (*NAMED.values(), *((*BIG, p, 1, 1) for p in (0, 1))):
        if 0 in x_shape:
            continue
        x, weight, bias = (strategies.values(s, dtype, 1) for s in (x_shape, weight_shape, weight_shape[:1]))
        y = forward(x, weight, bias, *options)
        grad_x = backward_input(y, weight, x_shape, *options)
        grad_weight = backward_weight(y, x, weight_shape, *options)
        outs = [
            arrange(np.zeros_like(y), at_end),
            arrange(np.zeros_like(x), at_end),
            guarded(np.zeros_like(weight), at_end),
        ]
        x, grad_out, weight, bias = (
            arrange(x, at_end),
            arrange(y, at_end),
            guarded(weight, at_end),
            guarded(bias, at_end),
        )
        forward(x, weight, bias, *options, out=outs[0])
        backward_input(grad_out, weight, x_shape, *options, out=outs[1])
        backward_weight(grad_out, x, weight_shape, *options, out=outs[2])
        for out, expected in zip(outs, (y, grad_x, grad_weight), strict=True):
            np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("order", [strategies.contiguous, strategies.channels_last])
def test_results_have_the_memory_order_of_the_input(order):
    x, weight = (
        order(strategies.values((2, 20, 9, 10), np.float32, 1)),
        strategies.values((24, 20, 3, 3), np.float32, 2),
    )
    assert forward(x, weight).strides == forward(x, weight, algorithm="direct").strides


# ------------------------------------------------------------------------------------------------------------- strides
STRIDED = {  # shapes of two images and of the weight, stride, groups
    "few channels": ((2, 6, 119, 117), (66, 3, 11, 11), 4, 2),
    "5x5": ((2, 17, 64, 63), (34, 17, 5, 5), 2, 1),
    "another stride on each axis": ((2, 11, 40, 75), (33, 11, 6, 9), (1, 3), 1),
}


@pytest.mark.parametrize("name", STRIDED)
@pytest.mark.parametrize("arrange", [strategies.contiguous, strategies.channels_last])
@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_large_strided_kernels(name, arrange, dtype, threads):
    """Forward and weight gradient, which "auto" computes like this; with the bits of one image and of one thread."""
    x_shape, weight_shape, stride, groups = STRIDED[name]
    x, weight = strategies.values(x_shape, dtype, 1), strategies.values(weight_shape, dtype, 2)
    options = {"stride": stride, "padding": 2, "groups": groups}
    y = fc.conv2d(guarded(x, True), guarded(weight, False), **options)
    x = arrange(x)
    grad_out = arrange(strategies.values(y.shape, dtype, 3))
    expected = (
        naive.conv_forward(x, weight, **options),
        naive.conv_backward_weight(grad_out, x, weight_shape, **options),
    )
    sizes = (
        naive.conv_forward(abs(x), abs(weight), **options),
        naive.conv_backward_weight(abs(grad_out), abs(x), weight_shape, **options),
    )
    results = []
    for count in (1, numba.config.NUMBA_NUM_THREADS):
        threads(count)
        grad_weight = fc.conv2d_backward_weight(grad_out, x, weight_shape, **options)
        assert fc.conv2d(x, weight, **options).tobytes() == y.tobytes()
        results.append(grad_weight.tobytes())
    assert results[0] == results[1]
    assert fc.conv2d(x[1:], weight, **options).tobytes() == y[1:].tobytes()
    assert fc.conv2d(x, fc.pack(weight, stride, 1, groups), **options).tobytes() == y.tobytes()
    assert_close(y, expected[0], sizes[0], math.prod(weight_shape[1:]), "winograd")
    assert_close(grad_weight, expected[1], sizes[1], 2 * math.prod(y.shape[2:]), "winograd")
    assert fc.conv2d(x, weight, **options, algorithm="direct").tobytes() != y.tobytes()
    direct = fc.conv2d_backward_weight(grad_out, x, weight_shape, **options, algorithm="direct")
    assert direct.tobytes() != grad_weight.tobytes()


# ----------------------------------------------------------------------------------------------------------- the choice
UNFIT = {
    "kernel": ((1, 16, 32, 32), (16, 16, 16, 5), {}),
    "pointwise": ((1, 16, 32, 32), (16, 16, 1, 1), {}),
    "stride": ((1, 16, 32, 32), (16, 16, 3, 3), {"stride": (2, 1)}),
    "dilation": ((1, 16, 80, 80), (16, 16, 3, 3), {"dilation": (1, 17)}),
    "1-D": ((1, 64, 64), (64, 64, 3), {"stride": (2,)}),
    "3-D": ((1, 16, 8, 8, 8), (16, 16, 3, 1, 1), {}),
}


def all_passes(x_shape, weight_shape, algorithm, stride=1, dilation=1):
    """Functions without arguments, one for each pass."""
    rank = len(x_shape) - 2
    x, weight = strategies.values(x_shape, np.float32, 1), strategies.values(weight_shape, np.float32, 2)
    options = stride, 1, dilation, 1
    y = _convolution.forward(rank, x, weight, None, *options, None, "direct", None)
    return (
        lambda: _convolution.forward(rank, x, weight, None, *options, None, algorithm, None),
        lambda: _convolution.backward_input(rank, y, weight, x_shape, *options, algorithm, None),
        lambda: _convolution.backward_weight(rank, y, x, weight_shape, *options, algorithm, None),
        lambda: _convolution.backward(rank, y, x, weight, *options, algorithm),
    )


@pytest.mark.parametrize("name", UNFIT)
def test_what_it_cannot_serve_is_refused(name):
    x_shape, weight_shape, options = UNFIT[name]
    ones = (1,) * (len(x_shape) - 2)
    message = (
        'algorithm "winograd" cannot serve these arguments: it is for kernels of up to 15 elements on an axis, more '
        f"than one on the last two axes together, of stride 1 and dilation up to 16, got "
        f"kernel_size {weight_shape[2:]}, stride {options.get('stride', ones)}, "
        f"dilation {options.get('dilation', ones)}"
    )
    for call in all_passes(x_shape, weight_shape, "winograd", **options):
        with pytest.raises(ValueError) as error:
            call()
        assert str(error.value) == message


@pytest.mark.parametrize("name", UNFIT)
def test_auto_is_direct_where_winograd_does_not_apply(name):
    x_shape, weight_shape, options = UNFIT[name]
    calls = (all_passes(x_shape, weight_shape, algorithm, **options)[:3] for algorithm in ("auto", "direct"))
    for auto, direct in zip(*calls, strict=True):
        assert auto().tobytes() == direct().tobytes()


@pytest.mark.parametrize(
    ("x_shape", "weight_shape", "dilation", "chosen"),
    [
        ((1, 64, 14, 14), (64, 64, 3, 3), 1, "winograd"),
        ((8, 64, 14, 14), (64, 64, 3, 3), 1, "winograd"),
        ((8, 64, 4, 4), (64, 64, 3, 3), 1, "direct"),
        ((1, 3, 56, 56), (64, 3, 3, 3), 1, "direct"),
        ((1, 64, 28, 28), (3, 64, 3, 3), 1, "direct"),
        ((1, 32, 28, 28), (32, 32, 5, 5), 1, "winograd"),
        ((1, 32, 28, 28), (32, 32, 2, 2), 1, "direct"),
        ((1, 32, 28, 28), (32, 32, 3, 3), 2, "winograd"),
        ((1, 12, 28, 28), (12, 12, 3, 3), 2, "direct"),
        ((1, 16, 6, 14, 14), (16, 16, 3, 3, 3), 1, "winograd"),
        ((1, 64, 400), (64, 64, 3), 1, "winograd"),
        ((1, 24, 400), (24, 24, 3), 1, "direct"),
    ],
)
def test_auto_chooses_by_channels_and_sizes(x_shape, weight_shape, dilation, chosen):
    calls = (all_passes(x_shape, weight_shape, algorithm, 1, dilation)[:3] for algorithm in ("auto", chosen))
    for auto, same in zip(*calls, strict=True):
        assert auto().tobytes() == same().tobytes()
