"""Every operation takes CUDA arrays: its PTX in the interpreter, and its kernels on a device where there is one."""

import numpy as np
import pytest

jit = pytest.importorskip("fastconv.cuda._jit", reason="the CUDA packages are not installed", exc_type=ImportError)
import fastconv as fc
from tests.cuda.agreement import assert_agree, items
from tests.cuda.cases import cases

HOST_ONLY = {"pack", "precompile"}  # packed weights are in the order in which the CPU reads them
CASES = {name: (args, options) for name, args, options in cases()}


def test_every_operation_has_a_case():
    assert sorted(CASES) == sorted(name for name in fc.__all__ if name.islower() and name not in HOST_ONLY)


@pytest.mark.parametrize("name", CASES)
def test_interpreted(name):
    args, options = CASES[name]
    assert_agree(getattr(fc, name), *args, length=120, scale=8.0, **options)


# ---------------------------------------------------------------------------------------------------------- on a device
on_device = [pytest.mark.gpu, pytest.mark.skipif(not jit.runs(), reason="there is no CUDA device here")]


def agree_on_device(to_device, to_host, dtype):
    for name, (args, options) in CASES.items():
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

    def test_cupy(self, dtype):
        cupy = pytest.importorskip("cupy")
        agree_on_device(cupy.asarray, cupy.asnumpy, dtype)

    def test_torch(self, dtype):
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("PyTorch has no CUDA here")
        agree_on_device(lambda a: torch.from_numpy(a.copy()).cuda(), lambda a: a.cpu().numpy(), dtype)
