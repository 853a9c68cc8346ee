"""The variational autoencoder: its contract over latents and sizes, scaling, losses, free bits, learning."""

import math

import pytest
import torch
from attrs import evolve

from gen_codecs.vae_codec import build, kl_by_channel
from gen_codecs.vae_options import Vae, VaeLossOptions
from gen_core.batch import Batch
from gen_core.codec import CodecContext
from gen_core.engine.fit import fit
from gen_core.options import FitOptions
from gen_core.testing.trainables import check_codec, check_trainable
from gen_core.trainable import Step
from gen_core.volume import VolumeSpec

SMALL = Vae(latent_channels=5, stride=(4, 4, 4), width=4, multipliers=(1, 2), norm_groups=4)


def make(size=(8, 12, 16), channels=1, seed=0, **more):
    torch.manual_seed(seed)
    spec = VolumeSpec(size, tuple(f"c{i}" for i in range(channels)))
    return build(evolve(SMALL, **more), CodecContext(spec))


def step(index=0):
    return Step(index, 0, 10, torch.Generator().manual_seed(index), torch.device("cpu"))


SHAPES = [
    ((4, 4, 4), (8, 12, 20), 3),
    ((4, 4, 4), (7, 9, 11), 1),  # odd: padded and cropped
    ((1, 4, 4), (1, 11, 12), 2),  # images
    ((4, 4, 4), (1, 8, 12), 1),  # an image in a codec for volumes
    ((2, 1, 4), (6, 3, 17), 1),
]


