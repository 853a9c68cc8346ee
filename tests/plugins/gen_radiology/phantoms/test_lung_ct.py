"""The lung CT phantom: HU by tissue, nodules that are as large as their label says, noise, labels, field of view."""

import numpy as np
import pytest
from scipy import ndimage

from gen_core.dataset import DatasetContext
from gen_core.errors import RecipeError
from gen_core.options import SplitOptions, VolumeOptions
from gen_radiology.phantoms import lung_anatomy as anatomy
from gen_radiology.phantoms.grid import Grid
from gen_radiology.phantoms.lung_bones import ribs
from gen_radiology.phantoms.lung_ct import CLASSES, build, condition, draw, render
from gen_radiology.phantoms.lung_ct_options import LungCtPhantom
from gen_radiology.phantoms.lung_render import NOISE_BLUR, add_noise, correlated, noise_free
from gen_radiology.phantoms.lung_vessels import great_vessels
from gen_radiology.phantoms.tubes import Tubes, cover

SIZE, SPACING = (62, 84, 92), (4.6, 4.2, 4.1)


@pytest.fixture(scope="module", params=[3])
def chest(request):
    """(HU without noise, masks, scan, canonical place) of a chest."""
    o = LungCtPhantom(nodules=0.0)
    hu, masks = render(o, SIZE, SPACING, request.param, noise=False)
    scan = draw(o, SIZE, SPACING, request.param)
    return hu, masks, scan, anatomy.place(scan.chest, scan.grid)


def test_tissues_have_their_hounsfield_units(chest):
    hu, masks, scan, p = chest
    lung = ndimage.binary_erosion(masks["lung"], iterations=2)
    assert -910 < np.median(hu[lung]) < -850
    body = anatomy.body_sdf(scan.chest, p)
    fat = (body < -4.5) & (body > -6.0) & (np.abs(p.x) > 60)
    assert -100 < np.median(hu[fat]) < -50
    heart = anatomy.heart_sdf(scan.chest, p.z, p.y, p.x) < -15
    assert heart.sum() > 300 and 25 < hu[heart].mean() < 65
    liver = (p.z < scan.chest.domes[0] - 22) & (p.z > scan.chest.domes[0] - 40) & (np.hypot(p.x + 78, p.y) < 18)
    assert liver.sum() > 50 and 45 < hu[liver].mean() < 65
    assert 500 < hu.max() < 1800  # cortical bone, through the width of a voxel
    corner = np.s_[-3:, :6, :6]
    np.testing.assert_allclose(hu[corner], -1000, atol=1)


def test_blood_and_marrow_have_theirs_at_fine_voxels():
    o = LungCtPhantom(nodules=0.0, fov_mm=(30.0, 110.0, 100.0), table=False)
    size, spacing = (20, 110, 100), (1.5, 1.0, 1.0)
    hu, _ = render(o, size, spacing, 0, noise=False)
    scan = draw(o, size, spacing, 0)
    p = anatomy.place(scan.chest, scan.grid)
    y0, x0 = anatomy.spine_line(scan.chest, p.z)
    bone = np.hypot(p.y - y0, p.x - x0) < 8
    hits = bone & (hu > 150)  # discs between the vertebrae have less
    assert hits.sum() > 200 and 150 < np.median(hu[hits]) < 350
    lines = great_vessels(scan.chest)
    blood = cover(scan.grid, anatomy.place_tubes(scan.chest, lines), -4.0) >= 1
    assert blood.sum() > 300 and 45 < np.median(hu[blood]) < 65
    rib = anatomy.to_patient(scan.chest, ribs(scan.chest)[0].start[[135]])[0]
    near = Grid.centred((14, 15, 16), (1.0, 1.0, 1.0), 0.0)
    grid = Grid(near.size, near.spacing, tuple(o + c for o, c in zip(near.origin, rib)))
    none = Tubes(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0), np.zeros(0))
    hu, _ = noise_free(scan.chest, grid, none, none, None)
    assert 700 < hu.max() < 1800 and 200 < hu[7, 7, 8] < 400  # cortex around marrow


