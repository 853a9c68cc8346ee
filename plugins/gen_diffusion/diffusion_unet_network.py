"""The U-Net of latent diffusion: residual blocks, self-attention or transformers at chosen levels.

Shape legend: z (B, c, D, H, W) latents; inside, h (B, D, H, W, C), so tokens are a free view. Images have D = 1.
Source: Rombach et al. 2022 (section 3.2, 3.3, appendix E); Ho et al. 2020, appendix B; Shazeer 2020 (GEGLU).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gen_core.engine.precision import float32_island
from gen_diffusion.attention import softmax_attention
from gen_diffusion.condition_embedding import Told
from gen_diffusion.convolution3d import Axes, Convolution3d, kernel_for, repeat_to
from gen_diffusion.diffusion_unet_options import DiffusionUnet
from gen_diffusion.modulated_norm import modulated_norm, modulated_norm_silu

EPS = 1e-6  # of every GroupNorm


def step_features(index: Tensor, dim: int) -> Tensor:
    """Cosine and sine of a step's index (B,), counted from 0, at dim // 2 frequencies from 1 towards 1 / 10 000.

    (B, dim) float32. Source: Ho et al. 2020, appendix B, after Vaswani et al. 2017, section 3.5.
    """
    half = dim // 2
    frequency = torch.exp(torch.arange(half, device=index.device) * (-math.log(10_000.0) / half))
    angle = index.float()[:, None] * frequency[None]
    return F.pad(torch.cat((angle.cos(), angle.sin()), -1), (0, dim % 2))


class Norm(nn.Module):
    """GroupNorm of (B, ..., C), with SiLU or without; statistics in float32."""

    def __init__(self, dim: int, groups: int, silu: bool):
        super().__init__()
        self.groups, self.silu = groups, silu
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, h: Tensor) -> Tensor:
        B, C = h.shape[0], h.shape[-1]
        norm = modulated_norm_silu if self.silu else modulated_norm
        gain, bias = self.weight.float().expand(B, C), self.bias.float().expand(B, C)
        return norm(h.reshape(B, -1, C), gain, bias, self.groups, EPS).view(h.shape)


class ResidualBlock(nn.Module):
    """(GroupNorm, SiLU, convolution), the time added, the same again; the second convolution starts at zero."""

    def __init__(self, dim_in: int, dim_out: int, groups: int, kernel: Axes):
        super().__init__()
        self.norm1 = Norm(dim_in, groups, silu=True)
        self.conv1 = Convolution3d(dim_in, dim_out, kernel)
        self.norm2 = Norm(dim_out, groups, silu=True)
        self.conv2 = Convolution3d(dim_out, dim_out, kernel, zero=True)
        self.skip = nn.Linear(dim_in, dim_out) if dim_in != dim_out else nn.Identity()
        self.dim_out = dim_out

    def forward(self, h: Tensor, time: Tensor) -> Tensor:
        """time: (B, C_out)."""
        y = self.conv1(self.norm1(h))
        y = y + time.to(y.dtype)[:, None, None, None]
        return self.skip(h) + self.conv2(self.norm2(y))


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Multi-head attention of (B, n, h d) to (B, m, h d). The scores are never all in memory: at 32^3 positions
    they would take 4 GiB a head."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return softmax_attention(q, k, v).transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """h + attention among all positions of a sample."""

    def __init__(self, dim: int, o: DiffusionUnet):
        super().__init__()
        self.heads = dim // o.head_channels
        self.norm = Norm(dim, o.norm_groups, silu=False)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, h: Tensor, tokens: Tensor | None) -> Tensor:
        y = attend(*self.qkv(self.norm(h).flatten(1, 3)).chunk(3, -1), self.heads)
        return h + self.out(y).view(h.shape)


class TransformerLayer(nn.Module):
    """Self-attention, attention to the condition tokens, gated feed-forward; each after LayerNorm, each added."""

    def __init__(self, dim: int, context_dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim)
        self.cross_q = nn.Linear(dim, dim, bias=False)
        self.cross_kv, self.cross_out = nn.Linear(context_dim, 2 * dim, bias=False), nn.Linear(dim, dim)
        self.gate, self.feed = nn.Linear(dim, 8 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """x: (B, n, C); tokens: (B, m, context_dim)."""
        x = x + self.out(attend(*self.qkv(self.norm1(x)).chunk(3, -1), self.heads))
        q = self.cross_q(self.norm2(x))
        x = x + self.cross_out(attend(q, *self.cross_kv(tokens).chunk(2, -1), self.heads))
        value, gate = self.gate(self.norm3(x)).chunk(2, -1)
        return x + self.feed(value * F.gelu(gate))


class Transformer(nn.Module):
    """h + transformer layers over all positions, which are told the conditions; its last projection starts at zero."""

    def __init__(self, dim: int, context_dim: int, o: DiffusionUnet):
        super().__init__()
        self.norm = Norm(dim, o.norm_groups, silu=False)
        self.enter = nn.Linear(dim, dim)
        heads = dim // o.head_channels
        self.layers = nn.ModuleList(TransformerLayer(dim, context_dim, heads) for _ in range(o.transformer_layers))
        self.leave = nn.Linear(dim, dim)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, h: Tensor, tokens: Tensor | None) -> Tensor:
        x = self.enter(self.norm(h).flatten(1, 3))
        for layer in self.layers:
            x = layer(x, tokens)
        return h + self.leave(x).view(h.shape)


class Unit(nn.Module):
    """A residual block and, at levels that have it, attention: what is recomputed together when memory is short."""

    def __init__(self, dim_in: int, dim_out: int, o: DiffusionUnet, kernel: Axes, attentive: bool, context_dim: int):
        super().__init__()
        self.block = ResidualBlock(dim_in, dim_out, o.norm_groups, kernel)
        self.attention = None
        if attentive:
            self.attention = Transformer(dim_out, context_dim, o) if context_dim else SelfAttention(dim_out, o)

    def forward(self, h: Tensor, time: Tensor, tokens: Tensor | None) -> Tensor:
        h = self.block(h, time)
        return h if self.attention is None else self.attention(h, tokens)


class DiffusionUnetNetwork(nn.Module):
    """z_t and the index of its step to a tensor like z_t.

    grid_channels: of masks and volumes beside z_t. context_dim: width of condition tokens, 0 for none.
    """

    def __init__(
        self, shape: tuple[int, int, int, int], options: DiffusionUnet, grid_channels: int = 0, context_dim: int = 0
    ):
        super().__init__()
        o, (channels, *size) = options, shape
        self.dim, self.checkpointing = o.channels[0], False
        last = len(o.channels) - 1
        halve = lambda n, axis: n > 1 and axis in o.down_axes
        sizes: list[Axes] = [tuple(size)]  # type: ignore[list-item]
        for _ in range(last):
            sizes.append(tuple(-(-n // 2) if halve(n, axis) else n for n, axis in zip(sizes[-1], "DHW")))  # type: ignore[arg-type]
        kernel = kernel_for(sizes[0])
        unit = lambda a, b, on: Unit(a, b, o, kernel, on, context_dim)

        self.first = Convolution3d(channels, self.dim, kernel)
        width = 4 * self.dim
        self.time = nn.Sequential(nn.Linear(self.dim, width), nn.SiLU(), nn.Linear(width, width))
        self.down, self.shrink, self.up, self.grow = (nn.ModuleList() for _ in range(4))
        dim, skips = self.dim, [self.dim]
        for i, wide in enumerate(o.channels):
            ins = [dim] + [wide] * (o.blocks - 1)
            self.down.append(nn.ModuleList(unit(a, wide, o.attention[i]) for a in ins))
            dim, skips = wide, skips + [wide] * o.blocks
            if i < last:
                stride = tuple(2 if halve(n, axis) else 1 for n, axis in zip(sizes[i], "DHW"))
                self.shrink.append(Convolution3d(wide, wide, kernel, stride))  # type: ignore[arg-type]
                skips.append(wide)
        self.middle = unit(dim, dim, True)
        self.middle_block = ResidualBlock(dim, dim, o.norm_groups, kernel)
        for i, wide in reversed(list(enumerate(o.channels))):
            units = nn.ModuleList()
            for _ in range(o.blocks + 1):
                units.append(unit(dim + skips.pop(), wide, o.attention[i]))
                dim = wide
            self.up.append(units)
            if i > 0:
                self.grow.append(Convolution3d(wide, wide, kernel))
        self.last_norm = Norm(self.dim, o.norm_groups, silu=True)
        self.last = Convolution3d(self.dim, channels, kernel, zero=True)
        self.time_dims = [block.dim_out for block in self.blocks()]
        self.time_projection = nn.Linear(width, sum(self.time_dims))  # of all blocks, in one product
        # The first convolution of (z_t, conditions) is the sum of two; this one starts at zero.
        self.first_grid = Convolution3d(grid_channels, self.dim, kernel, zero=True) if grid_channels else None

    def blocks(self) -> list[ResidualBlock]:
        """All residual blocks in the order of their use."""
        down = [u.block for level in self.down for u in level]
        return [*down, self.middle.block, self.middle_block, *(u.block for level in self.up for u in level)]

    def times(self, index: Tensor, vector: Tensor | None = None) -> Sequence[Tensor]:
        """What each block adds, (B, C) each, in float32 whatever the autocast; vector: (B, 4 dim) from conditions."""
        with float32_island(index.device):
            embedded = self.time(step_features(index, self.dim).to(self.time[0].weight.dtype))
            if vector is not None:
                embedded = embedded + vector
            return self.time_projection(F.silu(embedded)).split(self.time_dims, -1)

    def run(self, module: nn.Module, *args: object) -> Tensor:
        """A module, its activations recomputed in the backward pass where asked."""
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(module, *args, use_reentrant=False)
        return module(*args)

    def forward(self, z: Tensor, index: Tensor, told: Told | None = None) -> Tensor:
        """z (B, c, D, H, W), index (B,) of the step in 0..T - 1 (fractions allowed) -> (B, c, D, H, W)."""
        told = told or Told()
        tokens, time = told.tokens, iter(self.times(index, told.vector))
        volume = lambda x: x.permute(0, 2, 3, 4, 1).contiguous()
        h = self.first(volume(z))
        if self.first_grid is not None:
            h = h + self.first_grid(volume(told.grid))
        skips = [h]
        for i, level in enumerate(self.down):
            for unit in level:
                h = self.run(unit, h, next(time), tokens)
                skips.append(h)
            if i < len(self.shrink):
                h = self.shrink[i](h)
                skips.append(h)
        h = self.run(self.middle, h, next(time), tokens)
        h = self.run(self.middle_block, h, next(time))
        for i, level in enumerate(self.up):
            for unit in level:
                h = self.run(unit, torch.cat((h, skips.pop()), -1), next(time), tokens)
            if i < len(self.grow):
                h = self.grow[i](repeat_to(h, skips[-1].shape[1:4]))  # type: ignore[arg-type]
        return self.last(self.last_norm(h)).permute(0, 4, 1, 2, 3)
