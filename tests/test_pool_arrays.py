"""Pooling and the arrays and arguments it is given: memory order, views, ``out``, threads, refusals."""

import hashlib
import itertools
import os
import platform
import subprocess
import sys

import numba
import numpy as np
import pytest

import fastconv as fc
from tests import strategies

SHAPE, POOLED = (2, 6, 9, 11), (2, 6, 5, 6)
WINDOW = {"kernel_size": 3, "stride": 2, "padding": 1}


def operands(dtype=np.float32):
    x, grad_out = strategies.values(SHAPE, dtype, 1), strategies.values(POOLED, dtype, 2)
    return x, grad_out, fc.max_pool2d(x, **WINDOW, return_indices=True).indices


# Every operation on (x, grad_out, indices), and whether its results have the memory order of the arrays.
CALLS = {
    "max_pool2d": (lambda x, g, i: fc.max_pool2d(x, **WINDOW), True),
    "max_pool2d with indices": (lambda x, g, i: fc.max_pool2d(x, **WINDOW, return_indices=True), True),
    "max_pool2d_backward": (lambda x, g, i: fc.max_pool2d_backward(g, i, SHAPE), True),
    "avg_pool2d": (lambda x, g, i: fc.avg_pool2d(x, **WINDOW, count_include_pad=False), True),
    "avg_pool2d_backward": (lambda x, g, i: fc.avg_pool2d_backward(g, SHAPE, **WINDOW, count_include_pad=False), True),
    "adaptive_avg_pool2d": (lambda x, g, i: fc.adaptive_avg_pool2d(x, (4, 6)), True),
    "adaptive_avg_pool2d_backward": (lambda x, g, i: fc.adaptive_avg_pool2d_backward(g, SHAPE), True),
    "adaptive_max_pool2d": (lambda x, g, i: fc.adaptive_max_pool2d(x, (4, 6), return_indices=True), True),
    "max_unpool2d": (lambda x, g, i: fc.max_unpool2d(fc.max_pool2d(x, **WINDOW), i, SHAPE), True),
    "max_unpool2d_backward": (lambda x, g, i: fc.max_unpool2d_backward(x, i), True),
    "lp_pool2d": (lambda x, g, i: fc.lp_pool2d(x, 2, 3), True),
    "lp_pool2d_backward": (lambda x, g, i: fc.lp_pool2d_backward(fc.lp_pool2d(x, 2, 3), x, 2, 3), True),
    "sum_pool2d": (lambda x, g, i: fc.sum_pool2d(x, **WINDOW), True),
    "sum_pool2d_backward": (lambda x, g, i: fc.sum_pool2d_backward(g, SHAPE, **WINDOW), True),
    "global_avg_pool": (lambda x, g, i: fc.global_avg_pool(x), False),
    "global_avg_pool_backward": (lambda x, g, i: fc.global_avg_pool_backward(g[:, :, 0, 0], SHAPE), False),
    "global_max_pool": (lambda x, g, i: fc.global_max_pool(x, return_indices=True), False),
    "global_max_pool_backward": (
        lambda x, g, i: fc.global_max_pool_backward(g[:, :, 0, 0], i[:, :, 0, 0], SHAPE),
        False,
    ),
}
each_call = pytest.mark.parametrize(("call", "ordered"), CALLS.values(), ids=CALLS)
each_arrangement = pytest.mark.parametrize("arrange", strategies.ARRANGEMENTS.values(), ids=strategies.ARRANGEMENTS)


def results(value):
    return value if isinstance(value, tuple) else (value,)


