"""Sum pooling, backward: gradients along a row, spread to all elements that their windows cover."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastconv.cpu._jit import inlined
from fastconv.cpu.pointers import advance, lanes_at
from fastconv.cpu.vector import add, interleave_high, interleave_low, load, opaque, store_every, store_first


class Phases(NamedTuple):
    """Of which elements of a row of scratch the result's element ``stride * j + phase`` is the sum.

    ``number[phase]`` of them: ``j + first[phase]``, and ``step`` further on each time. With a stride of 0 every
    position is a phase, and j is 0.
    """

    stride: Any
    first: Any
    number: Any
    step: Any


@inlined
def _phase_sum(values, phases, phase, run, j, fill):
    place, left, value = j + phases.first[phase] * run, phases.number[phase], fill
    while left > 0:
        value = add(value, load(advance(values, place)))
        place, left = place + phases.step * run, opaque(left - 1)
    return value


@inlined
def _constant_sum(values, place, step, number):
    """The same for a number of elements that the compiler knows."""
    value = load(advance(values, place))
    for _ in range(1, number):
        place += step
        value = add(value, load(advance(values, place)))
    return value


@inlined
def spread_row(values, phases, count, run, fill, target):
    """A row of ``count`` positions from a row of scratch; strides of 1 and 2 are the usual ones."""
    if run > 1 or phases.stride == 0:
        _spread_runs(values, phases, count, run, fill, target)
    elif phases.stride == 1:
        for j in range(0, count, lanes_at(values)):
            if phases.number[0] == 3:
                value = _constant_sum(values, j + phases.first[0], phases.step, np.intp(3))
            else:
                value = _phase_sum(values, phases, 0, 1, j, fill)
            store_first(advance(target, j), value, count - j)
    elif phases.stride == 2 and count > 1:
        _spread_pairs(values, phases, count, fill, target)
    else:
        _spread_phases(values, phases, count, fill, target)


@inlined
def _spread_pairs(values, phases, count, fill, target):
    step, evens, odds = phases.step, phases.number[0], phases.number[1]
    for j in range(0, (count + 1) // 2, lanes_at(values)):
        first, second = j + phases.first[0], j + phases.first[1]
        if evens == 1 and odds == 1:
            even, odd = _constant_sum(values, first, step, np.intp(1)), _constant_sum(values, second, step, np.intp(1))
        elif evens == 1 and odds == 2:
            even, odd = _constant_sum(values, first, step, np.intp(1)), _constant_sum(values, second, step, np.intp(2))
        elif evens == 2 and odds == 1:
            even, odd = _constant_sum(values, first, step, np.intp(2)), _constant_sum(values, second, step, np.intp(1))
        else:
            even, odd = _phase_sum(values, phases, 0, 1, j, fill), _phase_sum(values, phases, 1, 1, j, fill)
        store_pairs(even, odd, advance(target, 2 * j), count - 2 * j)


@inlined
def store_pairs(even, odd, target, room):
    store_first(target, interleave_low(even, odd), room)
    if room > lanes_at(target):
        store_first(advance(target, lanes_at(target)), interleave_high(even, odd), room - lanes_at(target))


@inlined
def _spread_phases(values, phases, count, fill, target):
    stride = phases.stride
    for j in range(0, (count + stride - 1) // stride, lanes_at(values)):
        for phase in range(min(stride, count - j * stride)):
            value, room = _phase_sum(values, phases, phase, 1, j, fill), count - j * stride - phase
            store_every(advance(target, j * stride + phase), stride, value, (room + stride - 1) // stride)


@inlined
def _spread_runs(values, phases, count, run, fill, target):
    phase = j = 0
    for place in range(count):
        for channel in range(0, run, lanes_at(values)):
            value = _phase_sum(values, phases, phase, run, j * run + channel, fill)
            store_first(advance(target, place * run + channel), value, run - channel)
        phase += 1
        if phase == phases.stride:
            phase, j = 0, j + 1
