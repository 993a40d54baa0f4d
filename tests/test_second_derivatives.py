"""The gradients of backward passes, built as ``docs/second-derivatives.md`` says, are PyTorch's."""

import pathlib
import re

import numpy as np
import pytest
from hypothesis import assume, given

import fastconv as fc
from tests import naive, strategies
from tests.test_conv import inner

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "second-derivatives.md"


@pytest.fixture(scope="module")
def page():
    """The functions that the page defines."""
    if not PAGE.exists():
        pytest.skip("the documentation is not beside the package")
    names = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(code, names)
    return names


def seeds(case, *shapes):
    """Integer-valued arrays, so that sums are exact."""
    dtype = case.x.dtype
    return [strategies.values(shape, dtype, case.seed + 10 + i, integers=True) for i, shape in enumerate(shapes)]


def check(torch, double, forward, case, theirs):
    """``double`` gives what PyTorch's autograd gives for the gradients of ``forward``, to the bit."""
    y = forward(case.x, case.weight, **case.options)
    (grad_out,) = seeds(case, y.shape)
    u, v, c = seeds(case, case.x.shape, case.weight.shape, y.shape[1:2])
    ours = double(u, v, c, grad_out, case.x, case.weight, **case.options)
    operands = [torch.tensor(a.astype(np.float64), requires_grad=True) for a in (grad_out, case.x, case.weight)]
    g, x, weight = operands
    bias = torch.zeros(y.shape[1], dtype=torch.float64, requires_grad=True)
    grads = torch.autograd.grad(theirs(x, weight, bias), (x, weight, bias), g, create_graph=True)
    scalar = sum((grad * torch.tensor(a.astype(np.float64))).sum() for grad, a in zip(grads, (u, v, c), strict=True))
    for mine, expected in zip(ours, torch.autograd.grad(scalar, operands), strict=True):
        np.testing.assert_array_equal(mine, expected.numpy())


@pytest.mark.torch
@given(strategies.convolutions(ranks=(2,), integers=True))
def test_convolution(page, case):
    torch = pytest.importorskip("torch")
    assume(case.x.size)
    options = {name: naive.per_axis(case.options[name], 2) for name in ("stride", "dilation")}
    pairs = naive.padding_pairs(case.options["padding"], case.x.shape[2:], case.weight.shape[2:], *options.values())

    def theirs(x, weight, bias):
        padded = torch.nn.functional.pad(x, [*pairs[1], *pairs[0]])
        return torch.nn.functional.conv2d(padded, weight, bias, **options, groups=case.options["groups"])

    check(torch, page["conv2d_double_backward"], fc.conv2d, case, theirs)


@pytest.mark.torch
@given(strategies.transposed_convolutions(ranks=(2,), integers=True))
def test_transposed_convolution(page, case):
    torch = pytest.importorskip("torch")
    options = {**case.options, "padding": 0}

    def theirs(x, weight, bias):
        whole = torch.nn.functional.conv_transpose2d(x, weight, bias, **options)
        (top, bottom), (left, right) = case.options["padding"]
        return whole[:, :, top : whole.shape[2] - bottom, left : whole.shape[3] - right]

    double = page["conv_transpose2d_double_backward"]
    check(torch, double, fc.conv_transpose2d, case, theirs)


# Every backward pass of the page's table that is linear in grad_out: (shape of grad_out, itself, its gradient).
X = strategies.values((2, 3, 6, 7), np.float64, 1, integers=True)
INDICES = fc.max_pool2d(X, 3, 2, 1, return_indices=True).indices
PROBABILITIES = fc.softmax(strategies.values((4, 5), np.float64, 2))
LINEAR = {
    "relu": (X.shape, lambda g: fc.relu_backward(g, X), lambda u: fc.relu_backward(u, X)),
    "leaky_relu": (X.shape, lambda g: fc.leaky_relu_backward(g, X, 0.5), lambda u: fc.leaky_relu_backward(u, X, 0.5)),
    "avg_pool2d": (
        (2, 3, 3, 4),
        lambda g: fc.avg_pool2d_backward(g, X.shape, 3, 2, 1, divisor_override=4),
        lambda u: fc.avg_pool2d(u, 3, 2, 1, divisor_override=4),
    ),
    "sum_pool2d": (
        (2, 3, 3, 4),
        lambda g: fc.sum_pool2d_backward(g, X.shape, 3, 2, 1),
        lambda u: fc.sum_pool2d(u, 3, 2, 1),
    ),
    "max_pool2d": (
        INDICES.shape,
        lambda g: fc.max_pool2d_backward(g, INDICES, X.shape),
        lambda u: fc.max_unpool2d_backward(u, INDICES),
    ),
}


@pytest.mark.parametrize("name", LINEAR)
def test_the_gradient_of_a_linear_pass_is_its_transpose(name):
    shape, backward, double = LINEAR[name]
    grad_out, u = (4 * strategies.values(s, np.float64, i, integers=True) for i, s in enumerate((shape, X.shape)))
    assert inner(backward(grad_out), u) == inner(grad_out, double(u))


def test_softmax():
    grad_out, u = (strategies.values(PROBABILITIES.shape, np.float64, seed) for seed in (3, 4))
    left = (fc.softmax_backward(grad_out, PROBABILITIES) * u).sum()
    np.testing.assert_allclose(left, (grad_out * fc.softmax_backward(u, PROBABILITIES)).sum(), rtol=1e-12)


def test_cross_entropy():
    """Against the difference of two gradients."""
    logits, change = (strategies.values((4, 5), np.float64, seed) for seed in (5, 6))
    labels, step = np.array([0, 4, 2, 2]), 1e-6
    ends = [fc.cross_entropy_backward(logits + sign * step * change, labels) for sign in (1, -1)]
    expected = (ends[0] - ends[1]) / (2 * step)
    np.testing.assert_allclose(fc.softmax_backward(change, fc.softmax(logits, 1), 1) / 4, expected, atol=1e-9)
