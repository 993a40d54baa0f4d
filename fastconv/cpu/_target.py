"""The processor that kernels are compiled for."""

from __future__ import annotations

import pathlib
from functools import cache

from llvmlite import binding as llvm
from numba.core import codegen, config


def _vector_unit() -> tuple[int, int, bool]:
    """Bytes of a vector register, number of them, and whether multiply-add is one instruction.

    Read from the target that Numba compiles for, so ``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` count.
    """
    triple, _, flags = magic()
    features = {flag[1:] for flag in flags.split(",") if flag.startswith("+")}
    if not triple.startswith(("x86_64", "i686", "i386")):
        return 16, 32, True  # NEON and its like
    if "avx512f" in features:
        return 64, 32, True
    if "avx" in features:
        return 32, 16, "fma" in features
    return 16, 16, "fma" in features


@cache
def magic() -> tuple[str, str, str]:
    """The platform, the processor and its features, as Numba names them, whose compiler is not yet made for it."""
    processor = llvm.get_host_cpu_name() if config.CPU_NAME is None else config.CPU_NAME
    features = codegen.get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
    return llvm.get_process_triple(), processor, features


def _converts_half() -> bool:
    """Whether float16 and float32 are converted by an instruction, in whole vectors."""
    return "+f16c" in magic()[2].split(",")


def _l2_bytes() -> int:
    """Bytes of a core's L2 cache; 512 KiB where the system does not say."""
    try:
        text = pathlib.Path("/sys/devices/system/cpu/cpu0/cache/index2/size").read_text().strip()
        return int(text.removesuffix("K")) << 10
    except (OSError, ValueError):
        return 512 << 10


VECTOR_BYTES, VECTOR_REGISTERS, HAS_FMA = _vector_unit()
HAS_HALF = _converts_half()
L2_BYTES = _l2_bytes()
LINE_BYTES = 64  # of a cache line


def lanes(itemsize: int) -> int:
    """Elements of ``itemsize`` bytes in one vector; of smaller ones no more than of float32.

    What accompanies an element, a position or its float32 value, fills registers too.
    """
    return VECTOR_BYTES // max(itemsize, 4)
