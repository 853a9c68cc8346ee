"""A rendered eye: a pure function of its numbers, its fixed scale, and where its parameters say that things lie."""

import hashlib
import subprocess
import sys

import numpy as np

from gen_hyperspectral.phantom.dataset_options import RetinaPhantom
from gen_hyperspectral.phantom.volume import calibration, default_wavelengths, describe, render

SIZE = (5, 34, 41)


def test_a_volume_is_a_pure_function_of_seed_and_subject():
    options = RetinaPhantom()
    nm = default_wavelengths(SIZE[0])
    there = [render(options, SIZE, nm, s)[0].tobytes() for s in (0, 1, 2)]
    back = [render(options, SIZE, nm, s)[0].tobytes() for s in (2, 1, 0)]
    assert there == back[::-1] and len(set(there)) == 3
    code = (
        "from gen_hyperspectral.phantom.volume import *; import hashlib;"
        f"x, m = render(RetinaPhantom(), {SIZE}, default_wavelengths({SIZE[0]}), 1);"
        "print(hashlib.sha256(x.tobytes() + m['vein'].tobytes()).hexdigest())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    x, m = render(options, SIZE, nm, 1)
    assert out == hashlib.sha256(x.tobytes() + m["vein"].tobytes()).hexdigest()


def test_other_seeds_other_eyes():
    nm = default_wavelengths(SIZE[0])
    a, b = (render(RetinaPhantom(seed=s), SIZE, nm, 0)[0] for s in (0, 1))
    assert (a != b).mean() > 0.3


def test_the_scale_of_a_band_does_not_depend_on_its_neighbours():
    s = calibration((500.0, 640.0, 900.0))
    np.testing.assert_array_equal(s.hi[:, 1:2], calibration((640.0,)).hi)
    assert (s.lo == 0).all() and (s.hi > 0).all()


def test_description_places_the_disc_where_the_mask_is():
    options, size = RetinaPhantom(), (1, 90, 122)
    for subject in range(6):
        _, masks = render(options, size, (555.0,), subject)
        rows, cols = np.nonzero(masks["onh"][0])
        found = describe(options, subject, size)
        np.testing.assert_allclose(found["disc_px"], (rows.mean() + 0.5, cols.mean() + 0.5), atol=0.8)
        away = found["fovea_px"][1] - found["disc_px"][1]
        assert (away < 0) == found["mirrored"]
