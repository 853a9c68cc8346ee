"""The samplers on targets whose denoiser is known exactly: moments, order of convergence, the noise contract."""

import math

import pytest
import torch

from gen_core.ddpm.beta_schedule import betas
from gen_core.ddpm.discrete_path import DiscretePath
from gen_diffusion import euler_maruyama, heun, ode, predictor_corrector, rectified_flow, unipc
from gen_diffusion import sampler_options as opt
from gen_diffusion.ddim import build as build_ddim
from gen_diffusion.ddpm import build as build_ddpm
from gen_diffusion.dpm_plus_plus import build as build_dpm
from gen_diffusion.sampler_options import Ddim, Ddpm, DpmPlusPlus2M

MEAN, SD = torch.tensor([-1.0, 0.5, 2.0]), torch.tensor([0.3, 1.0, 1.7])
ALL = {
    "ddpm": (build_ddpm(Ddpm(), None), 300),
    "ddpm beta": (build_ddpm(Ddpm(variance="beta"), None), 300),
    "ddim": (build_ddim(Ddim(), None), 100),
    "ddim eta": (build_ddim(Ddim(eta=1.0), None), 300),
    "dpm++2m": (build_dpm(DpmPlusPlus2M(), None), 50),
    "dpm++2m-sde": (build_dpm(opt.DpmPlusPlus2MSde()), 60),
    "dpm++2m-sde half": (build_dpm(opt.DpmPlusPlus2MSde(eta=0.5)), 60),
    "unipc": (unipc.build(opt.Unipc()), 30),
    "unipc 3": (unipc.build(opt.Unipc(order=3, variant="bh1")), 30),
    "heun": (heun.build(opt.Heun()), 40),
    "heun churn": (heun.build(opt.Heun(S_churn=20.0, S_tmin=0.05, S_tmax=50.0)), 60),
    "euler-maruyama": (euler_maruyama.build(opt.EulerMaruyama()), 300),
    "predictor-corrector": (predictor_corrector.build(opt.PredictorCorrector()), 150),
    "predictor-corrector ancestral": (predictor_corrector.build(opt.PredictorCorrector(predictor="ancestral")), 100),
    "ode": (ode.build(opt.Ode()), 1),
    "rectified-flow": (rectified_flow.build(opt.RectifiedFlow()), 100),
    "rectified-flow heun": (rectified_flow.build(opt.RectifiedFlow(method="heun")), 40),
}


@pytest.fixture(scope="module")
def path():
    return DiscretePath(betas("cosine", 300))


def gaussian(path, mean=MEAN, sd=SD, dtype=torch.float32):
    """The exact denoiser of N(mean, sd^2) per channel: E[z_0 | z_t] by the normal posterior."""
    mean, sd = (a.to(dtype).view(1, -1, 1, 1, 1) for a in (mean, sd))

    def denoise(z, t):
        alpha, sigma = (f(t.double()).to(dtype).view(-1, 1, 1, 1, 1) for f in (path.alpha, path.sigma))
        var = alpha**2 * sd**2 + sigma**2
        z_0 = mean + alpha * sd**2 / var * (z - alpha * mean)
        return z_0, (z - alpha * z_0) / sigma

    return denoise


def fresh(seed, shape):
    generator = torch.Generator().manual_seed(seed)
    return lambda k: torch.randn(shape, generator=generator)


@pytest.mark.parametrize("name", list(ALL))
def test_samples_of_a_gaussian_have_its_moments(name, path):
    sampler, steps = ALL[name]
    shape = (500, 3, 1, 5, 4)
    noise = fresh(0, shape)
    z = sampler.sample(gaussian(path), path, noise(0), path.grid(steps), noise)
    flat = z.transpose(0, 1).flatten(1)  # 10 000 independent values a channel: sd of the mean 0.01 sd
    torch.testing.assert_close(flat.mean(1), MEAN, rtol=0, atol=0.07)
    torch.testing.assert_close(flat.std(1), SD, rtol=0.035, atol=0)


def ode_solution(path, z, mean, sd):
    """The probability-flow map of a Gaussian in closed form: standardize at t = 1, scale to the data.

    Along the flow (z_t - alpha mean) / sqrt(alpha^2 sd^2 + sigma^2) is constant (Song et al. 2021, eq. 13).
    """
    one = torch.ones(1, dtype=torch.float64)
    alpha, sigma = path.alpha(one), path.sigma(one)
    return mean + sd * (z - alpha * mean) / (alpha**2 * sd**2 + sigma**2).sqrt()


