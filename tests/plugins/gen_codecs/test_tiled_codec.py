"""Codecs in tiles give what they give whole, for every norm, padding, layout and size."""

from __future__ import annotations

import random
from pathlib import Path

import attrs
import pytest
import torch

from gen_codecs.kl_codec import build as build_kl
from gen_codecs.kl_options import AutoencoderKl
from gen_codecs.vae_codec import build as build_vae
from gen_codecs.vae_options import Vae
from gen_codecs.vq_codec import build_vqvae
from gen_codecs.vq_options import Vqvae
from gen_core.codec import CodecContext
from gen_core.options import TilingOptions
from gen_core.tiling.execute import run_tiled
from gen_core.tiling.forecast import whole_bytes
from gen_core.tiling.store import FileStore, MemoryStore
from gen_core.tiling.tiles import Tiles
from gen_core.volume import VolumeSpec

CPU = torch.device("cpu")
SMALL = {"width": 4, "latent_channels": 3, "norm_groups": 2}


def vq(size, **options):
    spec = VolumeSpec(size=size)
    made = build_vqvae(Vqvae(**{**SMALL, "stride": (2, 4, 4), "codes": 16, **options}), CodecContext(spec))
    made.codebook.codebook.normal_()
    return shaken(made)


def kl(size, **options):
    settings = {**SMALL, "stride": (2, 2, 4), "multipliers": (1.0, 1.5, 2.0), "blocks": 1, "attention": (), **options}
    return shaken(
        build_kl(
            AutoencoderKl(middle=options.get("middle", False), **{k: v for k, v in settings.items() if k != "middle"}),
            CodecContext(VolumeSpec(size=size)),
        )
    )


def vae(size, **options):
    return shaken(build_vae(Vae(**{**SMALL, "stride": (2, 4, 4), **options}), CodecContext(VolumeSpec(size=size))))


def shaken(codec):
    """Weights and statistics that no default hides: biases, norms with weights, running statistics."""
    g = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in codec.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=g) * p.abs().mean().clamp_min(0.1))
        for name, b in codec.named_buffers():
            if "running_mean" in name:
                b.copy_(torch.randn(b.shape, generator=g))
            if "running_var" in name:
                b.copy_(0.5 + torch.rand(b.shape, generator=g))
    return codec.eval()


def volume(size, batch=1):
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(7)) * 2 - 1


@torch.no_grad()
def difference(codec, tile, tmp_path, batch=1, memory_gib=0.0):
    """The largest differences of latents and of volumes, relative to their largest values."""
    x = volume(codec.spec.size, batch)
    z = codec.encode(x)
    x_hat = codec.decode(z)
    codec.tiles = Tiles(TilingOptions(mode="exact", tile=tile, memory_gib=memory_gib), CPU, tmp_path)
    tiled_z, tiled_x = codec.encode(x), codec.decode(z)
    assert tiled_x.shape == x.shape
    assert tiled_z.shape == z.shape
    return (tiled_z - z).abs().max() / z.abs().max(), (tiled_x - x_hat).abs().max()


@pytest.mark.parametrize("norm", ["group", "instance", "batch"])
@pytest.mark.parametrize("padding", ["replicate", "zeros"])
@pytest.mark.parametrize("resample", ["conv", "shuffle"])
def test_vq_codecs_in_tiles_are_the_whole(norm, padding, resample, tmp_path):
    codec = vq((5, 21, 26), norm=norm, padding=padding, resample=resample)
    z, x = difference(codec, (3, 8, 9), tmp_path)
    assert z < 1e-5
    assert x < 1e-5


@pytest.mark.parametrize("upsample", ["nearest", "linear"])
@pytest.mark.parametrize("attention", [(), (-1,)])
def test_kl_codecs_in_tiles_are_the_whole_with_attention_too(upsample, attention, tmp_path):
    codec = kl((6, 13, 19), upsample=upsample, attention=attention, middle=bool(attention))
    z, x = difference(codec, (4, 5, 8), tmp_path)
    assert z < 1e-5
    assert x < 1e-5


@pytest.mark.parametrize("latent", ["flat", "spatial"])
def test_the_vae_in_tiles_is_the_whole(latent, tmp_path):
    z, x = difference(vae((5, 18, 23), latent=latent), (2, 7, 11), tmp_path)
    assert z < 1e-5
    assert x < 1e-5


def test_images_in_tiles_are_the_whole(tmp_path):
    for codec in (vq((1, 21, 26), stride=(1, 4, 4)), kl((1, 13, 19), stride=(1, 2, 4), upsample="linear")):
        z, x = difference(codec, (1, 8, 9), tmp_path)
        assert z < 1e-5
        assert x < 1e-5


