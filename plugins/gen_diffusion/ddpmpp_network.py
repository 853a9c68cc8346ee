"""The score network DDPM++, in 2-D and 3-D: residual blocks that resize, attention at levels, rescaled sums.

Shape legend: z (B, c, D, H, W) latents; inside, h (B, D, H, W, C), so tokens are a free view. Images have D = 1.
Source: Song et al. 2021 ("Score-Based Generative Modeling through SDEs"), appendix H; its blocks are those of Ho
et al. 2020 ("ddpm") or of Brock et al. 2019 ("biggan"); Tancik et al. 2020 (Fourier features).
Departures: the residual input is resampled, then convolved, where the original smooths and strides in one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gen_core.engine.precision import float32_island
from gen_diffusion.attention import CrossAttention
from gen_diffusion.condition_embedding import Told
from gen_diffusion.convolution3d import Axes, Convolution3d, kernel_for
from gen_diffusion.ddpmpp_options import Ddpmpp
from gen_diffusion.diffusion_unet_network import Norm, attend
from gen_diffusion.resampling import double, halve

GROUP = 4  # channels a group of GroupNorm has at least


def groups_of(dim: int, most: int) -> int:
    """Groups of a GroupNorm over `dim` channels: min(most, dim / 4), or the next lower number that divides dim."""
    return next(g for g in range(min(most, dim // GROUP), 0, -1) if dim % g == 0)


def positional_features(time: Tensor, dim: int) -> Tensor:
    """Sine and cosine of time (B,) at dim // 2 frequencies from 1 to 1 / 10 000; (B, dim) float32.

    Source: Vaswani et al. 2017, section 3.5, with both ends of the range of frequencies.
    """
    half = dim // 2
    frequency = torch.exp(torch.arange(half, device=time.device) * (-math.log(10_000.0) / (half - 1)))
    angle = time.float()[:, None] * frequency
    return torch.cat((angle.sin(), angle.cos()), -1)


class FourierFeatures(nn.Module):
    """Sine and cosine of a number at random, fixed frequencies: (B,) -> (B, 2 dim) float32."""

    def __init__(self, dim: int, scale: float):
        super().__init__()
        self.register_buffer("frequencies", scale * torch.randn(dim))

    def forward(self, time: Tensor) -> Tensor:
        angle = 2.0 * math.pi * time.float()[:, None] * self.frequencies.float()
        return torch.cat((angle.sin(), angle.cos()), -1)


class Sum(nn.Module):
    """Two branches added; divided by sqrt 2 where asked, so that the variance stays."""

    def __init__(self, rescale: bool):
        super().__init__()
        self.factor = math.sqrt(0.5) if rescale else 1.0

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (a + b) * self.factor


class ScoreBlock(nn.Module):
    """(GroupNorm, SiLU, resizing, convolution), the time added, (GroupNorm, SiLU, dropout, convolution), the skip.

    stride: axes that are halved. grow: whether it doubles instead, to a size told with each call.
    """

    def __init__(
        self, dim_in: int, dim_out: int, o: Ddpmpp, kernel: Axes, stride: Axes | None = None, grow: bool = False
    ):
        super().__init__()
        self.norm1 = Norm(dim_in, groups_of(dim_in, o.norm_groups), silu=True)
        self.conv1 = Convolution3d(dim_in, dim_out, kernel)
        self.norm2 = Norm(dim_out, groups_of(dim_out, o.norm_groups), silu=True)
        self.dropout = nn.Dropout(o.dropout)
        self.conv2 = Convolution3d(dim_out, dim_out, kernel)
        resizes = stride is not None or grow
        self.skip = nn.Linear(dim_in, dim_out) if dim_in != dim_out or resizes else nn.Identity()
        self.sum, self.dim_out = Sum(o.rescale), dim_out
        self.stride, self.grow, self.fir = stride, grow, o.resample == "fir"

    def resize(self, h: Tensor, size: Axes | None) -> Tensor:
        if self.stride is not None:
            return halve(h, self.stride, self.fir)
        return double(h, size, self.fir) if self.grow else h  # type: ignore[arg-type]

    def forward(self, h: Tensor, time: Tensor, size: Axes | None = None) -> Tensor:
        """time: (B, C_out); size: what a block that doubles comes out at."""
        y = self.conv1(self.resize(self.norm1(h), size))
        y = y + time.to(y.dtype)[:, None, None, None]
        y = self.conv2(self.dropout(self.norm2(y)))
        return self.sum(self.skip(self.resize(h, size)), y)


class ScoreAttention(nn.Module):
    """Attention among all positions of a sample, then to its condition tokens where there are some."""

    def __init__(self, dim: int, o: Ddpmpp, context_dim: int):
        super().__init__()
        self.heads = dim // o.head_channels if o.head_channels else 1
        self.norm = Norm(dim, groups_of(dim, o.norm_groups), silu=False)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.sum = Sum(o.rescale)
        self.cross = CrossAttention(dim, context_dim, self.heads, dim // self.heads) if context_dim else None

    def forward(self, h: Tensor, tokens: Tensor | None) -> Tensor:
        y = attend(*self.qkv(self.norm(h).flatten(1, 3)).chunk(3, -1), self.heads)
        h = self.sum(h, self.out(y).view(h.shape))
        return h if self.cross is None else self.cross(h, tokens)


class ScoreUnit(nn.Module):
    """A residual block and, at levels that have it, attention: what is recomputed together when memory is short."""

    def __init__(self, dim_in: int, dim_out: int, o: Ddpmpp, kernel: Axes, attentive: bool, context_dim: int):
        super().__init__()
        self.block = ScoreBlock(dim_in, dim_out, o, kernel)
        self.attention = ScoreAttention(dim_out, o, context_dim) if attentive else None

    def forward(self, h: Tensor, time: Tensor, tokens: Tensor | None) -> Tensor:
        h = self.block(h, time)
        return h if self.attention is None else self.attention(h, tokens)


class DdpmppNetwork(nn.Module):
    """z_t and a number that tells the time to a tensor like z_t; zero until it is trained.

    grid_channels: of masks and volumes beside z_t. context_dim: width of condition tokens, 0 for none.
    """

    def __init__(self, shape: tuple[int, int, int, int], options: Ddpmpp, grid_channels: int = 0, context_dim: int = 0):
        super().__init__()
        o, (channels, *size) = options, shape
        self.dim, self.checkpointing = o.base, False
        wides = [o.base * m for m in o.multipliers]
        last = len(wides) - 1
        kernel, strides = kernel_for(tuple(size)), self.strides(tuple(size), last, o.down_axes)  # type: ignore[arg-type]
        unit = lambda a, b, on: ScoreUnit(a, b, o, kernel, on, context_dim)
        biggan, fir = o.block == "biggan", o.resample == "fir"

        def shrinker(wide: int, stride: Axes) -> nn.Module:
            if biggan:
                return ScoreBlock(wide, wide, o, kernel, stride=stride)
            return Convolution3d(wide, wide, kernel, (1, 1, 1) if fir else stride)

        self.first = Convolution3d(channels, self.dim, kernel)
        self.fourier = FourierFeatures(self.dim, o.fourier_scale) if o.time == "fourier" else None
        width = 4 * self.dim
        self.time = nn.Sequential(
            nn.Linear(self.dim * (1 if self.fourier is None else 2), width), nn.SiLU(), nn.Linear(width, width)
        )
        self.down, self.shrink, self.up, self.grow = (nn.ModuleList() for _ in range(4))
        self.up_attention, self.pyramid = nn.ModuleList(), nn.ModuleList()
        dim, seen, skips = self.dim, channels, [self.dim]
        for i, wide in enumerate(wides):
            ins = [dim] + [wide] * (o.blocks - 1)
            self.down.append(nn.ModuleList(unit(a, wide, o.attention[i]) for a in ins))
            dim, skips = wide, skips + [wide] * o.blocks
            if i < last:
                self.shrink.append(shrinker(wide, strides[i]))
                skips.append(wide)
                if o.progressive_input == "residual":
                    self.pyramid.append(Convolution3d(seen, wide, kernel))
                    seen = wide
        self.halved, self.fir, self.sum = strides, fir, Sum(o.rescale)
        self.middle = unit(dim, dim, True)
        self.middle_block = ScoreBlock(dim, dim, o, kernel)
        for i, wide in reversed(list(enumerate(wides))):
            units = nn.ModuleList()
            for _ in range(o.blocks + 1):
                units.append(unit(dim + skips.pop(), wide, False))
                dim = wide
            self.up.append(units)
            self.up_attention.append(ScoreAttention(wide, o, context_dim) if o.attention[i] else nn.Identity())
            if i > 0:
                self.grow.append(
                    ScoreBlock(wide, wide, o, kernel, grow=True) if biggan else Convolution3d(wide, wide, kernel)
                )
        self.last_norm = Norm(self.dim, groups_of(self.dim, o.norm_groups), silu=True)
        self.last = Convolution3d(self.dim, channels, kernel)
        self.time_dims = [block.dim_out for block in self.blocks()]
        self.time_projection = nn.Linear(width, sum(self.time_dims))  # of all blocks, in one product
        self.initialize()
        # The first convolution of (z_t, conditions) is the sum of two; this one starts at zero.
        self.first_grid = Convolution3d(grid_channels, self.dim, kernel, zero=True) if grid_channels else None

    @staticmethod
    def strides(size: Axes, times: int, axes: str) -> list[Axes]:
        """Which axes are halved (2) between levels; axes of one voxel never are."""
        found: list[Axes] = []
        for _ in range(times):
            stride = tuple(2 if n > 1 and axis in axes else 1 for n, axis in zip(size, "DHW"))
            size = tuple(-(-n // s) for n, s in zip(size, stride))  # type: ignore[assignment]
            found.append(stride)  # type: ignore[arg-type]
        return found

    def initialize(self) -> None:
        """Weights uniform with variance 2 / (fan in + fan out), biases zero; what ends a branch starts at zero.

        Source: Song et al. 2021, whose networks start as those of Ho et al. 2020. They start branches at 1e-10.
        """
        zero: list[nn.Module] = [self.last]
        for module in self.modules():
            if isinstance(module, (Convolution3d, nn.Linear)):
                weight = module.weight
                dim_out, dim_in = weight.shape[0], weight.shape[-1]
                field = math.prod(weight.shape[1:-1])  # voxels of a kernel, 1 of a matrix
                bound = math.sqrt(6.0 / (field * (dim_in + dim_out)))
                nn.init.uniform_(weight, -bound, bound)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            if isinstance(module, ScoreBlock):
                zero.append(module.conv2)
            elif isinstance(module, (ScoreAttention, CrossAttention)):
                zero.append(module.out)
        for module in zero:
            nn.init.zeros_(module.weight), nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def blocks(self) -> list[ScoreBlock]:
        """All residual blocks in the order of their use."""
        found: list[ScoreBlock] = []
        for i, level in enumerate(self.down):
            found += [u.block for u in level]
            found += [m for m in self.shrink[i : i + 1] if isinstance(m, ScoreBlock)]
        found += [self.middle.block, self.middle_block]
        for i, level in enumerate(self.up):
            found += [u.block for u in level]
            found += [m for m in self.grow[i : i + 1] if isinstance(m, ScoreBlock)]
        return found

    def times(self, time: Tensor, vector: Tensor | None = None) -> Sequence[Tensor]:
        """What each block adds, (B, C) each, in float32 whatever the autocast; vector: (B, 4 base) from conditions."""
        with float32_island(time.device):
            features = positional_features(time, self.dim) if self.fourier is None else self.fourier(time)
            embedded = self.time(features)
            if vector is not None:
                embedded = embedded + vector
            return self.time_projection(F.silu(embedded)).split(self.time_dims, -1)

    def run(self, module: nn.Module, *args: object) -> Tensor:
        """A module, its activations recomputed in the backward pass where asked."""
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(module, *args, use_reentrant=False)
        return module(*args)

    def forward(self, z: Tensor, time: Tensor, told: Told | None = None) -> Tensor:
        """z (B, c, D, H, W), time (B,) as the features want it -> (B, c, D, H, W)."""
        told = told or Told()
        tokens, time = told.tokens, iter(self.times(time, told.vector))
        volume = lambda x: x.permute(0, 2, 3, 4, 1).contiguous()
        pyramid = volume(z)
        h = self.first(pyramid)
        if self.first_grid is not None:
            h = h + self.first_grid(volume(told.grid))
        skips = [h]
        for i, level in enumerate(self.down):
            for unit in level:
                h = self.run(unit, h, next(time), tokens)
                skips.append(h)
            if i < len(self.shrink):
                shrink, stride = self.shrink[i], self.halved[i]
                if isinstance(shrink, ScoreBlock):
                    h = self.run(shrink, h, next(time))
                else:
                    h = shrink(halve(h, stride, True) if self.fir else h)
                if len(self.pyramid):
                    pyramid = self.pyramid[i](halve(pyramid, stride, self.fir))
                    h = pyramid = self.sum(pyramid, h)
                skips.append(h)
        h = self.run(self.middle, h, next(time), tokens)
        h = self.run(self.middle_block, h, next(time))
        for i, level in enumerate(self.up):
            for unit in level:
                h = self.run(unit, torch.cat((h, skips.pop()), -1), next(time), tokens)
            attention = self.up_attention[i]
            if isinstance(attention, ScoreAttention):
                h = self.run(attention, h, tokens)
            if i < len(self.grow):
                size, grow = tuple(skips[-1].shape[1:4]), self.grow[i]
                if isinstance(grow, ScoreBlock):
                    h = self.run(grow, h, next(time), size)
                else:
                    h = grow(double(h, size, self.fir))  # type: ignore[arg-type]
        return self.last(self.last_norm(h)).permute(0, 4, 1, 2, 3)
