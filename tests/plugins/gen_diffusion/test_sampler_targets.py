"""Every sampler on every path: a mixture over whole samples, ends of the flow by scipy, orders of convergence."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from gen_core.flow.probability_flow import radius
from gen_core.paths.edm_path import EdmPath
from gen_core.paths.rectified_flow_path import RectifiedFlowPath
from gen_core.paths.sub_vp_path import SubVpPath
from gen_core.paths.ve_path import VePath
from gen_core.paths.vp_path import VpPath
from gen_diffusion import (
    ddim,
    ddpm,
    dpm_plus_plus,
    euler_maruyama,
    heun,
    ode,
    predictor_corrector,
    rectified_flow,
    unipc,
)
from gen_diffusion import sampler_options as opt

SHAPE = (1, 2, 3, 4)  # volumes; test_samplers.py has slices
WEIGHT, SD = (0.3, 0.7), (0.25, 0.4)
MEANS = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

# beta is small at first: an even grid would leave a good part of the noise to its last step
VP, SUB_VP = VpPath(spacing="log-snr"), SubVpPath(spacing="log-snr")
VE, RF = VePath(), RectifiedFlowPath()
PATHS = {"vp": VP, "sub-vp": SUB_VP, "ve": VE, "rectified flow": RF}
SAMPLERS = {
    "ddpm": (ddpm.build(opt.Ddpm()), 300),
    "ddim": (ddim.build(opt.Ddim()), 150),
    "ddim eta": (ddim.build(opt.Ddim(eta=1.0)), 300),
    "dpm++2m": (dpm_plus_plus.build(opt.DpmPlusPlus2M()), 50),
    "dpm++2m-sde": (dpm_plus_plus.build(opt.DpmPlusPlus2MSde()), 80),
    "unipc": (unipc.build(opt.Unipc()), 40),
    "heun": (heun.build(opt.Heun()), 40),
    "heun churn": (heun.build(opt.Heun(S_churn=10.0, S_tmin=0.05, S_tmax=50.0)), 60),
    "euler-maruyama": (euler_maruyama.build(opt.EulerMaruyama()), 300),
    "predictor-corrector": (predictor_corrector.build(opt.PredictorCorrector()), 150),
    "ode": (ode.build(opt.Ode()), 1),
    "rectified-flow": (rectified_flow.build(opt.RectifiedFlow()), 150),
    "rectified-flow heun": (rectified_flow.build(opt.RectifiedFlow(method="heun")), 40),
}


def wide(value):
    return value.double().reshape(-1, 1, 1, 1, 1)


def components(z, alpha, sigma):
    """z - alpha m, its variance and ln(w N) of each component; N(m_k, s_k^2) over all values of a sample together."""
    found = []
    for w, s, m in zip(WEIGHT, SD, MEANS):
        d, v = z.double() - alpha * m, alpha**2 * s**2 + sigma**2
        found.append((d, v, math.log(w) - 0.5 * (d**2 / v + v.log()).flatten(1).sum(1)))
    return found


def exact(path):
    """E[z_0 | z_t] and its eps, in closed form."""

    def denoise(z, t):
        alpha, sigma = wide(path.alpha(t.double())), wide(path.sigma(t.double()))
        found = components(z, alpha, sigma)
        share = torch.stack([ln for *_, ln in found]).softmax(0)
        z_0 = sum(wide(r) * (m + alpha * s**2 / v * d) for r, s, m, (d, v, _) in zip(share, SD, MEANS, found))
        return z_0.to(z.dtype), ((z - alpha * z_0) / sigma).to(z.dtype)

    return denoise


@pytest.mark.parametrize("which", list(PATHS))
@pytest.mark.parametrize("name", list(SAMPLERS))
def test_a_mixture_has_its_weights_means_and_variances(name, which):
    sampler, steps = SAMPLERS[name]
    path, n = PATHS[which], 600
    generator = torch.Generator().manual_seed(0)
    draw = lambda k: torch.randn(n, *SHAPE, generator=generator)
    ts = path.grid(steps)
    z_0 = sampler.sample(exact(path), path, draw(0) * path.sigma(ts[:1]).float(), ts, draw).double()
    one, zero = wide(torch.ones(1)), wide(torch.zeros(1))
    of = torch.stack([ln for *_, ln in components(z_0, one, zero)]).argmax(0)
    for k in range(2):
        share = (of == k).double().mean().item()
        assert abs(share - WEIGHT[k]) < 4 * math.sqrt(0.3 * 0.7 / n)
        off = z_0[of == k] - MEANS[k]
        assert off.mean(0).abs().max() < 4.5 * SD[k] / math.sqrt(share * n) + 0.02 * SD[k]
        # 24 values of 180 samples: the standard error of the smaller sd is 1.1 %
        assert off.square().mean().sqrt().item() == pytest.approx(SD[k], rel=0.04)


def flow_by_scipy(path, z, start, end):
    """dz/dt = f z + g^2 / (2 sigma) eps (Song et al. 2021, eq. 13), in t; the straight path's eps - z_0 at t = 1."""
    denoise = exact(path)

    def slope(t, flat):
        at, x = torch.full((len(z),), t, dtype=torch.float64), torch.from_numpy(flat).reshape(z.shape)
        z_0, eps = denoise(x, at)
        if path is RF:
            return (eps - z_0).numpy().ravel()
        return (path.drift(at)[0] * x + 0.5 * path.diffusion2(at)[0] / path.sigma(at)[0] * eps).numpy().ravel()

    flow = solve_ivp(slope, (start, end), z.numpy().ravel(), method="DOP853", rtol=1e-8, atol=1e-9)
    return torch.from_numpy(flow.y[:, -1]).reshape(z.shape)