def test_every_volume_of_a_batch_has_its_own_statistics(tmp_path):
    z, x = difference(vq((4, 17, 12)), (2, 9, 5), tmp_path, batch=3)
    assert z < 1e-5
    assert x < 1e-5


def test_requantized_and_token_decoding_in_tiles_are_the_whole(tmp_path):
    codec = vq((5, 21, 26), requantize=True)
    x = volume(codec.spec.size)
    with torch.no_grad():
        idx = codec.encode_tokens(x)
        plain = codec.decode_tokens(idx)
        codec.tiles = Tiles(TilingOptions(mode="exact", tile=(4, 8, 8)), CPU, tmp_path)
        assert torch.equal(codec.encode_tokens(x), idx)
        torch.testing.assert_close(codec.decode_tokens(idx), plain, rtol=0, atol=1e-5)


def test_any_size_and_any_tile_give_the_whole(tmp_path):
    draw = random.Random(3)
    for _ in range(12):
        size = (draw.randint(1, 9), draw.randint(4, 30), draw.randint(4, 30))
        tile = tuple(draw.choice([0, draw.randint(1, n + 4)]) for n in size)
        tile = tile if any(tile) else (1, 5, 6)
        make = draw.choice([vq, kl, vae])
        stride = (draw.choice([1, 2, 4]), *draw.choice([(4, 4), (2, 4), (4, 2)]))
        codec = make(size, stride=stride)
        z, x = difference(codec, tile, tmp_path)
        assert z < 1e-5, (make.__name__, size, tile, stride)
        assert x < 1e-5, (make.__name__, size, tile, stride)


def test_activations_in_a_file_and_computed_again_give_the_same(tmp_path):
    codec = vq((5, 21, 26))
    graph, x = codec.graphs()["encode"], volume((6, 24, 28))
    in_memory = lambda shape: MemoryStore(shape, CPU)
    in_file = lambda shape: FileStore(shape, tmp_path, CPU)
    kept = run_tiled(graph, x, (3, 8, 9), in_memory)
    assert torch.equal(run_tiled(graph, x, (3, 8, 9), in_file), kept)
    assert not list(tmp_path.iterdir()), "the file has no name"
    again = run_tiled(graph, x, (3, 8, 9), in_memory, largest=0)
    torch.testing.assert_close(again, kept, rtol=0, atol=1e-5)


def test_training_and_gradients_take_the_plain_way(tmp_path):
    codec = vq((4, 16, 16))
    codec.tiles = Tiles(TilingOptions(mode="exact", tile=(2, 8, 8)), CPU, tmp_path)
    x = volume((4, 16, 16)).requires_grad_()
    codec.encode(x).sum().backward()
    assert x.grad.abs().sum() > 0


def test_blended_tiles_are_near_and_meet_without_a_seam(tmp_path):
    codec = vq((4, 48, 40), norm="batch")
    x = volume(codec.spec.size)
    with torch.no_grad():
        z, x_hat = codec.encode(x), codec.decode(codec.encode(x))
        codec.tiles = Tiles(TilingOptions(mode="fast", tile=(0, 32, 32), overlap=24), CPU, tmp_path)
        near_z, near_x = codec.encode(x), codec.decode(z)
    # with a norm that has no statistics of its own only the borders of tiles differ, and they weigh least
    assert 0 < (near_z - z).abs().max() < 0.2 * z.abs().max()
    assert 0 < (near_x - x_hat).abs().max() < 0.2


def test_a_small_volume_goes_whole_unless_exact_tiles_are_asked_for(tmp_path):
    graph = vq((4, 16, 16)).graphs()["decode"]
    assert Tiles(TilingOptions(), CPU, tmp_path).choose(graph).tile is None
    assert Tiles(TilingOptions(memory_gib=1e-5), CPU, tmp_path).choose(graph).tile is not None
    room = Tiles(TilingOptions(memory_gib=3 * whole_bytes(graph) / 2**30), CPU, tmp_path)
    assert [room.choose(graph, batch=n).tile is None for n in (1, 3, 4)] == [True, True, False]
    options = TilingOptions(mode="exact", tile=(2, 8, 8))
    assert Tiles(attrs.evolve(options, memory_gib=1e-5), CPU, Path(tmp_path)).choose(graph).in_memory is False
    assert Tiles(options, CPU, tmp_path).choose(graph).in_memory is True
