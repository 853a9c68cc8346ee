"""The brain MRI phantom: golden order of tissues, noise in air, shading, labels, symmetry that lesions break."""

import numpy as np
import pytest
from attrs import evolve
from scipy import ndimage

from gen_core.dataset import DatasetContext
from gen_core.errors import RecipeError
from gen_core.options import SplitOptions, VolumeOptions
from gen_radiology.phantoms import brain_anatomy, brain_render
from gen_radiology.phantoms.brain_mri import build, draw, render, sequence, signals, top
from gen_radiology.phantoms.brain_mri_options import BrainMriPhantom
from gen_radiology.phantoms.mr_signal import TISSUES, spin_echo, spoiled_gradient_echo

SIZE, SPACING = (32, 60, 56), (5.0, 3.7, 3.9)
QUIET = BrainMriPhantom(bias=0.0, noise=0.0, lesions=1.0, lesion_mm=(16.0, 28.0))
ORDER = {
    "t1": ("white-matter", "lesion", "grey-matter", "csf"),
    "t2": ("csf", "lesion", "grey-matter", "white-matter"),
}


@pytest.mark.parametrize("contrast", ["t1", "t2"])
@pytest.mark.parametrize("subject", [0, 1, 5])
def test_rendered_tissues_have_the_golden_order(contrast, subject):
    o = evolve(QUIET, contrast=contrast)
    picture, _ = render(o, SIZE, SPACING, subject)
    scan = draw(o, SIZE, SPACING, subject)
    shares, _ = brain_render.tissues(scan.head, scan.grid, scan.lesions)
    means = {}
    for name in ORDER[contrast]:
        pure = shares[brain_render.TISSUES.index(name)]
        pure = ndimage.gaussian_filter(pure, brain_render.BLUR) > 0.93  # hardly anything else beside it
        assert pure.sum() >= 5
        means[name] = picture[pure].mean()
        assert means[name] == pytest.approx(signals(o)[name], rel=0.10)
    assert sorted(means, key=means.get, reverse=True) == list(ORDER[contrast])


@pytest.mark.parametrize("subject", [0, 2])
def test_shares_are_shares_and_masks_follow_them(subject):
    scan = draw(QUIET, SIZE, SPACING, subject)
    shares, masks = brain_render.tissues(scan.head, scan.grid, scan.lesions)
    assert shares.min() >= -1e-6 and shares.sum(0).max() <= 1 + 1e-5
    kinds = [masks[n] for n in ("lesion", "white-matter", "grey-matter", "csf")]
    assert np.sum(kinds, 0).max() == 1  # no two overlap but at exactly one half
    litres = {name: m.sum() * np.prod(SPACING) / 1e6 for name, m in masks.items()}
    assert 1.1 < litres["brain"] < 1.9
    assert 0.4 < litres["white-matter"] < 0.8 and 0.45 < litres["grey-matter"] < 0.85
    assert 0.15 < litres["csf"] < 0.6
    assert (masks["lesion"] & masks["brain"]).sum() == masks["lesion"].sum() > 0


def test_noise_in_air_is_rayleigh_and_white():
    o = BrainMriPhantom(noise=0.05)
    sigma = 0.05 * signals(o)["white-matter"]
    size, spacing = (20, 50, 90), (7.0, 5.6, 7.5)
    clean, _ = render(evolve(o, noise=0.0), size, spacing, 1)
    noisy, _ = render(o, size, spacing, 1)
    air = np.zeros(size, bool)
    air[:, :, :16] = air[:, :, -16:] = True
    assert clean[air].max() == 0
    assert noisy[air].mean() == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.01)
    assert noisy[air].std() == pytest.approx(sigma * np.sqrt(2 - np.pi / 2), rel=0.02)
    strip = noisy[:, :, :16] - noisy[:, :, :16].mean()
    for axis in range(3):
        shifted = float((strip * np.roll(strip, 1, axis)).mean()) / strip.var()
        assert abs(shifted) < 0.03
    bright = clean > 0.5 * signals(o)["white-matter"]
    assert (noisy - clean)[bright].std() == pytest.approx(sigma, rel=0.05)


def test_shading_is_smooth_and_as_strong_as_asked():
    for subject in (0, 1):
        flat, masks = render(QUIET, SIZE, SPACING, subject)
        shaded, _ = render(evolve(QUIET, bias=0.2), SIZE, SPACING, subject)
        log = np.log(shaded[masks["brain"]] / flat[masks["brain"]])
        assert 0.03 < log.std() < 0.35
        ratio = np.where(masks["brain"], shaded / np.maximum(flat, 1e-3), np.nan)
        assert np.nanmax(np.abs(np.diff(np.log(ratio), axis=2))) < 0.05


