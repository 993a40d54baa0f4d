"""A basic block -> a Python function.

``function(m, L, R)`` runs a block for the lanes ``L`` of the machine ``m``; ``R`` holds the registers that live from
block to block. What lives within a block is a local variable. It returns what decides its branch.
"""

from __future__ import annotations

import re
import struct

import numpy as np

from tests.ptx import semantics
from tests.ptx.parser import SPECIAL, WIDTH, Block, Instruction, Program

_REGISTER = re.compile(r"v_\w+")
_FLOATS = {"f16", "f32", "f64"}
SPACES = ("global", "shared", "local", "param", "const")
IGNORED = {"membar", "fence", "prefetch", "prefetchu", "griddepcontrol", "nanosleep"}


def canonical(kind: str) -> np.dtype:
    """The type in which a register of this declared type is kept."""
    dtype = np.dtype(semantics.TYPES[kind])
    return np.dtype(f"u{dtype.itemsize}") if dtype.kind == "i" else dtype


class Translator:
    """Turns one program's blocks into functions."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.dtypes = {name: canonical(kind) for name, kind in program.registers.items()}
        self.names: dict = {"np": np, "s": semantics}
        self.live_in, self.live_out = _liveness(program)

    def function(self, number: int):
        block = self.program.blocks[number]
        defined = set().union(*(_written(i) for i in block.instructions)) if block.instructions else set()
        lines = [f"{name} = R[{name!r}]" for name in sorted(self.live_in[number])]
        for instruction in block.instructions:
            lines += self._guarded(instruction)
        lines += [f"R[{name!r}] = {name}" for name in sorted(defined & self.live_out[number])]
        if block.guard:
            lines.append(f"return {'~' if block.negated else ''}{block.guard}")
        source = "def run(m, L, R):\n    " + "\n    ".join(lines or ["pass"])
        scope = dict(self.names)
        exec(compile(source, f"<block {number}>", "exec"), scope)
        return scope["run"]

    # ----------------------------------------------------------------------------------------------------- operands
    def constant(self, value) -> str:
        name = f"c{len(self.names)}"
        self.names[name] = value
        return name

    def value(self, operand: str, kind: str) -> str:
        """An expression for an operand in the type that the instruction reads it in."""
        dtype = np.dtype(semantics.TYPES[kind])
        if operand.startswith("!"):
            return f"~{self.value(operand[1:], kind)}"
        if operand in self.dtypes:
            have = self.dtypes[operand]
            if have == dtype:
                return operand
            plain = have.itemsize == dtype.itemsize
            return f"{operand}.view(np.{dtype})" if plain else f"s.bits({operand}, np.{dtype})"
        if operand.startswith("%"):
            name, _, axis = operand[1:].partition(".")
            if name not in SPECIAL:
                raise NotImplementedError(f"special register {operand}")
            return f"s.bits(m.special({name + axis!r}, L), np.{dtype})"
        return self.constant(self._immediate(operand, dtype))

    def _immediate(self, text: str, dtype: np.dtype):
        if found := re.fullmatch(r"0[fF]([0-9a-fA-F]{8})", text):
            return semantics.bits(np.float32(struct.unpack(">f", bytes.fromhex(found[1]))[0]), dtype)
        if found := re.fullmatch(r"0[dD]([0-9a-fA-F]{16})", text):
            return semantics.bits(np.float64(struct.unpack(">d", bytes.fromhex(found[1]))[0]), dtype)
        if text in self.program.shared:
            return dtype.type(self.program.shared[text])
        if text in self.program.local:
            return dtype.type(self.program.local[text])
        if dtype.kind == "b":
            return np.bool_(int(text, 0))
        number = int(text.rstrip("U"), 0)
        if dtype.kind == "f":
            return dtype.type(number)
        return np.uint64(number & (2**64 - 1)).astype(f"u{dtype.itemsize}").view(dtype)

    def address(self, operand: str) -> str:
        """Addresses as int64, one for each lane."""
        base, _, offset = operand.strip("[]").replace(" ", "").partition("+")
        value = self.value(base, "s64")
        if base in self.dtypes and self.dtypes[base].itemsize == 4:
            value = f"{base}.astype(np.int64)"
        value += f" + {self.constant(np.int64(int(offset)))}" if offset else ""
        return f"m.each({value}, L)"

    def _assign(self, register: str, expression: str, kind: str | None) -> str:
        """``register = expression`` of this type; None where it has the register's own."""
        if register == "_":
            return f"{expression}"
        have = self.dtypes[register]
        if kind is None or np.dtype(semantics.TYPES[kind]) == have:
            return f"{register} = {expression}"
        if np.dtype(semantics.TYPES[kind]).itemsize == have.itemsize:
            return f"{register} = ({expression}).view(np.{have})"
        return f"{register} = s.extended({expression}, np.{have})"

    # ------------------------------------------------------------------------------------------------- instructions
    def _guarded(self, i: Instruction) -> list[str]:
        """A guard chooses the lanes of a memory access, and between new and old values of registers."""
        lines = self._lines(i)
        if i.guard is None:
            return lines
        guard = f"{'~' if i.negated else ''}{i.guard}"
        written = sorted(_written(i))
        result = [f"p = m.each({guard}, L)", *(f"old_{name} = {name}" for name in written)]
        for line in lines:
            access = line.startswith(("m.store(", "loaded = m.load("))
            result.append(line.removesuffix("L)") + "L, p)" if access else line)
        return result + [f"{name} = np.where(p, {name}, old_{name})" for name in written]

    def _lines(self, i: Instruction) -> list[str]:
        if i.name in IGNORED or (i.name == "bar" and i.opcode[1] == "warp"):
            return ["pass"]
        if i.name in ("ld", "ldu", "st", "atom", "red"):
            return self._memory(i)
        if i.name == "cp":
            return self._async(i)
        if i.name in ("mma", "ldmatrix", "shfl"):
            return getattr(self, f"_{i.name}")(i)
        if i.name == "mov" and "{" in "".join(i.operands):
            return self._parts(i)
        if i.name == "setp":
            return self._setp(i)
        if i.name == "cvt":
            return [self._cvt(i)]
        expression, kind = self._expression(i)
        return [self._assign(i.operands[0], expression, kind)]

    def _memory(self, i: Instruction) -> list[str]:
        space = next((word for word in i.opcode if word in SPACES), "generic")
        kind = i.type
        dtype = f"np.{np.dtype(semantics.TYPES[kind])}"
        if space == "param":
            name, _, offset = i.operands[1].strip("[]").partition("+")
            start = self.program.params[name][0] + int(offset or 0)
            return [
                self._assign(register, f"m.param({start + n * WIDTH[kind]}, {dtype})", kind)
                for n, register in enumerate(_parts(i.operands[0]))
            ]
        if i.name in ("atom", "red"):
            return self._atomic(i, space, kind)
        loading = i.name.startswith("ld")
        registers = _parts(i.operands[0 if loading else 1])
        where = self.address(i.operands[1 if loading else 0])
        if loading:
            loaded = f"loaded = m.load({i.number}, {space!r}, {where}, {dtype}, {len(registers)}, L)"
            return [loaded, *(self._assign(r, f"loaded[{n}]", kind) for n, r in enumerate(registers))]
        values = ", ".join(f"m.each({self.value(r, kind)}, L)" for r in registers)
        return [f"m.store({i.number}, {space!r}, {where}, [{values}], L)"]

    def _atomic(self, i: Instruction, space: str, kind: str) -> list[str]:
        operation = next(word for word in i.opcode[2:] if word in ("add", "min", "max", "and", "or", "xor"))
        target, value = i.operands[-2:]
        call = f"m.atomic({i.number}, {space!r}, {operation!r}, {self.address(target)}, "
        call += f"m.each({self.value(value, kind)}, L), L)"
        return [self._assign(i.operands[0], call, kind) if i.name == "atom" else call]

    def _async(self, i: Instruction) -> list[str]:
        if "commit_group" in i.opcode:
            return ["m.pending.commit(L)"]
        if "wait_group" in i.opcode or "wait_all" in i.opcode:
            return [f"m.pending.wait(L, {int(i.operands[0]) if i.operands else 0})"]
        count = f"m.each({self.value(i.operands[3], 'u32')}, L)" if len(i.operands) > 3 else "None"
        target, source = (self.address(o) for o in i.operands[:2])
        return [f"m.copy({i.number}, {target}, {source}, {int(i.operands[2])}, {count}, L)"]

    def _mma(self, i: Instruction) -> list[str]:
        d, a, b, c = map(_parts, i.operands)
        shape = next(word for word in i.opcode if word.startswith("m16n8"))
        kind = "f16" if "f16" in i.opcode else "tf32"
        operands = ", ".join(
            "[" + ", ".join(self.value(r, k) for r in part) + "]" for part, k in ((a, "b32"), (b, "b32"), (c, "f32"))
        )
        lines = [f"result = m.mma({i.number}, {shape!r}, {kind!r}, {operands}, L)"]
        return lines + [self._assign(r, f"result[{n}]", "f32") for n, r in enumerate(d)]

    def _ldmatrix(self, i: Instruction) -> list[str]:
        registers = _parts(i.operands[0])
        where = self.address(i.operands[1])
        lines = [f"result = m.matrices({i.number}, {where}, {len(registers)}, {'trans' in i.opcode}, L)"]
        return lines + [self._assign(r, f"result[{n}]", "b32") for n, r in enumerate(registers)]

    def _shfl(self, i: Instruction) -> list[str]:
        register, _, predicate = i.operands[0].partition("|")
        x, lane, clamp = (self.value(o, "u32") for o in i.operands[1:4])
        lines = [f"result = m.shuffle({i.number}, {i.opcode[2]!r}, {x}, {lane}, {clamp}, L)"]
        lines.append(self._assign(register.strip(), "result[0]", "u32"))
        return lines + ([self._assign(predicate.strip(), "result[1]", None)] if predicate else [])

    def _parts(self, i: Instruction) -> list[str]:
        target, source = i.operands
        if target.startswith("{"):
            registers = _parts(target)
            lines = [f"parts = s.halves({self.value(source, i.type)}, {len(registers)})"]
            part = f"u{8 * WIDTH[i.type] // len(registers)}"
            return lines + [self._assign(r, f"parts[{n}]", part) for n, r in enumerate(registers) if r != "_"]
        parts = _parts(source)
        kind = f"b{8 * WIDTH[i.type] // len(parts)}"
        values = ", ".join(self.value(p, kind) for p in parts)
        return [self._assign(target, f"s.packed([{values}])", f"b{8 * WIDTH[i.type]}")]

    def _setp(self, i: Instruction) -> list[str]:
        kind, name = i.type, i.opcode[1]
        a, b = self.value(i.operands[1], kind), self.value(i.operands[2], kind)
        simple = {"eq": "==", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
        if kind not in _FLOATS:
            operator = {**simple, "ne": "!=", "lo": "<", "ls": "<=", "hi": ">", "hs": ">="}[name]
            expression = f"({a} {operator} {b})"
        elif name in simple:
            expression = f"({a} {simple[name]} {b})"
        else:
            expression = f"s.compare({name!r}, {a}, {b})"
        if len(i.operands) > 3:
            operator = {"and": "&", "or": "|", "xor": "^"}[next(w for w in i.opcode if w in ("and", "or", "xor"))]
            expression = f"({expression} {operator} {self.value(i.operands[3], 'pred')})"
        register, _, other = i.operands[0].partition("|")
        lines = [self._assign(register.strip(), expression, None)]
        return lines + ([f"{other.strip()} = ~{register.strip()}"] if other else [])

    def _cvt(self, i: Instruction) -> str:
        to, source = [word for word in i.opcode if word in WIDTH][:2]
        mode = next((word[1:] for word in i.opcode if word in ("rni", "rzi", "rmi", "rpi")), None)
        saturate = "sat" in i.opcode
        if to == "tf32":
            rounded = f"({self.value(i.operands[1], 'u32')} + np.uint32(0x1000)) & np.uint32(0xFFFFE000)"
            return self._assign(i.operands[0], rounded, "u32")
        value = self.value(i.operands[1], source)
        dtype = f"np.{np.dtype(semantics.TYPES[to])}"
        return self._assign(i.operands[0], f"s.converted({value}, {dtype}, {mode!r}, {saturate})", to)

    def _expression(self, i: Instruction) -> tuple[str, str | None]:
        """What goes to the first operand, and its type."""
        kind, name, wide = i.type, i.name, "wide" in i.opcode
        if name in ("mov", "cvta"):
            return self.value(i.operands[1], kind) if name == "mov" else self._window(i), kind
        if name == "selp":
            a, b = self.value(i.operands[1], kind), self.value(i.operands[2], kind)
            return f"s.select({self.value(i.operands[3], 'pred')}, {a}, {b})", kind
        if name in ("shl", "shr"):
            count = self.value(i.operands[2], "u32")
            return f"s.shift({self.value(i.operands[1], kind)}, {count}, {name == 'shl'})", kind
        if name in ("bfe", "bfi"):
            values = [self.value(o, kind) for o in i.operands[1:-2]] + [self.value(o, "u32") for o in i.operands[-2:]]
            return f"s.{'field' if name == 'bfe' else 'insert'}({', '.join(values)})", kind
        values = [self.value(o, kind) for o in i.operands[1:]]
        if name == "lop3":
            return f"s.logic({', '.join(values)})", kind
        if name == "shf":
            return f"s.funnel({', '.join(values)}, {'l' in i.opcode}, {'clamp' in i.opcode})", kind
        if kind not in _FLOATS and name in ("mul", "mad") and (wide or "hi" in i.opcode):
            return self._product(i, values, wide)
        return self._plain(name, kind, i.opcode).format(*values), "u32" if name in ("popc", "clz") else kind

    def _product(self, i: Instruction, values: list[str], wide: bool) -> tuple[str, str]:
        kind = f"{i.type[0]}{2 * int(i.type[1:])}" if wide else i.type
        expression = f"s.{'wide' if wide else 'high'}({values[0]}, {values[1]})"
        if i.name == "mad":
            expression += f" + {self.value(i.operands[3], kind)}"
        return expression, kind

    def _window(self, i: Instruction) -> str:
        """``cvta``: shared and local memory have windows in the generic address space."""
        space = next(word for word in i.opcode if word in SPACES)
        base = f"m.window({space!r})"
        return f"{self.value(i.operands[1], i.type)} {'-' if 'to' in i.opcode else '+'} {base}"

    def _plain(self, name: str, kind: str, opcode: list[str]) -> str:
        both = {"add": "{} + {}", "sub": "{} - {}", "mul": "{} * {}", "and": "{} & {}", "or": "{} | {}"}
        both |= {
            "xor": "{} ^ {}",
            "not": "~{}",
            "neg": "-{}",
            "abs": "np.abs({})",
            "rem": "{0} - s.divide({0}, {1}) * {1}",
        }
        both |= {"popc": "np.bitwise_count({}).astype(np.uint32)", "clz": "s.leading_zeros({})"}
        both |= {"prmt": "s.permute({}, {}, {})"}
        if kind in _FLOATS:
            nan = "NaN" in opcode
            both |= {"min": "np.minimum({}, {})" if nan else "np.fmin({}, {})", "div": "{} / {}"}
            both |= {"max": "np.maximum({}, {})" if nan else "np.fmax({}, {})", "fma": "s.fma({}, {}, {})"}
            both |= {"mad": "s.fma({}, {}, {})", "sqrt": "np.sqrt({})", "rcp": "1 / {}", "rsqrt": "1 / np.sqrt({})"}
            both |= {"ex2": "np.exp2({})", "lg2": "np.log2({})", "sin": "np.sin({})", "cos": "np.cos({})"}
            both |= {"tanh": "np.tanh({})", "copysign": "np.copysign({1}, {0})"}
        else:
            both |= {"min": "np.minimum({}, {})", "max": "np.maximum({}, {})", "div": "s.divide({}, {})"}
            both |= {"mad": "{} * {} + {}"}
            if kind == "pred":
                both |= {"not": "~{}"}
        if name not in both:
            raise NotImplementedError(f"instruction {'.'.join(opcode)}")
        return both[name]


# ------------------------------------------------------------------------------------------------------------ liveness
def _parts(operand: str) -> list[str]:
    return [part.strip() for part in operand.strip("{}").split(",")]


def _written(i: Instruction) -> set[str]:
    if i.name in ("st", "red", "cp") or i.name in IGNORED or not i.operands:
        return set()
    return set(_REGISTER.findall(i.operands[0]))


def _read(i: Instruction) -> set[str]:
    operands = i.operands if i.name in ("st", "red", "cp") else i.operands[1:]
    read = set(_REGISTER.findall(" ".join(operands)))
    if i.guard:  # a guarded instruction may keep what was there
        read |= {i.guard} | _written(i)
    return read


def _liveness(program: Program) -> tuple[list[set[str]], list[set[str]]]:
    """Registers that a block needs from others, and those that others need from it."""
    gen, kill = [], []
    for block in program.blocks:
        needed, defined = set(), set()
        for i in block.instructions:
            needed |= _read(i) - defined
            defined |= _written(i)
        if block.guard:
            needed |= {block.guard} - defined
        gen.append(needed)
        kill.append(defined)
    live_in = [set(needed) for needed in gen]
    live_out = [set() for _ in gen]
    changed = True
    while changed:
        changed = False
        for n in reversed(range(len(program.blocks))):
            out = set().union(*(live_in[m] for m in successors(program.blocks[n], n, len(program.blocks))))
            into = gen[n] | (out - kill[n])
            changed |= out != live_out[n] or into != live_in[n]
            live_out[n], live_in[n] = out, into
    return live_in, live_out


def successors(block: Block, number: int, count: int) -> list[int]:
    following = [number + 1] if number + 1 < count else []
    if block.end == "branch":
        return [block.target, *(following if block.guard else [])]
    if block.end == "exit":
        return following if block.guard else []
    return following
