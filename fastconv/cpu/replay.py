"""Programs: the launches of one call, kept as numbers, so that compiled code repeats them without Python.

A program is an array of int64. Its header is :class:`Header`; its results are, one after the other, bytes, elements,
shape and strides; its steps are each a trampoline, the number of words and of patches, the words that the kernel's
arguments take, and the patches (word, buffer, offset): where the address of an argument is filled in. Buffers are the
caller's arrays, then the results, and -1 for the arena, which holds all scratch of a call.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from fastconv.cpu._jit import c_function, inlined
from fastconv.cpu.memory import empty
from fastconv.cpu.pointers import pointer

PLACES = 1 << 11  # of the table of programs, at most half of which are taken

_WORD = ir.IntType(64)
_NUMBERS = types.CPointer(types.int64)


class Header(NamedTuple):
    """The first numbers of a program; lists are given by the places of their first numbers."""

    hash: int
    keys: int  # numbers of the key
    key_list: int
    execute: int  # the address of that function
    results: int
    arena: int  # words of all scratch
    block: int  # words of the largest step's arguments
    steps: int
    step_list: int
    zeros: int  # runs of the arena to clear: first word, words
    zero_list: int
    flags: int  # words of the arena that are not 0 where a kernel gave up
    flag_list: int


# ------------------------------------------------------------------------------------------------------------ addresses
@intrinsic  # type: ignore[untyped-decorator]
def _at(typingctx: Any, address: Any) -> Any:
    """The numbers at an address."""
    return _NUMBERS(types.int64), lambda context, builder, sig, args: builder.inttoptr(args[0], _WORD.as_pointer())


@intrinsic  # type: ignore[untyped-decorator]
def _address(typingctx: Any, numbers: Any) -> Any:
    return types.int64(numbers), lambda context, builder, sig, args: builder.ptrtoint(args[0], _WORD)


@intrinsic  # type: ignore[untyped-decorator]
def _start(typingctx: Any, trampoline: Any, block: Any) -> Any:
    """Run a kernel; 0 where it ends well."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [_WORD.as_pointer()])
        status = builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])
        return builder.sext(status, _WORD)

    return types.int64(types.int64, _NUMBERS), codegen


# ----------------------------------------------------------------------------------------------- called by machine code
@inlined
def _hash(key, count):  # type: ignore[no-untyped-def]
    number = np.uint64(count)
    for k in range(count):
        number = (number ^ np.uint64(key[k])) * np.uint64(0x9E3779B97F4A7C15)
        number ^= number >> np.uint64(29)
    return np.int64(number)


@c_function(types.int64(_NUMBERS, types.int64))
def hash_key(key, count):  # type: ignore[no-untyped-def]
    """The hash of a key of ``count`` numbers."""
    return _hash(key, count)


@c_function(types.int64(_NUMBERS, _NUMBERS, types.int64))
def find(table, key, count):  # type: ignore[no-untyped-def]
    """The address of the program with that key, or 0."""
    number = _hash(key, count)
    place = number & (PLACES - 1)
    while table[place] != 0:
        program = _at(table[place])
        same = program[0] == number and program[1] == count
        k = 0
        while same and k < count:
            same = program[program[2] + k] == key[k]
            k += 1
        if same:
            return table[place]
        place = (place + 1) & (PLACES - 1)
    return 0


@c_function(types.int64(_NUMBERS, _NUMBERS))
def execute(program, buffers):  # type: ignore[no-untyped-def]
    """Run a program on buffers given by their addresses; 0 where all kernels end well."""
    size, zeros, flags = program[5], program[10], program[12]
    memory = empty(size + program[6] + 8, np.int64)
    arena = _at((_address(pointer(memory, 0)) + 63) // 64 * 64)
    for k in range(program[9]):
        for word in range(program[zeros + 2 * k], program[zeros + 2 * k] + program[zeros + 2 * k + 1]):
            arena[word] = 0
    failed, step = np.int64(0), program[8]
    for _ in range(program[7]):
        words, patches = program[step + 1], program[step + 2]
        for k in range(words):
            arena[size + k] = program[step + 3 + k]
        for k in range(patches):
            patch = step + 3 + words + 3 * k
            buffer = program[patch + 1]
            start = buffers[buffer] if buffer >= 0 else _address(arena)
            arena[size + program[patch]] = start + program[patch + 2]
        failed |= _start(program[step], _at(_address(arena) + 8 * size))
        step += 3 + words + 3 * patches
    for k in range(program[11]):
        failed |= arena[program[flags + k]]
    memory[0] = 0  # an array lives until its last use, which that of its address is not
    return failed


# ------------------------------------------------------------------------------------------------------------ in Python
_libraries: list[Any] = []  # compiled code lives as long as its library


def entry(core: Any, kinds: tuple[Any, ...]) -> tuple[int, int]:
    """The addresses of the trampoline and of the machine code of a kernel for arguments of these types."""
    compiled = core.overloads[kinds]
    _libraries.append(compiled.library)
    name = compiled.fndesc.llvm_func_name
    native = cpu_target.target_context.call_conv.get_function_type(compiled.signature.return_type, kinds)
    return _trampoline(tuple(native.args)), compiled.library.get_pointer_to_function(name)


@cache
@global_compiler_lock  # type: ignore[untyped-decorator]
def _trampoline(kinds: tuple[Any, ...]) -> int:
    """int32 (int64 *block): calls the machine code at block[0] with the words from block[1] on as arguments."""
    library = cpu_target.target_context.codegen().create_library("fastconv_trampoline")
    module = library.create_ir_module("fastconv_trampoline")
    name = f"fastconv_trampoline_{len(_libraries)}"
    function = ir.Function(module, ir.FunctionType(ir.IntType(32), [_WORD.as_pointer()]), name)
    builder = ir.IRBuilder(function.append_basic_block())
    result, error = (builder.alloca(kind.pointee) for kind in kinds[:2])
    words = [builder.load(builder.gep(function.args[0], [_WORD(k)])) for k in range(len(kinds) - 1)]
    address = builder.inttoptr(words[0], ir.FunctionType(ir.IntType(32), kinds).as_pointer())
    args = [_from_word(builder, word, kind) for word, kind in zip(words[1:], kinds[2:], strict=True)]
    builder.ret(builder.call(address, [result, error, *args]))
    library.add_ir_module(module)
    library.finalize()
    _libraries.append(library)
    return int(library.get_pointer_to_function(name))


def _from_word(builder: Any, word: Any, kind: Any) -> Any:
    if isinstance(kind, ir.PointerType):
        return builder.inttoptr(word, kind)
    if isinstance(kind, ir.DoubleType):
        return builder.bitcast(word, kind)
    if isinstance(kind, ir.FloatType):
        return builder.bitcast(builder.trunc(word, ir.IntType(32)), kind)
    return word if kind.width == 64 else builder.trunc(word, kind)
