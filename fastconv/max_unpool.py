"""Max unpooling, forward and backward, along one, two or three axes."""

from __future__ import annotations

from collections.abc import Sequence

from fastconv._pooling import Array, max_unpool, max_unpool_backward


def max_unpool1d(x: Array, indices: Array, output_shape: Sequence[int]) -> Array:
    r"""Put the maxima of windows back where they were, with zeros everywhere else.

    .. math:: y_{n,c,p} = x_{n,c,q} \ \text{where } p \text{ is the index of } q

    which inverts :func:`max_pool1d` as far as it can be. Of several elements with the same index the last one
    stays.

    Parameters
    ----------
    x : ndarray of float or integer dtype, shape (N, C, L) or (C, L)
        Values in any memory order; the result has the same order.
    indices : ndarray of int64, shape of x
        Where each element belongs, counted in its plane of the result as ``max_pool1d(..., return_indices=True)``
        counts.
    output_shape : tuple of int
        Shape of the result, batch and channels included.

    Returns
    -------
    ndarray of shape output_shape
        Of x's dtype.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or a dtype does not fit.
    ValueError
        If a shape does not fit, or an index lies outside of its plane.

    See Also
    --------
    max_unpool1d_backward : the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> y, indices = fc.max_pool1d(np.array([[1.0, 4.0, 2.0, 3.0]]), 2, return_indices=True)
    >>> fc.max_unpool1d(y, indices, (1, 4))
    array([[0., 4., 0., 3.]])
    """
    return max_unpool(1, x, indices, output_shape)


def max_unpool2d(x: Array, indices: Array, output_shape: Sequence[int]) -> Array:
    r"""Put the maxima of windows back where they were, with zeros everywhere else.

    .. math:: y_{n,c,p} = x_{n,c,q} \ \text{where } p \text{ is the index of } q

    which inverts :func:`max_pool2d` as far as it can be [1]_. Of several elements with the same index the last one
    stays.

    Parameters
    ----------
    x : ndarray of float or integer dtype, shape (N, C, H, W) or (C, H, W)
        Values in any memory order; the result has the same order.
    indices : ndarray of int64, shape of x
        Where each element belongs, counted in its plane of the result as ``max_pool2d(..., return_indices=True)``
        counts.
    output_shape : tuple of int
        Shape of the result, batch and channels included.

    Returns
    -------
    ndarray of shape output_shape
        Of x's dtype.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or a dtype does not fit.
    ValueError
        If a shape does not fit, or an index lies outside of its plane.

    See Also
    --------
    max_unpool2d_backward : the gradient.

    References
    ----------
    .. [1] M. D. Zeiler and R. Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, section 2.1.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> y, indices = fc.max_pool2d(np.array([[[1, 2, 3, 1], [4, 0, 1, 3]]]), 2, return_indices=True)
    >>> fc.max_unpool2d(y, indices, (1, 2, 4))
    array([[[0, 0, 3, 0],
            [4, 0, 0, 0]]])
    """
    return max_unpool(2, x, indices, output_shape)


def max_unpool3d(x: Array, indices: Array, output_shape: Sequence[int]) -> Array:
    r"""Put the maxima of windows back where they were, with zeros everywhere else.

    .. math:: y_{n,c,p} = x_{n,c,q} \ \text{where } p \text{ is the index of } q

    which inverts :func:`max_pool3d` as far as it can be. Of several elements with the same index the last one
    stays.

    Parameters
    ----------
    x : ndarray of float or integer dtype, shape (N, C, D, H, W) or (C, D, H, W)
        Values in any memory order; the result has the same order.
    indices : ndarray of int64, shape of x
        Where each element belongs, counted in its plane of the result as ``max_pool3d(..., return_indices=True)``
        counts.
    output_shape : tuple of int
        Shape of the result, batch and channels included.

    Returns
    -------
    ndarray of shape output_shape
        Of x's dtype.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or a dtype does not fit.
    ValueError
        If a shape does not fit, or an index lies outside of its plane.

    See Also
    --------
    max_unpool3d_backward : the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.max_unpool3d(np.array([[[[5.0]]]]), np.array([[[[3]]]]), (1, 2, 1, 2))
    array([[[[0., 0.]],
    <BLANKLINE>
            [[0., 5.]]]])
    """
    return max_unpool(3, x, indices, output_shape)


def max_unpool1d_backward(grad_out: Array, indices: Array) -> Array:
    r"""Gradient of :func:`max_unpool1d` with respect to its input.

    .. math:: \nabla x_{n,c,q} = g_{n,c,p} \ \text{for the index } p \text{ of } q

    Parameters
    ----------
    grad_out : ndarray of float or integer dtype, shape (N, C, L) or (C, L)
        Gradient with respect to the result.
    indices : ndarray of int64, shape of the forward pass's input
        As in the forward pass.

    Returns
    -------
    ndarray of the shape of indices
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
    >>> fc.max_unpool1d_backward(np.array([[1.0, 2.0, 3.0, 4.0]]), np.array([[1, 3]]))
    array([[2., 4.]])
    """
    return max_unpool_backward(1, grad_out, indices)


def max_unpool2d_backward(grad_out: Array, indices: Array) -> Array:
    r"""Gradient of :func:`max_unpool2d` with respect to its input.

    .. math:: \nabla x_{n,c,q} = g_{n,c,p} \ \text{for the index } p \text{ of } q

    Parameters
    ----------
    grad_out : ndarray of float or integer dtype, shape (N, C, H, W) or (C, H, W)
        Gradient with respect to the result.
    indices : ndarray of int64, shape of the forward pass's input
        As in the forward pass.

    Returns
    -------
    ndarray of the shape of indices
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
    >>> fc.max_unpool2d_backward(np.array([[[1.0, 2.0], [3.0, 4.0]]]), np.array([[[2, 1]]]))
    array([[[3., 2.]]])
    """
    return max_unpool_backward(2, grad_out, indices)


def max_unpool3d_backward(grad_out: Array, indices: Array) -> Array:
    r"""Gradient of :func:`max_unpool3d` with respect to its input.

    .. math:: \nabla x_{n,c,q} = g_{n,c,p} \ \text{for the index } p \text{ of } q

    Parameters
    ----------
    grad_out : ndarray of float or integer dtype, shape (N, C, D, H, W) or (C, D, H, W)
        Gradient with respect to the result.
    indices : ndarray of int64, shape of the forward pass's input
        As in the forward pass.

    Returns
    -------
    ndarray of the shape of indices
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
    >>> fc.max_unpool3d_backward(np.arange(8.0).reshape(1, 2, 2, 2), np.array([[[[6]]]]))
    array([[[[6.]]]])
    """
    return max_unpool_backward(3, grad_out, indices)
