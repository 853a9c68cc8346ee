"""The prior `dcgan`: contract, architecture, conditions, learning."""

import pytest
import torch
from torch import nn

from gen_core.batch import Batch
from gen_core.condition import Conditions
from gen_core.engine.fit import fit
from gen_core.engine.source import TensorSource
from gen_core.engine.stop import StopFlag
from gen_core.errors import RecipeError, Stopped
from gen_core.options import FitOptions
from gen_core.prior import PriorContext
from gen_core.testing import check_prior, check_trainable
from gen_gan.dcgan import build
from gen_gan.dcgan_options import Dcgan

SHAPE = (3, 1, 16, 24)


@pytest.mark.parametrize("shape", [SHAPE, (1, 1, 8, 8), (2, 1, 28, 28)])
def test_the_prior_keeps_the_contract(dcgan, shape):
    check_prior(dcgan(shape))


def test_a_conditional_prior_with_r1_keeps_the_contract(dcgan, specs, facts):
    prior, cond = dcgan(specs=specs, r1_gamma=1.0, r1_every=1), facts(4)
    check_prior(prior)
    check_trainable(prior, Batch(torch.randn(4, *SHAPE), condition=cond.values, present=cond.present))


def test_the_published_network_for_64_pixels():
    """Figure 1: 4 x 4 x 1024 to 64 x 64 x 3 through 512, 256, 128 maps; all weights N(0, 0.02)."""
    torch.manual_seed(0)
    prior = build(Dcgan(width=128, width_max=1024), PriorContext((3, 1, 64, 64), (-1.0, 1.0)))
    convs = [m for m in prior.generator.layers if isinstance(m, nn.ConvTranspose2d)]
    assert [m.in_channels for m in convs] == [1024, 512, 256, 128] and convs[-1].out_channels == 3
    assert prior.generator.base == (4, 4) and isinstance(prior.generator.layers[-1], nn.Tanh)
    assert all(abs(float(m.weight.detach().std()) - 0.02) < 5e-4 for m in convs)
    norms = lambda network: [m.num_features for m in network if isinstance(m, nn.BatchNorm2d)]
    assert norms(prior.generator.layers) == [1024, 512, 256, 128]
    assert norms(prior.critic.layers) == [256, 512, 1024]  # none after the first convolution


def test_latents_without_bounds_have_no_tanh(dcgan):
    prior = dcgan(bounds=None)
    with torch.no_grad():
        prior.generator.layers[-1].bias.fill_(5.0)
        assert prior.eval().draw(torch.randn(2, 5)).min() > 4
    assert isinstance(dcgan().generator.layers[-1], nn.Tanh)


def test_conditional_draws_differ(dcgan, specs):
    prior = dcgan(specs=specs).eval()
    known = torch.tensor([True, True, True, False])
    values = {"kind": torch.tensor([0, 1, 2, 0]), "count": torch.zeros(4)}
    with torch.no_grad():
        for p in prior.generator.parameters():
            p.mul_(5.0)  # the published weights start so small that nothing shows
        z = prior.draw(torch.ones(4, 5), Conditions(values, {"kind": known, "count": known}))
    assert torch.pdist(z.flatten(1)).min() > 1e-3


def test_penalty_and_logits_are_logged(dcgan, step):
    prior, batch = dcgan(r1_gamma=2.0, r1_every=3), Batch(torch.randn(4, *SHAPE))
    for i, due in ((0, True), (1, False), (3, True)):
        parts = {p.group: p for p in prior.training_step(batch, step(i))}
        assert ("r1" in parts["discriminator"].losses) == due
        assert set(parts["discriminator"].logs) == {"real_logit", "fake_logit"}


def test_it_learns_the_mean_and_spread_of_flat_images(dcgan, tmp_path):
    """Images of one grey each, 0.5 +- 0.2: some steps bring the samples' mean and deviation near."""
    z = (0.5 + 0.2 * torch.randn(64, 1, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)
    z = z.view(64, 1, 1, 1, 1).expand(64, 1, 1, 8, 8).contiguous()
    prior = dcgan((1, 1, 8, 8), r1_gamma=0.1, r1_every=1, width=16, width_max=16)
    options = FitOptions(steps=120, batch=16, optimizer="adam", lr=1e-3, betas=(0.5, 0.99), ema=0.9)
    fit(prior, TensorSource(z), options, folder=tmp_path, stage="gan", seed=0)
    with torch.no_grad():
        greys = prior.draw(torch.randn(200, 5, generator=torch.Generator().manual_seed(1))).mean((1, 2, 3, 4))
    assert abs(float(greys.mean()) - 0.5) < 0.15 and 0.05 < float(greys.std()) < 0.5


def test_a_fit_stopped_and_resumed_has_the_same_bits(dcgan, tmp_path):
    z = torch.randn(10, *SHAPE, generator=torch.Generator().manual_seed(3))
    whole, half, rest = dcgan(), dcgan(), dcgan()
    options = whole.options.fit
    fit(whole, TensorSource(z), options, folder=tmp_path / "whole", stage="gan", seed=1)
    stop = StopFlag()
    half.updated = lambda group, step: stop.request("test") if step.index == 2 else None
    with pytest.raises(Stopped, match="after step 3"):
        fit(half, TensorSource(z), options, folder=tmp_path / "parts", stage="gan", seed=1, stop=stop)
    fit(rest, TensorSource(z), options, folder=tmp_path / "parts", stage="gan", seed=1)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, rest.state_dict()[name]), name


def test_deep_volumes_are_refused():
    with pytest.raises(RecipeError, match="dcgan makes single slices"):
        build(Dcgan(), PriorContext((1, 4, 32, 32)))
