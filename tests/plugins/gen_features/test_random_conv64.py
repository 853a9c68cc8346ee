"""The random embedding: the same bytes everywhere, any image size, and faults that it must see."""

import hashlib

import pytest
import torch

from gen_core.features import FeaturesContext
from gen_core.volume import VolumeSpec
from gen_features.feature_options import RandomConv64 as Options
from gen_features.random_conv64 import RandomConv64, build, random_weights

GOLDEN = "5c7279f0217d923ea68e6b844d1bfc6e61598aa4729614ca7d8b58efb1c7610b"


@pytest.fixture(scope="module")
def network():
    return build(Options(), FeaturesContext(VolumeSpec((6, 24, 28))))


def test_the_weights_are_the_same_bytes_for_ever(network):
    # a change of this hash makes every published figure incomparable: raise the component's version with it
    assert network.protocol()["sha256"] == GOLDEN
    digest = hashlib.sha256()
    for kernel, bias in zip(network.kernels, network.biases):
        digest.update(kernel.numpy().tobytes() + bias.numpy().tobytes())
    assert digest.hexdigest() == GOLDEN
    assert RandomConv64(1).sha256 != GOLDEN


def test_weights_are_uniform_and_scaled_by_fan_in():
    for kernel, bias in random_weights(0):
        fan_in = kernel[0].size
        bound = (6 / (1.04 * fan_in)) ** 0.5
        assert abs(kernel).max() <= bound and kernel.std() == pytest.approx(bound / 3**0.5, rel=0.1)
        assert abs(bias).max() <= 0.25 and abs(kernel.mean()) < 0.15 * bound


@pytest.mark.parametrize("h, w", [(8, 8), (9, 31), (40, 17)])
def test_any_size_from_eight_gives_64_finite_features(network, h, w):
    f = network.features(torch.randn(5, 3, h, w, generator=torch.Generator().manual_seed(h)))
    assert f.shape == (5, 64) and f.dtype == torch.float32 and torch.isfinite(f).all()
    assert (f[0] != f[1]).any() and network.dim == 64 and network.takes == "image" and not network.fitted


def test_other_shapes_are_refused(network):
    for shape in ((2, 3, 7, 9), (2, 1, 16, 16), (3, 16, 16)):
        with pytest.raises(ValueError, match="random-conv64 takes"):
            network.features(torch.zeros(shape))


def test_features_do_not_depend_on_the_company_in_a_batch(network):
    x = torch.rand(9, 3, 20, 26, generator=torch.Generator().manual_seed(1))
    together = network.features(x)
    alone = torch.cat([network.features(x[i : i + 1]) for i in range(9)])
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("h, w", [(20, 26), (9, 31)])
def test_triplets_of_prepared_bands_give_the_features_of_the_gathered_images(network, h, w):
    g = torch.Generator().manual_seed(2)
    bands = torch.rand(7, h, w, generator=g) * 2 - 1
    picks = torch.stack([torch.randperm(7, generator=g)[:3] for _ in range(11)])
    got = network.features_of_triplets(network.prepare_bands(bands), picks)
    assert torch.allclose(got, network.features(bands[picks]), atol=1e-6) and got.shape == (11, 64)
    assert (got != network.features(bands[picks.flip(1)])).any()  # red and blue are not the same
    with pytest.raises(ValueError, match="bands"):
        network.prepare_bands(torch.zeros(7, 5, 9))


def test_nothing_is_trained(network):
    assert not any(p.requires_grad for p in network.parameters())


def blur(x, amount):
    for _ in range(amount):
        x = torch.nn.functional.avg_pool2d(x.flatten(0, 1), 3, 1, 1, count_include_pad=False).unflatten(0, x.shape[:2])
    return x


FAULTS = {
    "blur": lambda x, s: blur(x, s),
    "noise": lambda x, s: x + 0.03 * s * torch.randn(x.shape, generator=torch.Generator().manual_seed(5)),
    "band shift": lambda x, s: x + 0.04 * s * torch.tensor([1.0, 0.0, -1.0])[:, None, None],
    "contrast": lambda x, s: x * 0.85**s,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_distance_of_means_grows_with_each_severity_of_a_fault(network, make_eyes, fault):
    x = make_eyes(40, 2).x[:, 0, [5, 3, 0]]
    clean = network.features(x)
    scale = clean.std(0).clamp(min=1e-6)
    distances = []
    for severity in range(6):
        moved = network.features(FAULTS[fault](x, severity))
        distances.append(float(((moved - clean).mean(0) / scale).norm()))
    assert distances[0] == pytest.approx(0.0, abs=1e-4)
    assert all(b > a for a, b in zip(distances, distances[1:])), distances
    assert distances[1] > 0.05
