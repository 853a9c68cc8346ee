"""The KL autoencoder: its contract over strides and sizes, coding, scaling, losses, gradients, resume."""

import math

import pytest
import torch
import torch.nn.functional as F
from attrs import evolve
from safetensors.torch import save_file

from gen_codecs.kl_codec import KlCodec, build
from gen_codecs.kl_network import kl_to_standard_normal, reparametrized
from gen_codecs.kl_options import AutoencoderKl, KlLossOptions
from gen_codecs.perceptual import Lpips, load_lpips
from gen_codecs.vq_options import DiscriminatorOptions
from gen_core.batch import Batch
from gen_core.codec import CodecContext
from gen_core.engine.fit import fit
from gen_core.errors import MissingError
from gen_core.options import FitOptions
from gen_core.testing.trainables import check_codec, check_trainable
from gen_core.trainable import Step
from gen_core.volume import VolumeSpec

QUIET = KlLossOptions(lpips=0.0)
SMALL = AutoencoderKl(
    width=8, blocks=1, norm_groups=4, losses=QUIET, discriminator=DiscriminatorOptions(start=0, width=4, layers=2)
)


def make(size=(8, 12, 16), channels=1, seed=0, **more):
    torch.manual_seed(seed)
    spec = VolumeSpec(size, tuple(f"c{i}" for i in range(channels)))
    return build(evolve(SMALL, **more), CodecContext(spec))


def step(index=0):
    return Step(index, 0, 10, torch.Generator().manual_seed(index), torch.device("cpu"))


SHAPES = [
    ((4, 4, 4), (8, 12, 20), (1.0, 2.0, 1.0), 3),
    ((4, 4, 4), (7, 9, 11), (1.0, 1.0, 1.0), 1),  # odd: padded and cropped
    ((1, 4, 4), (5, 12, 8), (1.0, 1.0, 1.0), 1),  # depth kept
    ((2, 4, 4), (3, 9, 16), (1.0, 1.0, 2.0), 2),
    ((1, 4, 4), (1, 11, 12), (1.0, 1.0, 1.0), 3),  # images
    ((4, 4, 4), (1, 8, 12), (1.0, 1.0, 1.0), 1),  # an image in a codec for volumes
    ((2, 1, 8), (6, 3, 17), (1.0, 1.0, 1.0, 2.0), 1),
]


