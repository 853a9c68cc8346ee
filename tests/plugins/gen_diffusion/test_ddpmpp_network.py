"""The score network against a UNet2DModel of diffusers with the same weights; sizes, precision, how it starts."""

import math
import warnings

import pytest
import torch
from attrs import evolve

from gen_diffusion.condition_embedding import Told
from gen_diffusion.ddpmpp_network import DdpmppNetwork, ScoreBlock, groups_of
from gen_diffusion.ddpmpp_options import Ddpmpp

TINY = Ddpmpp(base=16, multipliers=(1, 2, 3), attention=(False, True, True), blocks=2, norm_groups=4, dropout=0.0)


@pytest.fixture(scope="module")
def diffusers_unet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its imports use what newer libraries deprecate
        from diffusers import UNet2DModel
    return UNet2DModel


def theirs(diffusers_unet, o, channels):
    """DDPM++ of diffusers' parts: residual blocks that resize, sums divided by sqrt 2, one attention a level up."""
    from diffusers.models.attention_processor import Attention
    from diffusers.models.downsampling import downsample_2d
    from diffusers.models.resnet import ResnetBlock2D
    from diffusers.models.upsampling import upsample_2d

    kinds = {True: "Attn{}Block2D", False: "Resnet{}sampleBlock2D"}
    peer = diffusers_unet(
        in_channels=channels,
        out_channels=channels,
        down_block_types=[kinds[on].format("Down") for on in o.attention],
        up_block_types=[kinds[on].format("Up") for on in reversed(o.attention)],
        block_out_channels=[o.base * m for m in o.multipliers],
        layers_per_block=o.blocks,
        downsample_type="resnet",
        upsample_type="resnet",
        attention_head_dim=o.head_channels or None,
        norm_num_groups=o.norm_groups,
        norm_eps=1e-6,
        time_embedding_type=o.time,
        freq_shift=1,
        flip_sin_to_cos=False,
    )
    factor = math.sqrt(2.0) if o.rescale else 1.0
    for module in peer.modules():
        if isinstance(module, ResnetBlock2D):
            module.output_scale_factor = factor
            if o.resample == "fir" and module.downsample is not None:
                del module.downsample
                module.downsample = lambda x: downsample_2d(x, kernel=(1, 3, 3, 1))
            if o.resample == "fir" and module.upsample is not None:
                del module.upsample
                module.upsample = lambda x: upsample_2d(x, kernel=(1, 3, 3, 1))
        if isinstance(module, Attention):
            module.rescale_output_factor = factor
    for block in peer.up_blocks:  # the original attends once a level on the way up
        attentions = getattr(block, "attentions", [])
        for i in range(len(attentions) - 1):
            attentions[i] = torch.nn.Identity()
    return peer


