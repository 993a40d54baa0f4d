"""The interpreter computes what the PTX manual says: control flow, memories and warps of small kernels."""

import numpy as np
import pytest

from tests.ptx.programs import each, kernel, run


def test_loops_of_different_length():
    """Threads leave a loop one after another and meet again behind it."""
    body = f"""
        mov.u32 %r5, 0; mov.u32 %r6, %r1;
        LOOP: setp.eq.s32 %p1, %r6, 0; @%p1 bra DONE;
        add.s32 %r5, %r5, %r6; add.s32 %r6, %r6, -1; bra LOOP;
        DONE: {each(0)} ld.global.u32 %r7, [%rd10]; add.s32 %r8, %r5, %r7; {each(1)} st.global.u32 [%rd11], %r8; ret;
    """
    x, y = np.arange(96, dtype=np.uint32), np.zeros(96, np.uint32)
    run(kernel(body), x, y, blocks=3)
    n = np.arange(96)
    np.testing.assert_array_equal(y, n * (n + 1) // 2 + n)


def test_more_blocks_than_run_at_once():
    x = np.arange(40_000, dtype=np.float32)
    y = np.zeros_like(x)
    body = f"{each(0)} ld.global.f32 %f1, [%rd10]; fma.rn.f32 %f2, %f1, 0f40000000, 0f3F800000; {each(1)}"
    run(kernel(f"{body} st.global.f32 [%rd11], %f2;"), x, y, blocks=1250)
    np.testing.assert_array_equal(y, 2 * x + 1)


def test_guards_choose_lanes():
    body = f"""
        {each(0)} {each(1)} setp.lt.u32 %p1, %r4, 10; mov.f32 %f1, 0f3F800000;
        @%p1 ld.global.f32 %f1, [%rd10]; @!%p1 mov.f32 %f2, 0f40A00000; @%p1 mov.f32 %f2, %f1;
        setp.ne.u32 %p2, %r4, 3; @%p2 st.global.f32 [%rd11], %f2;
    """
    x, y = np.arange(10, dtype=np.float32) + 100, np.zeros(32, np.float32)  # lanes past x's end do not load
    run(kernel(body), x, y)
    expected = np.r_[x, np.full(22, 5)]
    expected[3] = 0
    np.testing.assert_array_equal(y, expected)


def test_scalars_names_in_scopes_and_calls():
    functions = """
    .func (.param .b32 result) twice(.param .b32 value) {
        .reg .f32 %f<3>; .reg .pred %p<2>;
        ld.param.f32 %f1, [value]; setp.gt.f32 %p1, %f1, 0f41200000; @%p1 bra OVER;
        add.f32 %f2, %f1, %f1; st.param.f32 [result+0], %f2; ret;
        OVER: st.param.f32 [result+0], %f1; ret;
    }
    """
    call = """
        { .reg .b32 unused; .param .b32 param0; st.param.f32 [param0+0], %f1; .param .b32 retval0;
        call.uni (retval0), twice, (param0); ld.param.f32 %f1, [retval0+0]; }
    """
    body = f"""
        {each(0)} ld.global.f32 %f1, [%rd10]; {call} {call}
        {{ .reg .f32 t; ld.param.f32 t, [s0]; add.f32 %f1, %f1, t; }}
        {{ .reg .b32 t; mov.b32 t, 7; cvt.rn.f32.u32 %f2, t; add.f32 %f1, %f1, %f2; }}
        {each(1)} st.global.f32 [%rd11], %f1; ret;
    """
    x, y = np.arange(32, dtype=np.float32), np.zeros(32, np.float32)
    run(kernel(body, scalars=("f32", "u64"), functions=functions), x, y, scalars=(0.5, 3))
    twice = np.where(x > 10, x, 2 * x)
    np.testing.assert_array_equal(y, np.where(twice > 10, twice, 2 * twice) + 7.5)


def test_local_memory_and_generic_addresses():
    body = f"""
        .local .align 4 .b8 own[8];
        mov.u64 %rd5, own; cvta.local.u64 %rd6, %rd5; mul.lo.s32 %r5, %r1, 3;
        st.local.u32 [%rd5+4], %r5; ld.u32 %r6, [%rd6+4];
        mov.u64 %rd7, tile; cvta.shared.u64 %rd8, %rd7; mul.wide.u32 %rd9, %r4, 4; add.s64 %rd9, %rd8, %rd9;
        st.u32 [%rd9], %r6; ld.u32 %r7, [%rd9];
        {each(1)} st.u32 [%rd11], %r7;
    """
    y = np.zeros(64, np.uint32)
    run(kernel(body, shared=".shared .align 4 .b8 tile[128];"), np.zeros(1, np.uint32), y, blocks=2)
    np.testing.assert_array_equal(y, 3 * np.arange(64))


def test_atomic_operations():
    body = f"""
        atom.global.add.u32 %r5, [%rd1], 2; red.global.max.u32 [%rd1+4], %r1;
        {each(1)} st.global.u32 [%rd11], %r5;
    """
    x, y = np.zeros(2, np.uint32), np.zeros(96, np.uint32)
    run(kernel(body), x, y, blocks=3)
    np.testing.assert_array_equal(x, [192, 95])
    np.testing.assert_array_equal(np.sort(y), 2 * np.arange(96))


@pytest.mark.parametrize(
    ("mode", "offset", "expected"),
    [
        ("down", 3, lambda n: np.where(n + 3 < 32, n + 3, n)),
        ("up", 5, lambda n: np.where(n - 5 >= 0, n - 5, n)),
        ("bfly", 9, lambda n: n ^ 9),
        ("idx", 7, lambda n: np.full(32, 7)),
    ],
)
def test_shuffles(mode, offset, expected):
    clamp = 0 if mode == "up" else 31
    body = f"shfl.sync.{mode}.b32 %r5|%p1, %r4, {offset}, {clamp}, -1; {each(1)} st.global.u32 [%rd11], %r5;"
    y = np.zeros(64, np.uint32)
    run(kernel(body), np.zeros(1, np.uint32), y, threads=64)
    lane = expected(np.arange(32))
    np.testing.assert_array_equal(y, np.r_[lane, lane + 32])


def test_tensor_cores():
    """One warp, a 16 x 16 matrix times a 16 x 8 one: fragments as the manual's figures show them."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((16, 16)).astype(np.float16), rng.standard_normal((8, 16)).astype(np.float16)
    c = np.zeros((16, 8), np.float32)
    element = "mad.lo.s32 %r9, {row}, {pitch}, {column}; mul.wide.u32 %rd9, %r9, {width}; add.s64 %rd9, {array}, %rd9;"
    body = "shr.u32 %r5, %r4, 2; and.b32 %r6, %r4, 3; shl.b32 %r6, %r6, 1; add.s32 %r7, %r5, 8; add.s32 %r8, %r6, 8;"
    for n, (row, column) in enumerate((("%r5", "%r6"), ("%r7", "%r6"), ("%r5", "%r8"), ("%r7", "%r8"))):
        body += (
            element.format(row=row, column=column, pitch=16, width=2, array="%rd1")
            + f"ld.global.b32 %r{20 + n}, [%rd9];"
        )
    for n, column in enumerate(("%r6", "%r8")):
        body += (
            element.format(row="%r5", column=column, pitch=16, width=2, array="%rd2")
            + f"ld.global.b32 %r{24 + n}, [%rd9];"
        )
    body += "mov.f32 %f5, 0f3F800000; mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f1, %f2, %f3, %f4}, "
    body += "{%r20, %r21, %r22, %r23}, {%r24, %r25}, {%f5, %f5, %f5, %f5};"
    for row, pair in (("%r5", "%f1, %f2"), ("%r7", "%f3, %f4")):
        body += (
            element.format(row=row, column="%r6", pitch=8, width=4, array="%rd3")
            + f"st.global.v2.f32 [%rd9], {{{pair}}};"
        )
    run(kernel(body, arrays=3), a, b, c)
    np.testing.assert_allclose(c, a.astype(float) @ b.T.astype(float) + 1, rtol=0, atol=1e-5)
