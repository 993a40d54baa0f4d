"""All kernels with arguments of the types that they get, to compile them without running them.

Products on tiles are named here, in all their sizes. All others are what one call of every operation launches.
"""

from __future__ import annotations

from functools import partial

import numpy as np

import fastconv as fc
from fastconv._window import make_window
from fastconv.cuda import strided, tensor, tile
from fastconv.cuda.convolve import make_convolve, make_correlate
from fastconv.cuda.geometry import Channels, Images, Matrix, divisor, forward_phase
from tests.cuda.agreement import on_cuda
from tests.cuda.cases import cases, draw
from tests.ptx.compile import numba_type
from tests.ptx.executor import Interpreter
from tests.strategies import channels_last

GATHER = forward_phase(make_window((8, 8), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))).gather(2)
IMAGES = Images(0, 0, 0, 0, 0, 0)
CHANNELS, MATRIX, THREE = Channels(divisor(3), 3, 3), Matrix(3, 3, 3), divisor(3)


def convolve(shape, dtype):
    dtype, sum_dtype = strided.types_of(np.dtype(dtype))
    array = dtype[::1]
    arguments = (array, array, array, array, True, True, 3, 3, 3, MATRIX, THREE, THREE, GATHER, CHANNELS, IMAGES)
    return make_convolve(shape, dtype, sum_dtype), arguments


def correlate(shape, dtype):
    dtype, sum_dtype = strided.types_of(np.dtype(dtype))
    arguments = (dtype[::1], dtype[::1], sum_dtype[::1], 3, 3, MATRIX, 8, THREE, THREE, THREE, GATHER, CHANNELS)
    return make_correlate(shape, dtype, sum_dtype), arguments


SIZES = ("large", "medium", "small")
SHAPES = {
    "float32": dict(zip(SIZES, tile.TILES, strict=True)),
    "float16": dict(zip(SIZES, tile.TILES, strict=True)),
    "float64": dict(zip(SIZES[::2], tile.DOUBLE_TILES, strict=True)),
}

PRODUCTS = {
    f"{make.__name__} {name} {dtype}": partial(make, shape, dtype)
    for dtype, shapes in SHAPES.items()
    for name, shape in shapes.items()
    for make in (convolve, correlate)
}
PRODUCTS |= {
    f"{make.__name__} tensor {name} {dtype}": partial(make, shape, dtype)
    for dtype in ("float16", "float32")
    for name, shape in zip(SIZES[::2], tensor.TILES, strict=True)
    for make in (convolve, correlate)
}


class Recorder(Interpreter):
    """Runs nothing, and knows what it was asked to run: kernels by name, those of one name by number."""

    def __init__(self):
        super().__init__()
        self.kernels = {}

    def launch(self, kernel, grid, block, stream, args):
        found = kernel, tuple(map(numba_type, args))
        name = kernel.py_func.__name__
        if name not in ("convolve", "correlate") and found not in self.kernels.values():
            same = sum(other.split()[0] == name for other in self.kernels)
            self.kernels[f"{name} {same + 1}" if same else name] = found


def more_cases():
    """Kernels that no call in ``cases`` needs."""
    x, rows = draw(2, 4, 9, 8), draw(3, 1500)
    yield "conv2d", (x, draw(8, 1, 3, 3)), {"groups": 4}
    yield "conv2d_backward_weight", (draw(2, 8, 7, 6), x, (8, 1, 3, 3)), {"groups": 4}
    yield "relu", (x[..., ::2],), {}
    yield "global_avg_pool", (channels_last(x),), {}
    yield "lp_pool2d", (abs(x), 2.5, 2), {}
    yield "softmax", (rows,), {}
    yield "softmax_backward", (rows, rows), {}
    yield "cross_entropy", (rows, np.zeros(3, np.int64)), {}
    yield "cross_entropy_backward", (rows, np.zeros(3, np.int64)), {"reduction": "sum"}


def launched(dtype):
    """What is launched by one call of every operation with arrays of this type."""
    recorder = Recorder()
    for name, args, options in (*cases(), *more_cases()):
        args = (a.astype(dtype) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in args)
        on_cuda(getattr(fc, name), *args, executor=recorder, **options)
    return {f"{name} {dtype}": found for name, found in recorder.kernels.items()}


OTHERS = launched("float32") | launched("float64") | launched("float16")
