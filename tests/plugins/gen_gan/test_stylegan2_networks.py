"""Mapping, synthesis and discriminator: what each part is, from formulas."""

import math

import torch
import torch.nn.functional as F

from gen_gan.stylegan2_networks import (
    Discriminator,
    Mapping,
    ResidualDown,
    StyledConv,
    Synthesis,
    minibatch_deviation,
)
from gen_gan.upfirdn import upsample2d


def test_the_mapping_forgets_the_length_of_its_inputs():
    torch.manual_seed(0)
    mapping, z, told = Mapping(5, 4, 6, layers=3, lr=0.01), torch.randn(3, 5), torch.randn(3, 4)
    w = mapping(z, told)
    assert w.shape == (3, 6)
    torch.testing.assert_close(mapping(7 * z, 0.1 * told), w, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(mapping(z, -told), w)


def test_the_mapping_learns_by_its_multiplier():
    mapping = Mapping(5, 0, 6, layers=2, lr=0.01)
    assert all(layer.lr == 0.01 and float(layer.weight.detach().std()) > 50 for layer in mapping.layers)


def test_noise_enters_by_a_strength_that_starts_at_zero():
    torch.manual_seed(0)
    conv, x, style = StyledConv(3, 4, 5), torch.randn(2, 3, 6, 7), torch.randn(2, 5)
    noise = torch.randn(2, 1, 6, 7)
    assert torch.equal(conv(x, style, noise), conv(x, style, 0 * noise))
    with torch.no_grad():
        conv.strength.fill_(0.5)
    before = conv.conv(x, style)
    want = F.leaky_relu(before + 0.5 * noise, 0.2) * math.sqrt(2)
    torch.testing.assert_close(conv(x, style, noise), want)


def test_every_level_adds_its_image_to_the_enlarged_one():
    torch.manual_seed(0)
    net = Synthesis(3, (4, 6), [8, 7, 5], style=9)
    w, noise = torch.randn(2, net.styles, 9), torch.randn(2, sum(h * w for h, w in net.noise_sizes))
    assert net.styles == 6 and net.noise_sizes == [(4, 6), (8, 12), (8, 12), (16, 24), (16, 24)]
    seen = []
    for image in net.images:
        image.register_forward_hook(lambda m, args, out: seen.append(out))
    out = net(w, noise)
    assert out.shape == (2, 3, 16, 24)
    torch.testing.assert_close(out, upsample2d(upsample2d(seen[0]) + seen[1]) + seen[2])


def test_a_style_reaches_its_level_and_those_above_only():
    torch.manual_seed(0)
    net = Synthesis(2, (4, 4), [6, 5, 4], style=3)
    w, noise, seen = torch.randn(1, 6, 3), torch.randn(1, 16 + 2 * 64 + 2 * 256), []
    for conv in net.convs:
        conv.register_forward_hook(lambda m, args, out: seen.append(out))
    for k in range(6):
        other = w.clone()
        other[:, k] += 1
        seen.clear()
        a, b = net(w, noise), net(other, noise)
        first, second = seen[:5], seen[5:]
        assert [torch.equal(p, q) for p, q in zip(first, second)] == [i < k for i in range(5)]
        assert not torch.equal(a, b)


def test_the_minibatch_deviation_is_that_of_groups():
    x = torch.randn(6, 2, 3, 5, generator=torch.Generator().manual_seed(0))
    got = minibatch_deviation(x, 3)
    assert torch.equal(got[:, :2], x)
    for first in (0, 1):  # groups of three: samples 0, 2, 4 and 1, 3, 5
        group = x[first::2]
        want = group.var(0, correction=0).add(1e-8).sqrt().mean()
        torch.testing.assert_close(got[first::2, 2], want.expand(3, 3, 5))


def test_the_minibatch_deviation_takes_the_largest_group_that_divides():
    x = torch.randn(5, 2, 3, 4)
    assert minibatch_deviation(x, 4)[:, 2].abs().max() < 1e-3  # five samples, one at a time: nothing deviates
    assert minibatch_deviation(x[:4], 4)[:, 2].unique().numel() == 1
    assert minibatch_deviation(x[:1], 4).isfinite().all()


def test_a_residual_block_halves_and_keeps_the_power_of_flat_maps():
    """Rectified twice with gain sqrt(2) a map has 1.04^2 of its power; the mean with the shortcut's is 1.04."""
    torch.manual_seed(0)
    block, x = ResidualDown(96, 128), torch.randn(16, 96, 1, 1).expand(-1, -1, 12, 16)
    y = block(x).detach()
    assert y.shape == (16, 128, 6, 8) and block.shortcut.bias is None
    assert abs(float(y[..., 2:-2, 2:-2].square().mean()) - 1.04) < 0.1


def test_what_is_told_enters_by_projection():
    """D(x, y) - D(x, y') = <features, V (y - y')>: linear in what is told, so differences add up."""
    torch.manual_seed(0)
    net, x = Discriminator(3, (4, 5), [6, 5], told_dim=7, group=2), torch.randn(4, 3, 8, 10)
    a, b = torch.randn(4, 7), torch.randn(4, 7)
    assert net(x, a).shape == (4,)
    zero = net(x, torch.zeros(4, 7))
    torch.testing.assert_close(net(x, a) + net(x, b), net(x, a + b) + zero, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(net(x, a), zero)
