"""Pooling over all positions: one number per image and channel, forward and backward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np

from fastconv import _checks, _dispatch
from fastconv._pooling import ORDERED, Array, MaxPooled, check_indices, occupied, placed

RANKS = (3, 4, 5)


@_dispatch.operation
def global_avg_pool(x: Array) -> Array:
    r"""Mean of each channel of each image.

    .. math:: y_{n,c} = \frac{1}{P} \sum_p x_{n,c,p}

    over all :math:`P` positions, on any number of spatial axes [1]_.

    Parameters
    ----------
    x : ndarray of float dtype, shape (N, C, L), (N, C, H, W) or (N, C, D, H, W)
        Images in any memory order.

    Returns
    -------
    ndarray, shape (N, C)
        The means.

    Raises
    ------
    TypeError
        If ``x`` is of the wrong kind or dtype.
    ValueError
        If ``x`` has another number of axes, or no positions.

    See Also
    --------
    global_avg_pool_backward : the gradient.

    References
    ----------
    .. [1] M. Lin, Q. Chen and S. Yan, "Network in network", ICLR 2014, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.global_avg_pool(np.array([[[[1.0, 2.0], [3.0, 6.0]], [[0.0, 0.0], [0.0, 2.0]]]]))
    array([[3. , 0.5]])
    """
    backend = _dispatch.backend(x=x)
    _check(x)
    return backend.global_avg_pool_forward(x)  # type: ignore[no-any-return]


@_dispatch.operation
def global_avg_pool_backward(grad_out: Array, input_shape: Sequence[int]) -> Array:
    r"""Gradient of :func:`global_avg_pool` with respect to its input.

    .. math:: \nabla x_{n,c,p} = \frac{g_{n,c}}{P}

    Parameters
    ----------
    grad_out : ndarray of float dtype, shape (N, C)
        Gradient with respect to the means.
    input_shape : tuple of int
        Shape of the forward pass's input, (N, C, ...).

    Returns
    -------
    ndarray of shape input_shape
        C-contiguous.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or a dtype does not fit.
    ValueError
        If a shape does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.global_avg_pool_backward(np.array([[8.0, 4.0]]), (1, 2, 2, 2))
    array([[[[2., 2.],
             [2., 2.]],
    <BLANKLINE>
            [[1., 1.],
             [1., 1.]]]])
    """
    backend = _dispatch.backend(grad_out=grad_out)
    shape = _input_shape(grad_out, input_shape)
    return backend.global_avg_pool_backward(grad_out, shape)  # type: ignore[no-any-return]


@overload
def global_max_pool(x: Array, return_indices: Literal[False] = ...) -> Array: ...


@overload
def global_max_pool(x: Array, return_indices: Literal[True]) -> MaxPooled: ...


@_dispatch.operation
def global_max_pool(x: Array, return_indices: bool = False) -> Array | MaxPooled:
    r"""Maximum of each channel of each image.

    .. math:: y_{n,c} = \max_p \, x_{n,c,p}

    over all positions, on any number of spatial axes. NaN wins, as in :func:`max_pool2d`.

    Parameters
    ----------
    x : ndarray of float or integer dtype, shape (N, C, L), (N, C, H, W) or (N, C, D, H, W)
        Images in any memory order.
    return_indices : bool, default False
        Whether to return the positions of the maxima too.

    Returns
    -------
    ndarray, shape (N, C), or MaxPooled
        The maxima. With ``return_indices`` a named tuple (values, indices) of two such arrays: an index is the int64
        position in its plane, flattened; of equal maxima the first one's.

    Raises
    ------
    TypeError
        If ``x`` is of the wrong kind or dtype.
    ValueError
        If ``x`` has another number of axes, or no positions.

    See Also
    --------
    global_max_pool_backward : the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.global_max_pool(np.array([[[1.0, 5.0, 5.0], [-2.0, -3.0, -1.0]]]), return_indices=True)
    MaxPooled(values=array([[ 5., -1.]]), indices=array([[1, 2]]))
    """
    backend = _dispatch.backend(x=x)
    _check(x, ORDERED)
    y, indices = backend.global_max_pool_forward(x, bool(return_indices))
    return MaxPooled(y, indices) if return_indices else y


@_dispatch.operation
def global_max_pool_backward(grad_out: Array, indices: Array, input_shape: Sequence[int]) -> Array:
    r"""Gradient of :func:`global_max_pool` with respect to its input.

    Every gradient goes to the element that was its channel's maximum; all others are zero.

    Parameters
    ----------
    grad_out : ndarray of float dtype, shape (N, C)
        Gradient with respect to the maxima.
    indices : ndarray of int64, shape (N, C)
        Positions of the maxima, as ``global_max_pool(..., return_indices=True)`` gives them.
    input_shape : tuple of int
        Shape of the forward pass's input, (N, C, ...).

    Returns
    -------
    ndarray of shape input_shape
        C-contiguous.

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
    >>> fc.global_max_pool_backward(np.array([[8.0, 4.0]]), np.array([[1, 2]]), (1, 2, 3))
    array([[[0., 8., 0.],
            [0., 0., 4.]]])
    """
    backend = _dispatch.backend(grad_out=grad_out, indices=indices)
    shape = _input_shape(grad_out, input_shape)
    check_indices(indices, grad_out.shape)
    return placed(backend.global_max_pool_backward(grad_out, indices, shape), indices, shape[2:])


def _check(x: Array, dtypes: Sequence[np.dtype[Any]] = _checks.STORED) -> None:
    _checks.array("x", x, RANKS, dtypes)
    occupied("x", x.shape[2:])


def _input_shape(grad_out: Array, input_shape: Sequence[int]) -> tuple[int, ...]:
    shape = _checks.shape_argument("input_shape", input_shape, RANKS)
    _checks.array("grad_out", grad_out, (2,))
    _checks.shape("grad_out", grad_out, shape[:2])
    occupied("input_shape", shape[2:])
    return shape
