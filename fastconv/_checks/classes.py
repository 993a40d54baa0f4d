"""Axes of classes, and labels."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from fastconv._checks.numbers import LIMIT, integer


def axis(name: str, x: Any, value: Any) -> int:
    """An axis of ``x``, counted from the front."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"axis must be an int, got {value!r}") from None
    if x.ndim == 0:
        raise ValueError(f"{name} must have at least 1 dimension, got 0 (shape ())")
    if not -x.ndim <= number < x.ndim:
        raise ValueError(f"axis must be from {-x.ndim} to {x.ndim - 1} for {name} of shape {x.shape}, got {number}")
    return int(number % x.ndim)


def label_shape(logits: Any, value: Any, ignore_index: Any) -> int:
    """Each column of ``logits`` has a label, an integer; ``ignore_index`` as an int."""
    number = integer("ignore_index", ignore_index, -LIMIT)
    if logits.ndim == 0:
        raise ValueError("logits must have at least 1 dimension, got 0 (shape ())")
    if value.dtype.kind not in "iu":
        raise TypeError(f"labels must have an integer dtype, got {value.dtype}")
    expected = logits.shape[:1] + logits.shape[2:] if logits.ndim > 1 else ()
    if tuple(value.shape) != expected:
        raise ValueError(
            f"labels must have shape {expected} for logits of shape {logits.shape}, got {tuple(value.shape)}"
        )
    return number


def labels(logits: Any, value: Any, ignore_index: int) -> None:
    """Each label names a class or is ignored."""
    classes = logits.shape[min(logits.ndim - 1, 1)]
    # As unsigned numbers negative ones are large: small batches notice a pass that is spared.
    if value.size == 0 or np.maximum.reduce(value.view(value.dtype.str.replace("i", "u")), axis=None) < classes:
        return
    wrong = (value != ignore_index) & ((value < 0) | (value >= classes))
    if wrong.any():
        raise ValueError(
            f"labels must be from 0 to {classes - 1} or ignore_index = {ignore_index}, got {value[wrong].flat[0]}"
        )
