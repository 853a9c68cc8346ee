"""MONAI's autoencoders as codecs: the contract, MONAI's own numbers, conventions, its traps, weights from files."""

import subprocess
import sys

import pytest
import torch
from attrs import evolve
from safetensors.torch import save_file

from gen_core.batch import Batch
from gen_core.codec import CodecContext
from gen_core.errors import DataError, MissingError, RecipeError
from gen_core.registry import Registry
from gen_core.testing.trainables import check_codec, check_trainable
from gen_core.trainable import Step
from gen_core.volume import VolumeSpec
from gen_monai.codec_options import MaisiAutoencoder, MonaiAutoencoderKl, MonaiVqvae
from gen_monai.codecs import build

pytest.importorskip("monai")

KL = MonaiAutoencoderKl(width=8, multipliers=(1, 2), blocks=1, norm_groups=4, latent_channels=3)
MAISI = MaisiAutoencoder(width=8, multipliers=(1, 1, 2), blocks=1, norm_groups=4)
VQ = MonaiVqvae(width=8, multipliers=(1, 2), blocks=1, latent_channels=5, codes=16)


def make(options, size=(4, 6, 8), channels=1, seed=0):
    torch.manual_seed(seed)
    return build(options, CodecContext(VolumeSpec(size, tuple(f"c{i}" for i in range(channels)))))


