"""The contenders of ``compare.py``: each prepares a call from an operation's name, its arrays and its options.

``prepare(operation, arrays, options)`` returns a function without arguments, or None where the contender lacks the
operation. Operations, arguments and options are those of fastconv, which PyTorch shares; everything is channels-first.
"<operation>_packed" has a weight that stays the same: whoever can prepares it once, untimed.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

Call = Callable[[], Any]


def on_axes(value: int | tuple[int, ...], rank: int) -> list[int]:
    """An int for all axes, or one each, as a list."""
    return [value] * rank if isinstance(value, int) else list(value)


class FastConv:
    """fastconv through its public functions."""

    name = "fastconv"

    def __init__(self, threads: int, algorithm: str) -> None:
        import numba

        import fastconv

        numba.set_num_threads(threads)
        self.version = fastconv.__version__
        self._module, self._algorithm = fastconv, algorithm

    def prepare(self, operation: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Call | None:
        function = getattr(self._module, operation.removesuffix("_packed"), None)
        if function is None:
            return None
        algorithm = {"algorithm": self._algorithm} if operation.startswith(("conv1d", "conv2d", "conv3d")) else {}
        if operation.endswith("_packed"):
            x, weight, bias = arguments
            window = {name: options[name] for name in ("stride", "dilation", "groups") if name in options}
            arguments = x, self._module.pack(weight, **window, **algorithm), bias
        options = {**options, **algorithm}
        if operation == "max_pool2d_backward":
            options = {}  # the indices say what the window would
        return lambda: function(*arguments, **options)


class PyTorch:
    """PyTorch's functions and, for gradients, its ``aten`` operators, without autograd."""

    name = "PyTorch"

    def __init__(self, threads: int, device: str = "cpu") -> None:
        import torch

        torch.set_num_threads(threads)
        self.version = torch.__version__
        self._torch, self._device = torch, device
        functional = torch.nn.functional
        self._operations: dict[str, Callable[..., Any]] = {
            name: getattr(functional, name)
            for name in ("conv_transpose2d", "max_pool2d", "avg_pool2d", "relu", "linear", "cross_entropy")
        }
        for rank in (1, 2, 3):
            forward = getattr(functional, f"conv{rank}d")
            self._operations |= {
                f"conv{rank}d": forward,
                f"conv{rank}d_packed": forward,
                f"conv{rank}d_backward_input": self._conv_backward_input,
                f"conv{rank}d_backward_weight": self._conv_backward_weight,
            }
        aten = torch.ops.aten
        self._operations |= {
            "linear_packed": functional.linear,
            "max_pool2d_backward": self._max_pool2d_backward,
            "avg_pool2d_backward": self._avg_pool2d_backward,
            "global_avg_pool": lambda x: x.mean((2, 3)),
            "global_max_pool": lambda x: x.amax((2, 3)),
            "relu_backward": lambda grad_out, y: aten.threshold_backward(grad_out, y, 0),
            "linear_backward": lambda grad_out, x, weight: (grad_out @ weight, grad_out.T @ x, grad_out.sum(0)),
            "softmax": lambda x: functional.softmax(x, -1),
            "log_softmax": lambda x: functional.log_softmax(x, -1),
            "softmax_backward": lambda grad_out, y: aten._softmax_backward_data(grad_out, y, -1, y.dtype),
            "log_softmax_backward": lambda grad_out, y: aten._log_softmax_backward_data(grad_out, y, -1, y.dtype),
        }

    def _conv_backward_input(self, grad_out: Any, weight: Any, input_shape: tuple[int, ...], **options: Any) -> Any:
        x = grad_out.new_empty(input_shape)  # never read: only its shape counts
        return self._conv_backward(grad_out, x, weight, (True, False, False), **options)[0]

    def _conv_backward_weight(self, grad_out: Any, x: Any, weight_shape: tuple[int, ...], **options: Any) -> Any:
        weight = grad_out.new_empty(weight_shape)
        return self._conv_backward(grad_out, x, weight, (False, True, False), **options)[1]

    def _conv_backward(
        self, grad_out: Any, x: Any, weight: Any, mask: tuple[bool, ...], stride: Any, padding: Any, dilation: Any,
        groups: int,
    ) -> Any:  # fmt: skip
        rank = x.ndim - 2
        window = (on_axes(value, rank) for value in (stride, padding, dilation))
        return self._torch.ops.aten.convolution_backward(
            grad_out, x, weight, None, *window, False, [0] * rank, groups, list(mask)
        )

    def _max_pool2d_backward(self, grad_out: Any, indices: Any, input_shape: tuple[int, ...], **window: int) -> Any:
        pairs = [[window[name]] * 2 for name in ("kernel_size", "stride", "padding")]
        x = grad_out.new_empty(input_shape)
        return self._torch.ops.aten.max_pool2d_with_indices_backward(grad_out, x, *pairs, [1, 1], False, indices)

    def _avg_pool2d_backward(self, grad_out: Any, input_shape: tuple[int, ...], **window: int) -> Any:
        pairs = [[window[name]] * 2 for name in ("kernel_size", "stride", "padding")]
        x = grad_out.new_empty(input_shape)
        return self._torch.ops.aten.avg_pool2d_backward(grad_out, x, *pairs, False, True, None)

    def prepare(self, operation: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Call | None:
        function = self._operations.get(operation)
        if function is None:
            return None
        tensors = [self._torch.from_numpy(a).to(self._device) if isinstance(a, np.ndarray) else a for a in arguments]

        def call() -> Any:
            with self._torch.inference_mode():
                return function(*tensors, **options)

        return call


class NumPy:
    """NumPy's products of matrices, which its BLAS computes."""

    name = "NumPy"

    def __init__(self, threads: int) -> None:
        from threadpoolctl import threadpool_limits

        self.version = np.__version__
        self._limit = threadpool_limits(threads, "blas")  # the variables of the environment are read with NumPy itself

    def prepare(self, operation: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Call | None:
        if operation in ("linear", "linear_packed"):
            x, weight, bias = arguments
            return lambda: x @ weight.T + bias
        if operation == "linear_backward":
            grad_out, x, weight = arguments
            return lambda: (grad_out @ weight, grad_out.T @ x, grad_out.sum(0))
        return None


class OnnxModel:
    """A model of one node; weights are constants of the model, so that its runtimes prepare them once, untimed."""

    @staticmethod
    def node(operation: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> tuple[str, dict[str, Any], int]:
        """The ONNX operator, its attributes and its number of outputs; no operator where weights are not constants."""
        rank = arguments[0].ndim - 2
        window: dict[str, Any] = {}
        if "stride" in options:
            pads = on_axes(options["padding"], rank) * 2
            window = {"strides": on_axes(options["stride"], rank), "pads": pads}
        if "dilation" in options:
            window["dilations"] = on_axes(options["dilation"], rank)
        if "kernel_size" in options:
            window["kernel_shape"] = on_axes(options["kernel_size"], rank)
        return {
            f"conv{rank}d_packed": ("Conv", {**window, "group": options.get("groups", 1)}, 1),
            "max_pool2d": ("MaxPool", window, 2 if options.get("return_indices") else 1),
            "avg_pool2d": ("AveragePool", {**window, "count_include_pad": 1}, 1),
            "global_avg_pool": ("GlobalAveragePool", {}, 1),
            "global_max_pool": ("GlobalMaxPool", {}, 1),
            "relu": ("Relu", {}, 1),
            "linear_packed": ("Gemm", {"transB": 1}, 1),
            "softmax": ("Softmax", {"axis": -1}, 1),
            "log_softmax": ("LogSoftmax", {"axis": -1}, 1),
        }.get(operation, ("", {}, 0))

    @classmethod
    def make(
        cls, operation: str, arguments: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[bytes, list[str]] | None:
        """The model and the names of its outputs; its input is ``x``. None where ONNX lacks the operation."""
        operator, attributes, outputs = cls.node(operation, arguments, options)
        x, *constants = arguments
        if not operator or x.dtype != np.float32:
            return None
        from onnx import TensorProto, helper, numpy_helper

        names = [f"constant{i}" for i in range(len(constants))]
        results = [f"y{i}" for i in range(outputs)]
        graph = helper.make_graph(
            [helper.make_node(operator, ["x", *names], results, **attributes)],
            operation,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
            [
                helper.make_tensor_value_info(name, kind, None)
                for name, kind in zip(results, (TensorProto.FLOAT, TensorProto.INT64), strict=False)
            ],
            [numpy_helper.from_array(array, name) for name, array in zip(names, constants, strict=True)],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        return model.SerializeToString(), results


class OnnxRuntime:
    """ONNX Runtime."""

    name = "ONNX Runtime"

    def __init__(self, threads: int) -> None:
        import onnxruntime

        self.version = onnxruntime.__version__
        self._runtime = onnxruntime
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.inter_op_num_threads = 1
        self._options.log_severity_level = 3

    def prepare(self, operation: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Call | None:
        made = OnnxModel.make(operation, arguments, options)
        if made is None:
            return None
        model, results = made
        session = self._runtime.InferenceSession(model, self._options, providers=["CPUExecutionProvider"])
        x = arguments[0]
        return lambda: session.run(results, {"x": x})


class OpenVino:
    """OpenVINO in float32: left to itself it computes in bfloat16 where the processor can."""

    name = "OpenVINO"

    def __init__(self, threads: int) -> None:
        import openvino

        self.version = openvino.__version__.partition("-")[0]
        self._core = openvino.Core()
        self._config = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }

    def prepare(self, operation: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Call | None:
        made = OnnxModel.make(operation, arguments, options)
        if made is None:
            return None
        request = self._core.compile_model(self._core.read_model(made[0]), "CPU", self._config).create_infer_request()
        x = arguments[0]

        def call() -> Any:
            results = request.infer([x], share_inputs=True)
            return [np.array(results[i]) for i in range(len(results))]  # a result of its own, as from all others

        return call


def contenders(threads: int, algorithm: str) -> list[Any]:
    """fastconv and the peers that are installed."""
    found: list[Any] = [FastConv(threads, algorithm)]
    if importlib.util.find_spec("torch"):
        found.append(PyTorch(threads))
    if importlib.util.find_spec("threadpoolctl"):
        found.append(NumPy(threads))
    for package, contender in (("onnxruntime", OnnxRuntime), ("openvino", OpenVino)):
        if importlib.util.find_spec(package) and importlib.util.find_spec("onnx"):
            found.append(contender(threads))
    return found
