"""Softmax, log-softmax and the cross-entropy loss, forward and backward."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv import _checks, _dispatch

Array = npt.NDArray[Any]


# ------------------------------------------------------------------------------------------------------------- softmax
@_dispatch.operation
def softmax(x: Array, axis: int = -1) -> Array:
    r"""Softmax: positive numbers that sum to one along an axis.

    .. math:: y_k = \frac{e^{x_k - m}}{\sum_j e^{x_j - m}}, \qquad m = \max_j x_j

    which does not overflow [1]_.

    Parameters
    ----------
    x : ndarray of float16, bfloat16, float32 or float64, shape (..., K, ...)
        Logits, in any memory order; the result has the same order.
    axis : int, default -1
        The axis of the K classes.

    Returns
    -------
    ndarray, shape of x
        Probabilities. A column with NaN or inf in it, or with -inf alone, is all NaN.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If x has no axis, or not the one asked for.

    See Also
    --------
    log_softmax : the logarithm, without loss of small probabilities.
    softmax_backward : the gradient.

    References
    ----------
    .. [1] I. Goodfellow, Y. Bengio and A. Courville, "Deep Learning", MIT Press, 2016, section 4.1.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.softmax(np.array([[1.0, 1.0], [1000.0, -1000.0]]))
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    backend = _dispatch.backend(x=x)
    return backend.softmax_forward(x, _axis("x", x, axis))  # type: ignore[no-any-return]


@_dispatch.operation
def softmax_backward(grad_out: Array, y: Array, axis: int = -1) -> Array:
    r"""Gradient of :func:`softmax` with respect to its input.

    Where a scalar has the gradient :math:`g` with respect to ``y = softmax(x, axis)``,

    .. math:: \nabla x_k = y_k \Bigl(g_k - \sum_j g_j y_j\Bigr)

    Parameters
    ----------
    grad_out : ndarray of float16, bfloat16, float32 or float64, shape (..., K, ...)
        Gradient with respect to the result.
    y : ndarray of grad_out's shape and dtype
        Result of the forward pass.
    axis : int, default -1
        The axis of the K classes.

    Returns
    -------
    ndarray, shape and memory order of y
        The gradient.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or the dtypes differ.
    ValueError
        If the shapes differ, or there is no such axis.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> y = fc.softmax(np.array([0.0, 0.0]))
    >>> fc.softmax_backward(np.array([1.0, 0.0]), y)
    array([ 0.25, -0.25])
    """
    backend = _dispatch.backend(grad_out=grad_out, y=y)
    return backend.softmax_backward(grad_out, y, _gradient_axis(grad_out, y, axis))  # type: ignore[no-any-return]


@_dispatch.operation
def log_softmax(x: Array, axis: int = -1) -> Array:
    r"""Logarithm of :func:`softmax`.

    .. math:: y_k = (x_k - m) - \log \sum_j e^{x_j - m}, \qquad m = \max_j x_j

    It stays finite where the probability is too small for a float, and keeps its digits where that is near 1.

    Parameters
    ----------
    x : ndarray of float16, bfloat16, float32 or float64, shape (..., K, ...)
        Logits, in any memory order; the result has the same order.
    axis : int, default -1
        The axis of the K classes.

    Returns
    -------
    ndarray, shape of x
        Logarithms of probabilities.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If x has no axis, or not the one asked for.

    See Also
    --------
    log_softmax_backward : the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.log_softmax(np.array([0.0, -1000.0]))
    array([    0., -1000.])
    """
    backend = _dispatch.backend(x=x)
    return backend.log_softmax_forward(x, _axis("x", x, axis))  # type: ignore[no-any-return]


@_dispatch.operation
def log_softmax_backward(grad_out: Array, y: Array, axis: int = -1) -> Array:
    r"""Gradient of :func:`log_softmax` with respect to its input.

    Where a scalar has the gradient :math:`g` with respect to ``y = log_softmax(x, axis)``,

    .. math:: \nabla x_k = g_k - e^{y_k} \sum_j g_j

    Parameters
    ----------
    grad_out : ndarray of float16, bfloat16, float32 or float64, shape (..., K, ...)
        Gradient with respect to the result.
    y : ndarray of grad_out's shape and dtype
        Result of the forward pass.
    axis : int, default -1
        The axis of the K classes.

    Returns
    -------
    ndarray, shape and memory order of y
        The gradient.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or the dtypes differ.
    ValueError
        If the shapes differ, or there is no such axis.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> y = fc.log_softmax(np.array([0.0, 0.0]))
    >>> fc.log_softmax_backward(np.array([1.0, 0.0]), y)
    array([ 0.5, -0.5])
    """
    backend = _dispatch.backend(grad_out=grad_out, y=y)
    return backend.log_softmax_backward(grad_out, y, _gradient_axis(grad_out, y, axis))  # type: ignore[no-any-return]