@pytest.mark.parametrize(("stride", "size", "multipliers", "channels"), SHAPES)
def test_the_contract_holds_over_strides_and_sizes(volumes, stride, size, multipliers, channels):
    codec = make(size, channels, stride=stride, multipliers=multipliers)
    check_codec(codec, volumes(3, size, channels))
    check_trainable(codec, Batch(volumes(1, size, channels)))  # one volume at a time
    assert codec.latent.tokens is None and codec.latent.bounds is None
    assert codec.latent.shape(size) == (3, *(-(-n // s) for n, s in zip(size, stride)))


@pytest.mark.parametrize(
    "more",
    [
        {"upsample": "linear", "middle": False, "attention": ()},
        {"attention": (0, 1)},
        {"losses": evolve(QUIET, gan_3d=0.0)},
        {"losses": evolve(QUIET, gan_2d=0.5, feature_matching=2.0, adaptive=True, gan="hinge")},
    ],
)
def test_settings_keep_the_contract(volumes, more):
    codec = make(**more)
    check_codec(codec, volumes())
    assert ("discriminator" in codec.groups()) == (codec.options.losses.gan_3d > 0)


@pytest.mark.parametrize(("latent", "weights"), [(3, 4_102_568), (128, 4_584_193)])
def test_the_published_codec_has_the_published_number_of_weights(latent, weights):
    with torch.device("meta"):
        codec = build(AutoencoderKl(latent_channels=latent), CodecContext(VolumeSpec((128, 128, 128))))
    assert sum(p.numel() for m in codec.groups()["generator"] for p in m.parameters()) == weights
    assert codec.latent.shape((128, 128, 128)) == (latent, 32, 32, 32)


# Coding


def test_a_latent_is_the_posterior_mean_scaled(volumes):
    codec, x = make().eval(), volumes()
    with torch.no_grad():
        codec.calibrate([Batch(x)])
        mean, _ = codec.posterior(x)
        z = codec.encode(x)
    assert torch.allclose(z * codec.scale + codec.shift, mean, atol=1e-5)
    assert not torch.equal(z, mean)


def test_odd_sizes_are_padded_with_their_last_voxels(volumes):
    codec, x = make((7, 9, 11)).eval(), volumes(2, (7, 9, 11))
    padded = F.pad(x, (0, 1, 0, 3, 0, 1), mode="replicate")
    with torch.no_grad():
        assert torch.equal(codec.encode(x), codec.encode(padded))


def test_scaling_equals_float64_moments_of_the_whole_set(volumes):
    codec = make().eval()
    sets = [volumes(3, seed=1), volumes(1, seed=2)]
    with torch.no_grad():
        mean = torch.cat([codec.posterior(x)[0] for x in sets]).double()
        said = codec.calibrate(Batch(x) for x in sets)
        z = torch.cat([codec.encode(x) for x in sets])
    assert torch.allclose(codec.shift.double().flatten(), mean.mean((0, 2, 3, 4)), rtol=1e-5, atol=1e-7)
    assert torch.allclose(codec.scale.double().flatten(), mean.std((0, 2, 3, 4), correction=0), rtol=1e-5)
    assert z.mean((0, 2, 3, 4)).abs().max() < 1e-4
    assert torch.allclose(z.std((0, 2, 3, 4), correction=0), torch.ones(3), atol=1e-4)
    assert {"shift", "scale"} <= set(codec.state_dict())  # kept with the weights
    assert said["largest_noise"] > 0


def test_encoder_maps_are_what_the_mean_is_made_of(volumes):
    codec, x = make().eval(), volumes()
    with torch.no_grad():
        maps = codec.encoder_maps(x)
        mean = codec.encoder.to_mean(codec.encoder.head(maps))
        assert maps.shape == (2, 8, 2, 3, 4)
        assert torch.allclose(mean, codec.posterior(x)[0], atol=1e-6)


# Losses


def test_the_divergence_is_that_of_torch_distributions():
    g = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 2, 3, 4, 5, 6, generator=g).unbind(0)
    normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    want = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum((1, 2, 3, 4))
    assert torch.allclose(kl_to_standard_normal(mean, log_variance), want, rtol=1e-5)


def test_draws_have_the_posterior_s_moments():
    mean, log_variance = torch.full((1, 1, 10, 100, 100), 3.0), torch.full((1, 1, 10, 100, 100), math.log(0.25))
    z = reparametrized(mean, log_variance, torch.Generator().manual_seed(0))
    assert z.mean().item() == pytest.approx(3.0, abs=0.01)
    assert z.std().item() == pytest.approx(0.5, abs=0.01)


def test_losses_are_the_weighted_terms(volumes):
    losses = KlLossOptions(lpips=0.0, l1=3.0, kl=0.01, gan_3d=0.2)
    codec, x = make(losses=losses).train(), volumes()
    item, critic = list(codec.training_step(Batch(x), step()))
    with torch.no_grad():
        mean, log_variance = codec.posterior(x)
        eps = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
        x_hat = codec._decoded(mean + (0.5 * log_variance).exp() * eps)
        fake, real = codec.critics["volume"](x_hat)[-1], codec.critics["volume"](x)[-1]
        kl = 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum() / len(x)
    assert set(item.losses) == {"l1", "kl", "gan_volume"}
    assert item.losses["l1"].item() == pytest.approx(3 * (x_hat - x).abs().mean().item(), rel=1e-5)
    assert item.losses["kl"].item() == pytest.approx(0.01 * kl.item(), rel=1e-5)
    assert item.losses["gan_volume"].item() == pytest.approx(0.2 * ((fake - 1) ** 2).mean().item(), rel=1e-5)
    want = 0.5 * (((real - 1) ** 2).mean() + (fake**2).mean())
    assert critic.losses["square_volume"].item() == pytest.approx(want.item(), rel=1e-5)


def test_the_discriminator_enters_at_its_start(volumes):
    codec, x = make(discriminator=DiscriminatorOptions(start=2, width=4, layers=2)).train(), volumes()
    groups = [[item.group for item in codec.training_step(Batch(x), step(i))] for i in (0, 1, 2)]
    assert groups == [["generator"], ["generator"], ["generator", "discriminator"]]


def test_recomputed_activations_give_the_same_gradients(volumes):
    x, found = volumes(), []
    for on in (False, True):
        codec = make().train()
        codec.checkpoint_activations(on)
        item = next(codec.training_step(Batch(x), step()))
        sum(item.losses.values()).backward()
        found.append({k: p.grad for k, p in codec.named_parameters()})
    assert all(torch.equal(v, found[1][k]) for k, v in found[0].items() if v is not None)
    assert sum(v is not None for v in found[0].values()) > 20


def test_bf16_gradients_are_those_of_float32_and_the_posterior_stays_float32(volumes):
    x, found = volumes(2, (8, 16, 24)), []
    for half in (False, True):
        codec = make((8, 16, 24), width=16).train()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            mean, log_variance = codec.posterior(x)
            assert mean.dtype == log_variance.dtype == torch.float32
            item = next(codec.training_step(Batch(x), step()))
        sum(item.losses.values()).backward(inputs=[p for m in codec.groups()["generator"] for p in m.parameters()])
        found.append({k: p.grad for k, p in codec.named_parameters() if p.grad is not None})
    floor = 0.05 * torch.stack([g.norm() for g in found[0].values()]).median()
    for name, g in found[0].items():
        assert (g - found[1][name]).norm() < 0.15 * g.norm() + floor, name


def test_training_learns(volumes):
    codec, x = make(losses=evolve(QUIET, gan_3d=0.0)).train(), volumes(4)
    optimizer = torch.optim.Adam(codec.parameters(), lr=3e-3)
    found = []
    for index in range(80):
        (item,) = codec.training_step(Batch(x), step(index))
        optimizer.zero_grad()
        sum(item.losses.values()).backward()
        optimizer.step()
        found.append(item.losses["l1"].item())
    assert found[-1] < 0.6 * found[0]
    said = codec.eval().validation_step(Batch(x), step())
    assert said["l1"] < found[0] and set(said) == {"l1", "psnr", "kl_nats"}


class Volumes:
    """A training source of a few tensors."""

    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def stream(self, plan):
        for pairs in plan:
            yield Batch(torch.stack([self.x[i] for i, _ in pairs]), ids=[str(i) for i, _ in pairs])

    def close(self):
        pass


def test_a_longer_fit_goes_on_where_the_shorter_one_ended(volumes, tmp_path):
    def run(folder, steps):
        options = FitOptions(steps=steps, batch=2, lr=1e-3, optimizer="adam", checkpoint_every=2)
        codec = make()
        fit(codec, Volumes(volumes(6)), options, folder=tmp_path / folder, stage="fit.codec", seed=5)
        return codec.state_dict()

    run("parts", 2)
    whole, parts = run("whole", 4), run("parts", 4)
    assert [k for k, v in whole.items() if not torch.equal(v, parts[k])] == []


# The perceptual loss


SMALL_VGG = ((2, 3), (4,), (3, 2, 5))


def test_a_codec_adds_the_perceptual_loss_of_its_file(volumes, tmp_path, monkeypatch):
    g = torch.Generator().manual_seed(0)
    weights = {name: torch.rand(p.shape, generator=g) - 0.2 for name, p in Lpips(SMALL_VGG).named_tensors()}
    save_file(weights, tmp_path / "vgg.safetensors")
    monkeypatch.setattr("gen_codecs.kl_codec.load_lpips", lambda path, sha256: load_lpips(path, sha256, SMALL_VGG))
    found = []
    for weight in (1.0, 3.0):
        codec = make(losses=KlLossOptions(lpips=weight, lpips_weights=str(tmp_path / "vgg.safetensors"))).train()
        found.append(next(codec.training_step(Batch(volumes()), step())).losses["lpips"])
        assert not any("lpips" in name for name in codec.state_dict())
        assert "sha256 is not set" in codec.notes()[0]
    assert found[0] > 0 and found[1].item() == pytest.approx(3 * found[0].item(), rel=1e-5)
    found[1].backward()
    assert codec.decoder.head.weight.grad.abs().max() > 0


def test_without_a_file_the_perceptual_loss_is_off_and_said(volumes, tmp_path):
    codec = make(losses=KlLossOptions()).train()
    assert codec.notes() == ["the perceptual loss is off: losses.lpips_weights names no file"]
    assert "lpips" not in next(codec.training_step(Batch(volumes()), step())).losses
    codec = make(losses=KlLossOptions(lpips_weights=str(tmp_path / "gone.safetensors"))).train()
    with pytest.raises(MissingError, match="gone.safetensors"):
        next(codec.training_step(Batch(volumes()), step()))


def test_a_stored_codec_is_the_same_codec(volumes):
    x, codec = volumes(), make().eval()
    codec.calibrate([Batch(x)])
    other = make(seed=7).eval()
    other.load_state_dict(codec.state_dict())
    with torch.no_grad():
        assert torch.equal(codec.decode(codec.encode(x)), other.decode(other.encode(x)))
    assert isinstance(other, KlCodec)
