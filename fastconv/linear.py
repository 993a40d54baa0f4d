"""Dense (fully connected) layer, forward and backward."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy.typing as npt

from fastconv import _checks, _dispatch
from fastconv.pack import PackedWeight, unpacked

Array = npt.NDArray[Any]


class LinearGrads(NamedTuple):
    """Gradients of a dense layer, each of the shape of the argument that it is named after."""

    x: Array
    weight: Array
    bias: Array


@_dispatch.operation
def linear(
    x: Array,
    weight: Array | PackedWeight,
    bias: Array | None = None,
    *,
    activation: str | None = None,
    out: Array | None = None,
) -> Array:
    r"""Dense layer: every output is a weighted sum of all inputs.

    .. math:: y_{n,o} = b_o + \sum_i x_{n,i} \, w_{o,i}

    that is ``x @ weight.T + bias`` [1]_.

    Parameters
    ----------
    x : ndarray of float16, bfloat16, float32 or float64, shape (..., in_features)
        Inputs; any number of leading axes, also none.
    weight : ndarray of x's dtype, shape (out_features, in_features), or PackedWeight
        One row per output. Where it stays the same for many calls, :func:`pack` prepares it once.
    bias : ndarray of x's dtype, shape (out_features,), optional
        Added to each output.
    activation : {None, "relu"}, default None
        Applied to the result while it is written.
    out : ndarray, optional
        Where to write the result, in any memory order; it is returned.

    Returns
    -------
    ndarray, shape (..., out_features)
        The outputs.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or the dtypes differ.
    ValueError
        If a shape or an option does not fit.

    See Also
    --------
    linear_backward : the gradients.

    References
    ----------
    .. [1] I. Goodfellow, Y. Bengio and A. Courville, "Deep Learning", MIT Press, 2016, section 6.1.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> weight = np.array([[1.0, 2.0], [3.0, 4.0], [-5.0, -6.0]])
    >>> fc.linear(np.array([[1.0, 10.0], [0.0, 1.0]]), weight)
    array([[ 21.,  43., -65.],
           [  2.,   4.,  -6.]])
    >>> fc.linear(np.array([1.0, 10.0]), weight, np.array([0.5, 0.0, 0.0]), activation="relu")
    array([21.5, 43. ,  0. ])
    """
    weight, prepared, _ = unpacked(weight, 0)
    backend = _dispatch.backend(x=x, weight=weight, bias=bias, out=out)
    relu = _checks.activation(activation)
    shape = _checks.linear(x, weight)
    if bias is not None:
        _checks.shape("bias", bias, (weight.shape[0],))
        _checks.same_dtype("bias", bias, "x", x)
    _checks.output(out, shape, x.dtype)
    if x.ndim == 2:
        return backend.linear_forward(x, weight, bias, relu, out, prepared)  # type: ignore[no-any-return]
    rows_out = _rows(out) if out is not None and out.flags.c_contiguous else None  # else reshaping would copy it
    y: Array = backend.linear_forward(_rows(x), weight, bias, relu, rows_out, prepared).reshape(shape)
    if out is None:
        return y
    if rows_out is None:
        out[...] = y
    return out


@_dispatch.operation
def linear_backward(grad_out: Array, x: Array, weight: Array) -> LinearGrads:
    r"""All gradients of :func:`linear`.

    Where a scalar has the gradient :math:`g` with respect to the result of ``linear(x, weight, bias)``, its gradients
    with respect to the three operands are

    .. math::

        \nabla x_{n,i} = \sum_o g_{n,o} \, w_{o,i}, \qquad
        \nabla w_{o,i} = \sum_n g_{n,o} \, x_{n,i}, \qquad
        \nabla b_o = \sum_n g_{n,o}.

    Parameters
    ----------
    grad_out : ndarray of float16, bfloat16, float32 or float64, shape (..., out_features)
        Gradient with respect to the result. Where the forward pass had ``activation="relu"``, pass
        ``relu_backward(grad_out, y)``.
    x : ndarray of grad_out's dtype, shape (..., in_features)
        Input of the forward pass.
    weight : ndarray of grad_out's dtype, shape (out_features, in_features)
        Weight of the forward pass.

    Returns
    -------
    LinearGrads
        Named tuple (x, weight, bias) of gradients with the shapes (..., in_features), (out_features, in_features) and
        (out_features,).

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or the dtypes differ.
    ValueError
        If a shape does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> grads = fc.linear_backward(np.array([[1.0, 10.0]]), np.array([[2.0, 3.0]]), np.array([[1.0, 2.0], [3.0, 4.0]]))
    >>> grads.x
    array([[31., 42.]])
    >>> grads.weight, grads.bias
    (array([[ 2.,  3.],
           [20., 30.]]), array([ 1., 10.]))
    """
    backend = _dispatch.backend(grad_out=grad_out, x=x, weight=weight)
    shape = _checks.linear(x, weight)
    _checks.shape("grad_out", grad_out, shape)
    _checks.same_dtype("grad_out", grad_out, "x", x)
    grad_rows = _rows(grad_out)
    return LinearGrads(
        backend.linear_backward_input(grad_rows, weight).reshape(x.shape),
        backend.linear_backward_weight(grad_rows, _rows(x)),
        backend.linear_backward_bias(grad_rows),
    )


def _rows(x: Array) -> Array:
    """``x`` with all leading axes in one; the length is spelled out because -1 has no answer for empty arrays."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
