"""Areas and their covariance: against scikit-learn, the double sums of the paper, a hand-computed case, a bootstrap."""

import numpy as np
import pytest
from scipy.stats import norm

from gen_metrics.delong import areas, holm, interval, paired


def drawn(m=37, n=53, seed=0, shared=0.8):
    g = np.random.default_rng(seed)
    present = np.arange(m + n) < m
    common = g.standard_normal(m + n)
    scores = np.stack([k * present + shared * common + g.standard_normal(m + n) for k in (1.0, 1.5, 0.0)])
    return scores, present


def test_areas_are_those_of_scikit_learn_with_and_without_ties():
    from sklearn.metrics import roc_auc_score

    scores, present = drawn()
    for s in (scores, np.round(scores)):
        want = [roc_auc_score(present, row) for row in s]
        np.testing.assert_allclose(areas(s, present)[0], want, rtol=1e-12)


def test_a_case_computed_by_hand():
    # present 3, 1; absent 2, 0: of four pairs three are right; placements 1, 1/2 and 1/2, 1
    auc, covariance = areas(np.array([[3.0, 1.0, 2.0, 0.0]]), np.array([True, True, False, False]))
    assert auc[0] == 0.75
    assert covariance[0, 0] == pytest.approx(0.125 / 2 + 0.125 / 2)


def test_the_covariance_is_that_of_the_papers_double_sums():
    scores, present = drawn(11, 17)
    scores = np.round(scores * 2)  # with ties
    X, Y = scores[:, present], scores[:, ~present]
    psi = (X[:, :, None] > Y[:, None]) + 0.5 * (X[:, :, None] == Y[:, None])  # eq. 2
    V10, V01, theta = psi.mean(2), psi.mean(1), psi.mean((1, 2))
    S10 = (V10 - theta[:, None]) @ (V10 - theta[:, None]).T / (X.shape[1] - 1)  # eq. 5
    S01 = (V01 - theta[:, None]) @ (V01 - theta[:, None]).T / (Y.shape[1] - 1)
    auc, covariance = areas(scores, present)
    np.testing.assert_allclose(auc, theta)
    np.testing.assert_allclose(covariance, S10 / X.shape[1] + S01 / Y.shape[1])


def test_the_covariance_agrees_with_a_stratified_bootstrap():
    scores, present = drawn(80, 90)
    g = np.random.default_rng(1)
    x, y = np.flatnonzero(present), np.flatnonzero(~present)
    draws = []
    for _ in range(1500):
        i = np.concatenate((g.choice(x, len(x)), g.choice(y, len(y))))
        draws.append(areas(scores[:, i], present[i])[0])
    want = np.cov(np.array(draws).T)
    _, covariance = areas(scores, present)
    np.testing.assert_allclose(covariance, want, atol=0.12 * want.diagonal().max())


def test_p_values_of_equal_scores_are_uniform_and_of_better_ones_small():
    p = []
    for seed in range(200):
        scores, present = drawn(30, 30, seed)
        g = np.random.default_rng(1000 + seed)
        twin = scores[0] + 0.3 * g.standard_normal((2, 60))
        auc, covariance = areas(twin, present)
        p.append(paired(auc, covariance, 1, 0)[2])
    assert 0.01 < np.mean(np.array(p) < 0.05) < 0.1
    auc, covariance = areas(*drawn(120, 120))
    gain, variance, p_value = paired(auc, covariance, 1, 2)
    assert p_value < 1e-6
    assert p_value == pytest.approx(2 * norm.cdf(-gain / np.sqrt(variance)))


def test_a_score_against_itself_has_no_p_value():
    scores, present = drawn()
    auc, covariance = areas(np.stack([scores[0], 3 * scores[0] - 1]), present)
    assert paired(auc, covariance, 0, 1) == (0.0, 0.0, None)


def test_one_volume_of_a_class_has_an_area_but_no_covariance_and_none_has_neither():
    auc, covariance = areas(np.array([[2.0, 1.0, 3.0]]), np.array([True, False, False]))
    assert auc[0] == 0.5 and covariance is None
    with pytest.raises(ValueError, match="both classes"):
        areas(np.array([[2.0, 1.0]]), np.array([True, True]))


def test_intervals_stay_within_what_is_possible():
    assert interval(0.98, 0.01) == (pytest.approx(0.98 - 0.1959964), 1.0)
    assert interval(0.5, 0.0) == (0.5, 0.5)


def test_holm_multiplies_the_smallest_by_their_number_and_never_falls():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []
