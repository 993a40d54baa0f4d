"""Threads, divergence, barriers and the grid.

Threads that are at the same block of the program run together, earlier blocks of the text first, so that those of a
loop wait for one another at its end. A barrier opens when no thread can go on without it.
"""

from __future__ import annotations

import numpy as np

from tests.ptx import semantics
from tests.ptx.memory import Fault, Global, Memory, Pending, Shared
from tests.ptx.parser import WIDTH, Program, parse
from tests.ptx.translate import Translator

LANES = 1 << 13  # threads that run at once: more would leave the caches, fewer would be mostly Python
SHARED_WINDOW, LOCAL_WINDOW = 0x1000_0000_0000, 0x2000_0000_0000  # in the generic address space
WINDOW = 0x1000_0000_0000
STEPS = 1_000_000  # blocks of a program that are run before it counts as a loop without end


class Kernel:
    """A program, ready to run."""

    def __init__(self, text: str) -> None:
        self.program: Program = parse(text)
        translator = Translator(self.program)
        self.functions = [translator.function(n) for n in range(len(self.program.blocks))]
        self.dtypes = translator.dtypes
        self.live_in = [sorted(names) for names in translator.live_in]
        self.granules = {space: self._granule(space) for space in ("global", "shared")}
        self.instructions = 0  # run so far, counted once for all threads that run together

    def _granule(self, space: str) -> int:
        """Bytes of the narrowest access to a memory."""
        widths = [
            4 if i.name == "cp" else WIDTH[i.type]
            for i in self.program.instructions
            if i.name in ("ld", "st", "atom", "red", "cp") and i.type in WIDTH | {"cg": 4, "ca": 4, "16": 4}
            if space in i.opcode or not {"global", "shared", "local", "param"} & set(i.opcode)
        ]
        return min(widths, default=4)

    def run(self, grid, block, args, arrays, checked=True, at_once=None, backwards=False) -> None:
        """Run all blocks, ``at_once`` of them or as many as are fast, in order or the last ones first.

        ``args``: scalars, one for each parameter; pointers as the caller has them in ``arrays``.
        """
        grid, block = (tuple(size) + (1,) * (3 - len(size)) for size in (grid, block))
        blocks, threads = int(np.prod(grid)), int(np.prod(block))
        memory = Global(arrays, self.granules["global"], blocks * threads, checked)
        params = self._pack(args, memory)
        at_once = at_once or max(1, LANES // threads)
        with np.errstate(all="ignore"):
            for first in sorted(range(0, blocks, at_once), reverse=backwards):
                machine = Machine(self, memory, params, grid, block, first, min(at_once, blocks - first), checked)
                machine.run()
        memory.copy_back()

    def _pack(self, args, memory: Global) -> np.ndarray:
        if len(args) != len(self.program.params):
            raise ValueError(f"the kernel has {len(self.program.params)} parameters, got {len(args)}")
        buffer = np.zeros(self.program.param_bytes, np.uint8)
        for (start, kind, _), value in zip(self.program.params.values(), args, strict=True):
            value = memory.address(int(value)) if isinstance(value, Pointer) else value
            dtype = semantics.TYPES[kind]
            data = np.asarray(value).astype(dtype) if np.dtype(dtype).kind in "iu" else np.asarray(value, dtype)
            buffer[start : start + WIDTH[kind]] = data.reshape(1).view(np.uint8)
        return buffer


class Pointer(int):
    """An argument that is the address of an array."""


class Machine:
    """Some blocks of the grid, running."""

    def __init__(self, kernel, memory, params, grid, block, first, blocks, checked) -> None:
        program, threads = kernel.program, int(np.prod(block))
        self.kernel, self.memory, self.params = kernel, memory, params
        self.first, self.blocks, self.threads, self.grid, self.block = first, blocks, threads, grid, block
        count = blocks * threads
        self.everyone = np.arange(count)
        self.shared = Shared(program.shared_bytes, kernel.granules["shared"], blocks, threads, checked)
        self.pending = Pending(self.shared, count)
        self.local_size = -(-program.local_bytes // 16) * 16
        self.local = Memory(self.local_size * count, 1, count, checked=False)
        self.local.written[:] = True
        self.specials = self._specials()
        self.registers: dict = {}
        self.ready: dict[int, np.ndarray] = {0: self.everyone}  # by block of the program
        self.waiting: dict[int, np.ndarray] = {}
        self.alive = np.ones(count, bool)

    def _specials(self) -> dict:
        thread = (self.everyone % self.threads).astype(np.uint32)
        number = (self.everyone // self.threads + self.first).astype(np.uint32)
        specials = {"laneid": thread % np.uint32(32), "warpid": thread // np.uint32(32)}
        for place, size, name in ((thread, self.block, "tid"), (number, self.grid, "ctaid")):
            x, y = np.uint32(size[0]), np.uint32(size[1])
            specials |= {f"{name}x": place % x, f"{name}y": place // x % y, f"{name}z": place // (x * y)}
            specials |= {f"n{name}{axis}": np.uint32(n) for axis, n in zip("xyz", size, strict=True)}
        return specials

    # --------------------------------------------------------------------------------------------------- scheduling
    def run(self) -> None:
        steps = 0
        while self.ready or self.waiting:
            if not self.ready:
                self._open_barrier()
            number = min(self.ready)
            self._step(number, self.ready.pop(number))
            steps += 1
            if steps > STEPS:
                raise Fault("does not end", 0)

    def _step(self, number: int, lanes) -> None:
        block = self.kernel.program.blocks[number]
        decision = self._call(number, lanes)
        self.kernel.instructions += len(block.instructions) + 1
        if block.end == "barrier":
            self._join(self.waiting, number + 1, lanes)
            return
        taken, others = self._split(decision, lanes)
        if block.end == "branch":
            self._join(self.ready, block.target, taken)
        elif block.end == "exit":
            self.alive[taken] = False
        self._join(self.ready, number + 1, taken if block.end == "next" else others)

    def _split(self, decision, lanes):
        """The lanes that take a branch, and the others."""
        nobody = lanes[:0]
        if decision is None:
            return lanes, nobody
        if np.ndim(decision) == 0:
            return (lanes, nobody) if decision else (nobody, lanes)
        return lanes[decision], lanes[~decision]

    def _join(self, groups, number, lanes) -> None:
        if len(lanes) == 0:
            return
        if number in groups:
            lanes = np.sort(np.concatenate([groups[number], lanes]))
        groups[number] = self.everyone if len(lanes) == len(self.everyone) else lanes

    def _call(self, number: int, lanes):
        """Run a block; where not all lanes do, on copies of their registers."""
        function = self.kernel.functions[number]
        for name in self.kernel.live_in[number]:
            if name not in self.registers:
                self.registers[name] = self.kernel.dtypes[name].type(0)
        if lanes is self.everyone:
            return function(self, lanes, self.registers)
        mine = {}
        for name in self.kernel.live_in[number]:
            value = self.registers[name]
            mine[name] = value[lanes] if value.ndim else value
        before = dict(mine)
        decision = function(self, lanes, mine)
        for name, value in mine.items():
            if before.get(name) is not value:
                self._put(name, value, lanes)
        return decision

    def _put(self, name, value, lanes) -> None:
        whole = self.registers.get(name)
        if whole is None or whole.ndim == 0:
            fill = self.kernel.dtypes[name].type(0) if whole is None else whole
            whole = np.full(len(self.everyone), fill, self.kernel.dtypes[name])
        else:
            whole = whole.copy()  # another register may be the same array
        whole[lanes] = value
        self.registers[name] = whole

    def _open_barrier(self) -> None:
        """All threads of a block must have come to the same barrier."""
        came = np.zeros(self.blocks, np.int64)
        for number, lanes in self.waiting.items():
            count = np.bincount(lanes // self.threads, minlength=self.blocks)
            partial = (count > 0) & (count < self.threads)
            if partial.any():
                lane = int(np.argmax(partial)) * self.threads
                raise self._fault(Fault("barrier that not all threads of the block reach", lane), number - 1)
            came += count
        self.shared.races and self.shared.races.barrier()
        self.ready, self.waiting = self.waiting, {}

    # ------------------------------------------------------------------------------------- what generated code calls
    def special(self, name, lanes):
        value = self.specials[name]
        return value if value.ndim == 0 or lanes is self.everyone else value[lanes]

    def each(self, value, lanes):
        """One value for each lane."""
        return np.broadcast_to(value, len(lanes)) if value.ndim == 0 else value

    def param(self, start, dtype):
        dtype = np.dtype(dtype)
        return self.params[start : start + dtype.itemsize].view(dtype)[0]

    def window(self, space):
        return np.uint64({"shared": SHARED_WINDOW, "local": LOCAL_WINDOW}.get(space, 0))

    def _memory(self, space, address):
        """The memory of a state space, and addresses in it; generic ones say themselves which it is."""
        if space == "generic":
            window = int(address[0]) // WINDOW if len(address) else 0
            space = {1: "shared", 2: "local"}.get(window, "global")
            if space != "global":
                address = address - window * WINDOW
        return {"global": self.memory, "const": self.memory, "shared": self.shared, "local": self.local}[space], address

    def _place(self, memory, address, width, lanes):
        if memory is self.local:
            return address + self.everyone[lanes] * self.local_size
        return memory.place(address, width, lanes)

    def _who(self, memory, lanes):
        """The numbers by which a memory knows threads: in the grid, or among those that run."""
        return lanes + self.first * self.threads if memory is self.memory else lanes

    def load(self, number, space, address, dtype, count, lanes, chosen=None):
        if chosen is not None:
            loaded = self.load(number, space, address[chosen], dtype, count, lanes[chosen])
            result = [np.zeros(len(lanes), dtype) for _ in range(count)]
            for whole, part in zip(result, loaded, strict=True):
                whole[chosen] = part
            return result
        try:
            memory, address = self._memory(space, address)
            at = self._place(memory, address, np.dtype(dtype).itemsize * count, lanes)
            return memory.load(at, dtype, count, self._who(memory, lanes))
        except Fault as fault:
            raise self._fault(fault, number, None) from None

    def store(self, number, space, address, values, lanes, chosen=None):
        if chosen is not None:
            address, lanes, values = address[chosen], lanes[chosen], [v[chosen] for v in values]
        try:
            memory, address = self._memory(space, address)
            at = self._place(memory, address, values[0].dtype.itemsize * len(values), lanes)
            memory.store(at, values, self._who(memory, lanes))
        except Fault as fault:
            raise self._fault(fault, number, None) from None

    def copy(self, number, target, source, width, count, lanes):
        """``cp.async``; bytes past ``count`` are zeros and are not read."""
        try:
            words = width // 4
            values = [np.zeros(len(lanes), np.uint32) for _ in range(words)]
            whole = np.ones(len(lanes), bool) if count is None else count.astype(np.int64) >= width
            if whole.any():
                at = self.memory.place(source[whole], width, lanes[whole])
                for value, part in zip(values, self.memory.load(at, np.uint32, words, lanes[whole]), strict=True):
                    value[whole] = part
            if not (whole | (count == 0)).all():
                raise NotImplementedError("cp.async of a part")
            self.pending.copy(self.shared.place(target, width, lanes), values, lanes)
        except Fault as fault:
            raise self._fault(fault, number, None) from None

    def atomic(self, number, space, operation, address, value, lanes):
        """One thread after the other, in the order of their numbers; whole numbers only, so that order is no matter."""
        functions = {"add": np.add, "min": np.minimum, "max": np.maximum}
        functions |= {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}
        try:
            memory, address = self._memory(space, address)
            index = self._place(memory, address, value.dtype.itemsize, lanes) // value.dtype.itemsize
        except Fault as fault:
            raise self._fault(fault, number, None) from None
        view, before = memory.view(value.dtype), np.empty_like(value)
        for i in range(len(lanes)):
            before[i] = view[index[i]]
            view[index[i]] = functions[operation](before[i], value[i])
        memory.written[index * value.dtype.itemsize // memory.granule] = True
        return before

    def _warps(self, number, lanes):
        whole = len(lanes) % 32 == 0 and (lanes.reshape(-1, 32) == lanes[::32, None] + np.arange(32)).all()
        if not whole or (lanes[::32] % self.threads % 32 != 0).any():
            raise self._fault(
                Fault("warp instruction that not all threads of a warp reach together", int(lanes[0])), number, None
            )
        return len(lanes) // 32

    def mma(self, number, shape, kind, a, b, c, lanes):
        warps = self._warps(number, lanes)
        parts = [[self.each(x, lanes).reshape(warps, 32) for x in part] for part in (a, b, c)]
        return [x.reshape(-1) for x in semantics.mma(shape, kind, *parts)]

    def matrices(self, number, address, count, transposed, lanes):
        """``ldmatrix`` of 8 x 8 halves: lane 8 m + r of a warp has the address of row r of matrix m."""
        warps = self._warps(number, lanes)
        given = np.arange(len(lanes)) % 32 < 8 * count
        try:
            at = self.shared.place(address[given], 16, lanes[given])
            words = self.shared.load(at, np.uint32, 4, lanes[given])
        except Fault as fault:
            raise self._fault(fault, number, None) from None
        halves = np.stack(words, -1).view(np.uint16).reshape(warps, count, 8, 8)
        if transposed:
            halves = halves.swapaxes(2, 3)
        return list(
            np.ascontiguousarray(halves).view(np.uint32).reshape(warps, count, 32).swapaxes(0, 1).reshape(count, -1)
        )

    def shuffle(self, number, mode, x, offset, clamp, lanes):
        """``shfl.sync`` of whole warps; lanes that would read outside keep their own value."""
        warps = self._warps(number, lanes)
        x, offset, clamp = (
            self.each(np.asarray(v), lanes).reshape(warps, 32).astype(np.int64) for v in (x, offset, clamp)
        )
        lane = np.arange(32)
        mask, limit = clamp >> 8 & 31, clamp & 31
        low, high = lane & mask, (lane & mask) | (limit & ~mask)
        source = {"up": lane - offset, "down": lane + offset, "bfly": lane ^ offset, "idx": low | (offset & ~mask)}[
            mode
        ]
        inside = source >= high if mode == "up" else source <= high
        taken = np.take_along_axis(x, np.where(inside, source, lane) & 31, 1)
        return taken.reshape(-1).astype(np.uint32), inside.reshape(-1)

    # ------------------------------------------------------------------------------------------------------- reports
    def _fault(self, fault: Fault, number, barrier=True) -> Fault:
        """The same fault with the place where it happened."""
        if barrier:
            text = self.kernel.program.blocks[number].barrier.text
        else:
            text = self.kernel.program.instructions[number].text
        lane = fault.lane
        if lane >= len(self.everyone) or lane >= self.first * self.threads > 0:
            lane -= self.first * self.threads
        block, thread = divmod(lane, self.threads)
        where = f"block {block + self.first}, thread {thread}"
        return Fault(f"{fault}: {where}: {text}", fault.lane)
