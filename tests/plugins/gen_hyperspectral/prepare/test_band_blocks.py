"""Missing values along wavelength, filled in."""

import numpy as np
import pytest

from gen_hyperspectral.prepare.band_blocks import interpolate


def test_interpolation_equals_numpy_at_every_pixel():
    rng = np.random.default_rng(3)
    at = np.sort(rng.random(9)) * 100
    spectra = rng.random((9, 40)).astype(np.float32)
    missing = rng.random((9, 40)) < 0.4
    missing[:, 0], missing[:, 1] = False, True
    out = interpolate(np.where(missing, np.nan, spectra), missing, at)
    assert np.isnan(out[:, 1]).all()
    for p in [0, *range(2, 40)]:
        ok = ~missing[:, p]
        assert out[:, p] == pytest.approx(np.interp(at, at[ok], spectra[ok, p].astype(float)), abs=1e-5)
