"""The nearest code of every vector: float32, in chunks that stay in the cache.

Shape legend: v (N, C), codebook (K, C), idx (N,).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gen_core.engine.precision import float32_island

CELLS = 1 << 20  # distances at once, 4 MB
ROWS = (64, 1024)  # vectors at once: at least, at most
BLOCK = 64  # codes whose best is found by vector instructions; which of them it was is asked afterwards


@torch.no_grad()
def nearest(v: Tensor, codebook: Tensor) -> Tensor:
    """idx (N,) int64 of the code with the least squared distance, of equal ones the first; no (N, K) matrix is kept.

    |v - e|^2 = |v|^2 - 2 (v e - |e|^2 / 2): the first term is the same for every code and left out. Always float32,
    whatever autocast says: bfloat16 distances choose other codes for up to half of the vectors.
    """
    v, codebook = v.float(), codebook.float()
    # about the middle of the codes, or the products lose their digits when all lie far from the origin
    middle = codebook.mean(0)
    e = codebook - middle
    half = -0.5 * e.square().sum(1)
    spare = -len(e) % BLOCK  # codes that are never the nearest
    half, e = F.pad(half, (0, spare), value=-torch.inf), F.pad(e, (0, 0, 0, spare)).t().contiguous()
    rows = min(max(CELLS // len(half), ROWS[0]), ROWS[1])
    idx = torch.empty(len(v), dtype=torch.long, device=v.device)
    # one buffer for all chunks: fresh memory would cost more than the products
    buffer = torch.empty(min(rows, len(v)), len(half), device=v.device)
    with float32_island(v.device):
        for start in range(0, len(v), rows):
            part = v[start : start + rows] - middle
            near = torch.addmm(half, part, e, out=buffer[: len(part)])
            idx[start : start + rows] = _place_of_the_largest(near)
    return idx.clamp_(max=len(codebook) - 1)  # of vectors that are not finite a spare code may be


def _place_of_the_largest(near: Tensor) -> Tensor:
    """The same as near.argmax(1), near (n, K) with K a multiple of BLOCK.

    On a CPU torch looks for a largest value eight times as fast as for its place: so the block first, by values alone.
    """
    if near.device.type != "cpu":
        return near.max(1).indices
    blocks = near.view(len(near), -1, BLOCK)
    block = blocks.amax(2).max(1).indices
    row = torch.arange(len(near)) * blocks.shape[1]
    inside = blocks.view(-1, BLOCK).index_select(0, row + block).max(1).indices
    return inside.add_(block, alpha=BLOCK)
