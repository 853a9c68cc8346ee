"""Hyperspectral FID: which triplets are drawn, how they are ordered, what is refused."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gen_core.errors import RecipeError
from gen_core.volume import VolumeSpec
from gen_metrics.frechet import frechet_gaussians
from gen_metrics.hyperspectral_fid import HyperspectralFid, band_triplets
from gen_metrics.metric_options import HyperspectralFid as Options


def test_triplets_fall_in_wavelength_are_distinct_and_cover_all_bands():
    t = band_triplets(7, 4000, 0, "eye-1")
    assert t.shape == (4000, 3) and (np.diff(t, axis=1) < 0).all()
    share = np.bincount(t.ravel(), minlength=7) / t.size
    assert share == pytest.approx(np.full(7, 1 / 7), abs=0.01)
    assert band_triplets(3, 2, 0, "a").tolist() == [[2, 1, 0]] * 2


def test_triplets_are_a_function_of_seed_and_id():
    assert (band_triplets(9, 20, 1, "a") == band_triplets(9, 20, 1, "a")).all()
    assert (band_triplets(9, 20, 1, "a") != band_triplets(9, 20, 1, "b")).any()
    assert (band_triplets(9, 20, 1, "a") != band_triplets(9, 20, 2, "a")).any()


def test_value_is_the_distance_of_the_pooled_features(context, world, feed, one):
    metric = feed(HyperspectralFid(Options(features="colours", triplets=11), context))
    pooled = {}
    for source in ("val", "synthetic"):
        x, _, _, prefix = world[source]
        images = [
            x[i, 0][torch.from_numpy(band_triplets(5, 11, context.seed, f"{prefix}{i:03d}"))] for i in range(len(x))
        ]
        rows = context.features("colours").features(torch.cat(images)).double()
        pooled[source] = rows.mean(0), torch.cov(rows.T)
    want = frechet_gaussians(*pooled["synthetic"], *pooled["val"])
    result = metric.compute()
    got = one(result, "hyperspectral-fid", "synthetic", "val")
    assert got.value == pytest.approx(want, rel=1e-6)
    assert 0 < got.floor != one(result, "hyperspectral-fid", "train").value  # 22 training volumes, not 40
    assert got.low <= got.value <= got.high
    assert result.protocol["triplets"] == 11 and "limit" in result.extra["over_n"]["synthetic"]


def test_depths_without_bands_and_networks_of_volumes_are_refused(context, batches):
    ct = SimpleNamespace(**{**vars(context), "spec": VolumeSpec((9, 8, 7), depth="slices")})
    with pytest.raises(RecipeError, match="at least 3 bands.*9 x 'slices'"):
        HyperspectralFid(Options(), ct)
    with pytest.raises(RecipeError, match="takes whole volumes"):
        HyperspectralFid(Options(features="features"), context).update(batches("val", 2)[0], "val")


def test_a_part_of_the_volumes_is_drawn_by_their_ids(context, feed):
    part = feed(HyperspectralFid(Options(features="colours", triplets=2, volumes=20), context)).compute()
    again = feed(HyperspectralFid(Options(features="colours", triplets=2, volumes=20), context), 3).compute()
    assert part.protocol["n"] == again.protocol["n"] and 10 <= part.protocol["n"]["train"] <= 30


def test_the_curve_over_triplets_uses_the_first_of_each_volume(context, world, feed):
    curve = feed(HyperspectralFid(Options(features="colours", triplets=4, triplet_curve=True), context)).compute()
    found = curve.extra["over_triplets"]["synthetic"]
    assert found["n"] == [1, 5, 10, 25, 50, 100, 200]
    assert band_triplets(5, 200, 3, "eye")[:10].tolist() == band_triplets(5, 10, 3, "eye").tolist()
    plain = feed(HyperspectralFid(Options(features="colours", triplets=10, extrapolate=False), context)).compute()
    (at_ten,) = [v.value for v in plain.values if v.source == "synthetic"]
    assert found["value"][2] == pytest.approx(at_ten, rel=1e-9)
    slope, limit = np.polyfit(1 / np.array(found["n"]), found["value"], 1)
    assert (found["limit"], found["slope"]) == pytest.approx((limit, slope), rel=1e-9)
    # more triplets of the same volumes do not change what four give
    (four,) = [v for v in curve.values if v.source == "synthetic" and v.name == "hyperspectral-fid"]
    short = feed(HyperspectralFid(Options(features="colours", triplets=4), context)).compute()
    assert four in short.values


def test_a_network_that_prepares_bands_is_asked_once_a_volume(context, batches):
    class Prepared:
        takes, dim, prepared = "image", 3, 0

        def eval(self):
            return self

        def prepare_bands(self, bands):
            self.prepared += 1
            return bands.mean((1, 2))

        def features_of_triplets(self, prepared, picks):
            return prepared[picks]

        def protocol(self):
            return {"name": "prepared"}

    network = Prepared()
    other = SimpleNamespace(**{**vars(context), "features": lambda table: network})
    metric = HyperspectralFid(Options(triplets=7, batch=3), other)
    batch = batches("val", 4)[0]
    metric.update(batch, "val")
    assert network.prepared == 4
    rows = metric.features["val"]["v002"]
    want = batch.x[2, 0].mean((1, 2))[torch.from_numpy(band_triplets(5, 7, 3, "v002"))]
    assert torch.equal(rows, want)


def test_too_few_vectors_give_no_score_and_say_so(context, batches):
    class Wide:
        takes, dim = "image", 400

        def eval(self):
            return self

        def features(self, x):
            return x.flatten(1)[:, :400]

        def protocol(self):
            return {"name": "wide"}

    other = SimpleNamespace(**{**vars(context), "features": lambda table: Wide()})
    metric = HyperspectralFid(Options(triplets=2), other)
    for source in ("val", "synthetic"):
        metric.update(batches(source, 20)[0], source)
    result = metric.compute()
    assert result.values == [] and "40 feature vectors of synthetic for 400" in result.protocol["refused"]["synthetic"]
