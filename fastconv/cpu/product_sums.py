"""What all products share: the chains of a sum, and how sums become results."""

from __future__ import annotations

from fastconv.cpu._jit import inlined, internal
from fastconv.cpu.arithmetic import choose
from fastconv.cpu.memory import empty
from fastconv.cpu.pointers import pointer
from fastconv.cpu.vector import load, store_first

CHAIN = 384  # summands of one chain, at most; how many a sum has depends on its depth alone


@internal
def make_cuts(depth, index):
    """Where the chains of a sum begin, and where the last one ends, in the type of ``index``."""
    chains = max(1, (depth + CHAIN - 1) // CHAIN)  # at least one: a sum of nothing is stored too
    cuts = empty(chains + 1, index)
    for k in range(cuts.size):
        cuts[k] = k * depth // chains
    return cuts


@inlined
def store_vector(sums, bias, place, floor, there, count):
    """there[:count] = max(sums + bias[place:], floor), or the sums where ``bias`` is empty."""
    value = load(sums)
    if bias.size > 0:
        value = value + load(pointer(bias, place))
        value = choose(value < floor, floor, value)
    store_first(there, value, count)
