"""EDM's coefficients: the paper's table at known points, unit variance, and the same on any path."""

import math

import pytest
import torch

from gen_core.paths.rectified_flow_path import RectifiedFlowPath
from gen_core.paths.vp_path import VpPath
from gen_diffusion import edm_preconditioning as edm


def value(x):
    return torch.tensor([x], dtype=torch.float64)


def test_the_coefficients_are_those_of_the_papers_table():
    # Karras et al. 2022, table 1, at sigma = 2 and sigma_data = 0.5, worked out by hand
    sigma, sd = value(2.0), 0.5
    assert edm.c_skip(sigma, sd).item() == pytest.approx(0.25 / 4.25)
    assert edm.c_out(sigma, sd).item() == pytest.approx(1.0 / math.sqrt(4.25))
    assert edm.c_in(sigma, sd).item() == pytest.approx(1.0 / math.sqrt(4.25))
    assert edm.c_noise(sigma).item() == pytest.approx(0.25 * math.log(2.0))
    assert edm.loss_weight(sigma, sd).item() == pytest.approx(4.25)
    at_data = value(0.5)
    assert edm.c_skip(at_data, sd).item() == pytest.approx(0.5)
    assert edm.c_out(at_data, sd).item() == pytest.approx(0.5 / math.sqrt(2.0))


def test_the_weighted_error_of_the_denoiser_is_the_plain_error_of_the_network():
    sigma = torch.logspace(-3, 2, 9, dtype=torch.float64)
    assert torch.allclose(edm.loss_weight(sigma, 0.7) * edm.c_out(sigma, 0.7) ** 2, torch.ones_like(sigma))


def test_on_a_path_they_are_the_table_at_sigma_over_alpha():
    t, sd = torch.tensor([1e-3, 0.1, 0.5, 0.9], dtype=torch.float64), 0.8
    path = VpPath()
    alpha, sigma = path.alpha(t), path.sigma(t)
    p, q, r, s, u = edm.on_path(alpha, sigma, sd)
    noise = sigma / alpha
    # x = z_t / alpha, D = c_skip x + c_out F(c_in x)
    assert torch.allclose(p, edm.c_skip(noise, sd) / alpha)
    assert torch.allclose(q, edm.c_out(noise, sd))
    assert torch.allclose(u, edm.c_in(noise, sd) / alpha)
    # eps = (x - D) / noise
    assert torch.allclose(r, (1 - edm.c_skip(noise, sd)) / alpha / noise)
    assert torch.allclose(s, -edm.c_out(noise, sd) / noise)


def test_the_end_of_the_straight_path_is_finite_though_it_holds_no_data():
    path, one = RectifiedFlowPath(), torch.ones(1, dtype=torch.float64)
    for coefficient in edm.on_path(path.alpha(one), path.sigma(one), 0.5):
        assert coefficient.isfinite().all()
    assert edm.c_noise((-0.5 * path.log_snr(one)).exp()).isfinite().all()


def test_the_networks_input_has_unit_variance():
    generator = torch.Generator().manual_seed(0)
    z_0, eps = 0.5 * torch.randn(20_000, generator=generator), torch.randn(20_000, generator=generator)
    path = VpPath()
    for t in (0.01, 0.3, 0.95):
        alpha, sigma = path.alpha(value(t)), path.sigma(value(t))
        u = edm.on_path(alpha, sigma, 0.5)[4]
        assert ((alpha * z_0 + sigma * eps) * u).std().item() == pytest.approx(1.0, abs=0.03)
