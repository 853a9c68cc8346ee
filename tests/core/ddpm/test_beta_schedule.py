"""Schedules against their formulas, and their edges."""

import math

import numpy as np
import pytest

from gen_core.ddpm.beta_schedule import betas
from gen_core.errors import RecipeError


def test_the_cosine_schedule_is_the_formula_until_it_is_clipped():
    b = betas("cosine", 300)
    f = lambda k: math.cos((k / 300 + 0.008) / 1.008 * math.pi / 2) ** 2
    for k in (1, 2, 150, 299):
        assert b[k - 1] == pytest.approx(1 - f(k) / f(k - 1), rel=1e-12)
    assert b[-1] == 0.9999 and b.max() == 0.9999  # cos reaches 0: beta would be 1
    assert betas("cosine", 300, clip=0.999)[-1] == 0.999


def test_linear_schedules_meet_their_ends_and_scaled_linear_is_linear_in_the_root():
    for name, root in (("linear", 1.0), ("scaled-linear", 0.5)):
        b = betas(name, 11, beta_start=0.0015, beta_end=0.0195)
        assert (b[0], b[-1]) == (pytest.approx(0.0015), pytest.approx(0.0195))
        np.testing.assert_allclose(np.diff(b**root, n=2), 0, atol=1e-15)
    with pytest.raises(RecipeError, match="beta_end = 0.001 is smaller than beta_start = 0.02"):
        betas("linear", 10, beta_start=0.02, beta_end=0.001)
