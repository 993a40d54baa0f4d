"""From a call in Python to a program: the launches are taken down in two runs on copies of the arguments.

An argument of a kernel is a number, or an array that belongs to the caller, was made on the way (``_jit.made``), or
was there in both runs: a plan. Whatever else there is, or differs between the runs, shows that a call does more than
to launch kernels, and then there is no program.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastconv.cpu import _jit, replay

MOST = replay.PLACES // 2  # programs; calls for which there is no room left go through Python

_table = np.zeros(replay.PLACES, np.int64)
_kept: list[Any] = []  # programs, and the plans that they point to
_lock = threading.Lock()


class Refused(Exception):
    """There is no program for a call."""


# ------------------------------------------------------------------------------------------------------------ recording
class Made(NamedTuple):
    """An array that was made on the way."""

    array: Any
    cleared: bool
    flag: bool


class Recording:
    """One run: what was launched and what was made."""

    def __init__(self) -> None:
        self.steps: list[tuple[Any, tuple[Any, ...]]] = []
        self.arrays: list[Made] = []
        self.reason: str | None = None
        self.scalar: Any = None  # the array of which a scalar result is the only element

    def launch(self, core: Any, args: tuple[Any, ...]) -> None:
        self.steps.append((core, (0, 1, *args)))

    def made(self, array: Any, cleared: bool) -> None:
        self.arrays.append(Made(array, cleared, False))

    def flag(self, array: Any) -> None:
        self.arrays.append(Made(array, True, True))

    def refuse(self, reason: str) -> None:
        self.reason = reason


class Run(NamedTuple):
    """A recording with the arguments and results of its run."""

    recording: Recording
    arguments: list[Any]
    results: list[Any]


def _run(function: Callable[..., Any], arguments: dict[str, Any]) -> Run:
    copies = {name: _copy(value) if isinstance(value, np.ndarray) else value for name, value in arguments.items()}
    recording = Recording()
    with _jit.recorded(recording):
        result = function(**copies)
    if isinstance(result, np.generic):
        result = np.empty(1) if recording.scalar is None else recording.scalar.reshape(())
    results = list(result) if isinstance(result, tuple) else [result]
    return Run(recording, [value for value in copies.values() if isinstance(value, np.ndarray)], results)


def _copy(array: Any) -> Any:
    """A copy with the very same strides, of an array without gaps."""
    if array.size == 0 or not _is_dense(array) or not array.flags.aligned:
        raise Refused("an argument is empty, or has gaps")
    order = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
    memory = np.array(array.transpose(order), order="C").reshape(-1)
    copy = np.lib.stride_tricks.as_strided(memory, array.shape, array.strides)
    if not array.flags.writeable:
        copy.setflags(write=False)
    return copy


def _is_dense(array: Any) -> bool:
    steps = [step for step, size in zip(array.strides, array.shape, strict=True) if size > 1]
    reach = sum(step * (size - 1) for step, size in zip(array.strides, array.shape, strict=True))
    return all(step > 0 for step in steps) and reach + array.itemsize == array.nbytes


# --------------------------------------------------------------------------------------------------------- the program
class Place(NamedTuple):
    """Where an array lies: in a buffer (see replay), or nowhere but at an address of its own."""

    buffer: int | None
    offset: int


class _Memory:
    """The buffers of a run: arguments, results, and what was made, in an arena."""

    def __init__(self, run: Run) -> None:
        self.ranges: list[tuple[int, int, Place]] = []
        self.zeros: list[tuple[int, int]] = []
        self.flags: list[int] = []
        self.words = 0
        outside = [*run.arguments, *run.results]
        made = {_start(each.array): each for each in run.recording.arrays}
        for index, array in enumerate(outside):
            if index >= len(run.arguments):
                each = made.pop(_start(array), None)
                if each is None or each.cleared or each.array.nbytes != array.nbytes or not _is_dense(array):
                    raise Refused("a result is not what a kernel wrote")
            self._add(array, Place(index, 0))
        for each in made.values():
            self._add_scratch(each)

    def _add(self, array: Any, place: Place) -> None:
        self.ranges.append((_start(array), _start(array) + array.nbytes, place))

    def _add_scratch(self, each: Made) -> None:
        words = -(-each.array.nbytes // 64) * 8
        self._add(each.array, Place(-1, 8 * self.words))
        if each.cleared:
            self.zeros.append((self.words, words))
        if each.flag:
            self.flags.append(self.words)
        self.words += words

    def place(self, array: Any) -> Place:
        start = _start(array)
        for first, last, place in self.ranges:
            if first <= start and start + array.nbytes <= last:
                return place._replace(offset=place.offset + start - first)
        return Place(None, start)


def _start(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def _words(run: Run) -> tuple[_Memory, list[tuple[Any, tuple[Any, ...], list[Any]]]]:
    """For each step the kernel, its arguments' types, and what they are: numbers, or places with sizes."""
    memory = _Memory(run)
    steps = []
    for core, args in run.recording.steps:
        kinds = tuple(core.typeof_pyval(arg) for arg in args)
        words: list[Any] = []
        for arg in args:
            words += _array_words(arg, memory.place(arg)) if isinstance(arg, np.ndarray) else [_number(arg)]
        steps.append((core, kinds, words))
    return memory, steps