# --------------------------------------------------------------------------------------------------------- memory order
@each_call
@each_arrangement
@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_values_do_not_depend_on_the_arrangement(call, ordered, arrange, dtype):
    plain = operands(dtype)
    arranged = [arrange(array) for array in plain]
    copies = [array.copy() for array in arranged]
    for ours, expected in zip(results(call(*arranged)), results(call(*plain)), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)
        assert ours.dtype == expected.dtype
        assert ours.flags.writeable
        assert not any(np.shares_memory(ours, array) for array in arranged)
    for array, copy in zip(arranged, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


@each_call
def test_results_have_the_order_of_the_operand(call, ordered):
    for result in results(call(*operands())):
        assert result.flags.c_contiguous
    for result in results(call(*map(strategies.channels_last, operands()))):
        assert (np.moveaxis(result, 1, -1) if ordered else result).flags.c_contiguous


def test_indices_of_another_order_than_the_gradient():
    _, grad_out, indices = operands()
    expected = fc.max_pool2d_backward(grad_out, indices, SHAPE)
    mixed = fc.max_pool2d_backward(grad_out, strategies.channels_last(indices), SHAPE)
    np.testing.assert_array_equal(mixed, expected)
    mixed = fc.max_pool2d_backward(strategies.channels_last(grad_out), indices, SHAPE)
    np.testing.assert_array_equal(mixed, expected)


@pytest.mark.parametrize("arrange", [strategies.contiguous, strategies.channels_last, strategies.gaps])
def test_one_image_is_a_batch_of_one(arrange):
    x, grad_out, indices = (arrange(array)[0] for array in operands())
    batch = x[np.newaxis]
    y = fc.max_pool2d(x, **WINDOW, return_indices=True)
    expected = fc.max_pool2d(batch, **WINDOW, return_indices=True)
    np.testing.assert_array_equal(y.values, expected.values[0])
    np.testing.assert_array_equal(y.indices, expected.indices[0])
    np.testing.assert_array_equal(fc.avg_pool2d(x, **WINDOW), fc.avg_pool2d(batch, **WINDOW)[0])
    np.testing.assert_array_equal(fc.sum_pool2d(x, **WINDOW), fc.sum_pool2d(batch, **WINDOW)[0])
    np.testing.assert_array_equal(
        fc.max_pool2d_backward(grad_out, indices, SHAPE[1:]),
        fc.max_pool2d_backward(grad_out[np.newaxis], indices[np.newaxis], (1, *SHAPE[1:]))[0],
    )
    np.testing.assert_array_equal(
        fc.avg_pool2d_backward(grad_out, SHAPE[1:], **WINDOW),
        fc.avg_pool2d_backward(grad_out[np.newaxis], (1, *SHAPE[1:]), **WINDOW)[0],
    )


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (2, 0, 8, 8), (0, 0, 8, 8)])
@pytest.mark.parametrize("arrange", [strategies.contiguous, strategies.channels_last])
def test_no_images_or_no_channels(shape, arrange):
    x = arrange(np.zeros(shape, np.float32))
    y, indices = fc.max_pool2d(x, 3, 2, return_indices=True)
    assert y.shape == indices.shape == (*shape[:2], 3, 3)
    assert fc.avg_pool2d(x, 3, 2).shape == fc.sum_pool2d(x, 3, 2).shape == y.shape
    assert fc.max_pool2d_backward(y, indices, shape).shape == shape
    assert fc.avg_pool2d_backward(y, shape, 3, 2).shape == shape
    assert fc.global_avg_pool(x).shape == fc.global_max_pool(x).shape == shape[:2]
    assert fc.global_avg_pool_backward(np.zeros(shape[:2]), shape).shape == shape
    assert fc.global_max_pool_backward(np.zeros(shape[:2]), np.zeros(shape[:2], np.int64), shape).shape == shape


# ------------------------------------------------------------------------------------------------------------------ out
WRITABLE = [arrange for arrange in strategies.ARRANGEMENTS.values() if arrange is not strategies.read_only]


@pytest.mark.parametrize("arrange", WRITABLE)
@pytest.mark.parametrize("arrange_input", [strategies.contiguous, strategies.channels_last])
@pytest.mark.parametrize("operation", [fc.max_pool2d, fc.avg_pool2d])
def test_out_is_filled_and_returned(operation, arrange, arrange_input):
    x = arrange_input(operands()[0])
    out = arrange(np.full(POOLED, np.nan, np.float32))
    assert operation(x, **WINDOW, out=out) is out
    np.testing.assert_array_equal(out, operation(x, **WINDOW))
    out = arrange(np.full(POOLED, np.nan, np.float32))[0]
    assert operation(x[0], **WINDOW, out=out) is out
    np.testing.assert_array_equal(out, operation(x[0], **WINDOW))


