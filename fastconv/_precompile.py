"""Compiling ahead of the first call."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import fastconv
from fastconv import _checks, cpu
from fastconv._samples import Sample, samples


def operations() -> list[str]:
    """The names of all operations on arrays."""
    return sorted({sample.operation for sample in samples(np.float32)})


def precompile(
    ops: Sequence[str] | None = None,
    dtypes: Sequence[npt.DTypeLike] = ("float32", "float64"),
    *,
    progress: bool = False,
) -> int:
    """Compile operations now, so that no later call waits for the compiler.

    What is compiled is kept on disk and serves later processes of the same machine, too: call it once where a container
    image is built, or ``python -m fastconv precompile``.

    Parameters
    ----------
    ops : sequence of str, optional
        Names of functions, such as ``("conv2d", "conv2d_backward")``; all by default.
    dtypes : sequence of dtypes
        float32, float64 or both.
    progress : bool
        Show a bar on standard error; it needs tqdm, and without tqdm nothing is shown.

    Returns
    -------
    int
        The number of compilations that were not there before.

    Raises
    ------
    ValueError
        If an operation is unknown.
    TypeError
        If a dtype is none that operations take.

    Examples
    --------
    >>> import fastconv as fc
    >>> _ = fc.precompile(ops=["relu"], dtypes=["float32"])
    >>> fc.precompile(ops=["relu"], dtypes=["float32"])
    0
    """
    chosen = _chosen(operations() if ops is None else ops, dtypes)
    before = cpu.compilations()
    bar = _bar(progress)
    for sample in bar(chosen):
        getattr(fastconv, sample.operation)(*sample.arguments, **sample.options)
    return cpu.compilations() - before


def _chosen(ops: Sequence[str], dtypes: Sequence[npt.DTypeLike]) -> list[Sample]:
    known = operations()
    if isinstance(ops, str) or any(name not in known for name in ops):
        raise ValueError(f"ops must be names of operations, such as {known[0]!r}, got {ops!r}")
    kinds = [np.dtype(dtype) for dtype in dtypes]
    if any(kind not in _checks.FLOATS for kind in kinds):
        raise TypeError(f"dtypes must be float32 or float64, got {', '.join(map(str, kinds))}")
    return [sample for kind in kinds for sample in samples(kind) if sample.operation in ops]


def _bar(progress: bool) -> Callable[[Iterable[Any]], Iterable[Any]]:
    if progress:
        try:
            tqdm = importlib.import_module("tqdm").tqdm
        except ImportError:
            return iter
        return lambda items: tqdm(items, unit="call", leave=False)
    return iter
