"""The U-Net against MONAI's DiffusionModelUNet with the same weights, forward and backward, 2-D and 3-D."""

import warnings

import pytest
import torch

from gen_core.condition import ConditionSpec
from gen_core.ddpm.beta_schedule import betas
from gen_core.prior import PriorContext
from gen_diffusion.condition_embedding import Told
from gen_diffusion.diffusion_unet import build
from gen_diffusion.diffusion_unet_network import DiffusionUnetNetwork
from gen_diffusion.diffusion_unet_options import DiffusionUnet

CONTEXT = 6


@pytest.fixture(scope="module")
def monai_unet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its imports use what newer libraries deprecate
        from monai.networks.nets import DiffusionModelUNet
    return DiffusionModelUNet


def options(**kw):
    return DiffusionUnet(channels=(8, 16, 24), attention=(False, True, True), head_channels=4, norm_groups=4, **kw)


def theirs(monai_unet, o, dims, channels, **kw):
    return monai_unet(
        spatial_dims=dims,
        in_channels=channels,
        out_channels=kw.pop("out_channels", channels),
        num_res_blocks=o.blocks,
        channels=o.channels,
        attention_levels=o.attention,
        norm_num_groups=o.norm_groups,
        num_head_channels=o.head_channels,
        **kw,
    )


def renamed(peer, ours, grid=0):
    """The peer's state dict under our names; kernels (out, in, ...) become (out, kd, kh, kw, in)."""
    source = dict(peer.state_dict())
    target = {}

    def take(name):
        return source.pop(name)

    def copy(mine, other):
        for part in ("weight", "bias"):
            target[f"{mine}.{part}"] = take(f"{other}.{part}")

    def conv(mine, other):
        weight = take(f"{other}.conv.weight")
        weight = weight if weight.ndim == 5 else weight[:, :, None]
        target[f"{mine}.weight"] = weight.permute(0, 2, 3, 4, 1).contiguous()
        target[f"{mine}.bias"] = take(f"{other}.conv.bias")

    def pointwise(mine, other):
        target[f"{mine}.weight"] = take(f"{other}.conv.weight").flatten(1)
        target[f"{mine}.bias"] = take(f"{other}.conv.bias")

    times = []

    def block(mine, other, module):
        copy(f"{mine}.norm1", f"{other}.norm1"), copy(f"{mine}.norm2", f"{other}.norm2")
        conv(f"{mine}.conv1", f"{other}.conv1"), conv(f"{mine}.conv2", f"{other}.conv2")
        times.append((take(f"{other}.time_emb_proj.weight"), take(f"{other}.time_emb_proj.bias")))
        if isinstance(module.skip, torch.nn.Linear):
            pointwise(f"{mine}.skip", f"{other}.skip_connection")

    def together(mine, others, part="weight"):
        target[f"{mine}.{part}"] = torch.cat([take(f"{other}.{part}") for other in others])

    def attention(mine, other, module):
        copy(f"{mine}.norm", f"{other}.norm")
        if hasattr(module, "qkv"):
            for part in ("weight", "bias"):
                together(f"{mine}.qkv", [f"{other}.attn.to_{x}" for x in "qkv"], part)
            return copy(f"{mine}.out", f"{other}.attn.out_proj")
        pointwise(f"{mine}.enter", f"{other}.proj_in"), pointwise(f"{mine}.leave", f"{other}.proj_out")
        for i in range(len(module.layers)):
            a, b = f"{mine}.layers.{i}", f"{other}.transformer_blocks.{i}"
            for j in (1, 2, 3):
                copy(f"{a}.norm{j}", f"{b}.norm{j}")
            together(f"{a}.qkv", [f"{b}.attn1.to_{x}" for x in "qkv"])
            copy(f"{a}.out", f"{b}.attn1.out_proj")
            together(f"{a}.cross_q", [f"{b}.attn2.to_q"])
            together(f"{a}.cross_kv", [f"{b}.attn2.to_{x}" for x in "kv"])
            copy(f"{a}.cross_out", f"{b}.attn2.out_proj")
            copy(f"{a}.gate", f"{b}.ff.linear1"), copy(f"{a}.feed", f"{b}.ff.linear2")

    def unit(mine, other, i, module):
        block(f"{mine}.block", f"{other}.resnets.{i}", module.block)
        if module.attention is not None:
            attention(f"{mine}.attention", f"{other}.attentions.{i}", module.attention)

    conv("first", "conv_in")
    copy("time.0", "time_embed.0"), copy("time.2", "time_embed.2")
    for i, level in enumerate(ours.down):
        for j, module in enumerate(level):
            unit(f"down.{i}.{j}", f"down_blocks.{i}", j, module)
        if i < len(ours.shrink):
            conv(f"shrink.{i}", f"down_blocks.{i}.downsampler.op")
    block("middle.block", "middle_block.resnet_1", ours.middle.block)
    attention("middle.attention", "middle_block.attention", ours.middle.attention)
    block("middle_block", "middle_block.resnet_2", ours.middle_block)
    for i, level in enumerate(ours.up):
        for j, module in enumerate(level):
            unit(f"up.{i}.{j}", f"up_blocks.{i}", j, module)
        if i < len(ours.grow):
            conv(f"grow.{i}", f"up_blocks.{i}.upsampler.postconv")
    copy("last_norm", "out.0"), conv("last", "out.2")
    target["time_projection.weight"] = torch.cat([w for w, _ in times])
    target["time_projection.bias"] = torch.cat([b for _, b in times])
    if grid:  # a concatenated input is the sum of two convolutions
        whole = target["first.weight"]
        target["first.weight"], target["first_grid.weight"] = whole[..., :-grid], whole[..., -grid:].contiguous()
        target["first_grid.bias"] = torch.zeros_like(target["first.bias"])
    return target, source


