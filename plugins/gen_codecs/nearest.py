"""The nearest code of every vector: float32, in chunks that stay in the cache.

Shape legend: v (N, C), codebook (K, C), idx (N,).
"""

from __future__ import annotations

import torch
from torch import Tensor

from gen_core.engine.precision import float32_island

ROWS = 1024  # vectors looked up at once; their distances to 1024 codes are 4 MB


@torch.no_grad()
def nearest(v: Tensor, codebook: Tensor) -> Tensor:
    """idx (N,) int64 of the code with the least squared distance; no (N, K) matrix is kept.

    |v - e|^2 = |v|^2 - 2 (v e - |e|^2 / 2): the first term is the same for every code and left out. Always float32,
    whatever autocast says: bfloat16 distances choose other codes for up to half of the vectors.
    """
    v, codebook = v.float(), codebook.float()
    # about the middle of the codes, or the products lose their digits when all lie far from the origin
    middle = codebook.mean(0)
    e = codebook - middle
    half, e = -0.5 * e.square().sum(1), e.t().contiguous()
    idx = torch.empty(len(v), dtype=torch.long, device=v.device)
    # one buffer for all chunks: fresh memory would cost more than the products
    buffer = torch.empty(min(ROWS, len(v)), len(codebook), device=v.device)
    with float32_island(v.device):
        for start in range(0, len(v), ROWS):
            part = v[start : start + ROWS] - middle
            near = torch.addmm(half, part, e, out=buffer[: len(part)])
            idx[start : start + ROWS] = near.max(1).indices  # quicker than argmax
    return idx
