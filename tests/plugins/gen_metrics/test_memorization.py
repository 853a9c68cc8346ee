"""Copies are found, mirrored too; honest samples are not accused."""

from types import SimpleNamespace

import pytest
import torch
from scipy.stats import binomtest

from gen_core.batch import Batch
from gen_metrics.memorization import Memorization, binomial_tail, tail_with_estimated_quantile
from gen_metrics.metric_options import Memorization as Options


def volumes(n, seed):
    """Smooth random volumes (n, 1, 5, 20, 24)."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.randn(n, 5, 5, 6, generator=g)
    return torch.nn.functional.interpolate(coarse, (20, 24), mode="bilinear")[:, None].mul(0.4).clamp(-1, 1)


def metric_with(context, samples, options=None, val=120):
    context = SimpleNamespace(**{**vars(context), "counts": {"train": 150}})
    metric = Memorization(options or Options(planted=30), context)
    for source, x in (("train", volumes(150, 1)), ("val", volumes(val, 2)), ("synthetic", samples)):
        for start in range(0, len(x), 50):
            part = x[start : start + 50]
            metric.update(Batch(part, [f"{source}-{start + i}" for i in range(len(part))]), source)
    return metric


def test_honest_samples_raise_no_alarm_and_planted_copies_are_found(context, one):
    result = metric_with(context, volumes(60, 3)).compute()
    assert one(result, "copies, share", "synthetic").value <= 0.05
    assert one(result, "copies, binomial test p", "synthetic").value > 0.01
    for kind in ("noisy", "mirrored"):
        found = one(result, f"planted copies found, {kind}", "train")
        assert found.value >= 0.95 and 15 <= found.n <= 45
    assert one(result, "copies, share", "synthetic").flag == ""
    assert one(result, "copies, share", "synthetic").floor == 0.01


def test_copies_of_training_volumes_are_found_plain_and_mirrored(context, one):
    train, fresh = volumes(150, 1), volumes(60, 3)
    noise = 0.02 * torch.randn(20, 1, 5, 20, 24, generator=torch.Generator().manual_seed(9))
    copies = torch.cat((train[:10], train[10:20].flip(-1))) + noise
    result = metric_with(context, torch.cat((copies, fresh[:40]))).compute()
    share = one(result, "copies, share", "synthetic")
    assert 20 / 60 <= share.value <= 22 / 60
    assert one(result, "copies, binomial test p", "synthetic").value < 1e-6
    assert one(result, "copies, p with the threshold's own error", "synthetic").value < 1e-3
    rows = {r["id"]: r for r in result.extra["neighbours"]}
    assert rows["synthetic-3"]["train"][0] == "train-3" and not rows["synthetic-3"]["mirrored"][0]
    assert rows["synthetic-13"]["train"][0] == "train-13" and rows["synthetic-13"]["mirrored"][0]
    assert rows["synthetic-3"]["copy"] and len(rows["synthetic-3"]["train"]) == 10
    assert rows["synthetic-3"]["distance"] == sorted(rows["synthetic-3"]["distance"])


def test_without_the_mirrored_search_the_audit_says_so(context, one):
    result = metric_with(context, volumes(20, 3), Options(planted=30, mirror=False)).compute()
    assert one(result, "planted copies found, mirrored", "train").value < 0.5
    assert "the audit found only" in one(result, "copies, share", "synthetic").flag


def test_under_a_hundred_validation_volumes_there_is_no_verdict(context, one):
    result = metric_with(context, volumes(20, 3), val=40).compute()
    assert "only 40 validation volumes" in one(result, "copies, share", "synthetic").flag


@pytest.mark.parametrize("distance", ["l2", "cosine"])
def test_other_distances_find_copies_too(context, one, distance):
    result = metric_with(context, volumes(150, 1)[:12], Options(distance=distance, planted=0)).compute()
    assert one(result, "copies, share", "synthetic").value == 1.0
    assert result.protocol["distance"] == distance


def test_the_threshold_has_the_promised_false_alarms():
    # held-out draws of the same population: the share under the Weibull quantile of 127 others is 1 % on average
    import numpy as np

    g = np.random.default_rng(0)
    below = [np.mean(g.random(200) < np.quantile(g.random(127), 0.01, method="weibull")) for _ in range(2000)]
    assert np.mean(below) == pytest.approx(0.01, abs=0.001)


def test_p_values_are_exact_and_wider_when_the_threshold_is_estimated():
    for k, n in ((0, 128), (3, 128), (128, 128)):
        assert binomial_tail(k, n, 0.01) == pytest.approx(
            binomtest(k, n, 0.01, alternative="greater").pvalue, abs=1e-12
        )
    assert tail_with_estimated_quantile(5, 128, 128, 0.01) > binomial_tail(5, 128, 0.01)
    assert tail_with_estimated_quantile(5, 128, 10**7, 0.01) == pytest.approx(binomial_tail(5, 128, 0.01), rel=1e-3)
    assert tail_with_estimated_quantile(0, 128, 128, 0.01) == 1.0
