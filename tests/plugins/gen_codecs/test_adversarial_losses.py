"""Closed values of the losses, and the adaptive weight from gradients by hand."""

import pytest
import torch
from torch import nn

from gen_codecs.adversarial_losses import (
    adaptive_weight,
    feature_matching,
    hinge_discriminator,
    hinge_generator,
)


def test_hinge_losses_have_their_closed_values():
    real, fake = torch.tensor([[2.0, 0.5], [-1.0, 1.0]]), torch.tensor([-3.0, 0.0, 1.0, -0.5])
    # (0 + .5 + 2 + 0) / 4 and (0 + 1 + 2 + .5) / 4
    assert hinge_discriminator(real, fake) == pytest.approx(0.5 * (0.625 + 0.875))
    assert hinge_generator(fake) == pytest.approx(0.625)
    assert hinge_discriminator(torch.full((3,), 1.5), torch.full((3,), -1.0)) == 0


def test_features_are_matched_layer_by_layer_without_the_logits():
    real = [torch.zeros(2, 3), torch.ones(4), torch.zeros(1)]
    fake = [torch.full((2, 3), 2.0), torch.full((4,), -1.0), torch.full((1,), 1e6)]
    assert feature_matching(real, fake) == pytest.approx((2 + 2) / 2)


def test_no_gradient_flows_into_the_maps_of_data():
    real, fake = torch.ones(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    feature_matching([real, real], [fake, fake]).backward()
    assert real.grad is None
    assert torch.allclose(fake.grad, torch.full((3,), -1 / 3))


def test_the_adaptive_weight_is_the_ratio_of_gradient_norms():
    last = nn.Parameter(torch.tensor([1.0, 2.0]))
    reconstruction, adversarial = (3 * last[0] + 4 * last[1]), (last[0] * 0.5)
    weight = adaptive_weight(reconstruction, adversarial, last)
    assert weight == pytest.approx(5 / (0.5 + 1e-4))
    assert not weight.requires_grad
    (reconstruction + weight * adversarial).backward()  # the graph is still there
    assert torch.allclose(last.grad, torch.tensor([3 + 0.5 * float(weight), 4.0]))


def test_the_adaptive_weight_is_bounded():
    last = nn.Parameter(torch.tensor([1.0]))
    assert adaptive_weight(1e9 * last.sum(), 0 * last.sum(), last) == 1e4
