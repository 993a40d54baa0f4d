"""No result depends on the number of threads, nor on which thread asks, by a single bit."""

import concurrent.futures
import os
import subprocess
import sys
import textwrap

import numba
import numpy as np
import pytest

import fastconv as fc
from fastconv.cpu import _jit
from tests import strategies
from tests.anywhere.processes import LAYERS, NO_LAYER, threading_layer

IMAGES, WEIGHT, BIAS = (8, 32, 28, 28), (48, 32, 3, 3), (48,)
ROWS, DENSE = (256, 600), (400, 600)


def values(shape, dtype, seed=0):
    return strategies.values(shape, dtype, seed)


def images(dtype):
    return values(IMAGES, dtype)


def conv_all(x_shape, weight_shape, **options):
    """Forward and all gradients of one convolution."""
    name = f"conv{len(x_shape) - 2}d"
    forward, backward = getattr(fc, name), getattr(fc, f"{name}_backward")

    def operation(dtype):
        x, weight = values(x_shape, dtype, 1), values(weight_shape, dtype, 2)
        y = forward(x, weight, values(weight_shape[:1], dtype, 4), **options)
        return y, *backward(values(y.shape, dtype, 3), x, weight, **options)

    return operation


def max_pool(dtype):
    y, indices = fc.max_pool2d(images(dtype), 3, 2, 1, return_indices=True)
    return y, indices, fc.max_pool2d_backward(y, indices, IMAGES)


def avg_pool(dtype):
    y = fc.avg_pool2d(images(dtype), 3, 2, 1)
    return y, fc.avg_pool2d_backward(y, IMAGES, 3, 2, 1)


def sum_pool(dtype):
    y = fc.sum_pool2d(images(dtype), 2)
    return y, fc.sum_pool2d_backward(y, IMAGES, 2)


def global_pools(dtype):
    mean = fc.global_avg_pool(images(dtype))
    largest, indices = fc.global_max_pool(images(dtype), return_indices=True)
    gradients = fc.global_avg_pool_backward(mean, IMAGES), fc.global_max_pool_backward(largest, indices, IMAGES)
    return mean, largest, indices, *gradients


def relu(dtype):
    y = fc.relu(images(dtype))
    return y, fc.relu_backward(images(dtype), y)


def leaky_relu(dtype):
    return fc.leaky_relu(images(dtype), 0.1), fc.leaky_relu_backward(images(dtype), images(dtype), 0.1)


def conv_transpose(dtype):
    x, weight, bias = values(IMAGES, dtype, 1), values((32, 24, 3, 3), dtype, 2), values((24,), dtype, 3)
    y = fc.conv_transpose2d(x, weight, bias, 2, 1, 1)
    return y, *fc.conv_transpose2d_backward(y, x, weight, 2, 1, 1)


def one_axis(dtype):
    x, weight = values((4, 32, 1000), dtype, 1), values((48, 32, 5), dtype, 2)
    y = fc.conv1d(x, weight, padding=2)
    return y, *fc.conv1d_backward(y, x, weight, padding=2)


def three_axes(dtype):
    x, weight = values((2, 16, 8, 20, 20), dtype, 1), values((24, 16, 3, 3, 3), dtype, 2)
    y = fc.conv3d(x, weight, padding=1)
    return y, *fc.conv3d_backward(y, x, weight, padding=1)


def lp_pool(dtype):
    x = values((4, 32, 56, 56), dtype)
    y = fc.lp_pool2d(x, 2, 3)
    return y, fc.lp_pool2d_backward(y, x, 2, 3)


def linear(dtype):
    x, weight, bias = values(ROWS, dtype, 1), values(DENSE, dtype, 2), values(DENSE[:1], dtype, 3)
    y = fc.linear(x, weight, bias, activation="relu")
    return y, *fc.linear_backward(y, x, weight)


def softmax(dtype):
    logits = values((2000, 100), dtype)
    y, log_y = fc.softmax(logits), fc.log_softmax(logits)
    return y, log_y, fc.softmax_backward(logits, y), fc.log_softmax_backward(logits, log_y)


def cross_entropy(dtype):
    logits, labels = values((3000, 100), dtype), np.arange(3000) * 7 % 100
    return np.asarray(fc.cross_entropy(logits, labels)), fc.cross_entropy_backward(logits, labels)


