"""For all tests: hypothesis without a time limit on one example, because cores are shared.

What the product starts is found among the tools of the tests, too.
"""

from __future__ import annotations

import os

import hypothesis

from machine import processes

# The tools of the tests are not among the system's.
processes.PATH = os.environ["PATH"]

hypothesis.settings.register_profile(
    "shared",
    deadline=None,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("shared")
