"""Memory that says what is wrong with an access.

An address is a byte offset into one buffer. What is tracked is tracked for *granules*, the narrowest access of a
kernel: who wrote and who read one since the last barrier. Two threads meet in a race if one of them writes.
"""

from __future__ import annotations

import numpy as np

GAP = 256  # bytes between arrays, which nobody may touch; also what keeps the alignment of their addresses


class Fault(Exception):
    """An access that a GPU would not carry out, or whose result would be up to chance."""

    def __init__(self, message: str, lane: int) -> None:
        super().__init__(message)
        self.lane = lane


def _first(bad, lanes) -> int:
    return int(lanes[np.argmax(bad)])


class Races:
    """Who wrote and read each granule last; ``epoch`` counts barriers."""

    def __init__(self, granules: int, threads: int) -> None:
        self.writer = np.full(granules, -1, np.int64)
        self.reader = np.full(granules, -1, np.int64)
        self.threads = threads
        self.base = 0  # marks of this epoch are base + thread, or base + threads for "several"

    def barrier(self) -> None:
        self.base += self.threads + 1

    def read(self, at, lanes) -> None:
        mine = lanes + self.base
        last = self.writer[at]
        bad = (last >= self.base) & (last != mine)
        if bad.any():
            raise Fault("race: reads what another thread wrote, with no barrier between", _first(bad, lanes))
        several = self.base + self.threads
        last = self.reader[at]
        self.reader[at] = np.where((last >= self.base) & (last != mine), several, mine)
        shared = self.reader[at] != mine
        if shared.any():
            self.reader[at[shared]] = several

    def write(self, at, lanes) -> None:
        mine = lanes + self.base
        for last, what in ((self.writer[at], "wrote"), (self.reader[at], "read")):
            bad = (last >= self.base) & (last != mine)
            if bad.any():
                raise Fault(f"race: writes what another thread {what}, with no barrier between", _first(bad, lanes))
        self.writer[at] = mine
        bad = self.writer[at] != mine
        if bad.any():
            raise Fault("race: two threads write to one place", _first(bad, lanes))


