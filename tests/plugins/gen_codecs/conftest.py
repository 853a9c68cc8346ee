"""Small codecs and volumes, for the tests of this folder."""

import pytest
import torch
from attrs import evolve

from gen_codecs.vq_codec import VqCodec
from gen_codecs.vq_options import CodebookOptions, DiscriminatorOptions, LossOptions, Vqgan, Vqvae
from gen_core.volume import VolumeSpec

SMALL = dict(width=4, latent_channels=3, codes=16, norm_groups=4, codebook=CodebookOptions(queue=128))
CRITIC = DiscriminatorOptions(start=0, width=4, layers=2, norm="instance")
QUIET = LossOptions(lpips=0.0)


@pytest.fixture
def make_codec():
    """make_codec(kind, size, channels, **options): a small codec on volumes of `size`, seeded."""

    def make(kind="vqvae", size=(8, 12, 16), channels=1, seed=0, **more):
        options = (
            Vqgan(**SMALL, losses=QUIET, discriminator=CRITIC) if kind == "vqgan" else Vqvae(**SMALL, losses=QUIET)
        )
        options = evolve(options, **more)
        torch.manual_seed(seed)
        return VqCodec(options, VolumeSpec(size, tuple(f"c{i}" for i in range(channels))))

    return make


@pytest.fixture
def volumes():
    """volumes(n, size, channels): smooth volumes in [-1, 1] that differ."""

    def make(n=2, size=(8, 12, 16), channels=1, seed=0):
        g = torch.Generator().manual_seed(seed)
        coarse = torch.randn(n, channels, 2, 3, 4, generator=g)
        x = torch.nn.functional.interpolate(coarse, size, mode="trilinear")
        return (x + 0.1 * torch.randn(x.shape, generator=g)).clamp(-1, 1)

    return make
