"""Intervals against textbook formulas and scipy."""

import numpy as np
import pytest
from scipy.stats import binomtest

from gen_metrics.intervals import bootstrap_mean, clopper_pearson, jackknife, jackknife_volumes


def test_the_jackknife_of_a_mean_is_its_standard_error():
    v = np.random.default_rng(0).normal(size=40)
    low, high = jackknife_volumes(v, lambda r: float(r.mean()), groups=40)
    assert (high - low) / 2 / 1.959964 == pytest.approx(v.std(ddof=1) / 40**0.5, rel=1e-6)
    assert (high + low) / 2 == pytest.approx(v.mean())


def test_two_populations_add_their_variances_and_the_lower_end_is_cut():
    one = jackknife([[1.0, 2.0, 3.0]], 1.0, None)
    two = jackknife([[1.0, 2.0, 3.0]] * 2, 1.0, None)
    assert (two[1] - 1.0) == pytest.approx((one[1] - 1.0) * 2**0.5)
    assert jackknife([[1.0, 9.0]], 1.0)[0] == 0.0


def test_bootstrap_does_not_depend_on_the_order_and_covers_the_mean():
    v = np.random.default_rng(1).normal(5.0, 1.0, 50).tolist()
    assert bootstrap_mean(v, 3) == bootstrap_mean(v[::-1], 3)
    low, high = bootstrap_mean(v, 3)
    assert low < np.mean(v) < high and (high - low) == pytest.approx(4 * 1.0 / 50**0.5, rel=0.3)


@pytest.mark.parametrize("k, n", [(0, 12), (5, 12), (12, 12)])
def test_shares_have_the_exact_interval(k, n):
    exact = binomtest(k, n).proportion_ci(0.95, method="exact")
    assert clopper_pearson(k, n) == pytest.approx((exact.low, exact.high), abs=1e-9)
