"""Average pooling, forward and backward, along one, two or three axes."""

from __future__ import annotations

from collections.abc import Sequence

from fastconv._pooling import Array, avg_pool, avg_pool_backward
from fastconv._window import Padding, Sizes


def avg_pool1d(
    x: Array,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Sizes = 1,
    out: Array | None = None,
) -> Array:
    r"""Mean of each window of a batch of sequences.

    .. math:: y_{n,c,i} = \frac{1}{m_{i}} \sum_{k} x_{n,\, c,\, s i + d k - p}

    as :func:`avg_pool2d` takes it, along one axis.

    Parameters
    ----------
    x : ndarray of float dtype, shape (N, C, L) or (C, L)
        The sequences in any memory order; the result has the same order.
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation, out
        As in :func:`avg_pool2d`, for one axis.

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
    avg_pool1d_backward : the gradient.
    sum_pool1d : sums instead of means.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.avg_pool1d(np.array([[1.0, 3.0, 5.0, 8.0]]), 2, stride=1)
    array([[2. , 4. , 6.5]])
    """
    options = (padding, dilation, ceil_mode, count_include_pad, divisor_override)
    return avg_pool(1, x, kernel_size, stride, *options, out)


def avg_pool2d(
    x: Array,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Sizes = 1,
    out: Array | None = None,
) -> Array:
    r"""Mean of each window of a batch of images.

    .. math:: y_{n,c,i,j} = \frac{1}{m_{i,j}} \sum_{k,l} x_{n,\, c,\, s_1 i + d_1 k - p_1,\, s_2 j + d_2 l - p_2}

    over the elements that lie inside the image. The divisor :math:`m` is the number of these elements, and with
    ``count_include_pad`` also of those in the padding [1]_.

    Parameters
    ----------
    x : ndarray of float dtype, shape (N, C, H, W) or (C, H, W)
        Images in any memory order; the result has the same order.
    kernel_size, stride, padding, ceil_mode
        As in :func:`max_pool2d`.
    count_include_pad : bool, default True
        Whether elements in the padding count. What a window of ``ceil_mode`` covers beyond the padding never counts.
    divisor_override : int, optional
        A divisor for all windows.
    dilation : int or (int, int), default 1
        As in :func:`max_pool2d`.
    out : ndarray of the result's shape and x's dtype, optional
        Where to write the result, in any memory order; it is returned.

    Returns
    -------
    ndarray, shape (N, C, OH, OW) or (C, OH, OW)
        The means, of the shape that :func:`max_pool2d` gives. A window that lies in the padding with all its elements
        has the mean 0.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or a dtype does not fit.
    ValueError
        If a shape, a size or an option does not fit.

    See Also
    --------
    avg_pool2d_backward : the gradient.
    sum_pool2d : sums instead of means.
    global_avg_pool : the mean of whole planes.

    References
    ----------
    .. [1] Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning applied to document recognition",
       Proceedings of the IEEE 86(11), 1998, section II.B (sub-sampling).

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> x = np.array([[[1.0, 2.0, 3.0], [5.0, 6.0, 7.0]]])
    >>> fc.avg_pool2d(x, 2, stride=1)
    array([[[3.5, 4.5]]])
    >>> fc.avg_pool2d(x, 2, padding=((0, 0), (1, 0)), count_include_pad=False)
    array([[[3. , 4.5]]])
    """
    options = (padding, dilation, ceil_mode, count_include_pad, divisor_override)
    return avg_pool(2, x, kernel_size, stride, *options, out)


def avg_pool3d(
    x: Array,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Sizes = 1,
    out: Array | None = None,
) -> Array:
    r"""Mean of each window of a batch of volumes.

    .. math:: y_{n,c,q} = \frac{1}{m_{q}} \sum_{k} x_{n,\, c,\, s q + d k - p}

    as :func:`avg_pool2d` takes it, along three axes: all numbers here are triples.

    Parameters
    ----------
    x : ndarray of float dtype, shape (N, C, D, H, W) or (C, D, H, W)
        The volumes in any memory order; the result has the same order.
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation, out
        As in :func:`avg_pool2d`, for three axes.

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
    avg_pool3d_backward : the gradient.
    sum_pool3d : sums instead of means.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.avg_pool3d(np.arange(24.0).reshape(1, 2, 3, 4), 2)
    array([[[[ 8.5, 10.5]]]])
    """
    options = (padding, dilation, ceil_mode, count_include_pad, divisor_override)
    return avg_pool(3, x, kernel_size, stride, *options, out)


