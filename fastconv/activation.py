"""Rectified linear units, forward and backward, for arrays of any rank."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from fastconv import _checks, _dispatch

Array = npt.NDArray[Any]


@_dispatch.operation
def relu(x: Array, *, out: Array | None = None) -> Array:
    r"""Rectified linear unit: negative elements become zero.

    .. math:: y = \max(x, 0)

    as in [1]_. NaN stays NaN, and -0.0 stays -0.0.

    Parameters
    ----------
    x : ndarray of float16, bfloat16, float32 or float64, any shape
        Input in any memory order; the result has the same order.
    out : ndarray of x's shape and dtype, optional
        Where to write the result; it is returned. ``out=x`` works in place.

    Returns
    -------
    ndarray, shape of x
        The result.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or a dtype does not fit.
    ValueError
        If ``out`` has another shape or is read-only.

    See Also
    --------
    relu_backward : the gradient.

    References
    ----------
    .. [1] V. Nair and G. E. Hinton, "Rectified linear units improve restricted Boltzmann machines", ICML 2010.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.relu(np.array([-2.0, 0.5, np.nan]))
    array([0. , 0.5, nan])
    """
    backend = _dispatch.backend(x=x, out=out)
    _checks.array("x", x, (x.ndim,))
    _checks.output(out, x.shape, x.dtype)
    return backend.relu_forward(x, out)  # type: ignore[no-any-return]


@_dispatch.operation
def relu_backward(grad_out: Array, y: Array) -> Array:
    r"""Gradient of :func:`relu` with respect to its input.

    Where a scalar has the gradient :math:`g` with respect to ``y = relu(x)``, its gradient with respect to ``x`` is

    .. math:: \nabla x = \begin{cases} 0 & y \le 0 \\ g & \text{otherwise} \end{cases}

    so that it is 0 at the kink, and passes where y is NaN, as it does in PyTorch.

    Parameters
    ----------
    grad_out : ndarray of float16, bfloat16, float32 or float64, any shape
        Gradient with respect to the result.
    y : ndarray of grad_out's shape and dtype
        Result of the forward pass, or its input: both are positive at the same places.

    Returns
    -------
    ndarray, shape and memory order of y
        The gradient.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or the dtypes differ.
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> x = np.array([-2.0, 0.0, 3.0])
    >>> fc.relu_backward(np.array([10.0, 20.0, 30.0]), fc.relu(x))
    array([ 0.,  0., 30.])
    """
    backend = _dispatch.backend(grad_out=grad_out, y=y)
    _checks.array("y", y, (y.ndim,))
    _checks.shape("grad_out", grad_out, y.shape)
    _checks.same_dtype("grad_out", grad_out, "y", y)
    return backend.relu_backward(grad_out, y)  # type: ignore[no-any-return]


@_dispatch.operation
def leaky_relu(x: Array, negative_slope: float = 0.01, *, out: Array | None = None) -> Array:
    r"""Rectified linear unit that lets a part of negative elements through.

    .. math:: y = \begin{cases} x & x > 0 \\ a x & \text{otherwise} \end{cases}

    with :math:`a` the negative slope [1]_.

    Parameters
    ----------
    x : ndarray of float16, bfloat16, float32 or float64, any shape
        Input in any memory order; the result has the same order.
    negative_slope : float, default 0.01
        Slope :math:`a` for negative elements.
    out : ndarray of x's shape and dtype, optional
        Where to write the result; it is returned. ``out=x`` works in place.

    Returns
    -------
    ndarray, shape of x
        The result.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or a dtype does not fit.
    ValueError
        If ``out`` has another shape or is read-only.

    See Also
    --------
    leaky_relu_backward : the gradient.

    References
    ----------
    .. [1] A. L. Maas, A. Y. Hannun and A. Y. Ng, "Rectifier nonlinearities improve neural network acoustic models",
       ICML 2013.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.leaky_relu(np.array([-2.0, 0.0, 3.0]), 0.25)
    array([-0.5,  0. ,  3. ])
    """
    backend = _dispatch.backend(x=x, out=out)
    _checks.array("x", x, (x.ndim,))
    slope = _checks.real("negative_slope", negative_slope)
    _checks.output(out, x.shape, x.dtype)
    return backend.leaky_relu_forward(x, slope, out)  # type: ignore[no-any-return]


@_dispatch.operation
def leaky_relu_backward(grad_out: Array, x: Array, negative_slope: float = 0.01) -> Array:
    r"""Gradient of :func:`leaky_relu` with respect to its input.

    .. math:: \nabla x = \begin{cases} g & x > 0 \\ a g & \text{otherwise} \end{cases}

    with :math:`g` the gradient with respect to the result and :math:`a` the negative slope.

    Parameters
    ----------
    grad_out : ndarray of float16, bfloat16, float32 or float64, any shape
        Gradient with respect to the result.
    x : ndarray of grad_out's shape and dtype
        Input of the forward pass (or, with a positive slope, its result).
    negative_slope : float, default 0.01
        Slope of the forward pass.

    Returns
    -------
    ndarray, shape and memory order of x
        The gradient.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or the dtypes differ.
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.leaky_relu_backward(np.array([8.0, 8.0]), np.array([-2.0, 3.0]), 0.25)
    array([2., 8.])
    """
    backend = _dispatch.backend(grad_out=grad_out, x=x)
    _checks.array("x", x, (x.ndim,))
    _checks.shape("grad_out", grad_out, x.shape)
    _checks.same_dtype("grad_out", grad_out, "x", x)
    slope = _checks.real("negative_slope", negative_slope)
    return backend.leaky_relu_backward(grad_out, x, slope)  # type: ignore[no-any-return]
