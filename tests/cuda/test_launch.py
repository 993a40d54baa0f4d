"""What Numba makes of a launch's arguments, as far as that goes without a driver, is what the interpreter passes."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("fastconv.cuda._jit", reason="the CUDA packages are not installed", exc_type=ImportError)
from numba.cuda import dispatcher
from numba.cuda.typing.typeof import Purpose, typeof

import fastconv as fc
from tests.cuda.agreement import on_cuda
from tests.cuda.cases import cases
from tests.ptx.compile import numba_type
from tests.ptx.executor import Interpreter, flatten


def on_device(array):
    """An array as the driver's part of Numba sees it."""
    layout = SimpleNamespace(strides_in_bytes=array.strides, is_contiguous_c=True, is_contiguous_f=True)
    return SimpleNamespace(size=array.size, dtype=array.dtype, ptr=array.pointer, shape=array.shape, _layout=layout)


class Launch(Interpreter):
    """Runs nothing, and compares."""

    def launch(self, kernel, grid, block, stream, args):
        self.launches.append(kernel.py_func.__name__)
        numba, passed, expected = SimpleNamespace(extensions=[]), [], []
        numba._prepare_args = functools.partial(dispatcher._Kernel._prepare_args, numba)
        for value in args:
            assert typeof(value, Purpose.argument) == numba_type(value)
            numba._prepare_args(numba_type(value), value, stream, [], passed)
            flatten(value, expected, [])
        passed = [getattr(value, "value", value) for value in passed]
        np.testing.assert_array_equal(np.array(passed, object), np.array(expected, object))


@pytest.fixture
def executor(monkeypatch):
    monkeypatch.setattr(
        dispatcher, "wrap_arg", lambda array: SimpleNamespace(to_device=lambda back, stream: on_device(array))
    )
    return Launch()


def test_arguments(executor):
    for name, args, options in cases():
        on_cuda(getattr(fc, name), *args, executor=executor, **options)
    assert {"convolve", "correlate", "fold", "max_pool", "softmax", "gradient"} <= set(executor.launches)
