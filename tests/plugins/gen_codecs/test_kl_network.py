"""The networks of the KL autoencoder: what sees what, clamped variances, the order of levels."""

import pytest
import torch
from attrs import evolve

from gen_codecs.attention import VoxelAttention
from gen_codecs.kl_network import KlDecoder, KlEncoder
from gen_codecs.kl_options import AutoencoderKl

SMALL = AutoencoderKl(width=4, multipliers=(1.0, 2.0, 3.0), norm_groups=2, blocks=2, latent_channels=5)


@pytest.mark.parametrize(
    ("stride", "latent"), [((4, 4, 4), (2, 3, 5)), ((1, 4, 4), (8, 3, 5)), ((2, 1, 4), (4, 12, 5))]
)
def test_sizes_follow_the_stride_of_each_axis(stride, latent):
    options = evolve(SMALL, stride=stride)
    with torch.device("meta"):
        mean, log_variance = KlEncoder(3, options)(torch.empty(2, 3, 8, 12, 20))
        assert mean.shape == log_variance.shape == (2, 5, *latent)
        assert KlDecoder(3, options)(mean).shape == (2, 3, 8, 12, 20)


@pytest.mark.parametrize(
    ("attention", "middle", "count"), [((-1,), True, 3), ((), True, 1), ((0, 1), False, 4), ((), False, 0)]
)
def test_attention_stands_where_it_was_asked_for(attention, middle, count):
    options = evolve(SMALL, attention=attention, middle=middle)
    with torch.device("meta"):
        for network in (KlEncoder(1, options), KlDecoder(1, options)):
            assert sum(isinstance(m, VoxelAttention) for m in network.modules()) == count
    widths = [level.v.in_features for level in KlEncoder(1, evolve(options, attention=(0,))).levels[0][1::2][:2]]
    assert widths == [4, 4]  # 0 is the finest level


def test_log_variances_are_clamped():
    network = KlEncoder(1, SMALL)
    for value, want in ((1e4, 20.0), (-1e4, -30.0)):
        torch.nn.init.constant_(network.to_log_variance.bias, value)
        assert (network(torch.zeros(1, 1, 4, 8, 12))[1] == want).all()


def test_without_attention_voxels_far_away_have_no_part_but_by_the_norms():
    options = evolve(SMALL, attention=(), middle=False)
    torch.manual_seed(0)
    network = KlEncoder(1, options)
    for m in network.modules():
        if isinstance(m, torch.nn.GroupNorm):
            m.forward = lambda x: x  # the only thing left that mixes
    x = torch.randn(1, 1, 8, 8, 96)
    x_0 = x.clone()
    x_0[..., :4] = 0
    gap = (network(x)[0] - network(x_0)[0]).abs().amax((0, 1, 2, 3))
    assert gap[0] > 0 and (gap[12:] == 0).all()
