"""A few operations in Numba's simulator, which runs kernels as Python.

    NUMBA_ENABLE_CUDASIM=1 python -m tests.cuda.simulator

It sees other mistakes than the interpreter of PTX: those in what Numba makes of a kernel, for one. It is slow, so that
these are small; it has no instructions of its own, so that kernels with vector loads stay out.
"""

import warnings

import numpy as np

import fastconv as fc
from fastconv.cuda import _jit
from fastconv.cuda.arrays import Array
from tests.ptx.host import HostArray, memory_of

X = np.random.default_rng(0).standard_normal((1, 2, 4, 5)).astype(np.float32)
LABELS = np.array([[[0, 1, 1, 0, -100]] * 4]).reshape(1, 4, 5)
INDICES = fc.max_pool2d(X, 2, return_indices=True)[1]
CASES = [
    (fc.relu, (X,), {}),
    (fc.relu, (X[:, :, ::2, ::-1],), {}),
    (fc.leaky_relu_backward, (X, X), {"negative_slope": 0.5}),
    (fc.max_pool2d, (X, 2), {"padding": 1, "return_indices": True}),
    (fc.max_pool2d_backward, (X[:, :, :2, :2], INDICES, X.shape), {}),
    (fc.avg_pool2d, (X, 3), {"stride": 2, "padding": 1, "count_include_pad": False}),
    (fc.avg_pool2d_backward, (X[:, :, :2, :2], X.shape, 2), {}),
    (fc.global_avg_pool, (X,), {}),
    (fc.softmax, (X,), {}),
    (fc.cross_entropy, (X, LABELS), {}),
]


class Simulator:
    """An executor that hands the simulator NumPy arrays."""

    def launch(self, kernel, grid, block, stream, args):
        kernel[grid, block](*map(self._argument, args))

    def _argument(self, value):
        return memory_of(value).view(value.dtype) if isinstance(value, Array) else value

    def empty(self, shape, dtype, stream):
        return HostArray(np.zeros(shape, dtype), stream)

    def view(self, array):
        return HostArray(np.lib.stride_tricks.as_strided(array.owner.values, array.shape, array.strides))

    def wait(self, stream, others):
        pass


def items(result):
    return [getattr(item, "values", item) for item in (result if isinstance(result, tuple) else (result,))]


def main():
    assert _jit.SIMULATED
    assert not fc.cuda.is_available()
    warnings.simplefilter("ignore")  # unsigned numbers overflow, as they are meant to
    for function, args, options in CASES:
        with _jit.running_on(Simulator()):
            arguments = [HostArray(a) if isinstance(a, np.ndarray) else a for a in args]
            actual = function(*arguments, **options)
        for got, want in zip(items(actual), items(function(*args, **options)), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
        print(function.__name__)


if __name__ == "__main__":
    main()
