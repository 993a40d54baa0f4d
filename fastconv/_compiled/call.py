"""The Python side of a call from compiled code."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastconv.cpu import _jit

FUNCTIONS: dict[str, Callable[..., Any]] = {}

_errors: dict[int, BaseException] = {}  # the last one of each thread, until its next call


class Pending(Exception):
    """What compiled code raises: to make one is to get the error that a call on this thread has left.

    So errors of all kinds pass through the caller's compiled functions as one constant, which holds no memory.
    """

    def __new__(cls, *error: BaseException) -> BaseException:  # type: ignore[misc]
        """The error; Numba and Python ask for it several times, the latter with what it has got."""
        return error[0] if error else _errors.get(threading.get_ident(), RuntimeError("a call was interrupted"))


class Site(NamedTuple):
    """A place in compiled code from which a public function is called."""

    name: str
    threads: bool  # whether several may be used
    names: tuple[str, ...]  # of the arguments that are not constants
    fixed: dict[str, Any]  # the constants
    kinds: tuple[str, ...]  # types of the others
    expected: tuple[Any, ...]  # of each result dtype, rank and whether it is contiguous
    key: bool  # whether there is a key, so that there may be a program


def call(where: tuple[Any, ...], key: int, keys: int, *values: Any) -> tuple[Any, int] | None:
    """The result of a public function and what the site needs, or None, and an error is pending."""
    _errors.pop(threading.get_ident(), None)
    try:
        site = Site(*where)
        function, arguments = FUNCTIONS[site.name], {**site.fixed, **dict(zip(site.names, values, strict=True))}
        with _jit.on_calling_thread(not site.threads or _jit.in_parallel_region()):
            result = _as_expected(site, function(**arguments))
            return result, _remember(site, function, arguments, key, keys) if site.key else 0
    except BaseException as error:
        _errors[threading.get_ident()] = error.with_traceback(None)  # which would hold the arguments
        return None


def _as_expected(site: Site, result: Any) -> Any:
    """The result with arrays of the dtypes, ranks and layouts that the caller was compiled for."""
    if not isinstance(result, tuple):
        return _as_array(site.name, result, site.expected[0])
    if len(result) != len(site.expected):
        count = len(site.expected)
        raise TypeError(f"{site.name} gave {len(result)} arrays where the calling code was compiled for {count}")
    return type(result)(*(_as_array(site.name, *each) for each in zip(result, site.expected, strict=True)))


def _as_array(name: str, result: Any, expected: tuple[str, int, bool]) -> Any:
    dtype, ndim, contiguous = expected
    if result.dtype != dtype or result.ndim != ndim:
        raise TypeError(
            f"{name} gave {result.ndim} dimensions of {result.dtype} where the calling code was compiled for {ndim} of "
            f"{dtype}"
        )
    # The memory order of a result is data; code for contiguous arguments was compiled for contiguous results.
    return np.ascontiguousarray(result) if contiguous and ndim else result


# ------------------------------------------------------------------------------------------------------------- programs
_sites: dict[str, Any] = {}  # what each needs: the addresses of ``find`` and of the table, and its number
_seen: dict[bytes, int] = {}  # how often there was a call with this key, -1 where there is no program for it


def _remember(site: Site, function: Callable[..., Any], arguments: dict[str, Any], key: int, keys: int) -> int:
    """Make a program of the second call of a kind."""
    from fastconv._compiled import program

    needs = _needs(site)
    words = np.ctypeslib.as_array(ctypes.cast(key, ctypes.POINTER(ctypes.c_int64)), (keys,)).copy()
    words[0] = needs[2]
    bits = words.tobytes()
    if len(_seen) >= 2 * program.MOST:
        _seen.clear()
    times = _seen.get(bits, 0)
    if times == 0:
        _seen[bits] = 1
    elif times == 1:
        _seen[bits] = -1
        try:
            program.keep(function, arguments, site.expected, words)
        except (program.Refused, MemoryError) as why:  # the call itself has its result: it goes on without a program
            REFUSED.append((site.name, str(why)))
    return int(needs.ctypes.data)


REFUSED: list[Any] = []


def _needs(site: Site) -> Any:
    from fastconv._compiled import program

    text = repr(site)
    if text not in _sites:
        _sites[text] = np.array([*program.site(), len(_sites)], np.int64)
    return _sites[text]