@pytest.mark.parametrize("contrast", ["t1", "t2"])
def test_a_lesion_breaks_the_symmetry_of_its_hemisphere(contrast):
    o = evolve(QUIET, contrast=contrast)
    worse = []
    for subject in (0, 2, 5):
        scan = draw(o, SIZE, SPACING, subject)
        ill, masks = render(o, SIZE, SPACING, subject)
        healthy, none = render(o, SIZE, SPACING, subject, healthy=True)
        assert not none["lesion"].any()
        np.testing.assert_array_equal(
            ill != healthy, (ill != healthy) & ndimage.binary_dilation(masks["lesion"], iterations=4)
        )
        where = np.argwhere(masks["lesion"]) * SPACING + scan.grid.origin
        at = brain_anatomy.to_canonical(scan.head, where)
        assert (scan.lesions.side * at[:, 2] > 0).all()  # all of them on one side
        mirror = brain_anatomy.to_picture(scan.head, at * (1, 1, -1))
        index = ((mirror - scan.grid.origin) / SPACING).T
        across = [ndimage.map_coordinates(v, index, order=1) for v in (healthy, ill)]
        here = [v[masks["lesion"]] for v in (healthy, ill)]
        score = [-np.abs(a - b).mean() / signals(o)["white-matter"] for a, b in zip(here, across)]
        worse.append(score[0] - score[1])
    assert min(worse) > 0.05  # less symmetric with its lesion than without, by 5 % of white matter's signal


def test_the_label_says_who_has_lesions(tmp_path):
    context = DatasetContext(VolumeOptions((8, 30, 28)), SplitOptions(val=0.3), 0, tmp_path)
    data = build(BrainMriPhantom(subjects=12, workers=1, lesions=0.5), context)
    assert data.spec.classes == {"lesion": ("healthy", "lesion")}
    labels = []
    for split in ("train", "val"):
        for sample in data.split(split):
            assert sample.condition["lesion"] == int(sample.masks["lesion"].any())
            labels.append(sample.condition["lesion"])
    assert 1 < sum(labels) < 11


def test_the_lesion_mask_is_as_large_as_what_was_drawn():
    for subject in (0, 2, 5):
        scan = draw(QUIET, SIZE, SPACING, subject)
        _, masks = brain_render.tissues(scan.head, scan.grid, scan.lesions)
        drawn = sum(np.pi / 6 * b.diameter**3 for b in scan.lesions.blobs)
        assert masks["lesion"].sum() * np.prod(SPACING) == pytest.approx(drawn, rel=0.15)


def test_lesions_are_large_enough_to_be_seen():
    o = BrainMriPhantom(lesions=1.0)
    for subject in range(6):
        scan = draw(o, (32, 40, 42), (5.0, 5.6, 5.3), subject)
        assert min(b.diameter for b in scan.lesions.blobs) >= 2.5 * 5.6 - 1e-9
        assert len(scan.lesions.blobs) <= o.lesions_max


def test_one_slice_shows_brain_and_its_lesion():
    for subject in range(4):
        picture, masks = render(BrainMriPhantom(lesions=1.0), (1, 44, 48), (5.0, 5.0, 4.6), subject)
        assert picture.shape == (1, 44, 48) and masks["brain"].mean() > 0.15
        assert masks["lesion"].any()


def test_the_sequence_follows_the_options():
    o = BrainMriPhantom(tr_ms=30.0, te_ms=5.0, flip_deg=20.0)
    expected = 1000 * spoiled_gradient_echo(TISSUES["csf"], 30.0, 5.0, 20.0)
    assert signals(o)["csf"] == pytest.approx(expected)
    assert sequence(BrainMriPhantom()).tr == 18.0
    pd = signals(BrainMriPhantom(contrast="pd"))
    assert pd["lesion"] == pytest.approx(1000 * spin_echo(TISSUES["lesion"], 3300.0, 35.0))
    assert top(o) == pytest.approx(1.1 * max(signals(o).values())) and top(BrainMriPhantom(hi=90.0)) == 90.0


@pytest.mark.parametrize(
    "given, says",
    [
        ({"contrast": "t2", "flip_deg": 40.0}, "flip_deg"),
        ({"te_ms": 20.0}, "te_ms = 20 must be shorter"),
        ({"lesion_mm": (20.0, 10.0)}, "lesion_mm"),
    ],
)
def test_mistaken_options_are_named(tmp_path, given, says):
    context = DatasetContext(VolumeOptions((4, 16, 18)), SplitOptions(val=0.3), 0, tmp_path)
    with pytest.raises(RecipeError, match=says):
        build(BrainMriPhantom(**given), context)
