"""MONAI's AutoencoderKL and MAISI's, and ours with their weights, are one function; mismatches are named."""

import pytest
import torch
from attrs import evolve

from gen_codecs.kl_codec import KlCodec
from gen_codecs.kl_from_monai import init_from_monai
from gen_codecs.kl_options import AutoencoderKl, KlLossOptions
from gen_core.errors import DataError
from gen_core.volume import VolumeSpec

pytest.importorskip("monai")

OURS = AutoencoderKl(
    width=8, multipliers=(1.0, 2.0, 3.0), norm_groups=4, losses=KlLossOptions(lpips=0.0, gan_3d=0.0), latent_channels=5
)


def theirs(dimensions=3, channels=2, seed=3, **more):
    """MONAI's network of OURS; norms and biases are not left at ones and zeros, which would hide mistakes."""
    from monai.networks.nets import AutoencoderKL

    torch.manual_seed(seed)
    settings = dict(
        num_res_blocks=2,
        channels=(8, 16, 24),
        attention_levels=(False, False, True),
        latent_channels=5,
        norm_num_groups=4,
    )
    network = AutoencoderKL(dimensions, channels, channels, **(settings | more)).eval()
    return _shaken(network)


def maisi(channels=2):
    from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi

    torch.manual_seed(4)
    network = AutoencoderKlMaisi(
        3, channels, channels, (1, 1, 1), (8, 16, 24), (False,) * 3, 5, 4, num_splits=1, save_mem=False
    )
    return _shaken(network.eval())


def _shaken(network):
    with torch.no_grad():
        for p in network.parameters():
            p += 0.1 * torch.randn(p.shape) * p.abs().mean().clamp_min(0.1)
    return network


def ours(network, size, options=OURS, channels=2):
    codec = KlCodec(options, VolumeSpec(size, tuple(f"c{i}" for i in range(channels)))).eval()
    init_from_monai(codec, network.state_dict())
    return codec


def agree(codec, network, size, flat=False):
    x = torch.randn(2, 2, *size, generator=torch.Generator().manual_seed(5)).clamp(-1, 1)
    thin = lambda t: t[:, :, 0] if flat else t
    with torch.no_grad():
        mean, log_variance = codec.posterior(x)
        want, sigma = network.encode(thin(x))
        x_hat, want_x = codec._decoded(mean), network.decode(want)
    for a, b in ((mean, want), ((0.5 * log_variance).exp(), sigma), (x_hat, want_x)):
        assert (thin(a) - b).abs().max() < 1e-5 * b.abs().max().clamp_min(1)
        assert b.std() > 1e-3  # something was compared
    assert (2 * sigma.log() - thin(log_variance)).abs().max() < 1e-5 * log_variance.abs().max().clamp_min(1)


def test_volumes_are_coded_alike():
    network = theirs()
    agree(ours(network, (8, 12, 20)), network, (8, 12, 20))


def test_images_are_coded_alike_by_a_two_dimensional_network():
    network, size = theirs(2), (1, 12, 20)
    agree(ours(network, size, evolve(OURS, stride=(1, 4, 4))), network, size, flat=True)


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        (dict(attention_levels=(False, True, False)), dict(attention=(1,))),
        (dict(with_encoder_nonlocal_attn=False, with_decoder_nonlocal_attn=False), dict(middle=False)),
        (dict(num_res_blocks=1), dict(blocks=1)),
    ],
)
def test_other_settings_agree_too(settings, options):
    network = theirs(**settings)
    agree(ours(network, (4, 8, 12), evolve(OURS, **options)), network, (4, 8, 12))


def test_maisi_is_the_variant_with_linear_upsampling():
    network = maisi()
    options = evolve(OURS, blocks=1, attention=(), middle=False, upsample="linear")
    agree(ours(network, (8, 12, 20), options), network, (8, 12, 20))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (dict(num_res_blocks=1), "no tensor 'encoder.blocks"),
        (dict(latent_channels=4), r"'.*' is \(4, .* expected \(5, "),
        (dict(num_res_blocks=3), "architectures differ"),
    ],
)
def test_other_architectures_are_refused_by_name(settings, said):
    with pytest.raises(DataError, match=said):
        ours(theirs(**settings), (4, 8, 12))


def test_a_refused_state_dict_changes_nothing():
    codec = KlCodec(OURS, VolumeSpec((4, 8, 12), ("a", "b")))
    before = {k: v.clone() for k, v in codec.state_dict().items()}
    state = theirs().state_dict() | {"extra.weight": torch.zeros(1)}
    with pytest.raises(DataError, match="'extra.weight' and 0 more have no place here"):
        init_from_monai(codec, state)
    assert all(torch.equal(v, before[k]) for k, v in codec.state_dict().items())
