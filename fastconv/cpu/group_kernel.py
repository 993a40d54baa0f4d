"""Sums of products for groups of a few channels: pixels in the lanes, and several output channels in a tile.

A vector of the input is loaded once for all the tile's channels, so that multiplications bound the time, not loads.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastconv.cpu._jit import inlined
from fastconv.cpu._target import LINE_BYTES
from fastconv.cpu.depthwise_kernel import VECTORS_OF_WIDTH, WidthEmitter
from fastconv.cpu.vector_ir import INDEX, emit_prefetch

MANY, SOME = VECTORS_OF_WIDTH >= 32, VECTORS_OF_WIDTH >= 8
# Output channels and vectors of a tile: 20 or 24 sums of 32 registers, and the fewer of the two in registers as well.
# Loads that cross cache lines bound the narrow one to 80 % of the peak, the wide one reaches 94 %.
WIDE = WIDE_CHANNELS, WIDE_VECTORS = (8, 3) if MANY else (4, 1) if SOME else (2, 1)
NARROW = NARROW_CHANNELS, NARROW_VECTORS = (4, 5) if MANY else (2, 2) if SOME else (2, 1)
# The same for the weight's gradient: output channels, and taps whose sums one call makes.
CHANNELS, TAPS = (4, 6) if MANY else (2, 2) if SOME else (2, 1)


def channels_together(pass_: str, shared: int) -> int:
    """Output channels of a tile for groups of so many; one where the tile would be half empty."""
    if shared <= 2:
        return 1
    if pass_ == "backward_weight":
        return CHANNELS

    def use(channels: int) -> float:
        return shared / (-(-shared // channels) * channels)

    return WIDE_CHANNELS if use(WIDE_CHANNELS) > 0.85 * use(NARROW_CHANNELS) else NARROW_CHANNELS


def vectors_of(together: int) -> int:
    """Vectors of a tile of so many channels."""
    return WIDE_VECTORS if together == WIDE_CHANNELS else NARROW_VECTORS


# ------------------------------------------------------------------------------------------- forward and backward_input
def _make_sum_group(channels: int, vectors: int) -> Any:
    """``sum_group`` for a tile of results: for i < channels and lanes l < vectors * lanes

        out[i * pitch + l] = max(floor, bias[i] + sum over r < count of a[places[r] + l] * b[r * row + i])

    with one chain of multiply-adds per element. ``count`` cache lines each from ``ahead`` and ``results`` on are
    fetched into L2 meanwhile: what moves will read and write next.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def sum_group(
        typingctx: Any, count: Any, places: Any, a: Any, b: Any, row: Any, bias: Any, floor: Any, out: Any, pitch: Any,
        ahead: Any, results: Any,
    ) -> Any:  # fmt: skip
        index = types.CPointer(types.intp)
        signature = types.void(types.intp, index, a, a, types.intp, a, a.dtype, a, types.intp, a, a)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            emit = WidthEmitter(context, builder, signature.args[2].dtype)
            _emit_sum_group(builder, emit, channels, vectors, args)
            return context.get_dummy_value()

        return signature, codegen

    return sum_group