def volumes(n=2, size=(4, 6, 8), channels=1, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.nn.functional.interpolate(torch.randn(n, channels, 2, 3, 4, generator=g), size, mode="trilinear")
    return (x + 0.1 * torch.randn(x.shape, generator=g)).clamp(-1, 1)


def step(index=0, micro=0):
    return Step(index, 0, 10, torch.Generator().manual_seed(index), torch.device("cpu"), micro)


# The contract


@pytest.mark.parametrize(
    ("options", "size", "channels"),
    [
        (KL, (4, 6, 8), 2),
        (KL, (5, 7, 9), 1),  # odd: padded and cropped
        (KL, (1, 6, 8), 1),
        (evolve(KL, flat=True), (1, 7, 10), 3),
        (evolve(KL, flat=True, orientation="ras", intensities="unit"), (1, 7, 10), 1),
        (evolve(KL, orientation="ras", transposed=True, combined_linear=True), (3, 6, 8), 1),
        (MAISI, (4, 8, 12), 1),
        (MAISI, (3, 5, 9), 2),
        (evolve(MAISI, orientation="zyx", splits=2), (22, 8, 12), 1),
        (VQ, (8, 12, 16), 2),
        (VQ, (5, 7, 9), 1),
        (evolve(VQ, flat=True, orientation="ras"), (1, 9, 12), 1),
    ],
)
def test_the_contract_holds(options, size, channels):
    codec = make(options, size, channels)
    check_codec(codec, volumes(3, size, channels))
    check_trainable(codec, Batch(volumes(1, size, channels)))
    codec.checkpoint_activations(True)
    check_trainable(codec, Batch(volumes(1, size, channels)))


def test_the_names_lead_to_the_codecs():
    registry = Registry.load()
    for name, options in (("monai-autoencoder-kl", KL), ("maisi-autoencoder", MAISI), ("monai-vqvae", VQ)):
        component = registry.get("codec", name)
        assert component.options_class().__name__ == type(options).__name__
        codec = component.build(component.options_class()(width=32), CodecContext(VolumeSpec((4, 8, 12))))
        assert codec.latent.channels == component.options_class()().latent_channels


# The numbers are MONAI's


def test_kl_latents_are_monai_s_means_and_not_its_draws():
    codec, x = make(KL).eval(), volumes()
    with torch.no_grad():
        mean, _ = codec.network.encode(x)
        assert torch.equal(codec.encode(x), mean)
        assert not torch.equal(codec.network.encode_stage_2_inputs(x), mean)  # the trap
        assert torch.equal(codec.decode(mean), codec.network.decode(mean).clamp(-1, 1))


def test_vq_tokens_and_reconstructions_are_monai_s():
    size = (8, 12, 16)
    codec, x = make(VQ, size), volumes(2, size)
    list(codec.training_step(Batch(x), step()))  # which chooses codes near the data
    codec.eval()
    assert len(codec.encode_tokens(x).unique()) > 4
    with torch.no_grad():
        assert torch.equal(codec.encode_tokens(x), codec.network.index_quantize(x))
        assert torch.allclose(codec.decode(codec.encode(x)), codec.network(x)[0].clamp(-1, 1), atol=1e-6)
        assert torch.equal(codec.decode_tokens(codec.encode_tokens(x)), codec.decode(codec.encode(x)))


def test_scaling_equals_float64_moments_of_the_whole_set():
    codec = make(KL).eval()
    sets = [volumes(3, seed=1), volumes(1, seed=2)]
    with torch.no_grad():
        e = torch.cat([codec._e(x) for x in sets]).double()
        codec.calibrate(Batch(x) for x in sets)
        z = torch.cat([codec.encode(x) for x in sets])
    assert torch.allclose(codec.shift.double().flatten(), e.mean((0, 2, 3, 4)), rtol=1e-5, atol=1e-7)
    assert torch.allclose(z.std((0, 2, 3, 4), correction=0), torch.ones(3), atol=1e-4)


def test_flash_attention_changes_no_number():
    x, found = volumes(), []
    for flash in (True, False):
        codec = make(evolve(KL, flash_attention=flash)).eval()
        with torch.no_grad():
            found.append(codec.decode(codec.encode(x)))
    assert (found[0] - found[1]).abs().max() < 1e-5


@pytest.mark.parametrize(("orientation", "size"), [("zyx", (36, 12, 8)), ("ras", (4, 8, 36))])
def test_slabs_change_no_number(orientation, size):
    x, found = volumes(1, size), []
    for splits in (1, 3):
        codec = make(evolve(MAISI, orientation=orientation, splits=splits), size).eval()
        with torch.no_grad():
            found.append(codec.decode(codec.encode(x)))
    assert (found[0] - found[1]).abs().max() < 1e-5


@pytest.mark.parametrize(("splits", "size"), [(2, (36, 12, 8)), (3, (24, 8, 8)), (3, (36, 4, 8))])
def test_slabs_that_maisi_would_cut_wrongly_are_refused(splits, size):
    with pytest.raises(RecipeError, match=rf"splits = {splits} does not suit latents of {size[0] // 4} x"):
        make(evolve(MAISI, orientation="zyx", splits=splits), size)


# Conventions


def test_a_network_made_for_ras_axes_and_unit_values_sees_those():
    codec, x = make(evolve(KL, orientation="ras", intensities="unit")).eval(), volumes()
    seen = []
    codec.network.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        z = codec.encode(x)
        x_hat = codec.decode(z)
    d, h, w = 1, 2, 5
    # x to the right: our last axis from its end; y to the front: our middle one from its end; z up as it is
    assert seen[0].shape == (2, 1, 8, 6, 4)
    assert seen[0][0, 0, 7 - w, 5 - h, d] == (x[0, 0, d, h, w] + 1) / 2
    assert z.shape == (2, 3, 2, 3, 4) and x_hat.shape == x.shape
    # a change in one corner stays in that corner of latents and reconstructions
    changed = x.clone()
    changed[:, :, :2, :2, :2] = 1.0
    bare = evolve(KL, orientation="ras", attention=(), middle_encoder=False, middle_decoder=False)
    codec = make(bare, (16, 24, 32)).eval()
    x = volumes(1, (16, 24, 32))
    changed = x.clone()
    changed[:, :, :2, :2, :2] += 0.5
    with torch.no_grad():
        gap = (codec.encode(changed) - codec.encode(x)).abs()[0].amax(0)
    assert gap[:2, :2, :2].max() > 5 * gap[4:, 6:, 8:].max()


def test_flat_networks_refuse_volumes():
    with pytest.raises(RecipeError, match="flat = true is for images; volumes have 4 slices"):
        make(evolve(KL, flat=True))


# Training


def test_kl_losses_are_the_weighted_terms():
    codec, x = make(evolve(KL, l1=3.0, kl=0.01)).train(), volumes()
    (item,) = codec.training_step(Batch(x), step())
    with torch.no_grad():
        mean, sigma = codec.network.encode(x)
        z = mean + sigma * torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
        l1 = (codec.network.decode(z) - x).abs().mean()
        normal = torch.distributions.Normal(mean, sigma)
        nats = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum() / len(x)
    assert item.losses["l1"].item() == pytest.approx(3 * l1.item(), rel=1e-5)
    assert item.losses["kl"].item() == pytest.approx(0.01 * nats.item(), rel=1e-4)


@pytest.mark.parametrize("options", [KL, MAISI, VQ])
def test_training_learns(options):
    codec, x = make(evolve(options, multipliers=(1, 2)), (4, 8, 12)).train(), volumes(4, (4, 8, 12))
    optimizer = torch.optim.Adam([p for p in codec.parameters() if p.requires_grad], lr=5e-3)
    found = []
    for index in range(120 if options is VQ else 60):
        (item,) = codec.training_step(Batch(x), step(index))
        optimizer.zero_grad()
        sum(item.losses.values()).backward()
        optimizer.step()
        codec.updated("generator", step(index))
        found.append(item.losses["l1"].item())
    assert found[-1] < 0.7 * found[0]
    assert item.logs.get("perplexity", torch.tensor(9.0)) > 2  # without a start from the data, one code takes all
    assert torch.isfinite(torch.stack(list(codec.eval().validation_step(Batch(x), step()).values()))).all()


@pytest.mark.parametrize("options", [KL, MAISI, VQ])
def test_latents_and_losses_stay_float32_in_bf16(options):
    size = (4, 8, 12)
    codec, x = make(options, size).train(), volumes(2, size)
    with torch.autocast("cpu", torch.bfloat16):
        (item,) = codec.training_step(Batch(x), step())
        assert all(loss.dtype == torch.float32 and torch.isfinite(loss) for loss in item.losses.values())
        assert codec.encode(x).dtype == codec.decode(codec.encode(x)).dtype == torch.float32
        if options is VQ:  # no code is chosen in half precision
            e = codec._e(x)
            idx = codec._quantize(e)[1]
    if options is VQ:
        assert torch.equal(idx, codec._quantize(e)[1])


def test_codes_left_out_are_not_thrown_away():
    norms = {}
    for zero in (False, True):
        codec = make(VQ).train()
        list(codec.training_step(Batch(volumes()), step()))
        codec._quantizer.embedding.weight[3:] += 5.0  # far off: left out
        codec._quantizer.ema_w[3:] += 5.0
        if zero:  # as MONAI starts
            codec._quantizer.ema_cluster_size.zero_()
        codec.updated("generator", step())
        norms[zero] = codec._quantizer.embedding.weight.norm(dim=1).max().item()
    assert norms[False] == pytest.approx(5 * 5**0.5, rel=0.1)
    assert norms[True] > 1e4


def test_codes_move_once_a_step_by_all_its_vectors_and_never_by_coding():
    x = volumes(4)
    whole, parts = make(VQ).train(), make(VQ).train()
    for codec in (whole, parts):
        codec._start(codec._e(x), step().generator)
    before = whole._quantizer.embedding.weight.clone()
    with torch.no_grad():
        whole.encode(x), whole.encode_tokens(x), whole.decode(whole.encode(x))
    list(whole.training_step(Batch(x), step()))
    assert torch.equal(whole._quantizer.embedding.weight, before)
    for micro in (0, 1):
        list(parts.training_step(Batch(x[2 * micro : 2 * micro + 2]), step(micro=micro)))
    whole.updated("generator", step())
    parts.updated("generator", step())
    moved = whole._quantizer.embedding.weight
    assert not torch.equal(moved, before)
    assert torch.allclose(moved, parts._quantizer.embedding.weight, atol=1e-6)
    # by hand: N = 0.99 + 0.01 n, w = 0.99 e + 0.01 sum, over Laplace-smoothed counts
    with torch.no_grad():
        e = whole._e(x).movedim(1, -1).flatten(0, 3)
        hot = torch.nn.functional.one_hot(torch.cdist(e, before).argmin(1), 16).float()
    counts = 0.99 + 0.01 * hot.sum(0)
    counts = (counts + 1e-5) / (counts.sum() + 16e-5) * counts.sum()
    want = (0.99 * before + 0.01 * hot.T @ e) / counts[:, None]
    assert torch.allclose(moved, want, atol=1e-5)


# Weights from a file


@pytest.mark.parametrize("options", [KL, MAISI, VQ])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_weights_come_from_a_file(tmp_path, options, suffix):
    size = (4, 8, 12)
    source, path = make(options, size, seed=1).eval(), tmp_path / f"w.{suffix}"
    state = source.network.state_dict()
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    codec = make(evolve(options, weights=str(path)), size, seed=2).eval()
    with torch.no_grad():
        assert torch.equal(codec.encode(volumes(2, size)), source.encode(volumes(2, size)))
    assert "weights_sha256 is not set" in codec.notes()[1]
    with torch.device("meta"):  # the dry run looks at the file too
        assert make(evolve(options, weights=str(path)), size).network.state_dict().keys() == state.keys()


def test_weights_of_the_former_package_are_taken():
    """Against MONAI's own translation of the former names."""
    from gen_monai.networks import modern_names

    source = make(evolve(KL, multipliers=(1, 2, 2)), seed=1).eval()
    new = source.network.state_dict()
    old = {}
    for name, tensor in new.items():
        name = (
            name.replace(".attn.to_", ".to_").replace(".attn.out_proj.", ".proj_attn.").replace(".postconv.", ".conv.")
        )
        old[name] = tensor
    assert old.keys() != new.keys()
    assert modern_names(new).keys() == new.keys()
    other = make(evolve(KL, multipliers=(1, 2, 2)), seed=2).network
    other.load_old_state_dict(dict(old))
    assert all(torch.equal(t, modern_names(old)[name]) for name, t in other.state_dict().items())
    assert modern_names(old).keys() == new.keys()


def test_a_file_of_another_architecture_or_none_is_named(tmp_path):
    torch.save(make(KL).network.state_dict(), tmp_path / "w.pt")
    with pytest.raises(DataError, match=r"\[codec\] weights: .* in the file, .* by the settings"):
        make(evolve(KL, latent_channels=4, weights=str(tmp_path / "w.pt")))
    with pytest.raises(MissingError, match=r"\[codec\] weights = .*gone.pt': no such file"):
        make(evolve(KL, weights=str(tmp_path / "gone.pt")))


# Settings, and MONAI itself


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda: evolve(KL, norm_groups=3), "norm_groups = 3 does not divide 8 channels"),
        (lambda: evolve(KL, multipliers=(1,)), "one level compresses nothing"),
        (lambda: evolve(KL, attention=(2,)), r"attention \[2\]: there are 2 levels"),
        (lambda: evolve(MAISI, flat=True), "three-dimensional"),
        (lambda: evolve(VQ, codes=1), "codes"),
        (lambda: evolve(VQ, multipliers=()), "multipliers"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        change()


def test_the_published_lung_codec_has_the_published_number_of_weights():
    with torch.device("meta"):
        codec = make(MonaiAutoencoderKl(), (128, 128, 128))
    assert sum(p.numel() for p in codec.network.parameters()) == 4_102_568
    assert codec.latent.shape((128, 128, 128)) == (3, 32, 32, 32)


def test_the_default_maisi_network_has_the_130_tensors_of_the_published_file():
    with torch.device("meta"):
        state = make(MaisiAutoencoder(), (128, 128, 128)).network.state_dict()
    assert len(state) == 130
    assert state["encoder.blocks.0.conv.conv.weight"].shape == (64, 1, 3, 3, 3)
    assert state["decoder.blocks.0.conv.conv.weight"].shape == (256, 4, 3, 3, 3)


def test_without_monai_the_extra_is_named(monkeypatch):
    for name in [m for m in sys.modules if m == "monai" or m.startswith("monai.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "monai", None)  # an import of it fails
    for options in (KL, MAISI, VQ):
        with pytest.raises(MissingError, match=r"pip install 'gen-imaging\[monai\]'"):
            make(options)


def test_listing_and_importing_the_codecs_does_not_import_monai():
    code = "import gen_monai.plugin, gen_monai.codecs, sys; sys.exit(any(m.startswith('monai') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
