"""Adaptive maximum pooling: the size of the result is given, not that of the windows."""

from __future__ import annotations

from typing import Literal, overload

from fastconv._pooling import Array, MaxPooled, OutputSizes, adaptive_max_pool


@overload
def adaptive_max_pool1d(x: Array, output_size: OutputSizes, return_indices: Literal[False] = ...) -> Array: ...


@overload
def adaptive_max_pool1d(x: Array, output_size: OutputSizes, return_indices: Literal[True]) -> MaxPooled: ...


def adaptive_max_pool1d(x: Array, output_size: OutputSizes, return_indices: bool = False) -> Array | MaxPooled:
    r"""Maximum of each of as many windows as asked for, which share the sequence among them.

    .. math:: y_{n,c,q} = \max_{i \in W_q} x_{n,c,i}, \quad
       W_q = \{ \lfloor q L / O \rfloor, \dots, \lceil (q + 1) L / O \rceil - 1 \}

    with the windows of :func:`adaptive_avg_pool1d`. NaN wins. The gradient is :func:`max_pool1d_backward`.

    Parameters
    ----------
    x : ndarray of float or integer dtype, shape (N, C, L) or (C, L)
        The sequences in any memory order; the result has the same order.
    output_size : int or None
        Windows along the sequence; None for as many as there are elements.
    return_indices : bool, default False
        Whether to return the positions of the maxima too, as :func:`max_pool1d` does.

    Returns
    -------
    ndarray, shape (N, C, OL) or (C, OL), or MaxPooled
        The maxima; with ``return_indices`` a named tuple (values, indices) of two such arrays.

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
    >>> fc.adaptive_max_pool1d(np.array([[1.0, 2.0, 6.0]]), 2, return_indices=True)
    MaxPooled(values=array([[2., 6.]]), indices=array([[1, 2]]))
    """
    return adaptive_max_pool(1, x, output_size, return_indices)


@overload
def adaptive_max_pool2d(x: Array, output_size: OutputSizes, return_indices: Literal[False] = ...) -> Array: ...


@overload
def adaptive_max_pool2d(x: Array, output_size: OutputSizes, return_indices: Literal[True]) -> MaxPooled: ...


def adaptive_max_pool2d(x: Array, output_size: OutputSizes, return_indices: bool = False) -> Array | MaxPooled:
    r"""Maximum of each of as many windows as asked for, which share the image among them.

    .. math:: y_{n,c,q} = \max_{i \in W_q} x_{n,c,i}, \quad
       W_q = \{ \lfloor q L / O \rfloor, \dots, \lceil (q + 1) L / O \rceil - 1 \}

    with the windows of :func:`adaptive_avg_pool2d`. NaN wins. The gradient is :func:`max_pool2d_backward`.

    Parameters
    ----------
    x : ndarray of float or integer dtype, shape (N, C, H, W) or (C, H, W)
        The images in any memory order; the result has the same order.
    output_size : int, None or (int or None, int or None)
        Windows along each axis, or one number per axis; None for as many as there are elements.
    return_indices : bool, default False
        Whether to return the positions of the maxima too, as :func:`max_pool2d` does.

    Returns
    -------
    ndarray, shape (N, C, OH, OW) or (C, OH, OW), or MaxPooled
        The maxima; with ``return_indices`` a named tuple (values, indices) of two such arrays.

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
    >>> fc.adaptive_max_pool2d(np.arange(12.0).reshape(1, 3, 4), (2, 1))
    array([[[ 7.],
            [11.]]])
    """
    return adaptive_max_pool(2, x, output_size, return_indices)


@overload
def adaptive_max_pool3d(x: Array, output_size: OutputSizes, return_indices: Literal[False] = ...) -> Array: ...


@overload
def adaptive_max_pool3d(x: Array, output_size: OutputSizes, return_indices: Literal[True]) -> MaxPooled: ...


def adaptive_max_pool3d(x: Array, output_size: OutputSizes, return_indices: bool = False) -> Array | MaxPooled:
    r"""Maximum of each of as many windows as asked for, which share the volume among them.

    .. math:: y_{n,c,q} = \max_{i \in W_q} x_{n,c,i}, \quad
       W_q = \{ \lfloor q L / O \rfloor, \dots, \lceil (q + 1) L / O \rceil - 1 \}

    with the windows of :func:`adaptive_avg_pool3d`. NaN wins. The gradient is :func:`max_pool3d_backward`.

    Parameters
    ----------
    x : ndarray of float or integer dtype, shape (N, C, D, H, W) or (C, D, H, W)
        The volumes in any memory order; the result has the same order.
    output_size : int, None or three of int or None
        Windows along each axis, or one number per axis; None for as many as there are elements.
    return_indices : bool, default False
        Whether to return the positions of the maxima too, as :func:`max_pool3d` does.

    Returns
    -------
    ndarray, shape (N, C, OD, OH, OW) or (C, OD, OH, OW), or MaxPooled
        The maxima; with ``return_indices`` a named tuple (values, indices) of two such arrays.

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
    >>> fc.adaptive_max_pool3d(np.arange(24).reshape(1, 2, 3, 4), 1)
    array([[[[23]]]])
    """
    return adaptive_max_pool(3, x, output_size, return_indices)
