"""The contract of the vector-quantized codecs over strides and sizes; coding, scaling, losses, gradients, resume."""

import copy

import pytest
import torch
import torch.nn.functional as F

from gen_codecs.vq_codec import VqCodec, build_vqgan, build_vqvae
from gen_codecs.vq_options import CodebookOptions, DiscriminatorOptions, LossOptions, Vqgan, Vqvae
from gen_core.batch import Batch
from gen_core.codec import CodecContext
from gen_core.engine.fit import fit
from gen_core.engine.stop import StopFlag
from gen_core.errors import RecipeError, Stopped
from gen_core.options import FitOptions
from gen_core.testing.trainables import check_codec, check_trainable
from gen_core.trainable import Step
from gen_core.volume import VolumeSpec

TABLE = CodebookOptions(queue=128)


def step(index=0, micro=0, epoch=0, total=10):
    device = torch.device("cpu")
    return Step(index, epoch, total, torch.Generator().manual_seed(100 * index + micro), device, micro)


def train(codec, x, index=0, lr=0.02):
    """One step as the engine does it; the losses of each group."""
    codec.train()
    found = {}
    for item in codec.training_step(Batch(x), step(index)):
        found[item.group] = item
        parameters = [p for m in codec.groups()[item.group] for p in m.parameters()]
        sum(item.losses.values()).backward(inputs=parameters)
    with torch.no_grad():
        for p in codec.parameters():
            if p.grad is not None:
                p -= lr * p.grad
                p.grad = None
    for group in found:
        codec.updated(group, step(index))
    return found


def settle(codec, x):
    """Weights and codes as after a long fit: the codes are K-means of what the encoder makes of x."""
    train(codec, x)
    codec.eval()
    with torch.no_grad():
        e = codec._e(x)
        codec.codebook.start(e.movedim(1, -1).reshape(-1, e.shape[1]), step().generator)
        codec.calibrate([Batch(x)])
    return codec


# The contract

SHAPES = [
    ((8, 8, 8), (8, 16, 24), 1),
    ((4, 8, 8), (7, 17, 22), 1),  # odd: padded and cropped
    ((16, 4, 4), (16, 9, 12), 1),
    ((4, 4, 4), (8, 12, 20), 3),
    ((1, 4, 4), (1, 11, 12), 3),  # images
    ((8, 8, 8), (1, 16, 24), 1),  # an image in a codec for volumes
    ((2, 1, 4), (5, 3, 9), 2),
    ((16, 16, 16), (16, 16, 33), 1),
]


