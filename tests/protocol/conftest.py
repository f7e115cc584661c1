"""More examples on demand: ``HYPOTHESIS_PROFILE=thorough pytest tests/protocol``."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "thorough",
    parent=settings.get_profile("polyai"),
    max_examples=2_000,
    suppress_health_check=[HealthCheck.too_slow],
)
if profile := os.environ.get("HYPOTHESIS_PROFILE"):
    settings.load_profile(profile)
