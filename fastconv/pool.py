"""Maximum, average and sum pooling, forward and backward.

Each public function is one line over a private one that serves any number of spatial axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from types import NoneType
from typing import Any, Literal, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from fastconv import _checks, _dispatch
from fastconv._window import Padding, Sizes, Window

Array = npt.NDArray[Any]
INDICES = (np.dtype(np.int64),)


class MaxPooled(NamedTuple):
    """Result of max pooling with ``return_indices=True``: maxima, and where each is in its plane of the input."""

    values: Array
    indices: Array


# ------------------------------------------------------------------------------------------------------------- maximum
@overload
def max_pool2d(
    x: Array,
    kernel_size: Sizes,
    stride: Sizes | None = ...,
    padding: Padding = ...,
    dilation: Sizes = ...,
    ceil_mode: bool = ...,
    return_indices: Literal[False] = ...,
    *,
    out: Array | None = ...,
) -> Array: ...


@overload
def max_pool2d(
    x: Array,
    kernel_size: Sizes,
    stride: Sizes | None = ...,
    padding: Padding = ...,
    dilation: Sizes = ...,
    ceil_mode: bool = ...,
    *,
    return_indices: Literal[True],
    out: Array | None = ...,
) -> MaxPooled: ...


def max_pool2d(
    x: Array,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    out: Array | None = None,
) -> Array | MaxPooled:
    r"""Maximum of each window of a batch of images.

    .. math:: y_{n,c,i,j} = \max_{k,l} \, x_{n,\, c,\, s_1 i + d_1 k - p_1,\, s_2 j + d_2 l - p_2}

    over the elements that lie inside the image: padding never wins [1]_. NaN does, wherever it is in the window.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (N, C, H, W) or (C, H, W)
        Images in any memory order; the result has the same order.
    kernel_size : int or (int, int)
        Size of the window.
    stride : int or (int, int), optional
        Step of the window :math:`s`; the kernel size if not given.
    padding : int, (int, int), ((int, int), (int, int)) or str, default 0
        Elements :math:`p` that the window may reach beyond the image: a number for all sides, one per axis, or one
        (before, after) pair per axis. "valid" is none. "same" gives ``ceil(size / stride)`` outputs, with the odd
        element after the image ("same_lower": before).
    dilation : int or (int, int), default 1
        Distance :math:`d` of the elements that the window covers.
    ceil_mode : bool, default False
        Whether a last window counts that reaches beyond the padding after the image; one that starts there does not.
    return_indices : bool, default False
        Whether to return the positions of the maxima too.
    out : ndarray of the result's shape and x's dtype, optional
        Where to write the maxima, in any memory order; it is returned.

    Returns
    -------
    ndarray, shape (N, C, OH, OW) or (C, OH, OW), or MaxPooled
        ``OH = (H + before + after - dilation * (KH - 1) - 1) // stride + 1``, rounded up with ``ceil_mode``, and OW
        likewise. With ``return_indices`` a named tuple (values, indices) of two such arrays. An index is an int64,
        ``row * W + column`` in the plane of its image and channel: that of the first NaN, or else of the first of equal
        maxima. A window that lies in the padding with all its elements has the value -inf and the index 0.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or a dtype does not fit.
    ValueError
        If a shape, a size or an option does not fit.

    See Also
    --------
    max_pool2d_backward : the gradient.
    global_max_pool : the maximum of whole planes.

    References
    ----------
    .. [1] D. Scherer, A. Mueller and S. Behnke, "Evaluation of pooling operations in convolutional architectures for
       object recognition", ICANN 2010.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> x = np.array([[[1.0, 2.0, 3.0, 1.0], [4.0, 0.0, 1.0, 3.0], [0.0, 9.0, 2.0, 2.0]]])
    >>> fc.max_pool2d(x, 2)
    array([[[4., 3.]]])
    >>> fc.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
    MaxPooled(values=array([[[4., 3.],
            [9., 2.]]]), indices=array([[[ 4,  2],
            [ 9, 10]]]))
    """
    return _max_pool(2, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices, out)


def max_pool2d_backward(grad_out: Array, indices: Array, input_shape: Sequence[int]) -> Array:
    r"""Gradient of :func:`max_pool2d` with respect to its input.

    .. math:: \nabla x_{n,c,p} = \sum_q g_{n,c,q} \ \text{over the windows } q \text{ with index } p

    Every gradient goes to the element that was its window's maximum; where windows overlap, an element may get several.

    Parameters
    ----------
    grad_out : ndarray of float32 or float64, shape (N, C, OH, OW) or (C, OH, OW)
        Gradient with respect to the maxima.
    indices : ndarray of int64, shape of grad_out
        Positions of the maxima, as ``max_pool2d(..., return_indices=True)`` gives them.
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
        If a shape does not fit, or an index lies outside of its plane.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> x = np.array([[[1.0, 2.0, 3.0, 1.0], [4.0, 0.0, 1.0, 3.0]]])
    >>> y, indices = fc.max_pool2d(x, 2, stride=(2, 1), return_indices=True)
    >>> fc.max_pool2d_backward(np.array([[[10.0, 20.0, 30.0]]]), indices, x.shape)
    array([[[ 0.,  0., 50.,  0.],
            [10.,  0.,  0.,  0.]]])
    """
    return _max_pool_backward(2, grad_out, indices, input_shape)


# ------------------------------------------------------------------------------------------------------------- average
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
    x, kernel_size, stride, padding, ceil_mode
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
    return _avg_pool(2, x, kernel_size, stride, *options, out)


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
    grad_out : ndarray of float32 or float64, shape (N, C, OH, OW) or (C, OH, OW)
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
    return _avg_pool_backward(2, grad_out, input_shape, kernel_size, stride, *options)


# ----------------------------------------------------------------------------------------------------------------- sum
def sum_pool2d(
    x: Array, kernel_size: Sizes, stride: Sizes | None = None, padding: Padding = 0, ceil_mode: bool = False
) -> Array:
    r"""Sum of each window of a batch of images: :func:`avg_pool2d` without the division.

    .. math:: y_{n,c,i,j} = \sum_{k,l} x_{n,\, c,\, s_1 i + k - p_1,\, s_2 j + l - p_2}

    Parameters
    ----------
    x, kernel_size, stride, padding, ceil_mode
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
    return _avg_pool(2, x, kernel_size, stride, padding, 1, ceil_mode, True, 1, None)


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
    grad_out : ndarray of float32 or float64, shape (N, C, OH, OW) or (C, OH, OW)
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
    return _avg_pool_backward(2, grad_out, input_shape, kernel_size, stride, padding, 1, ceil_mode, True, 1)


