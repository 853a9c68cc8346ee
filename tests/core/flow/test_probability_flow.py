"""The flow in the angle: its relation to time, and its slope against the flow written in t."""

import math

import pytest
import torch

from gen_core.ddpm.beta_schedule import betas
from gen_core.ddpm.discrete_path import DiscretePath
from gen_core.flow.probability_flow import angle, first_time, radius, time_of, velocity
from gen_core.paths.rectified_flow_path import RectifiedFlowPath
from gen_core.paths.sub_vp_path import SubVpPath
from gen_core.paths.ve_path import VePath
from gen_core.paths.vp_path import VpPath

PATHS = [VpPath(), SubVpPath(), VePath(), RectifiedFlowPath()]


@pytest.mark.parametrize("path", PATHS, ids=lambda p: type(p).__name__)
def test_an_angle_is_the_time_it_came_from(path):
    for t in (1e-4, 0.03, 0.5, 0.98):
        theta = torch.tensor([angle(path, t)], dtype=torch.float64)
        assert time_of(path, theta).item() == pytest.approx(t, rel=1e-7)
    ends = torch.tensor([angle(path, 0.0), angle(path, 1.0), math.nextafter(math.pi / 2, 2)], dtype=torch.float64)
    torch.testing.assert_close(time_of(path, ends), torch.tensor([0, 1, 1], dtype=torch.float64))


@pytest.mark.parametrize("path", PATHS, ids=lambda p: type(p).__name__)
def test_the_slope_is_that_of_the_flow_in_time(path, mixture):
    """dz/dt = f z - g^2 score / 2 (Song et al. 2021, eq. 13) and u = z / radius, by differences."""
    t = torch.full((3,), 0.4, dtype=torch.float64)
    z, denoise, h = mixture.draw(3), mixture.denoise(path), 1e-6
    _, eps = denoise(z, t)
    f, g2, sigma = path.drift(t)[0], path.diffusion2(t)[0], path.sigma(t)[0]
    dz = f * z + 0.5 * g2 / sigma * eps
    du = ((z + h * dz) / radius(path, t + h)[0] - (z - h * dz) / radius(path, t - h)[0]) / (2 * h)
    d_theta = (angle(path, 0.4 + h) - angle(path, 0.4 - h)) / (2 * h)
    theta = torch.full((3,), angle(path, 0.4), dtype=torch.float64)
    ours = velocity(denoise, path)(z / radius(path, t)[0], theta)
    torch.testing.assert_close(ours * d_theta, du, rtol=1e-5, atol=1e-6)


def test_a_flow_in_pure_noise_is_finite(mixture):
    path = RectifiedFlowPath()
    z = mixture.draw(3)
    slope = velocity(mixture.denoise(path), path)(z, torch.full((3,), math.pi / 2, dtype=torch.float64))
    assert slope.isfinite().all()


def test_a_discrete_flow_stops_at_its_first_step():
    path = DiscretePath(betas("cosine", 300))
    assert first_time(path, 1e-5) == 1 / 300 and first_time(path, 0.1) == 0.1 and first_time(VpPath(), 1e-5) == 1e-5
