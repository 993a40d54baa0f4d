"""Every operation takes CUDA arrays: its PTX in the interpreter, and its kernels on a device where there is one.

The interpreter checks memory and races on the way; see :mod:`tests.ptx`.
"""

import inspect

import numpy as np
import pytest

jit = pytest.importorskip("fastconv.cuda._jit", reason="the CUDA packages are not installed", exc_type=ImportError)
from hypothesis import given, settings
from hypothesis import strategies as st

import fastconv as fc
from tests.cuda import drawn
from tests.cuda.agreement import assert_agree, items, on_cuda
from tests.cuda.cases import cases, draw
from tests.ptx.executor import Interpreter

HOST_ONLY = {"pack", "precompile"}  # packed weights are in the order in which the CPU reads them
NAMES = sorted(name for name in fc.__all__ if name.islower() and name not in HOST_ONLY)
CASES = {name: (args, options) for name, args, options in cases()}


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15)
@given(data=st.data())
def test_interpreted(name, data):
    call = data.draw(drawn.calls(name))
    assert_agree(getattr(fc, name), *call.args, **call.options, **call.sums)


def test_every_operation_has_a_case():
    assert sorted(CASES) == NAMES


def test_both_backends_have_the_same_operations():
    """Under the same names, and with the same arguments in the same order."""
    functions = [name for name, value in vars(fc.cpu).items() if callable(value)]
    operations = [name for name in functions if name.endswith(("_forward", "_bias")) or "_backward" in name]
    assert sorted(operations) == sorted(fc.cuda._HOME)
    for name in operations:
        here, there = (inspect.signature(getattr(backend, name)) for backend in (fc.cpu, fc.cuda))
        assert list(here.parameters) == list(there.parameters), name


SUMS = ("conv2d", "conv2d_backward", "max_pool2d_backward", "global_avg_pool", "linear_backward", "cross_entropy")


@pytest.mark.parametrize("name", SUMS)
def test_the_order_of_blocks_changes_no_bit(name):
    args, options = CASES[name]
    forwards = on_cuda(getattr(fc, name), *args, **options)
    backwards = on_cuda(getattr(fc, name), *args, executor=Interpreter(at_once=1, backwards=True), **options)
    for one, other in zip(items(forwards), items(backwards), strict=True):
        np.testing.assert_array_equal(one, other)


# ---------------------------------------------------------------------------------------------------------- on a device
on_device = [pytest.mark.gpu, pytest.mark.skipif(not jit.runs(), reason="there is no CUDA device here")]


def agree_on_device(to_device, to_host, dtype, cases=CASES):
    for name, (args, options) in cases.items():
        args = [a.astype(dtype) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in args]
        function = getattr(fc, name)
        actual = function(*(to_device(a) if isinstance(a, np.ndarray) else a for a in args), **options)
        wide = [a.astype(np.float32) if isinstance(a, np.ndarray) and a.dtype == np.float16 else a for a in args]
        tolerance = {np.float16: 5e-3, np.float32: 1e-4, np.float64: 1e-11}[dtype]
        for got, want in zip(items(actual), items(function(*wide, **options)), strict=True):
            error = np.abs(to_host(got).astype(np.float64) - want)
            assert np.all(error <= tolerance * (8 + np.abs(want))), f"{name}: largest error {error.max()}"


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
class TestOnDevice:
    pytestmark = on_device

    def test_numba(self, dtype):
        agree_on_device(lambda a: jit.cuda.to_device(np.ascontiguousarray(a)), lambda a: a.copy_to_host(), dtype)

    def test_large_tiles(self, dtype):
        """Enough pixels and channels for the largest tile, which no case for the interpreter needs."""
        x, weight, options = draw(8, 64, 28, 28), draw(256, 64, 3, 3), {"padding": 1}
        large = {"conv2d": ((x, weight), options), "conv2d_backward": ((draw(8, 256, 28, 28), x, weight), options)}
        agree_on_device(jit.cuda.to_device, lambda a: a.copy_to_host(), dtype, large)

    def test_cupy(self, dtype):
        cupy = pytest.importorskip("cupy")
        agree_on_device(cupy.asarray, cupy.asnumpy, dtype)

    def test_torch(self, dtype):
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("PyTorch has no CUDA here")
        agree_on_device(lambda a: torch.from_numpy(a.copy()).cuda(), lambda a: a.cpu().numpy(), dtype)
