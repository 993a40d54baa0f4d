"""Inside compiled code every public function gives what it gives in Python, bit for bit, and raises what it raises."""

import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys

import numba
import numpy as np
import pytest
from numba.core.runtime import _nrt_python, rtsys

import fastconv as fc
import fastconv.parallel as fcp
from fastconv import _compiled
from fastconv._compiled import call
from fastconv.cpu import _jit
from tests import strategies
from tests.anywhere.processes import LAYERS, NO_LAYER, threading_layer

IMAGES = (2, 4, 7, 6)
F4, F8 = strategies.DTYPES


def values(shape, dtype=F4, seed=0):
    return strategies.values(shape, dtype, seed)


# ---------------------------------------------------------------------------------------------------------------- cases
# For each function calls of it, as source: names are of arrays, made by ARRAYS for a seed.
def conv_arrays(seed, dtype=F4, x=IMAGES, weight=(6, 4, 3, 3), grad=(2, 6, 5, 4)):
    return {"x": values(x, dtype, seed), "w": values(weight, dtype, seed + 1), "b": values(weight[:1], dtype, seed + 2),
            "g": values(grad, dtype, seed + 3)}  # fmt: skip


def strided(seed):
    return conv_arrays(seed, F4, (2, 4, 9, 10), (6, 2, 3, 2), (2, 6, 5, 6))


def depthwise(seed):
    return conv_arrays(seed, F4, IMAGES, (8, 1, 3, 3), (2, 8, 7, 6))


def winograd(seed):
    return conv_arrays(seed, F4, (2, 32, 14, 14), (32, 32, 3, 3), (2, 32, 14, 14))


def unbatched(seed):
    return {name: array[0] if name in "xg" else array for name, array in conv_arrays(seed, F8).items()}


