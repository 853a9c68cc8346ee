"""The optics of the fundus against published values and the model's closed forms."""

import numpy as np
import pytest

from gen_hyperspectral.phantom import optics

MEAN = {"age": 60.0, "surface": 0.002, "rpe": 0.012, "sclera": 0.30, "choroid_cm": 0.006}
LIGHT, DARK = 0.35, 1.1  # melanin density at 500 nm


def test_media_density_at_sixty_years_has_the_published_values():
    d = optics.media_density([450, 550, 700], 60)
    np.testing.assert_allclose(d, [0.596, 0.233, 0.147], atol=5e-4)


def test_media_let_less_blue_through_with_age():
    young, old = optics.media_transmittance([450, 700], 20), optics.media_transmittance([450, 700], 75)
    assert old[0] < 0.6 * young[0]
    assert old[1] > 0.9 * young[1]


@pytest.mark.parametrize(
    ("nm", "oxy", "deoxy"),
    [(450, 62816, 103292), (500, 20933, 20862), (550, 43016, 53412), (580, 50104, 37020), (610, 1506, 9444),
     (640, 442, 4345), (700, 290, 1794), (800, 816, 762), (900, 1198, 762)],
)  # fmt: skip
def test_extinction_meets_prahls_table(nm, oxy, deoxy):
    got = optics.molar_extinction(nm)
    np.testing.assert_allclose(got, (oxy, deoxy), rtol=5e-4)


def test_interpolation_is_in_the_logarithm():
    knots, oxy = [580.0, 610.0], [50104.0, 1506.0]
    assert optics.interpolate_log(600.0, knots, oxy) == pytest.approx(4844, rel=1e-3)
    assert np.interp(600.0, knots, oxy) == pytest.approx(17705, rel=1e-3)  # what must not be done
    assert optics.molar_extinction(600.0)[0] == pytest.approx(3200)  # the table itself knows better


def test_oxygenated_blood_has_two_peaks_and_deoxygenated_one_in_the_near_infrared():
    nm = np.arange(520.0, 600.0)
    oxy, deoxy = optics.molar_extinction(nm)
    peaks = nm[1:-1][(oxy[1:-1] > oxy[:-2]) & (oxy[1:-1] > oxy[2:])]
    np.testing.assert_allclose(peaks, [542, 576], atol=1)
    assert 550 <= nm[deoxy.argmax()] <= 560
    nm = np.arange(720.0, 800.0)
    assert 754 <= nm[optics.molar_extinction(nm)[1].argmax()] <= 762


@pytest.mark.parametrize(("between", "crossing"), [((578, 592), 585), ((780, 815), 797)])
def test_artery_and_vein_absorb_alike_at_the_isosbestic_points(between, crossing):
    nm = np.arange(*between, 0.05)
    oxy, deoxy = optics.molar_extinction(nm)
    at = nm[np.abs(np.log(oxy / deoxy)).argmin()]
    assert at == pytest.approx(crossing, abs=1.5)
    vein, artery = (optics.blood_absorption(at, s) for s in (0.65, 0.98))
    assert vein == pytest.approx(artery, rel=0.01)


@pytest.mark.parametrize(("nm", "alone", "wider"), [(550, 1.08, 1.40), (610, 2.57, 3.35), (900, 0.88, 1.14)])
def test_veins_are_denser_than_arteries_by_the_published_ratio(nm, alone, wider):
    vein, artery = optics.VEIN_SATURATION, optics.ARTERY_SATURATION
    assert optics.blood_absorption(nm, vein) / optics.blood_absorption(nm, artery) == pytest.approx(alone, abs=0.005)
    ratio = optics.vessel_density(nm, 1.3 * 0.012, vein) / optics.vessel_density(nm, 0.012, artery)
    assert ratio == pytest.approx(wider, abs=0.006)


def test_a_literal_double_pass_is_black_and_the_seen_share_is_not():
    literal = np.exp(-2 * optics.blood_absorption(550, 0.98) * 0.01)
    assert literal == pytest.approx(0.010, abs=0.001)
    assert 0.5 < np.exp(-optics.vessel_density(550, 0.01, 0.98)) < 0.65


