"""The noise path: knots, interpolation, log-SNR and its inverse, drift and diffusion, grids."""

import numpy as np
import pytest
import torch

from gen_core.ddpm.beta_schedule import betas
from gen_core.ddpm.discrete_path import DiscretePath
from gen_core.errors import RecipeError


@pytest.fixture(params=["cosine", "linear"])
def path(request):
    return DiscretePath(betas(request.param, 30, beta_start=1e-3, beta_end=0.2))


def alpha_bar_of(path, name="cosine"):
    return np.cumprod(1.0 - betas(name, 30, beta_start=1e-3, beta_end=0.2))


def test_knots_are_the_cumulative_product_of_the_betas():
    path = DiscretePath(betas("cosine", 30))
    k = torch.arange(1, 31)
    for t in (k.double() / 30, k.float() / 30):  # float32 k / T must hit its knot as well
        np.testing.assert_allclose(path.alpha(t.double()).numpy() ** 2, alpha_bar_of(path), rtol=1e-12)
        assert path.alpha(t).dtype == t.dtype
    start = torch.zeros(1, dtype=torch.float64)
    assert path.alpha(start) == 1 and path.sigma(start) == 0


def test_the_path_preserves_variance_between_knots(path):
    t = torch.rand(200, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(path.alpha(t) ** 2 + path.sigma(t) ** 2, torch.ones_like(t), rtol=1e-12, atol=0)
    middle = torch.tensor([14.5 / 30], dtype=torch.float64)
    ends = path.alpha(torch.tensor([14 / 30, 15 / 30], dtype=torch.float64))
    torch.testing.assert_close(path.alpha(middle)[0], ends.prod().sqrt())  # ln alpha is linear between them


def test_drift_and_diffusion_are_the_derivatives_of_the_path(path):
    t = (torch.arange(30, dtype=torch.float64) + 0.5) / 30
    h = 1e-6
    f = (path.alpha(t + h).log() - path.alpha(t - h).log()) / (2 * h)
    torch.testing.assert_close(path.drift(t), f, rtol=1e-6, atol=1e-6)
    d_sigma2 = (path.sigma(t + h) ** 2 - path.sigma(t - h) ** 2) / (2 * h)
    torch.testing.assert_close(path.diffusion2(t), d_sigma2 - 2 * f * path.sigma(t) ** 2, rtol=1e-5, atol=1e-5)


def test_log_snr_falls_and_its_inverse_returns_the_time(path):
    t = torch.linspace(0.001, 1, 333, dtype=torch.float64)
    value = path.log_snr(t)
    assert (value.diff() < 0).all()
    torch.testing.assert_close(value, (path.alpha(t) ** 2 / path.sigma(t) ** 2).log(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(path.log_snr_inverse(value), t, rtol=1e-9, atol=1e-9)
    beyond = path.log_snr_inverse(torch.tensor([1e4, -1e4], dtype=torch.float64))
    assert beyond.tolist() == [0.0, 1.0]


def test_sigma_keeps_its_digits_near_the_data():
    path = DiscretePath(np.full(1000, 1e-9))
    t = torch.tensor([1 / 1000], dtype=torch.float64)
    assert path.sigma(t).item() == pytest.approx(np.sqrt(1e-9), rel=1e-6)


def test_a_grid_walks_whole_steps_from_one_to_zero(path):
    for n in (1, 7, 29, 30):
        ts = path.grid(n)
        k = ts * 30
        assert ts.dtype == torch.float64 and len(ts) == n + 1
        assert ts[0] == 1 and ts[-1] == 0 and (ts.diff() < 0).all()
        torch.testing.assert_close(k, k.round(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [0, 31])
def test_more_steps_than_the_schedule_has_are_refused(path, n):
    with pytest.raises(RecipeError, match=r"steps = .*30 steps allows 1..30"):
        path.grid(n)
