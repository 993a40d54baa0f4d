"""Layers of well-known networks, large enough for every level of blocking: exact results on integer-valued floats.

The naive definition is too slow here. A convolution is also a sum, over the kernel's taps, of matrix products with
shifted inputs, which BLAS does quickly, and exactly where all values are small integers.
"""

import itertools

import numpy as np
import pytest

import fastconv as fc
from tests import strategies

# name: (batch, in channels, height and width, out channels, kernel, stride, padding, dilation)
LAYERS = {
    "AlexNet 1": (2, 3, 227, 64, 11, 4, 2, 1),
    "AlexNet 2": (2, 64, 27, 192, 5, 1, 2, 1),
    "VGG 2": (1, 64, 112, 64, 3, 1, 1, 1),
    "ResNet 1": (2, 3, 224, 64, 7, 2, 3, 1),
    "ResNet 3, strided": (3, 128, 56, 128, 3, 2, 1, 1),
    "ResNet 1x1": (2, 256, 28, 512, 1, 1, 0, 1),
    "ResNet 1x1, strided": (2, 256, 56, 512, 1, 2, 0, 1),
    "ResNet 5": (4, 512, 7, 512, 3, 1, 1, 1),
    "LeNet 2": (32, 6, 14, 16, 5, 1, 0, 1),
    "atrous": (1, 64, 65, 64, 3, 1, 12, 12),
    "50 to 100": (4, 50, 30, 100, 3, 1, 0, 1),
}


def seen_by_taps(kernel, stride, dilation, count):
    """For every tap its index and the slices of the padded input that meet it, for ``count`` outputs on each axis."""
    for tap in itertools.product(range(kernel), repeat=2):
        yield tap, tuple(slice(dilation * t, dilation * t + stride * (count - 1) + 1, stride) for t in tap)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("arrange", [strategies.contiguous, strategies.channels_last])
def test_layers_are_sums_over_taps(name, arrange):
    batch, ins, size, outs, kernel, stride, padding, dilation = LAYERS[name]
    options = stride, padding, dilation
    x = strategies.values((batch, ins, size, size), np.float32, 1, integers=True)
    weight = strategies.values((outs, ins, kernel, kernel), np.float32, 2, integers=True)
    y = fc.conv2d(arrange(x), weight, None, *options, algorithm="direct")
    grad_out = strategies.values(y.shape, np.float32, 3, integers=True)
    grads = fc.conv2d_backward(arrange(grad_out), arrange(x), weight, *options, algorithm="direct")

    padded = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    expected, grad_padded, grad_weight = np.zeros_like(y), np.zeros_like(padded), np.zeros_like(weight)
    for (i, j), (rows, columns) in seen_by_taps(kernel, stride, dilation, y.shape[-1]):
        seen = padded[:, :, rows, columns]
        expected += np.einsum("nchw,oc->nohw", seen, weight[:, :, i, j], optimize=True)
        grad_padded[:, :, rows, columns] += np.einsum("nohw,oc->nchw", grad_out, weight[:, :, i, j], optimize=True)
        grad_weight[:, :, i, j] = np.einsum("nohw,nchw->oc", grad_out, seen, optimize=True)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(grads.x, grad_padded[:, :, padding : padding + size, padding : padding + size])
    np.testing.assert_array_equal(grads.weight, grad_weight)
    np.testing.assert_array_equal(grads.bias, grad_out.sum((0, 2, 3)))
