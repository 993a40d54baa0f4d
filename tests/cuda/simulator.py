"""A few operations in Numba's simulator, which runs kernels as Python.

    NUMBA_ENABLE_CUDASIM=1 python -m tests.cuda.simulator

It sees other mistakes than the interpreter of PTX: those in what Numba makes of a kernel, for one. It is slow, so that
these are small; and it has no instructions of its own, so that vector loads, asynchronous copies and tensor cores are
what kernels have in their place.
"""

import warnings

import numpy as np

import fastconv as fc
from fastconv.cuda import _jit
from fastconv.cuda.arrays import Array
from tests.ptx import UNIT
from tests.ptx.host import HostArray, memory_of

RANDOM = np.random.default_rng(0)


def draw(*shape, dtype=np.float32):
    return RANDOM.standard_normal(shape).astype(dtype)


X, WEIGHT, IMAGES = draw(1, 2, 4, 5), draw(3, 4, 2, 3), draw(2, 4, 5, 4)
INDICES = fc.max_pool2d(X, 2, return_indices=True)[1]
LABELS = np.array([[[0, 1, 1, 0, -100]] * 4]).reshape(1, 4, 5)
HALVES = draw(2, 4, 5, 4, dtype=np.float16), draw(3, 4, 2, 3, dtype=np.float16)
CASES = [
    (fc.conv2d, (IMAGES, WEIGHT, draw(3)), {"padding": 1, "stride": (1, 2), "activation": "relu"}),
    (fc.conv2d_backward, (draw(2, 3, 4, 2), IMAGES, WEIGHT), {}),
    (fc.conv2d, HALVES, {}),  # on tensor cores
    (fc.conv2d_backward_weight, (draw(2, 3, 4, 2, dtype=np.float16), HALVES[0], WEIGHT.shape), {}),
    (fc.conv2d, (X, draw(2, 1, 3, 2)), {"groups": 2, "dilation": (1, 2)}),
    (fc.linear, (draw(3, 7), draw(5, 7), draw(5)), {}),
    (fc.relu, (X[:, :, ::2, ::-1],), {}),
    (fc.max_pool2d_backward, (X[:, :, :2, :2], INDICES, X.shape), {}),
    (fc.avg_pool2d, (X, 3), {"stride": 2, "padding": 1, "count_include_pad": False}),
    (fc.cross_entropy, (X, LABELS), {}),
]


class Simulator:
    """An executor that hands the simulator NumPy arrays."""

    capability = (8, 0)

    def launch(self, kernel, grid, block, stream, args):
        kernel[grid, block](*map(_argument, args))

    def empty(self, shape, dtype, stream):
        return HostArray(np.zeros(shape, dtype), stream)

    def view(self, array):
        return HostArray(np.lib.stride_tricks.as_strided(array.owner.values, array.shape, array.strides))

    def wait(self, stream, others):
        pass


def _argument(value):
    """Arrays as the simulator takes them, and numbers in the types that a launch gives them."""
    if isinstance(value, Array):
        return memory_of(value).view(value.dtype)
    if isinstance(value, tuple):
        items = map(_argument, value)
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return np.int64(value) if type(value) is int else value


def wide(value):
    """What the CPU computes in float32."""
    return value.astype(np.float32) if isinstance(value, np.ndarray) and value.dtype == np.float16 else value


def items(result):
    return [getattr(item, "values", item) for item in (result if isinstance(result, tuple) else (result,))]


def main():
    assert _jit.SIMULATED
    assert not fc.cuda.is_available()
    warnings.simplefilter("ignore")  # unsigned numbers overflow, as they are meant to
    for function, args, options in CASES:
        with _jit.running_on(Simulator()):
            actual = function(*(HostArray(a) if isinstance(a, np.ndarray) else a for a in args), **options)
        for got, want in zip(items(actual), items(function(*map(wide, args), **options)), strict=True):
            allowed = 16 * UNIT[got.dtype.name]
            np.testing.assert_allclose(got.astype(want.dtype), want, rtol=allowed, atol=allowed)
        print(function.__name__)


if __name__ == "__main__":
    main()
