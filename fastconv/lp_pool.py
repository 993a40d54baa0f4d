"""Power-norm pooling, forward and backward, along one, two or three axes."""

from __future__ import annotations

from fastconv._pooling import Array, lp_pool, lp_pool_backward
from fastconv._window import Sizes


def lp_pool1d(
    x: Array, norm_type: float, kernel_size: Sizes, stride: Sizes | None = None, ceil_mode: bool = False
) -> Array:
    r"""Power norm of each window of a batch of sequences.

    .. math:: y_{n,c,q} = \Big( \sum_k x_{n,\, c,\, s q + k}^{\,p} \Big)^{1 / p}

    Signs count: an odd power of a negative element is negative, and the root of a negative sum is NaN. A window
    of ``ceil_mode`` that reaches beyond the sequence is scaled up, as if it were whole and its other elements were like
    those inside.

    Parameters
    ----------
    x : ndarray of float dtype, shape (N, C, L) or (C, L)
        The sequences in any memory order; the result has the same order.
    norm_type : float
        The exponent :math:`p`, above 0 and finite.
    kernel_size, stride, ceil_mode
        As in :func:`max_pool1d`.

    Returns
    -------
    ndarray, shape (N, C, OL) or (C, OL)
        The norms, of the shape that :func:`max_pool1d` gives.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or a dtype does not fit.
    ValueError
        If a shape, a size or an option does not fit.

    See Also
    --------
    lp_pool1d_backward : the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.lp_pool1d(np.array([[3.0, 4.0, 6.0, 8.0]]), 2, 2)
    array([[ 5., 10.]])
    """
    return lp_pool(1, x, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(
    x: Array, norm_type: float, kernel_size: Sizes, stride: Sizes | None = None, ceil_mode: bool = False
) -> Array:
    r"""Power norm of each window of a batch of images.

    .. math:: y_{n,c,q} = \Big( \sum_k x_{n,\, c,\, s q + k}^{\,p} \Big)^{1 / p}

    Signs count: an odd power of a negative element is negative, and the root of a negative sum is NaN. A window
    of ``ceil_mode`` that reaches beyond the image is scaled up, as if it were whole and its other elements were like
    those inside [1]_.

    Parameters
    ----------
    x : ndarray of float dtype, shape (N, C, H, W) or (C, H, W)
        The images in any memory order; the result has the same order.
    norm_type : float
        The exponent :math:`p`, above 0 and finite.
    kernel_size, stride, ceil_mode
        As in :func:`max_pool2d`.

    Returns
    -------
    ndarray, shape (N, C, OH, OW) or (C, OH, OW)
        The norms, of the shape that :func:`max_pool2d` gives.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or a dtype does not fit.
    ValueError
        If a shape, a size or an option does not fit.

    See Also
    --------
    lp_pool2d_backward : the gradient.

    References
    ----------
    .. [1] P. Sermanet, S. Chintala and Y. LeCun, "Convolutional neural networks applied to house numbers digit
       classification", ICPR 2012, section 2.1.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.lp_pool2d(np.array([[[1.0, 1.0], [1.0, 1.0]]]), 2, 2)
    array([[[2.]]])
    """
    return lp_pool(2, x, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(
    x: Array, norm_type: float, kernel_size: Sizes, stride: Sizes | None = None, ceil_mode: bool = False
) -> Array:
    r"""Power norm of each window of a batch of volumes.

    .. math:: y_{n,c,q} = \Big( \sum_k x_{n,\, c,\, s q + k}^{\,p} \Big)^{1 / p}

    Signs count: an odd power of a negative element is negative, and the root of a negative sum is NaN. A window
    of ``ceil_mode`` that reaches beyond the volume is scaled up, as if it were whole and its other elements were like
    those inside.

    Parameters
    ----------
    x : ndarray of float dtype, shape (N, C, D, H, W) or (C, D, H, W)
        The volumes in any memory order; the result has the same order.
    norm_type : float
        The exponent :math:`p`, above 0 and finite.
    kernel_size, stride, ceil_mode
        As in :func:`max_pool3d`.

    Returns
    -------
    ndarray, shape (N, C, OD, OH, OW) or (C, OD, OH, OW)
        The norms, of the shape that :func:`max_pool3d` gives.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or a dtype does not fit.
    ValueError
        If a shape, a size or an option does not fit.

    See Also
    --------
    lp_pool3d_backward : the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.lp_pool3d(np.ones((1, 2, 2, 2)), 1, 2)
    array([[[[8.]]]])
    """
    return lp_pool(3, x, norm_type, kernel_size, stride, ceil_mode)


def lp_pool1d_backward(
    grad_out: Array,
    x: Array,
    norm_type: float,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    ceil_mode: bool = False,
) -> Array:
    r"""Gradient of :func:`lp_pool1d` with respect to its input.

    .. math:: \nabla x_{n,c,i} = x_{n,c,i}^{\,p-1} \sum_{k,q} g_{n,c,q} \, y_{n,c,q}^{\,1-p} \ \text{over } s q + k = i

    A window whose norm is 0 has no derivative there, and adds nothing.

    Parameters
    ----------
    grad_out : ndarray of float dtype, shape (N, C, OL) or (C, OL)
        Gradient with respect to the norms.
    x : ndarray of float dtype, shape (N, C, L) or (C, L)
        The forward pass's input.
    norm_type, kernel_size, stride, ceil_mode
        As in the forward pass; see :func:`lp_pool1d`.

    Returns
    -------
    ndarray of the shape of x
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
    >>> fc.lp_pool1d_backward(np.array([[5.0, 1.0]]), np.array([[3.0, 4.0, 0.0, 0.0]]), 2, 2)
    array([[3., 4., 0., 0.]])
    """
    return lp_pool_backward(1, grad_out, x, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d_backward(
    grad_out: Array,
    x: Array,
    norm_type: float,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    ceil_mode: bool = False,
) -> Array:
    r"""Gradient of :func:`lp_pool2d` with respect to its input.

    .. math:: \nabla x_{n,c,i} = x_{n,c,i}^{\,p-1} \sum_{k,q} g_{n,c,q} \, y_{n,c,q}^{\,1-p} \ \text{over } s q + k = i

    A window whose norm is 0 has no derivative there, and adds nothing.

    Parameters
    ----------
    grad_out : ndarray of float dtype, shape (N, C, OH, OW) or (C, OH, OW)
        Gradient with respect to the norms.
    x : ndarray of float dtype, shape (N, C, H, W) or (C, H, W)
        The forward pass's input.
    norm_type, kernel_size, stride, ceil_mode
        As in the forward pass; see :func:`lp_pool2d`.

    Returns
    -------
    ndarray of the shape of x
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
    >>> fc.lp_pool2d_backward(np.array([[[5.0]]]), np.array([[[3.0, 4.0]]]), 2, (1, 2))
    array([[[3., 4.]]])
    """
    return lp_pool_backward(2, grad_out, x, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d_backward(
    grad_out: Array,
    x: Array,
    norm_type: float,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    ceil_mode: bool = False,
) -> Array:
    r"""Gradient of :func:`lp_pool3d` with respect to its input.

    .. math:: \nabla x_{n,c,i} = x_{n,c,i}^{\,p-1} \sum_{k,q} g_{n,c,q} \, y_{n,c,q}^{\,1-p} \ \text{over } s q + k = i

    A window whose norm is 0 has no derivative there, and adds nothing.

    Parameters
    ----------
    grad_out : ndarray of float dtype, shape (N, C, OD, OH, OW) or (C, OD, OH, OW)
        Gradient with respect to the norms.
    x : ndarray of float dtype, shape (N, C, D, H, W) or (C, D, H, W)
        The forward pass's input.
    norm_type, kernel_size, stride, ceil_mode
        As in the forward pass; see :func:`lp_pool3d`.

    Returns
    -------
    ndarray of the shape of x
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
    >>> fc.lp_pool3d_backward(np.array([[[[5.0]]]]), np.array([[[[3.0, 4.0]]]]), 2, (1, 1, 2))
    array([[[[3., 4.]]]])
    """
    return lp_pool_backward(3, grad_out, x, norm_type, kernel_size, stride, ceil_mode)
