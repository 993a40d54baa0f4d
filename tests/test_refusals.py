"""Every operation refuses what PyTorch refuses, by an error that names the argument, and leaves all arrays alone.

The whole messages are in the tables of ``test_checks.py``, ``test_pool_checks.py`` and the families' tests; here no
operation, rank or argument is left out.
"""

import inspect
import re

import numpy as np
import pytest

import fastconv as fc
from fastconv._samples import samples

CALLS = {}
for sample in samples("float32"):
    if "out" not in sample.options and not sample.options.get("return_indices"):
        bound = inspect.signature(getattr(fc, sample.operation)).bind(*sample.arguments, **sample.options)
        CALLS.setdefault(sample.operation, dict(bound.arguments))

TOO_LARGE = 2**31
ANY_RANK = ("relu", "leaky_relu", "softmax", "log_softmax")  # of one array
ARRAYS = ("x", "weight", "bias", "grad_out", "y", "logits", "labels", "indices")
SHAPES = ("input_shape", "weight_shape", "output_shape")
VALUES = {  # wrong values and wrong kinds of each option, wherever an operation has it
    "kernel_size": ([0, -1, (2, 2, 0), 10**6, TOO_LARGE, (2,) * 4], [2.5, None, "2", True]),
    "stride": ([0, -1, (1, 1, 0), TOO_LARGE, (1,) * 4], [1.5, "1", True]),
    "dilation": ([0, -1, TOO_LARGE, (1,) * 4], [1.5, None, "1", True]),
    "groups": ([0, -1, 5, TOO_LARGE], [1.5, None, (1, 1), True]),
    "padding": ([-1, TOO_LARGE, "full", (1,) * 4, ((1, 1, 1),) * 3, ((0, -1),) * 3], [0.5, None, True]),
    "output_padding": ([-1, 10**6, TOO_LARGE, (0,) * 4], [0.5, None, "0", True]),
    "output_size": ([0, -1, TOO_LARGE, (1,) * 4], [1.5, "1", True]),
    "divisor_override": ([0, -1, TOO_LARGE], [1.5, "1", True]),
    "norm_type": ([0, -1.5, np.inf, np.nan], ["2", None, True]),
    "negative_slope": ([], ["0.1", None, True]),
    "axis": ([2, -3, 10**9], [0.5, None, "0", True]),
    "activation": (["tanh", True, 1], []),
    "algorithm": (["gemm", None, 1], []),
    "reduction": (["average", None, 1], []),
    "ignore_index": ([TOO_LARGE], [0.5, None, "0", True]),
}


def per_rank(value, rank):
    """A tuple of three cut to the axes that there are; one of four is too many for all."""
    return value[-rank:] if isinstance(value, tuple) and len(value) == 3 and rank else value


def wrong_options(name, rank):
    values, kinds = VALUES.get(name, ([], []))
    yield from ((per_rank(value, rank), ValueError) for value in values)
    yield from ((value, TypeError) for value in kinds)


def wrong_arrays(name, array, any_rank):
    yield from ((value, TypeError) for value in ([1.0], "x", 1.0))
    if name != "bias":
        yield None, TypeError
    yield array.astype(np.complex64), TypeError
    yield array.astype(array.dtype.newbyteorder() if name != "labels" else bool), TypeError
    if not any_rank:
        yield np.zeros((1,) * 7, array.dtype), ValueError


def wrong_shapes(shape):
    yield from ((value, TypeError) for value in (None, 5, "shape", (*shape[:-1], 2.5)))
    changed = (), (1,) * 7, (-1, *shape[1:]), (*shape[:-1], TOO_LARGE), (shape[0] + 1, *shape[1:])
    yield from ((value, ValueError) for value in changed)


def wrong_outs(out):
    read_only = out.copy()
    read_only.setflags(write=False)
    yield from (([1.0], TypeError), (out.astype(np.float64), TypeError), (out[..., np.newaxis], ValueError))
    yield from ((read_only, ValueError), (np.broadcast_to(out[:1], out.shape).copy()[:0], ValueError))


