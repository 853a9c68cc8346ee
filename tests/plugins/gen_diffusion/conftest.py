"""A tiny U-Net's settings and a nonlinear denoiser, for the tests of this folder."""

import pytest
import torch


@pytest.fixture
def wave():
    """A smooth nonlinear eps "network" of (z, step k - 1), float32: what both sides of a parity test call."""

    def eps(z, index):
        return 0.8 * torch.sin(1.3 * z + 0.01 * index) + 0.3 * z

    return eps


@pytest.fixture
def denoise_of():
    """Make `denoise(z, t) -> (z_0, eps)` from an eps network of (z, k - 1)."""

    def make(network, path):
        def denoise(z, t):
            alpha, sigma = path.alpha(t.double()), path.sigma(t.double())
            shape = (-1,) + (1,) * (z.ndim - 1)
            alpha, sigma = (a.float().reshape(shape) for a in (alpha, sigma))
            eps = network(z, (t[0] * path.steps).round() - 1)
            return (z - sigma * eps) / alpha, eps

        return denoise

    return make