def _emit_sum_group(builder: Any, emit: WidthEmitter, channels: int, vectors: int, args: Any) -> None:
    count, places, a, b, row, bias, floor, out, pitch, ahead, results = args
    sums = [[cgutils.alloca_once_value(builder, emit.zero()) for _ in range(vectors)] for _ in range(channels)]
    with cgutils.for_range(builder, count) as loop:
        window, factors = emit.at(a, emit.entry(places, loop.index)), emit.at(b, builder.mul(loop.index, row))
        _emit_row(builder, emit, sums, window, factors)
        line = _times(builder, loop.index, LINE_BYTES // emit.size)
        for address in (ahead, results):
            emit_prefetch(builder, emit.at(address, line), write=False, level=2)
    least = emit.splat(floor)
    for i, slots in enumerate(sums):
        added, there = emit.splat(emit.entry(bias, ir.Constant(INDEX, i))), emit.at(out, _times(builder, pitch, i))
        for v, slot in enumerate(slots):
            value = builder.fadd(builder.load(slot), added)
            value = builder.select(builder.fcmp_ordered("<", value, least), least, value)
            emit.store(value, emit.at(there, ir.Constant(INDEX, v * emit.lanes)))


def _emit_row(builder: Any, emit: WidthEmitter, sums: Any, window: Any, factors: Any) -> None:
    """Add the products of some channels' weights and some vectors of the input, the fewer of them in registers."""
    channels, vectors = len(sums), len(sums[0])

    def factor(i: int) -> Any:
        return emit.splat(emit.entry(factors, ir.Constant(INDEX, i)))

    def value(v: int) -> Any:
        return emit.load(emit.at(window, ir.Constant(INDEX, v * emit.lanes)))

    by_channel = vectors <= channels
    outer, inner, many = (factor, value, vectors) if by_channel else (value, factor, channels)
    kept = [inner(k) for k in range(many)]
    for n in range(max(channels, vectors)):
        once = outer(n)
        for k in range(many):
            slot = sums[n][k] if by_channel else sums[k][n]
            builder.store(emit.multiply_add(kept[k], once, builder.load(slot)), slot)


_wide, _narrow = _make_sum_group(*WIDE), _make_sum_group(*NARROW)


@inlined
def sum_group(together, count, places, a, b, row, bias, floor, out, pitch, ahead, results):  # type: ignore[no-untyped-def]
    """The tile of so many channels."""
    if together == WIDE_CHANNELS:
        _wide(count, places, a, b, row, bias, floor, out, pitch, ahead, results)
    else:
        _narrow(count, places, a, b, row, bias, floor, out, pitch, ahead, results)


def _times(builder: Any, pitch: Any, i: int) -> Any:
    return builder.mul(pitch, ir.Constant(INDEX, i))


# ------------------------------------------------------------------------------------------------------ backward_weight
@intrinsic  # type: ignore[untyped-decorator]
def sum_group_pixels(
    typingctx: Any, columns: Any, a: Any, panel: Any, b: Any, image: Any, plane: Any, step: Any, images: Any, rows: Any,
    width: Any, sums: Any, pitch: Any, more: Any, ahead: Any,
) -> Any:  # fmt: skip
    """A share of the weight's gradient: for i < CHANNELS, t < TAPS and all lanes l

        sums[i * pitch + t * lanes + l] (+)= sum over n, j, x of a[n * panel + columns[t] + j * step + x]
                                                              * b[n * image + i * plane + j * step + x]

    over n < images, rows j < rows and x = l, l + lanes, ... < width, with one chain of multiply-adds per element, down
    the rows of all images and then across; ``more`` adds the chain to what is there, else it begins with zero. A cache
    line from ``ahead`` on is fetched into L2 with every vector.
    """
    number = types.intp
    signature = types.void(types.CPointer(number), a, number, b, *[number] * 6, a, number, types.boolean, a)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _emit_sum_group_pixels(builder, WidthEmitter(context, builder, signature.args[1].dtype), args)
        return context.get_dummy_value()

    return signature, codegen


def _emit_sum_group_pixels(builder: Any, emit: WidthEmitter, args: Any) -> None:
    columns, a, panel, b, image, plane, step, images, rows, width, sums, pitch, more, ahead = args
    into = [
        emit.at(sums, builder.add(_times(builder, pitch, i), ir.Constant(INDEX, t * emit.lanes)))
        for i in range(CHANNELS)
        for t in range(TAPS)
    ]
    total = [cgutils.alloca_once_value(builder, emit.zero()) for _ in into]
    with builder.if_then(more):
        for address, slot in zip(into, total, strict=True):
            builder.store(emit.load(address), slot)
    windows = [emit.at(a, emit.entry(columns, ir.Constant(INDEX, t))) for t in range(TAPS)]
    grads = [emit.at(b, _times(builder, plane, i)) for i in range(CHANNELS)]
    lanes = ir.Constant(INDEX, emit.lanes)
    vectors = builder.sdiv(builder.add(width, ir.Constant(INDEX, emit.lanes - 1)), lanes)
    with cgutils.for_range(builder, vectors) as loop:
        x = builder.mul(loop.index, lanes)
        left = builder.sub(width, x)
        windows_at, grads_at = ([emit.at(address, x) for address in addresses] for addresses in (windows, grads))
        with builder.if_else(builder.icmp_signed(">=", left, lanes), likely=True) as (then, otherwise):
            for branch, mask in ((then, None), (otherwise, left)):
                with branch:
                    first = None if mask is None else emit.first(mask)
                    with cgutils.for_range(builder, images) as along, cgutils.for_range(builder, rows) as down:
                        offsets = [
                            builder.add(builder.mul(along.index, far), builder.mul(down.index, step))
                            for far in (panel, image)
                        ]
                        _emit_products(builder, emit, windows_at, grads_at, offsets, total, first)
                        turn = builder.add(builder.mul(loop.index, images), along.index)
                        turn = builder.add(builder.mul(turn, rows), down.index)
                        line = emit.at(ahead, _times(builder, turn, LINE_BYTES // emit.size))
                        emit_prefetch(builder, line, write=False, level=2)
    for address, slot in zip(into, total, strict=True):
        emit.store(builder.load(slot), address)


def _emit_products(
    builder: Any, emit: WidthEmitter, windows: list[Any], grads: list[Any], offsets: list[Any], total: list[Any],
    mask: Any,
) -> None:  # fmt: skip
    """Add the products of a vector of pixels; those not under the mask do not count: inf * 0 is NaN."""
    factor = [emit.load(emit.at(grad, offsets[1])) for grad in grads]
    for t, window in enumerate(windows):
        value = emit.load(emit.at(window, offsets[0]))
        for i in range(CHANNELS):
            slot = total[i * TAPS + t]
            before = builder.load(slot)
            after = emit.multiply_add(value, factor[i], before)
            builder.store(after if mask is None else builder.select(mask, after, before), slot)


@intrinsic  # type: ignore[untyped-decorator]
def add_lanes(typingctx: Any, source: Any, target: Any) -> Any:
    """target[k] = the sum of the lanes of vector k at ``source``, for as many vectors as there are lanes.

    Lanes are added to those half a vector behind them, and so on.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        emit = WidthEmitter(context, builder, signature.args[0].dtype)
        vectors = [emit.load(emit.at(args[0], ir.Constant(INDEX, k * emit.lanes))) for k in range(emit.lanes)]
        emit.store(_emit_added(emit, vectors), args[1])
        return context.get_dummy_value()

    return types.void(source, source), codegen


def _emit_added(emit: WidthEmitter, vectors: list[Any]) -> Any:
    """The vector of the sums of all vectors' lanes."""
    size = emit.lanes  # of the runs, one for each vector so far, that a vector is made of
    while size > 1:
        half = size // 2
        low = [run + lane for run in range(0, 2 * emit.lanes, size) for lane in range(half)]
        high = [place + half for place in low]
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        vectors = [emit.builder.fadd(emit.shuffle(a, b, low), emit.shuffle(a, b, high)) for a, b in pairs]
        size = half
    return vectors[0]
