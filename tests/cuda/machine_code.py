"""Kernels as machine code, without a device: Numba's PTX through NVIDIA's assembler, and what is in the hot loop.

``python -m tests.cuda.machine_code`` prints the tables that ``docs/cuda.md`` has; architectures and parts of names
choose some of it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import Counter
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from tests.ptx.compile import compile_ptx

ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100", "sm_120")
MULTIPLY_ADDS = ("FFMA", "DFMA", "HMMA")  # FFMA2 counts as one


class Code(NamedTuple):
    """One kernel for one architecture: what the assembler says, and the instructions of all of it and of its loop."""

    registers: int
    shared: int
    stack: int
    spills: int
    instructions: Counter
    loop: Counter

    def share(self, operation):
        """Part of the loop's instructions."""
        return sum(n for name, n in self.loop.items() if name.startswith(operation)) / max(self.loop.total(), 1)

    def widths(self, operation):
        """Widths in bits of the loop's instructions of this kind."""
        found = Counter()
        for name, n in self.loop.items():
            if name.split(".")[0] == operation:
                found[next((int(part) for part in name.split(".") if part in ("64", "128")), 32)] += n
        return found


@cache
def tools():
    """The folder of ptxas and nvdisasm that came with the Python packages, or None."""
    spec = find_spec("nvidia")
    for place in spec.submodule_search_locations if spec else ():
        for tool in Path(place).glob("*/bin/nvdisasm"):
            if (tool.parent / "ptxas").exists():
                return tool.parent
    return None


def code_of(kernel, arguments, architecture, folder):
    """The :class:`Code` of a kernel that is launched with such arguments."""
    number = int(architecture.removeprefix("sm_"))
    return assemble(compile_ptx(kernel, arguments, divmod(number, 10)), architecture, folder)


def assemble(ptx, architecture, folder):
    """The :class:`Code` of a kernel's PTX."""
    source, binary = folder / "kernel.ptx", folder / "kernel.cubin"
    source.write_text(ptx)
    command = [tools() / "ptxas", f"-arch={architecture}", "-v", "-O3", source, "-o", binary]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    listing = subprocess.run([tools() / "nvdisasm", "-c", binary], capture_output=True, text=True, check=True).stdout

    def number(pattern):
        return sum(int(n) for n in re.findall(pattern, said))

    instructions, loop = _instructions(listing)
    return Code(
        number(r"Used (\d+) registers"),
        number(r"(\d+) bytes smem"),
        number(r"(\d+) bytes stack frame"),
        number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads"),
        Counter(map(_operation, instructions)),
        Counter(map(_operation, loop)),
    )


def _operation(instruction):
    words = instruction.split()
    if words[0] == "@!PT":  # never carried out
        return "NOP"
    return words[1] if words[0].startswith("@") else words[0]


def _instructions(listing):
    """All instructions, and those of the shortest loop that has nearly all multiply-adds of any loop."""
    instructions, labels, loops = [], {}, []
    for line in listing.splitlines():
        if label := re.match(r"\s*(\.L_\w+):", line):
            labels[label.group(1)] = len(instructions)
        elif found := re.search(r"/\*[0-9a-f]{4,}\*/\s+(.*?);", line):
            instructions.append(found.group(1).strip())
    for end, instruction in enumerate(instructions):
        jump = re.search(r"\(?(\.L_\w+)", instruction) if _operation(instruction).startswith("BRA") else None
        if jump and labels.get(jump.group(1), end + 1) <= end:
            loops.append(instructions[labels[jump.group(1)] : end + 1])
    if not loops:
        return instructions, []
    most = max(map(_multiply_adds, loops))
    return instructions, min((loop for loop in loops if _multiply_adds(loop) >= 0.95 * most), key=len)


def _multiply_adds(loop):
    return sum(_operation(instruction).startswith(MULTIPLY_ADDS) for instruction in loop)


def print_products(architectures, words):
    from tests.cuda.kernels import PRODUCTS

    print("| kernel | architecture | registers | shared | spills, stack | loop | FMA | shared loads | global loads |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, make in PRODUCTS.items():
        for architecture in architectures_of(name, architectures):
            if not all(word in name for word in words):
                continue
            with tempfile.TemporaryDirectory() as folder:
                code = code_of(*make(), architecture, Path(folder))
            share = sum(map(code.share, MULTIPLY_ADDS))
            loads = (" ".join(f"{n} x {w}" for w, n in code.widths(kind).items()) for kind in ("LDS", "LDG"))
            print(
                f"| {name} | {architecture} | {code.registers} | {code.shared} | {code.spills}, {code.stack} | "
                f"{code.loop.total()} | {share:.1%} | {' | '.join(loads)} |",
                flush=True,
            )


def print_others(architectures, words):
    from tests.cuda.kernels import OTHERS

    print(f"| kernel | shared | spills, stack | registers: {', '.join(architectures)} |")
    print("| --- | --- | --- | --- |")
    for name, found in OTHERS.items():
        if "float32" in name and all(word in name for word in words):
            with tempfile.TemporaryDirectory() as folder:
                codes = [code_of(*found, architecture, Path(folder)) for architecture in architectures]
            spills, stack = max(code.spills for code in codes), max(code.stack for code in codes)
            registers = ", ".join(str(code.registers) for code in codes)
            print(f"| {name} | {codes[0].shared} | {spills}, {stack} | {registers} |", flush=True)


def architectures_of(name, architectures=ARCHITECTURES):
    """Those that a kernel is for: tensor cores came with sm_80 as they are used here."""
    return [a for a in architectures if "tensor" not in name or a != "sm_75"]


def main(*names):
    architectures = [name for name in names if name.startswith("sm_")] or ARCHITECTURES
    words = [name for name in names if not name.startswith("sm_")]
    print_products(architectures, words)
    print()
    print_others(architectures, words)


if __name__ == "__main__":
    main(*sys.argv[1:])
