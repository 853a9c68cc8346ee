"""Self-attention among all voxels of a volume, for the coarse levels of a codec.

Source: Vaswani et al. 2017, eq. 1; Esser et al. 2021 (single-head attention blocks in an autoencoder).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from gen_codecs.blocks import norm


class VoxelAttention(nn.Module):
    """x + out(softmax(q k^T / sqrt(C)) v) with one head; q, k, v are linear in the normalized x (B, C, D, H, W)."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.norm = norm("group", channels, groups)
        self.q, self.k, self.v, self.out = (nn.Linear(channels, channels) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)[:, None]  # (B, 1, D H W, C)
        # never as a matrix of all pairs: 32^3 voxels would need 4 GiB for it
        y = F.scaled_dot_product_attention(self.q(tokens), self.k(tokens), self.v(tokens))
        return x + self.out(y)[:, 0].transpose(1, 2).reshape(x.shape)