def channels_last(seed):
    arrays = conv_arrays(seed)
    for name in "xg":
        arrays[name] = np.ascontiguousarray(arrays[name].transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    return arrays


def gaps(seed):
    arrays = conv_arrays(seed)
    return {name: np.repeat(array, 2, axis=-1)[..., ::2] for name, array in arrays.items()}


def of_rank(rank):
    """Arrays with so many spatial axes."""

    def arrays(seed):
        some = conv_arrays(seed, F4, (2, 4, *[7] * rank), (6, 4, *[3] * rank), (2, 6, *[5] * rank))
        pooled = getattr(fc, f"max_pool{rank}d")(some["x"], 3, 1, return_indices=True)
        return {**some, "p": values((2, 4, *[5] * rank), F4, seed), "i": pooled.indices}

    return arrays


def pool_arrays(seed, dtype=F4):
    x = values(IMAGES, dtype, seed)
    return {"x": x, "g": values((2, 4, 3, 3), dtype, seed + 1), "i": fc.max_pool2d(x, 2, return_indices=True).indices,
            "g0": values((2, 4), dtype, seed + 2),
            "i0": fc.global_max_pool(x, return_indices=True).indices}  # fmt: skip


def dense_arrays(seed, dtype=F4, lead=(5,)):
    return {"x": values((*lead, 12), dtype, seed), "w": values((7, 12), dtype, seed + 1),
            "b": values((7,), dtype, seed + 2), "g": values((*lead, 7), dtype, seed + 3)}  # fmt: skip


def class_arrays(seed, shape=(6, 5)):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    return {"x": values(shape, F4, seed), "g": values(shape, F4, seed + 1), "t": labels}


STRIDED = "stride=(2, 2), padding=((1, 2), (2, 1)), dilation=(1, 1), groups=2"
POOLINGS = (
    "max_pool{0}d(x, 3, 1, return_indices=True)",
    "max_pool{0}d_backward(p, i, x.shape)",
    "avg_pool{0}d(x, 3, 1)",
    "avg_pool{0}d_backward(p, x.shape, 3, 1)",
    "sum_pool{0}d(x, 3, 1)",
    "sum_pool{0}d_backward(p, x.shape, 3, 1)",
    "adaptive_avg_pool{0}d(x, 5)",
    "adaptive_avg_pool{0}d_backward(p, x.shape)",
    "adaptive_max_pool{0}d(x, 5, return_indices=True)",
    "max_unpool{0}d(p, i, x.shape)",
    "max_unpool{0}d_backward(x, i)",
)
PASSES = (
    "conv2d(x, w, b, {0})",
    "conv2d_backward(g, x, w, {0})",
    "conv2d_backward_input(g, w, x.shape, {0})",
    "conv2d_backward_weight(g, x, w.shape, {0})",
)
CASES = [
    *((conv_arrays, each.format("")) for each in PASSES),
    *((strided, each.format(STRIDED)) for each in PASSES),
    *((depthwise, each.format("1, 1, 1, 4")) for each in PASSES),
    *((winograd, each.format('padding="same", algorithm="winograd"')) for each in PASSES),
    *((unbatched, each.format("")) for each in PASSES),
    *((channels_last, each.format("")) for each in PASSES),
    *((of_rank(rank), each.replace("2d", f"{rank}d").format("")) for rank in (1, 3) for each in PASSES),
    *((of_rank(rank), f"conv_transpose{rank}d(g, w, stride=2, output_padding=1, padding=1)") for rank in (1, 2, 3)),
    *((of_rank(rank), f"conv_transpose{rank}d_backward(x, g, w)") for rank in (1, 2, 3)),
    *((of_rank(rank), source.format(rank)) for rank in (1, 2, 3) for source in POOLINGS),
    (conv_arrays, 'conv2d(weight=w, x=x, activation="relu", padding="same_lower")'),
    (pool_arrays, "max_pool2d(x, 2)"),
    (pool_arrays, "max_pool2d(x, (2, 3), 2, 1, 1, True, return_indices=True)"),
    (pool_arrays, "max_pool2d_backward(g, i, x.shape)"),
    (pool_arrays, "avg_pool2d(x, 2, padding=1, count_include_pad=False)"),
    (pool_arrays, "avg_pool2d(x, 3, divisor_override=5)"),
    (pool_arrays, "avg_pool2d_backward(g, x.shape, 2)"),
    (pool_arrays, "sum_pool2d(x, kernel_size=2)"),
    (pool_arrays, "sum_pool2d_backward(g, x.shape, 2, 2)"),
    (pool_arrays, "global_avg_pool(x)"),
    (pool_arrays, "global_max_pool(x)"),
    (pool_arrays, "global_max_pool(x, True)"),
    (pool_arrays, "global_max_pool_backward(g0, i0, x.shape)"),
    (pool_arrays, "relu(x)"),
    (pool_arrays, "relu_backward(x, x)"),
    (pool_arrays, "leaky_relu(x, 0.3)"),
    (pool_arrays, "leaky_relu_backward(x, x, negative_slope=0.3)"),
    (dense_arrays, 'linear(x, w, b, activation="relu")'),
    (lambda seed: dense_arrays(seed, F8, (2, 3)), "linear(x, w)"),
    (dense_arrays, "linear_backward(g, x, w)"),
    (class_arrays, "softmax(x)"),
    (class_arrays, "softmax_backward(g, x, axis=0)"),
    (class_arrays, "log_softmax(x, 0)"),
    (class_arrays, "log_softmax_backward(g, x)"),
    (class_arrays, "cross_entropy(x, t)"),
    (class_arrays, 'cross_entropy(x, t, reduction="sum")'),
    (lambda seed: class_arrays(seed, (2, 3, 4, 5)), 'cross_entropy(x, t, reduction="none")'),
    (class_arrays, "cross_entropy_backward(x, t)"),
]
# These always go through Python: what they do depends on more than shapes, or is not done by a kernel.
IN_PYTHON = [
    *((of_rank(rank), f"lp_pool{rank}d(x, 2.0, 3, 1)") for rank in (1, 2, 3)),
    *((of_rank(rank), f"lp_pool{rank}d_backward(p, x, 2.0, 3, 1)") for rank in (1, 2, 3)),
    (conv_arrays, "conv2d(x, w, None, [1, 2])"),
    *((gaps, each.format("")) for each in PASSES),
    (conv_arrays, "conv2d(x, w, out=g)"),
    (conv_arrays, "conv2d_backward_weight(g, x, w.shape, out=w)"),
    (pool_arrays, "relu(x, out=x)"),
    (pool_arrays, "max_pool2d(x, 2, out=g)"),
    (pool_arrays, "global_avg_pool_backward(g0, x.shape)"),
    (lambda seed: {"x": np.zeros((0, 4, 7, 6), F4), "w": values((6, 4, 3, 3))}, "conv2d(x, w)"),
    (class_arrays, "cross_entropy(x, t, ignore_index=2)"),
]


def compiled(source, names, **options):
    """The call in a function of its own, as Python has it and compiled."""
    scope = {"fc": fc, "fcp": fcp}
    exec(f"def function({', '.join(names)}):\n    return fc.{source}", scope)
    return scope["function"], numba.njit(**options)(scope["function"])


def parts(result):
    """The arrays; a number from compiled code is a Python float, whatever it was there."""
    whole = result if isinstance(result, tuple) else (result,)
    return [part if isinstance(part, np.ndarray) else np.asarray(part, F4) for part in whole]


def assert_same(one, other):
    assert type(one) is type(other) or not isinstance(one, (tuple, np.ndarray))
    for a, b in zip(parts(one), parts(other), strict=True):
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize(("arrays", "source"), CASES, ids=[source for _, source in CASES])
def test_what_python_gives(arrays, source, monkeypatch):
    """The first call asks Python, the second one also makes a program, and Python is not asked again."""
    names = arrays(0)
    plain, function = compiled(source, names)
    for seed in (0, 10):
        assert_same(function(**arrays(seed)), plain(**arrays(seed)))
    expected = [plain(**arrays(seed)) for seed in (20, 30)]
    monkeypatch.setattr(call, "FUNCTIONS", {})
    for seed, result in zip((20, 30), expected, strict=True):
        assert_same(function(**arrays(seed)), result)


@pytest.mark.parametrize(("arrays", "source"), IN_PYTHON, ids=[source for _, source in IN_PYTHON])
def test_what_python_gives_where_it_is_always_asked(arrays, source):
    plain, function = compiled(source, arrays(0))
    for seed in (0, 10, 20):
        ours, theirs = arrays(seed), arrays(seed)
        assert_same(function(**ours), plain(**theirs))
        for name in ours:
            assert ours[name].tobytes() == theirs[name].tobytes()


def test_every_public_function_has_a_case():
    assert {source.split("(")[0] for _, source in CASES + IN_PYTHON} == set(_compiled.callable_names())


# --------------------------------------------------------------------------------------------------------------- errors
@numba.njit
def convolve(x, weight, stride):
    return fc.conv2d(x, weight, stride=stride)


@numba.njit
def forgiving(x, weight):
    try:
        return fc.conv2d(x, weight).shape[1]
    except Exception:
        return -1


def message_of(function, *args):
    with pytest.raises((TypeError, ValueError)) as error:
        function(*args)
    return type(error.value), str(error.value)


@pytest.mark.parametrize(
    ("weight", "stride"), [((6, 3, 3, 3), 1), ((6, 4, 8, 3), 1), ((6, 4, 3, 3), 0), ((6, 4, 3, 3), (1, 2, 3))]
)
def test_wrong_values_raise_what_python_raises(weight, stride):
    args = values(IMAGES), values(weight), stride
    assert message_of(convolve, *args) == message_of(convolve.py_func, *args)


def test_an_error_can_be_caught_in_compiled_code():
    for _ in range(4):
        assert forgiving(values(IMAGES), values((6, 3, 3, 3))) == -1
        assert forgiving(values(IMAGES), values((6, 4, 3, 3))) == 6


def test_a_label_out_of_range_raises_also_where_there_is_a_program():
    _, function = compiled("cross_entropy(x, t)", "xt")
    arrays = class_arrays(0)
    for _ in range(3):
        function(arrays["x"], arrays["t"])
    arrays["t"][3] = 5
    assert message_of(function, arrays["x"], arrays["t"]) == message_of(fc.cross_entropy, arrays["x"], arrays["t"])
    arrays["t"][3] = -100  # is ignored
    assert np.float32(function(arrays["x"], arrays["t"])) == fc.cross_entropy(arrays["x"], arrays["t"])


def test_an_index_out_of_range_raises_also_where_there_is_a_program():
    plain, function = compiled("max_pool2d_backward(g, i, (2, 4, 7, 6))", "gi")
    arrays = pool_arrays(0)
    for _ in range(3):
        function(arrays["g"], arrays["i"])
    arrays["i"][1, 2, 0, 0] = 42
    assert message_of(function, arrays["g"], arrays["i"]) == message_of(plain, arrays["g"], arrays["i"])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("conv2d(x)", "conv2d() missing a required argument: 'weight'"),
        ("conv2d(x, w, strides=2)", "conv2d() got an unexpected keyword argument 'strides'"),
        ("conv2d(x, 3)", "weight must be a numpy.ndarray, got Literal[int](3) in compiled code"),
        ("conv2d(x, d)", "weight must have the dtype of x, float32, got float64"),
        ("conv2d(x, w, stride=0)", "stride must be at least 1 and below 2**31, got 0"),
        ("conv2d(x, w, stride=(1, 1, 1))", "stride must be an int or 2 ints, got 3 values: (1, 1, 1)"),
        ('conv2d(x, w, padding="full")', 'padding must be ints, pairs, "valid", "same" or "same_lower", got \'full\''),
        ('conv2d(x, w, activation="tanh")', "activation must be None or \"relu\", got 'tanh'"),
        ("max_pool2d(x, 2, return_indices=flag)", "return_indices must be a constant in compiled code"),
        ("relu(x, out=w, inplace=True)", "relu() got an unexpected keyword argument 'inplace'"),
    ],
)
def test_wrong_kinds_and_constants_raise_while_compiling(source, message):
    arrays = values(IMAGES), values((6, 4, 3, 3)), values((6, 4, 3, 3), F8), True
    _, function = compiled(source, ("x", "w", "d", "flag"))
    with pytest.raises((TypeError, ValueError)) as error:
        function.compile(tuple(map(numba.typeof, arrays)))
    assert str(error.value) == message