class Memory:
    """A buffer, with a view for each type, and its races and written places."""

    def __init__(self, size: int, granule: int, threads: int, checked: bool = True) -> None:
        self.buffer = np.zeros(-(-size // 8) * 8, np.uint8)
        self.granule = granule
        self.races = Races(-(-size // granule), threads) if checked else None
        self.written = np.zeros(-(-size // granule), bool)
        self._views: dict = {}

    def view(self, dtype):
        dtype = np.dtype(dtype)
        if dtype not in self._views:
            self._views[dtype] = self.buffer.view(dtype)
        return self._views[dtype]

    def load(self, at, dtype, count, lanes):
        self._track(at, dtype, count, lanes, reading=True)
        return self.gather(at, dtype, count)

    def store(self, at, values, lanes) -> None:
        dtype = values[0].dtype
        self._track(at, dtype, len(values), lanes, reading=False)
        self.scatter(at, values)

    def gather(self, at, dtype, count):
        index = at // np.dtype(dtype).itemsize
        view = self.view(dtype)
        return [view[index + i] if i else view[index] for i in range(count)]

    def scatter(self, at, values) -> None:
        index = at // values[0].dtype.itemsize
        view = self.view(values[0].dtype)
        for i, value in enumerate(values):
            view[index + i] = value

    def _track(self, at, dtype, count, lanes, reading) -> None:
        first, number = at // self.granule, np.dtype(dtype).itemsize * count // self.granule
        for i in range(number):
            place = first + i if i else first
            if reading and not (good := self.written[place]).all():
                raise Fault("reads what nobody has written", _first(~good, lanes))
            if self.races is not None:
                (self.races.read if reading else self.races.write)(place, lanes)
            if not reading:
                self.written[place] = True


class Shared(Memory):
    """Shared memory of all blocks that run together: that of a lane's block begins at ``bases[lane]``."""

    def __init__(self, size: int, granule: int, blocks: int, threads: int, checked: bool = True) -> None:
        self.size = -(-size // GAP) * GAP
        super().__init__(self.size * blocks, granule, blocks * threads, checked)
        self.limit = size
        self.bases = np.repeat(np.arange(blocks, dtype=np.int64) * self.size, threads)

    def place(self, address, width, lanes):
        """Offsets into the buffer for addresses within a block's memory."""
        check_alignment(address, width, lanes)
        bad = (address < 0) | (address + width > self.limit)
        if bad.any():
            raise Fault(f"out of bounds of {self.limit} bytes of shared memory", _first(bad, lanes))
        return address + self.bases[lanes]


class Global(Memory):
    """The arrays of one launch, each with nothing around it, at addresses that keep the alignment of the caller's."""

    BASE = 0x7F00_0000_0000

    def __init__(self, arrays: list[tuple[int, np.ndarray]], granule: int, threads: int, checked: bool = True) -> None:
        """``arrays``: the caller's address and the bytes there; ranges that overlap lie in one."""
        self.ranges: list[tuple[int, np.ndarray]] = []
        for address, data in sorted(arrays, key=lambda item: item[0]):
            self._add(address, data)
        self.starts, end = [], GAP
        for address, data in self.ranges:
            self.starts.append(end + address % GAP)
            end = -(-(self.starts[-1] + len(data)) // GAP) * GAP + GAP
        super().__init__(end, granule, threads, checked)
        self.ends = [start + len(data) for start, (_, data) in zip(self.starts, self.ranges, strict=True)]
        for start, (_, data) in zip(self.starts, self.ranges, strict=True):
            self.buffer[start : start + len(data)] = data
        self.written[:] = True  # whether the caller's arrays hold anything is not known here
        self.inside = np.zeros(len(self.buffer), bool)
        for start, stop in zip(self.starts, self.ends, strict=True):
            self.inside[start:stop] = True

    def _add(self, address, data) -> None:
        if self.ranges and self.ranges[-1][0] + len(self.ranges[-1][1]) > address:
            before, whole = self.ranges[-1]
            if address + len(data) > before + len(whole):
                raise NotImplementedError("two arguments overlap in part")
        elif len(data):
            self.ranges.append((address, data))

    def address(self, pointer: int) -> int:
        """Where the byte at the caller's ``pointer`` is for the kernel."""
        for (address, data), start in zip(self.ranges, self.starts, strict=True):
            if address <= pointer < address + len(data):
                return self.BASE + start + pointer - address
        return self.BASE  # an empty array: no access is allowed

    def place(self, address, width, lanes):
        check_alignment(address, width, lanes)
        at = address - self.BASE
        bad = (at < 0) | (at + width > len(self.buffer))
        if bad.any() or not (self.inside[at].all() and self.inside[at + width - 1].all()):
            clipped = np.clip(at, 0, len(self.buffer) - width)
            bad = bad | ~self.inside[clipped] | ~self.inside[clipped + width - 1]
            raise Fault("out of bounds of the arrays in global memory", _first(bad, lanes))
        return at

    def copy_back(self) -> None:
        """Hand what kernels wrote to the caller."""
        for start, stop, (_, data) in zip(self.starts, self.ends, self.ranges, strict=True):
            if data.flags.writeable:
                data[:] = self.buffer[start:stop]


def check_alignment(address, width, lanes) -> None:
    bad = (address & (width - 1)) != 0
    if bad.any():
        raise Fault(f"access of {width} bytes that is not aligned to them", _first(bad, lanes))


class Pending:
    """``cp.async``: what was asked for and is not there before a thread waits for its group."""

    def __init__(self, shared: Shared, threads: int) -> None:
        self.shared = shared
        self.group = np.zeros(threads, np.int64)  # of each thread, the one that is open
        self.copies: list = []

    def copy(self, at, values, lanes) -> None:
        self.shared._track(at, values[0].dtype, len(values), lanes, reading=False)
        for i in range(values[0].dtype.itemsize * len(values) // self.shared.granule):
            self.shared.written[at // self.shared.granule + i] = False
        self.copies.append((at, values, lanes, self.group[lanes]))

    def commit(self, lanes) -> None:
        self.group[lanes] += 1

    def wait(self, lanes, but) -> None:
        """Complete the groups of these threads, but the last ``but`` that they committed."""
        limit = np.full(len(self.group), -1, np.int64)
        limit[lanes] = self.group[lanes] - but
        left = []
        for at, values, who, group in self.copies:
            done = group < limit[who]
            if done.any():
                self.shared.scatter(at[done], [v[done] for v in values])
                for i in range(values[0].dtype.itemsize * len(values) // self.shared.granule):
                    self.shared.written[at[done] // self.shared.granule + i] = True
            if not done.all():
                left.append((at[~done], [v[~done] for v in values], who[~done], group[~done]))
        self.copies = left
