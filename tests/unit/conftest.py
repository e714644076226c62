"""How property tests search: no deadline on shared machines, nothing on disk, each run the same.

HYPOTHESIS_PROFILE=long searches two hundred times as far, for minutes, and elsewhere each time.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile("quick", deadline=None, database=None, derandomize=True)
settings.register_profile(
    "long",
    deadline=None,
    database=None,
    max_examples=20_000,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
