"""CUDA arrays of other libraries: what goes in, what comes out, on which stream, and what is refused."""

import sys
from types import ModuleType, SimpleNamespace
from unittest import mock

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("fastconv.cuda._jit", reason="the CUDA packages are not installed", exc_type=ImportError)
import fastconv as fc
from fastconv.cuda import _jit, arrays, layout
from fastconv.cuda._jit import running_on
from tests.cuda.agreement import on_cuda
from tests.ptx.executor import HostArray, Interpreter


# ------------------------------------------------------------------------------------- a library that looks like CuPy
class Device:
    """Counts how often it was made the current one."""

    entered = 0

    def __enter__(self):
        Device.entered += 1

    def __exit__(self, *_):
        pass


class ndarray(HostArray):
    device = Device()


def make_library():
    library = ModuleType("cupy_like")
    library.ndarray, library.stream = ndarray, 77
    library.asarray = lambda values: ndarray(np.array(values), library.stream)
    library.empty = lambda shape, dtype: ndarray(np.full(shape, 99, dtype), library.stream)
    library.lib = ModuleType("cupy_like.lib")
    library.lib.stride_tricks = ModuleType("cupy_like.lib.stride_tricks")
    library.lib.stride_tricks.as_strided = lambda x, shape, strides: ndarray(
        np.lib.stride_tricks.as_strided(x.values, shape, strides), x.stream
    )
    return library


@pytest.fixture
def cupy(monkeypatch):
    library = make_library()
    monkeypatch.setattr(ndarray, "__module__", "cupy_like")
    monkeypatch.setitem(sys.modules, "cupy_like", library)
    return library


@pytest.fixture
def interpreter():
    with running_on(Interpreter()) as executor:
        yield executor


def test_arrays_of_a_library_in_and_out(cupy, interpreter):
    rng = np.random.default_rng(0)
    x = cupy.asarray(rng.standard_normal((2, 3, 8, 8)).astype(np.float32))
    weight = cupy.asarray(rng.standard_normal((4, 3, 3, 3)).astype(np.float32))
    bias = cupy.asarray(np.ones(4, np.float32))
    y = fc.conv2d(x, weight, bias, padding=1, activation="relu")
    pooled, indices = fc.max_pool2d(y, 2, return_indices=True)
    assert [type(a) for a in (y, pooled, indices)] == [ndarray] * 3
    expected = fc.conv2d(x.values, weight.values, bias.values, padding=1, activation="relu")
    np.testing.assert_allclose(y.values, expected, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(pooled.values, fc.max_pool2d(y.values, 2))
    grads = fc.conv2d_backward(fc.max_pool2d_backward(pooled, indices, y.shape), x, weight, padding=1)
    assert isinstance(grads, fc.ConvGrads)
    assert [type(a) for a in grads] == [ndarray] * 3
    assert set(interpreter.streams) == {77}
    assert interpreter.waits == []


class Tensor(HostArray):
    """What fastconv asks of PyTorch's tensors; their interface says no stream."""

    device = "cuda:0"

    def as_strided(self, shape, steps):
        strides = [step * self.values.itemsize for step in steps]
        return Tensor(np.lib.stride_tricks.as_strided(self.values, shape, strides))


def test_tensors_in_and_out(monkeypatch, interpreter):
    """On the stream that is PyTorch's current one on their device."""
    torch = ModuleType("torch")
    torch.empty = lambda shape, dtype, device: Tensor(np.full(shape, 99, dtype))
    torch.float32, torch.int64 = np.float32, np.int64
    torch.cuda = SimpleNamespace(current_stream=lambda device: SimpleNamespace(cuda_stream={"cuda:0": 33}[device]))
    monkeypatch.setattr(Tensor, "__module__", "torch")
    monkeypatch.setitem(sys.modules, "torch", torch)
    x = Tensor(np.random.default_rng(0).standard_normal((2, 6, 5, 3)).astype(np.float32).transpose(0, 3, 1, 2))
    y, indices = fc.max_pool2d(x, 2, return_indices=True)
    assert (type(y), type(indices)) == (Tensor, Tensor)
    assert y.values.transpose(0, 2, 3, 1).flags.c_contiguous
    np.testing.assert_array_equal(y.values, fc.max_pool2d(x.values, 2))
    assert set(interpreter.streams) == {33}


def test_the_device_asks_numba_for_what_it_has(monkeypatch):
    """Names and arguments of Numba's functions, without a device; and nothing waits for one."""
    numba = mock.create_autospec(_jit.cuda)
    monkeypatch.setattr(_jit, "cuda", numba)
    device, kernel = _jit.Device(), mock.MagicMock()
    array = arrays.wrap("x", HostArray(np.zeros(3, np.float32), stream=5))
    device.launch(kernel, (2,), (256,), 5, (array, 7))
    assert device.empty((2, 3), np.dtype(np.float32), 0) is numba.device_array.return_value
    assert device.view(array) is numba.as_cuda_array.return_value
    device.wait(5, {6})
    kernel.__getitem__.assert_called_once_with(((2,), (256,), numba.external_stream.return_value))
    kernel.__getitem__.return_value.assert_called_once_with(array, 7)
    numba.as_cuda_array.assert_called_once_with(array, sync=False)
    assert [call.args[0] for call in numba.external_stream.call_args_list] == [5, 6, 5]
    assert "synchronize" not in str(numba.mock_calls)


def test_the_memory_order_of_the_result_is_the_input_s(cupy, interpreter):
    images = np.random.default_rng(0).standard_normal((2, 6, 5, 3))
    x = cupy.asarray(np.zeros(1))
    x.values = images.transpose(0, 3, 1, 2)
    y = fc.avg_pool2d(x, 2)
    assert type(y) is ndarray
    assert y.values.transpose(0, 2, 3, 1).flags.c_contiguous
    np.testing.assert_allclose(y.values, fc.avg_pool2d(x.values, 2))


def test_nothing_is_copied_on_the_way_in(interpreter):
    x = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
    for view in (x, x.transpose(2, 0, 1), x[1:], x.transpose(0, 2, 1)):
        array = arrays.wrap("x", HostArray(view))
        flat = layout.flat(array, layout.memory_axes(array))
        assert flat.pointer == view.ctypes.data
    assert interpreter.launches == []


def test_arrays_with_gaps_are_copied_by_a_kernel(interpreter):
    x = np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32)[::2, ::-1]
    np.testing.assert_array_equal(fc.relu(HostArray(x)).values, np.maximum(x, 0))
    assert interpreter.launches == ["copy", "relu"]