@numba.njit
def failing(x, weight):
    return fc.conv2d(x, weight).shape[1]


@numba.njit
def refuse(x, weight):
    if x.shape[1] != weight.shape[1]:
        raise ValueError("x must have 3 channels")
    return np.zeros(x.shape[1])


@numba.njit
def failing_without_us(x, weight):
    return refuse(x, weight).shape[0]


def held_by(action):
    """What is not released of each of a number of calls."""
    action()
    before = memory()
    for _ in range(20):
        action()
    return [(after - start) / 20 for after, start in zip(memory(), before, strict=True)]


def test_nothing_leaks():
    """What compiled code has made or was given is released; an error that nobody catches costs what Numba's do."""
    _nrt_python.memsys_enable_stats()
    _, function = compiled("conv2d(x, w, b)", "xwb")
    arrays, wrong = conv_arrays(0), values((6, 3, 3, 3))
    x, weight, bias = arrays["x"], arrays["w"], arrays["b"]

    def raising(failing):
        with pytest.raises(ValueError, match="x must have 3 channels"):
            failing(x, wrong)

    for _ in range(3):
        function(x, weight, bias)  # from here on there is a program
    assert held_by(lambda: function(x, weight, bias)) == [0, 0]
    assert held_by(lambda: function(np.repeat(x, 2, -1)[..., ::2], weight, bias)) == [0, 0]  # in Python
    assert held_by(lambda: forgiving(x, wrong)) == [0, 0]
    assert held_by(lambda: raising(failing)) == held_by(lambda: raising(failing_without_us))
    assert sys.getrefcount(weight) == sys.getrefcount(bias) == 3


