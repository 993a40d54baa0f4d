"""Kernels of sums and products take denormal numbers for zeros, others keep them, and every thread keeps its mode."""

import concurrent.futures

import numba
import numpy as np
import pytest
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

import fastconv as fc
from fastconv.cpu import _flush, _jit
from tests import naive, strategies

pytestmark = pytest.mark.skipif(not _flush.FLUSHING, reason="this processor's mode is left as it is")

ROUNDING_UP = 1 << (14 if _flush.X86_64 else 22)
FLAGS = 63 if _flush.X86_64 else 0  # of what has happened: NumPy clears them
each_dtype = pytest.mark.parametrize("dtype", strategies.DTYPES)


# ------------------------------------------------------------------------------------------------------------- the mode
@intrinsic
def mode_now(typing_context):
    """The thread's floating-point mode."""

    def generate(context, builder, signature, args):
        place = builder.alloca(_flush.MODE)
        _flush.read_mode(builder, place)
        return builder.zext(builder.load(place), ir.IntType(64)) if _flush.X86_64 else builder.load(place)

    return types.int64(), generate


@intrinsic
def set_mode_now(typing_context, mode):
    def generate(context, builder, signature, args):
        place = builder.alloca(_flush.MODE)
        builder.store(builder.trunc(args[0], _flush.MODE) if _flush.X86_64 else args[0], place)
        _flush.write_mode(builder, place)
        return context.get_dummy_value()

    return types.void(types.int64), generate


@numba.njit
def mode():
    return mode_now() & ~FLAGS


@numba.njit
def set_mode(value):
    set_mode_now(value)


@_jit.flushing
def modes_inside(worker, workers, modes, fails):
    modes[worker] = mode_now()
    if fails:
        raise ValueError("a kernel gives up")


@_jit.compiled
def modes_outside(worker, workers, modes):
    modes[worker] = mode_now() & ~FLAGS


@pytest.fixture
def own_mode():
    """A mode of the caller's own."""
    before = mode()
    set_mode(before | ROUNDING_UP)
    yield before | ROUNDING_UP
    set_mode(before)


def conv_operands(dtype):
    x, weight = strategies.values((4, 16, 14, 14), dtype, 1), strategies.values((16, 16, 3, 3), dtype, 2)
    return x, weight, strategies.values((4, 16, 12, 12), dtype, 3)


def everything(dtype=np.float32):
    """Kernels of all kinds, with results that are denormal and results that are not exact."""
    x, weight, grad_out = conv_operands(dtype)
    tiny = x * np.finfo(dtype).tiny
    for algorithm in ("direct", "winograd"):
        fc.conv2d(tiny, weight, algorithm=algorithm)
        fc.conv2d_backward(grad_out, tiny, weight, algorithm=algorithm)
    fc.conv2d(x, weight[:, :1], groups=16)
    fc.avg_pool2d(tiny, 2)
    fc.softmax(tiny)
    fc.relu(tiny)


def test_a_kernel_flushes_and_puts_the_mode_back(own_mode):
    inside = np.zeros(1, np.int64)
    modes_inside(0, 1, inside, False)
    assert inside[0] & ~FLAGS == own_mode | _flush.FLUSHING
    assert mode() == own_mode


def test_a_call_leaves_the_mode_of_its_thread(own_mode):
    everything()
    assert mode() == own_mode


def test_a_call_leaves_the_mode_of_any_thread(own_mode):
    def call():
        set_mode(own_mode ^ ROUNDING_UP)
        everything()
        return mode()

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        assert [call.result() for call in [pool.submit(call) for _ in range(2)]] == [own_mode ^ ROUNDING_UP] * 2
    assert mode() == own_mode


def test_an_error_leaves_the_mode(own_mode):
    with pytest.raises(ValueError, match="gives up"):
        modes_inside(0, 1, np.zeros(1, np.int64), True)
    assert mode() == own_mode


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="NUMBA_NUM_THREADS allows one thread only")
@pytest.mark.parametrize("fails", [False, True])
def test_workers_leave_the_mode_of_their_threads(fails):
    before, inside, after = (np.zeros(2, np.int64) for _ in range(3))
    _jit.launch(modes_outside, 2, before)
    if fails:
        with pytest.raises(ValueError, match="gives up"):
            _jit.launch(modes_inside, 2, inside, True)
    else:
        _jit.launch(modes_inside, 2, inside, False)
        assert np.all(inside & _flush.FLUSHING == _flush.FLUSHING)
    everything()
    _jit.launch(modes_outside, 2, after)
    assert before.tolist() == after.tolist()


def test_calls_in_compiled_code_leave_the_mode(own_mode):
    @numba.njit
    def caller(x, weight):
        y = fc.conv2d(x, weight)
        return y, mode_now()

    x, weight, _ = conv_operands(np.float32)
    for _ in range(4):  # from the third time on without Python
        y, after = caller(x * np.float32(1e-39), weight)
        assert after & ~FLAGS == mode() == own_mode
        assert not y.any()


def test_flushing_is_for_no_longer_than_a_call():
    everything()
    half = np.full(3, np.finfo(np.float32).tiny) * np.float32(0.5)
    assert np.all(half > 0)
    assert np.all(half * np.float32(0.5) == half / 2)


