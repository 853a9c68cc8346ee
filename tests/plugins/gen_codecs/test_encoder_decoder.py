"""Shapes, widths and sizes of encoder and decoder in both layouts."""

import pytest
import torch
from attrs import evolve

from gen_codecs.encoder_decoder import Decoder, Encoder, level_channels
from gen_codecs.vq_options import Vqvae

BASE = Vqvae(width=4, norm_groups=4, latent_channels=3, codes=8)


@pytest.mark.parametrize("resample", ["conv", "shuffle"])
@pytest.mark.parametrize("padding", ["replicate", "zeros"])
@pytest.mark.parametrize(
    ("stride", "levels"), [((8, 8, 8), 0), ((4, 8, 8), 0), ((16, 4, 4), 2), ((1, 4, 4), 1), ((2, 1, 1), 0)]
)
def test_the_encoder_divides_by_the_stride_and_the_decoder_multiplies(stride, levels, padding, resample):
    options = evolve(BASE, stride=stride, levels=levels, resample=resample, padding=padding)
    size = [2 * stride[0], stride[1], 3 * stride[2]]
    encoder, decoder = Encoder(2, options), Decoder(2, options)
    maps = encoder(torch.randn(1, 2, *size))
    assert maps.shape == (1, encoder.channels, 2, 1, 3)
    assert decoder(torch.randn(1, 3, 2, 1, 3)).shape == (1, 2, *size)
    assert any(decoder.last_weight is p for p in decoder.parameters())


def test_widths_double_by_default_and_follow_the_multipliers():
    assert level_channels(BASE) == [8, 16, 32]
    assert level_channels(evolve(BASE, stride=(16, 4, 4), levels=2, multipliers=(1, 1.5))) == [4, 6]


def test_the_published_widths_give_5_9_million_weights():
    with torch.device("meta"):
        encoder, decoder = Encoder(1, Vqvae()), Decoder(1, Vqvae())
    count = sum(p.numel() for m in (encoder, decoder) for p in m.parameters())
    assert count == pytest.approx(5.9e6, rel=0.01)
    assert [m.in_channels for m in (encoder.stem, decoder.head)] == [1, 32]


def test_every_voxel_of_the_output_depends_on_the_latent_near_it():
    options = evolve(BASE, stride=(4, 4, 4), norm="batch")
    decoder = Decoder(1, options).eval()
    z = torch.randn(1, 3, 2, 3, 4, requires_grad=True)
    x_hat = decoder(z)
    for at in ((0, 0, 0), (7, 11, 15), (3, 6, 9)):
        (gradient,) = torch.autograd.grad(x_hat[(0, 0, *at)], z, retain_graph=True)
        near = tuple(n // 4 for n in at)
        assert gradient[(0, slice(None), *near)].abs().max() > 0


def test_weights_all_take_part():
    options = evolve(BASE, resample="shuffle", stride=(4, 4, 4))
    for module, x in (
        (Encoder(1, options), torch.randn(2, 1, 4, 8, 12)),
        (Decoder(1, options), torch.randn(2, 3, 1, 2, 3)),
    ):
        module(x).square().sum().backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in module.parameters())
        assert all(p.grad.abs().max() > 0 for n, p in module.named_parameters() if "conv" not in n)
