"""Attention over space and over depth for tokens that lie channels-last.

Shape legend: x (B, D, H, W, C) tokens; h heads, d channels a head.
Sources: Vaswani et al. 2017 (softmax attention), Shen et al. 2021 (efficient, linear attention), Su et al. 2021
(rotary positions), Raffel et al. 2020 (bucketed relative bias), Ho et al. 2022 (their place in a video U-Net),
Rombach et al. 2022, section 3.3 (cross-attention to conditions).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen_core.engine.fused import Fused

BUCKETS = 32  # of relative depth distances, half of them for each direction
MAX_DISTANCE = 32  # depth steps from which on all distances share the last bucket
ROTARY_BASE = 10_000.0
FEW_DEPTHS = 4  # up to which depth attention is written out


@lru_cache(maxsize=64)
def rotary_table(depth: int, dim: int, device: torch.device) -> Tensor:
    """e^(i m theta_j), (depth, dim / 2) complex64: position m, theta_j = ROTARY_BASE^(-2j / dim).

    Source: Su et al. 2021, eq. 15, in the complex form of eq. 12.
    """
    angle = np.arange(depth)[:, None] * ROTARY_BASE ** (-np.arange(0, dim, 2) / dim)[None]
    with torch.inference_mode(False):  # a table made while sampling must serve training too
        return torch.from_numpy(np.exp(1j * angle).astype(np.complex64)).to(device)


def rotate(x: Tensor) -> Tensor:
    """Turn each pair (x_2j, x_2j+1) of x (B, D, P, h, d) by its depth's angle; float32."""
    table = rotary_table(x.shape[1], x.shape[-1], x.device)[:, None, None]
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * table).flatten(-2)


@lru_cache(maxsize=64)
def relative_buckets(depth: int, device: torch.device) -> Tensor:
    """Bucket of (key - query) for every pair, (depth, depth) int64: exact to 7, then logarithmic.

    Source: Raffel et al. 2020, section 2.1, both directions.
    """
    distance = np.arange(depth)[None, :] - np.arange(depth)[:, None]
    half = BUCKETS // 2
    exact = half // 2
    far = np.abs(distance)
    log = exact + np.log(np.maximum(far, 1) / exact) / math.log(MAX_DISTANCE / exact) * (half - exact)
    bucket = np.where(far < exact, far, np.minimum(log.astype(np.int64), half - 1)) + half * (distance > 0)
    with torch.inference_mode(False):
        return torch.from_numpy(bucket.astype(np.int64)).to(device)


class RelativeBias(nn.Module):
    """A learned bias a head and bucket, shared by every depth attention of a network."""

    def __init__(self, heads: int):
        super().__init__()
        self.table = nn.Embedding(BUCKETS, heads)

    def forward(self, depth: int) -> Tensor:
        """(heads, depth, depth)."""
        return self.table(relative_buckets(depth, self.table.weight.device)).permute(2, 0, 1)


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of tokens, without bias."""

    def __init__(self, dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.to(x.dtype)
        if x.device.type == "cuda":  # autocast would write float32, which the next product rounds to x's dtype again
            with torch.autocast("cuda", enabled=False):
                return F.layer_norm(x, x.shape[-1:], weight)
        return F.layer_norm(x, x.shape[-1:], weight)


def softmax_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v for (B, h, n, d).

    On CPUs half precision is computed in float32: the fused backward pass is ten times slower in bf16.
    """
    if q.device.type != "cpu" or q.dtype == torch.float32:
        return F.scaled_dot_product_attention(q, k, v)
    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(q.float(), k.float(), v.float()).to(q.dtype)


def few_depths_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Attention over D of (B, D, P, h, d) written out over the D x D pairs, float32; bias: (h, D, D).

    For a handful of depths a fused kernel spends its time on thousands of tiny products; this is 2 to 3 x faster.
    """
    score = (q[:, :, None] * k[:, None]).sum(-1) * q.shape[-1] ** -0.5  # (B, D, D, P, h)
    share = (score + bias.float().permute(1, 2, 0)[:, :, None]).softmax(2)
    return (share.unsqueeze(-1) * v.float()[:, None]).sum(2)


def _few_rotated_depths(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`few_depths_attention` of rotated q and k, in real arithmetic: for a compiler, which makes one pass of it."""

    def turned(x: Tensor) -> Tensor:
        even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)

    return few_depths_attention(turned(q), turned(k), v, bias).to(v.dtype)


