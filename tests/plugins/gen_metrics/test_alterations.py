"""Altered volumes: each against the same written another way; draws depend on seed, name and id alone."""

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform, gaussian_filter1d, shift

import gen_metrics.alterations as alterations
from gen_metrics.alterations import QUERIES, altered, central_crop


def volume(c=2, d=3, h=20, w=24, seed=0):
    return torch.rand(c, d, h, w, generator=torch.Generator().manual_seed(seed)) * 2 - 1


G = np.random.default_rng


@pytest.mark.parametrize("name", QUERIES)
def test_every_alteration_keeps_shape_and_range_and_its_input(name):
    x = volume()
    before = x.clone()
    y = altered(x, name, QUERIES[name], 1, "eye")
    assert y.shape == x.shape and y.dtype == x.dtype and y.abs().max() <= 1 + 1e-5
    assert torch.equal(x, before) and not torch.equal(y, x)


@pytest.mark.parametrize("name", QUERIES)
def test_draws_are_a_function_of_seed_name_and_id(name):
    x = volume()
    make = lambda seed, id_: altered(x, name, QUERIES[name], seed, id_)
    assert torch.equal(make(1, "eye"), make(1, "eye"))
    if "noisy" in name:
        assert not torch.equal(make(1, "eye"), make(2, "eye"))
        assert not torch.equal(make(1, "eye"), make(1, "other"))


def test_shifts_are_whole_pixels_within_the_share_and_reflect():
    x = volume()
    wanted = {
        (dy, dx): torch.from_numpy(shift(x.numpy(), (0, 0, -dy, -dx), order=0, mode="mirror"))
        for dy in range(-2, 3)
        for dx in range(-2, 3)
    }
    seen = set()
    for seed in range(60):
        y = alterations.shifted(0.1)(x, G(seed))  # a tenth of 24: two pixels
        seen |= {move for move, want in wanted.items() if torch.equal(y, want)}
    assert (0, 0) not in seen and len(seen) > 15
    small = alterations.shifted(0.001)(x, G(0))
    assert any(torch.equal(small, wanted[m]) for m in wanted if max(map(abs, m)) == 1)


def test_a_central_crop_is_the_middle_scaled_back():
    ramp = torch.linspace(-1, 1, 41)[None, None, None].expand(1, 1, 31, 41)
    y = central_crop(ramp, 0.8)  # 33 of 41 columns
    assert y[0, 0, 15, 20] == pytest.approx(0.0, abs=1e-6)
    slope = float(y[0, 0, 15, 25] - y[0, 0, 15, 15]) / float(ramp[0, 0, 15, 25] - ramp[0, 0, 15, 15])
    assert slope == pytest.approx(33 / 41, rel=1e-4)
    assert torch.equal(central_crop(ramp, 1.0), ramp)
    drawn = alterations.cropped(0.5, 0.9)
    assert not torch.equal(drawn(ramp, G(0)), drawn(ramp, G(1)))


def test_rotation_is_that_of_scipy_in_pixels_of_any_shape():
    y, x = np.mgrid[0:31, 0:45]
    smooth = torch.from_numpy(np.exp(-((y - 12.0) ** 2 + (x - 26.0) ** 2) / 40)).float()[None, None]
    c, s = np.cos(np.deg2rad(15)), np.sin(np.deg2rad(15))
    want = []
    for sign in (1, -1):
        turn = np.array([[c, sign * s], [-sign * s, c]])
        centre = np.array([15.0, 22.0])
        want.append(affine_transform(smooth[0, 0].numpy(), turn, centre - turn @ centre, order=1, mode="mirror"))
    found = {int(np.argmin([np.abs(alterations.rotated(15)(smooth, G(k))[0, 0].numpy() - w).max() for w in want]))
             for k in range(8)}  # fmt: skip
    assert found == {0, 1}
    for k in range(4):
        got = alterations.rotated(15)(smooth, G(k))[0, 0].numpy()
        assert min(np.abs(got - w)[6:-6, 6:-6].max() for w in want) < 1e-3


def test_blur_is_that_of_scipy():
    x = volume()
    sd = 0.05 * 24
    want = gaussian_filter1d(x.double().numpy(), sd, axis=-1, mode="mirror", radius=4)
    want = gaussian_filter1d(want, sd, axis=-2, mode="mirror", radius=4)
    assert alterations.blurred(0.05)(x, G(0)).numpy() == pytest.approx(want, abs=1e-5)


def test_noise_brightness_and_tilt_have_the_named_strength():
    x = torch.zeros(1, 5, 40, 41)
    assert float(alterations.noisy(0.05)(x, G(0)).std()) == pytest.approx(0.05, rel=0.05)
    factors = {round(float(alterations.brightened(1.2)(x - 0.5, G(k)).mean()) + 1, 4) for k in range(8)}
    assert factors == {0.6, round(0.5 / 1.2, 4)}
    line = alterations.tilted(0.1)(x - 0.5, G(0))[0, :, 0, 0] + 1
    assert sorted(line.tolist()) == pytest.approx([0.45, 0.475, 0.5, 0.525, 0.55], abs=1e-6)
