"""Convolution by Fourier transforms: all passes, layouts, tiles, groups; small errors; bits that no split changes."""

import itertools

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc
from fastconv.cpu import fft, fft_plan, fourier
from fastconv.cpu._jit import compiled
from fastconv.cpu._target import lanes
from fastconv.cpu.pointers import advance, lanes_at, pointer
from tests import naive, strategies

ORDERS = (strategies.contiguous, strategies.channels_last)
BOUND = {np.float32: 2e-6, np.float64: 4e-15}  # of the largest result's size: the root of its terms' squares' sum


def assert_near(actual, expected, squares, dtype):
    """``squares`` are what the operation gives of squared operands: a result may be small because terms cancel."""
    assert actual.dtype == dtype
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max(initial=0) <= BOUND[dtype] * max(np.sqrt(np.max(squares, initial=0)), 1)


def check(x, weight, bias, grad_out, dtype, **options):
    rank = weight.ndim - 2
    names = ["", "_backward", "_backward_input", "_backward_weight"]
    forward, backward, backward_input, backward_weight = (getattr(fc, f"conv{rank}d{name}") for name in names)
    x2, weight2, bias2, grad_out2 = (np.square(array, dtype=np.float64) for array in (x, weight, bias, grad_out))
    y, y2 = naive.conv_forward(x, weight, bias, **options), naive.conv_forward(x2, weight2, bias2, **options)
    assert_near(forward(x, weight, bias, **options, algorithm="fft"), y, y2, dtype)
    rectified = forward(x, weight, bias, **options, activation="relu", algorithm="fft")
    assert_near(rectified, np.maximum(y, 0), y2, dtype)
    grads = backward(grad_out, x, weight, **options, algorithm="fft")
    operands, squares = (grad_out, weight, x.shape), (grad_out2, weight2, x.shape)
    expected = (naive.conv_backward_input(*each, **options) for each in (operands, squares))
    assert_near(grads.x, *expected, dtype)
    operands, squares = (grad_out, x, weight.shape), (grad_out2, x2, weight.shape)
    expected = (naive.conv_backward_weight(*each, **options) for each in (operands, squares))
    assert_near(grads.weight, *expected, dtype)
    np.testing.assert_array_equal(backward_input(grad_out, weight, x.shape, **options, algorithm="fft"), grads.x)
    np.testing.assert_array_equal(backward_weight(grad_out, x, weight.shape, **options, algorithm="fft"), grads.weight)


def arrays(dtype, batch, ins, outs, groups, size, taps, padding, arrange, others=()):
    """Input, weight, bias and gradient of a convolution of one axis, or of the last one of several."""
    length = size + sum(padding) - taps + 1
    shapes = (
        (batch, ins * groups, *others, size),
        (outs * groups, ins, *(1 for _ in others), taps),
        (outs * groups,),
        (batch, outs * groups, *others, length),
    )
    x, weight, bias, grad_out = (strategies.values(shape, dtype, seed) for seed, shape in enumerate(shapes))
    return arrange(x), weight, bias, arrange(grad_out)


@given(
    st.sampled_from(strategies.DTYPES), st.integers(1, 3), st.integers(1, 20), st.integers(1, 40), st.integers(1, 2),
    st.integers(1, 100), st.integers(1, 70), st.tuples(st.integers(0, 40), st.integers(0, 40)),
    st.sampled_from(ORDERS),
)  # fmt: skip
def test_all_passes_are_the_naive_ones(dtype, batch, ins, outs, groups, size, taps, padding, arrange):
    size = max(size, taps - sum(padding), 1)
    made = arrays(dtype, batch, ins, outs, groups, size, taps, padding, arrange)
    check(*made, dtype, padding=(padding,), groups=groups)


@pytest.mark.parametrize("dtype", strategies.DTYPES)
@pytest.mark.parametrize("arrange", ORDERS)
def test_rows_of_images_and_volumes(arrange, dtype):
    for others in ((4,), (2, 3)):
        made = arrays(dtype, 2, 3, 5, 2, 50, 17, (3, 9), arrange, others)
        check(*made, dtype, padding=(*((0, 0) for _ in others), (3, 9)), groups=2)


