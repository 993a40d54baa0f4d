"""One-dimensional convolution, forward and backward; :func:`fastconv.conv2d` explains the arguments in full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from fastconv import _convolution
from fastconv._convolution import ConvGrads
from fastconv._window import Padding, Sizes
from fastconv.pack import PackedWeight

Array = npt.NDArray[Any]


def conv1d(
    x: Array,
    weight: Array | PackedWeight,
    bias: Array | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    *,
    activation: str | None = None,
    algorithm: str = "auto",
    out: Array | None = None,
) -> Array:
    r"""One-dimensional convolution of a batch of signals.

    With the input padded by zeros, and :math:`c` running over the channels of the group of output channel :math:`o`,

    .. math:: y_{n,o,i} = b_o + \sum_{c,k} w_{o,c,k} \, x_{n,\, c,\, s i + d k}

    Parameters
    ----------
    x : ndarray of float16, bfloat16, float32 or float64, shape (N, C, L) or (C, L)
        Signals in any memory order, which the result has too.
    weight : ndarray of x's dtype, shape (O, C // groups, K), or PackedWeight
        One kernel per output channel, or what :func:`pack` made of it.
    bias : ndarray of x's dtype, shape (O,), optional
        Added to each output channel.
    stride, padding, dilation, groups, activation, algorithm, out
        As in :func:`conv2d`, for one axis.

    Returns
    -------
    ndarray, shape (N, O, OL) or (O, OL)
        ``OL = (L + before + after - dilation * (K - 1) - 1) // stride + 1``.

    Raises
    ------
    TypeError, ValueError
        As :func:`conv2d`.

    See Also
    --------
    conv1d_backward : the gradients.

    Examples
    --------
    The mean of neighbours:

    >>> import numpy as np
    >>> import fastconv as fc
    >>> signal, kernel = np.array([[[1.0, 3.0, 5.0, 3.0]]]), np.array([[[0.5, 0.5]]])
    >>> fc.conv1d(signal, kernel)
    array([[[2., 4., 4.]]])
    >>> fc.conv1d(signal, kernel, padding="same")
    array([[[2. , 4. , 4. , 1.5]]])
    """
    return _convolution.forward(1, x, weight, bias, stride, padding, dilation, groups, activation, algorithm, out)


def conv1d_backward(
    grad_out: Array,
    x: Array,
    weight: Array,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    *,
    algorithm: str = "auto",
) -> ConvGrads:
    """All gradients of :func:`conv1d`, by the formulas in :func:`conv2d_backward`.

    Parameters
    ----------
    grad_out : ndarray of float16, bfloat16, float32 or float64, shape (N, O, OL) or (O, OL)
        Gradient with respect to the result.
    x : ndarray of grad_out's dtype, shape (N, C, L) or (C, L)
        Input of the forward pass.
    weight : ndarray of grad_out's dtype, shape (O, C // groups, K)
        Weight of the forward pass.
    stride, padding, dilation, groups, algorithm
        As in the forward pass; see :func:`conv2d`.

    Returns
    -------
    ConvGrads
        Named tuple (x, weight, bias) of gradients with the shapes of ``x``, of ``weight`` and (O,). The first has the
        memory order of ``grad_out``.

    Raises
    ------
    TypeError, ValueError
        As :func:`conv2d_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> x, weight = np.array([[[1.0, 2.0, 3.0]]]), np.array([[[10.0, 20.0]]])
    >>> grads = fc.conv1d_backward(np.ones((1, 1, 2)), x, weight)
    >>> grads.x, grads.weight, grads.bias
    (array([[[10., 30., 20.]]]), array([[[3., 5.]]]), array([2.]))
    """
    return _convolution.backward(1, grad_out, x, weight, stride, padding, dilation, groups, algorithm)


def conv1d_backward_input(
    grad_out: Array,
    weight: Array,
    input_shape: Sequence[int],
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    *,
    algorithm: str = "auto",
    out: Array | None = None,
) -> Array:
    """Gradient of :func:`conv1d` with respect to its input, by the formula in :func:`conv2d_backward`.

    Parameters
    ----------
    grad_out : ndarray of float16, bfloat16, float32 or float64, shape (N, O, OL) or (O, OL)
        Gradient with respect to the result.
    weight : ndarray of grad_out's dtype, shape (O, C // groups, K)
        Weight of the forward pass.
    input_shape : tuple of int
        Shape of the forward pass's input, (N, C, L) or (C, L).
    stride, padding, dilation, groups, algorithm, out
        As in :func:`conv2d_backward_input`.

    Returns
    -------
    ndarray of shape input_shape
        In the memory order of ``grad_out``.

    Raises
    ------
    TypeError, ValueError
        As :func:`conv2d_backward_input`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.conv1d_backward_input(np.ones((1, 1, 2)), np.array([[[10.0, 20.0]]]), (1, 1, 5), stride=2)
    array([[[10., 20., 10., 20.,  0.]]])
    """
    return _convolution.backward_input(
        1, grad_out, weight, input_shape, stride, padding, dilation, groups, algorithm, out
    )


def conv1d_backward_weight(
    grad_out: Array,
    x: Array,
    weight_shape: Sequence[int],
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    *,
    algorithm: str = "auto",
    out: Array | None = None,
) -> Array:
    """Gradient of :func:`conv1d` with respect to its weight, by the formula in :func:`conv2d_backward`.

    Parameters
    ----------
    grad_out : ndarray of float16, bfloat16, float32 or float64, shape (N, O, OL) or (O, OL)
        Gradient with respect to the result.
    x : ndarray of grad_out's dtype, shape (N, C, L) or (C, L)
        Input of the forward pass.
    weight_shape : tuple of int
        Shape of the forward pass's weight, (O, C // groups, K).
    stride, padding, dilation, groups, algorithm, out
        As in :func:`conv2d_backward_weight`.

    Returns
    -------
    ndarray of shape weight_shape
        C-contiguous.

    Raises
    ------
    TypeError, ValueError
        As :func:`conv2d_backward_weight`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.conv1d_backward_weight(np.ones((1, 1, 2)), np.array([[[1.0, 2.0, 3.0]]]), (1, 1, 2))
    array([[[3., 5.]]])
    """
    return _convolution.backward_weight(1, grad_out, x, weight_shape, stride, padding, dilation, groups, algorithm, out)
