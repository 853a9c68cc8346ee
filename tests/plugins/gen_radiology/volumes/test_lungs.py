"""Body, lungs and alignment: chests of ellipses whose masks are known, real slices, and views without a chest."""

from pathlib import Path

import numpy as np
import pytest

from gen_core.errors import DataError
from gen_radiology.dicom.find_series import find_series
from gen_radiology.dicom.read_series import read_series
from gen_radiology.volumes.image import Image
from gen_radiology.volumes.lung_alignment import align, align_mask, lung_box, lung_middle
from gen_radiology.volumes.lungs import body_mask, find_lungs, without_table

DATA = Path(__file__).parents[3] / "data"
SPACING = (5.0, 3.0, 3.3)
SHAPE = (40, 104, 118)


def ct(hu, spacing=SPACING, origin=(-180.0, -150.0, -90.0), **more):
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = *spacing, 1
    affine[:3, 3] = origin
    return Image(np.asarray(hu, np.float32), affine, "chest", "P", "CT", "HU", **more)


def ellipsoid(shape, spacing, centre, radii):
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    return sum(((a * s - c) / r) ** 2 for a, s, c, r in zip(axes, spacing, centre, radii)) <= 1


def torso(
    shape=SHAPE, spacing=SPACING, at=(100.0, 140.0, 190.0), lungs=("right", "left"), table_gap=6.0, scale=1.0, noise=20
):
    """(hu, masks): a body of 320 x 220 mm along the whole of z, lungs about the point `at`, trachea, nodule, table."""
    z, y, x = at
    body = ellipsoid(shape, spacing, at, (1e6, 110 * scale, 160 * scale))
    side = {"right": -72.0 * scale, "left": 72.0 * scale}  # x rises to the patient's left
    masks = {
        name: ellipsoid(shape, spacing, (z, y - 5, x + side[name]), (80 * scale, 78 * scale, 52 * scale))
        if name in lungs
        else np.zeros(shape, bool)
        for name in side
    }
    rng = np.random.default_rng(7)
    hu = np.full(shape, -1000.0)
    hu[body] = 40
    lung = masks["left"] | masks["right"]
    hu[lung] = -860
    trachea = ellipsoid(shape, spacing, (z + 90, y + 5, x), (95, 9, 9)) & ~lung
    hu[trachea] = -1000
    nodule = ellipsoid(shape, spacing, (z, y + 20, x + 75 * scale), (9, 9, 9)) & lung
    hu[nodule] = 30
    depth = np.arange(shape[1]) * spacing[1] - (y + 110 * scale + table_gap)
    hu[:, (depth >= 0) & (depth < 9)] = np.maximum(hu[:, (depth >= 0) & (depth < 9)], 150)
    hu[:, (depth >= 24) & (depth < 33)] = 150
    masks |= {"body": body, "trachea": trachea, "nodule": nodule, "table": (hu == 150) & ~body}
    return hu + noise * rng.standard_normal(shape), masks


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def notes_of(lungs):
    return " / ".join(note.split(": ", 1)[1] for note in lungs.notes)


@pytest.fixture(scope="module")
def chest():
    hu, masks = torso()
    return ct(hu), masks, find_lungs(ct(hu))


# -- a chest


def test_both_lungs_are_found_on_their_sides(chest):
    _, masks, found = chest
    assert dice(found.left, masks["left"]) > 0.97
    assert dice(found.right, masks["right"]) > 0.97
    assert not (found.left & found.right).any()
    assert not ((found.left | found.right) & ~found.body).any()


def test_the_body_holds_its_cavities_and_no_table(chest):
    image, masks, found = chest
    assert dice(found.body, masks["body"]) > 0.985
    assert (found.body & masks["table"]).mean() == 0
    assert found.body[masks["left"] | masks["right"] | masks["trachea"]].all()
    assert "table" in notes_of(found)
    cleared = without_table(image, found.body)
    assert (cleared[masks["table"]] == -1000).all() and cleared.dtype == np.float32
    np.testing.assert_array_equal(cleared[found.body], image.array[found.body])


