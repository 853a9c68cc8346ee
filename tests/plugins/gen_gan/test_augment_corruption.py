"""Bands, noise and holes."""

import numpy as np
import torch

from gen_gan.augment_corruption import HALF_BAND, add_noise, amplify_bands, band_filters, cut_out
from gen_gan.augment_geometry import Draws


def draws(n, p, seed=0):
    return Draws(n, p, torch.Generator().manual_seed(seed), torch.device("cpu"), torch.float64)


def test_the_half_band_filter_is_the_four_tap_wavelet_against_itself():
    root = np.sqrt(3)
    h = np.array([1 + root, 3 + root, 3 - root, 1 - root]) / (4 * np.sqrt(2))
    np.testing.assert_allclose(np.correlate(h, h, "full") / 2, HALF_BAND, atol=1e-12)


def test_bands_add_up_to_the_image_and_each_passes_its_octave():
    filters = band_filters()
    identity = torch.zeros(43, dtype=torch.float64)
    identity[21] = 1
    torch.testing.assert_close(filters.sum(0), identity)
    response = np.abs(np.fft.rfft(filters.numpy(), 1024, axis=1))  # 0..512 is 0..Nyquist
    middles = [20, 90, 180, 400]  # inside [0, 1/8], [1/8, 1/4], [1/4, 1/2], [1/2, 1] of 512
    assert [int(response[:, m].argmax()) for m in middles] == [0, 1, 2, 3]


def test_amplified_bands_leave_the_image_alone_at_probability_zero():
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(amplify_bands(x, draws(2, 0.0)), x)


def test_the_expected_power_of_an_amplified_image_is_kept():
    """One octave at its own gain: a constant image is of the lowest band, and is scaled along both axes."""
    n = 4000
    y = amplify_bands(torch.ones(n, 1, 3, 4, dtype=torch.float64), draws(n, 1.0))[:, 0, 0, 0]
    gains = torch.exp2(torch.randn(200_000, 4, generator=torch.Generator().manual_seed(1)).double())
    power = torch.tensor([10, 1, 1, 1]).double() / 13
    norm = lambda band: (1 + power[band] * (gains[:, band].square() - 1)).sqrt()
    want = ((gains[:, 0] / norm(0)) / norm(1) / norm(2) / norm(3)).square().mean()
    assert abs(float(y.mean()) - float(want)) < 0.03


def test_noise_is_white_and_of_half_the_samples():
    y = add_noise(torch.zeros(3000, 2, 5, 6, dtype=torch.float64), draws(3000, 0.5))
    hit = y.flatten(1).any(1)
    assert abs(float(hit.double().mean()) - 0.5) < 0.03
    assert abs(float(y[hit].flatten(1).square().mean(1).mean()) - 0.01) < 0.001  # E sd^2 = 0.1^2


def test_a_hole_has_half_the_sides_at_most():
    x = torch.ones(500, 2, 16, 24, dtype=torch.float64)
    holes = (cut_out(x, draws(500, 1.0)) == 0)[:, 0]
    rows, columns = holes.any(2).sum(1), holes.any(1).sum(1)
    assert int(rows.max()) == 8 and int(columns.max()) == 12 and int(rows.min()) >= 3
    assert torch.equal(holes.sum((1, 2)), rows * columns)
    torch.testing.assert_close(cut_out(x, draws(500, 0.0)), x)
