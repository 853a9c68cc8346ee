"""Whole sampling loops against `diffusers` on the same betas, noise and network."""

import numpy as np
import pytest
import torch

from gen_core.ddpm.beta_schedule import betas
from gen_core.ddpm.discrete_path import DiscretePath
from gen_core.paths.edm_path import EdmPath
from gen_core.paths.rectified_flow_path import RectifiedFlowPath
from gen_diffusion import heun, rectified_flow, unipc
from gen_diffusion import sampler_options as opt
from gen_diffusion.ddim import build as build_ddim
from gen_diffusion.ddpm import build as build_ddpm
from gen_diffusion.dpm_plus_plus import build as build_dpm
from gen_diffusion.sampler_options import Ddim, Ddpm, DpmPlusPlus2M

SHAPE = (2, 3, 1, 5, 4)
SCHEDULES = {
    "cosine": betas("cosine", 300),
    "scaled-linear": betas("scaled-linear", 1000, beta_start=0.0015, beta_end=0.0195),
    "linear": betas("linear", 200, beta_start=1e-4, beta_end=0.03),
}


@pytest.fixture(params=list(SCHEDULES))
def schedule(request):
    return request.param, SCHEDULES[request.param]


def bounded(wave):
    """As eps networks are near t = 1: close to z itself, so that z_0 stays bounded there."""
    return lambda z, index, T: z - (1 - index / T) ** 2 * (z - wave(z, index))


def draws(seed, n):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(SHAPE, generator=generator) for _ in range(n + 1)]


def theirs(scheduler, steps, z, noises, network, monkeypatch, module, **kw):
    """The peer's loop; its randn gives our noises in order."""
    fresh = iter(noises)
    if module.__name__.endswith(("ddpm", "ddim")):
        # Its own tables are float32: beta_1 then carries an error of 1e-4, and that is not what is compared.
        scheduler.betas = torch.from_numpy(scheduler.config.trained_betas)
        scheduler.alphas = 1.0 - scheduler.betas
        scheduler.alphas_cumprod = scheduler.alphas.cumprod(0)
    monkeypatch.setattr(module, "randn_tensor", lambda *a, **k: next(fresh))
    scheduler.set_timesteps(steps)
    for index in scheduler.timesteps:
        z = scheduler.step(network(z, index), index, z, return_dict=False, **kw)[0]
    return z, [int(i) + 1 for i in scheduler.timesteps]


def ours(sampler, path, steps, z, noises, network, denoise_of):
    ts = path.grid(steps)
    out = sampler.sample(denoise_of(network, path), path, z, ts, lambda k: noises[k])
    return out, (ts[:-1] * path.steps).round().int().tolist()


def compare(a, b, tolerance):
    assert a[1] == b[1], "the grids differ"
    scale = b[0].abs().max().item()
    assert torch.isfinite(b[0]).all() and scale < 1e3
    assert (a[0] - b[0]).abs().max().item() <= tolerance * max(scale, 1.0)


