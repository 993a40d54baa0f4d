"""Machines with narrower vectors than this one: the micro-kernel and a cross-section of operations, compiled for them.

What width vectors have is decided when the package is imported, so each width is tried in a process of its own.
"""

import functools
import hashlib
import json
import os
import pathlib
import platform
import subprocess
import sys

import numpy as np
import pytest
from llvmlite import binding

import fastconv as fc
from fastconv.cpu import _jit
from tests import naive, strategies

dtypes = pytest.mark.parametrize("dtype", strategies.DTYPES)
orders = pytest.mark.parametrize("arrange", [strategies.contiguous, strategies.channels_last])


# ----------------------------------------------------------------------------------- the cross-section, for every width
def integers(*shape, dtype, seed=0):
    return strategies.values(shape, dtype, seed, integers=True)


CONVOLUTIONS = {
    "strided": ((2, 19, 9, 11), (35, 19, 3, 2), {"stride": 2, "padding": 1}),
    "dilated groups": ((2, 14, 9, 11), (10, 7, 3, 3), {"dilation": (1, 2), "groups": 2}),
    "pointwise": ((2, 33, 5, 7), (17, 33, 1, 1), {}),
    "few output channels": ((2, 20, 9, 13), (3, 20, 3, 3), {"padding": 1}),
    "few input channels": ((2, 3, 15, 13), (20, 3, 5, 5), {"padding": 2, "stride": 2}),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@orders
@dtypes
def test_convolution_is_exact_on_integers(name, arrange, dtype):
    x_shape, weight_shape, options = CONVOLUTIONS[name]
    x, weight, bias = (
        integers(*s, dtype=dtype, seed=k) for k, s in enumerate((x_shape, weight_shape, weight_shape[:1]))
    )
    y = fc.conv2d(arrange(x), weight, bias, **options, algorithm="direct")
    np.testing.assert_array_equal(y, naive.conv_forward(x, weight, bias, **options))
    grad_out = integers(*y.shape, dtype=dtype, seed=3)
    grads = fc.conv2d_backward(arrange(grad_out), arrange(x), weight, **options, algorithm="direct")
    np.testing.assert_array_equal(grads.x, naive.conv_backward_input(grad_out, weight, x.shape, **options))
    np.testing.assert_array_equal(grads.weight, naive.conv_backward_weight(grad_out, x, weight.shape, **options))
    np.testing.assert_array_equal(grads.bias, naive.conv_backward_bias(grad_out))


@orders
def test_depthwise_convolution_is_exact_on_integers(arrange):
    x, weight = integers(2, 19, 12, 23, dtype=np.float32), integers(19, 1, 3, 3, dtype=np.float32, seed=1)
    y = fc.conv2d(arrange(x), weight, padding=1, groups=19)
    np.testing.assert_array_equal(y, naive.conv_forward(x, weight, padding=1, groups=19))
    grads = fc.conv2d_backward(arrange(y), arrange(x), weight, padding=1, groups=19)
    np.testing.assert_array_equal(grads.x, naive.conv_backward_input(y, weight, x.shape, padding=1, groups=19))
    np.testing.assert_array_equal(grads.weight, naive.conv_backward_weight(y, x, weight.shape, padding=1, groups=19))


@orders
def test_winograd_is_close(arrange):
    x, weight = (strategies.values(shape, np.float32, 1) for shape in ((2, 19, 9, 11), (21, 19, 3, 3)))
    y = fc.conv2d(arrange(x), weight, padding=1, algorithm="winograd")
    np.testing.assert_allclose(y, naive.conv_forward(x, weight, padding=1), atol=2e-4)


@dtypes
def test_linear_is_exact_on_integers(dtype):
    x, weight, bias = integers(13, 37, dtype=dtype), integers(21, 37, dtype=dtype), integers(21, dtype=dtype)
    y = fc.linear(x, weight, bias)
    np.testing.assert_array_equal(y, naive.linear_forward(x, weight, bias))
    for grad, expected in zip(fc.linear_backward(y, x, weight), naive.linear_backward(y, x, weight), strict=True):
        np.testing.assert_array_equal(grad, expected)


@orders
def test_pooling_is_exact_on_integers(arrange):
    x = integers(2, 19, 9, 23, dtype=np.float32)
    y, indices = fc.max_pool2d(arrange(x), 3, 2, 1, return_indices=True)
    expected, expected_indices = naive.max_pool_forward(x, 3, 2, 1)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(indices, expected_indices)
    grad_x = fc.max_pool2d_backward(arrange(y), arrange(indices), x.shape)
    np.testing.assert_array_equal(grad_x, naive.max_pool_backward(y, indices, x.shape))
    x = integers(2, 19, 10, 24, dtype=np.float64)
    y = fc.avg_pool2d(arrange(x), 2)
    np.testing.assert_array_equal(y, naive.avg_pool_forward(x, 2, 2, 0, 1, False))
    grad_x = fc.avg_pool2d_backward(arrange(y), x.shape, 2)
    np.testing.assert_array_equal(grad_x, naive.avg_pool_backward(y, x.shape, 2, 2, 0, 1, False))


# -------------------------------------------------------------------------------------------------- the narrower widths
BITS = {
    "3x3": ((4, 40, 30, 30), (72, 40, 3, 3), {"padding": 1, "algorithm": "direct"}),
    "strided": ((2, 24, 33, 33), (20, 24, 3, 3), {"stride": 2}),
    "few output channels": ((2, 17, 40, 40), (3, 17, 3, 3), {"padding": 1}),
    "few input channels": ((2, 3, 65, 65), (40, 3, 7, 7), {"stride": 2, "padding": 3}),
    "a long sum": ((9, 200, 14, 14), (24, 200, 3, 3), {"padding": 1, "algorithm": "direct"}),
    "many channels and boxes": ((16, 72, 28, 28), (96, 72, 3, 3), {"algorithm": "direct"}),
    "pointwise": ((5, 130, 14, 14), (100, 130, 1, 1), {}),
    "depthwise": ((3, 19, 30, 30), (19, 1, 3, 3), {"padding": 1, "groups": 19}),
    "groups": ((7, 40, 20, 21), (48, 5, 3, 3), {"padding": 1, "groups": 8}),
    "winograd": ((2, 112, 14, 14), (104, 112, 3, 3), {"padding": 1, "algorithm": "winograd"}),
}


def bits(name):
    """A digest of the forward pass and of all gradients, in float32 and both memory orders."""
    x_shape, weight_shape, options = BITS[name]
    x, weight = strategies.values(x_shape, np.float32, 1), strategies.values(weight_shape, np.float32, 2)
    digest = {}
    for arrange in (strategies.contiguous, strategies.channels_last):
        y = fc.conv2d(arrange(x), weight, **options)
        grads = fc.conv2d_backward(arrange(strategies.values(y.shape, np.float32, 3)), arrange(x), weight, **options)
        for kind, result in zip(("y", *grads._fields), (y, *grads), strict=True):
            digest[f"{kind} {arrange.__name__}"] = hashlib.sha256(np.ascontiguousarray(result)).hexdigest()
    return digest


UNITS = {  # name and features for Numba, what the machine must have, bytes of a vector
    "SSE2": ("x86-64", "", (), 16),
    "AVX2": ("haswell", "+avx,+avx2,+fma", ("avx2", "fma"), 32),
}
ROOT = pathlib.Path(__file__).parent.parent
SCRIPT = """
import json, sys, pytest
status = pytest.main(["-qq", "-x", "-p", "no:cacheprovider", "-k", "not narrower", *sys.argv[1:]])
from fastconv.cpu import _jit
from tests import test_narrow_vectors as these
print(json.dumps([_jit.VECTOR_BYTES, {name: these.bits(name) for name in these.BITS} if _jit.HAS_FMA else {}]))
sys.exit(status)
"""


@functools.cache
def run_narrower(unit):
    """Everything above and the micro-kernel's tests, compiled for other vectors: (their bytes, bits of results)."""
    cpu, features, needed, _ = UNITS[unit]
    if platform.machine().lower() not in ("x86_64", "amd64"):
        pytest.skip("only x86-64 has narrower vectors")
    host = binding.get_host_cpu_features()
    if not all(host.get(feature) for feature in needed):
        pytest.skip(f"this machine has no {unit}")
    environment = {
        **os.environ, "NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features, "FASTCONV_CACHE_DIR": "",
        "NUMBA_NUM_THREADS": "1",
    }  # fmt: skip
    files = ["tests/cpu/test_microkernel.py", "tests/test_narrow_vectors.py"]
    command = [sys.executable, "-c", SCRIPT, *files]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("unit", UNITS)
def test_operations_with_narrower_vectors(unit):
    assert run_narrower(unit)[0] == UNITS[unit][3]


DIFFER = {
    "depthwise": "columns of COLUMN taps are summed longest first, and tiles of TILE pixels, which registers decide",
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.xfail(reason=DIFFER[name])] if name in DIFFER else []) for name in BITS],
)
def test_sums_of_convolution_are_the_same_with_narrower_vectors(name):
    """AVX2 and AVX-512 both have a fused multiply-add, so nothing may differ, by a single bit."""
    if _jit.VECTOR_BYTES != 64:
        pytest.skip("vectors are not wider than AVX2's here")
    assert run_narrower("AVX2")[1][name] == bits(name)