def start_of(path, n=5):
    generator = torch.Generator().manual_seed(8)
    return torch.randn(n, *SHAPE, generator=generator, dtype=torch.float64) * path.sigma(torch.ones(1)).item()


@pytest.mark.parametrize("path", [*PATHS.values(), EdmPath()], ids=lambda p: type(p).__name__)
def test_the_ode_ends_where_scipy_ends(path):
    z, ts = start_of(path), torch.tensor([1.0, 0.03], dtype=torch.float64)
    ours = SAMPLERS["ode"][0].sample(exact(path), path, z, ts, None)
    truth = flow_by_scipy(path, z, 1.0, 0.03)
    torch.testing.assert_close(ours, truth, rtol=1e-3, atol=1e-3)
    single = SAMPLERS["ode"][0].sample(exact(path), path, z.float(), ts, None)
    torch.testing.assert_close(single.double(), truth, rtol=1e-3, atol=1e-3)


def test_the_ode_to_the_data_hands_over_to_the_denoiser():
    z = start_of(VP)
    to_data = ode.build(opt.Ode(end=0.02)).sample(exact(VP), VP, z, VP.grid(1), None)
    end = torch.full((5,), 0.02, dtype=torch.float64)
    stopped = SAMPLERS["ode"][0].sample(exact(VP), VP, z, torch.tensor([1.0, 0.02], dtype=torch.float64), None)
    torch.testing.assert_close(to_data, exact(VP)(stopped, end)[0])


def test_the_ode_runs_back_into_the_noise():
    """Encoding: the flow is walked in either direction."""
    z, ts = start_of(VP), torch.tensor([1.0, 0.05], dtype=torch.float64)
    there = SAMPLERS["ode"][0].sample(exact(VP), VP, z, ts, None)
    back = SAMPLERS["ode"][0].sample(exact(VP), VP, there, ts.flip(0), None)
    torch.testing.assert_close(back, z, rtol=1e-3, atol=1e-3)


# The straight path starts where lambda is finite: steps from pure noise have no history, and cost a logarithm of n.
STARTS = {"vp": 1.0, "rectified flow": 0.95}


@cache
def ends(which):
    """Where the flow is at t = 0.2."""
    return flow_by_scipy(PATHS[which], start_of(PATHS[which]), STARTS[which], 0.2)


ORDERS = {"ddim": 0.9, "dpm++2m": 1.8, "unipc": 2.7, "heun": 1.8, "rectified-flow": 0.9, "rectified-flow heun": 1.8}


@pytest.mark.parametrize("which", ["vp", "rectified flow"])
@pytest.mark.parametrize("name", list(ORDERS))
def test_deterministic_samplers_converge_at_their_order(name, which):
    path, end = PATHS[which], 0.2
    z, truth = start_of(path), ends(which)
    errors = []
    for n in (40, 80, 160):
        ts = torch.linspace(STARTS[which], end, n + 1, dtype=torch.float64)
        out = SAMPLERS[name][0].sample(exact(path), path, z, ts, None)
        errors.append(((out - truth) / radius(path, ts[-1:]).item()).square().mean().sqrt().item())
    slope = np.polyfit(np.log(1 / np.array([40, 80, 160])), np.log(errors), 1)[0]
    assert slope >= ORDERS[name], (slope, errors)
