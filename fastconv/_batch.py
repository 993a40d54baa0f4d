"""Images without a batch axis: they get one on the way in, and results lose it on the way out."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def with_batch(array: Any, unbatched: bool) -> Any:
    """An array with its batch axis, which one without a batch gets here; None stays None."""
    return array[np.newaxis] if unbatched and array is not None else array


def without_batch(result: Any, unbatched: bool, out: Any = None) -> npt.NDArray[Any]:
    """What the caller gets: ``out`` itself where it was given, else the result without the axis that was added."""
    array: npt.NDArray[Any] = (result[0] if unbatched else result) if out is None else out
    return array
