"""What every path, sampler and prior must keep: the checks that third parties' plugins run as well."""

import pytest
import torch
from attrs import evolve

from gen_core.batch import Batch
from gen_core.ddpm.beta_schedule import betas
from gen_core.ddpm.discrete_path import DiscretePath
from gen_core.paths.rectified_flow_path import RectifiedFlowPath
from gen_core.prior import PriorContext
from gen_core.testing.diffusion import check_path, check_sampler
from gen_core.testing.trainables import check_prior, check_trainable
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
from gen_diffusion.ddpm3d import build
from gen_diffusion.ddpm3d_options import Ddpm3d
from gen_diffusion.sampler_options import Ddim, Ddpm, DpmPlusPlus2M

SHAPE = (3, 2, 5, 6)
SAMPLERS = {
    "ddpm": ddpm.build(Ddpm()),
    "ddpm beta": ddpm.build(Ddpm(variance="beta")),
    "ddim": ddim.build(Ddim()),
    "ddim eta": ddim.build(Ddim(eta=0.7)),
    "dpm++2m": dpm_plus_plus.build(DpmPlusPlus2M()),
}


@pytest.mark.parametrize("name", ["cosine", "linear", "scaled-linear"])
def test_paths_keep_the_contract(name):
    path = DiscretePath(betas(name, 300))
    assert path.steps == 300
    check_path(path)


@pytest.mark.parametrize("name", list(SAMPLERS))
@pytest.mark.parametrize("schedule", ["continuous", "cosine"])
def test_samplers_keep_the_contract_on_discrete_and_continuous_paths(name, schedule):
    path = None if schedule == "continuous" else DiscretePath(betas("cosine", 300))
    assert SAMPLERS[name].steps in (25, 50, 300)
    check_sampler(SAMPLERS[name], path)


CONTINUOUS = {
    "dpm++2m-sde": (dpm_plus_plus.build(opt.DpmPlusPlus2MSde()), 60),
    "unipc": (unipc.build(opt.Unipc(order=3)), 30),
    "heun": (heun.build(opt.Heun(S_churn=10.0, S_tmin=0.05, S_tmax=50.0)), 40),
    "euler-maruyama": (euler_maruyama.build(opt.EulerMaruyama()), 150),
    "predictor-corrector": (predictor_corrector.build(opt.PredictorCorrector()), 100),
    "ode": (ode.build(opt.Ode()), 1),
    "rectified-flow": (rectified_flow.build(opt.RectifiedFlow(method="heun")), 40),
}


@pytest.mark.parametrize("name", list(CONTINUOUS))
def test_samplers_keep_the_contract_on_a_path_that_starts_in_pure_noise(name):
    sampler, steps = CONTINUOUS[name]
    check_sampler(sampler, RectifiedFlowPath(), steps)


@pytest.mark.parametrize("predict", ["eps", "x0", "v"])
def test_the_prior_keeps_the_contract(predict):
    torch.manual_seed(0)
    options = evolve(Ddpm3d(base=8, multipliers=(1, 2), heads=2, head_dim=4), predict=predict, min_snr_gamma=5.0)
    prior = build(options, PriorContext(shape=SHAPE))
    assert prior.shape == SHAPE
    check_prior(prior)
    check_trainable(prior, Batch(torch.randn(4, *SHAPE)))
