"""Throws odd arguments at every public function: ``python -m tests.anywhere.fuzz --cases 20000 --seed 1``.

A call with some arguments replaced gives the result that contiguous copies of the same arguments give, or raises
ValueError, TypeError or MemoryError. Inputs are not written, and ``out`` only where nothing is raised. Arrays lie
before pages that may not be touched, so that reading beyond one ends the process: its last line names the case.
"""

import argparse
import inspect
import resource
import sys

import numpy as np

import fastconv as fc
from fastconv._samples import samples
from tests import guard_pages
from tests.guard_pages import guarded

REFUSALS = (ValueError, TypeError, MemoryError)
MEMORY = 6 << 30  # bytes of address space: what asks for more gets MemoryError
DTYPES = ("f2", "f4", "f8", ">f4", "i1", "i8", "u8", "?", "c8", "O", "U3", "M8[s]")


class Index:
    """Something that counts as an int, with a mind of its own."""

    def __init__(self, answer):
        self.answer = answer

    def __index__(self):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


VALUES = [
    -1, 0, 1, 2, 3, 5, 2**31 - 1, 2**31, 2**63 - 1, 2**63, 2**64, -(2**63), -(2**200), True, False, 1.0, 2.5, np.nan,
    np.inf, -np.inf, None, "", "same", "auto", "relu", b"x", (), (1,), (2, 2), (2, 2, 2), (-1, 2), [1, 2],
    ((1, 0), (0, 1)), ((1, 2, 3),), {}, {1}, 1j, np.int8(-3), np.uint64(2**63), np.float32(2), np.bool_(True),
    np.array(2), np.array([2, 1]), np.array([1.5, 2]), slice(None), Ellipsis, Index(2), Index(-5), Index(2**40),
    Index(ValueError("no")), object, print,
]  # fmt: skip


class Fuzzer:
    """Cases in an order that the seed decides."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.samples = [sample for dtype in ("f4", "f8") for sample in samples(dtype)]
        self.samples += [sample for sample in samples("f4") if sample.operation != "pack"]

    def pick(self, items):
        return items[self.random.integers(len(items))]

    def case(self):
        """A function's name, and arguments of which one to three are odd."""
        sample = self.pick(self.samples)
        function = getattr(fc, sample.operation)
        bound = inspect.signature(function).bind(*sample.arguments, **sample.options)
        arguments = {name: self.placed(value) for name, value in bound.arguments.items()}
        for _ in range(self.random.integers(1, 4)):
            name = self.pick(list(inspect.signature(function).parameters))
            arguments[name] = self.odd(arguments.get(name))
        return sample.operation, arguments

    def placed(self, value):
        return guarded(value, True) if isinstance(value, np.ndarray) and value.size else value

    def odd(self, value):
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiu" and self.random.random() < 0.85:
            return self.pick([self.cast, self.strided, self.resized, self.valued, self.other_rank])(value)
        if isinstance(value, tuple) and value and self.random.random() < 0.6:
            changed = list(value)
            changed[self.random.integers(len(changed))] = self.pick(VALUES)
            return tuple(changed)
        return self.pick(VALUES)

    def cast(self, array):
        with np.errstate(all="ignore"):
            return array.astype(self.pick(DTYPES))

    def strided(self, array):
        """Transposed, backwards, with gaps, constant along axes, overlapping itself, at an odd address, read-only."""
        axes = self.random.permutation(array.ndim)
        first = array[:1] if array.ndim else array
        windows = np.lib.stride_tricks.as_strided(
            array, array.shape, [max(s // 2, 1) // array.itemsize * array.itemsize for s in array.strides]
        )
        odd = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
        odd[...] = array
        read_only = array.copy()
        read_only.flags.writeable = False
        return self.pick([
            array.transpose(axes).copy().transpose(np.argsort(axes)), array[(slice(None, None, -1),) * array.ndim],
            array.repeat(2, -1)[..., ::2] if array.ndim else array, np.broadcast_to(first, array.shape), windows, odd,
            read_only, array.view(np.ma.MaskedArray), np.asfortranarray(array),
        ])  # fmt: skip

    def resized(self, array):
        sizes = [self.pick([0, 1, size, size, size, size + 1, max(size - 1, 0)]) for size in array.shape]
        return self.placed(np.resize(array, sizes))

    def valued(self, array):
        changed = array.copy()
        if changed.size and changed.dtype.kind == "f":
            number = self.pick([np.nan, np.inf, -np.inf, np.finfo(changed.dtype).smallest_subnormal, 0.0])
            changed.reshape(-1)[self.random.integers(changed.size)] = number
        elif changed.size and changed.dtype.kind == "i":
            number = np.int64(self.pick([-1, 10**6, 2**40, -(2**63)]))
            changed.reshape(-1)[self.random.integers(changed.size)] = number.astype(changed.dtype)
        return self.placed(changed)

    def other_rank(self, array):
        return self.pick([array[np.newaxis], array[..., np.newaxis], array.reshape(-1), array.tolist(), array.sum()])


def plain(value):
    return np.array(value, order="C") if type(value) is np.ndarray else value


def memories(arguments):
    """The bytes of all arrays of numbers."""
    arrays = {name: value for name, value in arguments.items() if isinstance(value, np.ndarray)}
    return {name: value.tobytes() for name, value in arrays.items() if not value.dtype.hasobject}


def check(name, arguments):
    """Whether the call was answered; an AssertionError, or any other error, is a bug."""
    function, before = getattr(fc, name), memories(arguments)
    try:
        result = function(**arguments)
    except REFUSALS:
        assert memories(arguments) == before, "something was written before the arguments were refused"
        return False
    before.pop("out", None)
    assert memories(arguments).items() >= before.items(), "an input was written"
    if name != "pack":
        results = [tuple(each) if isinstance(each, tuple) else (each,) for each in (
            result, function(**{key: plain(value) for key, value in arguments.items()})
        )]  # fmt: skip
        for ours, theirs in zip(*results, strict=True):
            same(np.asarray(ours), np.asarray(theirs))
    return True


def same(ours, theirs):
    assert ours.dtype == theirs.dtype
    rough = 2e-2 if ours.dtype.itemsize == 2 else 1e-3
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    finite = np.abs(b[np.isfinite(b)])
    np.testing.assert_allclose(a, b, rtol=rough, atol=rough * max(1.0, finite.max(initial=0)))


def described(name, arguments):
    def text(value):
        if isinstance(value, np.ndarray):
            return f"<{value.dtype.str} {value.shape} strides {value.strides}>"
        return repr(value)[:80]

    return f"{name}({', '.join(f'{key}={text(value)}' for key, value in arguments.items())})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    fuzzer, answered, bugs = Fuzzer(options.seed), 0, 0
    for number in range(options.cases):
        name, arguments = fuzzer.case()
        print(number, described(name, arguments), flush=True)
        try:
            answered += check(name, arguments)
        except Exception as error:
            bugs += 1
            print(f"BUG {number}: {type(error).__name__}: {str(error)[:500]}", flush=True)
        del arguments
        guard_pages._memory.clear()
    print(f"{options.cases} cases, {answered} answered, {bugs} bugs")
    sys.exit(bugs > 0)


if __name__ == "__main__":
    main()
