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
