"""Helpers here import Numba's CUDA package; where there is none, pytest must not look into them for doctests."""

try:
    import fastconv.cuda._jit  # noqa: F401
except ImportError:
    collect_ignore = ["kernels.py", "machine_code.py", "agreement.py"]
