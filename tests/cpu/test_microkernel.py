"""The micro-kernel and the transpose do what their one line of maths says, and touch nothing else; pointers too."""

import fractions

import numpy as np
import pytest

from fastconv.cpu import _jit, microkernel
from fastconv.cpu._target import lanes
from fastconv.cpu.microkernel import FEW_ROWS, MAX_VECTORS, ROWS, TALL_ROWS
from fastconv.cpu.pointers import advance, aligned, clear, copy, lanes_at, pointer, prefetch
from fastconv.cpu.transpose import transpose, transpose_epilogue
from tests import strategies

dtypes = pytest.mark.parametrize("dtype", strategies.DTYPES)


# ----------------------------------------------------------------------------------------------------- the micro-kernel
def caller(kernel):
    @_jit.compiled
    def call(depth, a, a_start, a_row, a_col, b, b_row, ahead, c, c_start, ldc, accumulate):
        kernel(
            depth, pointer(a, a_start), pointer(a_row, 0), pointer(a_col, 0), pointer(b, 0), pointer(b_row, 0), ahead,
            pointer(c, c_start), ldc, accumulate,
        )  # fmt: skip
        return a.size + a_row.size + a_col.size + b.size + b_row.size + c.size  # all alive until here

    return call


GENERATED = {f"{ROWS} rows, {vectors} vectors": (k, ROWS, vectors) for vectors, k in microkernel.microkernels.items()}
GENERATED["few rows"] = (microkernel.few_rows_tile, FEW_ROWS, MAX_VECTORS)
GENERATED["tall"] = (microkernel.tall_tile, TALL_ROWS, 1)
KERNELS = {name: (caller(kernel), rows, vectors) for name, (kernel, rows, vectors) in GENERATED.items()}
each_kernel = pytest.mark.parametrize(("call", "rows", "vectors"), KERNELS.values(), ids=KERNELS)


class Tile:
    """Arguments of one call: offsets at random, and NaN in A and B wherever these do not lead."""

    def __init__(self, rows, width, depth, dtype, seed, integers=True):
        rng = np.random.default_rng(seed)
        self.width, self.start = width, 100
        self.a_row, self.a_col = rng.integers(-100, 100, rows), rng.integers(0, 200, depth)
        self.b_row = rng.integers(0, 20 * width, depth)
        self.a, self.b = np.full(400, np.nan, dtype), np.full(21 * width, np.nan, dtype)
        for array, places in ((self.a, self.a_places()), (self.b, self.b_places())):
            array[places] = strategies.values(array.shape, dtype, rng.integers(1000), integers)[places]

    def a_places(self):
        return self.start + self.a_row[:, None] + self.a_col

    def b_places(self):
        return self.b_row[:, None] + np.arange(self.width)

    def run(self, call, c, c_start, ldc, accumulate, ahead=64):
        call(
            len(self.a_col), self.a, self.start, self.a_row, self.a_col, self.b, self.b_row, ahead, c, c_start, ldc,
            accumulate,
        )  # fmt: skip

    def sums(self):
        """The tile, exactly where the numbers are integers."""
        return self.a[self.a_places()].astype(np.float64) @ self.b[self.b_places()].astype(np.float64)


@each_kernel
@dtypes
@pytest.mark.parametrize("accumulate", [False, True])
def test_tile_is_the_sum_and_nothing_else_is_written(call, rows, vectors, dtype, accumulate):
    width = vectors * lanes(np.dtype(dtype).itemsize)
    for seed, (depth, more) in enumerate((d, m) for d in (0, 1, 2, 3, 8, 65) for m in (0, 1, 37)):
        tile = Tile(rows, width, depth, dtype, seed)
        c_start, ldc = 5 + seed, width + more
        c = strategies.values(c_start + rows * ldc + 70, dtype, seed, integers=True)
        expected = c.copy()
        place = c_start + np.arange(rows)[:, None] * ldc + np.arange(width)
        expected[place] = tile.sums() + (c[place] if accumulate else 0)
        tile.run(call, c, c_start, ldc, accumulate)
        np.testing.assert_array_equal(c, expected)


@each_kernel
@dtypes
def test_prefetching_reads_nothing(call, rows, vectors, dtype):
    width = vectors * lanes(np.dtype(dtype).itemsize)
    tile = Tile(rows, width, 7, dtype, 1)
    for ahead in (0, -3, 1 << 20, 1 << 44, -(1 << 44)):
        c = np.empty(rows * width, dtype)
        tile.run(call, c, 0, width, False, ahead)
        np.testing.assert_array_equal(c.reshape(rows, width), tile.sums())


