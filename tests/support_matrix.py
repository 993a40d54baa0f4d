"""Writes ``docs/support.md``: which operation takes which rank, dtype, memory order and option.

``python -m tests.support_matrix`` tries all of them: a cell says "yes" where the call gives the result that it gives
for contiguous float64, on integer-valued data. ``tests/test_support_matrix.py`` holds the page to it.
"""

from __future__ import annotations

import functools
import inspect
import pathlib

import ml_dtypes
import numpy as np

import fastconv as fc
from tests import strategies

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "support.md"
FLOATS = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32, "float64": np.float64}
INTEGERS = {f"{sign}int{bits}": np.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)}
ORDERS = {
    "channels first": strategies.contiguous,
    "channels last": strategies.channels_last,
    "gaps": strategies.gaps,
    "negative strides": strategies.backwards,
    "unaligned": strategies.unaligned,
    "read-only": strategies.read_only,
}


# --------------------------------------------------------------------------------------------------------------- calls
class Arrays:
    """Makes the arrays of a call: integer-valued, of one dtype and memory order, with a batch or without."""

    def __init__(self, dtype=np.float64, arrange=strategies.contiguous, batch=(2,)):
        self.dtype, self.arrange, self.batch = dtype, arrange, batch

    def __call__(self, *shape, batched=True):
        shape = (*self.batch, *shape) if batched else shape
        seed = len(shape) - (len(self.batch) if batched else 0)  # the same numbers with a batch of one and without
        numbers = np.abs(strategies.values(shape, np.float64, seed, integers=True))
        return self.arrange(numbers.astype(self.dtype))

    def indices(self, channels, count, size):
        """Distinct places in a plane."""
        flat = np.broadcast_to(np.arange(int(np.prod(count))).reshape(count), (*self.batch, channels, *count))
        return np.ascontiguousarray(flat % int(np.prod(size)))


def windowed(rank):
    """Sizes of an image, a kernel, and of the result of one on the other."""
    return (6, 5, 7)[:rank], (3,) * rank, (4, 3, 5)[:rank]