def test_out_and_indices():
    x = operands()[0]
    out = np.empty(POOLED, np.float32)
    values, indices = fc.max_pool2d(x, **WINDOW, return_indices=True, out=out)
    assert values is out
    np.testing.assert_array_equal(indices, fc.max_pool2d(x, **WINDOW, return_indices=True).indices)
    out = np.empty(POOLED[1:], np.float32)
    values, indices = fc.max_pool2d(x[0], **WINDOW, return_indices=True, out=out)
    assert values is out
    assert indices.shape == POOLED[1:]


def test_out_may_overlap_the_input():
    memory = strategies.values((3, 6, 9, 11), np.float32, 1)
    expected = fc.max_pool2d(memory[:2].copy(), 3, 1, 1)
    np.testing.assert_array_equal(fc.max_pool2d(memory[:2], 3, 1, 1, out=memory[1:]), expected)


# -------------------------------------------------------------------------------------------------------------- threads
LARGE = (3, 20, 45, 50)
LARGE_CALLS = {
    "max": lambda x: fc.max_pool2d(x, 3, 2, 1, return_indices=True),
    "max in tiles": lambda x: fc.max_pool2d(x, 2),
    "large max": lambda x: fc.max_pool2d(x, 13, 1, 6),
    "average": lambda x: fc.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "average backward": lambda x: fc.avg_pool2d_backward(x, (*x.shape[:2], 90, 100), 3, 2, 1),
    "average backward in tiles": lambda x: fc.avg_pool2d_backward(x, (*x.shape[:2], 91, 101), 2),
    "adaptive average": lambda x: fc.adaptive_avg_pool2d(x, (7, 12)),
    "adaptive max": lambda x: fc.adaptive_max_pool2d(x, (7, 12), return_indices=True),
    "adaptive average backward": lambda x: fc.adaptive_avg_pool2d_backward(x, (*x.shape[:2], 64, 71)),
    "unpool": lambda x: fc.max_unpool2d(x, np.abs(x * 1000).astype(np.int64) % 3600, (*x.shape[:2], 60, 60)),
    "unpool backward": lambda x: fc.max_unpool2d_backward(x, np.abs(x * 1000).astype(np.int64) % 2250),
    "power norm": lambda x: fc.lp_pool2d(np.abs(x), 2, 3),
    "max backward": lambda x: fc.max_pool2d_backward(
        x, np.abs(x * 1000).astype(np.int64) % 900, (*x.shape[:2], 30, 30)
    ),
    "global average": fc.global_avg_pool,
    "global max": lambda x: fc.global_max_pool(x, return_indices=True),
}


@pytest.mark.parametrize("operation", LARGE_CALLS.values(), ids=LARGE_CALLS)
@pytest.mark.parametrize("arrange", [strategies.contiguous, strategies.channels_last])
def test_two_threads_give_the_bits_of_one(operation, arrange):
    x = arrange(strategies.values(LARGE, np.float32, 1))
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        alone = results(operation(x))
        numba.set_num_threads(2)
        together = results(operation(x))
    finally:
        numba.set_num_threads(before)
    for one, two in zip(alone, together, strict=True):
        assert one.tobytes() == two.tobytes()


@pytest.mark.parametrize("operation", LARGE_CALLS.values(), ids=LARGE_CALLS)
@pytest.mark.parametrize("arrange", [strategies.contiguous, strategies.channels_last])
def test_every_image_alone_gives_the_same_bits(operation, arrange):
    x = arrange(strategies.values(LARGE, np.float32, 1))
    together = results(operation(x))
    for n in range(len(x)):
        for one, whole in zip(results(operation(x[n : n + 1])), together, strict=True):
            assert one.tobytes() == whole[n : n + 1].tobytes()


