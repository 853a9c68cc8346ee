"""Checks of paths and samplers, and the closed forms they rest on."""

from __future__ import annotations

import pytest
import torch

from gen_core.sampler import Sampler
from gen_core.testing import (
    LinearPath,
    check_path,
    check_sampler,
    gaussian_denoise,
)


def test_the_linear_path_keeps_the_relations():
    check_path(LinearPath())
    check_path(LinearPath(0.5, 8.0))


def test_the_linear_path_agrees_with_the_integral_of_beta():
    # Song et al. 2021, eq. 29: alpha = exp(-1/2 integral of beta), by the trapezoid rule, exact for a linear beta
    path, n = LinearPath(), 1000
    t = torch.linspace(0, 0.7, n + 1, dtype=torch.float64)
    beta = 0.1 + 19.9 * t
    integral = torch.trapezoid(beta, t)
    assert torch.isclose(path.alpha(t[-1]), (-0.5 * integral).exp(), rtol=1e-10)
    assert torch.isclose(path.alpha(t[-1]) ** 2 + path.sigma(t[-1]) ** 2, torch.ones((), dtype=torch.float64))


class WrongDrift(LinearPath):
    def drift(self, t):
        return super().drift(t) * 1.01


class WrongDiffusion(LinearPath):
    def diffusion2(self, t):
        return super().diffusion2(t) + 0.1


class WrongInverse(LinearPath):
    def log_snr_inverse(self, value):
        return super().log_snr_inverse(value) + 1e-4


class HalfSnr(LinearPath):
    def log_snr(self, t):
        return super().log_snr(t) / 2


class RisingGrid(LinearPath):
    def grid(self, n):
        return super().grid(n).flip(0)


class ShortGrid(LinearPath):
    def grid(self, n):
        return super().grid(n)[:-1]


class SingleGrid(LinearPath):
    def grid(self, n):
        return super().grid(n).float()


class SingleAlpha(LinearPath):
    def alpha(self, t):
        return super().alpha(t.float())


class RisingAlpha(LinearPath):
    def alpha(self, t):
        return 0.5 * (1 + t)


class LateGrid(LinearPath):
    def grid(self, n):
        return super().grid(n).clamp_min(1e-3)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (WrongDrift, "drift is not d ln alpha / dt"),
        (WrongDiffusion, r"diffusion2 is not d sigma\^2/dt - 2 f sigma\^2"),
        (WrongInverse, r"log_snr_inverse\(log_snr\(t\)\) is not t"),
        (HalfSnr, r"log_snr is not ln\(alpha\^2 / sigma\^2\)"),
        (RisingGrid, "does not fall"),
        (RisingAlpha, "alpha rises with t"),
        (ShortGrid, "has 1 times, expected 2"),
        (SingleGrid, "grid is torch.float32, expected float64"),
        (SingleAlpha, "alpha.* is torch.float32"),
        (LateGrid, r"runs 1..0.001, not 1..0"),
    ],
)
def test_a_bad_path_is_told_in_one_sentence(cls, message):
    with pytest.raises(AssertionError, match=message):
        check_path(cls())


class GoodSampler(Sampler):
    """DDIM with eta: eq. 12 of Song et al. 2021 (DDIM), written for any alpha and sigma."""

    steps, eta = 20, 1.0

    def sample(self, denoise, path, z, ts, noise):
        for k, (t, s) in enumerate(zip(ts[:-1], ts[1:])):
            z_0, eps = denoise(z, t.expand(len(z)))
            a, b, c, d = (f(u).float() for f in (path.alpha, path.sigma) for u in (t, s))
            # a, b: alpha at t and s; c, d: sigma at t and s
            var = (self.eta * d / c) ** 2 * (1 - (a / b) ** 2) if s > 0 else torch.zeros(())
            z = b * z_0 + (d**2 - var).clamp_min(0).sqrt() * eps
            if s > 0 and self.eta:
                z = z + var.sqrt() * noise(k)
        return z


class Deterministic(GoodSampler):
    eta = 0.0


class Biased(GoodSampler):
    def sample(self, denoise, path, z, ts, noise):
        return super().sample(denoise, path, z, ts, noise) + 0.1


class Narrow(GoodSampler):
    def sample(self, denoise, path, z, ts, noise):
        return super().sample(denoise, path, z, ts, lambda k: 0.5 * noise(k))


class GlobalNoise(GoodSampler):
    def sample(self, denoise, path, z, ts, noise):
        return super().sample(denoise, path, z, ts, lambda k: noise(k) * 0 + torch.randn(z.shape))


class SkipsNoise(GoodSampler):
    def sample(self, denoise, path, z, ts, noise):
        return super().sample(denoise, path, z, ts, lambda k: noise(k + 1))


class WritesZ(GoodSampler):
    def sample(self, denoise, path, z, ts, noise):
        return super().sample(denoise, path, z.mul_(1.0001), ts, noise)


class DoubleZ(GoodSampler):
    def sample(self, denoise, path, z, ts, noise):
        return super().sample(denoise, path, z, ts, noise).double()


class NoSteps(GoodSampler):
    steps = 0


@pytest.mark.parametrize("cls", [GoodSampler, Deterministic])
def test_a_good_sampler_passes(cls):
    check_sampler(cls())


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Biased, "mean 0.5.* of a target with 0.4"),
        (Narrow, "standard deviation .* of a target with 0.6"),
        (GlobalNoise, "depend on their neighbours, or on random numbers"),
        (SkipsNoise, r"calls noise\(k\) with k = \[1, 2"),
        (WritesZ, "changes its input z in place"),
        (DoubleZ, "gives torch.float64"),
        (NoSteps, "steps must be an integer from 1"),
    ],
)
def test_a_bad_sampler_is_told_in_one_sentence(cls, message):
    with pytest.raises(AssertionError, match=message):
        check_sampler(cls())


def test_the_gaussian_denoiser_is_the_posterior_mean():
    # against brute force: the mean of z_0 over a fine grid, weighted by prior and likelihood
    path, m, s = LinearPath(), 0.4, 0.6
    t, z_t = torch.tensor([0.3], dtype=torch.float64), torch.tensor([[0.7]], dtype=torch.float64)
    a, sigma = path.alpha(t), path.sigma(t)
    z_0 = torch.linspace(-6, 7, 20001, dtype=torch.float64)
    log_w = -((z_0 - m) ** 2) / (2 * s**2) - (z_t[0, 0] - a * z_0) ** 2 / (2 * sigma**2)
    expected = (torch.softmax(log_w, 0) * z_0).sum()
    got, eps = gaussian_denoise(path, m, s)(z_t, t)
    assert torch.isclose(got[0, 0], expected, atol=1e-9)
    assert torch.isclose(a[0] * got[0, 0] + sigma[0] * eps[0, 0], z_t[0, 0])
