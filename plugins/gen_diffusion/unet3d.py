"""The video-style 3-D U-Net: in-plane convolutions, attention over space and over depth.

Shape legend: z (B, c, D, H, W) latents; inside, h (B * D, C, H, W) in channels-last memory: every kernel is
1 x k x k, so depth folds into the batch, a 2-D convolution does the work and tokens are a free view.
Source: Ho et al. 2022 (Video Diffusion Models, section 3); residual blocks as Nichol & Dhariwal 2021.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gen_core.engine.precision import float32_island
from gen_diffusion.attention import (
    CrossAttention,
    DepthAttention,
    RelativeBias,
    SpatialAttention,
    SpatialLinearAttention,
)
from gen_diffusion.condition_embedding import Told
from gen_diffusion.convolution import Convolution, Down, Pointwise, Up
from gen_diffusion.ddpm3d_options import NORM_GROUPS, Ddpm3d
from gen_diffusion.modulated_norm import modulated_norm_silu


def time_features(k: Tensor, dim: int) -> Tensor:
    """Sine and cosine of k (B,) at dim / 2 frequencies from 1 to 1 / 10 000, (B, dim) float32.

    float32 throughout: half precision cannot tell steps above 2048 apart, nor their sines above 256.
    """
    half = dim // 2
    frequency = torch.exp(torch.arange(half, device=k.device) * (-math.log(10_000.0) / max(half - 1, 1)))
    angle = k.float()[:, None] * frequency[None]
    return torch.cat((angle.sin(), angle.cos()), -1)


def plane_features(dim: int, height: int, width: int) -> np.ndarray:
    """A fixed embedding (dim, height, width) float32: sines over rows in one half, over columns in the other."""
    quarter = dim // 4
    frequency = 10_000.0 ** (-np.arange(quarter) / max(quarter, 1))
    rows, columns = np.arange(height)[None] * frequency[:, None], np.arange(width)[None] * frequency[:, None]
    spread = lambda a, axis: np.broadcast_to(np.expand_dims(a, axis), (quarter, height, width))
    return np.concatenate(
        [spread(f(rows), 2) for f in (np.sin, np.cos)] + [spread(f(columns), 1) for f in (np.sin, np.cos)]
    ).astype(np.float32)


class NormScaleSilu(nn.Module):
    """SiLU(GroupNorm(h) (1 + scale) + shift); statistics in float32 over a group's channels and all of D, H, W."""

    def __init__(self, dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, h: Tensor, batch: int, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """h: (B * D, C, H, W); scale, shift: (B, C)."""
        n, dim, height, width = h.shape
        x = h.permute(0, 2, 3, 1).reshape(batch, -1, dim)
        gain, bias = self.weight.float(), self.bias.float()
        if scale is None:
            gain, bias = gain.expand(batch, dim), bias.expand(batch, dim)
        else:
            gain, bias = (
                torch.addcmul(gain, gain, scale.float()),
                torch.addcmul(shift.float() + bias, bias, scale.float()),
            )
        x = modulated_norm_silu(x, gain, bias, NORM_GROUPS)
        return x.view(n, height, width, dim).permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """Two of (1 x 3 x 3 convolution, GroupNorm, SiLU); the first is scaled and shifted by the time."""

    def __init__(self, dim_in: int, dim_out: int, dropout: float = 0.0):
        super().__init__()
        self.conv1 = Convolution(dim_in, dim_out, 3)
        self.norm1 = NormScaleSilu(dim_out)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = Convolution(dim_out, dim_out, 3)
        self.norm2 = NormScaleSilu(dim_out)
        self.skip = Pointwise(dim_in, dim_out) if dim_in != dim_out else nn.Identity()

    def forward(self, h: Tensor, batch: int, time: Tensor | None) -> Tensor:
        """time: (B, 2 C_out), or None."""
        scale, shift = (None, None) if time is None else time.chunk(2, -1)
        y = self.norm1(self.conv1(h), batch, scale, shift)
        y = self.norm2(self.conv2(self.dropout(y)), batch)
        return y + self.skip(h)


class Level(nn.Module):
    """Two residual blocks, then linear attention over space and attention over depth, and one to conditions."""

    def __init__(self, dim_in: int, dim_out: int, o: Ddpm3d, full: bool = False, context_dim: int = 0):
        super().__init__()
        self.block1 = ResidualBlock(dim_in, dim_out, o.dropout)
        self.block2 = ResidualBlock(dim_out, dim_out, o.dropout)
        on = o.attention == "levels" or (full and o.attention == "middle")
        space = SpatialAttention if full else SpatialLinearAttention
        self.space = space(dim_out, o.heads, o.head_dim) if on else None
        self.depth = DepthAttention(dim_out, o.heads, o.head_dim) if on else None
        self.cross = CrossAttention(dim_out, context_dim, o.heads, o.head_dim) if on and context_dim else None
        self.full = full

    @property
    def time_dims(self) -> list[int]:
        """What the blocks take of the time projection."""
        return [2 * self.block1.conv1.dim_out, 2 * self.block2.conv1.dim_out]

    def attend(self, h: Tensor, batch: int, bias: Tensor | None, tokens: Tensor | None) -> Tensor:
        """The attentions on the channels-last view of h."""
        if self.space is None:
            return h
        x = h.unflatten(0, (batch, -1)).permute(0, 1, 3, 4, 2)
        x = self.depth(self.space(x), bias)
        if self.cross is not None:
            x = self.cross(x, tokens)
        return x.permute(0, 1, 4, 2, 3).flatten(0, 1)

    def forward(
        self, h: Tensor, batch: int, time1: Tensor, time2: Tensor, bias: Tensor | None, tokens: Tensor | None = None
    ) -> Tensor:
        h = self.block1(h, batch, time1)
        if self.full:  # in the middle the attentions lie between the blocks
            return self.block2(self.attend(h, batch, bias, tokens), batch, time2)
        return self.attend(self.block2(h, batch, time2), batch, bias, tokens)


class Unet3d(nn.Module):
    """z_t and the step k to a tensor like z_t (eps, z_0 or v: that is the prior's business).

    grid_channels: of masks and volumes beside z_t. context_dim: width of condition tokens, 0 for none.
    """

    def __init__(self, shape: tuple[int, int, int, int], options: Ddpm3d, grid_channels: int = 0, context_dim: int = 0):
        super().__init__()
        o, (channels, depth, height, width) = options, shape
        self.base, self.checkpointing = o.base, False
        dims = [o.base, *(o.base * m for m in o.multipliers)]
        pairs = list(zip(dims[:-1], dims[1:]))
        self.first = Convolution(channels, o.base, 7)
        plane = (o.base, height, width)
        if o.position_embedding == "learned":
            self.position = nn.Parameter(0.02 * torch.randn(plane))
        else:
            fixed = o.position_embedding == "fixed"
            self.register_buffer("position", torch.as_tensor(plane_features(*plane)) if fixed else None)
        levels = o.attention == "levels"
        self.bias = RelativeBias(o.heads) if o.attention != "none" and depth > 1 else None
        self.first_depth = DepthAttention(o.base, o.heads, o.head_dim) if levels else None
        self.time = nn.Sequential(nn.Linear(o.base, 4 * o.base), nn.GELU(), nn.Linear(4 * o.base, 4 * o.base))
        self.down = nn.ModuleList(Level(a, b, o, context_dim=context_dim) for a, b in pairs)
        self.shrink = nn.ModuleList(Down(b) for _, b in pairs[:-1])
        self.middle = Level(dims[-1], dims[-1], o, full=True, context_dim=context_dim)
        self.up = nn.ModuleList(Level(2 * b, a, o, context_dim=context_dim) for a, b in reversed(pairs))
        self.grow = nn.ModuleList(Up(a) for a, _ in reversed(pairs[1:]))
        self.last = ResidualBlock(2 * o.base, o.base, o.dropout)
        self.final = Pointwise(o.base, channels)
        self.time_dims = [d for level in (*self.down, self.middle, *self.up) for d in level.time_dims]
        self.time_projection = nn.Linear(4 * o.base, sum(self.time_dims))  # of all blocks, in one product
        # The first convolution of (z_t, conditions) is the sum of two; this one starts at zero.
        self.first_grid = Convolution(grid_channels, o.base, 7, zero=True) if grid_channels else None

    def times(self, k: Tensor, vector: Tensor | None = None) -> list[Tensor]:
        """Scale and shift of every block, (B, 2 C) each, in float32 whatever the autocast.

        vector: (B, 4 base) what conditions add to the embedding of time.
        """
        with float32_island(k.device):
            features = time_features(k, self.base).to(self.time[0].weight.dtype)
            embedded = self.time(features)
            if vector is not None:
                embedded = embedded + vector
            return list(self.time_projection(F.silu(embedded)).split(self.time_dims, -1))

    def run(self, level: Level, *args: object) -> Tensor:
        """A level, its activations recomputed in the backward pass where asked."""
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(level, *args, use_reentrant=False)
        return level(*args)

    def forward(self, z: Tensor, k: Tensor, told: Told | None = None) -> Tensor:
        """z (B, c, D, H, W), k (B,) steps in 1..T (fractions allowed) -> (B, c, D, H, W) in z's dtype."""
        told = told or Told()
        B, _, D, _, _ = z.shape
        planes = lambda x: x.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        h, tokens = planes(z), told.tokens
        time = iter(self.times(k, told.vector))
        bias = self.bias(D) if self.bias is not None and D > 1 else None
        h = self.first(h)
        if self.first_grid is not None:
            h = h + self.first_grid(planes(told.grid))
        if self.position is not None:
            h = h + self.position.to(h.dtype)
        if self.first_depth is not None:
            x = h.unflatten(0, (B, D)).permute(0, 1, 3, 4, 2)
            h = self.first_depth(x, bias).permute(0, 1, 4, 2, 3).flatten(0, 1)
        root, skips = h, []
        for i, level in enumerate(self.down):
            h = self.run(level, h, B, next(time), next(time), bias, tokens)
            skips.append(h)
            if i < len(self.shrink):
                h = self.shrink[i](h)
        h = self.run(self.middle, h, B, next(time), next(time), bias, tokens)
        for i, level in enumerate(self.up):
            h = torch.cat((h, skips.pop()), 1)
            h = self.run(level, h, B, next(time), next(time), bias, tokens)
            if i < len(self.grow):
                h = self.grow[i](h, skips[-1].shape[-2:])
        h = self.last(torch.cat((h, root), 1), B, None)
        return self.final(h).unflatten(0, (B, D)).transpose(1, 2)