# ------------------------------------------------------------------------------------------- any number of spatial axes
def _window(name: str, sizes: tuple[int, ...], *arguments: Any) -> Window:
    """Check the window of these arguments: kernel_size, stride, padding, dilation and ceil_mode, as they were given."""
    plain = all(type(argument) in (int, bool, str, NoneType) for argument in arguments)
    return (_window_of_plain_arguments if plain else _checked_window)(name, sizes, *arguments)


def _checked_window(
    name: str, sizes: tuple[int, ...], kernel_size: Sizes, stride: Sizes | None, *options: Any
) -> Window:
    if min(sizes) < 1:
        raise ValueError(f"{name} must have at least 1 element on each spatial axis, got {sizes}")
    kernel = _checks.integers("kernel_size", kernel_size, len(sizes), 1)
    return _checks.window(sizes, kernel, kernel if stride is None else stride, *options)


# The usual arguments are single numbers; checking them again each time would take as long as pooling small arrays does.
_window_of_plain_arguments = lru_cache(maxsize=1024, typed=True)(_checked_window)


def _with_batch(array: Array | None, unbatched: bool) -> Any:
    return array[np.newaxis] if unbatched and array is not None else array


def _max_pool(
    rank: int,
    x: Array,
    kernel_size: Sizes,
    stride: Sizes | None,
    padding: Padding,
    dilation: Sizes,
    ceil_mode: bool,
    return_indices: bool,
    out: Array | None,
) -> Array | MaxPooled:
    backend = _dispatch.backend(x=x, out=out)
    _checks.array("x", x, (rank + 2, rank + 1))
    window = _window("x", x.shape[-rank:], kernel_size, stride, padding, dilation, ceil_mode)
    _checks.output(out, (*x.shape[:-rank], *window.output_size[3 - rank :]), x.dtype)
    unbatched = x.ndim == rank + 1
    y, indices = backend.max_pool_forward(
        _with_batch(x, unbatched), window, bool(return_indices), _with_batch(out, unbatched)
    )
    if unbatched:
        y, indices = y[0] if out is None else out, indices[0] if return_indices else None
    return MaxPooled(y, indices) if return_indices else y


