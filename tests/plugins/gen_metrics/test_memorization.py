"""Copies are found, mirrored too; honest samples are not accused."""

from types import SimpleNamespace

import pytest
import torch
from scipy.stats import binomtest

from gen_core.batch import Batch
from gen_metrics.memorization import Memorization, binomial_tail, tail_with_estimated_quantile
from gen_metrics.metric_options import Memorization as Options


class Pooled:
    """Features: each band's mean (hardly moved by shifts) and means of blocks (much moved)."""

    takes, dim = "volume", 25

    def eval(self):
        return self

    def features(self, x):
        blocks = torch.nn.functional.adaptive_avg_pool2d(x[:, 0].mean(1), (4, 5))
        return torch.cat((x.mean((1, 3, 4)), blocks.flatten(1)), 1)

    def protocol(self):
        return {"name": "pooled", "sha256": "2" * 64}


class Blocks(Pooled):
    """A hundred features of equal right: means of blocks of every band."""

    def features(self, x):
        return torch.nn.functional.adaptive_avg_pool3d(x, (5, 4, 5)).flatten(1)


def volumes(n, seed):
    """Smooth random volumes (n, 1, 5, 20, 24), each band with a level of its own."""
    g = torch.Generator().manual_seed(seed)
    coarse = 0.2 * torch.randn(n, 5, 5, 6, generator=g)
    levels = 0.3 * torch.randn(n, 5, 1, 1, generator=g)
    smooth = torch.nn.functional.interpolate(coarse, (20, 24), mode="bilinear")
    return (smooth + levels)[:, None].clamp(-1, 1)


def metric_with(context, samples, options=None, val=120, network=None):
    context = SimpleNamespace(**{**vars(context), "counts": {"train": 150}})
    network = network or Pooled()
    context.features = lambda table: network
    metric = Memorization(options or Options(planted=30, learn=60), context)
    for source, x in (("train", volumes(150, 1)), ("val", volumes(val, 5)), ("synthetic", samples)):
        for start in range(0, len(x), 50):
            part = x[start : start + 50]
            metric.update(Batch(part, [f"{source}-{start + i}" for i in range(len(part))]), source)
    return metric


def test_honest_samples_raise_no_alarm_and_planted_copies_are_found(context, one):
    result = metric_with(context, volumes(60, 6)).compute()
    assert one(result, "copies, share", "synthetic").value <= 0.05
    assert one(result, "copies, binomial test p", "synthetic").value > 0.01
    for kind in ("exact", "flipped", "shifted", "noisy", "cropped"):
        found = one(result, f"planted copies found, {kind}", "train")
        assert found.value >= 0.95 and 15 <= found.n <= 45
    assert one(result, "false alarms on held-out subjects", "val").low <= 0.01
    assert result.extra["verdict"] == {"given": True, "why_not": [], "copies": False}
    assert one(result, "copies, share", "synthetic").flag == ""
    assert one(result, "copies, share", "synthetic").floor == 0.01


def test_copies_of_training_volumes_are_found_plain_and_mirrored(context, one):
    train, fresh = volumes(150, 1), volumes(60, 6)
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
    result = metric_with(context, volumes(20, 3), Options(planted=30, mirror=False, metric="plain")).compute()
    assert one(result, "planted copies found, flipped", "train").value < 0.5
    flag = one(result, "copies, share", "synthetic").flag
    assert flag.startswith("no verdict: the audit found only") and "of flipped copies" in flag
    assert result.extra["verdict"]["given"] is False and "copies" not in result.extra["verdict"]


def test_the_learned_distance_finds_shifted_copies_that_the_plain_one_misses(context, one):
    found = {}
    for metric in ("learned", "plain"):
        result = metric_with(context, volumes(10, 3), Options(planted=60, metric=metric, shift=0.25)).compute()
        found[metric] = one(result, "planted copies found, shifted", "train").value
    assert found["learned"] > found["plain"]


def test_copies_made_by_the_codec_are_planted_where_there_is_one(context, one):
    metric = metric_with(context, volumes(10, 3))
    blurred = torch.nn.functional.avg_pool3d(volumes(150, 1), (1, 3, 3), 1, (0, 1, 1), count_include_pad=False)
    metric.update(Batch(blurred, [f"train-{i}" for i in range(150)]), "reconstruction-train")
    result = metric.compute()
    assert one(result, "planted copies found, reconstructed", "train").value >= 0.95
    assert result.extra["stand_out"]["reconstructed"] >= 0.9


def test_judged_copies_name_the_training_volume_and_the_distance(context):
    train, fresh = volumes(150, 1), volumes(30, 6)
    judged = metric_with(context, torch.cat((train[4:5].flip(-1), train[7:8], fresh))).judge()
    assert {"synthetic-0", "synthetic-1"} <= set(judged) and len(judged) <= 4
    assert judged["synthetic-0"].startswith("near training volume train-4, mirrored: distance ")
    assert judged["synthetic-1"].startswith("near training volume train-7: distance ")
    assert "under the threshold of" in judged["synthetic-1"] and judged["synthetic-1"].endswith("than to any other")
    assert metric_with(context, fresh[:0]).judge() == {}


def test_samples_in_the_middle_of_the_training_volumes_do_not_stand_out(context, one):
    # volumes near the mean are near to many training volumes, and are nobody's copy
    options = Options(planted=0, metric="plain")
    result = metric_with(context, 0.2 * volumes(60, 6), options, network=Blocks()).compute()
    assert one(result, "copies, share", "synthetic").value > 0.5
    assert one(result, "copies that stand out, share", "synthetic").value <= 0.05


def test_the_score_of_a_sample_is_its_rank_among_held_out_volumes(context):
    result = metric_with(context, torch.cat((volumes(150, 1)[:1], volumes(60, 6)))).compute()
    rows = {r["id"]: r for r in result.extra["neighbours"]}
    val = result.extra["distances"]["val"]
    assert rows["synthetic-0"]["p"] == pytest.approx(1 / 121, abs=1e-6)
    for row in rows.values():
        assert row["p"] == pytest.approx((1 + sum(v <= row["distance"][0] + 1e-6 for v in val)) / 121, abs=2 / 121)


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
