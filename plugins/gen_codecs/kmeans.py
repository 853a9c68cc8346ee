"""K-means over encoder vectors: Lloyd iterations, empty clusters refilled from the farthest vectors.

Shape legend: v (N, C) float32, centres (K, C).
Source: Lloyd 1982; Arthur & Vassilvitskii 2007 (k-means++ seeding).
"""

from __future__ import annotations

import torch
from torch import Tensor

from gen_codecs.nearest import nearest


@torch.no_grad()
def kmeans(v: Tensor, start: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Centres (K, C) and cluster sizes (K,) after `iterations` of Lloyd from `start` (K, C).

    An empty cluster takes the vector that lies farthest from its centre, one vector each; the vector leaves its
    former cluster.
    """
    centres = start.clone()
    k = len(centres)
    for _ in range(iterations):
        idx = nearest(v, centres)
        sizes = torch.bincount(idx, minlength=k)
        empty = (sizes == 0).nonzero()[:, 0]
        if len(empty):
            gap = (v - centres[idx]).square().sum(1)
            far = gap.topk(min(len(empty), len(v))).indices
            idx[far] = empty[: len(far)]
            sizes = torch.bincount(idx, minlength=k)
        sums = torch.zeros_like(centres).index_add_(0, idx, v)
        centres = torch.where(sizes[:, None] > 0, sums / sizes.clamp_min(1)[:, None], centres)
    return centres, torch.bincount(nearest(v, centres), minlength=k).to(v.dtype)


@torch.no_grad()
def seed_plus_plus(v: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """k-means++ start: each centre drawn with probability proportional to its squared distance to those so far."""
    pick = torch.randint(len(v), (), generator=generator, device=v.device)
    picks = [pick]
    gap = (v - v[pick]).square().sum(1)
    for _ in range(k - 1):
        # the tiny number is for vectors that all equal a centre already
        pick = torch.multinomial(gap + 1e-30, 1, generator=generator)[0]
        picks.append(pick)
        gap = torch.minimum(gap, (v - v[pick]).square().sum(1))
    return v[torch.stack(picks)]
