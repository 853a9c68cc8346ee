"""Denoising score matching: what each prediction means, its target and weights, and the distribution of times."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from gen_core.paths.edm_path import EdmPath
from gen_core.paths.rectified_flow_path import RectifiedFlowPath
from gen_core.paths.sub_vp_path import SubVpPath
from gen_core.paths.ve_path import VePath
from gen_core.paths.vp_path import VpPath
from gen_diffusion import edm_preconditioning as edm
from gen_diffusion.score_matching import Times, loss_weight, meaning, target

PATHS = {"vp": VpPath(), "sub-vp": SubVpPath(), "ve": VePath(), "edm": EdmPath(), "rf": RectifiedFlowPath()}
CASES = [(path, predict) for path in ("vp", "sub-vp", "ve", "edm") for predict in ("eps", "score", "edm")]
CASES += [("rf", "velocity"), ("rf", "edm")]


def draw(seed=0):
    g = torch.Generator().manual_seed(seed)
    t = torch.tensor([0.02, 0.3, 0.6, 0.95], dtype=torch.float64)
    shape = (4, 2, 1, 3, 5)
    return torch.randn(shape, generator=g).double(), torch.randn(shape, generator=g).double(), t


@pytest.mark.parametrize(("name", "predict"), CASES)
def test_a_network_that_says_its_target_gives_back_data_and_noise(name, predict):
    path, (z_0, eps, t) = PATHS[name], draw()
    alpha, sigma = path.alpha(t), path.sigma(t)
    wide = lambda value: value.view(-1, 1, 1, 1, 1)
    z_t = wide(alpha) * z_0 + wide(sigma) * eps
    found = meaning(predict, alpha, sigma, 0.8).read(z_t, target(predict, z_0, eps, alpha, sigma, 0.8))
    torch.testing.assert_close(found[0], z_0)
    torch.testing.assert_close(found[1], eps)


def test_the_targets_are_those_of_the_papers():
    z_0, eps, t = draw()
    alpha, sigma = PATHS["rf"].alpha(t), PATHS["rf"].sigma(t)
    velocity = target("velocity", z_0, eps, alpha, sigma, 0.5)
    h = 1e-4  # dz/dt of z_t = (1 - t) z_0 + t eps
    torch.testing.assert_close(velocity, ((1 - t[0] - h) * z_0 + (t[0] + h) * eps - (1 - t[0]) * z_0 - t[0] * eps) / h)
    alpha, sigma = PATHS["vp"].alpha(t), PATHS["vp"].sigma(t)
    z = (alpha.view(-1, 1, 1, 1, 1) * z_0 + sigma.view(-1, 1, 1, 1, 1) * eps).requires_grad_()
    density = torch.distributions.Normal(alpha.view(-1, 1, 1, 1, 1) * z_0, sigma.view(-1, 1, 1, 1, 1))
    (score,) = torch.autograd.grad(density.log_prob(z).sum(), z)  # of p(z_t | z_0): Vincent 2011
    torch.testing.assert_close(target("score", z_0, eps, alpha, sigma, 0.5), score)


@pytest.mark.parametrize(("name", "predict"), CASES)
def test_simple_weights_make_every_score_error_count_sigma_squared(name, predict):
    path, (_, _, t) = PATHS[name], draw()
    sigma = path.sigma(t)
    s = meaning(predict, path.alpha(t), sigma, 0.8).s
    per_score = loss_weight(predict, "simple", path, t, s) * (sigma / s) ** 2  # F's error is sigma / s of the score's
    if predict in ("eps", "score"):
        torch.testing.assert_close(per_score, sigma**2)
    elif predict == "edm":  # lambda (sigma) of D's error, which is that of the score x (sigma / alpha) sigma
        noise = sigma / path.alpha(t)
        torch.testing.assert_close(per_score, edm.loss_weight(noise, 0.8) * (noise * sigma) ** 2)
    else:  # of velocity: eps - z_0 = (eps - z_t) / (1 - t)
        torch.testing.assert_close(per_score, (t / (1 - t)) ** 2)


@pytest.mark.parametrize(("name", "predict"), CASES)
def test_likelihood_weights_make_every_score_error_count_g_squared(name, predict):
    path, (_, _, t) = PATHS[name], draw()
    s = meaning(predict, path.alpha(t), path.sigma(t), 0.8).s
    per_score = loss_weight(predict, "likelihood", path, t, s) * (path.sigma(t) / s) ** 2
    torch.testing.assert_close(per_score, path.diffusion2(t))


@pytest.mark.parametrize("name", list(PATHS))
def test_times_even_in_log_snr_have_the_density_of_the_likelihood_weight(name):
    path, high = PATHS[name], 1 - 1e-3 if name == "rf" else 1.0
    uniform, even = (Times(kind, path, 1e-3, high) for kind in ("uniform", "log-snr"))
    error = lambda t: path.alpha(t) ** 2 / (path.alpha(t) ** 2 + path.sigma(t) ** 2)  # of eps, for N(0, 1)
    weight = lambda t: path.diffusion2(t) / path.sigma(t) ** 2
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    fine = torch.from_numpy(np.geomspace(1e-3, high, 100_001))
    truth = np.trapezoid((weight(fine) * error(fine)).numpy(), fine.numpy()) / (high - 1e-3)
    for times in (uniform, even):
        t = times.at(u)
        assert t.min() >= 1e-3 and t.max() <= high
        found = (weight(t) / times.density(t) * error(t)).mean().item()
        assert found == pytest.approx(truth, rel=2e-3), times.kind


def test_normal_times_have_their_quantiles():
    u = torch.tensor([0.05, 0.31, 0.5, 0.77, 0.98], dtype=torch.float64)
    t = Times("logit-normal", PATHS["rf"], 1e-5, 1 - 1e-5, mean=0.3, sd=0.8).at(u)
    for one, q in zip(t.tolist(), u.tolist()):
        assert math.log(one / (1 - one)) == pytest.approx(norm.ppf(q, 0.3, 0.8), abs=1e-9)
    for name in ("vp", "ve", "edm"):
        t = Times("log-normal", PATHS[name], 1e-6, mean=edm.MEAN, sd=edm.SD).at(u)
        noise = PATHS[name].sigma(t) / PATHS[name].alpha(t)
        for one, q in zip(noise.log().tolist(), u.tolist()):
            assert one == pytest.approx(norm.ppf(q, -1.2, 1.2), abs=1e-6)


def test_no_time_leaves_its_ends():
    u = torch.tensor([0.0, 1e-15, 1 - 1e-15, 1.0], dtype=torch.float64)
    for kind in ("uniform", "log-snr", "logit-normal", "log-normal"):
        t = Times(kind, PATHS["rf"], 1e-4, 1 - 1e-4).at(u)
        assert t.isfinite().all() and t.min() >= 1e-4 and t.max() <= 1 - 1e-4, kind
