"""How the fundus absorbs and reflects light between 400 and 1000 nm: blood, melanin, ocular media, layers.

Pure functions of wavelength (nm), all in float64. Model of layers: Delori & Pflibsen 1989, "Spectral reflectance
of the human ocular fundus", Appl. Opt. 28, 1061; Preece & Claridge 2002, MICCAI.

Letters: nm wavelength; D decadic density (log10 units, one way); mu_a absorption coefficient, natural, 1/cm.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

RANGE_NM = (400.0, 1000.0)

# Molar extinction of haemoglobin, 1/(cm M): nm, HbO2, Hb. Compiled by S. Prahl (Oregon Medical Laser Center,
# omlc.org/spectra/hemoglobin) from data of W. B. Gratzer and N. Kollias; every 10 nm, closer around the double
# peak of HbO2 (542 and 576 nm), the isosbestic point at 584 nm, the steep flank behind it and Hb's peak at 757 nm.
_HAEMOGLOBIN = np.array([
    (400, 266232, 223296), (410, 466840, 303956), (420, 480360, 407560), (430, 246072, 528600),
    (440, 102580, 413280), (450, 62816, 103292), (460, 44480, 23388.8), (470, 33209.2, 16156.4),
    (480, 26629.2, 14550), (490, 23684.4, 16684), (500, 20932.8, 20862), (510, 20035.2, 25773.6),
    (520, 24202.4, 31589.6), (530, 39956.8, 39036.4), (536, 49752, 43592), (540, 53236, 46592),
    (542, 53292, 48148), (546, 49868, 51268), (550, 43016, 53412), (556, 34476.8, 54540), (560, 32613.2, 53788),
    (564, 33915.6, 50572), (570, 44496, 45072), (574, 53308, 41716), (576, 55540, 40092), (578, 54728, 38467.6),
    (580, 50104, 37020), (584, 34639.6, 34332.8), (586, 26600.4, 32851.6), (590, 14400.8, 28324.4),
    (594, 7678.8, 22574.8), (600, 3200, 14677.2), (604, 2128, 12567.6), (610, 1506, 9443.6), (620, 942, 6509.6),
    (630, 610, 5148.8), (640, 442, 4345.2), (650, 368, 3750.12), (660, 319.6, 3226.56), (670, 294, 2795.12),
    (680, 277.6, 2407.92), (690, 276, 2051.96), (700, 290, 1794.28), (710, 314, 1540.48), (720, 348, 1325.88),
    (730, 390, 1102.2), (740, 446, 1115.88), (750, 518, 1405.24), (757, 568, 1560.48), (760, 586, 1548.52),
    (770, 650, 1311.88), (780, 710, 1075.44), (790, 756, 890.8), (800, 816, 761.72), (810, 864, 717.08),
    (820, 916, 693.76), (830, 974, 693.04), (840, 1022, 692.36), (850, 1058, 691.32), (860, 1092, 694.32),
    (870, 1128, 705.84), (880, 1154, 726.44), (890, 1178, 743.6), (900, 1198, 761.84), (910, 1214, 774.56),
    (920, 1224, 777.36), (930, 1222, 763.84), (940, 1214, 693.44), (950, 1204, 602.24), (960, 1186, 525.56),
    (970, 1162, 429.32), (980, 1128, 359.656), (990, 1080, 283.22), (1000, 1024, 206.784),
])  # fmt: skip

HAEMOGLOBIN_G_L = 150.0  # in whole blood
_GRAMS_PER_MOL = 64500.0

ARTERY_SATURATION, VEIN_SATURATION = 0.98, 0.65  # Hammer et al. 2008
CHOROID_SATURATION = 0.95

# Share of the double pass through a vessel that reaches the camera as absorption. A literal double pass is
# black (T = 0.01 at 550 nm for 0.1 mm); scattered light passes beside the vessel.
VESSEL_SHARE = 0.12

# Melanocytes lie slightly denser over the large choroidal vessels. Chosen, with 0.155 mm of blood in such a vessel,
# so that the pattern's contrast at 640 nm falls with melanin as it does in eyes (.096 .080 .035 .007 at densities
# .3 1 2 3): without it, it would fall to .006.
MELANIN_OVER_VESSELS = 0.005


def interpolate_log(nm: ArrayLike, knots_nm: ArrayLike, values: ArrayLike) -> Array:
    """Interpolate positive `values` linearly in their logarithm: extinction falls by decades within 30 nm."""
    return np.exp(np.interp(np.asarray(nm, float), knots_nm, np.log(values)))


def molar_extinction(nm: ArrayLike) -> tuple[Array, Array]:
    """(HbO2, Hb) in 1/(cm M) at nm (any shape), 400-1000. Source: Prahl's table, interpolated in the logarithm."""
    knots, oxy, deoxy = _HAEMOGLOBIN.T
    return interpolate_log(nm, knots, oxy), interpolate_log(nm, knots, deoxy)


def blood_absorption(nm: ArrayLike, saturation: float) -> Array:
    """mu_a of whole blood in 1/cm, natural logarithm: 2.303 e c / 64500 with c = 150 g/L."""
    oxy, deoxy = molar_extinction(nm)
    e = saturation * oxy + (1.0 - saturation) * deoxy
    return 2.303 * e * HAEMOGLOBIN_G_L / _GRAMS_PER_MOL


