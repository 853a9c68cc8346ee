"""One disc, vessel share, vessel contrast: on volumes that have them, on noise and on shuffled patches."""

import numpy as np
import pytest
import torch

from gen_core.batch import Batch
from gen_metrics.anatomy import Anatomy, component_areas, detail_correlation, one_disc, vessel_contrast
from gen_metrics.metric_options import Anatomy as Options


def test_component_areas_use_four_neighbours():
    mask = np.zeros((6, 7), bool)
    mask[0, 0] = mask[1, 1] = True  # touch at a corner only
    mask[3:5, 2:6] = True
    assert component_areas(mask) == [8, 1, 1]
    assert component_areas(np.zeros((3, 4), bool)) == []


def test_one_disc_means_one_of_a_discs_size():
    ask = lambda areas: one_disc(areas, 50.0, (0.4, 2.5), 0.1)
    assert ask([50]) and ask([50, 4, 4]) and ask([21]) and ask([124])
    assert not ask([]) and not ask([50, 6]) and not ask([19]) and not ask([126]) and not ask([4])


def test_the_disc_count_tells_eyes_from_noise_and_from_shuffled_patches(context, batches, world, feed, one):
    metric = Anatomy(Options(), context)
    for batch in batches("val", 9):
        metric.update(batch, "val")
    g = torch.Generator().manual_seed(0)
    noise = torch.randn(30, 1, 5, 20, 24, generator=g).clamp(-1, 1)
    x = world["train"][0]
    tiles = x.unfold(3, 5, 5).unfold(4, 6, 6)  # (N, 1, D, 4, 4, 5, 6): each tile from another eye
    rows, columns = torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")
    shuffled = []
    for _ in range(30):
        pick = torch.randint(0, len(x), (4, 4), generator=g)
        tile = tiles[pick, :, :, rows, columns]  # (4, 4, 1, D, 5, 6)
        shuffled.append(tile.permute(2, 3, 0, 4, 1, 5).reshape(1, 5, 20, 24))
    metric.update(Batch(noise, [f"n{i}" for i in range(30)]), "synthetic")
    metric.update(Batch(torch.stack(shuffled), [f"q{i}" for i in range(30)]), "reconstruction")
    result = metric.compute()
    assert one(result, "one disc, share", "val").value >= 0.95
    assert one(result, "one disc, share", "synthetic").value == 0.0
    assert one(result, "one disc, share", "reconstruction").value < 0.6
    assert result.protocol["typical_disc_area_pixels"] == 29.0


def test_vessel_share_counts_vessel_pixels_of_the_field(context, world, feed, one):
    result = feed(Anatomy(Options(), context)).compute()
    x, masks, _, _ = world["val"]
    field = 20 * 23
    want = float((x[:, 0, 0] < -0.5).sum((1, 2)).double().mean()) / field
    assert one(result, "vessel share of the field", "val").value == pytest.approx(want, rel=1e-6)
    x = world["synthetic"][0]  # samples carry no field: that of the real volumes is taken
    want = float((x[:, 0, 0] < -0.5).sum((1, 2)).double().mean()) / field
    got = one(result, "vessel share of the field", "synthetic")
    below = one(result, "vessel share of the field", "reconstruction").value
    assert got.value == pytest.approx(want, rel=1e-6) and got.better == "match"
    assert one(result, "vessel share, ratio", "synthetic", "reconstruction").value == pytest.approx(want / below)


def test_contrast_kept_falls_with_blur_and_is_one_for_copies(context, batches, one):
    def kept(blend):
        metric = Anatomy(Options(), context)
        for batch in batches("val", 7):
            y = batch.x
            soft = torch.nn.functional.avg_pool3d(y, (1, 5, 5), 1, (0, 2, 2), count_include_pad=False)
            batch.reference, batch.x = y, (1 - blend) * y + blend * soft
            metric.update(batch, "reconstruction")
        result = metric.compute()
        names = ("vessel contrast kept", "detail correlation")
        return [one(result, name, "reconstruction").value for name in names]

    found = [kept(b) for b in (0.0, 0.5, 1.0)]
    assert found[0] == pytest.approx([1.0, 1.0], abs=1e-6)
    assert found[0][0] > found[1][0] > found[2][0] and found[0][1] > found[1][1] > found[2][1]


def test_contrast_is_its_formula_and_has_no_value_without_vessels():
    band = torch.full((4, 6), 0.8)
    vessel = torch.zeros(4, 6, dtype=torch.bool)
    ring = torch.zeros_like(vessel)
    assert vessel_contrast(band, vessel, ring) is None
    vessel[1, 2:4], ring[2, :] = True, True
    band[1, 2:4] = 0.2
    assert vessel_contrast(band, vessel, ring) == pytest.approx(0.75)


def test_detail_ignores_what_lies_outside_the_field():
    g = torch.Generator().manual_seed(0)
    a = torch.rand(15, 18, generator=g)
    valid = torch.zeros(15, 18, dtype=torch.bool)
    valid[3:12, 4:15] = True
    b = torch.where(valid, a, torch.rand(15, 18, generator=g))
    assert detail_correlation(a, b, valid, 5) == pytest.approx(1.0)
    assert detail_correlation(a, torch.ones_like(a), valid, 5) is None


def test_the_band_is_the_nearest_to_the_wavelength(context):
    metric = Anatomy(Options(), context)
    assert metric.band == 2