@pytest.mark.parametrize("size", fft_plan.SIZES[:8])
def test_every_size_of_transforms(size, monkeypatch):
    monkeypatch.setattr(fft_plan, "SIZES", (size,))
    fft_plan._size.cache_clear()
    taps = size * 3 // 4
    check(
        *arrays(np.float32, 2, 3, 18, 1, 2 * size, taps, (5, 1), strategies.contiguous), np.float32, padding=((5, 1),)
    )
    fft_plan._size.cache_clear()


@pytest.mark.parametrize("arrange", ORDERS)
@pytest.mark.parametrize("pieces", [1, 2, 5, 12, 40])
def test_a_part_of_the_spectra_at_a_time(pieces, arrange, monkeypatch):
    """Of some tiles of a row, of some rows of an image, of some images, and of some output channels."""
    made = arrays(np.float32, 4, 3, 40, 1, 100, 40, (3, 9), arrange, (2, 3))
    options = {"padding": ((0, 0), (0, 0), (3, 9)), "algorithm": "fft"}

    def passes():
        y = fc.conv3d(*made[:3], **options)
        return y, fc.conv3d_backward_input(made[3], made[1], made[0].shape, **options)

    whole, seen, real = passes(), [], fft_plan.parts
    monkeypatch.setattr(fft_plan, "BLOCK_BYTES", 1)

    def parts(signals, outs, size, itemsize):
        bytes_of_one = fft_plan.PARTS * (signals.channels + outs) * size // 2 * itemsize
        monkeypatch.setattr(fft_plan, "PART_BYTES", pieces * bytes_of_one)
        found = real(signals, outs, size, itemsize)
        seen.extend(part.signals.pieces for part in found)
        return found

    for module in (fft, fft_plan):
        monkeypatch.setattr(module, "parts", parts)
    for ours, expected in zip(passes(), whole, strict=True):
        np.testing.assert_array_equal(ours, expected)
    assert pieces // 2 < max(seen) <= pieces
    check(*made, np.float32, padding=options["padding"])


@pytest.mark.parametrize(("ins", "outs", "tiles"), [(3, 40, 50), (128, 128, 20), (256, 256, 100)])
def test_every_part_meets_every_block_once(ins, outs, tiles):
    signals = fft_plan.make_signals((1, 1, 9999), 2, 1, ins, False, tiles, 0, 200, 256)
    found = list(fft_plan.steps(signals, outs, 256, 4, False))
    blocks = fft_plan.blocks(1, ins, outs, 256, 4)
    assert [first for first, _ in blocks] == [sum(count for _, count in blocks[:i]) for i in range(len(blocks))]
    assert sum(count for _, count in blocks) == outs
    parts = {(part.image, part.row, part.tile): part.signals.pieces for part, _ in found}
    assert sum(parts.values()) == signals.pieces
    assert len(set(found)) == len(found) == len(parts) * len(blocks)


@pytest.mark.parametrize("groups", [1, 3])
def test_threads_and_batches_change_no_bit(groups):
    made = arrays(np.float32, 4, 8, 20, groups, 3000, 200, (7, 0), strategies.contiguous)
    x, weight, bias, grad_out = made
    options = {"padding": ((7, 0),), "groups": groups, "algorithm": "fft"}

    def results():
        return fc.conv1d(x, weight, bias, **options), *fc.conv1d_backward(grad_out, x, weight, **options)[:2]

    before, found = numba.get_num_threads(), []
    try:
        for threads in (1, 2):
            numba.set_num_threads(threads)
            found.append(results())
    finally:
        numba.set_num_threads(before)
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)
    for i in range(4):
        np.testing.assert_array_equal(fc.conv1d(x[i], weight, bias, **options), found[0][0][i])
        grad_x = fc.conv1d_backward_input(grad_out[i], weight, x[i].shape, **options)
        np.testing.assert_array_equal(grad_x, found[0][1][i])