def test_nodules_belong_to_the_lung_and_the_trachea_to_none(chest):
    _, masks, found = chest
    assert found.left[masks["nodule"]].all()
    assert (found.both & masks["trachea"]).sum() < 0.02 * masks["trachea"].sum()


@pytest.mark.parametrize("gap", [0.0, -9.0, 25.0])
def test_a_table_goes_whether_it_touches_or_lies_far(gap):
    hu, masks = torso(table_gap=gap)
    body, notes = body_mask(ct(hu))
    assert dice(body, masks["body"]) > 0.97
    left_over = (body & masks["table"]).sum() / masks["table"].sum()
    assert left_over < (0.08 if gap <= 0 else 0.0001)  # where it touches, what lies right under the back stays
    assert any("table" in note for note in notes)


def test_a_thick_table_of_foam_in_a_shell_goes_too():
    hu, masks = torso(table_gap=12.0)
    rows = np.flatnonzero(masks["table"].any((0, 2)))
    core = (slice(None), slice(rows[0] + 3, rows[-1] - 2), slice(6, -6))
    hu[core] = -900
    hu[:, rows[0] : rows[-1] + 1, 3:6] = hu[:, rows[0] : rows[-1] + 1, -6:-3] = 150
    body, _ = body_mask(ct(hu))
    assert dice(body, masks["body"]) > 0.98 and not body[:, rows[0] :].any()


def test_without_a_table_nothing_is_said_of_one():
    hu, masks = torso(table_gap=1e4)
    found = find_lungs(ct(hu))
    assert found.notes == [] and dice(found.body, masks["body"]) > 0.985


def test_padding_outside_of_the_scan_circle_is_air():
    hu, masks = torso()
    circle = ellipsoid(SHAPE, SPACING, (0, 140, 190), (1e6, 175, 175))
    hu[:, ~circle[0]] = -2048
    found = find_lungs(ct(hu))
    assert dice(found.both, masks["left"] | masks["right"]) > 0.97 and dice(found.body, masks["body"]) > 0.98


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_masks_do_not_depend_on_the_axes_of_the_stack(chest, order):
    """The same points of the patient, sagittal or coronal, and turned."""
    image, _, found = chest
    array, affine = image.array.transpose(order), image.affine.copy()
    affine[:3, :3] = affine[:3, list(order)]
    turn = (0, 2)
    for axis in turn:
        affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
        affine[:3, axis] *= -1
    other = find_lungs(Image(np.flip(array, turn), affine, "turned", "P", "CT"))
    for name in ("body", "left", "right"):
        np.testing.assert_array_equal(np.flip(getattr(other, name), turn), getattr(found, name).transpose(order))


def test_finer_voxels_give_the_same_volumes():
    shape, spacing = (47, 190, 231), (4.0, 1.6, 1.7)
    hu, masks = torso(shape, spacing)
    found = find_lungs(ct(hu, spacing))
    assert dice(found.left, masks["left"]) > 0.98 and dice(found.right, masks["right"]) > 0.98
    assert dice(found.body, masks["body"]) > 0.99


def test_a_noisy_scan_at_low_dose_is_found_as_well():
    shape, spacing = (24, 161, 187), (9.0, 2.0, 2.2)
    hu, masks = torso(shape, spacing, noise=110)
    found = find_lungs(ct(hu, spacing))
    assert dice(found.left, masks["left"]) > 0.95 and dice(found.right, masks["right"]) > 0.95
    assert dice(found.body, masks["body"]) > 0.97


def test_thick_sagittal_slices_are_enough():
    shape, spacing = (90, 84, 31), (2.5, 3.5, 11.0)
    hu, masks = torso(shape, spacing)
    found = find_lungs(ct(hu, spacing))
    assert dice(found.left, masks["left"]) > 0.95 and dice(found.right, masks["right"]) > 0.95
    assert dice(found.body, masks["body"]) > 0.97