# ------------------------------------------------------------------------------------------------------------- results
CONVOLUTIONS = {
    "direct": ((2, 16, 8, 9), (18, 16, 3, 3), {"padding": 1, "algorithm": "direct"}),
    "winograd": ((2, 16, 8, 9), (18, 16, 3, 3), {"padding": 1, "algorithm": "winograd"}),
    "fft": ((1, 8, 1, 70), (9, 8, 1, 33), {"padding": (0, 16), "algorithm": "fft"}),
    "few channels": ((2, 1, 9, 10), (4, 1, 3, 3), {}),
    "depthwise": ((2, 16, 9, 10), (16, 1, 3, 3), {"groups": 16}),
    "stride": ((2, 6, 9, 10), (8, 3, 3, 3), {"stride": 2, "groups": 2}),
}


def close(actual, expected, terms, small, factors):
    """Beside rounding, every denormal operand, product and partial sum may be lost, with the factors that it meets."""
    limits, largest = np.finfo(actual.dtype), np.abs(factors).max()
    lost = limits.tiny * (1 + largest)
    allowed = 64 * terms * (lost + limits.eps * largest * np.abs(small).max())
    assert np.abs(expected).max() > 10 * allowed  # what would be allowed if all were zeros
    assert np.abs(actual - expected).max() <= allowed


@each_dtype
@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("which", ["input", "weight"])
def test_sums_of_denormals_are_right_to_the_smallest_normal_number(name, which, dtype):
    x_shape, weight_shape, options = CONVOLUTIONS[name]
    x, weight = strategies.values(x_shape, dtype, 1), strategies.values(weight_shape, dtype, 2)
    window = {key: value for key, value in options.items() if key != "algorithm"}
    grad_out = strategies.values(naive.conv_forward(x, weight, **window).shape, dtype, 3)
    small = x if which == "input" else weight
    small *= (np.finfo(dtype).tiny * 10 ** np.random.default_rng(0).uniform(-3, 6, small.shape)).astype(dtype)
    terms = weight[0].size
    operands = (x, weight) if which == "input" else (weight, x)
    close(fc.conv2d(x, weight, **options), naive.conv_forward(x, weight, **window), terms, *operands)
    if which == "input":
        terms = grad_out.size // grad_out.shape[1]
        actual = fc.conv2d_backward_weight(grad_out, x, weight_shape, **options)
        close(actual, naive.conv_backward_weight(grad_out, x, weight_shape, **window), terms, x, grad_out)
    else:
        terms = weight.size // weight.shape[1]
        actual = fc.conv2d_backward_input(grad_out, weight, x_shape, **options)
        close(actual, naive.conv_backward_input(grad_out, weight, x_shape, **window), terms, weight, grad_out)


@each_dtype
def test_a_denormal_number_beside_others_is_a_zero(dtype):
    x, weight, _ = conv_operands(dtype)
    x[x > 0.5] = np.finfo(dtype).smallest_subnormal * 5
    zeros = np.where(np.abs(x) < np.finfo(dtype).tiny, 0, x)
    for algorithm in ("direct", "winograd"):
        y = fc.conv2d(x, weight, algorithm=algorithm)
        assert y.tobytes() == fc.conv2d(zeros, weight, algorithm=algorithm).tobytes()
    flat, dense = x.reshape(-1, 16), weight.reshape(-1, 16)
    assert fc.linear(flat, dense).tobytes() == fc.linear(zeros.reshape(-1, 16), dense).tobytes()


@each_dtype
def test_what_selects_or_copies_keeps_denormals(dtype):
    rng, smallest = np.random.default_rng(0), np.finfo(dtype).smallest_subnormal
    x = (rng.integers(-50, 50, (2, 3, 8, 8)) * smallest).astype(dtype)
    y, indices = fc.max_pool2d(x, 2, return_indices=True)
    expected, expected_indices = naive.max_pool_forward(x, 2, 2, 0, 1, False)
    np.testing.assert_array_equal(y, expected.astype(dtype), strict=True)
    np.testing.assert_array_equal(indices, expected_indices)
    np.testing.assert_array_equal(fc.max_pool2d(x, 2), y)
    np.testing.assert_array_equal(fc.global_max_pool(x), x.max((2, 3)))
    np.testing.assert_array_equal(fc.max_unpool2d(y, indices, x.shape), naive.max_unpool_forward(y, indices, x.shape))
    np.testing.assert_array_equal(
        fc.max_pool2d_backward(y, indices, x.shape), naive.max_unpool_forward(y, indices, x.shape)
    )
    np.testing.assert_array_equal(fc.relu(x), np.maximum(x, 0))
    np.testing.assert_array_equal(fc.relu_backward(x, np.abs(x)), np.where(x != 0, x, 0))
    np.testing.assert_array_equal(fc.leaky_relu(np.abs(x), 0.5), np.abs(x))


def test_denormal_float16_numbers_are_no_denormal_float32_numbers():
    x = (np.arange(-32, 32) * np.finfo(np.float16).smallest_subnormal).astype(np.float16).reshape(1, 1, 8, 8)
    weight = np.full((1, 1, 2, 2), 0.5, np.float16)
    expected = naive.conv_forward(x, weight)
    np.testing.assert_array_equal(fc.conv2d(x, weight), expected.astype(np.float16))
    np.testing.assert_array_equal(fc.avg_pool2d(x, 2, 1), (expected / 2).astype(np.float16))
