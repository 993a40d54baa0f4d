"""A weight that does not change, with what kernels have made of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np


class Prepared:
    """A copy of a weight and its forms: each is made by the first call that needs it and kept for the others.

    A form is made of the weight alone, so that their number does not grow with the sizes of images. Two threads that
    need the same form at the same time may both make it: one of two equal arrays is kept.
    """

    def __init__(self, weight: Any) -> None:
        self.weight = np.array(weight, order="C", subok=False)
        self.weight.setflags(write=False)
        self._forms: dict[Hashable, Any] = {}

    def form(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The form of that name, made if it is not there."""
        form = self._forms.get(key)
        return self._forms.setdefault(key, make()) if form is None else form