def test_body_and_lungs_of_the_phantom_chest_agree_with_its_own_masks():
    from gen_radiology.phantoms.lung_ct import render
    from gen_radiology.phantoms.lung_ct_options import LungCtPhantom

    spacing = (8.0, 4.0, 3.9)
    hu, masks = render(LungCtPhantom(), (33, 92, 97), spacing, 3)
    found = find_lungs(ct(hu, spacing))
    assert dice(found.both, masks["lung"]) > 0.95 and dice(found.body, masks["body"]) > 0.98
    assert 0.6 < found.left.sum() / found.right.sum() < 1.6


# -- real lungs


@pytest.fixture(scope="module")
def real():
    (series,) = find_series(DATA / "lidc3" / "dicom")
    (image,) = read_series(series)
    return image, find_lungs(image)


def test_both_real_lungs_are_found_with_plausible_volumes(real):
    """11 slices of 2.5 mm: right lung left in the picture; a third of a litre each."""
    image, found = real
    ml = image.spacing.prod() / 1000
    assert 330 < found.left.sum() * ml < 450 and 330 < found.right.sum() * ml < 450
    assert np.nonzero(found.left)[2].mean() > 256 > np.nonzero(found.right)[2].mean()
    inside = image.array[found.both]
    assert -870 < np.median(inside) < -780
    assert found.left[5, 350, 367]  # the nodule, of soft tissue, whose centre is known


def test_the_real_table_is_taken_out_and_the_patient_stays(real):
    image, found = real
    table = image.array[:, 455:480] > -500
    assert table.sum() > 5000 and not found.body[:, 455:].any()
    tissue = image.array[:, 180:400, 40:470] > -300
    assert found.body[:, 180:400, 40:470][tissue].mean() > 0.9999
    assert not found.body[:, :105].any()  # air and blanket above
    assert "table" in notes_of(found)


def test_real_lungs_are_found_in_a_crop_without_any_air_around(real):
    image, whole = real
    part = (slice(None), slice(190, 390), slice(110, 420))
    crop = ct(image.array[part], image.spacing)
    found = find_lungs(crop)
    assert dice(found.left, whole.left[part]) > 0.97 and dice(found.right, whole.right[part]) > 0.97
    assert found.body.mean() > 0.999 and "cut by the edge" in notes_of(found)


def test_one_real_lung_in_view_is_one_lung(real):
    image, whole = real
    part = (slice(None), slice(150, 430), slice(285, 500))
    found = find_lungs(ct(image.array[part], image.spacing))
    assert "one lung in view" in notes_of(found)
    assert dice(found.both, whole.left[part]) > 0.97
    assert not (found.left.any() and found.right.any())


def test_a_crop_of_a_real_pelvis_has_no_lung_though_its_table_is_filled_with_foam():
    (series,) = (s for s in find_series(DATA / "sts_002") if s.modality == "CT")
    (image,) = read_series(series)
    found = find_lungs(image)
    assert not found.both.any() and "no lung in view" in notes_of(found)
    assert not found.body[:, 125:].any()  # the table and the foam below it
    assert found.body[:, 20:75, :60].mean() > 0.999


# -- odd views


def test_one_lung_is_one_lung_on_its_side():
    for side, other in (("left", "right"), ("right", "left")):
        hu, masks = torso(lungs=(side,))
        found = find_lungs(ct(hu))
        assert dice(getattr(found, side), masks[side]) > 0.97 and not getattr(found, other).any()
        assert f"one lung in view, taken as the {side} one" in notes_of(found)


def test_lungs_that_touch_are_parted():
    hu, masks = torso(noise=0)
    bridge = ellipsoid(SHAPE, SPACING, (100, 90, 190), (12, 7, 60)) & masks["body"]
    hu[bridge] = np.minimum(hu[bridge], -860)
    found = find_lungs(ct(hu))
    assert "hang together" in notes_of(found)
    assert dice(found.left, masks["left"]) > 0.95 and dice(found.right, masks["right"]) > 0.95


