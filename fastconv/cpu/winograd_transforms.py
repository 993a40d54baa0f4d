"""Winograd's transforms as vector code: products M X Mᵀ of a small constant matrix and tiles of vectors.

A tile of m x m results of an r x r kernel is Aᵀ [(G w Gᵀ) * (Bᵀ x B)] A with n x n products, n = m + r - 1: polynomials
are multiplied at n - 1 points and at infinity (S. Winograd, "Arithmetic Complexity of Computations", SIAM 1980; for
convolution A. Lavin and S. Gray, arXiv:1509.09308). Forward has m, r = 4, 3; the weight gradient m, r = 3, 4.

The points are 0, ±5/8 and ±3/2. With the usual 0, ±1 and ±2 errors are twice as large on average and four times at
worst; of all pairs of eighths these two were the best, and the number of operations is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import prod
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastconv.cpu._jit import inlined
from fastconv.cpu.vector_ir import INDEX, Emitter

POINTS = (Fraction(0), Fraction(5, 8), Fraction(-5, 8), Fraction(3, 2), Fraction(-3, 2))
SIZE = len(POINTS) + 1  # of a tile of products

Matrix = list[list[Fraction]]


# --------------------------------------------------------------------------------------------------------- the matrices
def input_matrix() -> Matrix:
    """Bᵀ: row i holds the coefficients of the product of (t - point) over the other points, the last over all."""

    def coefficients(roots: tuple[Fraction, ...]) -> list[Fraction]:
        row = [Fraction(1)]
        for root in roots:
            row = [up - root * here for up, here in zip([Fraction(0), *row], [*row, Fraction(0)], strict=True)]
        return row + [Fraction(0)] * (SIZE - len(row))

    return [coefficients(POINTS[:i] + POINTS[i + 1 :]) for i in range(SIZE)]


def kernel_matrix(length: int) -> Matrix:
    """G: row i evaluates ``length`` coefficients at point i, divided by the product of distances to the others."""
    rows = []
    for i, point in enumerate(POINTS):
        scale = prod(point - other for other in POINTS[:i] + POINTS[i + 1 :])
        rows.append([point**k / scale for k in range(length)])
    return [*rows, [Fraction(k == length - 1) for k in range(length)]]


def output_matrix(length: int) -> Matrix:
    """Aᵀ: column i holds the powers of point i; infinity counts for the highest power alone."""
    return [[point**k for point in POINTS] + [Fraction(k == length - 1)] for k in range(length)]


# ---------------------------------------------------------------------------------------------------------- vector code
class _Linear:
    """Emits y = M x for vectors, with the work shared that points ± a have in common."""

    def __init__(self, emit: Emitter, matrix: Matrix) -> None:
        self._emit, self._matrix = emit, matrix
        columns = [list(column) for column in zip(*matrix, strict=True)]
        self._column_pairs, self._row_pairs = _opposite_pairs(columns), _opposite_pairs(matrix)

    def __call__(self, x: list[Any]) -> list[Any]:
        builder, matrix = self._emit.builder, [list(row) for row in self._matrix]
        x = list(x)
        for p, q in self._column_pairs:  # a x_p ± a x_q = a (x_p ± x_q)
            x[p], x[q] = builder.fadd(x[p], x[q]), builder.fsub(x[p], x[q])
            for row in matrix:
                same = row[p] == row[q]
                row[p], row[q] = (row[p], Fraction(0)) if same else (Fraction(0), row[p])
        y: list[Any] = [None] * len(matrix)
        for p, q in self._row_pairs:  # the even part ± the odd part
            even = [(a, v) for a, b, v in zip(matrix[p], matrix[q], x, strict=True) if a and a == b]
            odd = [(a, v) for a, b, v in zip(matrix[p], matrix[q], x, strict=True) if a and a != b]
            factor, rest = odd[-1][0], self._sum([(a / odd[-1][0], v) for a, v in odd])
            part = self._sum(even)
            y[p], y[q] = self._add_product(factor, rest, part), self._add_product(-factor, rest, part)
        return [
            value if value is not None else self._sum([(a, v) for a, v in zip(row, x, strict=True) if a])
            for row, value in zip(matrix, y, strict=True)
        ]

    def _sum(self, terms: list[tuple[Fraction, Any]]) -> Any:
        """The sum of coefficient times value, from a coefficient of 1 on where there is one."""
        terms = sorted(terms, key=lambda term: term[0] != 1)
        (first, total), rest = terms[0], terms[1:]
        if first != 1:
            total = self._emit.builder.fmul(total, self._constant(first))
        for factor, value in rest:
            total = self._add_product(factor, value, total)
        return total

    def _add_product(self, factor: Fraction, value: Any, total: Any) -> Any:
        if abs(factor) == 1:
            return (self._emit.builder.fadd if factor > 0 else self._emit.builder.fsub)(total, value)
        return self._emit.multiply_add(value, self._constant(factor), total)

    def _constant(self, value: Fraction) -> Any:
        return ir.Constant(self._emit.vector, [float(value)] * self._emit.lanes)


def _opposite_pairs(rows: Matrix) -> list[tuple[int, int]]:
    """Pairs of neighbouring rows whose entries are equal or opposite, with both among them."""

    def opposite(a: list[Fraction], b: list[Fraction]) -> bool:
        kinds = {x == y for x, y in zip(a, b, strict=True) if x or y}
        return kinds == {True, False} and all(abs(x) == abs(y) for x, y in zip(a, b, strict=True))

    return [(i, i + 1) for i in range(len(rows) - 1) if opposite(rows[i], rows[i + 1])]


PLANE, ROW, SHORT_ROW = 0, 1, 2  # tiles of 4x4 results and 3x3 taps, of 4 and 3 in a row, of 3 and 4 in a row


def make_transform(matrix: Matrix, short: Matrix) -> Any:
    """``transform(form, ...)``: the product M X Mᵀ for one vector of channels, with i, j, k, l from 0 on

        target[i * to_row + j * to_column] = sum over k, l of M[i, k] * M[j, l] * source[k * row + l * column]

    or M x for a row: its distance is that of rows and of columns together, one of them 0; ``short`` M for short ones.
    """
    on_plane, on_row = _make_transform(matrix, _emit_plane), _make_transform(matrix, _emit_row)
    on_short_row, one = _make_transform(short, _emit_row), matrix == short

    def transform(form, source, row, column, target, to_row, to_column):  # type: ignore[no-untyped-def]
        if form == PLANE:
            on_plane(source, row, column, target, to_row, to_column)
        elif one or form == ROW:
            on_row(source, row, column, target, to_row, to_column)
        else:
            on_short_row(source, row, column, target, to_row, to_column)

    return inlined(transform)


def _make_transform(matrix: Matrix, emit_code: Callable[..., None]) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        emit = Emitter(context, builder, signature.args[0].dtype)
        emit_code(emit, _Linear(emit, matrix), len(matrix[0]), len(matrix), *args)
        return context.get_dummy_value()

    @intrinsic  # type: ignore[untyped-decorator]
    def transform(
        typingctx: Any, source: Any, row: Any, column: Any, target: Any, to_row: Any, to_column: Any
    ) -> Any:  # fmt: skip
        return types.void(source, types.intp, types.intp, target, types.intp, types.intp), codegen

    return transform


def _emit_plane(
    emit: Emitter, apply: _Linear, size: int, results: int, source: Any, row: Any, column: Any, target: Any,
    to_row: Any, to_column: Any,
) -> None:  # fmt: skip
    columns = [apply([emit.load(_at(emit, source, k, row, l, column)) for k in range(size)]) for l in range(size)]
    for i in range(results):
        for j, value in enumerate(apply([done[i] for done in columns])):
            emit.store(value, _at(emit, target, i, to_row, j, to_column))


def _emit_row(
    emit: Emitter, apply: _Linear, size: int, results: int, source: Any, row: Any, column: Any, target: Any,
    to_row: Any, to_column: Any,
) -> None:  # fmt: skip
    for j, value in enumerate(apply([emit.load(_at(emit, source, k, row, k, column)) for k in range(size)])):
        emit.store(value, _at(emit, target, j, to_row, j, to_column))


def _at(emit: Emitter, address: Any, i: int, row: Any, j: int, column: Any) -> Any:
    down, across = (emit.builder.mul(pitch, ir.Constant(INDEX, k)) for k, pitch in ((i, row), (j, column)))
    return emit.builder.gep(address, [emit.builder.add(down, across)])


transform_input = make_transform(input_matrix(), input_matrix())
transform_kernel = make_transform(kernel_matrix(3), kernel_matrix(4))
transform_output = make_transform(output_matrix(4), output_matrix(3))
transform_grad = make_transform(kernel_matrix(4), kernel_matrix(3))
transform_weight = make_transform(output_matrix(3), output_matrix(4))
