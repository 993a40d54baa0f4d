"""Where the CUDA packages are not installed, pytest must not look for doctests in modules that import them.

It would leave them half imported, and tests that ask whether they are there would be told that they are.
"""

try:
    import fastconv.cuda._jit  # noqa: F401

    missing = None
except ImportError as error:
    missing = str(error)
    collect_ignore_glob = ["fastconv/cuda/*", "tests/ptx/[!t]*.py", "tests/cuda/[!t]*.py"]


def pytest_report_header(config):
    """Say at the top what is left out."""
    return f"CUDA tests are skipped: {missing}" if missing else None