@pytest.mark.parametrize("melanin", [LIGHT, DARK])
def test_fundus_reflects_as_measured_in_green_and_infrared(melanin):
    green, infrared = optics.fundus_reflectance([550, 900], **MEAN, melanin=melanin)
    assert 0.004 <= green <= 0.008
    assert 0.085 <= infrared <= 0.145


def test_fundus_reflectance_is_the_sum_of_its_layers():
    nm = 640.0
    blood = 10 ** (-2 * 2.303 * (0.95 * 442 + 0.05 * 4345.2) * 150 / 64500 * 0.006 / np.log(10))
    by_hand = 10 ** (-2 * optics.media_density(nm, 60.0)) * (
        0.002 + 0.012 + 0.30 * blood * 10 ** (-2 * 0.35 * (640 / 500) ** -3.48)
    )
    assert optics.fundus_reflectance(nm, **MEAN, melanin=0.35) == pytest.approx(by_hand, rel=1e-12)


def _vessel_contrast(nm, extinction=None):
    """Mean over artery and vein of 1 - R_vessel / R_fundus, light eye."""
    media = optics.media_transmittance(nm, 60.0)
    fundus = optics.fundus_reflectance(nm, **MEAN, melanin=LIGHT)
    behind = fundus - media * MEAN["surface"]
    contrast = 0.0
    for path, saturation in ((0.0116, 0.98), (0.0151, 0.65)):
        oxy, deoxy = extinction or optics.molar_extinction(nm)
        mu = 2.303 * (saturation * oxy + (1 - saturation) * deoxy) * 150 / 64500
        contrast = contrast + 0.5 * behind * (1 - np.exp(-2 * optics.VESSEL_SHARE * mu * path)) / fundus
    return contrast


def test_vessels_show_best_between_the_peaks_of_haemoglobin():
    nm = np.arange(500.0, 651.0)
    contrast = _vessel_contrast(nm)
    assert 540 <= nm[contrast.argmax()] <= 578
    best = contrast[(nm >= 555) & (nm <= 570)]
    assert best.min() > 0.80 * contrast.max()  # the dip of HbO2 at 560 nm
    assert best.min() > 1.3 * contrast[nm <= 515].max()
    assert best.min() > 1.5 * contrast[nm >= 605].max()


def test_without_the_double_peak_vessels_would_show_best_near_555_to_570_nm():
    # The coarse table of 450, 500, 550, 580, 610 nm ... knows no dip at 560 nm.
    nm = np.arange(500.0, 651.0)
    knots = [450, 500, 550, 580, 610, 640, 700]
    coarse = tuple(
        optics.interpolate_log(nm, knots, e)
        for e in (
            [62816, 20933, 43016, 50104, 1506, 442, 290],
            [103292, 20862, 53412, 37020, 9444, 4345, 1794],
        )
    )
    assert 550 <= nm[_vessel_contrast(nm, coarse).argmax()] <= 575


@pytest.mark.parametrize(("melanin", "contrast"), [(0.3, 0.096), (1.0, 0.080), (2.0, 0.035), (3.0, 0.007)])
def test_choroid_pattern_fades_with_melanin(melanin, contrast):
    assert optics.choroid_contrast(640.0, melanin) == pytest.approx(contrast, rel=0.03)


def test_macular_pigment_peaks_near_460_nm_and_is_gone_in_the_red():
    nm = np.arange(450.0, 651.0)
    d = optics.macular_density(nm)
    assert nm[d.argmax()] == 460
    assert d[nm >= 600].max() < 1e-4


def test_melanin_falls_with_the_power_minus_3_48():
    assert optics.melanin_density(1000.0) == pytest.approx(2**-3.48)


def test_the_disc_is_brighter_than_the_fundus_in_green_light():
    disc = optics.media_transmittance(550, 60.0) * optics.disc_reflectance(550, 0.032, 0.22, 0.007)
    assert disc > 1.8 * optics.fundus_reflectance(550, **MEAN, melanin=LIGHT)


def test_the_reference_white_is_a_function_of_wavelength_alone():
    nm = np.array([450.0, 555.0, 640.0, 900.0])
    np.testing.assert_array_equal(optics.reference_white(nm)[[2]], optics.reference_white(nm[[2]]))
    assert (optics.reference_white(nm) > optics.fundus_reflectance(nm, **MEAN, melanin=LIGHT)).all()
