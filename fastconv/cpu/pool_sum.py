"""Sum and average pooling, forward and backward."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastconv._window import Window
from fastconv.cpu import layout
from fastconv.cpu import pool_plan as p
from fastconv.cpu._jit import L2_BYTES, VECTOR_BYTES, flushing, inlined, launch
from fastconv.cpu._target import lanes
from fastconv.cpu.memory import zeros
from fastconv.cpu.pointers import advance, pointer
from fastconv.cpu.pool_bands import (
    SERIAL_BYTES,
    SLACK,
    Scratch,
    computed,
    parts_of_scratch,
    pool,
    prepare,
    result_shape,
    rows_of_scratch,
    runs_and_planes,
    stored,
)
from fastconv.cpu.pool_rows import Operation, plus, plus4
from fastconv.cpu.pool_sum_backward import sum_backward_core, sum_backward_core_2x2, sum_backward_core_3x3
from fastconv.cpu.vector import divide, load, multiply, splat

Array = layout.Array

FACTOR, DIVISOR, DIVISORS, NOTHING = range(4)


class Factors(NamedTuple):
    """What sums are multiplied or divided by: one number, or one per row of a plane times one per element of it."""

    kind: Any
    rows: Any
    row_count: Any
    columns: Any


# -------------------------------------------------------------------------------------------------------------- forward
@inlined
def divided(value, factors, row, j):
    if factors.kind == FACTOR:
        return multiply(value, splat(factors.rows, factors.rows[0]))
    if factors.kind == DIVISOR:
        return divide(value, splat(factors.rows, factors.rows[0]))
    if factors.kind == DIVISORS:
        divisor = splat(factors.rows, factors.rows[row % factors.row_count])
        return divide(value, multiply(load(advance(factors.columns, j)), divisor))
    return value


@flushing
def sum_core(worker, workers, x, y, numbers, kind, plan, planes, zero):
    operation, none = Operation(False, False, plus, plus4, plus, plus4, divided), zeros(SLACK, np.int64)
    places = zeros(plan[p.SOURCE_COUNT] + SLACK, np.int64)
    scratch = Scratch(rows_of_scratch(plan, zero), none, parts_of_scratch(plan, zero), none, places)
    rows, fill = plan[p.DEPTH] * plan[p.HEIGHT], splat(pointer(scratch.values, 0), zero)
    factors = Factors(kind, pointer(numbers, 0), rows, pointer(numbers, rows if kind == DIVISORS else 0))
    nothing = Factors(NOTHING, factors.rows, rows, factors.columns)
    seamless = plan[p.SEAMLESS] and kind != DIVISORS
    pool(operation, worker, workers, x, y, none, scratch, factors, nothing, plan, planes, seamless, fill)


@lru_cache(maxsize=256)
def _forward_factors(
    window: Window, count_include_pad: bool, divisor: int | None, run: int, dtype: np.dtype[Any]
) -> tuple[Array, int]:
    """The factors of a call and their kind. Multiplication takes the place of division where it gives the same."""
    rows, columns = p.divisors(window, count_include_pad, divisor)
    if rows.min() == rows.max() and columns.min() == columns.max():
        number = rows[0] * columns[0]
        exact = math.frexp(number)[0] == 0.5
        return _read_only([1 / number if exact else number], dtype), FACTOR if exact else DIVISOR
    return _read_only([*rows, *np.repeat(columns, run), *[1] * VECTOR_BYTES], dtype), DIVISORS


def _read_only(numbers: Any, dtype: np.dtype[Any]) -> Array:
    array = np.array(numbers, dtype)
    array.setflags(write=False)
    return array


def sum_pool_forward(
    x: Array, window: Window, count_include_pad: bool, divisor: int | None, out: Array | None
) -> Array:
    """The sums of x's windows over ``divisor``, or over the number of elements that count."""
    call, dtype = prepare(x, window), computed(x.dtype)
    y = layout.target(out, result_shape(x, window), x.dtype, call.channels_last, x)
    numbers, kind = _forward_factors(window, count_include_pad, divisor, call.run, dtype)
    target = stored(layout.flat_target(y, call.channels_last))
    launch(sum_core, call.tasks, call.source, target, numbers, kind, call.plan, call.planes, dtype.type(0))
    return layout.deliver(y, out)


# ------------------------------------------------------------------------------------------------------------- backward
@lru_cache(maxsize=256)
def _backward_tables(
    window: Window, count_include_pad: bool, divisor: int | None, run: int, dtype: np.dtype[Any]
) -> tuple[Any, Array, Array]:
    """The kernel, the plan, and one factor per row and one per column of the gradient."""
    rows, columns = p.divisors(window, count_include_pad, divisor)
    factors = _read_only([*1 / rows, *np.repeat(1 / columns, run), *[1] * VECTOR_BYTES], dtype)
    core = _core_by_two(window) if run == 1 else None
    return core, p.backward_plan(window, run, lanes(dtype.itemsize)), factors


def _core_by_two(window: Window) -> Any:
    """The kernel of windows that move by two on both axes, where there is one: others then need not be compiled."""
    if window.stride != (1, 2, 2) or window.dilation[1:] != (1, 1) or window.padding_before[0] > 0:
        return None
    if window.kernel_size == (1, 2, 2) and window.padding_before == (0, 0, 0):
        return sum_backward_core_2x2
    pairs = window.kernel_size == (1, 3, 3) and window.input_size[0] == 1 and window.input_size[2] > 1
    return sum_backward_core_3x3 if pairs else None


def sum_pool_backward(
    grad_out: Array, input_shape: tuple[int, ...], window: Window, count_include_pad: bool, divisor: int | None
) -> Array:
    """The gradient of x of that shape."""
    source, channels_last = layout.flat(grad_out)
    grad_x = layout.empty(input_shape, grad_out.dtype, channels_last)
    target, dtype = stored(layout.flat_target(grad_x, channels_last)), computed(grad_out.dtype)
    zero = dtype.type(0)
    run, planes = runs_and_planes(input_shape, channels_last)
    core, plan, numbers = _backward_tables(window, count_include_pad, divisor, run, dtype)
    tasks = planes * window.output_size[1] if grad_x.nbytes > SERIAL_BYTES else 1
    ahead = int(2 * grad_x.nbytes > L2_BYTES)  # what is in the cache anyway is not worth asking for
    if core is None:
        launch(sum_backward_core, tasks, stored(source), target, numbers, plan, planes, ahead, run, zero)
    else:
        launch(core, tasks, stored(source), target, numbers, plan, planes, ahead, zero)
    return grad_x