def renamed(peer, ours):
    """The peer's state dict under our names; kernels (out, in, h, w) become (out, 1, h, w, in)."""
    source, target, times = dict(peer.state_dict()), {}, []

    def copy(mine, other):
        for part in ("weight", "bias"):
            target[f"{mine}.{part}"] = source.pop(f"{other}.{part}")

    def conv(mine, other):
        copy(mine, other)
        target[f"{mine}.weight"] = target[f"{mine}.weight"][:, :, None].permute(0, 2, 3, 4, 1).contiguous()

    def block(mine, other, module):
        for part in ("norm1", "norm2"):
            copy(f"{mine}.{part}", f"{other}.{part}")
        for part in ("conv1", "conv2"):
            conv(f"{mine}.{part}", f"{other}.{part}")
        times.append([source.pop(f"{other}.time_emb_proj.{part}") for part in ("weight", "bias")])
        if f"{other}.conv_shortcut.weight" in source:
            copy(f"{mine}.skip", f"{other}.conv_shortcut")
            target[f"{mine}.skip.weight"] = target[f"{mine}.skip.weight"].flatten(1)
        elif isinstance(module.skip, torch.nn.Linear):  # blocks that resize have no skip convolution there
            target[f"{mine}.skip.weight"] = torch.eye(module.dim_out)
            target[f"{mine}.skip.bias"] = torch.zeros(module.dim_out)

    def attention(mine, other):
        copy(f"{mine}.norm", f"{other}.group_norm"), copy(f"{mine}.out", f"{other}.to_out.0")
        for part in ("weight", "bias"):
            target[f"{mine}.qkv.{part}"] = torch.cat([source.pop(f"{other}.to_{x}.{part}") for x in "qkv"])

    conv("first", "conv_in"), conv("last", "conv_out"), copy("last_norm", "conv_norm_out")
    copy("time.0", "time_embedding.linear_1"), copy("time.2", "time_embedding.linear_2")
    if ours.fourier is not None:
        target["fourier.frequencies"] = source.pop("time_proj.weight")
    for i, level in enumerate(ours.down):
        for j, unit in enumerate(level):
            block(f"down.{i}.{j}.block", f"down_blocks.{i}.resnets.{j}", unit.block)
            if unit.attention is not None:
                attention(f"down.{i}.{j}.attention", f"down_blocks.{i}.attentions.{j}")
        if i < len(ours.shrink):
            block(f"shrink.{i}", f"down_blocks.{i}.downsamplers.0", ours.shrink[i])
    block("middle.block", "mid_block.resnets.0", ours.middle.block)
    attention("middle.attention", "mid_block.attentions.0")
    block("middle_block", "mid_block.resnets.1", ours.middle_block)
    for i, level in enumerate(ours.up):
        for j, unit in enumerate(level):
            block(f"up.{i}.{j}.block", f"up_blocks.{i}.resnets.{j}", unit.block)
        if not isinstance(ours.up_attention[i], torch.nn.Identity):
            attention(f"up_attention.{i}", f"up_blocks.{i}.attentions.{len(level) - 1}")
        if i < len(ours.grow):
            block(f"grow.{i}", f"up_blocks.{i}.upsamplers.0", ours.grow[i])
    target["time_projection.weight"], target["time_projection.bias"] = (torch.cat(parts) for parts in zip(*times))
    assert not source, sorted(source)
    return target


SETTINGS = [
    {},
    {"resample": "fir", "head_channels": 8},
    {"rescale": False, "blocks": 1, "time": "fourier", "fourier_scale": 16.0},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_outputs_and_gradients_equal_diffusers(diffusers_unet, settings):
    torch.manual_seed(0)
    o = evolve(TINY, **settings)
    peer, ours = theirs(diffusers_unet, o, 3), DdpmppNetwork((3, 1, 12, 8), o)
    with torch.no_grad():
        for parameter in peer.parameters():
            scale = 0.2 if parameter.ndim == 1 else (1.0 / parameter[0].numel()) ** 0.5
            parameter += scale * torch.randn(parameter.shape)
    ours.load_state_dict(renamed(peer, ours), strict=True)
    z, time = (
        torch.randn(3, 3, 1, 12, 8),
        torch.tensor([0.37, 1.3, 2.4] if o.time == "fourier" else [0.37, 411.0, 998.5]),
    )
    mine, other = z.clone().requires_grad_(), z.clone().requires_grad_()
    a = ours(mine, time.log() if o.time == "fourier" else time)
    b = peer(other[:, :, 0], time).sample[:, :, None]
    if o.time == "fourier":  # there it takes the time for sigma and divides by it
        b = b * time.view(-1, 1, 1, 1, 1)
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    a.square().mean().backward(), b.square().mean().backward()
    torch.testing.assert_close(mine.grad, other.grad, rtol=1e-3, atol=1e-6 + 1e-4 * other.grad.abs().max().item())


def test_a_block_that_resizes_with_its_own_skip_is_what_its_formula_says():
    torch.manual_seed(0)
    o = evolve(TINY, resample="average")
    block = ScoreBlock(8, 12, o, (3, 3, 3), stride=(2, 1, 2))
    h, time = torch.randn(2, 4, 5, 6, 8), torch.randn(2, 12)
    x = h.permute(0, 4, 1, 2, 3)
    F, average = torch.nn.functional, lambda v: torch.nn.functional.avg_pool3d(v, (2, 1, 2))
    kernel = lambda c: c.weight.permute(0, 4, 1, 2, 3)
    y = average(F.silu(F.group_norm(x, 2, block.norm1.weight, block.norm1.bias, 1e-6)))
    y = F.conv3d(y, kernel(block.conv1), block.conv1.bias, padding=1) + time[:, :, None, None, None]
    y = F.silu(F.group_norm(y, 3, block.norm2.weight, block.norm2.bias, 1e-6))
    y = F.conv3d(y, kernel(block.conv2), block.conv2.bias, padding=1)
    skip = F.conv3d(average(x), block.skip.weight[:, :, None, None, None], block.skip.bias)
    want = ((skip + y) / math.sqrt(2.0)).permute(0, 2, 3, 4, 1)
    torch.testing.assert_close(block(h, time), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"block": "ddpm"}, {"progressive_input": "residual", "resample": "fir"}])
