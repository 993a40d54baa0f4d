"""PTX text -> :class:`Program`: basic blocks of instructions in the order of the text.

The grammar is that of the PTX ISA manual, sections 4 (syntax), 5 (state spaces) and 7 (directives), as far as Numba
and hand-written assembly in kernels use it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

WIDTH = {"pred": 1, "f16x2": 4} | {f"{kind}{bits}": bits // 8 for kind in "sub" for bits in (8, 16, 32, 64)}
WIDTH |= {"f16": 2, "f32": 4, "f64": 8, "tf32": 4, "bf16": 2}
SPECIAL = {"tid", "ntid", "ctaid", "nctaid", "laneid", "warpid"}


@dataclasses.dataclass
class Instruction:
    """``@guard opcode operands``; ``number`` is its place in the program, ``text`` is shown in reports."""

    number: int
    opcode: list[str]
    operands: list[str]
    guard: str | None
    negated: bool
    text: str

    @property
    def name(self) -> str:
        return self.opcode[0]

    @property
    def type(self) -> str:
        return self.opcode[-1]


@dataclasses.dataclass
class Block:
    """Instructions without a branch among them, and how they end.

    ``end`` is "next", "branch" (to ``target``; if ``guard`` says so, else on to the next block), "barrier" or "exit".
    """

    instructions: list[Instruction]
    end: str = "next"
    target: int | None = None
    guard: str | None = None
    negated: bool = False
    barrier: Instruction | None = None


@dataclasses.dataclass
class Program:
    """One kernel: types of its parameters and registers, the sizes of its memories, and its blocks."""

    params: dict[str, tuple[int, str, int]]  # name -> offset, type, count
    param_bytes: int
    shared: dict[str, int]  # name -> offset
    shared_bytes: int
    local: dict[str, int]
    local_bytes: int
    registers: dict[str, str]  # name -> type
    blocks: list[Block]
    instructions: list[Instruction]


def parse(text: str) -> Program:
    """The one kernel of a PTX module."""
    text = re.sub(r"//[^\n]*", "", re.sub(r"/\*.*?\*/", "", text, flags=re.S))
    entry = text.index(".entry")
    begin = text.index("{", entry)
    params, param_bytes = _params(text[entry:begin])
    names = _Names(_functions(text))
    code: list[Instruction | str] = [item for statement in _statements(text[begin:]) for item in names.read(statement)]
    shared, shared_bytes = _variables(re.findall(_VARIABLE.replace("SPACE", "shared"), text))
    local, local_bytes = _variables(re.findall(_VARIABLE.replace("SPACE", "local"), text[begin:]))
    instructions = [item for item in code if isinstance(item, Instruction)]
    for number, instruction in enumerate(instructions):
        instruction.number = number
    return Program(
        params, param_bytes, shared, shared_bytes, local, local_bytes, names.types, _blocks(code), instructions
    )


_VARIABLE = r"\.SPACE\s+\.align\s+(\d+)\s+\.(\w+)\s+([\w$%]+)\[(\d*)\]"


def _variables(found: list[tuple[str, str, str, str]]) -> tuple[dict[str, int], int]:
    """Offsets of arrays in a memory, and its size."""
    offsets: dict[str, int] = {}
    end = 0
    for align, kind, name, count in found:
        if name not in offsets:
            offsets[name] = -(-end // int(align)) * int(align)
            end = offsets[name] + int(count or 0) * WIDTH[kind]
    return offsets, end


def _params(head: str) -> tuple[dict[str, tuple[int, str, int]], int]:
    params: dict[str, tuple[int, str, int]] = {}
    end = 0
    for text in re.findall(r"\.param\s+([^,)]+)", head):
        words = text.split()
        kind = next(word[1:] for word in words if word[1:] in WIDTH)
        name, _, count = words[-1].partition("[")
        number, align = int(count.rstrip("]") or 1), WIDTH[kind]
        if ".align" in words:
            align = int(words[words.index(".align") + 1])
        end = -(-end // align) * align
        params[name] = (end, kind, number)
        end += number * WIDTH[kind]
    return params, end


_LABEL = re.compile(r"\s*([$\w]+):")
_STATEMENT = re.compile(r"\s*([^;]*);")


def _statements(body: str):
    """Statements, labels ("name:") and the braces of scopes, in order; ``body`` starts with the kernel's brace."""
    at, depth = 0, 0
    while True:
        while body[at].isspace():
            at += 1
        if body[at] in "{}":
            depth += 1 if body[at] == "{" else -1
            yield body[at]
            at += 1
            if depth == 0:
                return
            continue
        found = _LABEL.match(body, at) or _STATEMENT.match(body, at)
        yield f"{found[1]}:" if found.re is _LABEL else " ".join(found[1].split())
        at = found.end()