def avg_pool1d_backward(
    grad_out: Array,
    input_shape: Sequence[int],
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Sizes = 1,
) -> Array:
    r"""Gradient of :func:`avg_pool1d` with respect to its input.

    .. math:: \nabla x_{n,c,p} = \sum_{k,q} \frac{g_{n,c,q}}{m_q} \ \text{over } s q + d k = p

    as in :func:`avg_pool2d_backward`, along one axis.

    Parameters
    ----------
    grad_out : ndarray of float dtype, shape (N, C, OL) or (C, OL)
        Gradient with respect to the result.
    input_shape : tuple of int
        Shape of the forward pass's input, (N, C, L) or (C, L).
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation
        As in the forward pass; see :func:`avg_pool2d`.

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
    >>> fc.avg_pool1d_backward(np.array([[4.0, 8.0]]), (1, 3), 2, stride=1)
    array([[2., 6., 4.]])
    """
    options = (padding, dilation, ceil_mode, count_include_pad, divisor_override)
    return avg_pool_backward(1, grad_out, input_shape, kernel_size, stride, *options)


def avg_pool2d_backward(
    grad_out: Array,
    input_shape: Sequence[int],
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Sizes = 1,
) -> Array:
    r"""Gradient of :func:`avg_pool2d` with respect to its input.

    .. math:: \nabla x_{n,c,p} = \sum_{k,q} \frac{g_{n,c,q}}{m_q} \ \text{over } s q + d k = p

    with :math:`p, q, k` for positions on both axes of the padded image, of the result and of the window.

    Parameters
    ----------
    grad_out : ndarray of float dtype, shape (N, C, OH, OW) or (C, OH, OW)
        Gradient with respect to the result.
    input_shape : tuple of int
        Shape of the forward pass's input, (N, C, H, W) or (C, H, W). The shape of ``grad_out`` does not determine it.
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation
        As in the forward pass; see :func:`avg_pool2d`.

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
    >>> fc.avg_pool2d_backward(np.array([[[4.0, 8.0]]]), (1, 2, 3), 2, stride=1)
    array([[[1., 3., 2.],
            [1., 3., 2.]]])
    """
    options = (padding, dilation, ceil_mode, count_include_pad, divisor_override)
    return avg_pool_backward(2, grad_out, input_shape, kernel_size, stride, *options)


def avg_pool3d_backward(
    grad_out: Array,
    input_shape: Sequence[int],
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Sizes = 1,
) -> Array:
    r"""Gradient of :func:`avg_pool3d` with respect to its input.

    .. math:: \nabla x_{n,c,p} = \sum_{k,q} \frac{g_{n,c,q}}{m_q} \ \text{over } s q + d k = p

    as in :func:`avg_pool2d_backward`, along three axes.

    Parameters
    ----------
    grad_out : ndarray of float dtype, shape (N, C, OD, OH, OW) or (C, OD, OH, OW)
        Gradient with respect to the result.
    input_shape : tuple of int
        Shape of the forward pass's input, (N, C, D, H, W) or (C, D, H, W).
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation
        As in the forward pass; see :func:`avg_pool2d`.

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
    >>> fc.avg_pool3d_backward(np.array([[[[8.0]]]]), (1, 2, 2, 2), 2)
    array([[[[1., 1.],
             [1., 1.]],
    <BLANKLINE>
            [[1., 1.],
             [1., 1.]]]])
    """
    options = (padding, dilation, ceil_mode, count_include_pad, divisor_override)
    return avg_pool_backward(3, grad_out, input_shape, kernel_size, stride, *options)