def memory():
    stats = rtsys.get_allocation_stats()
    return stats.mi_alloc - stats.mi_free, stats.alloc - stats.free


# -------------------------------------------------------------------------------------------------------------- threads
@numba.njit
def gradients(x, weight, t):
    """A few operations, one after the other, as in a step of training."""
    y = fc.conv2d(x, weight, padding=1, activation="relu")
    pooled, indices = fc.max_pool2d(y, 7, return_indices=True)
    rows = pooled.reshape(len(x), -1)
    grad = fc.cross_entropy_backward(rows, t)
    grad_y = fc.relu_backward(fc.max_pool2d_backward(grad.reshape(pooled.shape), indices, y.shape), y)
    return fc.cross_entropy(rows, t), fc.conv2d_backward_weight(grad_y, x, weight.shape, padding=1)


@numba.njit(parallel=True)
def gradients_of_shards(x, weight, t, shards):
    losses, grads = np.zeros(shards), np.zeros((shards, weight.size), x.dtype)
    size = len(x) // shards
    for s in numba.prange(shards):
        part = slice(s * size, (s + 1) * size)
        loss, grad = gradients(x[part], weight, t[part])
        losses[s] = loss
        grads[s] = grad.ravel()
    return losses, grads


def operands(batch=12):
    return values((batch, 4, 7, 7)), values((5, 4, 3, 3), seed=1), np.arange(batch) % 5


