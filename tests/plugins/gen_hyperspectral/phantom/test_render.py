"""Pictures of eyes: masks, the same eye at any size, the optics seen in the picture, and the camera."""

import numpy as np
import pytest
from scipy.ndimage import label

from gen_hyperspectral.phantom import optics
from gen_hyperspectral.phantom.eye import draw_eye, draw_vessels, draw_visit
from gen_hyperspectral.phantom.fields import FIELD, fields
from gen_hyperspectral.phantom.render import picture, reflectance

FOV = 11.5
BANDS = np.array([480.0, 540.0, 570.0, 640.0, 800.0])


def scene(subject, size, scale=2.3, fov=FOV):
    eye = draw_eye(1, subject)
    return eye, fields(eye, draw_vessels(1, eye, scale), 1, size, fov)


def shot(subject, size, nm=BANDS, noise=0.0, visit=0):
    eye, f = scene(subject, size)
    return np.concatenate(list(picture(eye, draw_visit(1, subject, visit), f, nm, FOV, noise))), f.masks


def halved(x):
    return x.reshape(*x.shape[:-2], x.shape[-2] // 2, 2, x.shape[-1] // 2, 2).mean((-3, -1))


@pytest.mark.parametrize("subject", range(4))
def test_finer_pictures_show_the_same_eye(subject):
    fine, coarse = shot(subject, (128, 128))[0], shot(subject, (64, 64))[0]
    inside = shot(subject, (64, 64))[1]["valid"]
    for a, b in zip(halved(fine), coarse):
        assert np.corrcoef(a[inside], b[inside])[0, 1] > 0.95
        assert a[inside].mean() == pytest.approx(b[inside].mean(), rel=0.02)


def test_the_field_is_round_and_fits_the_shorter_side():
    for size in ((40, 61), (61, 40), (47, 47)):
        valid = scene(0, size)[1].masks["valid"]
        assert valid.shape == size
        assert valid.sum() == pytest.approx(np.pi / 4 * (FIELD * min(size)) ** 2, rel=0.02)
        np.testing.assert_array_equal(valid, valid[::-1, ::-1])


def test_a_wider_picture_holds_the_square_one_in_its_middle():
    wide, square = shot(2, (48, 70))[0][:, :, 11:59], shot(2, (48, 48))[0]
    inside = scene(2, (48, 48))[1].masks["valid"]
    assert np.corrcoef(wide[:, inside].ravel(), square[:, inside].ravel())[0, 1] > 0.999


@pytest.mark.parametrize("size", [(64, 64), (65, 101), (224, 224)])
def test_masks_are_disjoint_and_of_sane_area(size):
    for subject in range(4):
        m = scene(subject, size)[1].masks
        field = m["valid"].sum()
        parts = [m[k] for k in ("vein", "artery", "onh", "fovea")]
        assert np.sum(parts, 0).max() == 1
        assert not (np.any(parts, 0) & ~m["valid"]).any()
        assert 0.02 < m["onh"].sum() / field < 0.04  # pi 0.9^2 of the field's area
        assert 0.03 < m["vein"].sum() / field < 0.16
        assert 0.008 < m["artery"].sum() / field < 0.12
        assert m["vein"].sum() > m["artery"].sum()
        assert 0.008 < m["fovea"].sum() / field < 0.02
        assert label(m["onh"])[1] == 1


def test_the_masks_lie_where_the_eye_has_the_structures():
    eye, f = scene(3, (97, 131))
    rows, cols = np.nonzero(f.masks["onh"])
    centre = (cols.mean() + 0.5 - 131 / 2) * f.pixel_mm, (rows.mean() + 0.5 - 97 / 2) * f.pixel_mm
    np.testing.assert_allclose(centre, eye.disc, atol=0.06)


def test_vessels_are_dark_in_green_and_vein_darker_than_artery_in_red():
    ratios = []
    for subject in range(4):
        eye, f = scene(subject, (192, 192), scale=1.6)
        R = reflectance(eye, f, np.array([550.0, 610.0]))
        free = f.masks["valid"] & ~np.any([f.masks[k] for k in ("vein", "artery", "onh", "fovea")], 0)
        od = {k: -np.log(R[:, f.masks[k]].mean(1) / R[:, free].mean(1)) for k in ("vein", "artery")}
        assert od["artery"][0] > 0.25
        ratios.append(od["vein"][1] / od["artery"][1])
    assert np.mean(ratios) > 1.7


def test_the_disc_is_bright_and_the_macula_dark_in_blue():
    for subject in range(4):
        eye, f = scene(subject, (96, 96))
        R = reflectance(eye, f, np.array([460.0, 550.0]))
        m = f.masks
        plain = m["valid"] & ~np.any([m[k] for k in ("vein", "artery", "onh", "fovea")], 0)
        assert R[1][m["onh"]].mean() > 1.5 * R[1][plain].mean()
        assert R[0][m["fovea"]].mean() < 0.7 * R[0][plain].mean()


def test_the_choroid_shows_in_the_red_of_light_eyes_only():
    from attrs import evolve

    contrast = []
    for melanin in (0.3, 2.0):
        eye = evolve(draw_eye(1, 1), melanin=melanin)
        f = fields(eye, draw_vessels(1, eye, 1.0), 1, (96, 96), FOV)
        R = reflectance(eye, f, np.array([640.0]))[0]
        ring = f.masks["valid"] & ~np.any([f.masks[k] for k in ("vein", "artery", "onh", "fovea")], 0)
        dark = f.choroid_cm > np.quantile(f.choroid_cm[ring], 0.9)
        pale = f.choroid_cm < np.quantile(f.choroid_cm[ring], 0.1)
        contrast.append(1 - np.median(R[ring & dark]) / np.median(R[ring & pale]))
    assert contrast[0] > 0.06
    assert contrast[1] < 0.7 * contrast[0]


def test_plain_fundus_has_the_reflectance_of_the_layers():
    from attrs import evolve

    eye = evolve(draw_eye(1, 0), choroid_vessel_mm=0.0)
    f = fields(eye, draw_vessels(1, eye, 1.0), 1, (64, 64), FOV)
    free = f.masks["valid"] & (f.disc < 1e-3) & (f.macular < 1e-3)
    R = reflectance(eye, f, BANDS)[:, free]
    expected = optics.fundus_reflectance(
        BANDS, eye.age, eye.surface, eye.rpe, eye.sclera, 0.1 * eye.choroid_mm, eye.melanin
    )
    np.testing.assert_allclose(np.quantile(R, 0.8, axis=1), expected, rtol=0.25)


def test_outside_the_field_there_is_nothing_and_noise_is_within_it():
    loud, m = shot(0, (40, 52), noise=1.0)
    quiet, _ = shot(0, (40, 52), noise=0.0)
    assert (loud[:, ~m["valid"]] == 0).all() and (loud >= 0).all()
    white = optics.reference_white(BANDS)[:, None]
    sd = ((loud - quiet)[:, m["valid"]] / white).std(1)
    assert (0.008 < sd).all() and (sd < 0.03).all()


def test_bands_move_a_little_and_visits_differ():
    eye, f = scene(0, (64, 64))
    first, second = shot(0, (64, 64), visit=0)[0], shot(0, (64, 64), visit=1)[0]
    inside = f.masks["valid"]
    assert (first != second).any()
    assert np.corrcoef(first[:, inside].ravel(), second[:, inside].ravel())[0, 1] > 0.9


def test_light_falls_towards_the_rim():
    total = np.zeros(2)
    for subject in range(12):
        x, m = shot(subject, (48, 48))
        r = np.hypot(*np.meshgrid(np.arange(48) - 23.5, np.arange(48) - 23.5)) / 24
        total += [x[4][m["valid"] & (r < 0.4)].mean(), x[4][m["valid"] & (r > 0.85)].mean()]
    assert total[1] < 0.9 * total[0]