def test_work_waits_for_other_streams_on_the_device(interpreter):
    x, grad_out = np.ones(3), np.ones(3)
    fc.relu_backward(HostArray(grad_out, stream=5), HostArray(x, stream=6))
    assert interpreter.waits == [(5, {6})]
    assert interpreter.streams == [5]


def test_empty_arrays_start_no_kernel(interpreter):
    assert fc.relu(HostArray(np.ones((0, 3)))).shape == (0, 3)
    assert fc.max_pool2d(HostArray(np.ones((0, 3, 4, 4))), 2).shape == (0, 3, 2, 2)
    assert interpreter.launches == []


# ------------------------------------------------------------------------------------------------------------- refused
X = np.ones((1, 1, 4, 4), np.float32)
HUGE = 1, 1, 2**20, 2**12
DTYPES = "x must have a dtype of integers, float16, float32 or float64 on a CUDA device, got "


class Huge:
    __cuda_array_interface__ = {"shape": HUGE, "typestr": "<f4", "data": (4096, False), "version": 3}  # noqa: RUF012


class Masked:
    __cuda_array_interface__ = {"shape": (3,), "typestr": "<f4", "data": (4096, False), "version": 3, "mask": 1}  # noqa: RUF012


class NeedsGradient:
    @property
    def __cuda_array_interface__(self):
        raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad.")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: fc.conv2d(HostArray(X), X),
            TypeError,
            "weight must be a CUDA array as x is, got ndarray; nothing is copied between host and device",
        ),
        (
            lambda: fc.conv2d(X, HostArray(X)),
            TypeError,
            "x must be a CUDA array as weight is, got ndarray; nothing is copied between host and device",
        ),
        (lambda: fc.relu(HostArray(X), out=[1]), TypeError, "out must be a CUDA array as x is, got list"),
        (lambda: fc.relu(Huge()), ValueError, "x must have fewer than 2**32 elements on a CUDA device, got shape"),
        (lambda: fc.relu(Masked()), TypeError, "x must have no mask, got a masked CUDA array"),
        (lambda: fc.relu(NeedsGradient()), TypeError, "x cannot be read as a CUDA array: Can't get"),
        (lambda: fc.relu(HostArray(X.astype(">f4"))), TypeError, f"{DTYPES}>f4"),
        (lambda: fc.relu(HostArray(X.astype(complex))), TypeError, f"{DTYPES}complex128"),
        (lambda: fc.relu(HostArray(X.astype(ml_dtypes.bfloat16))), TypeError, f"{DTYPES}bfloat16"),
        (lambda: fc.max_unpool2d(HostArray(X), HostArray(X.astype(int)), HUGE), ValueError, "a result must have fewer"),
        (lambda: fc.relu(HostArray(X.astype(int))), TypeError, "x must have dtype "),
        (lambda: fc.max_pool2d(HostArray(X), 9), ValueError, "kernel_size (9, 9) with dilation (1, 1) must fit"),
        (lambda: fc.relu(HostArray(X), out=HostArray(X[0].copy())), ValueError, "out must have shape (1, 1, 4, 4)"),
    ],
)
def test_refused(call, error, message, interpreter):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value).startswith(message)
    assert interpreter.launches == []


