"""The likelihood against closed forms: a normal, a mixture over whole samples; probes, precision, discrete paths."""

import math

import pytest
import torch
from scipy.linalg import hadamard

from gen_core.ddpm.beta_schedule import betas
from gen_core.ddpm.discrete_path import DiscretePath
from gen_core.flow.likelihood import bits_per_dim, log_likelihood
from gen_core.paths.edm_path import EdmPath
from gen_core.paths.rectified_flow_path import RectifiedFlowPath
from gen_core.paths.sub_vp_path import SubVpPath
from gen_core.paths.ve_path import VePath
from gen_core.paths.vp_path import VpPath
from gen_core.testing import gaussian_denoise

PATHS = [VpPath(), SubVpPath(), VePath(), EdmPath(), RectifiedFlowPath()]


def probes(like, seed=1):
    return lambda k: torch.randn(like.shape, generator=torch.Generator().manual_seed(seed + k)).to(like)


def exact(like):
    """Rows of a Hadamard matrix: with as many probes as values the estimate is the trace itself."""
    rows = torch.from_numpy(hadamard(16)).to(like)
    return lambda k: rows[k].reshape(1, *like.shape[1:]).expand_as(like)


@pytest.mark.parametrize("path", PATHS, ids=lambda p: type(p).__name__)
def test_the_density_of_a_mixture_is_found_within_one_percent(path, mixture):
    z = mixture.draw(6)
    found = log_likelihood(mixture.denoise(path), path, z, exact(z), probes=16)
    truth = mixture.log_p(z)
    assert found.dtype == torch.float64 and truth.abs().min() > 5
    torch.testing.assert_close(found, truth, rtol=0.01, atol=0)


@pytest.mark.parametrize("path", [VpPath(), VePath(), RectifiedFlowPath()], ids=lambda p: type(p).__name__)
def test_one_probe_is_exact_where_values_are_independent(path):
    z = 0.4 + 0.6 * torch.randn(3, 2, 1, 5, 4, generator=torch.Generator().manual_seed(0))
    found = log_likelihood(gaussian_denoise(path, 0.4, 0.6), path, z, probes(z))
    truth = torch.distributions.Normal(0.4, 0.6).log_prob(z.double()).flatten(1).sum(1)
    torch.testing.assert_close(found, truth, rtol=0.01, atol=0)


def test_a_discrete_path_gives_the_density_at_its_first_step(mixture):
    path = DiscretePath(betas("cosine", 300))
    z, at = mixture.draw(4), torch.tensor([1 / 300], dtype=torch.float64)
    found = log_likelihood(mixture.denoise(path), path, z, exact(z), probes=16)
    torch.testing.assert_close(found, mixture.log_p(z, path.alpha(at), path.sigma(at)), rtol=0.01, atol=0)


def test_random_probes_are_right_on_average(mixture):
    """One sample many times over, each with a probe of its own: the mean is within four standard errors."""
    z = mixture.draw(1).expand(400, *mixture.shape).contiguous()
    found = log_likelihood(mixture.denoise(VpPath()), VpPath(), z, probes(z))
    spread = found.std() / 20
    assert spread > 0 and (found.mean() - mixture.log_p(z)[0]).abs() < 4 * spread + 0.01


def test_likelihood_is_found_without_gradients_on_and_leaves_its_input_alone(mixture):
    z = mixture.draw(2)
    kept = z.clone()
    with torch.no_grad():
        found = log_likelihood(mixture.denoise(VpPath()), VpPath(), z, probes(z))
    assert not found.requires_grad and not z.requires_grad and torch.equal(z, kept)


def test_the_likelihood_of_a_sample_does_not_depend_on_its_neighbours(mixture):
    z, path = mixture.draw(3).float(), VpPath()
    draw = probes(z)
    whole = log_likelihood(mixture.denoise(path), path, z, draw)
    alone = log_likelihood(mixture.denoise(path), path, z[1:2], lambda k: draw(k)[1:2])
    torch.testing.assert_close(whole[1:2], alone, rtol=1e-6, atol=1e-5)


def test_a_byte_of_even_chance_is_eight_bits():
    assert bits_per_dim(torch.tensor([-5 * 8 * math.log(2)]), 5).item() == pytest.approx(8)