def test_bowel_gas_is_no_lung():
    hu, masks = torso(lungs=())
    for y, x in ((120, 150), (170, 230), (110, 240)):
        hu[ellipsoid(SHAPE, SPACING, (100, y, x), (60, 20, 25))] = -1000
    found = find_lungs(ct(hu))
    assert not found.both.any() and "ml of gas in the body is no lung" in notes_of(found)
    assert "no lung in view" in notes_of(found) and dice(found.body, masks["body"]) > 0.98


def test_gas_below_the_lungs_is_left_out_of_them():
    hu, masks = torso()
    gas = ellipsoid(SHAPE, SPACING, (8, 120, 240), (12, 30, 40))
    hu[gas] = -1000
    found = find_lungs(ct(hu))
    assert not (found.both & gas).any() and dice(found.left, masks["left"]) > 0.97
    assert "gas in the body is no lung" in notes_of(found)


@pytest.mark.parametrize(
    ("hu", "note"),
    [
        (np.full((7, 50, 60), -1000.0), "no patient in view: all air / no lung in view"),
        (np.full((7, 50, 60), -2048.0), "no patient in view: all air / no lung in view"),
        (np.full((7, 50, 60), np.nan), "no patient in view: all air / no lung in view"),
        (np.full((7, 50, 60), 40.0), "the body is cut by the edge of the image / no lung in view"),
        (np.zeros((1, 1, 1)), "no patient in view: all air / no lung in view"),
        (np.full((1, 3, 2), -850.0), "no patient in view: all air / no lung in view"),
        (np.random.default_rng(0).uniform(-1000, 1000, (5, 31, 23)), None),
    ],
)
def test_views_without_a_chest_give_empty_masks_and_a_note(hu, note):
    image = ct(hu)
    found = find_lungs(image)
    assert found.body.shape == found.left.shape == found.right.shape == hu.shape
    assert note is None or notes_of(found) == note
    assert found.notes and not found.left.any()
    box, notes = lung_box(image, found)
    assert align(image, box, (4, 6, 8)).array.shape == (4, 6, 8)
    assert any("no lungs" in note for note in notes)


def test_a_view_inside_of_a_lung_is_one_lung():
    rng = np.random.default_rng(1)
    found = find_lungs(ct(-850 + 40 * rng.standard_normal((9, 41, 43))))
    assert found.both.mean() > 0.99 and "one lung in view" in notes_of(found)


def test_one_slice_of_a_chest_is_enough():
    hu, masks = torso()
    found = find_lungs(ct(hu[20:21]))
    assert dice(found.left, masks["left"][20:21]) > 0.97 and dice(found.right, masks["right"][20:21]) > 0.97


def test_lungs_of_an_mr_image_are_refused():
    image = ct(np.zeros((2, 3, 4)))
    image.modality = "MR"
    with pytest.raises(DataError, match="lungs are found in CT"):
        find_lungs(image)


# -- alignment


def test_patients_that_lie_elsewhere_come_to_lie_upon_each_other():
    """Another height of the table, another start of the scan, another spacing: lungs on lungs within a voxel."""
    aligned, before = [], []
    for shape, spacing, at in ((SHAPE, SPACING, (100, 140, 190)), ((53, 121, 95), (3.9, 2.7, 4.1), (118, 172, 201))):
        hu, masks = torso(shape, spacing, at)
        image = ct(hu, spacing)
        lungs = find_lungs(image)
        box, notes = lung_box(image, lungs, size_mm=(200, 220, 330))
        assert notes == []
        there = align(image, box, (20, 44, 66))
        np.testing.assert_allclose(there.spacing, (10, 5, 5), rtol=0.02)
        aligned.append((there.array, align_mask(masks["left"], image, box, (20, 44, 66))))
        before.append(masks["left"])
    centres = [np.argwhere(mask).mean(0) for _, mask in aligned]
    assert np.abs(centres[0] - centres[1]).max() < 0.6
    assert dice(aligned[0][1], aligned[1][1]) > 0.93
    apart = np.argwhere(before[0]).mean(0) * SPACING - np.argwhere(before[1]).mean(0) * (3.9, 2.7, 4.1)
    assert np.abs(apart).max() > 15  # mm: they did lie elsewhere
    inside = aligned[0][1] & aligned[1][1]
    assert np.abs(aligned[0][0][inside] - aligned[1][0][inside]).mean() < 60


