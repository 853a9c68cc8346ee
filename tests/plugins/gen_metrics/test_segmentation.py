"""Segmentation scores: against scikit-learn, before and after post-processing, between observers."""

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, precision_score, recall_score

from gen_core.errors import RecipeError
from gen_core.testing import check_metric
from gen_metrics.intervals import bootstrap_mean
from gen_metrics.metric_options import Segmentation as Options
from gen_metrics.postprocess import round_field
from gen_metrics.segmentation import Segmentation, score

CLASSES = {"vessel": ("vein", "artery"), "onh": ("onh",)}


class Noisy:
    """A stand-in that wavers: it misses a part of the structures and sees some where there are none."""

    classes = ("vessel", "onh")

    def eval(self):
        return self

    def probabilities(self, x):
        vessel, disc = x[:, 0, 0] < -0.35, x[:, 0, 1] > 0.5
        wobble = torch.sin(40 * x[:, 0, 2]).abs() ** 8
        p = [torch.where(structure, 1 - 0.6 * wobble, wobble) for structure in (vessel, disc)]
        return torch.stack(p, 1)[:, :, None]


@pytest.fixture
def noisy(context):
    context.segmenter = lambda table: Noisy()
    return context


def by_hand(batch, options, stage):
    """(volume, class) -> true and found pixels, flat."""
    p = Noisy().probabilities(batch.x)[:, :, 0]
    vessel = (batch.masks["vein"] | batch.masks["artery"])[:, 0, 0]
    true = torch.stack((vessel, batch.masks["onh"][:, 0, 0]), 1)
    found = p >= (options.threshold if stage == "before" else options.probability)
    if stage == "after":
        found = found & round_field(*batch.x.shape[-2:], options.rim, options.centre)
    return true.flatten(2).numpy(), found.flatten(2).numpy()


@pytest.mark.parametrize("stage", ["before", "after"])
def test_scores_are_those_of_scikit_learn_averaged_over_volumes(noisy, batches, feed, one, stage):
    options = Options(classes=CLASSES, largest=(), rim=0.15, centre=0.2)
    result = feed(Segmentation(options, noisy)).compute()
    true, found = by_hand(batches("val", 24)[0], options, stage)
    label = "" if stage == "before" else ", post-processed"
    for k, cls in enumerate(CLASSES):
        for kind, reference in (("precision", precision_score), ("recall", recall_score), ("dice", f1_score)):
            want = [reference(t[k], f[k], zero_division=np.nan) for t, f in zip(true, found)]
            value = one(result, f"{kind} {cls}{label}", "val")
            assert value.value == pytest.approx(np.nanmean(want), abs=1e-12)
            assert value.n == np.isfinite(want).sum() and 0 < value.value < 1
            assert (value.low, value.high) == bootstrap_mean([w for w in want if np.isfinite(w)], noisy.seed)


def test_all_classes_together_pool_the_pixels_of_a_volume(noisy, batches, feed, one):
    result = feed(Segmentation(Options(classes=CLASSES), noisy)).compute()
    true, found = by_hand(batches("val", 24)[0], Options(classes=CLASSES), "before")
    want = [precision_score(t.ravel(), f.ravel()) for t, f in zip(true, found)]
    assert one(result, "precision all", "val").value == pytest.approx(np.mean(want), abs=1e-12)


def test_post_processing_gives_recall_for_precision(noisy, feed, one):
    result = feed(Segmentation(Options(classes=CLASSES), noisy)).compute()
    for cls in CLASSES:
        value = lambda name: one(result, name, "val").value
        assert value(f"precision {cls}") < value(f"precision {cls}, post-processed")
        assert value(f"recall {cls}") > value(f"recall {cls}, post-processed")


def test_the_table_holds_mean_and_sd_of_every_class_and_stage(noisy, batches, feed):
    result = feed(Segmentation(Options(classes=CLASSES, largest=()), noisy)).compute()
    rows = {(r["class"], r["stage"]): r for r in result.extra["table"]}
    assert set(rows) == {(c, s) for c in (*CLASSES, "all") for s in ("before", "after")}
    true, found = by_hand(batches("val", 24)[0], Options(classes=CLASSES), "before")
    dice = [f1_score(t[1], f[1]) for t, f in zip(true, found)]
    row = rows["onh", "before"]["dice"]
    assert row["mean"] == pytest.approx(np.mean(dice)) and row["sd"] == pytest.approx(np.std(dice, ddof=1))
    assert row["n"] == 24 and len(result.extra["volumes"]) == 24


def test_a_second_observer_is_scored_like_the_segmenter(noisy, batches, feed, one):
    options = Options(classes={"vessel": ("vein", "artery")}, against={"vessel": ("vein",)})
    result = feed(Segmentation(options, noisy)).compute()
    masks = batches("val", 24)[0].masks
    first, second = (masks["vein"] | masks["artery"]).flatten(1).numpy(), masks["vein"].flatten(1).numpy()
    want = np.mean([f1_score(a, b) for a, b in zip(first, second)])
    assert one(result, "dice vessel, between observers", "val").value == pytest.approx(want)
    found = (Noisy().probabilities(batches("val", 24)[0].x)[:, 0] >= 0.5).flatten(1).numpy()
    want = np.mean([f1_score(b, f) for b, f in zip(second, found)])
    assert one(result, "dice vessel, against the second observer", "val").value == pytest.approx(want)


def test_it_is_a_metric(noisy, batches):
    pairs = [("val", b) for b in batches("val", 5)]
    check_metric(lambda: Segmentation(Options(classes=CLASSES, against={"onh": ("vein",)}), noisy), pairs)


def test_an_undefined_precision_is_left_out_and_said(context, batches, one):
    class Blind(Noisy):
        def probabilities(self, x):
            p = super().probabilities(x)
            p[:, 0] *= (torch.arange(len(x)) > 0)[:, None, None, None]
            return p

    context.segmenter = lambda table: Blind()
    metric = Segmentation(Options(classes=CLASSES), context)
    metric.update(batches("val", 4)[0], "val")
    value = one(metric.compute(), "precision vessel", "val")
    assert value.n == 3 and value.flag == "only 3 volumes; not defined in 1 of 4 volumes, left out"
    assert score("precision", (0, 0, 7)) is None and score("recall", (0, 0, 7)) == 0.0


def test_volumes_without_masks_are_counted_and_unknown_classes_are_one_line(noisy, batches):
    metric = Segmentation(Options(classes={**CLASSES, "drusen": ("drusen",)}), noisy)
    metric.update(batches("val", 6)[0], "val")
    assert metric.compute().protocol["without_masks"] == {"drusen": 6}
    metric = Segmentation(Options(classes={"vein": ("vein",)}), noisy)
    with pytest.raises(RecipeError, match="structure 'vein': the segmenter has no class vein"):
        metric.update(batches("val", 6)[0], "val")