def test_packed_spectra_give_the_same_bits():
    x, weight, bias, _ = arrays(np.float32, 2, 6, 20, 2, 700, 90, (0, 0), strategies.contiguous)
    packed = fc.pack(weight, groups=2, algorithm="fft")
    for length in (700, 100, 700):
        expected = fc.conv1d(x[..., :length], weight, bias, groups=2, algorithm="fft")
        np.testing.assert_array_equal(fc.conv1d(x[..., :length], packed, bias, groups=2), expected)


# ---------------------------------------------------------------------------------------------------------- the choice
@pytest.mark.parametrize(
    ("shape", "weight_shape", "chosen"),
    [
        ((1, 16, 8192), (16, 16, 256), "fft"),
        ((1, 64, 4096), (64, 64, 64), "fft"),
        ((1, 64, 4096), (64, 64, 8), "winograd"),
        ((1, 16, 260), (16, 16, 256), "direct"),
        ((1, 1, 4096), (1, 1, 32), "direct"),
    ],
)
def test_auto_chooses_by_taps_sizes_and_channels(shape, weight_shape, chosen):
    for batch in (1, 2):
        x = strategies.values((batch, *shape[1:]), np.float32, 1)
        weight = strategies.values(weight_shape, np.float32, 2)
        np.testing.assert_array_equal(fc.conv1d(x, weight), fc.conv1d(x, weight, algorithm=chosen))


def test_strides_and_dilations_are_direct():
    x, weight = strategies.values((1, 16, 8192), np.float32, 1), strategies.values((16, 16, 256), np.float32, 2)
    for options in ({"stride": 2}, {"dilation": 2}):
        np.testing.assert_array_equal(
            fc.conv1d(x, weight, **options), fc.conv1d(x, weight, **options, algorithm="direct")
        )


# ------------------------------------------------------------------------------------------------------------ accuracy
@pytest.mark.parametrize(("channels", "taps"), [(512, 64), (16, 2048)])
def test_the_error_is_small(channels, taps):
    """3e-5 of the largest result is promised; a tenth of it is kept."""
    x = strategies.values((1, channels, 3 * taps), np.float32, 1)
    weight = strategies.values((2, channels, taps), np.float32, 2)
    exact = fc.conv1d(x.astype(np.float64), weight.astype(np.float64), algorithm="direct")
    y = fc.conv1d(x, weight, algorithm="fft")
    assert np.abs(y - exact).max() <= 3e-6 * np.abs(exact).max()


# ----------------------------------------------------------------------------------------------------- the transform
@compiled
def transform_core(worker, workers, signals, other, factors, size, results):
    a, b = pointer(signals, 0), pointer(other, 0)
    width = lanes_at(a)
    a, _ = fourier.transform(a, advance(a, width), b, advance(b, width), pointer(factors, 0), size)
    for k in range(results.size):
        results[k] = a[k]
    signals[0] = other[0] = 0  # keeps the arrays alive until here


@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_the_transform_is_numpys(dtype):
    width = lanes(np.dtype(dtype).itemsize)
    for size in (2**k for k in range(12)):
        signals = strategies.values((size, 2, width), dtype, size)
        expected = np.fft.fft(signals[:, 0].astype(np.float64) + 1j * signals[:, 1], axis=0)
        results, factors = np.empty(signals.size, dtype), fourier.roots(size, np.dtype(dtype))
        transform_core(0, 1, signals.reshape(-1), np.empty_like(results), factors, size, results)
        parts = results.reshape(signals.shape)
        error = np.abs(parts[:, 0] + 1j * parts[:, 1] - expected).max()
        assert error <= 4 * np.finfo(dtype).eps * np.abs(expected).max()


def test_roots_are_kept_for_each_dtype():
    for dtype, size in itertools.product(strategies.DTYPES, (4, 64)):
        table = fourier.roots(size, np.dtype(dtype))
        assert table.dtype == dtype
        np.testing.assert_allclose(table[:2], [1, 0])
        assert not table.flags.writeable