def _max_pool_backward(rank: int, grad_out: Array, indices: Array, input_shape: Sequence[int]) -> Array:
    backend = _dispatch.backend(grad_out=grad_out, indices=indices)
    shape = _checks.shape_argument("input_shape", input_shape, (rank + 2, rank + 1))
    _checks.array("grad_out", grad_out, (len(shape),))
    _checks.array("indices", indices, (len(shape),), INDICES)
    _checks.shape("indices", indices, grad_out.shape)
    _checks.shape("grad_out", grad_out, (*shape[:-rank], *grad_out.shape[-rank:]))
    if len(shape) == rank + 2:
        return _placed(backend.max_pool_backward(grad_out, indices, shape), indices, shape[-rank:])
    grad_x = backend.max_pool_backward(grad_out[np.newaxis], indices[np.newaxis], (1, *shape))
    return _placed(grad_x, indices, shape[-rank:])[0]  # type: ignore[no-any-return]


def _placed(grad_x: Array | None, indices: Array, sizes: tuple[int, ...]) -> Array:
    """Refuse indices of which one was outside of its plane."""
    if grad_x is None:
        size = int(np.prod(sizes))
        outside = indices[(indices < 0) | (indices >= size)].flat[0]
        raise ValueError(f"indices must be at least 0 and below {size}, the size of a plane of {sizes}, got {outside}")
    return grad_x


def _avg_pool(
    rank: int,
    x: Array,
    kernel_size: Sizes,
    stride: Sizes | None,
    padding: Padding,
    dilation: Sizes,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
    out: Array | None,
) -> Array:
    backend = _dispatch.backend(x=x, out=out)
    _checks.array("x", x, (rank + 2, rank + 1))
    window = _window("x", x.shape[-rank:], kernel_size, stride, padding, dilation, ceil_mode)
    divisor = None if divisor is None else _checks.integer("divisor_override", divisor, 1)
    _checks.output(out, (*x.shape[:-rank], *window.output_size[3 - rank :]), x.dtype)
    unbatched = x.ndim == rank + 1
    y: Array = backend.sum_pool_forward(
        _with_batch(x, unbatched), window, bool(count_include_pad), divisor, _with_batch(out, unbatched)
    )
    if not unbatched:
        return y
    return y[0] if out is None else out


def _avg_pool_backward(
    rank: int,
    grad_out: Array,
    input_shape: Sequence[int],
    kernel_size: Sizes,
    stride: Sizes | None,
    padding: Padding,
    dilation: Sizes,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Array:
    backend = _dispatch.backend(grad_out=grad_out)
    shape = _checks.shape_argument("input_shape", input_shape, (rank + 2, rank + 1))
    _checks.array("grad_out", grad_out, (len(shape),))
    window = _window("input_shape", shape[-rank:], kernel_size, stride, padding, dilation, ceil_mode)
    divisor = None if divisor is None else _checks.integer("divisor_override", divisor, 1)
    _checks.shape("grad_out", grad_out, (*shape[:-rank], *window.output_size[3 - rank :]))
    unbatched = len(shape) == rank + 1
    grad_x: Array = backend.sum_pool_backward(
        _with_batch(grad_out, unbatched), (1, *shape) if unbatched else shape, window, bool(count_include_pad), divisor
    )
    return grad_x[0] if unbatched else grad_x
