"""What a user waits for beside the arithmetic: the import, the first call, and a tiny call."""

import os
import subprocess
import sys
import tempfile

import numba
import numpy as np

import fastconv as fc

_IMPORTS = """
import sys, time
import numpy
start = time.perf_counter()
import numba
before = set(sys.modules)
start = time.perf_counter()
import fastconv
print(time.perf_counter() - start)
brought = [name for name in set(sys.modules) - before if name.startswith(("scipy", "numba.cuda"))]
assert not brought, f"import fastconv imports {brought[:3]}"
"""

_FIRST_CALL = """
import time
import numpy as np
import fastconv as fc
x, weight = np.ones((1, 3, 32, 32), np.float32), np.ones((8, 3, 3, 3), np.float32)
start = time.perf_counter()
fc.conv2d(x, weight)
print(time.perf_counter() - start)
"""


def _seconds(script: str, cache: str | None = None) -> float:
    """The first number that ``script`` prints, run by a fresh interpreter."""
    environment = dict(os.environ)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
    if cache is not None:
        environment["FASTCONV_CACHE_DIR"] = cache
    done = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[0])


class Start:
    """Seconds in a fresh process: the import beyond that of Numba, and the first convolution."""

    timeout = 600

    def setup(self) -> None:
        self.warm = tempfile.TemporaryDirectory()
        _seconds(_FIRST_CALL, self.warm.name)

    def teardown(self) -> None:
        self.warm.cleanup()

    def track_import_over_numba(self) -> float:
        return float(np.median([_seconds(_IMPORTS) for _ in range(9)][2:]))

    def track_first_call_cold(self) -> float:
        with tempfile.TemporaryDirectory() as cold:
            return _seconds(_FIRST_CALL, cold)

    def track_first_call_from_cache(self) -> float:
        return float(np.median([_seconds(_FIRST_CALL, self.warm.name) for _ in range(5)]))


for _track in (Start.track_import_over_numba, Start.track_first_call_cold, Start.track_first_call_from_cache):
    _track.unit = "seconds"  # type: ignore[attr-defined]


class Tiny:
    """Calls so small that only their overhead counts."""

    def setup(self) -> None:
        self.x = np.ones((1, 1, 8, 8), np.float32)
        self.weight = np.ones((1, 1, 3, 3), np.float32)
        for measured in (self.time_conv2d, self.time_max_pool2d, self.time_relu):
            measured()

    def time_conv2d(self) -> None:
        fc.conv2d(self.x, self.weight)

    def time_max_pool2d(self) -> None:
        fc.max_pool2d(self.x, 2)

    def time_relu(self) -> None:
        fc.relu(self.x)


@numba.njit  # type: ignore[untyped-decorator]
def _conv2d(x, weight):  # type: ignore[no-untyped-def]
    return fc.conv2d(x, weight)


class Compiled:
    """The same small call from Python and from a caller that Numba compiles."""

    params = (["python", "compiled"],)
    param_names = ("caller",)

    def setup(self, caller: str) -> None:
        self.x, self.weight = np.ones((4, 3, 9, 9), np.float32), np.ones((8, 3, 3, 3), np.float32)
        self.call = fc.conv2d if caller == "python" else _conv2d
        for _ in range(3):  # the third compiled call is the first without Python
            self.call(self.x, self.weight)

    def time_conv2d(self, caller: str) -> None:
        self.call(self.x, self.weight)
