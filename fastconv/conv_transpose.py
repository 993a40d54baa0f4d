"""Transposed convolution, forward and backward: the convolution's input gradient as an operation of its own."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from fastconv import _convolution
from fastconv._convolution import ConvGrads
from fastconv._window import Padding, Sizes

Array = npt.NDArray[Any]


def conv_transpose1d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
    *,
    out: Array | None = None,
) -> Array:
    r"""One-dimensional transposed convolution of a batch of signals.

    Every input adds its value times the kernel to the results:

    .. math:: y_{n,o,q} = b_o + \sum_{c,k} w_{c,o,k} \, x_{n,c,p} \ \text{over } s p + d k = q

    as :func:`conv_transpose2d` explains.

    Parameters
    ----------
    x : ndarray of float16, bfloat16, float32 or float64, shape (N, C, L) or (C, L)
        Signals in any memory order, which the result has too.
    weight : ndarray of x's dtype, shape (C, O // groups, K)
        One kernel per input channel.
    bias : ndarray of x's dtype, shape (O,), optional
        Added to each output channel.
    stride, padding, output_padding, groups, dilation, out
        As in :func:`conv_transpose2d`, for one axis.

    Returns
    -------
    ndarray, shape (N, O, OL) or (O, OL)
        ``OL = (L - 1) * stride - before - after + dilation * (K - 1) + output_padding + 1``.

    Raises
    ------
    TypeError, ValueError
        As :func:`conv_transpose2d`.

    See Also
    --------
    conv_transpose1d_backward : the gradients.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.conv_transpose1d(np.array([[[1.0, 2.0, 3.0]]]), np.array([[[1.0, 10.0]]]))
    array([[[ 1., 12., 23., 30.]]])
    >>> fc.conv_transpose1d(np.array([[[1.0, 2.0]]]), np.array([[[1.0]]]), stride=2, output_padding=1)
    array([[[1., 0., 2., 0.]]])
    """
    return _convolution.transposed_forward(1, x, weight, bias, stride, padding, output_padding, groups, dilation, out)


def conv_transpose1d_backward(
    grad_out: Array,
    x: Array,
    weight: Array,
    stride: Sizes = 1,
    padding: Padding = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> ConvGrads:
    """All gradients of :func:`conv_transpose1d`, by the formulas in :func:`conv_transpose2d_backward`.

    Parameters
    ----------
    grad_out : ndarray of float16, bfloat16, float32 or float64, shape (N, O, OL) or (O, OL)
        Gradient with respect to the result.
    x : ndarray of grad_out's dtype, shape (N, C, L) or (C, L)
        Input of the forward pass.
    weight : ndarray of grad_out's dtype, shape (C, O // groups, K)
        Weight of the forward pass.
    stride, padding, output_padding, groups, dilation
        As in the forward pass; see :func:`conv_transpose2d`.

    Returns
    -------
    ConvGrads
        Named tuple (x, weight, bias) of gradients with the shapes of ``x``, of ``weight`` and (O,).

    Raises
    ------
    TypeError, ValueError
        As :func:`conv_transpose2d_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> grad_out, x, weight = np.array([[[1.0, 2.0, 4.0]]]), np.array([[[1.0, 1.0]]]), np.array([[[1.0, 10.0]]])
    >>> grads = fc.conv_transpose1d_backward(grad_out, x, weight)
    >>> grads.x, grads.weight, grads.bias
    (array([[[21., 42.]]]), array([[[3., 6.]]]), array([7.]))
    """
    return _convolution.transposed_backward(1, grad_out, x, weight, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
    *,
    out: Array | None = None,
) -> Array:
    r"""Two-dimensional transposed convolution of a batch of images, also called deconvolution or upconvolution.

    Every input adds its value times the kernel to the results. Before ``padding`` is taken off their rims,

    .. math:: y_{n,o,q} = b_o + \sum_{c,k} w_{c,o,k} \, x_{n,c,p} \ \text{over } s p + d k = q

    for :math:`c` in the group of output channel :math:`o`, and :math:`p, q, k` for positions on both axes of the input,
    of the result and of the kernel [1]_. It is the gradient of :func:`conv2d` with the same options with respect to its
    input, and no zeros are multiplied on the way.

    Parameters
    ----------
    x : ndarray of float16, bfloat16, float32 or float64, shape (N, C, H, W) or (C, H, W)
        Images in any memory order, which the result has too.
    weight : ndarray of x's dtype, shape (C, O // groups, KH, KW)
        One kernel per input channel.
    bias : ndarray of x's dtype, shape (O,), optional
        Added to each output channel.
    stride : int or (int, int), default 1
        Distance :math:`s` of the kernels that neighbouring inputs are spread by.
    padding : int, (int, int) or ((int, int), (int, int)), default 0
        Elements that are left out around the result: a number for all sides, one per axis, or one (before, after) pair
        per axis. It is the padding of the convolution that goes the other way.
    output_padding : int or (int, int), default 0
        Elements that the result has more at its end, of the sizes that the convolution would bring to the size of
        ``x``. Smaller than the stride or the dilation.
    groups : int, default 1
        Number of groups that the channels are divided into; each output channel sees the inputs of its own group.
    dilation : int or (int, int), default 1
        Distance :math:`d` of the elements of the kernel.
    out : ndarray, optional
        Where to write the result, in any memory order; it is returned.

    Returns
    -------
    ndarray, shape (N, O, OH, OW) or (O, OH, OW)
        ``OH = (H - 1) * stride - before - after + dilation * (KH - 1) + output_padding + 1``, and OW likewise.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or the dtypes differ.
    ValueError
        If a shape, a size or an option does not fit.

    See Also
    --------
    conv_transpose2d_backward : the gradients.
    conv2d_backward_input : the same for a given size of the result, without bias.

    References
    ----------
    .. [1] V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285, 2016,
       chapter 4.

    Examples
    --------
    Twice the size, every element a square:

    >>> import numpy as np
    >>> import fastconv as fc
    >>> image, square = np.array([[[[1.0, 2.0], [3.0, 4.0]]]]), np.ones((1, 1, 2, 2))
    >>> fc.conv_transpose2d(image, square, stride=2)
    array([[[[1., 1., 2., 2.],
             [1., 1., 2., 2.],
             [3., 3., 4., 4.],
             [3., 3., 4., 4.]]]])
    """
    return _convolution.transposed_forward(2, x, weight, bias, stride, padding, output_padding, groups, dilation, out)


def conv_transpose2d_backward(
    grad_out: Array,
    x: Array,
    weight: Array,
    stride: Sizes = 1,
    padding: Padding = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> ConvGrads:
    r"""All gradients of :func:`conv_transpose2d`.

    Where a scalar has the gradient :math:`g` with respect to the result of ``conv_transpose2d(x, weight, bias, ...)``,
    padded by zeros where ``padding`` was taken off, its gradients with respect to the three operands are

    .. math::

        \nabla x_{n,c,p} = \sum_{o,k} w_{c,o,k} \, g_{n,o,s p + d k}, \qquad
        \nabla w_{c,o,k} = \sum_{n,p} x_{n,c,p} \, g_{n,o,s p + d k}, \qquad
        \nabla b_o = \sum_{n,q} g_{n,o,q},

    the first of which is a convolution, and the second its weight gradient.

    Parameters
    ----------
    grad_out : ndarray of float16, bfloat16, float32 or float64, shape (N, O, OH, OW) or (O, OH, OW)
        Gradient with respect to the result.
    x : ndarray of grad_out's dtype, shape (N, C, H, W) or (C, H, W)
        Input of the forward pass.
    weight : ndarray of grad_out's dtype, shape (C, O // groups, KH, KW)
        Weight of the forward pass.
    stride, padding, output_padding, groups, dilation
        As in the forward pass; see :func:`conv_transpose2d`.

    Returns
    -------
    ConvGrads
        Named tuple (x, weight, bias) of gradients with the shapes of ``x``, of ``weight`` and (O,). The first has the
        memory order of ``grad_out``.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or the dtypes differ.
    ValueError
        If a shape, a size or an option does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> x, weight = np.array([[[[1.0, 2.0]]]]), np.array([[[[10.0, 20.0]]]])
    >>> grads = fc.conv_transpose2d_backward(np.array([[[[1.0, 0.0, 0.0, 1.0]]]]), x, weight, stride=(1, 2))
    >>> grads.x, grads.weight, grads.bias
    (array([[[[10., 20.]]]]), array([[[[1., 2.]]]]), array([2.]))
    """
    return _convolution.transposed_backward(2, grad_out, x, weight, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
    *,
    out: Array | None = None,
) -> Array:
    r"""Three-dimensional transposed convolution of a batch of volumes.

    Every input adds its value times the kernel to the results:

    .. math:: y_{n,o,q} = b_o + \sum_{c,k} w_{c,o,k} \, x_{n,c,p} \ \text{over } s p + d k = q

    as :func:`conv_transpose2d` explains.

    Parameters
    ----------
    x : ndarray of float16, bfloat16, float32 or float64, shape (N, C, D, H, W) or (C, D, H, W)
        Volumes in any memory order, which the result has too.
    weight : ndarray of x's dtype, shape (C, O // groups, KD, KH, KW)
        One kernel per input channel.
    bias : ndarray of x's dtype, shape (O,), optional
        Added to each output channel.
    stride, padding, output_padding, groups, dilation, out
        As in :func:`conv_transpose2d`, for three axes.

    Returns
    -------
    ndarray, shape (N, O, OD, OH, OW) or (O, OD, OH, OW)
        ``OD = (D - 1) * stride - before - after + dilation * (KD - 1) + output_padding + 1``, and OH and OW
        likewise.

    Raises
    ------
    TypeError, ValueError
        As :func:`conv_transpose2d`.

    See Also
    --------
    conv_transpose3d_backward : the gradients.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.conv_transpose3d(np.full((1, 1, 1, 1, 2), 3.0), np.ones((1, 1, 2, 1, 1)))
    array([[[[[3., 3.]],
            [[3., 3.]]]]])
    """
    return _convolution.transposed_forward(3, x, weight, bias, stride, padding, output_padding, groups, dilation, out)


def conv_transpose3d_backward(
    grad_out: Array,
    x: Array,
    weight: Array,
    stride: Sizes = 1,
    padding: Padding = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> ConvGrads:
    """All gradients of :func:`conv_transpose3d`, by the formulas in :func:`conv_transpose2d_backward`.

    Parameters
    ----------
    grad_out : ndarray of float16, bfloat16, float32 or float64, shape (N, O, OD, OH, OW) or (O, OD, OH, OW)
        Gradient with respect to the result.
    x : ndarray of grad_out's dtype, shape (N, C, D, H, W) or (C, D, H, W)
        Input of the forward pass.
    weight : ndarray of grad_out's dtype, shape (C, O // groups, KD, KH, KW)
        Weight of the forward pass.
    stride, padding, output_padding, groups, dilation
        As in the forward pass; see :func:`conv_transpose2d`.

    Returns
    -------
    ConvGrads
        Named tuple (x, weight, bias) of gradients with the shapes of ``x``, of ``weight`` and (O,).

    Raises
    ------
    TypeError, ValueError
        As :func:`conv_transpose2d_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> x, weight = np.full((1, 1, 1, 1, 2), 3.0), np.ones((1, 1, 2, 1, 1))
    >>> grads = fc.conv_transpose3d_backward(np.ones((1, 1, 2, 1, 2)), x, weight)
    >>> grads.x, grads.weight.ravel(), grads.bias
    (array([[[[[2., 2.]]]]]), array([6., 6.]), array([4.]))
    """
    return _convolution.transposed_backward(3, grad_out, x, weight, stride, padding, output_padding, groups, dilation)
