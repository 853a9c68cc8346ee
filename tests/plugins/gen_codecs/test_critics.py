"""Discriminators and their terms: which ones there are, their weights, both kinds of loss, the adaptive factor."""

import pytest
import torch
from torch import nn

from gen_codecs.critics import Critics
from gen_codecs.vq_options import DiscriminatorOptions, LossOptions

SMALL = DiscriminatorOptions(start=0, width=4, layers=2)


def make(kind="hinge", seed=0, **losses):
    torch.manual_seed(seed)
    return Critics(2, LossOptions(**({"feature_matching": 0.0} | losses)), SMALL, kind)


@pytest.fixture
def pair():
    g = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, 2, 5, 12, 14, generator=g).unbind(0)


AT = torch.tensor([[4, 2, 0], [3, 2, 1], [4, 3, 0]])


def terms(critics, pair, last=None):
    zero = torch.zeros(())
    return critics.for_generator(*pair, AT, zero, last)


def test_weights_of_zero_leave_discriminators_out():
    assert list(make()) == ["slices", "volume"]
    assert list(make(gan_2d=0.0)) == ["volume"] and list(make(gan_3d=0.0)) == ["slices"]
    assert not Critics(2, LossOptions(), None)


@pytest.mark.parametrize("kind", ["hinge", "least-squares"])
def test_terms_are_the_weighted_definitions(pair, kind):
    x, x_hat = pair
    critics = make(kind, gan_2d=0.0, gan_3d=0.3)
    with torch.no_grad():
        real, fake = critics["volume"](x)[-1], critics["volume"](x_hat)[-1]
        losses, _ = terms(critics, pair)
        (told,) = critics.for_discriminator(x, x_hat, AT).losses.values()
    if kind == "hinge":
        wants = -fake.mean(), 0.5 * ((1 - real).clamp_min(0).mean() + (1 + fake).clamp_min(0).mean())
    else:
        wants = ((fake - 1) ** 2).mean(), 0.5 * (((real - 1) ** 2).mean() + (fake**2).mean())
    assert losses["gan_volume"].item() == pytest.approx(0.3 * wants[0].item(), rel=1e-5)
    assert told.item() == pytest.approx(wants[1].item(), rel=1e-5)


def test_the_slice_discriminator_sees_the_chosen_slices_only(pair):
    x, x_hat = pair
    critics = make(gan_3d=0.0)
    changed = x_hat.clone()
    changed[0, :, 1] += 1.0  # of the first volume 4, 2, 0 are looked at
    first, second = terms(critics, (x, x_hat))[0], terms(critics, (x, changed))[0]
    assert torch.equal(first["gan_slices"], second["gan_slices"])
    changed[0, :, 2] += 1.0
    assert not torch.equal(first["gan_slices"], terms(critics, (x, changed))[0]["gan_slices"])


def test_no_gradient_of_the_discriminator_s_loss_reaches_the_generator(pair):
    x, x_hat = pair
    x_hat = x_hat.clone().requires_grad_()
    critics = make(feature_matching=2.0)
    sum(critics.for_discriminator(x, x_hat, AT).losses.values()).backward()
    assert x_hat.grad is None
    losses, _ = terms(critics, (x, x_hat))
    assert set(losses) == {"gan_slices", "gan_volume", "matching_slices", "matching_volume"}
    sum(losses.values()).backward()
    assert x_hat.grad.abs().max() > 0


def test_the_adaptive_factor_balances_gradients(pair):
    x, x_hat = pair
    last = nn.Parameter(torch.tensor(1.0))
    x_hat = last * x_hat
    reconstruction = (x_hat - x).abs().mean()
    losses, logs = make(adaptive=True).for_generator(x, x_hat, AT, reconstruction, last)
    gradient = lambda t: torch.autograd.grad(t, last, retain_graph=True)[0].abs().item()
    assert logs["adaptive_weight"] > 0
    assert gradient(sum(losses.values())) == pytest.approx(gradient(reconstruction), rel=0.02)
