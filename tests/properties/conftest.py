"""Profiles of hypothesis: few examples and the same every time; GEN_EXAMPLES=2000 for many, drawn afresh."""

import os

import pytest

hypothesis = pytest.importorskip("hypothesis")

many = int(os.environ.get("GEN_EXAMPLES", "0"))
quiet = dict(deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck))
hypothesis.settings.register_profile("few", max_examples=25, derandomize=True, **quiet)
hypothesis.settings.register_profile("many", max_examples=max(many, 1), **quiet)
hypothesis.settings.load_profile("many" if many else "few")
