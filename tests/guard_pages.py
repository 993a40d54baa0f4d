"""Runs operations on arrays that touch memory which may not be read: one element too many ends the process.

``python -m tests.guard_pages`` prints the name of each case before it runs: the last line tells which one failed.
"""

import ctypes
import itertools
import math
import mmap

import numpy as np

import fastconv as fc
from fastconv import _convolution
from tests import strategies
from tests.test_conv import NAMED

REMAINDERS = {
    f"{kind}, {channels} channels": case
    for channels in range(1, 34)
    for kind, case in {
        "3x3": ((1, channels, 5, 6), (channels + 3, channels, 3, 3), {"padding": 1}),
        "3x3 with stride": ((1, channels, 5, 6), (channels + 3, channels, 3, 3), {"stride": 2}),
        "1x1": ((1, channels, 5, 6), (channels + 3, channels, 1, 1), {}),
        "depthwise": ((1, channels, 5, 6), (channels, 1, 3, 3), {"groups": channels}),
        "groups": ((2, 6, 3, channels), (8, 3, 2, 1), {"groups": 2}),
        "transposed sizes": ((1, 3, 5, channels + 2), (5, 3, 3, 3), {}),
    }.items()
}
_memory = []  # kept: freed pages would take their protection to whoever gets them next


def guarded(x, at_end):
    """A C-contiguous copy of ``x`` directly before (or after) a page that may not be touched."""
    pages = math.ceil(x.nbytes / mmap.PAGESIZE)
    memory = mmap.mmap(-1, (pages + 2) * mmap.PAGESIZE)
    _memory.append(memory)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (0, pages + 1):
        no_access = ctypes.CDLL(None).mprotect(ctypes.c_void_p(address + page * mmap.PAGESIZE), mmap.PAGESIZE, 0)
        assert no_access == 0
    start = (pages + 1) * mmap.PAGESIZE - x.nbytes if at_end else mmap.PAGESIZE
    copy = np.frombuffer(memory, x.dtype, x.size, start).reshape(x.shape)
    copy[...] = x
    return copy


def guarded_channels_last(x, at_end):
    return np.moveaxis(guarded(np.moveaxis(x, 1, -1), at_end), -1, 1)


def convolve(case, dtype, at_end, arrange):
    x_shape, weight_shape, options = case
    o = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, **options}.values()
    shapes = (x_shape, weight_shape, weight_shape[:1])
    x, weight, bias = (strategies.values(shape, dtype, seed) for seed, shape in enumerate(shapes))
    x, weight, bias = arrange(x, at_end), guarded(weight, at_end), guarded(bias, at_end)
    rank = len(weight_shape) - 2
    y = _convolution.forward(rank, x, weight, bias, *o, None, "auto", None)
    grad_out = arrange(y, at_end)
    grads = _convolution.backward(rank, grad_out, x, weight, *o, "auto")
    outs = arrange(np.zeros_like(y), at_end), arrange(np.zeros_like(x), at_end), guarded(np.zeros_like(weight), at_end)
    _convolution.forward(rank, x, weight, bias, *o, None, "auto", outs[0])
    _convolution.backward_input(rank, grad_out, weight, x.shape, *o, "auto", outs[1])
    _convolution.backward_weight(rank, grad_out, x, weight.shape, *o, "auto", outs[2])
    for out, result in zip(outs, (y, *grads), strict=False):
        np.testing.assert_array_equal(out, result)


def dense(dtype, at_end):
    for batch, ins, outs in itertools.product((1, 2, 7, 17), (1, 3, 16, 33), (1, 5, 16, 35)):
        shapes = ((batch, ins), (outs, ins), (outs,), (batch, outs))
        arrays = [guarded(strategies.values(shape, dtype, seed), at_end) for seed, shape in enumerate(shapes)]
        x, weight, bias, out = arrays
        y = fc.linear(x, weight, bias, out=out)
        fc.linear_backward(y, x, weight)


def main():
    layouts = {"channels first": guarded, "channels last": guarded_channels_last}
    for dtype, at_end in itertools.product(strategies.DTYPES, (True, False)):
        place = f"{dtype.__name__}, guard page {'after' if at_end else 'before'}"
        for (name, case), (order, arrange) in itertools.product({**NAMED, **REMAINDERS}.items(), layouts.items()):
            if math.prod(case[0]) and math.prod(case[1]):
                print(f"{place}: {name}, {order}", flush=True)
                convolve(case, dtype, at_end, arrange)
        print(f"{place}: linear", flush=True)
        dense(dtype, at_end)


if __name__ == "__main__":
    main()
