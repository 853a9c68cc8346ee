"""Features of the run's codec."""

import pytest
import torch

from gen_core.features import FeaturesContext
from gen_core.volume import VolumeSpec
from gen_features.codec_features import build, weights_sha256
from gen_features.feature_options import CodecFeatures as Options

SPEC = VolumeSpec((4, 12, 10))


class Convolution(torch.nn.Module):
    """A codec with encoder maps of 7 channels."""

    spec = SPEC

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv3d(1, 7, (4, 2, 2), (4, 2, 2))
        self.drop = torch.nn.Dropout(0.5)

    def encoder_maps(self, x):
        return self.drop(self.layer(x))


class Identity(torch.nn.Module):
    """A codec without encoder maps."""

    spec = SPEC

    def encode(self, x):
        return x


def test_features_are_mean_and_sd_over_positions():
    torch.manual_seed(0)
    codec = Convolution()
    network = build(Options(), FeaturesContext(SPEC, lambda: codec))
    x = torch.randn(3, 1, 4, 12, 10)
    maps = codec.layer(x).flatten(2).detach()
    found = network.features(x)  # the codec is put into eval mode: no dropout
    assert torch.allclose(found[:, :7], maps.mean(2), atol=1e-6)
    assert torch.allclose(found[:, 7:], maps.std(2, correction=0), atol=1e-6)
    assert network.takes == "volume" and not found.requires_grad


def test_each_slice_of_the_maps_has_features_of_its_own():
    x = torch.randn(2, 1, 4, 12, 10)
    codec = Convolution().eval()
    found = build(Options(), FeaturesContext(SPEC, lambda: codec)).slice_features(x)
    maps = codec.layer(x).detach()
    assert found.shape == (2, maps.shape[2], 14)
    assert torch.allclose(found[1, 0, :7], maps[1, :, 0].mean((1, 2)), atol=1e-6)
    latents = build(Options(), FeaturesContext(SPEC, Identity())).slice_features(x)
    assert latents.shape == (2, 4, 2)
    assert torch.allclose(latents[:, 3, 1], x[:, 0, 3].std((1, 2), correction=0), atol=1e-6)


def test_dim_is_known_before_the_first_volume():
    assert build(Options(), FeaturesContext(SPEC, lambda: Convolution())).dim == 14


def test_a_codec_without_encoder_maps_gives_its_latents_band_by_band():
    network = build(Options(), FeaturesContext(SPEC, Identity()))
    x = torch.randn(2, 1, 4, 12, 10)
    assert network.dim == 8
    assert torch.allclose(network.features(x)[:, :4], x[:, 0].mean((2, 3)), atol=1e-6)
    assert "latents" in network.protocol()["statistics"]


def test_the_codec_is_no_part_of_the_network_and_its_hash_is_in_the_protocol():
    codec = Convolution()
    network = build(Options(), FeaturesContext(SPEC, lambda: codec))
    assert list(network.parameters()) == [] and network.state_dict() == {}
    before = network.protocol()["sha256"]
    assert before == weights_sha256(codec)
    with torch.no_grad():
        codec.layer.weight[0, 0, 0, 0, 0] += 1e-3
    assert weights_sha256(codec) != before
    assert network.protocol()["codec"] == "Convolution" and len(before) == 64


def test_hash_covers_integer_and_scalar_buffers():
    module = torch.nn.BatchNorm1d(3)
    before = weights_sha256(module)
    module.num_batches_tracked += 1
    assert weights_sha256(module) != before and weights_sha256(module) == weights_sha256(module)
    with pytest.raises(AttributeError):
        weights_sha256(None)
