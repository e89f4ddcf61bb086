"""For all tests: hypothesis without a time limit on one example, because cores are shared."""

from __future__ import annotations

import hypothesis

hypothesis.settings.register_profile(
    "shared",
    deadline=None,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("shared")
