"""The network of the example ``basic_cnn.py``, layer by layer, beside the same network in PyTorch."""

import importlib.util
import pathlib

import numpy as np
import pytest

import fastconv as fc

PATH = pathlib.Path(__file__).parents[1] / "docs" / "examples" / "basic_cnn.py"
# Largest difference, in units of the largest element of an array.
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}
dtypes = pytest.mark.parametrize("dtype", TOLERANCE)
layouts = pytest.mark.parametrize("channels_last", [False, True])


@pytest.fixture(scope="module")
def basic_cnn():
    spec = importlib.util.spec_from_file_location("example_basic_cnn", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def problem(basic_cnn, dtype, channels_last=False):
    """Images, labels and parameters, biases included."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((4, 20, 23, 3)).transpose(0, 3, 1, 2).astype(dtype)
    if not channels_last:
        images = np.ascontiguousarray(images)
    parameters = basic_cnn.initialise(rng, dtype)
    for bias in parameters[1::2]:
        bias[:] = 0.1 * rng.standard_normal(bias.shape)
    return images, np.array([3, 999, 0, 512]), parameters


def close(actual, expected, dtype):
    assert actual.dtype == dtype
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= TOLERANCE[dtype] * np.abs(expected).max()


@pytest.mark.torch
@dtypes
@layouts
def test_every_activation_and_gradient_is_that_of_torch(basic_cnn, dtype, channels_last):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    images, labels, parameters = problem(basic_cnn, dtype, channels_last)
    x, *weights = (torch.tensor(array, requires_grad=True) for array in (images, *parameters))
    steps = {"conv1": functional.conv2d(x, weights[0], weights[1])}
    steps["relu1"] = functional.relu(steps["conv1"])
    steps["conv2"] = functional.conv2d(steps["relu1"], weights[2], weights[3])
    steps["relu2"] = functional.relu(steps["conv2"])
    steps["pooled"] = steps["relu2"].amax(dim=(2, 3))
    steps["logits"] = functional.linear(steps["pooled"], weights[4], weights[5])
    for step in steps.values():
        step.retain_grad()
    functional.cross_entropy(steps["logits"], torch.from_numpy(labels)).backward()

    activations = basic_cnn.forward(images, parameters)
    gradients = basic_cnn.backward(images, labels, parameters, activations)
    for name, step in steps.items():
        close(getattr(activations, name), step.detach().numpy(), dtype)
        close(getattr(gradients, name), step.grad.numpy(), dtype)
    close(activations.probabilities, functional.softmax(steps["logits"], 1).detach().numpy(), dtype)
    close(gradients.images, x.grad.numpy(), dtype)
    for gradient, weight in zip(gradients.parameters, weights, strict=True):
        close(gradient, weight.grad.numpy(), dtype)


def test_the_maxima_lie_where_the_indices_say(basic_cnn):
    images, _, parameters = problem(basic_cnn, np.float32)
    a = basic_cnn.forward(images, parameters)
    planes = a.relu2.reshape(*a.relu2.shape[:2], -1)
    np.testing.assert_array_equal(np.take_along_axis(planes, a.indices[..., np.newaxis], -1)[..., 0], a.pooled)
    np.testing.assert_array_equal(a.pooled, planes.max(-1))


def test_the_gradient_is_the_slope_of_the_loss(basic_cnn):
    """Along a random direction in the space of all parameters and pixels."""
    images, labels, parameters = problem(basic_cnn, np.float64)
    rng = np.random.default_rng(1)
    directions = [rng.standard_normal(array.shape) for array in (images, *parameters)]

    def loss(step):
        moved = [array + step * d for array, d in zip((images, *parameters), directions, strict=True)]
        logits = basic_cnn.forward(moved[0], basic_cnn.Parameters(*moved[1:])).logits
        return float(fc.cross_entropy(logits, labels))

    gradients = basic_cnn.backward(images, labels, parameters, basic_cnn.forward(images, parameters))
    pairs = zip((gradients.images, *gradients.parameters), directions, strict=True)
    slope = sum(float((gradient * d).sum()) for gradient, d in pairs)
    step = 1e-7
    assert abs((loss(step) - loss(-step)) / (2 * step) - slope) < 1e-5 * abs(slope)
