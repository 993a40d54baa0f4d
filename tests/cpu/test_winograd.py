"""Winograd's algorithm gives the direct result up to rounding, whatever the sizes, threads and split of the batch."""

import itertools
import math

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc
from fastconv import _convolution
from fastconv.cpu import winograd_transforms
from tests import naive, strategies
from tests.guard_pages import guarded, guarded_channels_last
from tests.tolerance import assert_close

PADDINGS = st.tuples(st.integers(0, 5), st.integers(0, 5))


def forward(x, weight, bias=None, padding=1, groups=1, *, algorithm="winograd", **options):
    return fc.conv2d(x, weight, bias, 1, padding, 1, groups, algorithm=algorithm, **options)


def backward_input(grad_out, weight, shape, padding=1, groups=1, *, algorithm="winograd", out=None):
    return fc.conv2d_backward_input(grad_out, weight, shape, 1, padding, 1, groups, algorithm=algorithm, out=out)


def backward_weight(grad_out, x, shape, padding=1, groups=1, *, algorithm="winograd", out=None):
    return fc.conv2d_backward_weight(grad_out, x, shape, 1, padding, 1, groups, algorithm=algorithm, out=out)


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
def check(x, weight, bias, padding, groups, arrange=lambda array: array):
    """All three passes against the naive ones."""
    options = {"padding": padding, "groups": groups}
    y = forward(x, weight, bias, padding, groups)
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
        backward_input(grad_out, weight, x.shape, padding, groups),
        naive.conv_backward_input(grad_out, weight, x.shape, **options),
        naive.conv_backward_input(abs_grad, abs_weight, x.shape, **options),
        weight[:, :1].size,
        "winograd",
    )
    assert_close(
        backward_weight(grad_out, x, weight.shape, padding, groups),
        naive.conv_backward_weight(grad_out, x, weight.shape, **options),
        naive.conv_backward_weight(abs_grad, abs_x, weight.shape, **options),
        len(y) * math.prod(y.shape[2:]),
        "winograd",
    )
    fused = forward(x, weight, bias, padding, groups, activation="relu")
    np.testing.assert_array_equal(fused, np.where(y <= 0, y.dtype.type(0), y))


@given(st.data(), st.sampled_from(strategies.DTYPES), strategies.arrangements(), strategies.arrangements())
def test_drawn_convolutions_are_the_naive_ones(data, dtype, arrange, arrange_weight):
    padding, groups = data.draw(st.tuples(PADDINGS, PADDINGS)), data.draw(st.integers(1, 3))
    size = tuple(max(1, 3 - before - after) + data.draw(st.integers(0, 12)) for before, after in padding)
    ins, outs = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 20))
    seed = data.draw(st.integers(0, 1000))
    x = strategies.values((data.draw(st.integers(0, 3)), ins * groups, *size), dtype, seed)
    weight = strategies.values((outs * groups, ins, 3, 3), dtype, seed + 1)
    bias = strategies.values((outs * groups,), dtype, seed + 2) if data.draw(st.booleans()) else None
    check(arrange(x), arrange_weight(weight), bias, padding, groups, arrange)


NAMED = {
    "17 to 23 channels": ((2, 17, 9, 14), (23, 17, 3, 3), 1, 1),
    "pieces of channels": ((2, 160, 7, 7), (70, 160, 3, 3), 1, 1),
    "a prime number of channels": ((1, 97, 5, 6), (97, 97, 3, 3), 1, 1),
    "groups": ((2, 40, 13, 13), (80, 20, 3, 3), 1, 2),
    "depthwise": ((1, 5, 6, 7), (5, 1, 3, 3), 1, 5),
    "a wide row": ((1, 3, 3, 701), (4, 3, 3, 3), 0, 1),
    "many tiles": ((3, 16, 40, 44), (20, 16, 3, 3), 1, 1),
    "one pixel": ((3, 18, 1, 1), (17, 18, 3, 3), 1, 1),
    "padding only": ((2, 3, 0, 4), (4, 3, 3, 3), 2, 1),
    "no channels": ((2, 0, 4, 4), (3, 0, 3, 3), 1, 1),
    "padding wider than the kernel": ((1, 4, 5, 6), (3, 4, 3, 3), 6, 1),
}


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("arrange", [strategies.contiguous, strategies.channels_last])
@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_named_cases(name, arrange, dtype):
    x_shape, weight_shape, padding, groups = NAMED[name]
    x, weight = arrange(strategies.values(x_shape, dtype, 1)), strategies.values(weight_shape, dtype, 2)
    check(x, weight, strategies.values(weight_shape[:1], dtype, 3), padding, groups, arrange)


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
def test_512_channels_err_little(dtype, bound):
    """Relative to the largest result, for standard-normal data; 3e-5 is what the documentation promises in float32."""
    x, weight = strategies.values((1, 512, 12, 12), dtype, 1), strategies.values((512, 512, 3, 3), dtype, 2)
    grad_out = strategies.values(x.shape, dtype, 3)
    for operation, a, b, *shape in (
        (forward, x, weight),
        (backward_input, grad_out, weight, x.shape),
        (backward_weight, grad_out, x, weight.shape),
    ):
        expected = operation(a.astype(np.float64), b.astype(np.float64), *shape, algorithm="direct")
        error = abs(operation(a, b, *shape) - expected).max()
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
    ("x_shape", "weight_shape"),
    [
        ((6, 64, 15, 18), (96, 64, 3, 3)),
        ((1, 64, 15, 18), (96, 64, 3, 3)),
        ((8, 32, 30, 30), (48, 32, 3, 3)),
        ((2, 192, 14, 14), (256, 192, 3, 3)),
    ],
)
def test_two_threads_give_the_bits_of_one(dtype, x_shape, weight_shape, threads):
    x, weight = strategies.values(x_shape, dtype, 1), strategies.values(weight_shape, dtype, 2)
    results = []
    for count in (1, 2):
        threads(count)
        y = forward(x, weight)
        grads = backward_input(y, weight, x.shape), backward_weight(y, x, weight.shape)
        results.append([array.tobytes() for array in (y, *grads)])
    assert results[0] == results[1]


