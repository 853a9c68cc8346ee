"""Spectra of structures: KL against torch.distributions, floors, masks, angles."""

import math

import pytest
import torch
from scipy.stats import wasserstein_distance
from torch.distributions import MultivariateNormal, kl_divergence

from gen_core.errors import RecipeError
from gen_metrics.metric_options import SpectralKl as Options
from gen_metrics.spectral_kl import SpectralKl, gaussian_kl, spectral_angle


def random_gaussian(seed, dim=9):
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(4 * dim, dim, generator=g, dtype=torch.float64)
    return torch.randn(dim, generator=g, dtype=torch.float64), a.T @ a / len(a)


def test_kl_agrees_with_torch_distributions():
    for seed in range(4):
        (m1, s1), (m2, s2) = random_gaussian(seed), random_gaussian(seed + 10)
        want = float(kl_divergence(MultivariateNormal(m1, s1), MultivariateNormal(m2, s2)))
        assert gaussian_kl(m1, s1, m2, s2) == pytest.approx(want, rel=1e-8)
    assert gaussian_kl(m1, s1, m1, s1) == pytest.approx(0.0, abs=1e-12)


def test_the_metric_fits_the_pixels_of_each_structure(context, world, feed, one):
    result = feed(SpectralKl(Options(ridge=0.01), context)).compute()
    spectra = {}
    for source in ("val", "synthetic"):
        x = world[source][0][:, 0]
        rows = x.movedim(1, -1)[x[:, 0] < -0.5].double()
        spectra[source] = MultivariateNormal(rows.mean(0), torch.cov(rows.T) + 0.01 * torch.eye(5).double())
    want = float(kl_divergence(spectra["val"], spectra["synthetic"]))
    got = one(result, "kl vessel", "synthetic", "val")
    assert got.value == pytest.approx(want, rel=1e-6) and got.low <= got.value <= got.high
    assert got.floor == one(result, "kl vessel", "train", "val").value


def test_reconstructions_are_compared_with_samples_beside_their_own_floor(context, feed, one):
    result = feed(SpectralKl(Options(), context)).compute()
    gate = one(result, "kl onh", "synthetic", "reconstruction")
    assert gate.floor == one(result, "kl onh", "reconstruction-train", "reconstruction").value
    assert one(result, "kl onh", "reconstruction-train").floor is None
    assert one(result, "angle onh", "synthetic", "val").value < 0.5


def test_a_shift_of_the_spectrum_is_seen(context, batches, one):
    values = []
    for shift in (0.0, 0.1, 0.3):
        metric = SpectralKl(Options(truth=True), context)
        for batch in batches("val", 8):
            metric.update(batch, "val")
            batch.x = batch.x + shift * torch.linspace(-1, 1, 5)[:, None, None]
            metric.update(batch, "reconstruction")
        values.append([one(metric.compute(), f"{n} vessel", "reconstruction").value for n in ("kl", "angle")])
    assert values[0][0] == pytest.approx(0.0, abs=1e-9) and values[0][1] == pytest.approx(0.0, abs=1e-6)
    assert values[0][0] < values[1][0] < values[2][0] and values[0][1] < values[1][1] < values[2][1]


def test_few_pixels_are_flagged_and_none_give_no_value(context, batches):
    metric = SpectralKl(Options(structures={"vessel": ("vein", "artery")}), context)
    batch = batches("val", 1)[0]
    batch.x = torch.zeros_like(batch.x)
    batch.x[0, 0, 0, 3, :4] = -0.9
    metric.update(batch, "val")
    metric.update(batches("train", 4)[0], "train")
    assert "val: 4 pixels for 5 bands" in metric.compute().values[0].flag
    batch.x = torch.zeros_like(batch.x)
    metric.update(batch, "synthetic")
    assert {v.source for v in metric.compute().values} == {"train"}


def test_signatures_are_mean_and_sd_of_the_pixels(context, world, feed):
    extra = feed(SpectralKl(Options(truth=True), context)).compute().extra["signatures"]
    x, masks, _, _ = world["train"]
    rows = x[:, 0].movedim(1, -1)[(masks["vein"] | masks["artery"])[:, 0, 0]].double()
    found = extra["structures"]["vessel"]["train"]
    assert found["mean"] == pytest.approx(rows.mean(0).tolist(), abs=1e-5)
    assert found["sd"] == pytest.approx(rows.std(0).tolist(), abs=1e-5) and found["pixels"] == len(rows)
    assert extra["wavelength_nm"][2] == 540.0


def test_angles_keep_their_digits_near_zero():
    a = torch.tensor([1.0, 0.0, 0.0]).double()
    for angle in (1e-9, 0.5, 3.0):
        b = torch.tensor([math.cos(angle), math.sin(angle), 0.0]).double()
        assert spectral_angle(a, 7 * b) == pytest.approx(angle, rel=1e-6)


def test_an_unknown_structure_is_one_line(context, batches):
    metric = SpectralKl(Options(structures={"drusen": ("drusen",)}), context)
    with pytest.raises(
        RecipeError, match="structure 'drusen': the segmenter has no class drusen; it finds vessel, onh"
    ):
        metric.update(batches("val", 2)[0], "val")


def test_without_a_ridge_the_covariances_are_taken_as_they_are(context, world, feed, one):
    result = feed(SpectralKl(Options(ridge=0.0), context)).compute()
    spectra = {}
    for source in ("val", "synthetic"):
        x = world[source][0][:, 0]
        rows = x.movedim(1, -1)[x[:, 0] < -0.5].double()
        spectra[source] = MultivariateNormal(rows.mean(0), torch.cov(rows.T))
    want = float(kl_divergence(spectra["val"], spectra["synthetic"]))
    got = one(result, "kl vessel", "synthetic", "val")
    assert got.value == pytest.approx(want, rel=1e-6) and got.flag == ""


def test_a_singular_covariance_is_shrunk_and_said(context, batches):
    metric = SpectralKl(Options(structures={"vessel": ("vein", "artery")}, ridge=0.0), context)
    batch = batches("val", 1)[0]
    batch.x = torch.zeros_like(batch.x)
    batch.x[0, 0, 0, 3, :4] = -0.9
    metric.update(batch, "val")
    metric.update(batches("train", 4)[0], "train")
    value = metric.compute().values[0]
    assert "val: singular covariance (4 pixels, 5 bands), shrunk by" in value.flag and math.isfinite(value.value)


def test_wasserstein_distances_by_band_are_scipys(context, world, feed, one):
    result = feed(SpectralKl(Options(truth=True), context)).compute()
    found = {}
    for source in ("val", "train"):
        x, masks, _, _ = world[source]
        found[source] = x[:, 0].movedim(1, -1)[masks["onh"][:, 0, 0]]
    want = [wasserstein_distance(found["val"][:, k], found["train"][:, k]) for k in range(5)]
    assert result.extra["wasserstein"]["onh"]["train"] == pytest.approx(want, abs=2 / 512)
    mean = one(result, "wasserstein onh", "train", "val")
    assert mean.value == pytest.approx(sum(want) / 5, abs=2 / 512) and mean.low <= mean.value <= mean.high