def _functions(text: str) -> dict[str, tuple[list[str], str]]:
    """Functions that kernels call: the names of their result and parameters, and their bodies."""
    functions = {}
    for found in re.finditer(r"\.func\s*(?:\(([^)]*)\))?\s*([\w$]+)\s*\(([^)]*)\)[^;{]*\{", text):
        names = [part.split()[-1] for part in f"{found[1] or ''},{found[3]}".split(",") if part.strip()]
        functions[found[2]] = names, text[found.end() - 1 :]
    return functions


class _Names:
    """Declared registers; those of an inner scope get names of their own. Calls become the body of what they call."""

    def __init__(self, functions: dict[str, tuple[list[str], str]]) -> None:
        self.types: dict[str, str] = {}
        self._functions = functions
        self._scopes: list[dict[str, str]] = []
        self._opened = 0
        self._returns: list[str] = []  # labels after the calls that are open

    def read(self, statement: str) -> Iterator[Instruction | str]:
        """The instructions and labels of a statement; a declaration has none."""
        if statement == "{":
            self._opened += 1
            self._scopes.append({})
        elif statement == "}":
            self._scopes.pop()
        elif statement.startswith(".reg") or (statement.startswith(".param") and self._scopes):
            self._declare(statement)
        elif statement.endswith(":"):
            yield self._resolve(statement[:-1])
        elif statement.partition(" ")[0].partition(".")[0] == "call":
            yield from self._call(statement)
        elif statement == "ret" and self._returns:
            yield Instruction(-1, ["bra"], [self._returns[-1]], None, False, statement)
        elif statement and not statement.startswith("."):
            yield self._instruction(statement)

    def _call(self, statement: str) -> Iterator[Instruction | str]:
        name = next(word for word in re.findall(r"[\w$]+", statement) if word in self._functions)
        formal, body = self._functions[name]
        groups = ",".join(re.findall(r"\(([^)]*)\)", statement))
        actual = [self._resolve(word) for word in groups.replace(" ", "").split(",")]
        end = f"after_call_{self._opened}"
        labels = {label: f"{label}_{self._opened}" for label in re.findall(r"^\s*([$\w]+):", body, flags=re.M)}
        self._scopes.append(dict(zip(formal, actual, strict=True)) | labels)
        self._returns.append(end)
        for item in _statements(body):
            yield from self.read(item)
        self._returns.pop()
        self._scopes.pop()
        yield end

    def _declare(self, statement: str) -> None:
        _, kind, rest = statement.split(None, 2)
        for name in (item.strip() for item in rest.split(",")):
            many = re.match(r"(.+)<(\d+)>", name)
            for one in [f"{many[1]}{i}" for i in range(int(many[2]))] if many else [name]:
                suffix = "" if len(self._scopes) == 1 else f"_{self._opened}"
                unique = "v_" + re.sub(r"\W", "_", one.lstrip("%")) + suffix
                self._scopes[-1][one] = unique
                self.types[unique] = kind[1:]

    def _resolve(self, text: str) -> str:
        def one(found: re.Match) -> str:
            for scope in reversed(self._scopes):
                if found[0] in scope:
                    return scope[found[0]]
            return found[0]

        return re.sub(r"%?[A-Za-z_$][\w$]*(?:\.[xyz])?", one, text)

    def _instruction(self, text: str) -> Instruction:
        found = re.match(r"@(!?)([\w%$]+)\s+(.*)", text)
        body = found[3] if found else text
        opcode, _, rest = body.partition(" ")
        operands = re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,{}\[\]\s][^,{}\[\]]*", self._resolve(rest))
        guard = self._resolve(found[2]) if found else None
        operands = [operand.strip() for operand in operands]
        opcode = opcode.split(".")
        if opcode[:2] in (["ld", "param"], ["st", "param"]):  # of a call: its parameters are registers
            operands = [re.sub(r"^\[(v_\w+)(\+0)?\]$", r"\1", operand) for operand in operands]
            opcode = ["mov", opcode[-1]] if "[" not in "".join(operands) else opcode
        return Instruction(-1, opcode, operands, guard, bool(found and found[1]), text)


def _blocks(code: list[Instruction | str]) -> list[Block]:
    """Split at labels, after branches and after barriers."""
    blocks, labels = [Block([])], {}
    for item in code:
        if isinstance(item, str):
            if blocks[-1].instructions:
                blocks.append(Block([]))
            labels[item] = len(blocks) - 1
            continue
        last = blocks[-1]
        if item.name == "bra":
            last.end, last.target, last.guard, last.negated = "branch", item.operands[0], item.guard, item.negated
        elif item.name in ("ret", "exit"):
            last.end, last.guard, last.negated = "exit", item.guard, item.negated
        elif item.name in ("bar", "barrier") and item.opcode[1] != "warp":
            last.end, last.barrier = "barrier", item
        else:
            last.instructions.append(item)
            continue
        blocks.append(Block([]))
    for block in blocks:
        if block.end == "branch":
            block.target = labels[block.target]
    blocks[-1].end = "exit"
    return blocks