@pytest.mark.parametrize("latent", ["flat", "spatial"])
@pytest.mark.parametrize(("stride", "size", "channels"), SHAPES)
def test_the_contract_holds_over_latents_strides_and_sizes(volumes, latent, stride, size, channels):
    codec = make(size, channels, latent=latent, stride=stride)
    check_codec(codec, volumes(3, size, channels))
    check_trainable(codec, Batch(volumes(1, size, channels)))  # one volume at a time
    grid = tuple(-(-n // s) for n, s in zip(size, stride))
    assert codec.latent.shape(size) == (5, *((1, 1, 1) if latent == "flat" else grid))
    assert codec.latent.bounds is None and codec.latent.tokens is None


@pytest.mark.parametrize(
    "more",
    [
        {"resample": "shuffle", "padding": "replicate"},
        {"norm": "batch", "blocks_encoder": 0, "blocks_decoder": 2},
        {"multipliers": ()},
        {"losses": VaeLossOptions(beta=4.0, warmup=7, free_bits=0.5)},
    ],
)
def test_settings_keep_the_contract(volumes, more):
    check_codec(make(**more), volumes(3))


def test_every_weight_has_a_part_in_the_loss(volumes):
    for latent in ("flat", "spatial"):
        codec = make(latent=latent).train()
        (item,) = codec.training_step(Batch(volumes(3)), step())
        sum(item.losses.values()).backward()
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in codec.parameters())


# Scaling


def test_posteriors_together_have_unit_scale_so_that_a_standard_normal_fits_them(volumes):
    codec, x = make(latent="spatial").eval(), volumes(6)
    with torch.no_grad():
        said = codec.calibrate([Batch(x[:4]), Batch(x[4:])])
        mean, log_variance = (v.double() for v in codec.posterior(x))
        want = (mean.var((0, 2, 3, 4), correction=0) + log_variance.exp().mean((0, 2, 3, 4))).sqrt()
        assert torch.allclose(codec.scale.double().flatten(), want, rtol=1e-5)
        assert torch.allclose(codec.encode(x) * codec.scale + codec.shift, mean.float(), atol=1e-5)
        draws = mean + (0.5 * log_variance).exp() * torch.randn(400, *mean.shape, dtype=torch.float64)
        z = (draws - codec.shift.double()) / codec.scale.double()
    assert z.std((0, 1, 3, 4, 5)).sub(1).abs().max() < 0.02
    assert said["posterior_spread"] == pytest.approx(want.mean().item(), rel=1e-5)


@pytest.mark.parametrize("how", ["mean", "none"])
def test_scaling_by_the_means_or_not_at_all(volumes, how):
    codec, x = make(latent="spatial", latent_scaling=how).eval(), volumes(6)
    with torch.no_grad():
        codec.calibrate([Batch(x)])
        z = codec.encode(x)
        if how == "none":
            assert torch.equal(z, codec.posterior(x)[0])
        else:
            assert torch.allclose(z.std((0, 2, 3, 4), correction=0), torch.ones(5), atol=1e-3)


def test_channels_whose_means_move_count_as_active(volumes):
    codec, x = make().eval(), volumes(4)
    with torch.no_grad():
        codec.moments.weight.zero_()
        assert codec.calibrate([Batch(x)])["active_share"] == 0.0
        codec.moments.weight[:2] = 1.0  # the means of two channels of five
        assert codec.calibrate([Batch(x)])["active_share"] == pytest.approx(0.4)


# Losses


def test_the_loss_is_the_summed_squared_error_and_beta_times_the_divergence(volumes):
    codec, x = make(losses=VaeLossOptions(beta=3.0)).train(), volumes(3)
    (item,) = codec.training_step(Batch(x), step())
    with torch.no_grad():
        mean, log_variance = codec.posterior(x)
        eps = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
        x_hat = codec._decoded(codec._unfolded(mean + (0.5 * log_variance).exp() * eps))
    normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    kl = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum() / 3
    want = torch.nn.functional.mse_loss(x_hat, x, reduction="sum") / 3
    assert item.losses["squared_error"].item() == pytest.approx(want.item(), rel=1e-5)
    assert item.losses["kl"].item() == pytest.approx(3 * kl.item(), rel=1e-4)
    terms = codec.eval().terms(x, x_hat)
    assert terms["squared_error"].mean().item() == pytest.approx(want.item(), rel=1e-5)
    assert terms["kl"].shape == (3,) and terms["kl"].mean().item() == pytest.approx(kl.item(), rel=1e-4)


def test_the_likelihood_is_a_gaussian_of_variance_one_half(volumes):
    codec, x = make().train(), volumes(2)
    (item,) = codec.training_step(Batch(x), step())
    with torch.no_grad():
        mean, log_variance = codec.posterior(x)
        eps = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
        x_hat = codec._decoded(codec._unfolded(mean + (0.5 * log_variance).exp() * eps)).double()
    density = torch.distributions.Normal(x_hat, math.sqrt(0.5)).log_prob(x.double()).sum() / 2
    constant = -0.5 * math.log(math.pi) * x[0].numel()
    assert item.losses["squared_error"].item() == pytest.approx((constant - density).item(), rel=1e-5)


def test_channels_below_their_free_bits_are_charged_for_them_and_get_no_gradient():
    mean = torch.zeros(4, 3, 1, 1, 2, requires_grad=True)
    with torch.no_grad():
        mean[:, 1] = 2.0  # (2^2 / 2) nats a voxel, two voxels: 4 nats
        mean[:, 2] = 0.1
    channels = kl_by_channel(mean, torch.zeros_like(mean))
    assert torch.allclose(channels, torch.tensor([0.0, 4.0, 0.01]))
    charged = channels.clamp_min(0.5)
    assert charged.sum().item() == pytest.approx(5.0)
    charged.sum().backward()
    assert mean.grad[:, 1].abs().min() > 0 and mean.grad[:, 0].abs().max() == mean.grad[:, 2].abs().max() == 0


def test_free_bits_enter_the_loss(volumes):
    x = volumes(2)
    (item,) = make(losses=VaeLossOptions(free_bits=1e6)).train().training_step(Batch(x), step())
    assert item.losses["kl"].item() == pytest.approx(5e6)  # five channels


def test_beta_rises_in_the_warm_up(volumes):
    x, found = volumes(2), []
    for index in (0, 4, 9, 30):
        codec = make(losses=VaeLossOptions(beta=2.0, warmup=10)).train()
        (item,) = codec.training_step(Batch(x), step(index))
        found.append(item.losses["kl"].item() / item.logs["kl_nats"].item())
    assert found == pytest.approx([0.2, 1.0, 2.0, 2.0], rel=1e-5)


def test_bf16_keeps_the_posterior_and_the_sums_in_float32(volumes):
    x, found = volumes(2), []
    for half in (False, True):
        codec = make(width=16).train()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            assert all(v.dtype == torch.float32 for v in codec.posterior(x))
            (item,) = codec.training_step(Batch(x), step())
        assert all(v.dtype == torch.float32 for v in item.losses.values())
        found.append(item.losses["squared_error"].item())
    assert found[1] == pytest.approx(found[0], rel=0.03) and found[0] != found[1]


def test_recomputed_activations_give_the_same_gradients(volumes):
    found = []
    for on in (False, True):
        codec = make().train()
        codec.checkpoint_activations(on)
        (item,) = codec.training_step(Batch(volumes()), step())
        sum(item.losses.values()).backward()
        found.append([p.grad for p in codec.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found))


def test_training_learns_and_a_large_beta_empties_the_latent(volumes):
    x, found = volumes(8, (1, 12, 16)), {}
    for beta in (0.05, 1000.0):
        codec = make((1, 12, 16), losses=VaeLossOptions(beta=beta)).train()
        optimizer = torch.optim.Adam(codec.parameters(), lr=5e-3)
        for index in range(120):
            (item,) = codec.training_step(Batch(x), step(index))
            optimizer.zero_grad()
            sum(item.losses.values()).backward()
            optimizer.step()
        found[beta] = codec.eval().validation_step(Batch(x), step())
    assert found[0.05]["psnr"] > found[1000.0]["psnr"] + 3
    assert found[1000.0]["kl_nats"] < 0.1 < 5 < found[0.05]["kl_nats"]


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
        codec = make(losses=VaeLossOptions(warmup=3))
        fit(codec, Volumes(volumes(6)), options, folder=tmp_path / folder, stage="fit.codec", seed=5)
        return codec.state_dict()

    run("parts", 2)
    whole, parts = run("whole", 4), run("parts", 4)
    assert [k for k, v in whole.items() if not torch.equal(v, parts[k])] == []