def pair(monai_unet, shape, dims, o=None, context=0, grid=0, **kw):
    """Both networks with the same weights, all of them random: zeros would hide half of it."""
    torch.manual_seed(0)
    o = o or options()
    peer = theirs(monai_unet, o, dims, shape[0] + grid, out_channels=shape[0], **kw)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in peer.parameters():
            scale = 0.3 if parameter.ndim == 1 else (2.0 / parameter[0].numel()) ** 0.5
            parameter += scale * torch.randn(parameter.shape, generator=generator)
    ours = DiffusionUnetNetwork(shape, o, grid, context)
    weights, left = renamed(peer, ours, grid)
    ours.load_state_dict(weights, strict=True)
    return ours, peer, left


def close(a, b, tolerance=1e-5):
    assert (a - b).abs().max() <= tolerance * max(1.0, b.abs().max().item())


Z = torch.Generator().manual_seed(7)
INDEX = torch.tensor([0, 411, 999])


@pytest.mark.parametrize(("shape", "dims"), [((3, 1, 12, 8), 2), ((3, 4, 12, 8), 3), ((2, 8, 4, 16), 3)])
@pytest.mark.parametrize("blocks", [1, 2])
def test_outputs_and_gradients_equal_monais(monai_unet, shape, dims, blocks):
    ours, peer, left = pair(monai_unet, shape, dims, options(blocks=blocks))
    assert left == {}
    z = torch.randn(3, *shape, generator=Z)
    mine, other = z.clone().requires_grad_(), z.clone().requires_grad_()
    a = ours(mine, INDEX.float())
    b = peer(other[:, :, 0] if dims == 2 else other, INDEX)
    b = b[:, :, None] if dims == 2 else b
    close(a, b)
    a.square().mean().backward(), b.square().mean().backward()
    close(mine.grad, other.grad)
    gradients, _ = renamed(_GradientsOf(peer), ours)
    largest = max(g.norm() for g in gradients.values())
    for name, parameter in ours.named_parameters():
        assert (parameter.grad - gradients[name]).norm() <= 1e-4 * gradients[name].norm() + 1e-6 * largest, name
        assert parameter.grad.stride() == parameter.stride()  # fused Adam reads them side by side


