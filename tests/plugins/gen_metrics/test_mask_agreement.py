"""Samples that show what their mask asks for score as real volumes do; those that do not score near nothing."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gen_core.batch import Batch
from gen_core.volume import VolumeSpec
from gen_metrics.mask_agreement import MaskAgreement, dice, dilated
from gen_metrics.metric_options import MaskAgreement as Options

SPEC = VolumeSpec((7, 12, 14), depth="slices", masks=("lesion",))


def batch(n: int, seed: int, lesion: float, prefix: str, shown: bool = True) -> Batch:
    """Volumes of noise around -0.5 with a box of `lesion` higher values where the mask lies, or elsewhere."""
    g = torch.Generator().manual_seed(seed)
    x = -0.5 + 0.05 * torch.randn(n, 1, *SPEC.size, generator=g)
    masks = torch.zeros(n, 1, *SPEC.size, dtype=torch.bool)
    for i in range(n):
        d, h, w = (int(torch.randint(1, s - 4, (), generator=g)) for s in SPEC.size)
        masks[i, 0, d : d + 2, h : h + 3, w : w + 3] = True
    x += lesion * (masks if shown else torch.zeros_like(masks)).float()
    return Batch(x, [f"{prefix}{i}" for i in range(n)], masks={"lesion": masks})


def score(shown: bool, lesion: float = 0.8):
    metric = MaskAgreement(Options(), SimpleNamespace(spec=SPEC, seed=0))
    metric.update(batch(12, 0, lesion, "t"), "train")
    metric.update(batch(12, 1, lesion, "v"), "val")
    metric.update(batch(12, 2, lesion, "s", shown), "synthetic")
    return metric.compute()


@pytest.mark.parametrize("lesion", [0.8, -0.4])
def test_what_is_shown_is_found_whether_brighter_or_darker(lesion):
    result = score(True, lesion)
    values = {(v.name, v.source): v for v in result.values}
    assert values["dice", "synthetic"].value > 0.98 and values["dice", "synthetic"].floor > 0.98
    assert values["contrast", "synthetic"].value == pytest.approx(abs(lesion), abs=0.03)
    assert result.protocol["inside"] == ("brighter" if lesion > 0 else "darker")


def test_what_is_not_shown_is_not_found():
    values = {(v.name, v.source): v for v in score(False).values}
    assert values["dice", "synthetic"].value < 0.05 < values["dice", "val"].value
    assert abs(values["contrast", "synthetic"].value) < 0.05


def test_samples_without_a_mask_are_counted_and_passed_over():
    metric = MaskAgreement(Options(), SimpleNamespace(spec=SPEC, seed=0))
    metric.update(batch(3, 0, 0.8, "t"), "train")
    empty = batch(2, 1, 0.8, "s")
    empty.masks["lesion"][0] = False
    metric.update(empty, "synthetic")
    metric.update(Batch(empty.x, ["a", "b"]), "synthetic")
    result = metric.compute()
    assert result.protocol["synthetic_without_mask"] == 3 and result.values[0].n == 1


def test_without_training_masks_there_is_no_score():
    metric = MaskAgreement(Options(), SimpleNamespace(spec=SPEC, seed=0))
    metric.update(batch(3, 0, 0.8, "v"), "val")
    result = metric.compute()
    assert result.values == [] and "no training volume has the mask 'lesion'" in result.protocol["note"]


def test_growing_is_that_of_scipy_and_leaves_thin_axes_alone():
    from scipy.ndimage import binary_dilation

    mask = torch.from_numpy(np.random.default_rng(0).random((6, 7, 8)) < 0.05)
    expected = binary_dilation(mask.numpy(), np.ones((5, 5, 5)))
    assert torch.equal(dilated(mask, 2), torch.from_numpy(expected))
    assert dilated(mask[:1], 2).shape == (1, 7, 8)
    assert dice(mask, mask) == 1.0 and dice(mask, ~mask) == 0.0
