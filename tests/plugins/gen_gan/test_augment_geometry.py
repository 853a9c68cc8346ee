"""Motions against what they should leave alone, against scipy, and their derivatives of second order."""

import math

import numpy as np
import pytest
import scipy.ndimage
import torch

from gen_gan.augment_geometry import (
    SYM6,
    Draws,
    blit_matrix,
    geometric_matrix,
    rotation,
    scaling,
    translation,
    warp,
)

one = lambda *v: [torch.tensor([float(x)], dtype=torch.float64) for x in v]


def bumps(h=24, w=32):
    """A smooth image (2, 1, H, W): two wide Gaussians off the centre."""
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in (h, w)), indexing="ij")
    blob = lambda a, b, s: torch.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * s**2))
    return torch.stack((blob(3, -2, 3.0), blob(-4, 1.5, 2.5)))[:, None]


def draws(n, p, seed=0):
    return Draws(n, p, torch.Generator().manual_seed(seed), torch.device("cpu"), torch.float64)


def test_the_filter_is_an_orthonormal_wavelet_with_six_vanishing_moments():
    h, k = np.array(SYM6), np.arange(12)
    assert abs(h.sum() - math.sqrt(2)) < 1e-10
    for shift in range(0, 12, 2):
        assert abs((h[shift:] * h[: 12 - shift]).sum() - (shift == 0)) < 1e-10
    for moment in range(6):
        assert abs(((-1.0) ** k * k**moment * h).sum()) < 1e-4 * max(1, 6**moment)


@pytest.mark.parametrize("size", [(5, 8), (16, 24), (7, 1)])
def test_no_motion_is_no_change(size):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(warp(x, torch.eye(3, dtype=torch.float64).expand(2, 3, 3)), x)


def test_whole_shifts_move_pixels_and_mirror_at_the_edge():
    x = torch.randn(1, 2, 16, 24, dtype=torch.float64)
    got = warp(x, translation(*one(3, -2)))  # a pixel shows what was 3 to the right and 2 above
    rows, columns = np.abs(np.arange(16) - 2), 23 - np.abs(23 - (np.arange(24) + 3))
    want = x[..., rows, :][..., columns]
    # near the edge the filters see both sides of the fold
    torch.testing.assert_close(got[..., 5:, :-6], want[..., 5:, :-6])
    assert (got - want).abs().max() < 1.0


@pytest.mark.parametrize(
    ("matrix", "want"),
    [
        (scaling(*one(-1, 1)), lambda x: x.flip(-1)),
        (scaling(*one(1, -1)), lambda x: x.flip(-2)),
        (rotation(*one(math.pi)), lambda x: x.flip(-1, -2)),
        (rotation(*one(math.pi / 2)), lambda x: torch.rot90(x, -1, (-1, -2))),
    ],
)
def test_mirrors_and_turns_are_those_of_the_array(matrix, want):
    x = bumps(24, 24)[:1]
    torch.testing.assert_close(warp(x, matrix), want(x), atol=1e-2, rtol=0)


@pytest.mark.parametrize(
    "matrix",
    [
        rotation(*one(0.4)),
        scaling(*one(1.2, 0.9)),
        translation(*one(1.3, -0.6)),
        rotation(*one(-0.3)) @ scaling(*one(0.8, 1.1)) @ translation(*one(0.5, 2.2)),
    ],
)
def test_smooth_images_move_as_with_cubic_splines(matrix):
    x = bumps()
    m = matrix[0].numpy()
    # scipy counts rows first, from the corner
    linear = m[:2, :2][::-1, ::-1]
    middle = np.array([11.5, 15.5])
    offset = middle + m[:2, 2][::-1] - linear @ middle
    want = [scipy.ndimage.affine_transform(image.numpy(), linear, offset, order=3, mode="mirror") for image in x[:, 0]]
    got = warp(x, matrix.expand(2, 3, 3))[:, 0]
    np.testing.assert_allclose(got.numpy()[:, 3:-3, 3:-3], np.stack(want)[:, 3:-3, 3:-3], atol=1e-2)


def test_shrinking_does_not_fold_over():
    """Stripes finer than the small image can show turn grey; read without filters they would beat."""
    x = (torch.arange(64) % 2 * 2.0 - 1.0).double().expand(1, 1, 8, 64)
    got = warp(x, scaling(*one(1.7, 1)))
    plain = np.interp(31.5 + 1.7 * (np.arange(20, 44) - 31.5), np.arange(64), x[0, 0, 0].numpy())
    assert got[..., 20:-20].abs().max() < 0.2 < 0.9 < np.abs(plain).max()  # nearer the edges it is mirrored


def test_far_motions_stay_inside():
    x = torch.rand(2, 1, 8, 12, dtype=torch.float64)
    m = translation(*one(1e4, -3e3)) @ rotation(*one(1.0)) @ scaling(*one(50, 0.01))
    got = warp(x, m.expand(2, 3, 3))
    assert got.isfinite().all() and got.abs().max() < 3


def test_the_derivative_of_the_derivative_is_right():
    x = torch.randn(2, 1, 2, 3, dtype=torch.float64, requires_grad=True)
    matrix = geometric_matrix(draws(2, 1.0), (2, 3)) @ blit_matrix(draws(2, 1.0), (2, 3))
    bent = lambda x: warp(x, matrix).pow(3)
    assert torch.autograd.gradcheck(bent, x) and torch.autograd.gradgradcheck(bent, x)


def test_blits_are_whole_and_their_share_is_p():
    matrix = blit_matrix(draws(6000, 0.5), (16, 16))
    torch.testing.assert_close(matrix, matrix.round(), atol=1e-12, rtol=0)
    assert (matrix[:, :2, 2].abs() < 2.001).all()
    mirrored = torch.linalg.det(matrix) < 0
    assert abs(float(mirrored.double().mean()) - 0.25) < 0.02  # half of the half are flipped
    assert not (blit_matrix(draws(200, 1.0), (16, 24))[:, 0, 1].round() != 0).any()  # no quarter turns off squares


def test_the_share_that_is_turned_or_scaled_is_p():
    matrix = geometric_matrix(draws(6000, 0.4), (16, 16))
    linear = matrix[:, :2, :2]
    area = torch.linalg.det(linear)
    assert abs(float((area - 1).abs().gt(1e-9).double().mean()) - 0.4) < 0.02
    assert abs(float(area[(area - 1).abs() > 1e-9].log2().std()) - 0.4) < 0.02  # twice the sd of one side
    turned = linear[:, 0, 1].abs() > 1e-9
    assert abs(float(turned.double().mean()) - 0.4) < 0.02
    still = geometric_matrix(draws(9, 0.0), (16, 16))
    torch.testing.assert_close(still, torch.eye(3, dtype=torch.float64).expand(9, 3, 3))