OPERATIONS = {
    "conv": conv_all(IMAGES, WEIGHT, padding=1),
    "conv with stride and dilation": conv_all((4, 16, 57, 57), (24, 16, 3, 3), stride=2, dilation=2, padding=1),
    "conv of few channels": conv_all((2, 3, 96, 96), (32, 3, 7, 7), stride=2, padding=3),
    "conv with a large stride": conv_all((4, 1, 16000), (64, 1, 100), stride=20),
    "conv of one large image": conv_all((1, 16, 128, 128), (16, 16, 3, 3), padding=1),
    "conv of many channels": conv_all((2, 256, 7, 7), (256, 256, 3, 3), padding=1),
    "direct conv": conv_all((3, 24, 30, 28), (72, 24, 3, 3), algorithm="direct"),
    "direct conv of one image": conv_all((1, 64, 20, 20), (130, 64, 3, 3), padding=1, algorithm="direct"),
    "direct conv of volumes": conv_all((1, 16, 6, 20, 20), (80, 16, 3, 3, 3), padding=1, algorithm="direct"),
    "direct conv of lines": conv_all((1, 16, 5000), (40, 16, 11), padding=5, algorithm="direct"),
    "conv in groups": conv_all((4, 64, 28, 28), (64, 16, 3, 3), padding=1, groups=4),
    "depthwise conv": conv_all((4, 64, 56, 56), (64, 1, 3, 3), padding=1, groups=64),
    "conv of one axis": one_axis,
    "conv of three axes": three_axes,
    "conv_transpose": conv_transpose,
    "max_pool": max_pool,
    "avg_pool": avg_pool,
    "sum_pool": sum_pool,
    "global pools": global_pools,
    "lp_pool": lp_pool,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "linear": linear,
    "softmax": softmax,
    "cross_entropy": cross_entropy,
}
each_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


@pytest.fixture
def threads():
    """Sets the number of threads, and puts the old one back."""
    before = numba.get_num_threads()
    yield numba.set_num_threads
    numba.set_num_threads(before)


@pytest.fixture
def parallel_launches(monkeypatch):
    """The numbers of workers of all launches on more than one thread."""
    workers = []

    def recording(core, count, args, start=_jit.start):
        workers.append(count)
        start(core, count, args)

    monkeypatch.setattr(_jit, "start", recording)
    return workers


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="NUMBA_NUM_THREADS allows one thread only")
@each_operation
@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_two_threads_give_the_bits_of_one(operation, dtype, threads, parallel_launches):
    threads(1)
    alone = operation(dtype)
    assert parallel_launches == []
    threads(2)
    together = operation(dtype)
    assert 2 in parallel_launches
    for one, two in zip(alone, together, strict=True):
        assert one.dtype == two.dtype
        assert one.shape == two.shape
        assert one.tobytes() == two.tobytes()


@pytest.fixture
def shares_in_turn(monkeypatch):
    """Lets one thread do the shares of many workers, in the opposite order."""
    counts = []

    def all_shares(core, workers, args):
        counts.append(workers)
        for worker in reversed(range(workers)):
            core(worker, workers, *args)

    def set_workers(count):
        monkeypatch.setattr(numba, "get_num_threads", lambda: count)
        monkeypatch.setattr(_jit, "start", all_shares)
        monkeypatch.setattr(_jit, "_layer", lambda: "omp")
        return counts

    return set_workers


@each_operation
@pytest.mark.parametrize("workers", [3, 7, 64])
def test_any_number_of_workers_gives_the_bits_of_one(operation, workers, threads, shares_in_turn):
    threads(1)
    alone = operation(np.float32)
    counts = shares_in_turn(workers)
    together = operation(np.float32)
    assert max(counts) > 2
    assert [one.tobytes() for one in alone] == [many.tobytes() for many in together]


def test_callers_on_many_threads_get_the_bits_of_one():
    operations = [OPERATIONS[name] for name in ("conv", "max_pool", "linear", "softmax")] * 4
    alone = [operation(np.float32) for operation in operations]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda operation: operation(np.float32), operations))
    for one, other in zip(alone, together, strict=True):
        assert [part.tobytes() for part in one] == [part.tobytes() for part in other]


# What ends a process, by layer: calls from two threads at once (workqueue), calls from a forked child (omp, tbb).
CONCURRENT = textwrap.dedent(
    """
    import concurrent.futures, os, sys
    import numba, numpy as np
    import fastconv as fc

    numba.set_num_threads(2)
    x, weight = np.ones((8, 16, 28, 28), np.float32), np.ones((32, 16, 3, 3), np.float32)
    expected = fc.conv2d(x, weight).tobytes()
    assert numba.threading_layer() == sys.argv[1]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: fc.conv2d(x, weight).tobytes(), range(64)))
    assert results == [expected] * 64
    if hasattr(os, "fork"):
        child = os.fork()
        if child == 0:
            os._exit(fc.conv2d(x, weight).tobytes() != expected)
        assert os.waitpid(child, 0)[1] == 0
        assert fc.conv2d(x, weight).tobytes() == expected
    print("all equal")
    """
)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="NUMBA_NUM_THREADS allows one thread only")
@pytest.mark.parametrize("layer", LAYERS)
def test_callers_on_many_threads_and_forks_in_every_layer(layer):
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", CONCURRENT, layer]
    environment = {**os.environ, **threading_layer(layer), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if NO_LAYER in run.stderr:
        pytest.skip(f"Numba's {layer} layer is not installed")
    # Before it, TBB may say that its threads were at work.
    assert run.stdout.endswith("all equal\n"), f"{run.returncode}: {run.stderr[-2000:]}"