def _soft(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """softmax of q (N, P, h, d) over its channels and of k over positions, by float32."""
    return q.softmax(-1, dtype=torch.float32).to(q.dtype), k.softmax(1, dtype=torch.float32).to(k.dtype)


_fused_few_rotated_depths, _fused_soft = Fused(_few_rotated_depths), Fused(_soft)


class Attention(nn.Module):
    """What the three kinds share: x + out(attend(qkv(norm(x))))."""

    def __init__(self, dim: int, heads: int, head_dim: int, bias: bool = False):
        super().__init__()
        self.heads = heads
        self.norm = ChannelNorm(dim)
        self.qkv = nn.Linear(dim, 3 * heads * head_dim, bias=False)
        self.out = nn.Linear(heads * head_dim, dim, bias=bias)

    def split(self, x: Tensor, *shape: int) -> tuple[Tensor, ...]:
        """q, k, v of tokens x, each (*shape, heads, head_dim): views of one tensor."""
        return self.qkv(self.norm(x)).view(*shape, 3, self.heads, -1).unbind(-3)


class SpatialAttention(Attention):
    """Full attention among the H W positions of each depth."""

    def forward(self, x: Tensor) -> Tensor:
        B, D, H, W, _ = x.shape
        q, k, v = (y.transpose(1, 2) for y in self.split(x, B * D, H * W))
        y = softmax_attention(q, k, v)
        return x + self.out(y.transpose(1, 2).reshape(B, D, H, W, -1))


class SpatialLinearAttention(Attention):
    """Attention among the H W positions of each depth at linear cost: softmax(q) (softmax(k)^T v).

    Source: Shen et al. 2021, eq. 4 with softmax normalization; q is scaled by 1 / sqrt(head_dim).
    """

    def __init__(self, dim: int, heads: int, head_dim: int):
        super().__init__(dim, heads, head_dim, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        B, D, H, W, _ = x.shape
        q, k, v = self.split(x, B * D, H * W)
        q, k = _fused_soft(q, k)
        context = (k.permute(0, 2, 3, 1) @ v.transpose(1, 2)) * v.shape[-1] ** -0.5  # (B D, h, d, d)
        y = q.transpose(1, 2) @ context
        return x + self.out(y.transpose(1, 2).reshape(B, D, H, W, -1))


class DepthAttention(Attention):
    """Attention among the D depths of each position, with rotary positions and a relative bias."""

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """bias: (heads, D, D), or None where D = 1."""
        B, D, H, W, _ = x.shape
        if D == 1:
            # The softmax over one depth is 1, whatever q, k and bias are: only v passes.
            return x + self.out(F.linear(self.norm(x), self.qkv.weight.chunk(3)[2]))
        q, k, v = self.split(x, B, D, H * W)
        if D <= FEW_DEPTHS and x.device.type == "cuda":
            table = rotary_table(D, q.shape[-1], x.device)[:, None, None]
            y = _fused_few_rotated_depths(q, k, v, bias, table.real.contiguous(), table.imag.contiguous())
            return x + self.out(y.reshape(B, D, H, W, -1))
        q, k = rotate(q), rotate(k)
        if D <= FEW_DEPTHS:
            y = few_depths_attention(q, k, v, bias)
        else:
            q, k, v = (y.to(x.dtype).permute(0, 2, 3, 1, 4).flatten(0, 1) for y in (q, k, v))
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(x.dtype)[None])
            y = y.unflatten(0, (B, H * W)).permute(0, 3, 1, 2, 4)
        return x + self.out(y.to(x.dtype).reshape(B, D, H, W, -1))


class CrossAttention(nn.Module):
    """x + out(attention of all positions to a sample's condition tokens); `out` starts at zero."""

    def __init__(self, dim: int, context_dim: int, heads: int, head_dim: int):
        super().__init__()
        self.heads = heads
        self.norm = ChannelNorm(dim)
        self.q = nn.Linear(dim, heads * head_dim, bias=False)
        self.kv = nn.Linear(context_dim, 2 * heads * head_dim, bias=False)
        self.out = nn.Linear(heads * head_dim, dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """tokens: (B, n, context_dim)."""
        B, n, _ = tokens.shape
        q = self.q(self.norm(x)).view(B, -1, self.heads, self.q.out_features // self.heads).transpose(1, 2)
        k, v = self.kv(tokens.to(x.dtype)).view(B, n, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = softmax_attention(q, k, v)
        return x + self.out(y.transpose(1, 2).reshape(*x.shape[:-1], -1))