# ------------------------------------------------------------------------------------------------------- plain moves
@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 4), (2, 3, 4, 5, 6)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64])
def test_copies(shape, dtype, interpreter):
    rng = np.random.default_rng(0)
    source = (100 * rng.standard_normal(shape)).astype(dtype)
    for view in (source, source.T, source[::2] if shape else source):
        array = arrays.wrap("x", HostArray(view))
        out = np.zeros(view.shape[::-1], dtype).T
        layout.copy(array, arrays.wrap("out", HostArray(out)))
        np.testing.assert_array_equal(out, view)


def test_unaligned_arrays_are_moved_by_bytes(interpreter):
    memory = np.zeros(41, np.uint8)
    x = memory[1:].view(np.float32)
    x[...] = np.arange(10) - 5
    np.testing.assert_array_equal(fc.relu(HostArray(x)).values, np.maximum(x, 0))
    out = np.zeros(41, np.uint8)[1:].view(np.float32)
    fc.relu(HostArray(x), out=HostArray(out))
    np.testing.assert_array_equal(out, np.maximum(x, 0))


def test_arrays_over_dlpack(interpreter):
    """The pointer, shape and strides of another library's array, which is kept alive."""
    view = pytest.importorskip("cuda.core.utils").StridedMemoryView
    assert hasattr(view, "from_dlpack")

    class OnDevice:
        def __init__(self, values):
            self.values = values

        def __dlpack_device__(self):
            return (2, 0)

        def __dlpack__(self, **options):
            assert options["stream"] == 1
            return self.values.__dlpack__()

    x, out = np.arange(-6, 6, dtype=np.float32).reshape(3, 4)[:, ::2], np.zeros((3, 2), np.float32)
    assert not arrays.is_cuda(x)
    owner, target = OnDevice(x), OnDevice(out)
    assert arrays.is_cuda(owner)
    array = arrays.wrap("x", owner)
    assert (array.pointer, array.shape, array.strides) == (x.ctypes.data, x.shape, x.strides)
    assert array.owner[0] is owner
    np.testing.assert_array_equal(fc.relu(owner).values, np.maximum(x, 0))
    assert fc.relu(owner, out=target) is target
    np.testing.assert_array_equal(out, np.maximum(x, 0))


def test_unbatched_images():
    x = np.random.default_rng(0).standard_normal((3, 6, 6)).astype(np.float32)
    out = np.zeros((3, 3, 3), np.float32)
    assert on_cuda(fc.max_pool2d, x, 2, out=out) is out
    np.testing.assert_array_equal(out, fc.max_pool2d(x, 2))
    np.testing.assert_array_equal(on_cuda(fc.max_pool2d, x, 2), out)