def _axis(name: str, x: Array, axis: int) -> int:
    _checks.array(name, x, (x.ndim,))
    return _checks.axis(name, x, axis)


def _gradient_axis(grad_out: Array, y: Array, axis: int) -> int:
    result = _axis("y", y, axis)
    _checks.shape("grad_out", grad_out, y.shape)
    _checks.same_dtype("grad_out", grad_out, "y", y)
    return result


# ------------------------------------------------------------------------------------------------------- cross-entropy
@_dispatch.operation
def cross_entropy(logits: Array, labels: Array, *, reduction: str = "mean", ignore_index: int = -100) -> Any:
    r"""Cross-entropy between the softmax of logits and the right classes.

    The loss of one item with logits :math:`x` and label :math:`t` is the negative logarithm of the probability of the
    right class [1]_:

    .. math:: \ell = -\log \operatorname{softmax}(x)_t = \log \sum_k e^{x_k - m} + m - x_t, \qquad m = \max_k x_k

    Parameters
    ----------
    logits : ndarray of float16, bfloat16, float32 or float64, shape (N, K), (N, K, ...) or (K,)
        Scores of K classes, before any softmax, in any memory order.
    labels : ndarray of an integer dtype, shape (N,), (N, ...) or ()
        Indices of the right classes, from 0 to K - 1, or ``ignore_index``.
    reduction : {"mean", "sum", "none"}, default "mean"
        What becomes of the losses. The mean is over the items that are not ignored; the mean of no items (an empty
        batch, or all ignored) is NaN.
    ignore_index : int, default -100
        Items with this label have a loss of 0.

    Returns
    -------
    scalar of the logits' dtype, or ndarray of the shape of labels
        The mean or sum, or with "none" the losses. Sums are formed in float64.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If the shapes do not fit or a label is out of range.

    See Also
    --------
    cross_entropy_backward : the gradient.

    References
    ----------
    .. [1] I. Goodfellow, Y. Bengio and A. Courville, "Deep Learning", MIT Press, 2016, sections 5.5 and 6.2.2.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> logits = np.array([[0.0, 0.0], [1000.0, 0.0]])
    >>> fc.cross_entropy(logits, np.array([0, 1]), reduction="none").round(4)
    array([6.931e-01, 1.000e+03])
    >>> round(float(fc.cross_entropy(logits, np.array([0, 0]))), 4)
    0.3466
    """
    backend = _dispatch.backend(logits=logits, labels=labels)
    number = _checked(logits, labels, reduction, ignore_index)
    return backend.cross_entropy_forward(logits, labels, number, reduction)


@_dispatch.operation
def cross_entropy_backward(logits: Array, labels: Array, *, reduction: str = "mean", ignore_index: int = -100) -> Array:
    r"""Gradient of :func:`cross_entropy` with respect to the logits.

    .. math:: \nabla x_k = w \, (\operatorname{softmax}(x)_k - [k = t])

    with :math:`w = 1`, or for the mean 1 over the number of items that are not ignored. Ignored items have the
    gradient 0.

    Parameters
    ----------
    logits : ndarray of float16, bfloat16, float32 or float64, shape (N, K), (N, K, ...) or (K,)
        Scores of K classes, before any softmax, in any memory order.
    labels : ndarray of an integer dtype, shape (N,), (N, ...) or ()
        Indices of the right classes, from 0 to K - 1, or ``ignore_index``.
    reduction : {"mean", "sum", "none"}, default "mean"
        Reduction of the forward pass. With "none" every item's loss has its own gradient, which is that of the sum.
    ignore_index : int, default -100
        Items with this label have no gradient.

    Returns
    -------
    ndarray, shape and memory order of logits
        The gradient.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If the shapes do not fit or a label is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.cross_entropy_backward(np.array([[0.0, 0.0], [0.0, 0.0]]), np.array([0, 1]))
    array([[-0.25,  0.25],
           [ 0.25, -0.25]])
    """
    backend = _dispatch.backend(logits=logits, labels=labels)
    number = _checked(logits, labels, reduction, ignore_index)
    return backend.cross_entropy_backward(logits, labels, number, reduction)  # type: ignore[no-any-return]


def _checked(logits: Array, labels: Array, reduction: str, ignore_index: int) -> int:
    """Arguments fit; ``ignore_index`` as an int. On a device labels are not looked at: that would wait for it."""
    _checks.option("reduction", reduction, ("mean", "sum", "none"))
    _checks.array("logits", logits, (logits.ndim,))
    number = _checks.label_shape(logits, labels, ignore_index)
    if isinstance(labels, np.ndarray):
        _checks.labels(logits, labels, number)
    return number