@pytest.mark.parametrize(("name", "order"), [("dpm++2m", 1.8), ("ddim", 0.9)])
def test_deterministic_samplers_converge_at_their_order(name, order):
    # A path of many steps, so that coarse grids lie in the smooth part of one function of t.
    path = DiscretePath(betas("scaled-linear", 4096, beta_start=1e-4, beta_end=5e-3))
    mean, sd = torch.tensor([0.7], dtype=torch.float64), torch.tensor([1.6], dtype=torch.float64)
    z = torch.linspace(-2, 2, 12, dtype=torch.float64).reshape(1, 1, 1, 3, 4)
    denoise = gaussian(path, mean, sd, torch.float64)
    sampler = ALL[name][0]
    # Stop at t = 1/8: the jump to sigma = 0 is first order for any solver of lambda.
    end = torch.tensor([1 / 8], dtype=torch.float64)
    alpha, sigma = path.alpha(end), path.sigma(end)
    truth = alpha * mean + (alpha**2 * sd**2 + sigma**2).sqrt() * (ode_solution(path, z, mean, sd) - mean) / sd
    errors = []
    for n in (28, 56, 112, 224):
        ts = path.grid(n * 8 // 7)[: n + 1]
        assert ts[-1] == end
        out = sampler.sample(denoise, path, z, ts, None)
        errors.append((out - truth).abs().max().item())
    slopes = [math.log2(a / b) for a, b in zip(errors, errors[1:])]
    assert all(s > 0 for s in slopes)
    assert slopes[-1] >= order, slopes


def test_ddim_solves_the_flow_of_a_gaussian(path):
    z = torch.linspace(-2, 2, 36).reshape(1, 3, 1, 3, 4)
    view = lambda a: a.double().view(1, -1, 1, 1, 1)
    truth = ode_solution(path, z.double(), view(MEAN), view(SD))
    out = ALL["ddim"][0].sample(gaussian(path), path, z, path.grid(300), None)
    torch.testing.assert_close(out.double(), truth, rtol=0, atol=0.03)


@pytest.mark.parametrize(
    ("name", "draws"),
    [
        ("ddpm", 9),
        ("ddpm beta", 9),
        ("ddim eta", 9),
        ("ddim", 0),
        ("dpm++2m", 0),
        ("dpm++2m-sde", 9),
        ("unipc", 0),
        ("unipc 3", 0),
        ("heun", 0),
        ("euler-maruyama", 9),
        ("predictor-corrector", 18),
        ("ode", 0),
        ("rectified-flow", 0),
        ("rectified-flow heun", 0),
    ],  # fmt: skip
)
def test_noise_is_asked_for_in_order_once_a_draw(name, draws, path):
    asked, z = [], torch.randn(2, 3, 1, 3, 4)

    def noise(k):
        asked.append(k)
        return torch.zeros_like(z)

    out = ALL[name][0].sample(gaussian(path), path, z, path.grid(10), noise)
    assert asked == list(range(draws)) and out.dtype == torch.float32


@pytest.mark.parametrize("name", list(ALL))
def test_the_last_step_returns_what_the_denoiser_says(name, path):
    said = torch.full((2, 3, 1, 3, 4), 0.25)
    out = ALL[name][0].sample(
        lambda z, t: (said, z), path, torch.randn_like(said), path.grid(3), lambda k: torch.randn_like(said)
    )
    torch.testing.assert_close(out, said)


@pytest.mark.parametrize("name", list(ALL))
def test_every_sample_is_its_own_whatever_the_batch(name, path):
    sampler = ALL[name][0]
    z, draws = torch.randn(4, 3, 1, 3, 4), torch.randn(20, 4, 3, 1, 3, 4)
    ts, denoise = path.grid(7), gaussian(path)
    whole = sampler.sample(denoise, path, z, ts, lambda k: draws[k])
    part = sampler.sample(denoise, path, z[2:3], ts, lambda k: draws[k, 2:3])
    torch.testing.assert_close(whole[2:3], part)


def test_times_given_to_the_network_are_whole_steps_for_every_sample(path):
    seen, z = [], torch.randn(2, 3, 1, 3, 4)

    def denoise(z, t):
        seen.append(t)
        return z, z

    ALL["dpm++2m"][0].sample(denoise, path, z, path.grid(25), None)
    k = torch.stack(seen) * 300
    assert k.shape == (25, 2) and k.dtype == torch.float64
    assert k[:, 0].round().tolist() == list(range(300, 0, -12)) and torch.equal(k[:, 0], k[:, 1])


def test_the_defaults_are_300_50_and_25_steps():
    assert (ALL["ddpm"][0].steps, build_ddim(Ddim(), None).steps, ALL["dpm++2m"][0].steps) == (300, 50, 25)
    with pytest.raises(ValueError, match="'eta' must be <= 1"):
        Ddim(eta=1.5)