def test_a_box_with_a_margin_fits_the_lungs(chest):
    image, _, found = chest
    box, _ = lung_box(image, found, margin_mm=(10, 15, 33))
    where = np.argwhere(found.both)
    extent = (np.ptp(where, axis=0) + 1) * SPACING
    np.testing.assert_allclose(np.array(box.shape) * SPACING, extent + 2 * np.array([10, 15, 33]), atol=3)
    middle = np.array(box.corner) + np.array(box.shape) / 2
    np.testing.assert_allclose(middle, (where.min(0) + where.max(0) + 1) / 2, atol=0.51)


def test_the_affine_of_an_aligned_image_says_where_its_voxels_came_from(chest):
    image, masks, found = chest
    box, _ = lung_box(image, found)
    there = align(image, box, (27, 45, 61))
    nodule = align_mask(masks["nodule"], image, box, (27, 45, 61))
    before = image.affine @ [*np.argwhere(masks["nodule"]).mean(0), 1]
    after = there.affine @ [*np.argwhere(nodule).mean(0), 1]
    np.testing.assert_allclose(after, before, atol=1.5)
    assert there.array[nodule].mean() > -400 and (there.id, there.subject, there.units) == ("chest", "P", "HU")


def test_an_image_that_runs_the_other_way_is_aligned_to_the_same_volume(chest):
    image, _, found = chest
    turned = ct(image.array[::-1, :, ::-1])
    turned.affine[:3, 3] = (image.affine @ [SHAPE[0] - 1, 0, SHAPE[2] - 1, 1])[:3]
    turned.affine[:3, [0, 2]] *= -1
    box, _ = lung_box(image, found)
    other, _ = lung_box(turned, find_lungs(turned))
    a, b = align(image, box, (9, 16, 20)), align(turned, other, (9, 16, 20))
    np.testing.assert_array_equal(a.array, b.array)
    np.testing.assert_allclose(a.affine, b.affine, atol=1e-9)


def test_beyond_the_image_there_is_air(chest):
    image, _, found = chest
    box, _ = lung_box(image, found, size_mm=(400, 500, 600))
    there = align(image, box, (40, 50, 60), air=-1024.0)
    assert min(box.corner) < 0
    np.testing.assert_allclose(there.array[0], -1024, rtol=1e-6)
    np.testing.assert_allclose(there.array[:, :, 0], -1024, rtol=1e-6)
    assert not align_mask(np.ones(SHAPE, bool), image, box, (40, 50, 60))[0].any()


def test_a_field_of_view_far_beyond_the_image_is_refused(chest):
    image, _, found = chest
    with pytest.raises(DataError, match="far beyond the image"):
        lung_box(image, found, size_mm=(1e6, 300, 300))


def test_the_middle_of_the_lungs_is_an_index_of_the_image_as_it_is_stored(chest):
    image, _, found = chest
    where = np.argwhere(found.both)
    middle, notes = lung_middle(image)
    np.testing.assert_allclose(middle, (where.min(0) + where.max(0)) / 2)
    assert notes == found.notes
    flipped = ct(image.array[:, ::-1])
    flipped.affine[1] *= -1
    other, _ = lung_middle(flipped)
    np.testing.assert_allclose(other, [middle[0], SHAPE[1] - 1 - middle[1], middle[2]])


def test_without_lungs_the_middle_is_the_bodys_and_without_a_body_there_is_none():
    hu, masks = torso(lungs=())
    middle, notes = lung_middle(ct(hu))
    where = np.argwhere(masks["body"])
    np.testing.assert_allclose(middle, (where.min(0) + where.max(0)) / 2, atol=1.5)
    assert "centred on the body" in notes[-1]
    middle, notes = lung_middle(ct(np.full((3, 4, 5), -1000)))
    assert middle is None and "all air" in notes[0]