@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_a_batch_gives_the_bits_of_its_images(dtype):
    x, weight = strategies.values(BIG[0], dtype, 1), strategies.values(BIG[1], dtype, 2)
    y = forward(x, weight)
    grad_x = backward_input(y, weight, x.shape)
    for n in range(len(x)):
        one = slice(n, n + 1)
        assert forward(x[one], weight).tobytes() == y[one].tobytes()
        assert backward_input(y[one], weight, x[one].shape).tobytes() == grad_x[one].tobytes()


@pytest.mark.parametrize("arrange", [guarded, guarded_channels_last])
@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_nothing_beside_an_array_is_touched(arrange, at_end, dtype):
    """An access to a guard page would end the process; that nothing beside is written shows in equal results."""
    for x_shape, weight_shape, padding, groups in (*NAMED.values(), *((*BIG, p, 1) for p in (0, 1))):
        if 0 in x_shape:
            continue
        x, weight, bias = (strategies.values(s, dtype, 1) for s in (x_shape, weight_shape, weight_shape[:1]))
        y = forward(x, weight, bias, padding, groups)
        grad_x = backward_input(y, weight, x_shape, padding, groups)
        grad_weight = backward_weight(y, x, weight_shape, padding, groups)
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
        forward(x, weight, bias, padding, groups, out=outs[0])
        backward_input(grad_out, weight, x_shape, padding, groups, out=outs[1])
        backward_weight(grad_out, x, weight_shape, padding, groups, out=outs[2])
        for out, expected in zip(outs, (y, grad_x, grad_weight), strict=True):
            np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("order", [strategies.contiguous, strategies.channels_last])
def test_results_have_the_memory_order_of_the_input(order):
    x, weight = (
        order(strategies.values((2, 20, 9, 10), np.float32, 1)),
        strategies.values((24, 20, 3, 3), np.float32, 2),
    )
    assert forward(x, weight).strides == forward(x, weight, algorithm="direct").strides


# ----------------------------------------------------------------------------------------------------------- the choice
UNFIT = {
    "kernel": ((1, 16, 32, 32), (16, 16, 5, 5), {}),
    "stride": ((1, 16, 32, 32), (16, 16, 3, 3), {"stride": (2, 1)}),
    "dilation": ((1, 16, 32, 32), (16, 16, 3, 3), {"dilation": (1, 2)}),
    "1-D": ((1, 16, 32), (16, 16, 3), {}),
    "3-D": ((1, 16, 8, 8, 8), (16, 16, 3, 3, 3), {}),
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
        'algorithm "winograd" cannot serve these arguments: it is for 3x3 kernels of stride and dilation 1, got '
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
    ("x_shape", "weight_shape", "chosen"),
    [
        ((1, 64, 14, 14), (64, 64, 3, 3), "winograd"),
        ((8, 64, 14, 14), (64, 64, 3, 3), "winograd"),
        ((8, 64, 4, 4), (64, 64, 3, 3), "direct"),
        ((1, 3, 56, 56), (64, 3, 3, 3), "direct"),
        ((1, 64, 28, 28), (3, 64, 3, 3), "direct"),
    ],
)
def test_auto_chooses_by_channels_and_sizes(x_shape, weight_shape, chosen):
    calls = (all_passes(x_shape, weight_shape, algorithm)[:3] for algorithm in ("auto", chosen))
    for auto, same in zip(*calls, strict=True):
        assert auto().tobytes() == same().tobytes()