class _GradientsOf:
    def __init__(self, module):
        self.module = module

    def state_dict(self):
        return {name: p.grad for name, p in self.module.named_parameters()}


@pytest.mark.parametrize(("shape", "dims"), [((3, 1, 12, 8), 2), ((3, 4, 12, 8), 3)])
@pytest.mark.parametrize("layers", [1, 2])
def test_transformers_with_cross_attention_equal_monais(monai_unet, shape, dims, layers):
    o = options(blocks=1, transformer_layers=layers)
    ours, peer, left = pair(
        monai_unet, shape, dims, o, CONTEXT,
        with_conditioning=True, cross_attention_dim=CONTEXT, transformer_num_layers=layers,
    )  # fmt: skip
    assert left == {}
    z, tokens = torch.randn(3, *shape, generator=Z), torch.randn(3, 5, CONTEXT, generator=Z)
    a = ours(z, INDEX.float(), Told(tokens=tokens))
    b = peer(z[:, :, 0] if dims == 2 else z, INDEX, context=tokens)
    close(a, b[:, :, None] if dims == 2 else b)
    other = ours(z, INDEX.float(), Told(tokens=tokens.flip(0)))
    assert (other - a).abs().max() > 1e-2  # the tokens matter


def test_a_class_embedding_and_a_concatenated_mask_equal_monais(monai_unet):
    shape = (3, 4, 12, 8)
    o = options(blocks=1)
    ours, peer, left = pair(monai_unet, shape, 3, o, grid=2, num_class_embeds=4)
    assert set(left) == {"class_embedding.weight"}
    specs = {"kind": ConditionSpec("class", ("a", "b", "c")), "lesion": ConditionSpec("mask")}
    prior = build(o, PriorContext(shape=shape, conditions=specs))
    prior.network.load_state_dict(ours.state_dict(), strict=True)
    with torch.no_grad():
        prior.embedding.vectors["of_kind"].weight.copy_(left["class_embedding.weight"])
    from gen_core.condition import Conditions

    z, mask = torch.randn(3, *shape, generator=Z), torch.rand(3, 1, *shape[1:], generator=Z)
    present = torch.tensor([True, True, False])
    cond = Conditions({"kind": torch.tensor([2, 0, 1]), "lesion": mask}, {"kind": present, "lesion": ~present})
    _, eps = prior.denoise(z, torch.tensor([1, 412, 1000]) / 1000, cond)  # step k has index k - 1 there
    flag = (~present).float().view(3, 1, 1, 1, 1).expand(3, 1, *shape[1:])
    want = peer(torch.cat((z, mask * flag, flag), 1), INDEX, class_labels=torch.tensor([2, 0, 3]))
    close(eps, want)


def test_the_published_size_has_monais_number_of_weights(monai_unet):
    o = DiffusionUnet()
    with torch.device("meta"):
        ours = build(o, PriorContext(shape=(3, 32, 32, 32)))
        peer = theirs(monai_unet, o, 3, 3)
    count = lambda module: sum(p.numel() for p in module.parameters())
    assert count(ours) == count(peer)


def test_the_published_betas_are_those_of_diffusers():
    from diffusers import DDPMScheduler

    peer = DDPMScheduler(1000, beta_start=0.0015, beta_end=0.0195, beta_schedule="scaled_linear")
    o = DiffusionUnet()
    ours = torch.from_numpy(betas(o.schedule, o.steps, beta_start=o.beta_start, beta_end=o.beta_end))
    torch.testing.assert_close(ours, peer.betas.double(), rtol=1e-6, atol=0)
    prior = build(options(), PriorContext(shape=(2, 1, 4, 4)))
    k = torch.tensor([1, 10, 500, 1000])
    want = peer.alphas_cumprod[k - 1].double()  # float32 tables
    torch.testing.assert_close(prior.path.alpha(k.double() / 1000) ** 2, want, rtol=1e-5, atol=0)
