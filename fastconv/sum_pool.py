"""Sum pooling, forward and backward, along one, two or three axes."""

from __future__ import annotations

from collections.abc import Sequence

from fastconv._pooling import Array, avg_pool, avg_pool_backward
from fastconv._window import Padding, Sizes


def sum_pool1d(
    x: Array, kernel_size: Sizes, stride: Sizes | None = None, padding: Padding = 0, ceil_mode: bool = False
) -> Array:
    r"""Sum of each window of a batch of sequences: :func:`avg_pool1d` without the division.

    .. math:: y_{n,c,i} = \sum_{k} x_{n,\, c,\, s i + k - p}

    Parameters
    ----------
    x : ndarray of float dtype, shape (N, C, L) or (C, L)
        The sequences in any memory order; the result has the same order.
    kernel_size, stride, padding, ceil_mode
        As in :func:`max_pool1d`.

    Returns
    -------
    ndarray, shape (N, C, OL) or (C, OL)
        The sums, of the shape that :func:`max_pool1d` gives.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or a dtype does not fit.
    ValueError
        If a shape, a size or an option does not fit.

    See Also
    --------
    sum_pool1d_backward : the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.sum_pool1d(np.array([[1.0, 3.0, 5.0, 8.0]]), 2, padding=(1,))
    array([[1., 8., 8.]])
    """
    return avg_pool(1, x, kernel_size, stride, padding, 1, ceil_mode, True, 1, None)


def sum_pool2d(
    x: Array, kernel_size: Sizes, stride: Sizes | None = None, padding: Padding = 0, ceil_mode: bool = False
) -> Array:
    r"""Sum of each window of a batch of images: :func:`avg_pool2d` without the division.

    .. math:: y_{n,c,i,j} = \sum_{k,l} x_{n,\, c,\, s_1 i + k - p_1,\, s_2 j + l - p_2}

    Parameters
    ----------
    x : ndarray of float dtype, shape (N, C, H, W) or (C, H, W)
        The images in any memory order; the result has the same order.
    kernel_size, stride, padding, ceil_mode
        As in :func:`max_pool2d`.

    Returns
    -------
    ndarray, shape (N, C, OH, OW) or (C, OH, OW)
        The sums, of the shape that :func:`max_pool2d` gives.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or a dtype does not fit.
    ValueError
        If a shape, a size or an option does not fit.

    See Also
    --------
    sum_pool2d_backward : the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.sum_pool2d(np.ones((1, 3, 4)), 2, stride=1, padding=((1, 0), (0, 0)))
    array([[[2., 2., 2.],
            [4., 4., 4.],
            [4., 4., 4.]]])
    """
    return avg_pool(2, x, kernel_size, stride, padding, 1, ceil_mode, True, 1, None)


def sum_pool3d(
    x: Array, kernel_size: Sizes, stride: Sizes | None = None, padding: Padding = 0, ceil_mode: bool = False
) -> Array:
    r"""Sum of each window of a batch of volumes: :func:`avg_pool3d` without the division.

    .. math:: y_{n,c,q} = \sum_{k} x_{n,\, c,\, s q + k - p}

    Parameters
    ----------
    x : ndarray of float dtype, shape (N, C, D, H, W) or (C, D, H, W)
        The volumes in any memory order; the result has the same order.
    kernel_size, stride, padding, ceil_mode
        As in :func:`max_pool3d`.

    Returns
    -------
    ndarray, shape (N, C, OD, OH, OW) or (C, OD, OH, OW)
        The sums, of the shape that :func:`max_pool3d` gives.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or a dtype does not fit.
    ValueError
        If a shape, a size or an option does not fit.

    See Also
    --------
    sum_pool3d_backward : the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.sum_pool3d(np.ones((1, 2, 3, 4)), (2, 3, 2))
    array([[[[12., 12.]]]])
    """
    return avg_pool(3, x, kernel_size, stride, padding, 1, ceil_mode, True, 1, None)


def sum_pool1d_backward(
    grad_out: Array,
    input_shape: Sequence[int],
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
) -> Array:
    r"""Gradient of :func:`sum_pool1d` with respect to its input.

    .. math:: \nabla x_{n,c,p} = \sum_{k,q} g_{n,c,q} \ \text{over } s q + k = p

    as in :func:`avg_pool1d_backward`, without the division.

    Parameters
    ----------
    grad_out : ndarray of float dtype, shape (N, C, OL) or (C, OL)
        Gradient with respect to the result.
    input_shape : tuple of int
        Shape of the forward pass's input, (N, C, L) or (C, L).
    kernel_size, stride, padding, ceil_mode
        As in the forward pass; see :func:`sum_pool1d`.

    Returns
    -------
    ndarray of shape input_shape
        In the memory order of ``grad_out``.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or a dtype does not fit.
    ValueError
        If a shape, a size or an option does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.sum_pool1d_backward(np.array([[1.0, 2.0]]), (1, 3), 2, stride=1)
    array([[1., 3., 2.]])
    """
    return avg_pool_backward(1, grad_out, input_shape, kernel_size, stride, padding, 1, ceil_mode, True, 1)


def sum_pool2d_backward(
    grad_out: Array,
    input_shape: Sequence[int],
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
) -> Array:
    r"""Gradient of :func:`sum_pool2d` with respect to its input.

    .. math:: \nabla x_{n,c,p} = \sum_{k,q} g_{n,c,q} \ \text{over } s q + k = p

    as in :func:`avg_pool2d_backward`, without the division.

    Parameters
    ----------
    grad_out : ndarray of float dtype, shape (N, C, OH, OW) or (C, OH, OW)
        Gradient with respect to the result.
    input_shape : tuple of int
        Shape of the forward pass's input, (N, C, H, W) or (C, H, W).
    kernel_size, stride, padding, ceil_mode
        As in the forward pass; see :func:`sum_pool2d`.

    Returns
    -------
    ndarray of shape input_shape
        In the memory order of ``grad_out``.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or a dtype does not fit.
    ValueError
        If a shape, a size or an option does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.sum_pool2d_backward(np.array([[[1.0, 2.0]]]), (1, 2, 3), 2, stride=1)
    array([[[1., 3., 2.],
            [1., 3., 2.]]])
    """
    return avg_pool_backward(2, grad_out, input_shape, kernel_size, stride, padding, 1, ceil_mode, True, 1)


def sum_pool3d_backward(
    grad_out: Array,
    input_shape: Sequence[int],
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
) -> Array:
    r"""Gradient of :func:`sum_pool3d` with respect to its input.

    .. math:: \nabla x_{n,c,p} = \sum_{k,q} g_{n,c,q} \ \text{over } s q + k = p

    as in :func:`avg_pool3d_backward`, without the division.

    Parameters
    ----------
    grad_out : ndarray of float dtype, shape (N, C, OD, OH, OW) or (C, OD, OH, OW)
        Gradient with respect to the result.
    input_shape : tuple of int
        Shape of the forward pass's input, (N, C, D, H, W) or (C, D, H, W).
    kernel_size, stride, padding, ceil_mode
        As in the forward pass; see :func:`sum_pool3d`.

    Returns
    -------
    ndarray of shape input_shape
        In the memory order of ``grad_out``.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or a dtype does not fit.
    ValueError
        If a shape, a size or an option does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.sum_pool3d_backward(np.array([[[[1.0, 2.0]]]]), (1, 1, 2, 3), (1, 2, 2), stride=1)
    array([[[[1., 3., 2.],
             [1., 3., 2.]]]])
    """
    return avg_pool_backward(3, grad_out, input_shape, kernel_size, stride, padding, 1, ceil_mode, True, 1)
