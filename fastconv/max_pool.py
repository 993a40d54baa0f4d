"""Maximum pooling, forward and backward, along one, two or three axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

from fastconv._pooling import Array, MaxPooled, max_pool, max_pool_backward
from fastconv._window import Padding, Sizes


@overload
def max_pool1d(
    x: Array,
    kernel_size: Sizes,
    stride: Sizes | None = ...,
    padding: Padding = ...,
    dilation: Sizes = ...,
    ceil_mode: bool = ...,
    return_indices: Literal[False] = ...,
    *,
    out: Array | None = ...,
) -> Array: ...


@overload
def max_pool1d(
    x: Array,
    kernel_size: Sizes,
    stride: Sizes | None = ...,
    padding: Padding = ...,
    dilation: Sizes = ...,
    ceil_mode: bool = ...,
    *,
    return_indices: Literal[True],
    out: Array | None = ...,
) -> MaxPooled: ...


def max_pool1d(
    x: Array,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    out: Array | None = None,
) -> Array | MaxPooled:
    r"""Maximum of each window of a batch of sequences.

    .. math:: y_{n,c,i} = \max_{k} \, x_{n,\, c,\, s i + d k - p}

    as :func:`max_pool2d` takes it, along one axis.

    Parameters
    ----------
    x : ndarray of float or integer dtype, shape (N, C, L) or (C, L)
        The sequences in any memory order; the result has the same order.
    kernel_size, stride, padding, dilation, ceil_mode, return_indices, out
        As in :func:`max_pool2d`, for one axis.

    Returns
    -------
    ndarray, shape (N, C, OL) or (C, OL), or MaxPooled
        The maxima, and with ``return_indices`` also the int64 position of each, counted along the sequence.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or a dtype does not fit.
    ValueError
        If a shape, a size or an option does not fit.

    See Also
    --------
    max_pool1d_backward : the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.max_pool1d(np.array([[1.0, 4.0, 2.0, 2.0, 3.0]]), 2, return_indices=True)
    MaxPooled(values=array([[4., 2.]]), indices=array([[1, 2]]))
    """
    return max_pool(1, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, out)


@overload
def max_pool2d(
    x: Array,
    kernel_size: Sizes,
    stride: Sizes | None = ...,
    padding: Padding = ...,
    dilation: Sizes = ...,
    ceil_mode: bool = ...,
    return_indices: Literal[False] = ...,
    *,
    out: Array | None = ...,
) -> Array: ...


@overload
def max_pool2d(
    x: Array,
    kernel_size: Sizes,
    stride: Sizes | None = ...,
    padding: Padding = ...,
    dilation: Sizes = ...,
    ceil_mode: bool = ...,
    *,
    return_indices: Literal[True],
    out: Array | None = ...,
) -> MaxPooled: ...


def max_pool2d(
    x: Array,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    out: Array | None = None,
) -> Array | MaxPooled:
    r"""Maximum of each window of a batch of images.

    .. math:: y_{n,c,i,j} = \max_{k,l} \, x_{n,\, c,\, s_1 i + d_1 k - p_1,\, s_2 j + d_2 l - p_2}

    over the elements that lie inside the image: padding never wins [1]_. NaN does, wherever it is in the window.

    Parameters
    ----------
    x : ndarray of float or integer dtype, shape (N, C, H, W) or (C, H, W)
        Images in any memory order; the result has the same order.
    kernel_size : int or (int, int)
        Size of the window.
    stride : int or (int, int), optional
        Step of the window :math:`s`; the kernel size if not given.
    padding : int, (int, int), ((int, int), (int, int)) or str, default 0
        Elements :math:`p` that the window may reach beyond the image: a number for all sides, one per axis, or one
        (before, after) pair per axis. "valid" is none. "same" gives ``ceil(size / stride)`` outputs, with the odd
        element after the image ("same_lower": before).
    dilation : int or (int, int), default 1
        Distance :math:`d` of the elements that the window covers.
    ceil_mode : bool, default False
        Whether a last window counts that reaches beyond the padding after the image; one that starts there does not.
    return_indices : bool, default False
        Whether to return the positions of the maxima too.
    out : ndarray of the result's shape and x's dtype, optional
        Where to write the maxima, in any memory order; it is returned.

    Returns
    -------
    ndarray, shape (N, C, OH, OW) or (C, OH, OW), or MaxPooled
        ``OH = (H + before + after - dilation * (KH - 1) - 1) // stride + 1``, rounded up with ``ceil_mode``, and OW
        likewise. With ``return_indices`` a named tuple (values, indices) of two such arrays. An index is an int64,
        ``row * W + column`` in the plane of its image and channel: that of the first NaN, or else of the first of equal
        maxima. A window that lies in the padding with all its elements has the value -inf, or the dtype's lowest, and
        the index 0.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or a dtype does not fit.
    ValueError
        If a shape, a size or an option does not fit.

    See Also
    --------
    max_pool2d_backward : the gradient.
    max_unpool2d : puts maxima back where they were.
    global_max_pool : the maximum of whole planes.

    References
    ----------
    .. [1] D. Scherer, A. Mueller and S. Behnke, "Evaluation of pooling operations in convolutional architectures for
       object recognition", ICANN 2010.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> x = np.array([[[1.0, 2.0, 3.0, 1.0], [4.0, 0.0, 1.0, 3.0], [0.0, 9.0, 2.0, 2.0]]])
    >>> fc.max_pool2d(x, 2)
    array([[[4., 3.]]])
    >>> fc.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
    MaxPooled(values=array([[[4., 3.],
            [9., 2.]]]), indices=array([[[ 4,  2],
            [ 9, 10]]]))
    """
    return max_pool(2, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, out)


@overload
def max_pool3d(
    x: Array,
    kernel_size: Sizes,
    stride: Sizes | None = ...,
    padding: Padding = ...,
    dilation: Sizes = ...,
    ceil_mode: bool = ...,
    return_indices: Literal[False] = ...,
    *,
    out: Array | None = ...,
) -> Array: ...


@overload
def max_pool3d(
    x: Array,
    kernel_size: Sizes,
    stride: Sizes | None = ...,
    padding: Padding = ...,
    dilation: Sizes = ...,
    ceil_mode: bool = ...,
    *,
    return_indices: Literal[True],
    out: Array | None = ...,
) -> MaxPooled: ...


def max_pool3d(
    x: Array,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    out: Array | None = None,
) -> Array | MaxPooled:
    r"""Maximum of each window of a batch of volumes.

    .. math:: y_{n,c,q} = \max_{k} \, x_{n,\, c,\, s q + d k - p}

    as :func:`max_pool2d` takes it, along three axes: all numbers here are triples.

    Parameters
    ----------
    x : ndarray of float or integer dtype, shape (N, C, D, H, W) or (C, D, H, W)
        The volumes in any memory order; the result has the same order.
    kernel_size, stride, padding, dilation, ceil_mode, return_indices, out
        As in :func:`max_pool2d`, for three axes.

    Returns
    -------
    ndarray, shape (N, C, OD, OH, OW) or (C, OD, OH, OW), or MaxPooled
        The maxima, and with ``return_indices`` also the int64 position of each, ``(depth * H + row) * W + column``.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or a dtype does not fit.
    ValueError
        If a shape, a size or an option does not fit.

    See Also
    --------
    max_pool3d_backward : the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.max_pool3d(np.arange(24.0).reshape(1, 2, 3, 4), 2)
    array([[[[17., 19.]]]])
    """
    return max_pool(3, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, out)


def max_pool1d_backward(grad_out: Array, indices: Array, input_shape: Sequence[int]) -> Array:
    r"""Gradient of :func:`max_pool1d` with respect to its input.

    .. math:: \nabla x_{n,c,p} = \sum_q g_{n,c,q} \ \text{over the windows } q \text{ with index } p

    Every gradient goes to the element that was its window's maximum; where windows overlap, an element may get several.

    Parameters
    ----------
    grad_out : ndarray of float dtype, shape (N, C, OL) or (C, OL)
        Gradient with respect to the maxima.
    indices : ndarray of int64, shape of grad_out
        Positions of the maxima, as ``max_pool1d(..., return_indices=True)`` gives them.
    input_shape : tuple of int
        Shape of the forward pass's input, (N, C, L) or (C, L).

    Returns
    -------
    ndarray of shape input_shape
        In the memory order of ``grad_out``.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or a dtype does not fit.
    ValueError
        If a shape does not fit, or an index lies outside of its plane.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> x = np.array([[1.0, 4.0, 2.0, 2.0, 3.0]])
    >>> y, indices = fc.max_pool1d(x, 2, stride=1, return_indices=True)
    >>> fc.max_pool1d_backward(np.array([[1.0, 2.0, 3.0, 4.0]]), indices, x.shape)
    array([[0., 3., 3., 0., 4.]])
    """
    return max_pool_backward(1, grad_out, indices, input_shape)


def max_pool2d_backward(grad_out: Array, indices: Array, input_shape: Sequence[int]) -> Array:
    r"""Gradient of :func:`max_pool2d` with respect to its input.

    .. math:: \nabla x_{n,c,p} = \sum_q g_{n,c,q} \ \text{over the windows } q \text{ with index } p

    Every gradient goes to the element that was its window's maximum; where windows overlap, an element may get several.

    Parameters
    ----------
    grad_out : ndarray of float dtype, shape (N, C, OH, OW) or (C, OH, OW)
        Gradient with respect to the maxima.
    indices : ndarray of int64, shape of grad_out
        Positions of the maxima, as ``max_pool2d(..., return_indices=True)`` gives them.
    input_shape : tuple of int
        Shape of the forward pass's input, (N, C, H, W) or (C, H, W).

    Returns
    -------
    ndarray of shape input_shape
        In the memory order of ``grad_out``.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or a dtype does not fit.
    ValueError
        If a shape does not fit, or an index lies outside of its plane.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> x = np.array([[[1.0, 2.0, 3.0, 1.0], [4.0, 0.0, 1.0, 3.0]]])
    >>> y, indices = fc.max_pool2d(x, 2, stride=(2, 1), return_indices=True)
    >>> fc.max_pool2d_backward(np.array([[[10.0, 20.0, 30.0]]]), indices, x.shape)
    array([[[ 0.,  0., 50.,  0.],
            [10.,  0.,  0.,  0.]]])
    """
    return max_pool_backward(2, grad_out, indices, input_shape)


def max_pool3d_backward(grad_out: Array, indices: Array, input_shape: Sequence[int]) -> Array:
    r"""Gradient of :func:`max_pool3d` with respect to its input.

    .. math:: \nabla x_{n,c,p} = \sum_q g_{n,c,q} \ \text{over the windows } q \text{ with index } p

    Every gradient goes to the element that was its window's maximum; where windows overlap, an element may get several.

    Parameters
    ----------
    grad_out : ndarray of float dtype, shape (N, C, OD, OH, OW) or (C, OD, OH, OW)
        Gradient with respect to the maxima.
    indices : ndarray of int64, shape of grad_out
        Positions of the maxima, as ``max_pool3d(..., return_indices=True)`` gives them.
    input_shape : tuple of int
        Shape of the forward pass's input, (N, C, D, H, W) or (C, D, H, W).

    Returns
    -------
    ndarray of shape input_shape
        In the memory order of ``grad_out``.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or a dtype does not fit.
    ValueError
        If a shape does not fit, or an index lies outside of its plane.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.max_pool3d_backward(np.array([[[[5.0]]]]), np.array([[[[3]]]]), (1, 2, 1, 2))
    array([[[[0., 0.]],
    <BLANKLINE>
            [[0., 5.]]]])
    """
    return max_pool_backward(3, grad_out, indices, input_shape)