def calls(rank, groups=1):
    """For every operation of this rank the arguments of a call, given a maker of arrays."""
    size, kernel, result = windowed(rank)
    half = tuple(n // 2 for n in size)
    name = f"{rank}d".join

    def shape(a, channels, sizes=size):
        return (*a.batch, channels, *sizes)

    return {
        name(["conv", ""]): lambda a: (a(4 * groups, *size), a(6, 4, *kernel, batched=False), a(6, batched=False)),
        name(["conv", "_backward"]): lambda a: (a(6, *result), a(4, *size), a(6, 4, *kernel, batched=False)),
        name(["conv", "_backward_input"]): lambda a: (a(6, *result), a(6, 4, *kernel, batched=False), shape(a, 4)),
        name(["conv", "_backward_weight"]): lambda a: (a(6, *result), a(4, *size), (6, 4, *kernel)),
        name(["conv_transpose", ""]): lambda a: (a(6, *result), a(6, 4, *kernel, batched=False)),
        name(["conv_transpose", "_backward"]): lambda a: (a(4, *size), a(6, *result), a(6, 4, *kernel, batched=False)),
        name(["max_pool", ""]): lambda a: (a(4, *size), 2),
        name(["max_pool", "_backward"]): lambda a: (a(4, *half), a.indices(4, half, size), shape(a, 4)),
        name(["max_unpool", ""]): lambda a: (a(4, *half), a.indices(4, half, size), shape(a, 4)),
        name(["max_unpool", "_backward"]): lambda a: (a(4, *size), a.indices(4, half, size)),
        name(["avg_pool", ""]): lambda a: (a(4, *size), 2),
        name(["avg_pool", "_backward"]): lambda a: (a(4, *half), shape(a, 4), 2),
        name(["sum_pool", ""]): lambda a: (a(4, *size), 2),
        name(["sum_pool", "_backward"]): lambda a: (a(4, *half), shape(a, 4), 2),
        name(["lp_pool", ""]): lambda a: (a(4, *size), 2, 2),
        name(["lp_pool", "_backward"]): lambda a: (a(4, *half), a(4, *size) + a.dtype(1), 2, 2),
        name(["adaptive_avg_pool", ""]): lambda a: (a(4, *size), 2),
        name(["adaptive_avg_pool", "_backward"]): lambda a: (a(4, *(2,) * rank), shape(a, 4)),
        name(["adaptive_max_pool", ""]): lambda a: (a(4, *size), 2),
    }


def calls_of_any_rank():
    image = (4, 5, 6)

    def labels(a):
        return np.arange(int(np.prod(a.batch))).reshape(a.batch) % 2

    return {
        "global_avg_pool": lambda a: (a(*image),),
        "global_avg_pool_backward": lambda a: (a(4), (*a.batch, *image)),
        "global_max_pool": lambda a: (a(*image),),
        "global_max_pool_backward": lambda a: (a(4), a.indices(4, (), image[1:]), (*a.batch, *image)),
        "relu": lambda a: (a(*image),),
        "relu_backward": lambda a: (a(*image), a(*image)),
        "leaky_relu": lambda a: (a(*image),),
        "leaky_relu_backward": lambda a: (a(*image), a(*image)),
        "linear": lambda a: (a(5), a(3, 5, batched=False), a(3, batched=False)),
        "linear_backward": lambda a: (a(3), a(5), a(3, 5, batched=False)),
        "softmax": lambda a: (a(*image),),
        "softmax_backward": lambda a: (a(*image), a(*image)),
        "log_softmax": lambda a: (a(*image),),
        "log_softmax_backward": lambda a: (a(*image), a(*image)),
        "cross_entropy": lambda a: (a(3), labels(a)),
        "cross_entropy_backward": lambda a: (a(3), labels(a)),
    }


@functools.cache
def operations():
    """For every row of the tables the calls that must all work: one, or one for each rank."""
    ranks = [calls(rank) for rank in (1, 2, 3)]
    rows = {
        name.replace("1d", "Nd"): [(n, rank[n]) for rank, n in zip(ranks, names, strict=True)]
        for name, *rest in zip(*ranks, strict=True)
        for names in [(name, *rest)]
    }
    return rows | {name: [(name, call)] for name, call in calls_of_any_rank().items()}


# ------------------------------------------------------------------------------------------------------------- attempts
def flat(result):
    """Every number of a result in float64."""
    parts = result if isinstance(result, tuple) else (result,)
    return np.concatenate([np.asarray(part).astype(np.float64).reshape(-1) for part in parts])


def attempt(name, arguments, arrays, **options):
    """The result's numbers, or None where the call is refused."""
    try:
        return flat(getattr(fc, name)(*arguments(arrays), **options))
    except (TypeError, ValueError):
        return None


def works(row, arrays, **options):
    """Whether all calls of a row give what they give for contiguous float64, and without a batch that of one image."""
    for name, arguments in operations()[row]:
        ours = attempt(name, arguments, arrays, **options)
        if ours is None:
            return False
        theirs = attempt(name, arguments, Arrays(batch=arrays.batch or (1,)), **options)
        if ours.shape != theirs.shape:
            return False
        np.testing.assert_allclose(ours, theirs, rtol=2e-2, atol=2e-2, err_msg=f"{name} {arrays.dtype} {options}")
    return True


# -------------------------------------------------------------------------------------------------------------- options
def option_values(row):
    """What is tried with an operation: as it is written in the table, and the keyword arguments for a rank."""
    tried = {
        "`stride`": lambda rank: {"stride": 2},
        "`stride` per axis": lambda rank: {"stride": (2, 1, 3)[:rank]},
        "`padding`": lambda rank: {"padding": 1},
        "`padding` per axis": lambda rank: {"padding": (1, 0, 1)[:rank]},
        "pairs of `padding`": lambda rank: {"padding": ((0, 1),) * rank},
        '`"valid"`': lambda rank: {"padding": "valid"},
        '`"same"`': lambda rank: {"padding": "same"},
        '`"same_lower"`': lambda rank: {"padding": "same_lower"},
        "`output_padding`": lambda rank: {"output_padding": 1, "stride": 2},
        "`dilation`": lambda rank: {"dilation": 2},
        "`groups`": lambda rank: {"groups": 2},
        "`ceil_mode`": lambda rank: {"ceil_mode": True},
        "`return_indices`": lambda rank: {"return_indices": True},
        "`count_include_pad`": lambda rank: {"count_include_pad": False},
        "`divisor_override`": lambda rank: {"divisor_override": 3},
        "`negative_slope`": lambda rank: {"negative_slope": 0.5},
        "`axis`": lambda rank: {"axis": 0},
        '`reduction="sum"`': lambda rank: {"reduction": "sum"},
        '`reduction="none"`': lambda rank: {"reduction": "none"},
        "`ignore_index`": lambda rank: {"ignore_index": 1},
        '`activation="relu"`': lambda rank: {"activation": "relu"},
        '`algorithm="direct"`': lambda rank: {"algorithm": "direct"},
        '`algorithm="winograd"`': lambda rank: {"algorithm": "winograd"},
        '`algorithm="fft"`': lambda rank: {"algorithm": "fft"},
    }
    known = inspect.signature(getattr(fc, operations()[row][0][0])).parameters
    return {text: options for text, options in tried.items() if set(options(1)) <= set(known)}


def options_of(row):
    """The options that work, with the ranks where not all do; ``out`` and a packed weight too."""
    for text, options in option_values(row).items():
        ranks = []
        for rank, (function, arguments) in enumerate(operations()[row], 1):
            if text == "`groups`" and row == "convNd":
                arguments = calls(rank, groups=2)[function]
            result = attempt(function, arguments, Arrays(np.float32), **options(rank))
            if result is not None:
                expected = attempt(function, arguments, Arrays(), **options(rank))
                np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)
                ranks.append(rank)
        if len(ranks) == len(operations()[row]):
            yield text
        elif ranks:
            yield f"{text} ({', '.join(f'{rank}d' for rank in ranks)})"
    if all(takes_out(*call) for call in operations()[row]):
        yield "`out`"
    if row in ("convNd", "linear") and all(takes_packed(*call) for call in operations()[row]):
        yield "packed weights"