def melanin_density(nm: ArrayLike) -> Array:
    """Density of melanin relative to 500 nm: a power of -3.48. Source: S. Jacques, omlc.org."""
    return (np.asarray(nm, float) / 500.0) ** -3.48


def macular_density(nm: ArrayLike) -> Array:
    """Density of macular pigment relative to its peak at 460 nm, a bell of 28 nm: lutein's flank near 530 nm."""
    return np.exp(-0.5 * ((np.asarray(nm, float) - 460.0) / 28.0) ** 2)


def deposit_density(nm: ArrayLike) -> Array:
    """Density of deposits beside vessels relative to 450 nm: an exponential flank, 0.13 at 570 nm, nothing in the red.

    The steep fall from the blue is that of lipids and lipofuscin; no particular substance is meant.
    """
    return np.exp(-(np.asarray(nm, float) - 450.0) / 60.0)


def media_density(nm: ArrayLike, age: float) -> Array:
    """One-way density of cornea, lens and vitreous at `age` years. Source: van de Kraats & van Norren 2007, eq. 8."""
    l, a2 = np.asarray(nm, float), age * age
    bell = lambda width, centre: np.exp(-((width * (l - centre)) ** 2))
    return (
        (0.225 + 3.1e-5 * a2) * (400.0 / l) ** 4  # Rayleigh scatter
        + 14.19 * 10.68 * bell(0.057, 273)  # tryptophan
        + (0.998 - 6.3e-5 * a2) * 2.13 * bell(0.029, 370)  # young lens
        + (0.059 + 1.86e-4 * a2) * 11.95 * bell(0.021, 325)  # old lens, ultraviolet
        + (0.016 + 1.32e-4 * a2) * 1.43 * bell(0.008, 325)  # old lens, visible
        + 0.111  # neutral
    )


def media_transmittance(nm: ArrayLike, age: float) -> Array:
    """Double pass through the ocular media: 10^(-2 D)."""
    return 10.0 ** (-2.0 * media_density(nm, age))


def deep_transmittance(nm: ArrayLike, choroid_cm: ArrayLike, melanin: ArrayLike) -> Array:
    """Double pass through melanin (density at 500 nm, one way) and a layer of choroidal blood (cm)."""
    blood = np.exp(-2.0 * blood_absorption(nm, CHOROID_SATURATION) * choroid_cm)
    return blood * 10.0 ** (-2.0 * np.asarray(melanin) * melanin_density(nm))


def fundus_reflectance(
    nm: ArrayLike,
    age: float,
    surface: float,
    rpe: float,
    sclera: float,
    choroid_cm: float,
    melanin: float,
) -> Array:
    """Reflectance (0-1) of plain fundus: 10^(-2 D_media) [surface + rpe + sclera * exp(-2 blood) 10^(-2 melanin)].

    Source: Delori & Pflibsen 1989 with the layers of Preece & Claridge 2002. surface: inner limiting membrane;
    rpe: pigment epithelium; sclera: behind `choroid_cm` of blood (cm) and `melanin` (density at 500 nm).
    """
    deep = sclera * deep_transmittance(nm, choroid_cm, melanin)
    return media_transmittance(nm, age) * (surface + rpe + deep)


def choroid_contrast(nm: ArrayLike, melanin: float, gap_cm: float = 0.006, vessel_cm: float = 0.0155) -> Array:
    """Contrast 1 - R_vessel / R_gap of a large choroidal vessel (`vessel_cm` of blood more) in the mean fundus."""
    layers = {"surface": 0.002, "rpe": 0.012, "sclera": 0.30}
    gap = fundus_reflectance(nm, 60.0, **layers, choroid_cm=gap_cm, melanin=melanin)
    dark = melanin * (1.0 + MELANIN_OVER_VESSELS)
    return 1.0 - fundus_reflectance(nm, 60.0, **layers, choroid_cm=gap_cm + vessel_cm, melanin=dark) / gap


def vessel_density(nm: ArrayLike, path_cm: ArrayLike, saturation: float) -> Array:
    """Natural optical density of a retinal vessel of chord `path_cm`, as the camera sees it (double pass x share)."""
    return 2.0 * VESSEL_SHARE * blood_absorption(nm, saturation) * path_cm


def disc_reflectance(nm: ArrayLike, nerve: float, lamina: float, capillary_cm: float) -> Array:
    """Reflectance of the optic disc without media: grey nerve fibres before the white lamina cribrosa, no pigment.

    nerve: reflectance of the fibres. lamina: of the lamina, seen through fibres that scatter as nm^-4 and through
    `capillary_cm` of blood (cm, one way), which makes the rim pink and the disc whiter in the red than in the green.
    """
    nm = np.asarray(nm, float)
    blood = np.exp(-2.0 * blood_absorption(nm, CHOROID_SATURATION) * capillary_cm)
    return nerve + lamina * blood * np.exp(-0.5 * (550.0 / nm) ** 4)


def reference_white(nm: ArrayLike) -> Array:
    """The reflectance that becomes +1 at each wavelength: a bright disc or a blond fundus, whichever is more.

    A fixed calibration: it depends on the wavelengths alone, never on the volumes.
    """
    blond = fundus_reflectance(nm, 30.0, 0.003, 0.013, 0.34, 0.006, 0.35)
    disc = media_transmittance(nm, 30.0) * disc_reflectance(nm, 0.036, 0.225, 0.0050)
    return 1.1 * np.maximum(blond, disc)