def test_it_starts_at_zero_and_learns_everywhere(settings):
    torch.manual_seed(0)
    o = evolve(TINY, base=8, multipliers=(1, 2), attention=(False, True), blocks=1, **settings)
    network = DdpmppNetwork((2, 3, 5, 7), o)
    z = torch.randn(2, 2, 3, 5, 7)
    assert network(z, torch.tensor([3.0, 700.0])).abs().max() == 0
    for _ in range(3):  # what starts at zero hides what lies before it from the gradient
        network.zero_grad()
        (network(z, torch.tensor([3.0, 700.0])) - z).square().mean().backward()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter -= 0.05 * parameter.grad
    still = [name for name, p in network.named_parameters() if not p.grad.any()]
    # the softmax over positions does not see a bias of k; convolutions before a norm are seen through it
    assert [name for name in still if "qkv" not in name] == []


def test_the_published_size():
    # Song et al. 2021's CIFAR-10 model; 62 M weights as reported by those who compare with it (Kim et al. 2022)
    with torch.device("meta"):
        o = Ddpmpp(attention=(False, True, False, False))
        network = DdpmppNetwork((3, 1, 32, 32), o)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(62e6, rel=0.01)


@pytest.mark.parametrize("dim", [8, 12, 20, 36, 128, 132, 256, 384])
def test_groups_divide_the_channels_and_have_at_least_four(dim):
    groups = groups_of(dim, 32)
    assert dim % groups == 0 and dim // groups >= 4 and groups <= 32
    if dim <= 128 or dim % 32 == 0:
        assert groups == min(dim // 4, 32)


def test_residual_input_shows_each_level_the_shrunken_volume():
    torch.manual_seed(0)
    network = DdpmppNetwork((2, 4, 6, 8), evolve(TINY, progressive_input="residual"))
    seen = []
    for conv in network.pyramid:
        conv.register_forward_hook(lambda module, args, out: seen.append(tuple(args[0].shape[1:])))
    z = torch.randn(1, 2, 4, 6, 8)
    network(z, torch.ones(1))
    assert seen == [(2, 3, 4, 2), (1, 2, 2, 16)]


def test_weights_fit_a_volume_of_another_size():
    small, large = (DdpmppNetwork(shape, TINY) for shape in ((3, 2, 4, 6), (3, 6, 9, 12)))
    large.load_state_dict(small.state_dict(), strict=True)


def test_random_frequencies_are_kept_with_the_weights():
    torch.manual_seed(0)
    one = DdpmppNetwork((2, 1, 4, 4), evolve(TINY, time="fourier"))
    two = DdpmppNetwork((2, 1, 4, 4), evolve(TINY, time="fourier"))
    assert not torch.equal(one.fourier.frequencies, two.fourier.frequencies)
    two.load_state_dict(one.state_dict(), strict=True)
    t = torch.tensor([0.1, 0.4])
    assert torch.equal(one.times(t)[0], two.times(t)[0])


def test_tokens_reach_every_level_that_attends():
    torch.manual_seed(0)
    network = DdpmppNetwork((2, 1, 8, 8), TINY, context_dim=6)
    asked = []
    for module in network.modules():
        if type(module).__name__ == "CrossAttention":
            module.register_forward_hook(lambda module, args, out: asked.append(tuple(args[0].shape[1:4])))
    network(torch.randn(1, 2, 1, 8, 8), torch.ones(1), Told(tokens=torch.randn(1, 3, 6)))
    assert asked == [(1, 4, 4)] * 2 + [(1, 2, 2)] * 4 + [(1, 4, 4)]
