"""Filters against scipy, and their derivatives of second order."""

import numpy as np
import pytest
import scipy.signal
import torch

from gen_gan.upfirdn import BINOMIAL, downsample2d, reflect_pad, reflected, upfirdn2d, upfirdn_axis, upsample2d


@pytest.mark.parametrize(("up", "down", "taps"), [(1, 1, 5), (2, 1, 4), (1, 2, 4), (2, 3, 5), (3, 2, 1), (4, 1, 12)])
def test_each_axis_is_what_scipy_makes_of_it(up, down, taps):
    rng = np.random.default_rng(0)
    h, x = rng.normal(size=taps), rng.normal(size=(2, 3, 7, 11))
    for axis in (2, 3):
        want = scipy.signal.upfirdn(h, x, up, down, axis=axis)
        # scipy pads by the filter's reach, and adds no zeros behind the last value
        got = upfirdn_axis(torch.from_numpy(x), h.tolist(), axis, up, down, (taps - 1, taps - up))
        np.testing.assert_allclose(got.numpy(), want, atol=1e-12)


def test_two_axes_and_gain_are_one_after_the_other():
    rng = np.random.default_rng(1)
    h, x = rng.normal(size=3), rng.normal(size=(2, 3, 6, 5))
    want = 4 * scipy.signal.upfirdn(h, scipy.signal.upfirdn(h, x, 2, 1, axis=2), 2, 1, axis=3)
    got = upfirdn2d(torch.from_numpy(x), h.tolist(), up=2, pads=(2, 1), gain=4.0)
    np.testing.assert_allclose(got.numpy(), want, atol=1e-12)


def test_negative_pads_crop():
    x = torch.randn(1, 2, 6, 7)
    assert torch.equal(upfirdn2d(x, [1.0], pads=(-1, -2)), x[..., 1:-2, 1:-2])


@pytest.mark.parametrize(("change", "size"), [(upsample2d, (12, 20)), (downsample2d, (3, 5))])
def test_sampling_keeps_brightness_and_place(change, size):
    flat = change(torch.full((1, 1, 6, 10), 0.7, dtype=torch.float64))
    assert flat.shape[-2:] == size
    torch.testing.assert_close(flat[..., 2:-2, 2:-2], torch.full_like(flat[..., 2:-2, 2:-2], 0.7))
    # a straight line stays one, pixel centres where they were
    ramp = change(torch.arange(10, dtype=torch.float64).expand(1, 1, 6, 10))
    factor = size[1] / 10
    want = (torch.arange(size[1], dtype=torch.float64) + 0.5) / factor - 0.5
    torch.testing.assert_close(ramp[0, 0, size[0] // 2, 2:-2], want[2:-2])


def test_enlarging_is_bilinear_interpolation():
    x = torch.randn(2, 3, 6, 9, dtype=torch.float64)
    want = torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(upsample2d(x)[..., 1:-1, 1:-1], want[..., 1:-1, 1:-1])


def test_enlarging_and_shrinking_are_adjoint():
    x, y = (torch.randn(2, 3, n, m, dtype=torch.float64) for n, m in ((4, 5), (8, 10)))
    torch.testing.assert_close((upsample2d(x) * y).sum(), 4 * (x * downsample2d(y)).sum())


@pytest.mark.parametrize("call", [upsample2d, downsample2d, lambda x: upfirdn2d(x, BINOMIAL, 3, 2, (2, 3))])
def test_the_derivative_of_the_derivative_is_right(call):
    x = torch.randn(1, 2, 4, 6, dtype=torch.float64, requires_grad=True)
    bent = lambda x: call(x).pow(3)
    assert torch.autograd.gradcheck(bent, x) and torch.autograd.gradgradcheck(bent, x)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_mirrored_positions_are_those_of_numpy(n):
    at = torch.arange(-7, n + 7)
    want = np.pad(np.arange(n), 7, mode="reflect")
    assert reflected(at, n).tolist() == want.tolist()
    x = torch.randn(2, n, 3)
    assert torch.equal(reflect_pad(x, (7, 7), 1), x[:, want])
