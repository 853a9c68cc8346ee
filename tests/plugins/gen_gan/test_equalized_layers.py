"""Equalized learning rate: unit-variance weights, scaled where they are used."""

import math

import torch
import torch.nn.functional as F

from gen_gan.equalized_layers import EqualConv2d, EqualLinear, leaky
from gen_gan.upfirdn import BINOMIAL


def test_a_linear_layer_scales_weight_and_bias():
    torch.manual_seed(0)
    layer, x = EqualLinear(5, 3, bias=0.5, lr=0.1), torch.randn(4, 5)
    want = x @ (layer.weight * 0.1 / math.sqrt(5)).t() + layer.bias * 0.1
    torch.testing.assert_close(layer(x), want)
    torch.testing.assert_close(layer.bias * 0.1, torch.full((3,), 0.5))


def test_weights_have_deviation_one_over_the_multiplier_and_outputs_one():
    torch.manual_seed(0)
    layer = EqualLinear(400, 300, lr=0.01)
    assert abs(float(layer.weight.detach().std()) - 100) < 1
    assert abs(float(layer(torch.randn(200, 400)).detach().std()) - 1) < 0.02
    conv = EqualConv2d(30, 20, 3)
    assert abs(float(conv.weight.detach().std()) - 1) < 0.03
    assert abs(float(conv(torch.randn(8, 30, 9, 9)).detach()[..., 1:-1, 1:-1].std()) - 1) < 0.05


def test_a_step_of_adam_moves_the_used_weight_by_the_multiplier():
    """Adam's first step is lr for every weight, whatever the gradient; what is used moves lr * multiplier / sqrt(n)."""
    moved = []
    for lr in (1.0, 0.01):
        torch.manual_seed(0)
        layer, x = EqualLinear(16, 3, lr=lr), torch.randn(4, 16)
        used = lambda layer=layer, lr=lr: (layer.weight * lr / 4).detach().clone()
        before, adam = used(), torch.optim.Adam(layer.parameters(), lr=0.002)
        layer(x).square().sum().backward()
        adam.step()
        moved.append((used() - before).abs().mean())
    torch.testing.assert_close(moved[0], torch.tensor(0.002 / 4), rtol=1e-3, atol=0)
    torch.testing.assert_close(moved[1] / moved[0], torch.tensor(0.01), rtol=1e-2, atol=0)


def test_a_halving_convolution_filters_then_strides():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    kernel = torch.outer(*2 * (torch.tensor(BINOMIAL, dtype=torch.float64),)).expand(3, 1, 4, 4)
    for k in (1, 3):
        conv = EqualConv2d(3, 5, k, down=True).double()
        smooth = F.conv2d(F.pad(x, 4 * ((k + 1) // 2,)), kernel, groups=3)
        want = F.conv2d(smooth, conv.weight / math.sqrt(3 * k * k), conv.bias, stride=2)
        assert want.shape == (2, 5, 4, 6)
        torch.testing.assert_close(conv(x), want)


def test_the_rectifier_keeps_the_power_of_normal_numbers():
    x = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    # E[leaky^2] = 2 (1 + 0.04) / 2
    assert abs(float(leaky(x).square().mean()) - 1.04) < 0.02
