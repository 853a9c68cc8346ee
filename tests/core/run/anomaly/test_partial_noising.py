"""Times from the middle of a path, and denoising from there, where the answer is known."""

import numpy as np
import pytest
import torch

from gen_core.ddpm.discrete_path import DiscretePath
from gen_core.engine.seeds import sample_noise
from gen_core.errors import UsageError
from gen_core.options import SampleOptions
from gen_core.paths.edm_path import EdmPath
from gen_core.paths.rectified_flow_path import RectifiedFlowPath
from gen_core.paths.ve_path import VePath
from gen_core.paths.vp_path import VpPath
from gen_core.prior import DiffusionPrior
from gen_core.run.anomaly.partial_noising import denoised_from, share_of, times_from
from gen_core.testing.diffusion import LinearPath
from gen_diffusion.ddim import build as ddim
from gen_diffusion.sampler_options import Ddim

SHAPE = (2, 3, 4, 5)


class Gaussian(DiffusionPrior):
    """The exact prior of N(mean, sd^2), voxel by voxel."""

    shape = SHAPE

    def __init__(self, mean, sd, path=None):
        super().__init__()
        self.mean, self.sd, self.asked = mean, sd, []
        self.path = path or DiscretePath(np.linspace(1e-4, 0.02, 1000))

    def denoise(self, z_t, t, cond=None):
        self.asked.append(float(t.ravel()[0]))
        alpha, sigma = (f(t.double()).float().reshape(-1, 1, 1, 1, 1) for f in (self.path.alpha, self.path.sigma))
        share = alpha * self.sd**2 / (alpha**2 * self.sd**2 + sigma**2)
        z_0 = self.mean + share * (z_t - alpha * self.mean)
        return z_0, (z_t - alpha * z_0) / sigma


def test_users_count_in_steps_of_the_schedule_or_thousandths():
    path = DiscretePath(np.linspace(1e-4, 0.1, 200))
    assert share_of(50, path) == 0.25 and share_of(200, path) == 1.0
    assert share_of(250, LinearPath()) == 0.25
    with pytest.raises(UsageError, match=r"t = 201: expected 0\.\.200"):
        share_of(201, path)


def test_times_are_the_path_s_grid_below_the_start():
    path = DiscretePath(np.linspace(1e-4, 0.02, 1000))
    assert times_from(path, 0.3, 10).tolist() == [0.3, 0.2, 0.1, 0.0]  # the start lies on the grid: no step twice
    assert times_from(path, 0.25, 10).tolist() == [0.25, 0.2, 0.1, 0.0]
    assert times_from(path, 0.025, 10).tolist() == [0.025, 0.0]
    assert times_from(path, 1.0, 4).tolist() == path.grid(4).tolist()
    every = times_from(path, 0.3, 1000)
    assert len(every) == 301 and (every.diff() < 0).all() and every.dtype == torch.float64


PATHS = {
    "vp": VpPath(),
    "ve": VePath(),
    "edm": EdmPath(),
    "rectified-flow": RectifiedFlowPath(),
    "discrete": DiscretePath(np.linspace(1e-4, 0.02, 1000)),
}


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("start", [0.1, 0.5])
def test_a_gaussian_prior_leads_to_the_point_of_its_own_flow(start, name):
    prior = Gaussian(torch.full(SHAPE, 0.4), 0.2, PATHS[name])
    z_0 = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0))
    noise = sample_noise(5, [7, 8, 9], SHAPE)
    ts = times_from(prior.path, start, 1000)
    got = denoised_from(z_0, ts, prior=prior, sampler=ddim(Ddim()), options=SampleOptions(), noise=noise)
    alpha, sigma = (float(f(ts[:1])) for f in (prior.path.alpha, prior.path.sigma))
    z_t = alpha * z_0 + sigma * noise(0)
    # the flow keeps each value's quantile: (z - alpha m) / sqrt(alpha^2 s^2 + sigma^2) is constant along it
    want = 0.4 + 0.2 * (z_t - alpha * 0.4) / (alpha**2 * 0.04 + sigma**2) ** 0.5
    assert (got - want).abs().max() < 0.02  # of a first-order sampler; z_0 goes up to 3
    assert max(prior.asked) == pytest.approx(start)


def test_little_noise_changes_little():
    prior = Gaussian(torch.zeros(SHAPE), 1.0)
    z_0 = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    changes = []
    for t in (10, 100, 900):
        ts = times_from(prior.path, share_of(t, prior.path), 200)
        options, noise = SampleOptions(), sample_noise(0, [0, 1], SHAPE)
        got = denoised_from(z_0, ts, prior=prior, sampler=ddim(Ddim()), options=options, noise=noise)
        changes.append((got - z_0).abs().mean().item())
    assert changes[0] < 0.1 < changes[1] < changes[2]


def test_the_clamp_of_samples_holds_here_too():
    prior = Gaussian(torch.full(SHAPE, 3.0), 0.01)
    ts = times_from(prior.path, 0.8, 20)
    settings = {"prior": prior, "sampler": ddim(Ddim()), "noise": sample_noise(0, [0], SHAPE)}
    free = denoised_from(torch.zeros(1, *SHAPE), ts, options=SampleOptions(), **settings)
    bound = denoised_from(torch.zeros(1, *SHAPE), ts, options=SampleOptions(clamp=1.0), **settings)
    assert free.min() > 2.5 and bound.max() <= 1.0 + 1e-5
