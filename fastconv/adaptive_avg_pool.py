"""Adaptive average pooling, forward and backward: the size of the result is given, not that of the windows."""

from __future__ import annotations

from collections.abc import Sequence

from fastconv._pooling import Array, OutputSizes, adaptive_avg_pool, adaptive_avg_pool_backward


def adaptive_avg_pool1d(x: Array, output_size: OutputSizes) -> Array:
    r"""Mean of each of as many windows as asked for, which share the sequence among them.

    .. math:: y_{n,c,q} = \frac{1}{m_q} \sum_{i \in W_q} x_{n,c,i}, \quad
       W_q = \{ \lfloor q L / O \rfloor, \dots, \lceil (q + 1) L / O \rceil - 1 \}

    with :math:`L` elements and :math:`O` windows along each axis, and :math:`m` for the elements of a window.

    Parameters
    ----------
    x : ndarray of float dtype, shape (N, C, L) or (C, L)
        The sequences in any memory order; the result has the same order.
    output_size : int or None
        Windows along the sequence; None for as many as there are elements.

    Returns
    -------
    ndarray, shape (N, C, OL) or (C, OL)
        The means.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or a dtype does not fit.
    ValueError
        If a shape, a size or an option does not fit.

    See Also
    --------
    adaptive_avg_pool1d_backward : the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.adaptive_avg_pool1d(np.array([[1.0, 2.0, 6.0]]), 2)
    array([[1.5, 4. ]])
    """
    return adaptive_avg_pool(1, x, output_size)


def adaptive_avg_pool2d(x: Array, output_size: OutputSizes) -> Array:
    r"""Mean of each of as many windows as asked for, which share the image among them.

    .. math:: y_{n,c,q} = \frac{1}{m_q} \sum_{i \in W_q} x_{n,c,i}, \quad
       W_q = \{ \lfloor q L / O \rfloor, \dots, \lceil (q + 1) L / O \rceil - 1 \}

    with :math:`L` elements and :math:`O` windows along each axis, and :math:`m` for the elements of a window [1]_.

    Parameters
    ----------
    x : ndarray of float dtype, shape (N, C, H, W) or (C, H, W)
        The images in any memory order; the result has the same order.
    output_size : int, None or (int or None, int or None)
        Windows along each axis, or one number per axis; None for as many as there are elements.

    Returns
    -------
    ndarray, shape (N, C, OH, OW) or (C, OH, OW)
        The means.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or a dtype does not fit.
    ValueError
        If a shape, a size or an option does not fit.

    See Also
    --------
    adaptive_avg_pool2d_backward : the gradient.

    References
    ----------
    .. [1] K. He, X. Zhang, S. Ren and J. Sun, "Spatial pyramid pooling in deep convolutional networks for visual
       recognition", ECCV 2014, section 2.3.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.adaptive_avg_pool2d(np.arange(12.0).reshape(1, 3, 4), (2, None))
    array([[[2., 3., 4., 5.],
            [6., 7., 8., 9.]]])
    """
    return adaptive_avg_pool(2, x, output_size)


def adaptive_avg_pool3d(x: Array, output_size: OutputSizes) -> Array:
    r"""Mean of each of as many windows as asked for, which share the volume among them.

    .. math:: y_{n,c,q} = \frac{1}{m_q} \sum_{i \in W_q} x_{n,c,i}, \quad
       W_q = \{ \lfloor q L / O \rfloor, \dots, \lceil (q + 1) L / O \rceil - 1 \}

    with :math:`L` elements and :math:`O` windows along each axis, and :math:`m` for the elements of a window.

    Parameters
    ----------
    x : ndarray of float dtype, shape (N, C, D, H, W) or (C, D, H, W)
        The volumes in any memory order; the result has the same order.
    output_size : int, None or three of int or None
        Windows along each axis, or one number per axis; None for as many as there are elements.

    Returns
    -------
    ndarray, shape (N, C, OD, OH, OW) or (C, OD, OH, OW)
        The means.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or a dtype does not fit.
    ValueError
        If a shape, a size or an option does not fit.

    See Also
    --------
    adaptive_avg_pool3d_backward : the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.adaptive_avg_pool3d(np.arange(24.0).reshape(1, 2, 3, 4), 1)
    array([[[[11.5]]]])
    """
    return adaptive_avg_pool(3, x, output_size)


def adaptive_avg_pool1d_backward(grad_out: Array, input_shape: Sequence[int]) -> Array:
    r"""Gradient of :func:`adaptive_avg_pool1d` with respect to its input.

    .. math:: \nabla x_{n,c,i} = \sum_q \frac{g_{n,c,q}}{m_q} \ \text{over the windows } q \text{ that cover } i

    Parameters
    ----------
    grad_out : ndarray of float dtype, shape (N, C, OL) or (C, OL)
        Gradient with respect to the means.
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
        If a shape, a size or an option does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.adaptive_avg_pool1d_backward(np.array([[2.0, 8.0]]), (1, 3))
    array([[1., 5., 4.]])
    """
    return adaptive_avg_pool_backward(1, grad_out, input_shape)


def adaptive_avg_pool2d_backward(grad_out: Array, input_shape: Sequence[int]) -> Array:
    r"""Gradient of :func:`adaptive_avg_pool2d` with respect to its input.

    .. math:: \nabla x_{n,c,i} = \sum_q \frac{g_{n,c,q}}{m_q} \ \text{over the windows } q \text{ that cover } i

    Parameters
    ----------
    grad_out : ndarray of float dtype, shape (N, C, OH, OW) or (C, OH, OW)
        Gradient with respect to the means.
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
        If a shape, a size or an option does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.adaptive_avg_pool2d_backward(np.array([[[4.0, 8.0]]]), (1, 2, 2))
    array([[[2., 4.],
            [2., 4.]]])
    """
    return adaptive_avg_pool_backward(2, grad_out, input_shape)


def adaptive_avg_pool3d_backward(grad_out: Array, input_shape: Sequence[int]) -> Array:
    r"""Gradient of :func:`adaptive_avg_pool3d` with respect to its input.

    .. math:: \nabla x_{n,c,i} = \sum_q \frac{g_{n,c,q}}{m_q} \ \text{over the windows } q \text{ that cover } i

    Parameters
    ----------
    grad_out : ndarray of float dtype, shape (N, C, OD, OH, OW) or (C, OD, OH, OW)
        Gradient with respect to the means.
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
        If a shape, a size or an option does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.adaptive_avg_pool3d_backward(np.array([[[[8.0]]]]), (1, 2, 2, 2))
    array([[[[1., 1.],
             [1., 1.]],
    <BLANKLINE>
            [[1., 1.],
             [1., 1.]]]])
    """
    return adaptive_avg_pool_backward(3, grad_out, input_shape)