@pytest.mark.parametrize("resample", ["conv", "shuffle"])
@pytest.mark.parametrize(("stride", "size", "channels"), SHAPES)
def test_vqvae_keeps_the_contract(make_codec, volumes, stride, size, channels, resample):
    codec = make_codec(stride=stride, size=size, channels=channels, resample=resample)
    x = volumes(3, size, channels)
    settle(codec, x)
    check_codec(codec, x)
    assert codec.latent.shape(size) == (3, *(-(-n // s) for n, s in zip(size, stride)))


@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
@pytest.mark.parametrize(("stride", "size", "channels"), SHAPES[:5])
def test_vqgan_keeps_the_contract(make_codec, volumes, stride, size, channels, norm):
    critic = DiscriminatorOptions(start=0, width=4, layers=2, norm=norm)
    codec = make_codec("vqgan", stride=stride, size=size, channels=channels, discriminator=critic)
    x = volumes(2, size, channels)
    settle(codec, x)
    check_codec(codec, x)
    check_trainable(codec, Batch(x[:1]))  # one volume at a time


@pytest.mark.parametrize("more", [{"latent_scaling": "per-channel"}, {"requantize": False}, {"norm": "batch"}])
def test_settings_keep_the_contract(make_codec, volumes, more):
    codec = make_codec("vqgan", **more)
    settle(codec, volumes())
    check_codec(codec, volumes())


def test_the_builders_give_the_codec_of_their_options():
    context = CodecContext(VolumeSpec((8, 16, 24)))
    vae = build_vqvae(Vqvae(width=4, codes=16, codebook=TABLE), context)
    gan = build_vqgan(Vqgan(width=4, codes=16, codebook=TABLE, discriminator=DiscriminatorOptions(width=4)), context)
    assert list(vae.groups()) == ["generator"] and list(gan.groups()) == ["generator", "discriminator"]
    assert vae.ema_groups() == gan.ema_groups() == ("generator",)
    assert gan.latent.bounds == (-1.0, 1.0) and gan.latent.tokens == 16


def test_the_published_codec_has_5_9_million_weights():
    with torch.device("meta"):
        codec = build_vqgan(Vqgan(), CodecContext(VolumeSpec((16, 224, 224))))
    weights = sum(p.numel() for m in codec.groups()["generator"] for p in m.parameters())
    assert weights == pytest.approx(5.9e6, rel=0.01)
    assert codec.latent.shape((16, 224, 224)) == (8, 2, 28, 28)
    assert codec.latent.shape((16, 672, 672)) == (8, 2, 84, 84)


# Coding


def test_tokens_and_latents_say_the_same(make_codec, volumes):
    x = volumes()
    codec = settle(make_codec(), x)
    with torch.no_grad():
        idx = codec.encode_tokens(x)
        assert torch.equal(codec.decode_tokens(idx), codec.decode(codec.encode(x)))
        # a latent that lies at a code is that code: tokens -> latents -> tokens
        z_q = (codec._codes(idx) - codec.shift) / codec.scale
        e = z_q * codec.scale + codec.shift
        assert torch.equal(codec._quantize(e)[1], idx)


def test_decoding_snaps_latents_to_codes_unless_switched_off(make_codec, volumes):
    x = volumes()
    for requantize in (True, False):
        codec = settle(make_codec(requantize=requantize), x)
        with torch.no_grad():
            z = codec.encode(x)
            near = z + 1e-4 * torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
            assert torch.equal(codec.decode(near), codec.decode(z)) == requantize


def test_autocast_changes_no_code_on_decoding(make_codec):
    codec = make_codec(codes=256, latent_channels=8)
    codec.codebook.codebook.copy_(torch.randn(256, 8, generator=torch.Generator().manual_seed(1)))
    z = torch.randn(4, 8, 1, 2, 2, generator=torch.Generator().manual_seed(2))
    seen = []
    codec.decoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    codec.decode(z)
    with torch.autocast("cpu", torch.bfloat16):
        x_hat = codec.decode(z)
    assert torch.equal(*seen) and seen[1].dtype == torch.float32
    assert x_hat.dtype == torch.float32


def test_odd_sizes_are_padded_with_their_last_voxels_and_cropped_again(make_codec, volumes):
    codec = make_codec(size=(7, 9, 11), stride=(4, 4, 4)).eval()
    x = volumes(2, (7, 9, 11))
    padded = F.pad(x, (0, 1, 0, 3, 0, 1), mode="replicate")
    assert torch.equal(codec.encode(x), codec.encode(padded))
    assert codec.decode(codec.encode(x)).shape == x.shape


def test_encoder_maps_are_what_latents_are_projected_from(make_codec, volumes):
    codec, x = make_codec().eval(), volumes()
    maps = codec.encoder_maps(x)
    assert maps.shape == (2, 32, 1, 2, 2) and maps.dtype == torch.float32
    assert torch.allclose(codec.to_latent(maps), codec.encode(x))


# Scaling


def test_per_channel_scaling_equals_float64_moments_of_the_whole_set(make_codec, volumes):
    codec = make_codec(latent_scaling="per-channel").eval()
    assert codec.latent.bounds is None
    sets = [volumes(3, seed=1), volumes(1, seed=2)]
    with torch.no_grad():
        e = torch.cat([codec._e(x) for x in sets]).double()
        codec.calibrate(Batch(x) for x in sets)
        z = torch.cat([codec.encode(x) for x in sets])
    assert torch.allclose(codec.shift.double().flatten(), e.mean((0, 2, 3, 4)), rtol=1e-5)
    assert torch.allclose(codec.scale.double().flatten(), e.std((0, 2, 3, 4), correction=0), rtol=1e-5)
    assert z.mean((0, 2, 3, 4)).abs().max() < 1e-4
    assert torch.allclose(z.std((0, 2, 3, 4), correction=0), torch.ones(3), atol=1e-4)


def test_min_max_scaling_is_that_of_the_codes_in_use(make_codec, volumes):
    codec, x = make_codec(), volumes(4)
    train(codec, x)
    codec.eval()
    codec.codebook.codebook[7] = 1e3  # nobody's
    with torch.no_grad():
        said = codec.calibrate([Batch(x[:2]), Batch(x[2:])])
        used = codec.encode_tokens(x).unique()
        codes = (codec.codebook.codebook[used] - codec.shift.flatten()) / codec.scale.flatten()
    assert 7 not in used
    assert said["codes_used"] == len(used)
    assert codes.min() == pytest.approx(-1, abs=1e-5) and codes.max() == pytest.approx(1, abs=1e-5)


# Training


def test_the_gradient_passes_straight_through_the_quantizer(make_codec, volumes):
    codec, x = make_codec(losses=LossOptions(lpips=0.0, l1=1.0, commitment=0.0)).train(), volumes()
    item = next(codec.training_step(Batch(x), step()))
    item.losses["l1"].backward()
    got = codec.to_latent.weight.grad.clone()
    # by hand: the gradient at z_q, handed on to e
    codec.zero_grad()
    e = codec._e(x)
    z_q = codec._quantize(e)[0].requires_grad_()
    F.l1_loss(codec._decoded(z_q), x).backward()
    e.backward(z_q.grad)
    assert got.abs().max() > 0
    assert torch.allclose(got, codec.to_latent.weight.grad, rtol=1e-4, atol=1e-8)


def test_losses_are_the_weighted_terms(make_codec, volumes):
    x = volumes()
    losses = LossOptions(lpips=0.0, l1=3.0, smooth=0.2, gradient=0.5, commitment=0.7)
    codec = make_codec(losses=losses).train()
    item = next(codec.training_step(Batch(x), step()))
    with torch.no_grad():
        e = codec._e(x)
        z_q, _ = codec._quantize(e)
        x_hat = codec._decoded(z_q)
    gap = (x_hat - x).abs()
    smooth = torch.where(gap < 0.2, 0.5 * gap**2 / 0.2, gap - 0.1).mean()
    down = (x_hat.diff(dim=3) - x.diff(dim=3)).abs().mean()
    right = (x_hat.diff(dim=4) - x.diff(dim=4)).abs().mean()
    assert item.losses["l1"].item() == pytest.approx(3 * smooth.item(), rel=1e-4)
    assert item.losses["gradient"].item() == pytest.approx(0.5 * (down + right).item(), rel=1e-4)
    assert item.losses["commitment"].item() == pytest.approx(0.7 * (e - z_q).square().mean().item(), rel=1e-4)
    assert item.logs["perplexity"] >= 1 and 0 < item.logs["code_use"] <= 1


def test_discriminators_enter_at_their_start(make_codec, volumes):
    codec, x = make_codec("vqgan", discriminator=DiscriminatorOptions(start=2, width=4, layers=2)), volumes()
    before = copy.deepcopy(codec.critics.state_dict())
    for index in (0, 1):
        assert list(train(codec, x, index)) == ["generator"]
    assert all(torch.equal(v, before[k]) for k, v in codec.critics.state_dict().items())
    found = train(codec, x, 2)
    assert set(found["generator"].losses) == {
        "l1", "commitment", "gan_slices", "gan_volume", "matching_slices", "matching_volume"
    }  # fmt: skip
    assert set(found["discriminator"].losses) == {"hinge_slices", "hinge_volume"}


@pytest.mark.parametrize(("off", "left"), [("gan_2d", "volume"), ("gan_3d", "slices")])
def test_a_gan_weight_of_zero_leaves_its_discriminator_out(make_codec, off, left):
    codec = make_codec("vqgan", losses=LossOptions(lpips=0.0, **{off: 0.0}))
    assert list(codec.critics) == [left]


def test_discriminators_learn_to_tell_data_from_reconstructions(make_codec, volumes):
    codec, x = make_codec("vqgan"), volumes(4)
    for index in range(60):
        codec.train()
        items = list(codec.training_step(Batch(x), step(index)))
        parameters = list(codec.critics.parameters())
        gradients = torch.autograd.grad(sum(items[1].losses.values()), parameters)
        with torch.no_grad():
            for p, g in zip(parameters, gradients):
                p -= 0.05 * g
    assert items[1].losses["hinge_volume"] < 0.6 < 1.0
    assert items[1].logs["real_volume"] > items[1].logs["fake_volume"]


def test_the_adaptive_weight_balances_the_gradients_at_the_last_layer(make_codec, volumes):
    codec = make_codec("vqgan", losses=LossOptions(lpips=0.0, adaptive=True, commitment=0.0)).train()
    item = next(codec.training_step(Batch(volumes()), step()))
    last = codec.decoder.last_weight
    terms = {k: v for k, v in item.losses.items() if k.startswith(("gan", "matching"))}
    norm = lambda t: torch.autograd.grad(t, last, retain_graph=True)[0].norm().item()
    assert item.logs["adaptive_weight"] > 0
    assert norm(sum(terms.values())) == pytest.approx(norm(item.losses["l1"]), rel=0.01)


@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize("resample", ["conv", "shuffle"])
def test_recomputed_activations_give_the_same_gradients_and_state(make_codec, volumes, resample, norm):
    x, found = volumes(), []
    for on in (False, True):
        codec = make_codec(resample=resample, norm=norm).train()
        codec.checkpoint_activations(on)
        item = next(codec.training_step(Batch(x), step()))
        sum(item.losses.values()).backward()
        gradients = {k: p.grad for k, p in codec.named_parameters()}
        found.append(gradients | dict(codec.named_buffers()))
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(v, found[1][k]) for k, v in found[0].items())


@pytest.mark.parametrize(
    ("stride", "size"), [((8, 8, 8), (16, 16, 24)), ((16, 4, 4), (16, 12, 8)), ((4, 8, 8), (4, 24, 16))]
)
def test_bf16_gradients_of_a_whole_codec_are_those_of_float32(make_codec, volumes, stride, size):
    x, found = volumes(2, size), []
    for half in (False, True):
        codec = make_codec("vqgan", stride=stride, size=size, width=8).train()
        gradients = {}
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            # through encoder and decoder without the quantizer, whose choices would differ
            loss = F.mse_loss(codec.decoder(codec._e(x)).float(), x)
            d = codec.critics["volume"](x)[-1].float().square().mean()
        loss.backward(inputs=[p for m in codec.groups()["generator"] for p in m.parameters()])
        d.backward(inputs=list(codec.critics["volume"].parameters()))
        gradients = {k: p.grad for k, p in codec.named_parameters() if p.grad is not None}
        found.append(gradients)
    floor = 0.05 * torch.stack([g.norm() for g in found[0].values()]).median()
    for name, g in found[0].items():
        assert (g - found[1][name]).norm() < 0.1 * g.norm() + floor, name


def test_training_learns_and_uses_many_codes(make_codec, volumes):
    codec, x = make_codec(stride=(4, 4, 4)).train(), volumes(4)
    optimizer = torch.optim.Adam([p for m in codec.groups()["generator"] for p in m.parameters()], lr=5e-3)
    found = []
    for index in range(30):
        item = next(codec.training_step(Batch(x), step(index)))
        optimizer.zero_grad()
        sum(item.losses.values()).backward()
        optimizer.step()
        codec.updated("generator", step(index))
        found.append(item.losses["l1"].item())
    assert found[-1] < 0.5 * found[0]
    assert item.logs["perplexity"] > 4 and item.logs["code_use"] > 0.8


def test_one_step_of_two_micro_batches_updates_the_codebook_once(make_codec, volumes):
    x = volumes(4)
    codecs = [make_codec().train() for _ in range(2)]
    for codec in codecs:
        codec.codebook.start(torch.randn(64, 3, generator=torch.Generator().manual_seed(3)), step().generator)
    list(codecs[0].training_step(Batch(x), step()))
    for micro in (0, 1):
        list(codecs[1].training_step(Batch(x[2 * micro : 2 * micro + 2]), step(micro=micro)))
    for codec in codecs:
        codec.updated("generator", step())
        codec.updated("discriminator", step())
    a, b = (codec.codebook for codec in codecs)
    assert torch.equal(a.counts, b.counts)
    assert torch.allclose(a.codebook, b.codebook, atol=1e-5)


def test_k_means_resets_at_the_epochs_asked_for(make_codec, volumes):
    codec = make_codec(codebook=CodebookOptions(queue=128, kmeans_every=2, kmeans_until=0.5))
    for index in range(3):
        train(codec, volumes(4, seed=index), index)
    reset = lambda epoch, index: codec.epoch_started(epoch, step(index, epoch=epoch, total=10))
    assert reset(1, 2) == {} and reset(2, 6) == {}
    before = codec.codebook.codebook.clone()
    assert reset(2, 4) == {"kmeans_reset": 1.0}
    assert not torch.equal(before, codec.codebook.codebook)
    off = make_codec(codebook=CodebookOptions(queue=128, kmeans_every=0))
    assert off.epoch_started(3, step(30, epoch=3)) == {}


def test_a_fit_that_starts_from_another_s_weights_forgets_its_queue_but_not_its_codes(make_codec, volumes):
    codec = make_codec()
    train(codec, volumes(), 9)
    codes = codec.codebook.codebook.clone()
    assert codec.epoch_started(0, step(0)) == {}
    assert int(codec.codebook.queued) == 0 and codec.codebook.use(9) == 0
    assert codec.codebook.initialized and torch.equal(codes, codec.codebook.codebook)


# Resume, through the engine


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


class StopAfter(StopFlag):
    """Asks for a stop at the n-th look."""

    def __init__(self, looks):
        self.left = looks
        super().__init__()

    @property
    def requested(self):
        self.left -= 1
        return "SIGTERM" if self.left < 0 else ""

    @requested.setter
    def requested(self, value):
        pass


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_stopped_and_resumed_fit_ends_with_the_same_codebook_and_weights(make_codec, volumes, tmp_path, precision):
    options = FitOptions(steps=9, batch=4, accumulate=2, lr=1e-2, ema=0.9, checkpoint_every=2, precision=precision)
    source = Volumes(volumes(10))

    def run(folder, stop=None):
        codec = make_codec("vqgan", discriminator=DiscriminatorOptions(start=3, width=4, layers=2))
        fit(codec, source, options, folder=tmp_path / folder, stage="fit.codec", seed=5, stop=stop)
        return codec.state_dict()

    whole = run("whole")
    for looks in (4, 9, 14, 22):
        with pytest.raises(Stopped):
            run("parts", StopAfter(looks))
    parts = run("parts")
    different = [k for k, v in whole.items() if not torch.equal(v, parts[k])]
    assert different == []
    assert whole["codebook.initialized"] and int(whole["codebook.queued"]) == 9 * 4 * 1 * 2 * 2


def test_running_out_of_memory_leaves_one_codebook_update_a_step(make_codec, volumes, tmp_path):
    source = Volumes(volumes(8))
    options = FitOptions(steps=2, batch=4, lr=1e-2)

    class Tight(VqCodec):
        def training_step(self, batch, step):
            yield from super().training_step(batch, step)
            if len(batch) > 2:
                raise torch.OutOfMemoryError("out of memory")

    codec = make_codec()
    codec.__class__ = Tight
    summary = fit(codec, source, options, folder=tmp_path, stage="fit.codec", seed=5)
    assert "micro-batches" in summary.notes[0]
    assert int(codec.codebook.queued) == 2 * 4 * 4  # nothing was counted twice
    assert codec.codebook.batch_counts.sum() == 4 * 4


# The perceptual loss in the recipe


def test_a_perceptual_loss_without_weights_is_told(make_codec, tmp_path):
    codec = make_codec(losses=LossOptions())
    assert codec.notes() == ["the perceptual loss is off: losses.lpips_weights names no file"]
    assert make_codec(losses=LossOptions(lpips=0.0)).notes() == []
    absent = str(tmp_path / "vgg.safetensors")
    assert absent in make_codec(losses=LossOptions(lpips_weights=absent)).notes()[0]


def test_band_weights_have_a_mean_of_one_and_favour_their_bands(make_codec, volumes):
    x = volumes(2, (8, 12, 16))
    weights = (1.0, 3.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    codec = make_codec(losses=LossOptions(lpips=0.0, l1=2.0, bands=weights))
    x_hat = x.clone()
    x_hat[:, :, 1] += 0.5  # an error in the favoured band alone
    found = codec._reconstruction(x, x_hat)["l1"].item()
    assert found == pytest.approx(2.0 * 0.5 / 8 * 3 / (10 / 8), rel=1e-5)


def test_band_weights_must_match_the_depth(make_codec):
    with pytest.raises(RecipeError, match=r"losses.bands has 2 weights, volumes have 8 slices"):
        make_codec(losses=LossOptions(bands=(1.0, 2.0)))