def takes_out(name, arguments):
    function = getattr(fc, name)
    if "out" not in inspect.signature(function).parameters:
        return False
    expected = function(*arguments(Arrays(np.float32)))
    out = np.empty_like(expected)
    return function(*arguments(Arrays(np.float32)), out=out) is out and np.array_equal(out, expected)


def takes_packed(name, arguments):
    x, weight, *rest = arguments(Arrays(np.float32))
    function = getattr(fc, name)
    return np.array_equal(function(x, fc.pack(weight), *rest), function(x, weight, *rest))


# ------------------------------------------------------------------------------------------------------------- the page
def table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def yes(condition):
    return "yes" if condition else ""


def page():
    """The text of the page."""
    dtypes, orders, options = [], [], []
    for row, made in operations().items():
        cells = [yes(works(row, Arrays(dtype))) for dtype in FLOATS.values()]
        whole = [name for name, dtype in INTEGERS.items() if works(row, Arrays(dtype.type))]
        kinds = "all" if len(whole) == len(INTEGERS) else ", ".join(whole)
        dtypes.append([f"`{row}`", "1, 2, 3" if len(made) == 3 else "any", *cells, kinds])
        cells = [yes(works(row, Arrays(np.float32, arrange))) for arrange in ORDERS.values()]
        batches = [yes(works(row, Arrays(np.float32, batch=batch))) for batch in ((), (0,))]
        orders.append([f"`{row}`", *cells, *batches])
        if "_backward" not in row:
            options.append([f"`{row}`", ", ".join(options_of(row))])
    parts = [
        "# What is supported",
        "Tried, not promised: `python -m tests.support_matrix` calls every operation with all that heads a\n"
        "column, on the CPU, and a test holds this page to it. N stands for 1, 2 and 3.",
        "## Ranks and types",
        "Spatial axes, and types of elements; integers are those of 8 to 64 bits, signed and unsigned.",
        table(["operation", "axes", *FLOATS, "integers"], dtypes),
        "## Memory",
        "No order needs a copy of the caller's. Arrays with gaps or negative strides are copied once on the way in.",
        table(["operation", *ORDERS, "without a batch", "empty batch"], orders),
        "## Options",
        table(["operation", "works with"], options),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
