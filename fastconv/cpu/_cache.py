"""Compiled kernels on disk: where they are kept, and what happens where that does not work.

A compilation is a file of its own, written beside its place and then moved there, and begins with the checksum of the
rest. Processes that compile the same at the same time thus leave one whole file, and a damaged one is never run.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import pickle
import re
import shutil
import sys
import time
import uuid
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import caching, compiler, config
from numba.core.runtime import rtsys
from numba.core.serialize import dumps
from numba.misc.appdirs import AppDirs

from fastconv.cpu import _target

_KERNELS = pathlib.Path(__file__).parent  # what is kept is compiled from this folder's sources, and from no others
_COMPILER_FLAGS = ("BOUNDSCHECK", "DEBUGINFO_DEFAULT", "DISABLE_INTEL_SVML", "LOOP_VECTORIZE", "OPT", "SLP_VECTORIZE")
_FOLDERS = 8  # of other versions that are left, the most recently used
_ABANDONED = 3600  # seconds after which nobody goes on writing a file
_CHECKSUM = hashlib.sha256().digest_size


def _sources() -> bytes | None:
    """The hash of what kernels are compiled from, and of the file that has the version; None for no such files."""
    digest = hashlib.sha256()
    try:
        for source in [_KERNELS.parent / "__init__.py", *sorted(_KERNELS.rglob("*.py"))]:
            digest.update(source.read_bytes())
    except OSError:  # a package in an archive, or without sources
        return None
    return digest.digest()


_LOADED = _sources()  # before any module with kernels is


# ----------------------------------------------------------------------------------------------------------- the folder
@cache
def directory() -> pathlib.Path | None:
    """The folder of exactly these sources, compilers and this processor; None switches caching off.

    Numba's own key holds neither callees in other files nor compiler flags; here the sources' hash covers all of them.
    """
    setting = os.environ.get("FASTCONV_CACHE_DIR")
    if setting == "" or _LOADED is None:
        return None
    if _sources() != _LOADED:  # an upgrade between import and first use: what runs may be of both
        return None
    root = pathlib.Path(setting or AppDirs("fastconv", appauthor=False).user_cache_dir)
    if not setting and not root.is_absolute():
        _warn("this user has no home directory")
        return None
    return root.absolute() / _folder(_LOADED)


def _folder(sources: bytes) -> str:
    python = sys.implementation.cache_tag, sys.abiflags if hasattr(sys, "abiflags") else ""
    versions = numba.__version__, llvmlite.__version__, np.__version__, *python
    flags = [(name, getattr(config, name, None)) for name in _COMPILER_FLAGS]
    machine = *_target.magic(), _target.L2_BYTES
    return hashlib.sha256(sources + repr((versions, flags, machine)).encode()).hexdigest()[:20]


def is_kept(function: Callable[..., Any]) -> bool:
    """Whether the name of the folder says what this function is."""
    return _KERNELS in pathlib.Path(function.__code__.co_filename).parents


@cache
def _used(folder: pathlib.Path) -> None:
    """Once in a process: says that the folder is in use, which spares it from :func:`_prune`."""
    with contextlib.suppress(OSError):  # not there yet, or not ours
        os.utime(folder)


@cache
def _prune(folder: pathlib.Path) -> None:
    """Once in a process that compiles: removes folders of other versions, and files that nobody finished.

    A process that still uses one of them compiles again what it has not loaded.
    """
    named = [other for other in folder.parent.iterdir() if re.fullmatch("[0-9a-f]{20}", other.name) and other != folder]
    for other in sorted(named, key=_last_use)[:-_FOLDERS]:
        shutil.rmtree(other, ignore_errors=True)
    for path in folder.glob("*.tmp"):
        if _last_use(path) < time.time() - _ABANDONED:
            path.unlink(missing_ok=True)


def _last_use(path: pathlib.Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


# ------------------------------------------------------------------------------------------------------------ the files
_warned = False


def _warn(reason: object) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(f"fastconv compiles anew what its cache does not keep: {reason}", stacklevel=2)


def _read(path: pathlib.Path, key: Any) -> Any:
    """What was written there for the key; None where there is nothing, or nothing whole."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(content[_CHECKSUM:]).digest() != content[:_CHECKSUM]:
        _warn(f"{path} is damaged")
        return None
    written_key, payload = pickle.loads(content[_CHECKSUM:])
    return payload if written_key == key else None


def _write(path: pathlib.Path, key: Any, payload: Any) -> None:
    content = dumps((key, payload))
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _prune(path.parent)
        try:
            unfinished.write_bytes(hashlib.sha256(content).digest() + content)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        if not path.exists():  # Windows moves nothing onto a file that another process reads
            _warn(f"it cannot be written ({error})")


class Compilations(caching._Cache):  # type: ignore[misc]
    """The compilations of one function on disk: what Numba's dispatchers ask for."""

    def __init__(self, function: Callable[..., Any], part: str = "") -> None:
        line = function.__code__.co_firstlineno
        self._name = f"{function.__module__}.{function.__qualname__}-{line}{part}".replace("<locals>.", "")

    def _place(self, signature: Any) -> tuple[pathlib.Path, Any] | None:
        """The file of a signature and the key that it has to have."""
        folder = directory()
        if folder is None:
            return None
        key = self._name, signature
        return folder / f"{self._name}.{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.nbc", key

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        place = self._place(sig)
        if place is None:
            return None
        _used(place[0].parent)
        payload = _read(*place)
        if payload is None:
            return None
        rtsys.initialize(target_context)  # Numba would import all that it can compile, which takes a fifth of a second
        return compiler.CompileResult._rebuild(target_context, *payload)

    def save_overload(self, sig: Any, data: Any) -> None:
        place = self._place(sig)
        if place is not None and not data.library.has_dynamic_globals:
            _write(*place, data._reduce())

    @property
    def cache_path(self) -> str | None:
        folder = directory()
        return None if folder is None else str(folder)

    def enable(self) -> None:
        """Caching is switched by the environment only."""

    disable = flush = enable
