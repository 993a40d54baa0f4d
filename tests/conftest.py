"""How the whole suite runs: hypothesis profiles, and two threads at least so that parallel code has work to divide.

``HYPOTHESIS_PROFILE=ci pytest`` (or ``pytest --hypothesis-profile=ci``) draws more cases than the default "quick", and
"nightly" many more, new ones every time.
"""

import os

if (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1) < 2:
    os.environ.setdefault("NUMBA_NUM_THREADS", "2")

from hypothesis import HealthCheck, settings

_common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "print_blob": True}
settings.register_profile("quick", max_examples=40, derandomize=True, **_common)
settings.register_profile("ci", max_examples=200, derandomize=True, **_common)
settings.register_profile("nightly", max_examples=4000, **_common)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
