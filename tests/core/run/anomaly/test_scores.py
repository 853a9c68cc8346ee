"""Area, average precision and best Dice against scikit-learn and against all thresholds; ties and edges."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from gen_core.run.anomaly.scores import Ranking, volume_scores


@pytest.fixture(params=["continuous", "ties", "few levels"])
def case(request):
    g = np.random.default_rng(3)
    positive = g.random((2, 7, 11)) < 0.13
    scores = g.normal(size=positive.shape) + 0.9 * positive
    scores = scores if request.param == "continuous" else np.round(scores, 1 if request.param == "ties" else 0)
    return scores.astype(np.float32), positive


def test_the_area_is_that_of_scikit_learn(case):
    scores, positive = case
    want = roc_auc_score(positive.ravel(), scores.ravel())
    assert Ranking.of(scores, positive).auroc == pytest.approx(want, abs=1e-12)


def test_the_average_precision_is_that_of_scikit_learn(case):
    scores, positive = case
    want = average_precision_score(positive.ravel(), scores.ravel())
    assert Ranking.of(scores, positive).average_precision == pytest.approx(want, abs=1e-12)


def test_no_threshold_has_a_better_dice(case):
    scores, positive = case
    dice, threshold = Ranking.of(scores, positive).best_dice
    every = [2 * (positive & (scores >= t)).sum() / (positive.sum() + (scores >= t).sum()) for t in np.unique(scores)]
    assert dice == pytest.approx(max(every), abs=1e-12)
    assert f1_score(positive.ravel(), scores.ravel() >= np.float32(threshold)) == pytest.approx(dice, abs=1e-12)


def test_perfect_reversed_and_constant_scores():
    positive = np.array([True, False, True, False, False])
    assert Ranking.of(positive.astype(float), positive).auroc == 1.0
    assert Ranking.of(-positive.astype(float), positive).auroc == 0.0
    constant = Ranking.of(np.ones(5), positive)
    assert constant.auroc == 0.5 and constant.average_precision == 0.4
    assert constant.best_dice == (pytest.approx(4 / 7), 1.0)


def test_one_kind_alone_has_no_figures():
    scores = np.arange(4.0)
    none, all_ = Ranking.of(scores, np.zeros(4, bool)), Ranking.of(scores, np.ones(4, bool))
    assert (none.auroc, none.average_precision, none.best_dice) == (None, None, None)
    assert all_.auroc is None and all_.average_precision == 1.0 and all_.best_dice == (1.0, 0.0)


def test_scores_of_a_volume_are_its_highest_hundredth_its_percentile_and_its_mean():
    values = np.random.default_rng(0).permutation(1000).astype(np.float32).reshape(5, 10, 20)
    found = volume_scores(values)
    assert found["top 1 %"] == pytest.approx(np.arange(990, 1000).mean())
    assert found["99th percentile"] == pytest.approx(np.percentile(values, 99))
    assert found["mean"] == pytest.approx(499.5)
    assert volume_scores(np.array([0.25]))["top 1 %"] == 0.25