def test_heart_lies_left_liver_right_spine_behind_and_the_head_end_is_last(chest):
    hu, masks, scan, _ = chest
    z, y, x = (a.ravel() for a in scan.grid.axes)
    low = hu[np.argmin(np.abs(z - scan.chest.scale[0] * -90))]
    belly = (low > 52) & (low < 62)  # liver
    assert x[np.nonzero(belly)[1]].mean() < -20
    heart = anatomy.heart_sdf(scan.chest, *np.meshgrid(z, y, x, indexing="ij")) < 0
    assert x[np.nonzero(heart)[2]].mean() > 10
    bone = (hu > 250).sum((0, 2))
    assert y[np.argmax(bone)] > 40
    widths = masks["lung"].any(1).sum(1)  # lungs are wide at the bottom and narrow at the top
    rows = np.flatnonzero(widths)
    assert widths[rows[len(rows) // 4]] > 1.3 * widths[rows[-3]]


def test_lungs_have_the_size_of_lungs_and_lie_in_the_body(chest):
    _, masks, _, _ = chest
    litres = masks["lung"].sum() * np.prod(SPACING) / 1e6
    assert 2.5 < litres < 7.0
    assert not (masks["lung"] & ~masks["body"]).any()
    assert not masks["nodule"].any()
    slices, n = ndimage.label(masks["body"][SIZE[0] // 2])
    assert n == 1  # neither table nor holes


def test_the_table_is_no_body_and_can_be_left_out():
    o, bare = LungCtPhantom(nodules=0.0), LungCtPhantom(nodules=0.0, table=False)
    (with_table, m), (without, n) = (render(q, SIZE, SPACING, 1, noise=False) for q in (o, bare))
    np.testing.assert_array_equal(m["body"], n["body"])
    changed = with_table != without
    assert changed.any() and not ndimage.binary_erosion(changed & m["body"]).any()
    assert (without[~ndimage.binary_dilation(m["body"], iterations=3)] < -990).all()


@pytest.mark.parametrize("subject", range(5))
def test_a_nodule_is_as_large_as_its_label_and_lies_in_the_lung(subject):
    o = LungCtPhantom(nodules=1.0)
    size, spacing = (52, 74, 84), (4.8, 4.6, 4.5)
    scan = draw(o, size, spacing, subject)
    hu, masks = render(o, size, spacing, subject, noise=False)
    volume = masks["nodule"].sum() * np.prod(spacing)
    assert (6 / np.pi * volume) ** (1 / 3) == pytest.approx(scan.nodule.diameter, rel=0.10)
    assert condition(scan)["diameter_mm"] == scan.nodule.diameter
    assert not (masks["nodule"] & ~masks["lung"]).any()
    found = np.argwhere(masks["nodule"]).mean(0) * spacing + scan.grid.origin
    np.testing.assert_allclose(found, scan.nodule.centre, atol=3.5)
    around = ndimage.binary_dilation(masks["nodule"], iterations=3) & ~ndimage.binary_dilation(masks["nodule"])
    around &= masks["lung"]
    assert hu[masks["nodule"]].mean() > np.median(hu[around]) + 120  # it can be seen


@pytest.mark.parametrize("kind, low, high", [("solid", 0, 65), ("part-solid", -550, 0), ("ground-glass", -750, -400)])
def test_kinds_differ_in_density(kind, low, high):
    o = LungCtPhantom(nodules=1.0, kinds=(kind,), min_diameter_mm=24.0, pleural=0.0)
    size, spacing = (50, 74, 84), (4.0, 4.4, 4.3)
    hu, masks = render(o, size, spacing, 1, noise=False)
    assert low < hu[ndimage.binary_erosion(masks["nodule"])].mean() < high
    assert CLASSES[condition(draw(o, size, spacing, 1))["nodule"]] == kind


def test_the_share_of_nodules_and_the_smallest_diameter_are_as_asked():
    o = LungCtPhantom(nodules=0.5, min_diameter_mm=11.0)
    scans = [draw(o, (16, 20, 24), (15.0, 18.0, 16.0), s) for s in range(60)]
    sizes = [s.nodule.diameter for s in scans if s.nodule]
    assert 19 < len(sizes) < 41 and min(sizes) >= 11.0 and max(sizes) <= 30.0
    assert {s.nodule.kind for s in scans if s.nodule} == set(CLASSES[1:])
    assert not any(draw(LungCtPhantom(nodules=0.0), (4, 8, 9), (9.0, 9.0, 9.0), s).nodule for s in range(9))


def test_without_a_smallest_diameter_nodules_are_at_least_two_and_a_half_voxels():
    scans = [draw(LungCtPhantom(nodules=1.0), (40, 60, 70), (6.0, 6.0, 5.0), s) for s in range(12)]
    assert min(s.nodule.diameter for s in scans) >= 15.0


def test_one_slice_shows_lung_and_its_nodule():
    o = LungCtPhantom(nodules=1.0)
    heights = []
    for subject in range(5):
        hu, masks = render(o, (1, 60, 70), (8.0, 6.0, 5.5), subject)
        assert hu.shape == (1, 60, 70) and masks["lung"].mean() > 0.02
        assert masks["nodule"].any()
        heights.append(condition(draw(o, (1, 60, 70), (8.0, 6.0, 5.5), subject))["z_mm"])
    assert np.std(heights) > 20  # anywhere in the lungs


def test_the_field_of_view_moves_along_the_body():
    heights = [condition(draw(LungCtPhantom(), (64, 20, 24), (4.7, 18.0, 16.0), s))["z_mm"] for s in range(20)]
    assert 5 < np.std(heights) < 25


def test_labels_without_a_nodule_are_none_and_nan(tmp_path):
    context = DatasetContext(VolumeOptions((4, 16, 18)), SplitOptions(val=0.3), 0, tmp_path)
    data = build(LungCtPhantom(subjects=5, nodules=0.0, workers=1), context)
    assert data.spec.classes == {"nodule": ("none", "solid", "part-solid", "ground-glass")}
    sample = data.split("train")[0]
    assert sample.condition["nodule"] == 0 and np.isnan(sample.condition["diameter_mm"])
    assert np.isfinite(sample.condition["z_mm"])
    middle = sample.geometry.affine @ [1.5, 0, 0, 1]
    assert middle[2] == pytest.approx(sample.condition["z_mm"])


def test_volumes_are_hounsfield_units_within_the_window(tmp_path):
    context = DatasetContext(VolumeOptions((6, 30, 33)), SplitOptions(val=0.3), 0, tmp_path)
    o = LungCtPhantom(subjects=5, workers=1, lo=-900.0, hi=300.0, cache_gib=0.0)
    data = build(o, context)
    sample = data.split("train")[0]
    hu, _ = render(o, (6, 30, 33), data.spec.spacing_mm, data.split("train").keys[0])
    np.testing.assert_allclose(sample.scale.to_physical(sample.x)[0], np.clip(hu, -900, 300), atol=0.01)


def test_noise_has_the_asked_sd_in_the_body_and_is_correlated_as_its_kernel_says():
    noise = correlated((24, 60, 70), np.random.default_rng(0))
    assert noise.std() == pytest.approx(1.0, rel=0.02)
    for axis, (lag1, lag2) in enumerate(((0.015, 0.0), (0.55, 0.10), (0.55, 0.10))):
        got = [float((noise * np.roll(noise, k, axis)).mean()) for k in (1, 2)]
        sigma = NOISE_BLUR[axis]
        if sigma > 0.5:  # a Gaussian kernel, if it were not sampled: exp(-k^2 / 4 sigma^2)
            assert got == pytest.approx([np.exp(-k * k / (4 * sigma**2)) for k in (1, 2)], abs=0.05)
        assert got == pytest.approx([lag1, lag2], abs=0.06)
    quiet, masks = render(LungCtPhantom(), SIZE, SPACING, 0, noise=False)
    loud = add_noise(quiet, 20.0, masks["body"], np.random.default_rng(1)) - quiet
    inner = ndimage.binary_erosion(masks["body"], iterations=5)
    assert 15 < loud[inner].std() < 21
    assert loud[:, :8].std() < 0.8 * loud[inner].std()


def test_mistaken_options_are_named(tmp_path):
    context = DatasetContext(VolumeOptions((4, 16, 18)), SplitOptions(val=0.3), 0, tmp_path)
    with pytest.raises(RecipeError, match="kinds"):
        build(LungCtPhantom(kinds=()), context)
    with pytest.raises(RecipeError, match="min_diameter_mm = 40"):
        build(LungCtPhantom(min_diameter_mm=40.0), context)
    with pytest.raises(ValueError, match="nodules"):
        LungCtPhantom(nodules=1.5)