def _array_words(array: Any, place: Place) -> list[Any]:
    """An array as machine code takes it: no owner, elements, size of one, address, shape, strides."""
    address: Any = place if array.size else Place(None, _start(_table))
    return [0, 0, array.size, array.itemsize, address, *array.shape, *array.strides]


def _number(value: Any) -> int:
    if isinstance(value, (float, np.floating)):
        return int(np.asarray(value).view(np.int32 if isinstance(value, np.float32) else np.int64))
    return int(value)


def _numbers(key: Any, run: Run, memory: _Memory, steps: list[Any]) -> Any:
    """The program, see replay."""
    lists: list[int] = []
    head = len(replay.Header._fields)

    def add(numbers: Any) -> int:
        lists.extend(map(int, numbers))
        return head + len(lists) - len(numbers)

    keys = add(key)
    results = add([n for y in run.results for n in (y.nbytes, y.size, *y.shape, *y.strides)])
    blocks = [_step(*step) for step in steps]
    step_list = add([n for block in blocks for n in block])
    header = replay.Header(
        _hash(key), len(key), keys, replay.execute().address, results, memory.words, max(block[1] for block in blocks),
        len(blocks), step_list, len(memory.zeros), add([n for pair in memory.zeros for n in pair]),
        len(memory.flags), add(memory.flags),
    )  # fmt: skip
    return np.array([*header, *lists], np.int64)


def _step(core: Any, kinds: tuple[Any, ...], words: list[Any]) -> list[int]:
    trampoline, address = replay.entry(core, kinds)
    patches = [n for k, word in enumerate(words) if isinstance(word, Place) and word.buffer is not None
               for n in (k + 1, word.buffer, word.offset)]  # fmt: skip
    numbers = [address, *(word.offset if isinstance(word, Place) else word for word in words)]
    return [trampoline, len(numbers), len(patches) // 3, *numbers, *patches]


def _pointer(numbers: Any) -> Any:
    return numbers.ctypes.data_as(ctypes.POINTER(ctypes.c_int64))


def _hash(key: Any) -> int:
    return int(replay.hash_key().ctypes(_pointer(key), len(key)))


# ------------------------------------------------------------------------------------------------------------ the table
def site() -> Any:
    """What a place in compiled code needs to look for programs: addresses of ``find`` and of the table."""
    return replay.find().address, _start(_table)


def keep(function: Callable[..., Any], arguments: dict[str, Any], expected: Any, key: Any) -> None:
    """Make a program of a call and put it into the table, if there can be one."""
    if len(_kept) >= MOST:
        raise Refused("there is no room")
    first, second = _run(function, arguments), _run(function, arguments)
    for run in (first, second):
        if run.recording.reason is not None or not run.recording.steps:
            raise Refused(run.recording.reason or "nothing was launched")
    if any(layout and not y.flags.c_contiguous for y, (_, _, layout) in zip(first.results, expected, strict=True)):
        raise Refused("the result's memory order is another")
    (memory, steps), (_, again) = _words(first), _words(second)
    if steps != again:
        raise Refused("two runs differ: an array comes from elsewhere")
    program = _numbers(key, first, memory, steps)
    plans = [arg for _, args in first.recording.steps for arg in args if isinstance(arg, np.ndarray)
             and arg.size and memory.place(arg).buffer is None]  # fmt: skip
    _compare(program, first)
    with _lock:
        place = program[0] & (replay.PLACES - 1)
        while _table[place] != 0:
            place = (place + 1) & (replay.PLACES - 1)
        _kept.append((program, plans))
        _table[place] = _start(program)


def _compare(program: Any, run: Run) -> None:
    """Refuse a program that does not give the results of the run it was made from."""
    results = [np.empty_like(result) for result in run.results]
    buffers = np.array([_start(array) for array in (*run.arguments, *results)], np.int64)
    failed = replay.execute().ctypes(_pointer(program), _pointer(buffers))
    alike = all(a.tobytes() == b.tobytes() for a, b in zip(results, run.results, strict=True))
    if failed or not alike:
        raise Refused("the program gives something else")
