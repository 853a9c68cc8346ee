"""Limits over 1/N: Gaussians whose distance is known, and errors that cover."""

import numpy as np
import pytest
import torch

from gen_metrics.frechet import frechet_rows
from gen_metrics.infinity import at_infinity, too_few_for_limit
from gen_metrics.sides import Groups, Rows


def draw(n, seed, shift=0.0, scale=1.0, dim=6):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)).double() * scale + shift


def test_the_limit_is_nearer_to_the_true_distance_than_the_plain_value():
    true = 6 * (0.3**2 + 0.2**2)  # |m1 - m2|^2 + sum (s1 - s2)^2, independent features
    plain, limits, inside = [], [], 0
    for i in range(20):
        a, b = draw(60, 2 * i, 0.3, 1.2), draw(60, 2 * i + 1)
        found = at_infinity(Rows(a), Rows(b), 0)
        plain.append(frechet_rows(a, b))
        limits.append(found["limit"])
        inside += found["low"] <= true <= found["high"]
    assert abs(np.mean(limits) - true) < 0.35 * abs(np.mean(plain) - true)
    assert np.mean(limits) == pytest.approx(true, abs=3 * np.std(limits) / 20**0.5 + 0.03)
    assert inside >= 16  # of 20 intervals of 95 %


def test_the_curve_falls_over_n_and_its_line_is_the_least_squares_line():
    found = at_infinity(Rows(draw(48, 0)), Rows(draw(40, 1)), 3)
    assert (
        found["n"] == pytest.approx([10, 40 / 3, 20, 40], rel=0.03) and found["value"] == sorted(found["value"])[::-1]
    )
    slope, limit = np.polyfit(1 / np.array(found["n"]), found["value"], 1)
    assert (found["limit"], found["slope"]) == pytest.approx((limit, slope), rel=1e-9)
    assert len(found["spread"]) == 4 and min(found["spread"]) > 0 and found["se"] > 0


def test_it_is_a_function_of_the_seed_alone():
    a, b = Rows(draw(30, 0)), Rows(draw(30, 1))
    assert at_infinity(a, b, 1) == at_infinity(a, b, 1) != at_infinity(a, b, 2)


def test_groups_of_volumes_count_volumes():
    tables = [draw(7, i) for i in range(26)], [draw(7, 100 + i) for i in range(24)]
    sides = [Groups(t, 12, torch.zeros(6).double(), torch.ones(6).double()) for t in tables]
    found = at_infinity(*sides, 0)
    assert found["n"][-1] == pytest.approx(25, rel=0.05) and found["n"][0] == pytest.approx(25 / 4, rel=0.1)


@pytest.mark.parametrize("n, dim, why", [(19, 2, "20 volumes"), (40, 11, "4 x 11 feature vectors"), (44, 11, "")])
def test_too_few_volumes_have_no_limit(n, dim, why):
    assert why in (said := too_few_for_limit(Rows(draw(n, 0, dim=dim)), Rows(draw(99, 1, dim=dim)))) and bool(
        said
    ) == bool(why)
