"""Modulated convolution against the grouped convolution of the paper, and its derivatives of second order."""

import math

import pytest
import torch
import torch.nn.functional as F

from gen_gan.modulated_conv import TINY, ModulatedConv2d, modulated_conv2d
from gen_gan.upfirdn import upsample2d


def grouped(x, w, s, demodulate):
    """Eqs. 1 and 3 literally: each sample's own weights, one group a sample."""
    b, i, h, width = x.shape
    own = w[None] * s[:, None, :, None, None]
    if demodulate:
        own = own / (own.square().sum((2, 3, 4), keepdim=True) + TINY).sqrt()
    y = F.conv2d(x.reshape(1, b * i, h, width), own.flatten(0, 1), padding=w.shape[-1] // 2, groups=b)
    return y.view(b, w.shape[0], h, width)


def drawn(b=3, i=4, o=5, k=3, h=6, w=7):
    g = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(shape, generator=g, dtype=torch.float64)
    return draw(b, i, h, w), draw(o, i, k, k), 1 + 0.5 * draw(b, i)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("demodulate", [True, False])
def test_it_is_the_grouped_convolution_over_the_batch(k, demodulate):
    x, w, s = drawn(k=k)
    torch.testing.assert_close(modulated_conv2d(x, w, s, demodulate), grouped(x, w, s, demodulate))


def test_enlarging_is_filtering_between_zeros_and_convolution():
    """Convolution and filter commute: enlarging first and convolving then is the same inside."""
    x, w, s = drawn()
    got = modulated_conv2d(x, w, s, up=True)
    want = grouped(upsample2d(x), w, s, True)
    assert got.shape == (3, 5, 12, 14)
    torch.testing.assert_close(got[..., 2:-2, 2:-2], want[..., 2:-2, 2:-2])


def test_demodulated_maps_of_white_noise_have_unit_variance():
    g = torch.Generator().manual_seed(0)
    x, s = torch.randn(4, 20, 32, 32, generator=g), 10 * torch.rand(4, 20, generator=g)
    w = torch.randn(6, 20, 3, 3, generator=g)
    deviation = modulated_conv2d(x, w, s)[..., 1:-1, 1:-1].std((2, 3))
    assert (deviation - 1).abs().max() < 0.15


def test_demodulation_forgets_the_size_of_a_style():
    x, w, s = drawn()
    torch.testing.assert_close(modulated_conv2d(x, w, s), modulated_conv2d(x, w, 1e3 * s))


def test_a_style_of_zeros_is_finite():
    x, w, s = drawn()
    assert modulated_conv2d(x, w, torch.zeros_like(s)).isfinite().all()


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("demodulate", [True, False])
def test_the_derivative_of_the_derivative_is_right(up, demodulate):
    inputs = [t.requires_grad_() for t in drawn(2, 2, 1, 3, 2, 3)]
    call = lambda x, w, s: modulated_conv2d(x, w, s, demodulate, up)
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)


def test_the_layer_starts_with_scales_about_one_and_equalized_weights():
    torch.manual_seed(0)
    layer, x = ModulatedConv2d(4, 5, 3, style=6).double(), torch.randn(2, 4, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(layer.affine.bias, torch.ones(4, dtype=torch.float64))
    style = torch.zeros(2, 6, dtype=torch.float64)
    plain = grouped(x, layer.weight / math.sqrt(36), torch.ones(2, 4, dtype=torch.float64), True)
    torch.testing.assert_close(layer(x, style), plain)