needs_threads = pytest.mark.skipif(
    numba.config.NUMBA_NUM_THREADS < 2, reason="NUMBA_NUM_THREADS allows one thread only"
)


@pytest.fixture
def threads():
    """Sets the number of threads, and puts the old one back."""
    before = numba.get_num_threads()
    yield numba.set_num_threads
    numba.set_num_threads(before)


@needs_threads
def test_a_prange_over_shards_gives_the_same_on_any_number_of_threads(threads):
    x, weight, t = operands()
    expected = [gradients.py_func(x[k : k + 3], weight, t[k : k + 3]) for k in range(0, 12, 3)]
    for count in (1, 2, 2, 1):
        threads(count)
        for _ in range(3):  # in Python, becoming programs, as programs
            losses, grads = gradients_of_shards(x, weight, t, 4)
            assert losses.tolist() == [loss for loss, _ in expected]
            assert grads.tobytes() == np.stack([grad for _, grad in expected]).tobytes()


def test_programs_run_on_many_threads_at_once():
    x, weight, t = operands()
    function = numba.njit(nogil=True)(gradients.py_func)
    expected = gradients.py_func(x, weight, t)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for loss, grad in pool.map(lambda _: function(x, weight, t), range(64)):
            assert loss == expected[0]
            assert grad.tobytes() == expected[1].tobytes()


@pytest.fixture
def parallel_launches(monkeypatch):
    """The numbers of workers of all launches on more than one thread."""
    workers = []

    def recording(core, count, args, start=_jit.start):
        workers.append(count)
        start(core, count, args)

    monkeypatch.setattr(_jit, "start", recording)
    return workers


@numba.njit
def large(x, weight):
    return fc.conv2d(x, weight)


@numba.njit
def large_on_threads(x, weight):
    return fcp.conv2d(x, weight)


@numba.njit(parallel=True)
def large_in_a_prange(x, weight, count):
    totals = np.zeros(count)
    for k in numba.prange(count):
        totals[k] = large_on_threads(x, weight).sum()
    return totals


@needs_threads
def test_threads_are_started_where_they_are_asked_for_and_not_in_a_prange(parallel_launches, threads):
    threads(2)
    x, weight = values((8, 32, 28, 28)), values((48, 32, 3, 3))
    expected = fc.conv2d(x, weight).tobytes()
    assert parallel_launches
    parallel_launches.clear()
    for _ in range(3):
        assert large(x, weight).tobytes() == expected
    assert parallel_launches == []
    for _ in range(3):
        assert large_on_threads(x, weight).tobytes() == expected
    assert parallel_launches == [2] * len(parallel_launches) != []
    parallel_launches.clear()
    totals = large_in_a_prange(x, weight, 4)
    assert parallel_launches == []
    assert totals.tolist() == [totals[0]] * 4
    assert fcp.conv2d(x, weight).tobytes() == expected  # in Python it is the same function
    assert parallel_launches


NESTED = """
import numpy as np
from tests.test_compiled import fc, gradients_of_shards, large_in_a_prange, numba, operands
large_in_a_prange(np.ones((8, 32, 28, 28), np.float32), np.ones((48, 32, 3, 3), np.float32), 4)
assert len({gradients_of_shards(*operands(), 4)[1].tobytes() for _ in range(4)}) == 1
print(numba.threading_layer())
"""


