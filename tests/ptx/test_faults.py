"""The interpreter reports what is wrong with a kernel, and where."""

import re

import numpy as np
import pytest

from tests.ptx.memory import Fault
from tests.ptx.programs import each, kernel, run

# result[i] = x[n - 1 - i], through shared memory
REVERSE = f"""
    {each(0)} ld.global.f32 %f1, [%rd10];
    mov.u32 %r5, tile; shl.b32 %r6, %r4, 2; add.s32 %r7, %r5, %r6;
    st.shared.f32 [%r7], %f1;
    bar.sync 0;
    sub.s32 %r8, 63, %r4; shl.b32 %r9, %r8, 2; add.s32 %r10, %r5, %r9;
    ld.shared.f32 %f2, [%r10];
    {each(1)} st.global.f32 [%rd11], %f2;
    ret;
"""
TILE = ".shared .align 16 .b8 tile[256];"


def arrays(count=128):
    return np.arange(count, dtype=np.float32), np.zeros(count, np.float32)


def test_a_correct_kernel_passes():
    x, y = arrays()
    run(kernel(REVERSE, shared=TILE), x, y, blocks=2, threads=64)
    np.testing.assert_array_equal(y.reshape(2, 64), x.reshape(2, 64)[:, ::-1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("bar.sync 0;", ""), r"race: .*with no barrier between: block 0, thread \d+: .*shared"),
        (("st.shared.f32 [%r7], %f1;", ""), r"reads what nobody has written: block 0, thread 0: ld.shared.f32"),
        (("63, %r4", "64, %r4"), r"out of bounds of 256 bytes of shared memory: block 0, thread 0: ld.shared.f32"),
        (("[%rd11], %f2", "[%rd11+4], %f2"), r"out of bounds of the arrays in global memory: block 1, thread 63: st"),
        (("[%rd10];", "[%rd10+-4];"), r"out of bounds of the arrays in global memory: block 0, thread 0: ld.global"),
        (("[%rd10];", "[%rd10+2];"), r"access of 4 bytes that is not aligned to them: block 0, thread 0: ld.global"),
        (("[%rd11], %f2", "[%rd2], %f2"), r"race: .*: block 0, thread \d+: st.global.f32"),
        (
            ("bar.sync 0;", "setp.lt.u32 %p1, %r4, 9; @%p1 bra OVER; bar.sync 0; OVER:"),
            r"(barrier that not all threads of the block reach|race: ).*: block 0",
        ),
        (
            ("bar.sync 0;", "setp.lt.u32 %p1, %r4, 9; @%p1 bra A; bar.sync 0; bra B; A: bar.sync 0; B:"),
            r"barrier that not all threads of the block reach: block 0, thread 0: bar.sync 0",
        ),
        (("ret;", "LOOP: bra LOOP;"), "does not end"),
    ],
)
def test_a_wrong_kernel_is_reported(change, message, monkeypatch):
    monkeypatch.setattr("tests.ptx.machine.STEPS", 1000)
    assert REVERSE.count(change[0]) == 1
    program = kernel(REVERSE.replace(*change), shared=TILE)
    with pytest.raises(Fault) as caught:
        run(program, *arrays(), blocks=2, threads=64)
    assert re.match(message, str(caught.value)), caught.value


@pytest.mark.parametrize("start", [0, 1, 2])
def test_a_vector_load_needs_an_aligned_array(start):
    """The alignment of the caller's array counts, wherever the interpreter keeps it."""
    memory = np.zeros(40, np.float32)
    skip = (-memory.ctypes.data // 4) % 4 + start
    x, y = memory[skip : skip + 32], np.zeros(8, np.float32)
    program = kernel(
        f"{each(0, 16)} ld.global.v4.f32 {{%f1, %f2, %f3, %f4}}, [%rd10]; {each(1)} st.global.f32 [%rd11], %f4;"
    )
    if start == 0:
        run(program, x, y, threads=8)
        return
    with pytest.raises(Fault, match=r"access of 16 bytes that is not aligned to them: block 0, thread 0: ld.global.v4"):
        run(program, x, y, threads=8)


def test_threads_of_other_blocks_race_too():
    x, y = arrays(64)
    body = f"{each(0)} ld.global.f32 %f1, [%rd10]; mul.wide.u32 %rd21, %r4, 4; add.s64 %rd22, %rd2, %rd21;"
    program = kernel(f"{body} st.global.f32 [%rd22], %f1;")
    with pytest.raises(Fault, match=r"race: two threads write to one place: block 0"):
        run(program, x, y, blocks=2, threads=32)


def test_writing_what_another_thread_reads_is_a_race():
    x = np.arange(65, dtype=np.float32)
    program = kernel(f"{each(0)} ld.global.f32 %f1, [%rd10+4]; st.global.f32 [%rd10], %f1;", arrays=1)
    with pytest.raises(Fault, match="race: writes what another thread read"):
        run(program, x, threads=64)


COPY = f"""
    {each(0, 16)} mov.u32 %r5, tile; shl.b32 %r6, %r4, 4; add.s32 %r7, %r5, %r6;
    cp.async.cg.shared.global [%r7], [%rd10], 16;
    cp.async.commit_group;
    cp.async.wait_group 0;
    bar.sync 0;
    shl.b32 %r8, %r4, 2; xor.b32 %r8, %r8, 124; add.s32 %r9, %r5, %r8;
    ld.shared.f32 %f1, [%r9]; {each(1)} st.global.f32 [%rd11], %f1;
"""


def test_asynchronous_copies_are_there_after_the_wait():
    x, y = np.arange(128, dtype=np.float32), np.zeros(32, np.float32)
    run(kernel(COPY, shared=".shared .align 16 .b8 tile[512];"), x, y)
    np.testing.assert_array_equal(y, x[31::-1])


@pytest.mark.parametrize("change", [("cp.async.wait_group 0;", ""), ("wait_group 0;", "wait_group 1;")])
def test_asynchronous_copies_are_not_there_before(change):
    program = kernel(COPY.replace(*change), shared=".shared .align 16 .b8 tile[512];")
    with pytest.raises(Fault, match="reads what nobody has written"):
        run(program, np.arange(128, dtype=np.float32), np.zeros(32, np.float32))


def test_a_warp_instruction_needs_the_whole_warp():
    body = "setp.lt.u32 %p1, %r4, 9; @%p1 bra OVER; shfl.sync.down.b32 %r5, %r1, 1, 31, -1; OVER: ret;"
    with pytest.raises(Fault, match="warp instruction that not all threads of a warp reach"):
        run(kernel(body), *arrays(32))