# ---------------------------------------------------------------------------------------------------------- guard pages
def pool_beside_guard_pages():
    """Pools arrays that touch memory which may not be read: one element too many ends the process."""
    from tests.guard_pages import guarded, guarded_channels_last

    windows = [(2, 2, 0), (3, 2, 1), (3, 1, 1), (3, 3, 1), (1, 2, 0), (13, 1, 6)]
    for dtype in strategies.DTYPES:
        for arrange in (guarded, guarded_channels_last):
            for at_end in (True, False):
                for width in (*range(1, 19), 31, 32, 33):
                    shapes = [(1, 2, 3, width), (1, width, 3, 4)]
                    for x in (arrange(strategies.values(shape, dtype, 1), at_end) for shape in shapes):
                        for window in windows:
                            pool_once(x, window, lambda a: arrange(a, at_end))  # noqa: B023
    print("done")


def pool_once(x, window, arrange):
    if min(x.shape[2:]) + 2 * window[2] < window[0]:
        return
    y, indices = fc.max_pool2d(x, *window, return_indices=True)
    out = arrange(np.zeros_like(y))
    np.testing.assert_array_equal(fc.max_pool2d(x, *window, out=out), y)
    fc.avg_pool2d(x, *window, count_include_pad=False, out=out)
    fc.max_pool2d_backward(arrange(y), arrange(indices), x.shape)
    fc.avg_pool2d_backward(arrange(y), x.shape, *window)
    fc.global_avg_pool(x)
    fc.global_max_pool(x)
    if window[:2] == (3, 2):
        y, indices = fc.adaptive_max_pool2d(x, (2, 5), return_indices=True)
        fc.adaptive_avg_pool2d_backward(arrange(y), x.shape)
        fc.adaptive_avg_pool2d(x, (2, 5))
        fc.max_unpool2d(arrange(y), arrange(indices), x.shape)
        fc.max_unpool2d_backward(x, arrange(indices))


def test_no_element_too_many_is_read():
    """In a process of its own, which an access to a guard page would end."""
    code = "from tests.test_pool_arrays import pool_beside_guard_pages; pool_beside_guard_pages()"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout == "done\n"


# ----------------------------------------------------------------------------------------------------- narrow registers
def digest_of_integers():
    """A fingerprint of what pooling gives; sums of integers are the same in any order."""
    digest = hashlib.sha256()
    for dtype, arrange in itertools.product(strategies.DTYPES, (strategies.contiguous, strategies.channels_last)):
        for width, (kernel, stride, padding) in itertools.product(
            (1, 3, 6, 21), ((2, 2, 0), (3, 2, 1), (3, 1, 1), (4, 3, 2))
        ):
            if width + 2 * padding < kernel:
                continue
            x = arrange(strategies.values((2, 5, 7, width), dtype, width, integers=True))
            y, indices = fc.max_pool2d(x, kernel, stride, padding, return_indices=True)
            sums = fc.sum_pool2d(x, kernel, stride, padding)
            gradient = fc.sum_pool2d_backward(sums, x.shape, kernel, stride, padding)
            back = fc.max_pool2d_backward(sums, indices, x.shape)
            for result in (y, indices, fc.max_pool2d(x, kernel, stride, padding), sums, gradient, back):
                digest.update(result.tobytes())
            digest.update(fc.global_max_pool(x).tobytes() + fc.global_avg_pool(x[:, :, :4]).tobytes())
    return digest.hexdigest()


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names processors of the x86-64 family")
def test_results_do_not_depend_on_the_vector_width():
    """The same numbers from the smallest vector registers of the family, in a process of its own."""
    code = "from tests.test_pool_arrays import digest_of_integers; print(digest_of_integers())"
    environment = {**os.environ, "NUMBA_CPU_NAME": "nehalem", "NUMBA_CPU_FEATURES": "", "NUMBA_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert run.stdout.strip() == digest_of_integers(), run.stderr