@needs_threads
@pytest.mark.parametrize("layer", LAYERS)
def test_a_prange_in_every_layer(layer):
    done = run_script(NESTED, check=False, **threading_layer(layer))
    if NO_LAYER in done.stderr:
        pytest.skip(f"Numba's {layer} layer is not installed")
    assert done.stdout == f"{layer}\n", done.stderr[-2000:]


AFTER_PYTORCH = """
import torch
from tests.test_compiled import _jit, fcp, large_in_a_prange, np
regions, ask = [], _jit.in_parallel_region
_jit.in_parallel_region = lambda: regions.append(ask()) or regions[-1]
x, weight = np.ones((8, 32, 28, 28), np.float32), np.ones((48, 32, 3, 3), np.float32)
fcp.conv2d(x, weight)
large_in_a_prange(x, weight, 4)
print(regions)
"""


@needs_threads
@pytest.mark.torch
def test_a_prange_is_noticed_where_pytorch_has_brought_its_openmp():
    pytest.importorskip("torch")
    assert run_script(AFTER_PYTORCH, NUMBA_THREADING_LAYER="omp").stdout == "[True, True, True, True]\n"


def run_script(script, check=True, folder=None, **environment):
    """A script in a process of its own, with modules from ``folder`` before all others."""
    path = os.pathsep.join(map(str, filter(None, [folder, *sys.path])))
    variables = {**os.environ, "PYTHONPATH": path, **{name: str(value) for name, value in environment.items()}}
    command = [sys.executable, "-c", script]
    return subprocess.run(command, env=variables, cwd=folder, capture_output=True, text=True, check=check)


# -------------------------------------------------------------------------------------------------- the caller's cache
USER = """
import numba, fastconv as fc

@numba.njit(cache=True)
def layer(x, weight):
    y, indices = fc.max_pool2d(fc.conv2d(x, weight, padding=1), 2, return_indices=True)
    return fc.relu(y), indices

@numba.njit(cache=True, parallel=True)
def layers(x, weight):
    total = 0.0
    for k in numba.prange(4):
        total += layer(x, weight)[0].sum()
    return total
"""
CALLER = """
import numpy as np, fastconv as fc, user
x, weight = np.ones((2, 3, 8, 8), np.float32), np.ones((4, 3, 3, 3), np.float32)
for _ in range(3):
    y, indices = user.layer(x, weight)
    assert y.tobytes() == fc.relu(fc.max_pool2d(fc.conv2d(x, weight, padding=1), 2)).tobytes()
    total = user.layers(x, weight)
assert total == 4 * y.sum()
try:
    user.layer(x, weight[:, :2])
except ValueError as error:
    assert "x must have 2 channels" in str(error)
compiled = [sum(function.stats.cache_misses.values()) for function in (user.layer, user.layers)]
print(y.max(), *[count > 0 for count in compiled])
"""


def test_the_callers_code_is_kept_and_outlives_a_change_of_this_package(tmp_path):
    """Sums of ones, of up to 27 of them; then of a copy of the package whose ReLU doubles."""
    (tmp_path / "user.py").write_text(USER)
    places = {"folder": tmp_path, "NUMBA_CACHE_DIR": tmp_path / "cache"}
    assert run_script(CALLER, **places).stdout == "27.0 True True\n"
    assert run_script(CALLER, **places).stdout == "27.0 False False\n"
    shutil.copytree(pathlib.Path(fc.__file__).parent, tmp_path / "fastconv", ignore=shutil.ignore_patterns("*.pyc"))
    kernel = tmp_path / "fastconv" / "cpu" / "activation.py"
    kernel.write_text(kernel.read_text().replace("ys[i] = zero if xs[i] < zero else xs[i]", "ys[i] = 2 * xs[i]"))
    assert run_script(CALLER, **places).stdout == "54.0 False False\n"


def test_without_compilation_the_same_functions_are_called():
    script = (
        "import numba, numpy as np, fastconv as fc; f = numba.njit(lambda x: fc.relu(x)); print(f(np.array([-1.0, 2])))"
    )
    assert run_script(script, NUMBA_DISABLE_JIT=1).stdout == "[0. 2.]\n"
