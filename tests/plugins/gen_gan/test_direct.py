"""The sampler of one-shot priors."""

import pytest
import torch

from gen_core.errors import RecipeError
from gen_core.options import SampleOptions
from gen_core.prior import DirectPrior
from gen_core.registry import Registry
from gen_core.run.samples.sampling import draw_latents
from gen_gan.direct import build
from gen_gan.direct_options import Direct

SHAPE = (2, 1, 3, 5)


class Normal(DirectPrior):
    """Knows nothing of truncation."""

    shape = SHAPE

    def noise_shape(self, n):
        return (n, *SHAPE)

    def draw(self, noise, cond=None, **options):
        assert not options
        return 3.0 + noise


class Truncating(Normal):
    truncates = True

    def draw(self, noise, cond=None, *, truncation=1.0, **options):
        return 7.0 + truncation * noise


def drawn(prior, psi):
    return draw_latents(prior, build(Direct(psi)), SampleOptions(), 0, [4, 9], torch.device("cpu"))


def test_it_is_registered_and_draws_in_one_step():
    component = Registry.load(allow="off").get("sampler", "direct")
    sampler = component.build(component.options_class()(truncation=0.7), None)
    assert sampler.steps == 1 and sampler.truncation == 0.7


def test_a_prior_without_truncation_gets_smaller_noise():
    whole = drawn(Normal(), 1.0) - 3
    torch.testing.assert_close(drawn(Normal(), 0.5) - 3, 0.5 * whole)
    assert (drawn(Normal(), 0.0) == 3).all()
    assert whole.shape == (2, *SHAPE) and not torch.equal(whole[0], whole[1])


def test_a_prior_that_truncates_is_told():
    whole = drawn(Truncating(), 1.0) - 7
    torch.testing.assert_close(drawn(Truncating(), 0.25) - 7, 0.25 * whole)


def test_the_samplers_of_diffusion_priors_leave_a_draw_as_it_is():
    component = Registry.load(allow="off").get("sampler", "ddim")
    sampler = component.build(component.options_class()(), None)
    got = draw_latents(Normal(), sampler, SampleOptions(), 0, [4, 9], torch.device("cpu"))
    assert torch.equal(got, drawn(Normal(), 1.0))


def test_a_diffusion_prior_is_refused():
    with pytest.raises(RecipeError, match="this prior needs a diffusion sampler"):
        build(Direct()).sample(None, None, torch.zeros(1), torch.zeros(1), None)


@pytest.mark.parametrize("psi", [-0.1, 1.5])
def test_truncation_lies_between_0_and_1(psi):
    with pytest.raises(ValueError, match="truncation"):
        Direct(psi)
