"""Attention over space and over depth for tokens that lie channels-last.

Shape legend: x (B, D, H, W, C) tokens; h heads, d channels a head.
Sources: Vaswani et al. 2017 (softmax attention), Shen et al. 2021 (efficient, linear attention), Su et al. 2021
(rotary positions), Raffel et al. 2020 (bucketed relative bias), Ho et al. 2022 (their place in a video U-Net).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

BUCKETS = 32  # of relative depth distances, half of them for each direction
MAX_DISTANCE = 32  # depth steps from which on all distances share the last bucket
ROTARY_BASE = 10_000.0


@lru_cache(maxsize=64)
def rotary_tables(depth: int, dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin (depth, dim / 2) float32 of position times ROTARY_BASE^(-2i / dim) (Su et al. 2021, eq. 15)."""
    angle = np.arange(depth)[:, None] * ROTARY_BASE ** (-np.arange(0, dim, 2) / dim)[None]
    with torch.inference_mode(False):  # a table made while sampling must serve training too
        return tuple(torch.from_numpy(f(angle).astype(np.float32)).to(device) for f in (np.cos, np.sin))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (x_2i, x_2i+1) of x (..., depth, dim) by their angles (Su et al. 2021, eq. 34)."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2).to(x.dtype)


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
        return F.layer_norm(x, x.shape[-1:], self.weight.to(x.dtype))


class Attention(nn.Module):
    """What the three kinds share: x + out(attend(qkv(norm(x))))."""

    def __init__(self, dim: int, heads: int, head_dim: int, bias: bool = False):
        super().__init__()
        self.heads = heads
        self.norm = ChannelNorm(dim)
        self.qkv = nn.Linear(dim, 3 * heads * head_dim, bias=False)
        self.out = nn.Linear(heads * head_dim, dim, bias=bias)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v, each (..., heads, head_dim)."""
        return self.qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1)).unbind(-3)


class SpatialAttention(Attention):
    """Full attention among the H W positions of each depth."""

    def forward(self, x: Tensor) -> Tensor:
        B, D, H, W, _ = x.shape
        q, k, v = (y.reshape(B * D, H * W, self.heads, -1).transpose(1, 2) for y in self.split(x))
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(y.transpose(1, 2).reshape(B, D, H, W, -1))


class SpatialLinearAttention(Attention):
    """Attention among the H W positions of each depth at linear cost: softmax(q) (softmax(k)^T v).

    Source: Shen et al. 2021, eq. 4 with softmax normalization, q scaled by 1 / sqrt(head_dim).
    """

    def __init__(self, dim: int, heads: int, head_dim: int):
        super().__init__(dim, heads, head_dim, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        B, D, H, W, _ = x.shape
        q, k, v = (y.reshape(B * D, H * W, self.heads, -1).transpose(1, 2) for y in self.split(x))
        scale = q.shape[-1] ** -0.5
        q = q.softmax(-1, dtype=torch.float32).to(v.dtype)
        k = k.softmax(-2, dtype=torch.float32).to(v.dtype)
        y = q @ ((k.transpose(-1, -2) @ v) * scale)
        return x + self.out(y.transpose(1, 2).reshape(B, D, H, W, -1))


class DepthAttention(Attention):
    """Attention among the D depths of each position, with rotary positions and a relative bias."""

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """bias: (heads, D, D), or None where D = 1."""
        B, D, H, W, _ = x.shape
        if D == 1:
            # The softmax over one depth is 1, whatever q, k and bias are: only v passes.
            v = F.linear(self.norm(x), self.qkv.weight[2 * self.qkv.out_features // 3 :])
            return x + self.out(v)
        q, k, v = (y.reshape(B, D, H * W, self.heads, -1).permute(0, 2, 3, 1, 4) for y in self.split(x))
        cos, sin = rotary_tables(D, q.shape[-1], x.device)
        y = F.scaled_dot_product_attention(
            rotate(q, cos, sin), rotate(k, cos, sin), v, attn_mask=bias.to(q.dtype)
        )
        return x + self.out(y.permute(0, 3, 1, 2, 4).reshape(B, D, H, W, -1))
