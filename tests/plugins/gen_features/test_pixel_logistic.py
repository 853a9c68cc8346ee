"""The pixel classifier: it learns, resumes bit-equal, and names what is missing."""

import pytest
import torch
from torch.nn.functional import avg_pool2d

from gen_core.errors import RecipeError
from gen_core.segmenter import SegmenterContext
from gen_core.trainable import Step
from gen_core.volume import VolumeSpec
from gen_features.pixel_logistic import build, local_mean
from gen_features.pixel_logistic_options import PixelLogistic as Options


def fit(model, make_eyes, start=0, stop=80, optimizer=None):
    optimizer = optimizer or torch.optim.Adam(model.parameters(), lr=0.15)
    for index in range(start, stop):
        g = torch.Generator().manual_seed(index)
        step = Step(index, 0, stop, g, torch.device("cpu"))
        optimizer.zero_grad()
        for group in model.training_step(make_eyes(4, 100 + index % 10), step):
            sum(group.losses.values()).backward()
        optimizer.step()
    return optimizer


@pytest.fixture(scope="module")
def fitted(make_eyes, spec):
    model = build(Options(windows=(3, 7)), SegmenterContext(spec))
    fit(model, make_eyes)
    return model


def test_it_finds_lines_and_discs_of_eyes_never_seen(fitted, make_eyes):
    scores = fitted.validation_step(make_eyes(20, 1), None)
    assert fitted.classes == ("vessel", "onh")
    for name in fitted.classes:
        assert scores[f"{name} dice"] > 0.85 and scores[f"{name} precision at .95"] > 0.95
    assert set(scores) == {
        f"{c} {s}" for c in fitted.classes for s in ("precision", "recall", "dice", "precision at .95")
    }


def test_probabilities_have_a_depth_of_one_and_lie_in_zero_to_one(fitted, make_eyes):
    p = fitted.probabilities(make_eyes(3, 7).x)
    assert p.shape == (3, 2, 1, 24, 28) and 0 <= float(p.min()) and float(p.max()) <= 1
    alone = fitted.probabilities(make_eyes(3, 7).x[1:2])
    assert torch.allclose(p[1:2], alone, atol=1e-5)


def test_precision_recall_and_dice_are_their_formulas(fitted, make_eyes):
    batch = make_eyes(5, 11)
    p = fitted.probabilities(batch.x)[:, 1, 0] >= 0.5
    true = batch.masks["onh"][:, 0, 0]
    tp, fp, fn = int((p & true).sum()), int((p & ~true).sum()), int((~p & true).sum())
    scores = fitted.validation_step(batch, None)
    assert float(scores["onh precision"]) == pytest.approx(tp / (tp + fp))
    assert float(scores["onh recall"]) == pytest.approx(tp / (tp + fn))
    assert float(scores["onh dice"]) == pytest.approx(2 * tp / (2 * tp + fp + fn))


def test_features_are_whitened_by_the_first_steps_and_then_stay(make_eyes, spec):
    model = build(Options(windows=(3,), normalize_steps=3, pixels=10**6), SegmenterContext(spec))
    fit(model, make_eyes, stop=3)
    seen = torch.cat([model.pixel_features(make_eyes(4, 100 + i).x) for i in range(3)])
    rows = seen.transpose(0, 1).flatten(1).double()
    assert torch.allclose(model.mean.double(), rows.mean(1), atol=1e-5)
    cov = torch.cov(model.whiten.double() @ rows)
    directions = torch.linalg.eigvalsh(cov)
    assert directions[-1] == pytest.approx(1.0, abs=1e-3) and (directions > 0.5).sum() > 0.6 * model.dim
    before = model.whiten.clone()
    fit(model, make_eyes, start=3, stop=5)
    assert torch.equal(model.whiten, before) and int(model.seen) == rows.shape[1]


def test_a_resumed_fit_is_bit_equal(make_eyes, spec):
    whole, first, second = (build(Options(windows=(3, 5)), SegmenterContext(spec)) for _ in range(3))
    fit(whole, make_eyes, stop=30)
    optimizer = fit(first, make_eyes, stop=9)  # inside the steps that set the scale
    second.load_state_dict(first.state_dict())
    resumed = torch.optim.Adam(second.parameters(), lr=0.15)
    resumed.load_state_dict(optimizer.state_dict())
    fit(second, make_eyes, start=9, stop=30, optimizer=resumed)
    for a, b in zip(whole.state_dict().values(), second.state_dict().values()):
        assert torch.equal(a, b)


def test_local_means_are_means_over_the_pixels_inside_the_image():
    s = torch.randn(2, 3, 11, 14, generator=torch.Generator().manual_seed(0))
    want = avg_pool2d(s, 5, 1, 2, count_include_pad=False)
    assert torch.allclose(local_mean(s, 5), want, atol=1e-5)
    tall = torch.randn(1, 1, 7, 520, generator=torch.Generator().manual_seed(1))  # the route for large images
    assert torch.allclose(local_mean(tall, 5), avg_pool2d(tall, 5, 1, 2, count_include_pad=False), atol=1e-5)


def test_windows_larger_than_the_image_are_left_out(spec):
    model = build(Options(windows=(3, 7, 31)), SegmenterContext(spec))
    assert model.windows == (3, 7) and model.linear.in_features == 6 * 9


def test_classes_can_be_apart(make_eyes, spec):
    model = build(Options(classes={"vein": ("vein",), "artery": ("artery",)}), SegmenterContext(spec))
    batch = make_eyes(2, 3)
    targets = model.targets(batch)
    assert torch.equal(targets[:, 1] > 0, batch.masks["artery"][:, 0, 0]) and targets.shape == (2, 2, 24, 28)


def test_missing_masks_and_slices_are_one_line(make_eyes, spec):
    with pytest.raises(RecipeError, match="the data set has no mask drusen; it has vein, artery, onh"):
        build(Options(classes={"drusen": ("drusen",)}), SegmenterContext(spec))
    model = build(Options(), SegmenterContext(VolumeSpec(spec.size)))
    batch = make_eyes(1, 1)
    del batch.masks["onh"]
    with pytest.raises(RecipeError, match="classes.onh: the volumes carry no mask onh"):
        model.targets(batch)
    with pytest.raises(RecipeError, match="depth must be bands"):
        build(Options(), SegmenterContext(VolumeSpec(spec.size, depth="slices")))


def test_even_windows_are_refused():
    with pytest.raises(ValueError, match="odd widths"):
        Options(windows=(4,))
