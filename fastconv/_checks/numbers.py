"""Numbers, sizes and words that are given as arguments."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from fastconv._window import Pairs

LIMIT = 2**31  # of one size or step; sums and products of a few of them stay inside int64


def integer(name: str, value: Any, minimum: int) -> int:
    """``value`` as an int of at least ``minimum``; bools and floats are refused."""
    if type(value) is int and minimum <= value < LIMIT:  # the usual case, and this runs often
        return value
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int, got {value!r}") from None
    if not minimum <= number < LIMIT:
        raise ValueError(f"{name} must be at least {minimum} and below 2**31, got {number}")
    return number


def integers(name: str, value: Any, count: int, minimum: int) -> tuple[int, ...]:
    """One int for all ``count`` axes, or one int per axis, as a tuple."""
    if type(value) is int and minimum <= value < LIMIT:
        return (value,) * count
    if isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim == 1):
        if len(value) != count:
            raise ValueError(f"{name} must be an int or {count} ints, got {len(value)} values: {tuple(value)}")
        return tuple(integer(name, item, minimum) for item in value)
    return (integer(name, value, minimum),) * count


def padding(value: Any, count: int) -> Pairs | str:
    """``padding`` as one (before, after) pair per axis, or "same" / "same_lower"."""
    if type(value) is int and 0 <= value < LIMIT:
        return ((value, value),) * count
    if isinstance(value, str):
        if value == "valid":
            return ((0, 0),) * count
        if value not in ("same", "same_lower"):
            raise ValueError(f'padding must be ints, pairs, "valid", "same" or "same_lower", got {value!r}')
        return value
    if isinstance(value, (tuple, list)) and any(isinstance(item, (tuple, list)) for item in value):
        if len(value) != count or any(not isinstance(item, (tuple, list)) or len(item) != 2 for item in value):
            raise ValueError(f"padding must have one (before, after) pair for each of {count} axes, got {value!r}")
        return tuple((integer("padding", low, 0), integer("padding", high, 0)) for low, high in value)
    return tuple((item, item) for item in integers("padding", value, count, 0))


def activation(value: Any) -> bool:
    """Whether the result passes through ReLU."""
    if value is None:
        return False
    if isinstance(value, str) and value == "relu":
        return True
    raise ValueError(f'activation must be None or "relu", got {value!r}')


def real(name: str, value: Any) -> float:
    """``value`` as a float; bools and what is not a number are refused."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a real number, got {value!r}")
    return float(value)


def option(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """``value`` is one of these words."""
    if not isinstance(value, str) or value not in allowed:
        words = ", ".join(f'"{word}"' for word in allowed[:-1])
        raise ValueError(f'{name} must be {words} or "{allowed[-1]}", got {value!r}')
