"""The Frechet distance of volume features as a metric."""

import pytest
import torch

from gen_core.batch import Batch
from gen_metrics.fid import Fid, standardizer
from gen_metrics.frechet import frechet_gaussians
from gen_metrics.metric_options import Fid as Options


def test_value_is_the_distance_of_standardized_features(context, world, feed, one):
    result = feed(Fid(Options(), context)).compute()
    network = context.features("features")
    a, b = (network.features(world[s][0]).double() for s in ("synthetic", "val"))
    mean, sd = b.mean(0), b.std(0)
    a, b = (a - mean) / sd, (b - mean) / sd
    want = frechet_gaussians(a.mean(0), torch.cov(a.T), b.mean(0), torch.cov(b.T))
    got = one(result, "fid", "synthetic", "val")
    assert got.value == pytest.approx(want, rel=1e-5)
    assert got.low < want < got.high and "jackknife" in got.interval and got.n == 22
    assert result.protocol["features"]["sha256"] == "0" * 64 and result.protocol["n"]["train"] == 40


def test_the_floor_is_training_at_the_samples_number(context, feed, one):
    metric = feed(Fid(Options(), context))
    result = metric.compute()
    floor, train = one(result, "fid", "synthetic").floor, one(result, "fid", "train").value
    assert floor > 0 and floor != train  # 22 training volumes, not 40


def test_noise_is_far_and_reconstructions_are_near(context, batches, feed, one):
    metric = Fid(Options(), context)
    for source in ("train", "val", "reconstruction"):
        for batch in batches(source, 7):
            metric.update(batch, source)
    noise = torch.randn(22, 1, 5, 20, 24, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    metric.update(Batch(noise, [f"n{i}" for i in range(22)]), "synthetic")
    result = metric.compute()
    near, far = one(result, "fid", "reconstruction").value, one(result, "fid", "synthetic").value
    assert near < 0.1 * far and one(result, "fid", "synthetic").floor < far


def test_too_few_volumes_are_flagged(context, batches, one):
    metric = Fid(Options(), context)
    metric.update(batches("val", 24)[0], "val")
    metric.update(batches("synthetic", 5)[0], "synthetic")
    flagged = one(metric.compute(), "fid", "synthetic")
    assert "5 synthetic volumes for 6 features" in flagged.flag and "validation" not in flagged.flag


def test_constant_features_do_not_divide_by_zero():
    rows = torch.tensor([[1.0, 2.0], [1.0, 4.0]]).double()
    mean, sd = standardizer(rows, "val")
    assert sd.tolist() == [1.0, pytest.approx(2**0.5)] and mean.tolist() == [1.0, 3.0]
    assert standardizer(rows, "none")[1].tolist() == [1.0, 1.0]


def test_an_image_network_sees_every_slice(context, world, feed, one):
    result = feed(Fid(Options(features="colours"), context)).compute()
    assert "each slice" in result.protocol["input"]
    assert one(result, "fid", "synthetic").value >= 0
