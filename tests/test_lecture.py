"""The worked example of a lecture on convolutional networks, figure by figure.

A 9x9 drawing of an X passes through three 3x3 filters (a feature map is the mean of the nine products), ReLU and 2x2
maximum pooling. The lecture prints figures truncated to two decimals.
"""

import json
import pathlib

import numpy as np
import pytest

import fastconv as fc

LECTURE = json.loads((pathlib.Path(__file__).parent / "data" / "lecture.json").read_text())
FILTERS = list(LECTURE["filters_3x3"])
DTYPES = [np.float32, np.float64]


def truncated(x):
    """``x`` as the lecture prints it; results are multiples of 1/9, so that rounding errors do not reach a decimal."""
    return (np.trunc(np.round(x.astype(np.float64), 5) * 100) / 100).tolist()


def feature_maps(dtype):
    """The three maps at once, as the output channels of one convolution."""
    image = np.array(LECTURE["image_9x9"], dtype)[np.newaxis]
    filters = np.array([LECTURE["filters_3x3"][name] for name in FILTERS], dtype)[:, np.newaxis]
    return fc.conv2d(image, filters / dtype(9))


@pytest.mark.parametrize("dtype", DTYPES)
def test_feature_maps(dtype):
    assert feature_maps(dtype).shape == (3, 7, 7)
    assert truncated(feature_maps(dtype)) == [LECTURE["feature_maps_7x7"][name] for name in FILTERS]


@pytest.mark.parametrize("dtype", DTYPES)
def test_feature_map_after_relu(dtype):
    rectified = fc.relu(feature_maps(dtype))
    assert truncated(rectified[FILTERS.index("diagonal")]) == LECTURE["relu_diagonal_7x7"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_maximum_pooling(dtype):
    """Seven does not divide by two: the last window of each row and column is a partial one."""
    pooled = fc.max_pool2d(fc.relu(feature_maps(dtype)), 2, stride=2, ceil_mode=True)
    assert truncated(pooled) == [LECTURE["max_pool_4x4"][name] for name in FILTERS]


def test_maximum_pooling_forgets_signs_that_relu_would_remove():
    """Every window of the example has a positive value, so pooling before ReLU gives the same maps."""
    maps = feature_maps(np.float64)
    before = fc.max_pool2d(maps, 2, ceil_mode=True)
    np.testing.assert_array_equal(before, fc.max_pool2d(fc.relu(maps), 2, ceil_mode=True))


def test_output_size():
    example = LECTURE["output_size_example"]
    image, kernel = np.zeros((1, *example["input"]), np.float32), np.zeros((1, 1, *example["kernel"]), np.float32)
    assert list(fc.conv2d(image, kernel).shape[1:]) == example["output"]
