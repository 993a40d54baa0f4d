"""Two-dimensional convolution, forward and backward; here the arguments of every rank are explained in full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from fastconv import _convolution
from fastconv._convolution import ConvGrads
from fastconv._window import Padding, Sizes
from fastconv.pack import PackedWeight

Array = npt.NDArray[Any]


def conv2d(
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
    r"""Two-dimensional convolution of a batch of images.

    With the input padded by zeros, and :math:`c` running over the channels of the group of output channel :math:`o`,

    .. math:: y_{n,o,i,j} = b_o + \sum_{c,k,l} w_{o,c,k,l} \, x_{n,\, c,\, s_1 i + d_1 k,\, s_2 j + d_2 l}

    The kernel is not flipped: this is the cross-correlation that deep-learning libraries call convolution [1]_.

    Parameters
    ----------
    x : ndarray of float16, bfloat16, float32 or float64, shape (N, C, H, W) or (C, H, W)
        Images in any memory order. The result has the same order, so that ``images.transpose(0, 3, 1, 2)`` of
        channels-last images is used without a copy and gives channels-last results. float16 (and bfloat16 of
        ``ml_dtypes``) is summed in float32, and the result is rounded once.
    weight : ndarray of x's dtype, shape (O, C // groups, KH, KW), or PackedWeight
        One kernel per output channel. Where it stays the same for many calls, :func:`pack` prepares it once.
    bias : ndarray of x's dtype, shape (O,), optional
        Added to each output channel.
    stride : int or (int, int), default 1
        Step of the window :math:`s`.
    padding : int, (int, int), ((int, int), (int, int)) or str, default 0
        Zeros around the image: a number for all sides, one per axis, or one (before, after) pair per axis. "valid" is
        none. "same" gives ``ceil(size / stride)`` outputs, with the odd element after the image ("same_lower": before).
    dilation : int or (int, int), default 1
        Distance :math:`d` of the elements that the window covers.
    groups : int, default 1
        Number of groups that the channels are divided into; each output channel sees the inputs of its own group.
    activation : {None, "relu"}, default None
        Applied to the result while it is written.
    algorithm : {"auto", "direct", "winograd", "fft"}, default "auto"
        How to compute. "direct" sums the products as the formula says. "winograd" computes 16 results of 3x3 taps from
        36 products instead of 144 [2]_, with larger kernels as sums of such parts; it is for a stride of 1, and a
        result's error depends on all inputs near it (float32, standard-normal data, 512 channels: below 3e-5 of the
        largest result). "fft" multiplies Fourier
        transforms of pieces of the input with those of the kernels [3]_; it is for kernels along the last axis, of
        stride and dilation 1, and errs as "winograd" does. "auto" is the fastest of them for the kernel, the image's
        size and the channels.
    out : ndarray, optional
        Where to write the result, in any memory order; it is returned.

    Returns
    -------
    ndarray, shape (N, O, OH, OW) or (O, OH, OW)
        ``OH = (H + before + after - dilation * (KH - 1) - 1) // stride + 1``, and OW likewise.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or the dtypes differ.
    ValueError
        If a shape, a size or an option does not fit.

    See Also
    --------
    conv2d_backward : the gradients.

    References
    ----------
    .. [1] V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285, 2016.
    .. [2] A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv:1509.09308, 2015.
    .. [3] T. G. Stockham, "High-speed convolution and correlation", AFIPS Spring Joint Computer Conference, 1966.

    Examples
    --------
    A vertical edge, found by the difference of neighbours:

    >>> import numpy as np
    >>> import fastconv as fc
    >>> image = np.array([[[[0, 0, 5, 5], [0, 0, 5, 5], [0, 0, 5, 5]]]], dtype=np.float32)
    >>> edge = np.array([[[[-1, 1]]]], dtype=np.float32)
    >>> fc.conv2d(image, edge)
    array([[[[0., 5., 0.],
             [0., 5., 0.],
             [0., 5., 0.]]]], dtype=float32)
    >>> fc.conv2d(image, edge, padding="same", stride=2).shape
    (1, 1, 2, 2)
    """
    return _convolution.forward(2, x, weight, bias, stride, padding, dilation, groups, activation, algorithm, out)


def conv2d_backward(
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
    r"""All gradients of :func:`conv2d`.

    Where a scalar has the gradient :math:`g` with respect to the result of ``conv2d(x, weight, bias, ...)``, its
    gradients with respect to the three operands are

    .. math::

        \nabla x_{n,c,p} = \sum_{o,k} w_{o,c,k} \, g_{n,o,q} \ \text{over } s q + d k = p, \qquad
        \nabla w_{o,c,k} = \sum_{n,q} g_{n,o,q} \, x_{n,c,s q + d k}, \qquad
        \nabla b_o = \sum_{n,q} g_{n,o,q},

    the derivative of the formula in :func:`conv2d`, with :math:`p, q, k` for positions on both axes of the padded
    image, of the result and of the kernel.

    Parameters
    ----------
    grad_out : ndarray of float16, bfloat16, float32 or float64, shape (N, O, OH, OW) or (O, OH, OW)
        Gradient with respect to the result. Where the forward pass had ``activation="relu"``, pass
        ``relu_backward(grad_out, y)``.
    x : ndarray of grad_out's dtype, shape (N, C, H, W) or (C, H, W)
        Input of the forward pass.
    weight : ndarray of grad_out's dtype, shape (O, C // groups, KH, KW)
        Weight of the forward pass.
    stride, padding, dilation, groups, algorithm
        As in the forward pass; see :func:`conv2d`.

    Returns
    -------
    ConvGrads
        Named tuple (x, weight, bias) of gradients with the shapes (N, C, H, W) or (C, H, W), (O, C // groups, KH, KW)
        and (O,). The first has the memory order of ``grad_out``.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or the dtypes differ.
    ValueError
        If a shape, a size or an option does not fit.

    See Also
    --------
    conv2d_backward_input, conv2d_backward_weight : one of the gradients alone.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> x = np.array([[[[1, 2, 3], [4, 5, 6]]]], dtype=np.float64)
    >>> weight = np.array([[[[10, 20]]]], dtype=np.float64)
    >>> grads = fc.conv2d_backward(np.ones((1, 1, 2, 2)), x, weight)
    >>> grads.x
    array([[[[10., 30., 20.],
             [10., 30., 20.]]]])
    >>> grads.weight, grads.bias
    (array([[[[12., 16.]]]]), array([4.]))
    """
    return _convolution.backward(2, grad_out, x, weight, stride, padding, dilation, groups, algorithm)


def conv2d_backward_input(
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
    r"""Gradient of :func:`conv2d` with respect to its input.

    .. math:: \nabla x_{n,c,p} = \sum_{o,k} w_{o,c,k} \, g_{n,o,q} \ \text{over } s q + d k = p

    as :func:`conv2d_backward` gives it.

    Parameters
    ----------
    grad_out : ndarray of float16, bfloat16, float32 or float64, shape (N, O, OH, OW) or (O, OH, OW)
        Gradient with respect to the result.
    weight : ndarray of grad_out's dtype, shape (O, C // groups, KH, KW)
        Weight of the forward pass.
    input_shape : tuple of int
        Shape of the forward pass's input, (N, C, H, W) or (C, H, W). The shape of ``grad_out`` does not determine it.
    stride, padding, dilation, groups, algorithm
        As in the forward pass; see :func:`conv2d`.
    out : ndarray of shape input_shape, optional
        Where to write the gradient, in any memory order; it is returned.

    Returns
    -------
    ndarray of shape input_shape
        In the memory order of ``grad_out``.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or the dtypes differ.
    ValueError
        If a shape, a size or an option does not fit.

    Examples
    --------
    With a stride of 2 and a kernel of one element every second input takes no part:

    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.conv2d_backward_input(np.ones((1, 1, 2, 2)), np.full((1, 1, 1, 1), 7.0), (1, 1, 3, 4), stride=2)
    array([[[[7., 0., 7., 0.],
             [0., 0., 0., 0.],
             [7., 0., 7., 0.]]]])
    """
    return _convolution.backward_input(
        2, grad_out, weight, input_shape, stride, padding, dilation, groups, algorithm, out
    )


def conv2d_backward_weight(
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
    r"""Gradient of :func:`conv2d` with respect to its weight.

    .. math:: \nabla w_{o,c,k} = \sum_{n,q} g_{n,o,q} \, x_{n,c,s q + d k}

    as :func:`conv2d_backward` gives it.

    Parameters
    ----------
    grad_out : ndarray of float16, bfloat16, float32 or float64, shape (N, O, OH, OW) or (O, OH, OW)
        Gradient with respect to the result.
    x : ndarray of grad_out's dtype, shape (N, C, H, W) or (C, H, W)
        Input of the forward pass.
    weight_shape : tuple of int
        Shape of the forward pass's weight, (O, C // groups, KH, KW). With a stride, the shapes of the arrays do not
        determine it.
    stride, padding, dilation, groups, algorithm
        As in the forward pass; see :func:`conv2d`.
    out : ndarray of shape weight_shape, optional
        Where to write the gradient, in any memory order; it is returned.

    Returns
    -------
    ndarray of shape weight_shape
        C-contiguous.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or the dtypes differ.
    ValueError
        If a shape, a size or an option does not fit.

    Examples
    --------
    Each element of the kernel collects the inputs that it met:

    >>> import numpy as np
    >>> import fastconv as fc
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> fc.conv2d_backward_weight(np.ones((1, 1, 2, 2)), x, (1, 1, 2, 2))
    array([[[[ 8., 12.],
             [20., 24.]]]])
    """
    return _convolution.backward_weight(2, grad_out, x, weight_shape, stride, padding, dilation, groups, algorithm, out)
