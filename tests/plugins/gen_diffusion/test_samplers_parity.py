"""Whole sampling loops against `diffusers` on the same betas, noise and network."""

import numpy as np
import pytest
import torch

from gen_core.ddpm.beta_schedule import betas
from gen_core.ddpm.discrete_path import DiscretePath
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
    compare(
        ours(sampler, path, steps, z, noises, network, denoise_of),
        a,
        1e-3 if schedule[0] == "cosine" else 1e-4,
    )


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


def test_the_schedules_equal_diffusers_betas():
    from diffusers import DDPMScheduler

    peer = DDPMScheduler(100, beta_schedule="scaled_linear", beta_start=0.0015, beta_end=0.0195)
    np.testing.assert_allclose(peer.betas.numpy(), betas("scaled-linear", 100), rtol=1e-5)
    peer = DDPMScheduler(100, beta_schedule="squaredcos_cap_v2")  # clips at 0.999
    np.testing.assert_allclose(peer.betas.numpy(), betas("cosine", 100, clip=0.999), rtol=1e-4)
