"""Poor samples: each rule finds its fault, names it, and leaves about the quantile of faultless volumes alone."""

import pytest
import torch

from gen_metrics.metric_options import Outliers as Options
from gen_metrics.outliers import Outliers, mahalanobis


@pytest.fixture
def judged(context, batches):
    """judged(change): the metric after training, validation and samples whose first volume `change` altered."""

    def run(change=None, size=8, order=None):
        metric = Outliers(Options(quantile=0.1), context)
        for source in ("train", "val", "synthetic"):
            for batch in batches(source, size, order if source == "synthetic" else None):
                if source == "synthetic" and change is not None and "s000" in batch.ids:
                    batch.x = batch.x.clone()
                    at = batch.ids.index("s000")
                    batch.x[at] = change(batch.x[at])
                metric.update(batch, source)
        return metric

    return run


def test_distances_are_those_of_a_plain_formula_where_nothing_is_shrunk():
    g = torch.Generator().manual_seed(0)
    base = torch.randn(4000, 3, generator=g, dtype=torch.float64) * torch.tensor([1.0, 3.0, 0.5]).double()
    rows = torch.randn(5, 3, generator=g, dtype=torch.float64)
    shift = rows - base.mean(0)
    want = (shift @ torch.linalg.inv(torch.cov(base.T)) * shift).sum(1).sqrt()
    assert torch.allclose(mahalanobis(rows, base), want, rtol=5e-3)


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda v: torch.where(torch.arange(24) < 12, 0.8, -0.8).expand(v.shape), "nearest training volume"),
        (lambda v: v + torch.linspace(-0.6, 0.6, 5)[:, None, None], "mean spectrum"),
        (lambda v: v.mean() + 0.01 * v, "flattest real volume"),
        (lambda v: torch.where(v > 0.0, 1.0, v), "voxels saturated"),
        (lambda v: v * float("nan"), "NaN or infinite"),
    ],
)
def test_a_fault_is_found_and_named(judged, change, said):
    reasons = judged(change).judge()
    assert said in reasons["s000"] and "\n" not in reasons["s000"]


def test_faultless_samples_are_mostly_left_alone(judged, one):
    metric = judged()
    result = metric.compute()
    share = one(result, "outliers, share", "synthetic")
    assert share.value == len(metric.judge()) / 22 <= 0.35  # two rules of 10 % each, 22 volumes
    assert share.floor == one(result, "outliers, share", "val").value <= 0.25
    assert one(result, "outliers, range", "synthetic").value == 0.0


def test_the_worst_sample_stands_first_with_its_reason(judged):
    worst = judged(lambda v: v * float("nan")).compute().extra["worst"]
    assert worst[0]["id"] == "s000" and "NaN" in worst[0]["why"]


def test_order_batches_and_parts_do_not_matter(judged, context, batches):
    whole = judged().compute()
    again = judged(size=5, order=list(range(21, -1, -1))).compute()
    assert [v.value for v in again.values] == [v.value for v in whole.values]
    left, right = (Outliers(Options(quantile=0.1), context) for _ in range(2))
    for source in ("train", "val", "synthetic"):
        for k, batch in enumerate(batches(source, 4)):
            (left, right)[k % 2].update(batch, source)
    left.merge(right)
    assert left.compute() == whole


def test_too_few_real_volumes_give_no_judgement(context, batches):
    metric = Outliers(Options(), context)
    for source in ("train", "val", "synthetic"):
        metric.update(batches(source, 4)[0], source)
    assert metric.judge() == {} and "needs more than 5" in metric.compute().protocol["note"]
