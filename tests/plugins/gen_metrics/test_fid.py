"""The Frechet distance of volume features as a metric."""

from types import SimpleNamespace

import pytest
import torch

from gen_core.batch import Batch
from gen_core.errors import RecipeError
from gen_core.volume import VolumeSpec
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


def test_bands_have_a_distance_each_and_the_score_is_their_mean(context, world, feed, one):
    options = Options(features="colours", planes="each", standardize="none")
    result = feed(Fid(options, context)).compute()
    network = context.features("colours")
    rows = lambda s, d: network.features(world[s][0][:, :, d].expand(-1, 3, -1, -1)).double()
    each = {}
    for d, nm in enumerate((450, 500, 540, 600, 700)):
        a, b = rows("synthetic", d), rows("val", d)
        each[f"{nm} nm"] = frechet_gaussians(a.mean(0), torch.cov(a.T), b.mean(0), torch.cov(b.T))
    assert result.extra["planes"]["synthetic"] == pytest.approx(each, rel=1e-4, abs=1e-7)
    got = one(result, "fid", "synthetic", "val")
    assert got.value == pytest.approx(sum(each.values()) / 5, rel=1e-4) and got.low <= got.value <= got.high


def stacks(n, seed, tilt=0.0):
    """n stacks (n, 1, 10, 12, 14) of noise; `tilt` brightens them along H."""
    x = torch.rand(n, 1, 10, 12, 14, generator=torch.Generator().manual_seed(seed)) - 0.5
    return x + tilt * torch.linspace(-1, 1, 12)[:, None]


def test_stacks_of_slices_have_axial_coronal_and_sagittal_distances(context, one):
    ct = SimpleNamespace(**{**vars(context), "spec": VolumeSpec((10, 12, 14), depth="slices")})
    metric = Fid(Options(features="colours", planes="each", slices=4), ct)
    metric.update(Batch(stacks(24, 0), [f"v{i}" for i in range(24)]), "val")
    metric.update(Batch(stacks(24, 1, 0.3), [f"s{i}" for i in range(24)]), "synthetic")
    result = metric.compute()
    axial, coronal, sagittal = (one(result, f"fid {p}", "synthetic").value for p in ("axial", "coronal", "sagittal"))
    assert one(result, "fid", "synthetic").value == pytest.approx((axial + coronal + sagittal) / 3)
    # across H each plane is evenly bright, so only there the tilt makes bright and dark planes
    network = context.features("colours")
    at = [1, 4, 7, 10]  # four of twelve, evenly spaced
    rows = lambda x: network.features(
        x[:, 0, :, at].transpose(1, 2).flatten(0, 1)[:, None].expand(-1, 3, -1, -1)
    ).double()
    a, b = rows(stacks(24, 1, 0.3)), rows(stacks(24, 0))
    a, b = (a - b.mean(0)) / b.std(0), (b - b.mean(0)) / b.std(0)
    want = frechet_gaussians(a.mean(0), torch.cov(a.T), b.mean(0), torch.cov(b.T))
    assert coronal == pytest.approx(want, rel=1e-6)
    assert one(result, "fid infinity", "synthetic").value < one(result, "fid", "synthetic").value


class Slices:
    """A codec's features slice by slice: mean and sd of each slice of pairs of slices."""

    takes, dim = "volume", 2

    def eval(self):
        return self

    def slice_features(self, x):
        pairs = x.unflatten(2, (5, 2)).flatten(3)[:, 0]
        return torch.stack((pairs.mean(2), pairs.std(2)), 2)

    def protocol(self):
        return {"name": "slices", "sha256": "2" * 64}


def test_slices_of_the_codec_enter_together_with_the_number_of_volumes_beside_them(context, one):
    facts = {"spec": VolumeSpec((10, 12, 14), depth="slices"), "features": lambda table: Slices(), "cache": None}
    metric = Fid(Options(planes="slices", standardize="none"), SimpleNamespace(**{**vars(context), **facts}))
    val, synthetic = stacks(24, 0), stacks(20, 1, 0.3)
    metric.update(Batch(val, [f"v{i}" for i in range(24)]), "val")
    metric.update(Batch(synthetic, [f"s{i}" for i in range(20)]), "synthetic")
    a, b = (Slices().slice_features(x).flatten(0, 1).double() for x in (synthetic, val))
    got = one(metric.compute(), "fid", "synthetic")
    assert got.n == 20
    want = frechet_gaussians(a.mean(0), torch.cov(a.T), b.mean(0), torch.cov(b.T))
    assert got.value == pytest.approx(want, rel=1e-5)


def test_planes_need_a_network_of_images_and_room(context, batches):
    with pytest.raises(RecipeError, match="takes whole volumes"):
        Fid(Options(planes="each"), context).update(batches("val", 2)[0], "val")
    thin = SimpleNamespace(**{**vars(context), "spec": VolumeSpec((5, 12, 14), depth="slices")})
    with pytest.raises(RecipeError, match="5 x 12 x 14 have planes under 8 pixels"):
        Fid(Options(features="colours", planes="each"), thin)
    with pytest.raises(RecipeError, match="has no features of slices"):
        Fid(Options(planes="slices"), context).update(batches("val", 2)[0], "val")


def test_limits_stand_beside_the_scores_where_volumes_suffice(context, feed, one):
    result = feed(Fid(Options(), context)).compute()
    limit, floor = (one(result, "fid infinity", s) for s in ("reconstruction", "train"))  # 24 = 4 x 6 volumes
    assert limit.low < limit.value < limit.high and limit.floor == floor.value and floor.floor is None
    curve = result.extra["over_n"]["reconstruction"]
    assert curve["limit"] == limit.value and curve["n"] == pytest.approx([6, 8, 12, 24])
    assert "4 x 6 feature vectors" in result.protocol["refused"]["synthetic, infinity"]  # 22 volumes
    assert not [v for v in feed(Fid(Options(extrapolate=False), context)).compute().values if "infinity" in v.name]
