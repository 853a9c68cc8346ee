"""Maps of a prior that knows healthy volumes exactly: planted lesions are found, in any batch, the same every time."""

import numpy as np
import pytest
import torch

from gen_codecs.identity import IdentityOptions
from gen_codecs.identity_codec import build as identity
from gen_core.codec import CodecContext
from gen_core.condition import Conditions
from gen_core.options import SampleOptions
from gen_core.run.anomaly.maps import AnomalyOptions, anomaly_maps, smoothed
from gen_core.run.anomaly.scores import Ranking
from gen_core.volume import VolumeSpec
from gen_diffusion.ddim import build as ddim
from gen_diffusion.ddpm import build as ddpm
from gen_diffusion.sampler_options import Ddim, Ddpm

from .test_partial_noising import Gaussian

SIZE = (4, 9, 11)
SD = 0.03


class Lossy(torch.nn.Module):
    """A codec that darkens the first column of every row by half."""

    def encode(self, x):
        z = x.clone()
        z[..., 0] -= 0.5
        return z

    def decode(self, z):
        return z.clamp(-1, 1)


@pytest.fixture
def healthy():
    """A template and five volumes about it (5, 2, 4, 9, 11); mask of the lesion planted in the last two."""
    g = torch.Generator().manual_seed(0)
    template = 0.5 * torch.rand(2, *SIZE, generator=g) - 0.25
    x = template + SD * torch.randn(5, 2, *SIZE, generator=g)
    mask = np.zeros((5, *SIZE), bool)
    mask[3, 1:3, 2:5, 3:6] = True
    mask[4, 0:2, 5:8, 7:10] = True
    x = x + 0.3 * torch.from_numpy(mask)[:, None]
    return template, x, mask


def maps(template, x, sampler=None, codec=None, cond=None, ids=None, **more):
    options = AnomalyOptions(**{"times": (400,), **more})
    prior = Gaussian(template, SD)
    codec = codec or identity(IdentityOptions(), CodecContext(VolumeSpec(SIZE, ("a", "b"))))
    ids = ids or [f"v{i}" for i in range(len(x))]
    x_codec, each = anomaly_maps(
        x, ids, options, codec=codec, prior=prior, sampler=sampler or ddim(Ddim()), sample=SampleOptions(), cond=cond
    )
    return x_codec, list(each)


@pytest.mark.parametrize("sampler", [ddim(Ddim()), ddpm(Ddpm(steps=20))])
def test_a_perfect_prior_finds_planted_lesions(healthy, sampler):
    template, x, mask = healthy
    _, (mapped,) = maps(template, x, sampler, n=4)
    assert mapped.maps.shape == mask.shape
    assert Ranking.of(mapped.maps.numpy(), mask).auroc > 0.99
    worst = mapped.maps.flatten(1).max(1).values
    assert worst[3:].min() > worst[:3].max()
    assert mapped.x_hat.shape == x.shape and (mapped.x_hat - template).abs().mean() < 2 * SD


def test_too_little_noise_keeps_the_lesions(healthy):
    template, x, mask = healthy
    _, (little, enough) = maps(template, x, times=(1, 400), n=2)
    assert enough.maps[torch.from_numpy(mask)].mean() > 4 * little.maps[torch.from_numpy(mask)].mean()


def test_at_zero_a_map_is_the_codec_s_own_error(healthy):
    template, x, _ = healthy
    x_codec, (mapped,) = maps(template, x, codec=Lossy(), times=(0,), n=3)
    assert torch.equal(mapped.x_hat, x_codec)
    assert torch.allclose(mapped.maps, (x - x_codec).abs().mean(1))
    assert mapped.maps[..., 0].min() > 0.4 and mapped.maps[..., 1:].max() == 0


def test_the_codec_s_own_error_can_be_taken_off(healthy):
    template, x, _ = healthy
    plain, less = (maps(template, x, codec=Lossy(), minus_codec=on)[1][0].maps for on in (False, True))
    own = (x - Lossy().decode(Lossy().encode(x))).abs().mean(1)
    assert torch.allclose(plain - less, own, atol=1e-6) and own.max() > 0.4


@pytest.mark.parametrize("batch", [1, 2, 4, 100])
def test_maps_are_the_same_in_any_batch(healthy, batch):
    template, x, _ = healthy
    (whole,) = maps(template, x, ddpm(Ddpm(steps=20)), n=3, batch=15)[1]
    (parts,) = maps(template, x, ddpm(Ddpm(steps=20)), n=3, batch=batch)[1]
    assert torch.allclose(whole.maps, parts.maps, atol=1e-6) and torch.allclose(whole.x_hat, parts.x_hat, atol=1e-6)
    (alone,) = maps(template, x[2:3], ddpm(Ddpm(steps=20)), n=3, batch=batch, ids=["v2"])[1]
    assert torch.allclose(whole.maps[2:3], alone.maps, atol=1e-6)


def test_noise_hangs_on_seed_id_and_draw_alone(healthy):
    template, x, _ = healthy
    first = maps(template, x)[1][0].maps
    assert torch.equal(first, maps(template, x)[1][0].maps)
    assert not torch.allclose(first, maps(template, x, seed=1)[1][0].maps, atol=1e-4)
    same = maps(template, x[:1].expand(2, -1, -1, -1, -1), ids=["a", "b"])[1][0].maps
    assert not torch.allclose(same[0], same[1], atol=1e-4)


def test_a_map_is_the_mean_over_draws_and_channels(healthy):
    template, x, _ = healthy
    decoded = []

    class Recording(Lossy):
        def decode(self, z):
            decoded.append(super().decode(z))
            return decoded[-1]

    (mapped,) = maps(template, x, ddpm(Ddpm(steps=20)), codec=Recording(), n=3, batch=2)[1]
    x_hat = torch.cat(decoded[1:]).unflatten(0, (5, 3))  # the first is the codec alone
    assert torch.allclose(mapped.maps, (x[:, None] - x_hat).abs().mean((1, 2)), atol=1e-6)
    assert torch.equal(mapped.x_hat, x_hat[:, 0]) and (x_hat[:, 0] - x_hat[:, 1]).abs().max() > 0.01


def test_conditions_go_along_with_their_volumes(healthy):
    template, x, _ = healthy
    seen = []

    class Listening(Gaussian):
        def denoise(self, z_t, t, cond=None):
            seen.append(cond.values["age"].tolist())
            return super().denoise(z_t, t)

    ages = Conditions({"age": torch.arange(5.0)}, {"age": torch.ones(5, dtype=torch.bool)})
    options = AnomalyOptions(times=(300,), n=2, batch=4)
    settings = {"codec": Lossy(), "prior": Listening(template, SD), "sampler": ddim(Ddim(steps=1))}
    list(anomaly_maps(x, list("abcde"), options, **settings, sample=SampleOptions(), cond=ages)[1])
    assert seen == [[0, 0, 1, 1], [2, 2, 3, 3], [4, 4]]


def test_smoothing_keeps_the_sum_and_leaves_axes_of_length_one():
    volume = np.zeros((1, 31, 33), np.float32)
    volume[0, 15, 16] = 1.0
    soft = smoothed(volume, 1.5)
    assert soft.sum() == pytest.approx(1.0, abs=1e-4) and soft.dtype == np.float32
    h = np.arange(31) - 15.0
    assert (soft[0].sum(1) * h**2).sum() == pytest.approx(1.5**2, rel=0.02)
    assert smoothed(volume, 0.0) is volume