@pytest.mark.parametrize("steps", [10, None])
@pytest.mark.parametrize(("variance", "name"), [("posterior", "fixed_small"), ("beta", "fixed_large")])
def test_ancestral_sampling_equals_diffusers(schedule, steps, variance, name, wave, denoise_of, monkeypatch):
    import diffusers.schedulers.scheduling_ddpm as peer

    b = schedule[1]
    steps = steps or len(b)
    network = lambda z, i: bounded(wave)(z, i, len(b))
    z, *noises = draws(1, steps)
    scheduler = peer.DDPMScheduler(
        len(b), trained_betas=b, variance_type=name, clip_sample=False, timestep_spacing="trailing"
    )
    # The peer adds beta_t noise to the last of respaced steps too; none is right there: z_0 is the sample.
    noises[steps - 1].zero_()
    a = theirs(scheduler, steps, z, noises, network, monkeypatch, peer)
    path = DiscretePath(b)
    sampler = build_ddpm(Ddpm(variance=variance), None)
    compare(ours(sampler, path, steps, z, noises, network, denoise_of), a, 1e-4)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_ddim_equals_diffusers(schedule, eta, wave, denoise_of, monkeypatch):
    import diffusers.schedulers.scheduling_ddim as peer

    b, steps = schedule[1], 50
    network = lambda z, i: bounded(wave)(z, i, len(b))
    z, *noises = draws(2, steps)
    scheduler = peer.DDIMScheduler(
        len(b), trained_betas=b, clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing"
    )
    a = theirs(scheduler, steps, z, noises, network, monkeypatch, peer, eta=eta)
    compare(ours(build_ddim(Ddim(eta=eta), None), DiscretePath(b), steps, z, noises, network, denoise_of), a, 1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the peer, under a new numpy
@pytest.mark.parametrize("steps", [5, 25, 50])
def test_dpm_plus_plus_equals_diffusers(schedule, steps, wave, denoise_of, monkeypatch):
    import diffusers.schedulers.scheduling_dpmsolver_multistep as peer

    b = schedule[1]
    network = lambda z, i: bounded(wave)(z, i, len(b))
    z, *noises = draws(3, 1)
    scheduler = peer.DPMSolverMultistepScheduler(
        len(b), trained_betas=b, solver_order=2, algorithm_type="dpmsolver++", solver_type="midpoint",
        final_sigmas_type="zero", timestep_spacing="trailing",
    )  # fmt: skip
    a = theirs(scheduler, steps, z, noises, network, monkeypatch, peer)
    compare(
        ours(build_dpm(DpmPlusPlus2M(), None), DiscretePath(b), steps, z, noises, network, denoise_of),
        a,
        1e-4,
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the peer, under a new numpy
@pytest.mark.parametrize("steps", [5, 25])
def test_stochastic_dpm_plus_plus_equals_diffusers(schedule, steps, wave, denoise_of, monkeypatch):
    import diffusers.schedulers.scheduling_dpmsolver_multistep as peer

    b = schedule[1]
    network = lambda z, i: bounded(wave)(z, i, len(b))
    z, *noises = draws(4, steps)
    scheduler = peer.DPMSolverMultistepScheduler(
        len(b), trained_betas=b, solver_order=2, algorithm_type="sde-dpmsolver++", solver_type="midpoint",
        final_sigmas_type="zero", timestep_spacing="trailing",
    )  # fmt: skip
    a = theirs(scheduler, steps, z, noises, network, monkeypatch, peer)
    compare(ours(build_dpm(opt.DpmPlusPlus2MSde()), DiscretePath(b), steps, z, noises, network, denoise_of), a, 1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the peer, under a new numpy
@pytest.mark.parametrize("steps", [5, 25])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc_equals_diffusers(schedule, order, steps, wave, denoise_of):
    import diffusers.schedulers.scheduling_unipc_multistep as peer

    b = schedule[1]
    network = lambda z, i: bounded(wave)(z, i, len(b))
    (z,) = draws(5, 0)
    scheduler = peer.UniPCMultistepScheduler(
        len(b), trained_betas=b, solver_order=order, timestep_spacing="trailing", final_sigmas_type="zero"
    )
    scheduler.set_timesteps(steps)
    x = z
    for index in scheduler.timesteps:
        x = scheduler.step(network(x, index), index, x, return_dict=False)[0]
    a = x, [int(i) + 1 for i in scheduler.timesteps]
    sampler = unipc.build(opt.Unipc(order=order))
    compare(ours(sampler, DiscretePath(b), steps, z, [], network, denoise_of), a, 1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the peer, under a new numpy
@pytest.mark.parametrize("order", [2, 3])
def test_unipc_with_the_other_b_of_h_equals_diffusers_above_the_data(schedule, order, wave, denoise_of):
    """At sigma = 0 the peer's bh1 is not finite: both stop at half the first step instead."""
    import diffusers.schedulers.scheduling_unipc_multistep as peer

    b, steps = schedule[1], 10
    path, (z,) = DiscretePath(b), draws(6, 0)
    ts = path.grid(steps)
    ts[-1] = 0.5 / len(b)
    network = lambda z, i: bounded(wave)(z, i, len(b))
    scheduler = peer.UniPCMultistepScheduler(
        len(b), trained_betas=b, solver_order=order, solver_type="bh1", timestep_spacing="trailing",
        final_sigmas_type="zero", lower_order_final=False,
    )  # fmt: skip
    scheduler.set_timesteps(steps)
    scheduler.sigmas[-1] = (-0.5 * path.log_snr(ts[-1:])).exp().item()
    x = z
    for index in scheduler.timesteps:
        x = scheduler.step(network(x, index), index, x, return_dict=False)[0]
    out = unipc.build(opt.Unipc(order=order, variant="bh1")).sample(denoise_of(network, path), path, z, ts, None)
    torch.testing.assert_close(out, x, rtol=1e-4, atol=1e-4 * x.abs().max().item())


def leveled(wave, path):
    """`denoise` of an eps network that is told the noise level sigma / alpha, on any path; and the network."""

    def eps(z, level):
        return z / (1 + level**2) ** 0.5 + 0.2 * wave(z / (1 + level**2) ** 0.5, 10 * level)

    def denoise(z, t):
        alpha, sigma = path.alpha(t[0]).item(), path.sigma(t[0]).item()
        said = eps(z, sigma)
        return (z - sigma * said) / alpha, said

    return denoise, eps


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the peer, under a new numpy
def test_heun_equals_diffusers_on_its_levels(wave):
    """The peer walks in z / alpha: a path that keeps alpha at 1, with the levels of the discrete schedule."""
    from diffusers import HeunDiscreteScheduler

    scheduler = HeunDiscreteScheduler(
        1000, trained_betas=SCHEDULES["scaled-linear"], timestep_spacing="trailing", use_karras_sigmas=False
    )
    scheduler.set_timesteps(12)
    levels = torch.cat([scheduler.sigmas[:1], scheduler.sigmas[1::2]]).double()
    path = EdmPath(sigma_max=levels[0].item())
    denoise, eps = leveled(wave, path)
    z = draws(7, 0)[0] * levels[0].item()
    x = z
    for i, index in enumerate(scheduler.timesteps):
        x = scheduler.step(eps(x, scheduler.sigmas[i + 1 if i % 2 else i].item()), index, x, return_dict=False)[0]
    out = heun.build(opt.Heun()).sample(denoise, path, z, levels / levels[0], None)
    torch.testing.assert_close(out, x, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the peer, under a new numpy
def test_heun_with_churn_equals_diffusers(wave, monkeypatch):
    import diffusers.schedulers.deprecated.scheduling_karras_ve as peer

    z, *noises = draws(8, 20)
    path = EdmPath(sigma_min=0.02, sigma_max=40.0)
    ts, fresh = path.grid(20), iter(noises)
    denoise, eps = leveled(wave, path)
    scheduler = peer.KarrasVeScheduler(s_churn=6.0, s_noise=1.007, s_min=0.05, s_max=30.0)
    scheduler.set_timesteps(20)
    levels = path.sigma(ts).tolist()
    monkeypatch.setattr(peer, "randn_tensor", lambda *a, **k: next(fresh))
    z = x = z * levels[0]
    churned = 0
    for level, after in zip(levels[:-1], levels[1:]):
        # it draws at every step and adds where it churns: ours draws for those alone
        inside = 0.05 <= level <= 30.0
        x_hat, hat = scheduler.add_noise_to_input(x, level) if inside else (x, level)
        churned += inside
        said = -eps(x_hat, hat)
        step = scheduler.step(said, hat, after, x_hat)
        x = step.prev_sample
        if after > 0:
            x = scheduler.step_correct(-eps(x, after), hat, after, x_hat, x, step.derivative).prev_sample
    assert 5 < churned < 19
    sampler = heun.build(opt.Heun(S_churn=6.0, S_noise=1.007, S_tmin=0.05, S_tmax=30.0))
    out = sampler.sample(denoise, path, z, ts, lambda k: noises[k])
    torch.testing.assert_close(out, x, rtol=1e-4, atol=1e-4)


def straight(wave):
    """A velocity network of (z, t) and `denoise` of it on the straight path."""
    velocity = lambda z, t: 0.7 * wave(z, 100 * t) - 0.4 * z
    return velocity, lambda z, t: (z - t[0].float() * velocity(z, t[0]), z + (1 - t[0].float()) * velocity(z, t[0]))


def test_rectified_flow_equals_diffusers_with_explicit_sigmas(wave):
    from diffusers import FlowMatchEulerDiscreteScheduler

    ts = torch.cat([torch.linspace(1.0, 0.15, 9).sqrt(), torch.zeros(1)]).double()
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=ts[:-1].tolist())
    velocity, denoise = straight(wave)
    z = x = draws(9, 0)[0]
    for index, t in zip(scheduler.timesteps, ts):
        x = scheduler.step(velocity(x, t), index, x, return_dict=False)[0]
    out = rectified_flow.build(opt.RectifiedFlow()).sample(denoise, RectifiedFlowPath(), z, ts, None)
    torch.testing.assert_close(out, x, rtol=1e-4, atol=1e-5)


def test_rectified_flow_by_heun_equals_diffusers(wave):
    from diffusers import FlowMatchHeunDiscreteScheduler

    scheduler = FlowMatchHeunDiscreteScheduler(1000, shift=2.0)
    scheduler.set_timesteps(9)
    ts = torch.cat([scheduler.sigmas[:1], scheduler.sigmas[1::2]]).double()
    velocity, denoise = straight(wave)
    z = x = draws(10, 0)[0]
    for index in scheduler.timesteps:
        x = scheduler.step(velocity(x, index / 1000), index, x, return_dict=False)[0]
    sampler = rectified_flow.build(opt.RectifiedFlow(method="heun"))
    out = sampler.sample(denoise, RectifiedFlowPath(), z, ts, None)
    torch.testing.assert_close(out, x, rtol=1e-4, atol=1e-5)


def test_the_schedules_equal_diffusers_betas():
    from diffusers import DDPMScheduler

    peer = DDPMScheduler(100, beta_schedule="scaled_linear", beta_start=0.0015, beta_end=0.0195)
    np.testing.assert_allclose(peer.betas.numpy(), betas("scaled-linear", 100), rtol=1e-5)
    peer = DDPMScheduler(100, beta_schedule="squaredcos_cap_v2")  # clips at 0.999
    np.testing.assert_allclose(peer.betas.numpy(), betas("cosine", 100, clip=0.999), rtol=1e-4)