def chain(a, b, dtype):
    """((0 + a[0] b[0]) + a[1] b[1]) + ..., every step rounded once where the machine has a fused multiply-add.

    The step of float32 goes through a float64 on its way from the exact number: rounding twice gives another result
    once in 2^29 steps.
    """
    total = dtype(0)
    for x, y in zip(a, b, strict=True):
        if _jit.HAS_FMA:
            exact = fractions.Fraction(float(x)) * fractions.Fraction(float(y)) + fractions.Fraction(float(total))
            total = dtype(float(exact))
        else:
            total = total + x * y
    return total


@each_kernel
@dtypes
def test_every_element_is_one_chain_in_the_order_of_rows(call, rows, vectors, dtype):
    """Bit by bit, so the result is the same for every width of vectors and every shape of tiles."""
    width = vectors * lanes(np.dtype(dtype).itemsize)
    tile = Tile(rows, width, 23, dtype, 2, integers=False)
    a, b = tile.a[tile.a_places()], tile.b[tile.b_places()]
    expected = np.array([[chain(a[i], b[:, j], dtype) for j in range(width)] for i in range(rows)])
    c = np.ones((rows, width), dtype)
    tile.run(call, c.reshape(-1), 0, width, False)
    assert c.tobytes() == expected.tobytes()
    before = strategies.values((rows, width), dtype, 3)
    c = before.copy()
    tile.run(call, c.reshape(-1), 0, width, True)
    assert c.tobytes() == (before + expected).tobytes()


@each_kernel
@dtypes
def test_nan_and_inf_stay_in_their_row_and_column(call, rows, vectors, dtype):
    width = vectors * lanes(np.dtype(dtype).itemsize)
    a, b = strategies.values((rows, 5), dtype, 1), strategies.values((5, width), dtype, 2)
    a[1, 2], b[3, width - 1] = np.nan, np.inf
    c = np.zeros((rows, width), dtype)
    offsets = np.arange(rows) * 5, np.arange(5), np.arange(5) * width
    call(5, a.reshape(-1), 0, *offsets[:2], b.reshape(-1), offsets[2], 0, c.reshape(-1), 0, width, False)
    kind = np.zeros((rows, width), int)
    kind[:, -1] = 1
    kind[1] = 2
    np.testing.assert_array_equal(np.isinf(c) + 2 * np.isnan(c), kind)


@_jit.compiled
def call_tile(vectors, depth, a, a_row, a_col, b, b_row, c, ldc):
    microkernel.tile(
        vectors, depth, pointer(a, 0), pointer(a_row, 0), pointer(a_col, 0), pointer(b, 0), pointer(b_row, 0), 0,
        pointer(c, 0), ldc, False,
    )  # fmt: skip
    return a.size + a_row.size + a_col.size + b.size + b_row.size + c.size


@dtypes
def test_tile_takes_the_kernel_of_as_many_vectors(dtype):
    for vectors in range(1, MAX_VECTORS + 1):
        width = vectors * lanes(np.dtype(dtype).itemsize)
        c, ones = np.full((ROWS, width + 3), 9, dtype), np.ones(4 * width, dtype)
        offsets = np.zeros(ROWS, np.int64)
        call_tile(vectors, 4, ones, offsets, offsets[:4], ones, offsets[:4], c.reshape(-1), width + 3)
        np.testing.assert_array_equal(c, np.where(np.arange(width + 3) < width, 4, 9) * np.ones((ROWS, 1)))


def test_accumulators_fit_into_the_registers():
    """With the vectors of a row of B and one element of A in all lanes."""
    for vectors in microkernel.microkernels:
        assert ROWS * vectors + vectors + 1 <= _jit.VECTOR_REGISTERS
    assert list(microkernel.microkernels) == list(range(1, MAX_VECTORS + 1))


# -------------------------------------------------------------------------------------------------------- the transpose
@_jit.compiled
def call_transpose(source, stride, rows, target, start, to):
    transpose(pointer(source, 0), stride, rows, pointer(target, start), pointer(to, 0))
    return source.size + target.size + to.size


@_jit.compiled
def call_epilogue(source, stride, rows, target, start, to, bias, floor):
    transpose_epilogue(
        pointer(source, 0), stride, rows, pointer(target, start), pointer(to, 0), pointer(bias, 0), floor
    )
    return source.size + target.size + to.size + bias.size


def places(width, seed):
    """Tables of offsets: at random and apart, in order and overlapping, with some and with all skipped."""
    rng = np.random.default_rng(seed)
    apart = rng.permutation(width) * (width + 3)
    skipped = np.where(rng.integers(0, 2, width) == 1, apart, -1)
    return [apart, skipped, np.arange(width) * max(1, width - 2), np.arange(width), np.full(width, -1)]