def wrong_arguments(name):
    """An argument's name, a wrong value, and the kind of the error."""
    function, right = getattr(fc, name), CALLS[name]
    rank = next((int(digit) for digit in re.findall(r"\d", name)), 0)
    for argument in inspect.signature(function).parameters:
        if argument in right and argument in ARRAYS:
            pairs = wrong_arrays(argument, right[argument], name in ANY_RANK)
        elif argument in SHAPES:
            pairs = wrong_shapes(right[argument])
        elif argument == "out":
            pairs = wrong_outs(np.array(function(**right)))
        else:
            pairs = wrong_options(argument, rank)
        yield from ((argument, value, error) for value, error in pairs)


def named(argument, message):
    """Whether a message is about an argument: by its name, or where two do not fit by that of the other."""
    others = {
        "input_shape": "grad_out|indices|x", "weight_shape": "grad_out|x", "output_shape": "x|indices",
        "groups": "weight|weight_shape|x|input_shape|grad_out", "weight": "x|input_shape|grad_out", "labels": "logits",
        "grad_out": "y|x", "indices": "grad_out|x", "y": "grad_out", "x": "grad_out|weight|indices",
    }  # fmt: skip
    return re.search(rf"\b({argument}|{others.get(argument, argument)})\b", message)


def outcome(function, arguments):
    """The error of a call, or None."""
    try:
        function(**arguments)
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize("name", CALLS)
def test_wrong_arguments_are_named(name):
    function, wrong = getattr(fc, name), []
    for argument, value, kind in wrong_arguments(name):
        arguments = {**CALLS[name], argument: value}
        before = {key: item.copy() for key, item in arguments.items() if isinstance(item, np.ndarray)}
        error = outcome(function, arguments)
        if type(error) is not kind or not named(argument, str(error)) or ", got " not in str(error):
            wrong.append((argument, value, error))
        for key, item in before.items():
            np.testing.assert_array_equal(arguments[key], item)
    assert wrong == []


def test_no_operation_is_left_out():
    assert set(CALLS) | {"pack", "precompile"} == {name for name in fc.__all__ if name.islower()}


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("which", ["", "_backward", "_backward_input", "_backward_weight"])
def test_a_kernel_must_fit_into_the_padded_input(rank, which):
    x, weight, grad_out = (np.ones((2, 3, *(size,) * rank), np.float32) for size in (4, 5, 1))
    grad_out = grad_out[:, :2]
    arguments = {
        "": (x, weight), "_backward": (grad_out, x, weight), "_backward_input": (grad_out, weight, x.shape),
        "_backward_weight": (grad_out, x, weight.shape),
    }[which]  # fmt: skip
    with pytest.raises(ValueError, match=r"must fit into the padded input, got a reach of 5 on spatial axis 0"):
        getattr(fc, f"conv{rank}d{which}")(*arguments)
    assert getattr(fc, f"conv{rank}d")(x, weight, padding=1).shape == (2, 2, *(2,) * rank)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("which", ["", "_backward"])
def test_a_transposed_result_must_have_a_size(rank, which):
    x, weight = np.ones((2, 3, *(4,) * rank), np.float32), np.ones((3, 2, *(3,) * rank), np.float32)
    function = getattr(fc, f"conv_transpose{rank}d{which}")
    gradient = [np.ones((2, 2, *(6,) * rank), np.float32)] if which else []
    with pytest.raises(ValueError, match="must leave at least 1 element on each axis of the result"):
        function(*gradient, x, weight, padding=3)
    long = np.broadcast_to(x[..., :1], (*x.shape[:-1], 2**17))
    with pytest.raises(ValueError, match=r"must give at most 2\*\*47 elements per channel"):
        function(*gradient, long, weight, stride=2**31 - 1)
