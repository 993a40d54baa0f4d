"""Prepared weights: what a call makes of a weight before it computes, made once and kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv import _checks, _dispatch
from fastconv._window import Sizes

Array = npt.NDArray[Any]


class PackedWeight:
    """A weight as :func:`pack` prepares it; it has the ``shape`` and the ``dtype`` of the array that it was made of."""

    __slots__ = ("_numbers", "_prepared", "algorithm", "dilation", "dtype", "groups", "shape", "stride")

    def __init__(
        self, weight: Array, stride: tuple[int, ...], dilation: tuple[int, ...], groups: int, algorithm: str
    ) -> None:
        self._prepared = _dispatch.backend(weight=weight).Prepared(weight)
        self.shape: tuple[int, ...] = tuple(weight.shape)
        self.dtype: np.dtype[Any] = weight.dtype
        self.stride, self.dilation, self.groups, self.algorithm = stride, dilation, groups, algorithm
        same = len(set(stride)) == len(set(dilation)) == 1
        self._numbers = (stride[0], dilation[0], groups) if same else None  # as most calls spell them

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __repr__(self) -> str:
        return (
            f"PackedWeight(shape={self.shape}, dtype={self.dtype}, stride={self.stride}, dilation={self.dilation}, "
            f"groups={self.groups}, algorithm={self.algorithm!r})"
        )


def pack(
    weight: Array, stride: Sizes = 1, dilation: Sizes = 1, groups: int = 1, *, algorithm: str = "auto"
) -> PackedWeight:
    r"""Prepare a weight that does not change, for many calls of a convolution or a dense layer.

    A convolution first puts its weight in the order in which it is going to read it. For few pixels or images that
    takes a large share of a call. ``pack`` copies the weight, the first call that gets the copy prepares it for its
    algorithm, and the following calls find it ready. The results are the same to the last bit.

    Parameters
    ----------
    weight : ndarray of float16, bfloat16, float32 or float64, shape (O, C // groups, \*K) or (out, in)
        Kernels of a convolution with one, two or three axes, or the weight of a dense layer. Later changes of this
        array do not count.
    stride, dilation : int or tuple of int, default 1
        Of the convolution. A call must be given the same.
    groups : int, default 1
        Of the convolution. A call must be given the same.
    algorithm : {"auto", "direct", "winograd", "fft"}, default "auto"
        How to compute, as in :func:`conv2d`; it holds for all calls with this weight.

    Returns
    -------
    PackedWeight
        To be given to ``conv1d``, ``conv2d``, ``conv3d`` or :func:`linear` as ``weight``. Gradients take the array
        itself, which training changes at every step.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a shape, a size or an option does not fit.

    See Also
    --------
    conv2d, linear : take packed weights.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> kernel = np.array([[[[1, 2], [3, 4]]]], dtype=np.float32)
    >>> packed = fc.pack(kernel, stride=2)
    >>> packed
    PackedWeight(shape=(1, 1, 2, 2), dtype=float32, stride=(2, 2), dilation=(1, 1), groups=1, algorithm='auto')
    >>> fc.conv2d(np.ones((1, 1, 4, 4), np.float32), packed, stride=2)
    array([[[[10., 10.],
             [10., 10.]]]], dtype=float32)
    """
    _dispatch.backend(weight=weight)
    return PackedWeight(weight, *_checks.packing(weight, stride, dilation, groups, algorithm))


def unpacked(
    weight: Any, rank: int, stride: Sizes = 1, dilation: Sizes = 1, groups: int = 1, algorithm: str = "auto"
) -> tuple[Array, Any, str]:
    """The array of a call's weight, its preparation (None where it is not packed), and the call's algorithm."""
    if type(weight) is not PackedWeight:
        return weight, None, algorithm
    usual = type(stride) is type(dilation) is int and algorithm == "auto"  # spares small calls two microseconds
    if not (usual and rank == len(weight.stride) and (stride, dilation, groups) == weight._numbers):
        _checks.array("weight", weight, (rank + 2,))
        if rank > 0:
            _checks.packed(weight, stride, dilation, groups, algorithm)
    return weight._prepared.weight, weight._prepared, weight.algorithm