def stored(matrix, target, start, to):
    """``target`` after whole rows of lanes are stored one after the other, row q at to[q], none at -1."""
    expected = target.copy()
    for row, offset in zip(matrix, to, strict=True):
        if offset >= 0:
            expected[start + offset : start + offset + len(row)] = row
    return expected


@dtypes
def test_transpose_of_every_number_of_rows(dtype):
    width = lanes(np.dtype(dtype).itemsize)
    for rows in range(1, width + 1):
        for stride in (width, width + 1, 3, 0, 100):
            source = 1 + np.arange((rows - 1) * stride + width).astype(dtype)
            matrix = source[np.minimum(np.arange(width), rows - 1) * stride + np.arange(width)[:, None]]
            for to in places(width, rows):
                target = -np.arange(7 + width * (width + 3) + 9).astype(dtype)
                expected = stored(matrix, target, 7, to)
                call_transpose(source, stride, rows, target, 7, to)
                np.testing.assert_array_equal(target, expected)


SPECIAL = [np.nan, np.inf, -np.inf, -0.0, 0.0, 1.5, -1.5, 1e-45, -1e-45, 3e38, -3e38, 0.25]


@dtypes
@pytest.mark.parametrize("floor", [0.0, -np.inf, 1.0])
def test_transpose_with_bias_and_floor(dtype, floor):
    width = lanes(np.dtype(dtype).itemsize)
    source = np.resize(np.array(SPECIAL, dtype), width * (width + 1))
    for bias in ([-0.0], [1.0, -0.25, 0.0], SPECIAL[3:9]):
        bias = np.resize(np.array(bias, dtype), width)
        for rows in {1, 2, width - 1, width}:
            stride = width + 1
            matrix = source[np.minimum(np.arange(width), rows - 1) * stride + np.arange(width)[:, None]]
            with np.errstate(over="ignore"):
                matrix = matrix + bias[:, None]
            matrix = np.where(matrix < dtype(floor), dtype(floor), matrix)  # NaN is not less, neither is -0
            for to in places(width, rows):
                target = np.full(3 + width * (width + 3) + 9, 77, dtype)
                expected = stored(matrix, target, 3, to)
                call_epilogue(source, stride, rows, target, 3, to, bias, dtype(floor))
                np.testing.assert_array_equal(target, expected)
                np.testing.assert_array_equal(np.signbit(target[target == 0]), np.signbit(expected[expected == 0]))


# ------------------------------------------------------------------------------------------------------------- pointers
@_jit.compiled
def put(x, offset, further, value):
    advance(pointer(x, offset), further)[0] = value
    return x.size


@_jit.compiled
def put_aligned(x, offset, value):
    aligned(pointer(x, offset))[0] = value
    return x.size


@_jit.compiled
def call_copy(target, start, source, source_start, count):
    copy(pointer(target, start), pointer(source, source_start), count)
    return target.size + source.size


@_jit.compiled
def call_clear(target, start, count):
    clear(pointer(target, start), count)
    return target.size


@_jit.compiled
def call_prefetch(x, offset):
    prefetch(pointer(x, offset))
    return x.size


@_jit.compiled
def count_lanes(x):
    return lanes_at(pointer(x, 0))


@pytest.mark.parametrize("dtype", [*strategies.DTYPES, np.int64])
def test_pointers_count_in_elements(dtype):
    x = np.zeros(20, dtype)
    put(x, 12, -5, 3)
    put(x, 0, 19, 4)
    np.testing.assert_array_equal(x, [3 if i == 7 else 4 if i == 19 else 0 for i in range(20)])
    assert count_lanes(x) == lanes(x.itemsize) == _jit.VECTOR_BYTES // x.itemsize
    call_prefetch(x, 1 << 40)


@dtypes
def test_aligned_is_the_next_whole_vector(dtype):
    x = np.zeros(100, dtype)
    width = lanes(x.itemsize)
    for offset in range(3 * width):
        x[:] = 0
        put_aligned(x, offset, 1)
        expected = next(i for i in range(offset, 100) if (x.ctypes.data + i * x.itemsize) % _jit.VECTOR_BYTES == 0)
        assert list(np.flatnonzero(x)) == [expected]


@dtypes
def test_copy_and_clear_take_a_count_of_elements(dtype):
    source = 1 + np.arange(50).astype(dtype)
    for count in (0, 1, 2, 7, 33):
        target = np.full(50, -1, dtype)
        call_copy(target, 5, source, 9, count)
        np.testing.assert_array_equal(target, [*[-1] * 5, *source[9 : 9 + count], *[-1] * (45 - count)])
        target = source.copy()
        call_clear(target, 3, count)
        np.testing.assert_array_equal(target, [*source[:3], *[0] * count, *source[3 + count :]])
