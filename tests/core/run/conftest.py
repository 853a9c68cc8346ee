"""A recipe whose run takes a second or two, and what became of each step of a run."""

from __future__ import annotations

import pytest

RECIPE = """
# A run of seconds.  gen run small.toml
gen = 1
name = "small"
[volume]
size = [3, 12, 10]
[dataset]
use = "retina-phantom"
subjects = 12
workers = 1
[codec]
use = "identity"
[prior]
use = "ddpm3d"
base = 8
multipliers = [1]
attention = "none"
steps = 10
[prior.fit]
steps = 3
batch = 2
checkpoint_every = 2
[sampler]
use = "ddim"
[sample]
n = 5
batch = 2
steps = 2
[metrics.ms-ssim]
pairs = 4
[report]
off = true
"""


@pytest.fixture(scope="session")
def small_recipe() -> str:
    """The text of the recipe."""
    return RECIPE


@pytest.fixture
def recipe(tmp_path, small_recipe):
    """The path of the recipe."""
    path = tmp_path / "small.toml"
    path.write_text(small_recipe)
    return path


@pytest.fixture
def states():
    """Step name -> state, of an outcome."""
    return lambda outcome: {row["step"]: row["state"] for row in outcome.steps}
