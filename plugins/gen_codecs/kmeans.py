"""K-means over encoder vectors: chunked Lloyd iterations, empty clusters refilled from the farthest vectors.

Source: Lloyd 1982; Arthur & Vassilvitskii 2007 (k-means++ seeding).
"""

from __future__ import annotations

import torch
from torch import Tensor

from gen_codecs.codebook import nearest


def seed_plus_plus(v: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """k-means++ start: each centre drawn with probability proportional to its squared distance to those so far."""
    first = torch.randint(len(v), (1,), generator=generator, device=v.device)
    centres = [v[first[0]]]
    gap = (v - centres[0]).square().sum(1)
    for _ in range(k - 1):
        weights = gap if bool(gap.sum() > 0) else torch.ones_like(gap)
        pick = torch.multinomial(weights, 1, generator=generator)[0]
        centres.append(v[pick])
        gap = torch.minimum(gap, (v - v[pick]).square().sum(1))
    return torch.stack(centres)


def kmeans(v: Tensor, start: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """v (N, C) float32, start (K, C) -> centres (K, C) and cluster sizes (K,) after `iterations` of Lloyd.

    An empty cluster takes the vector that lies farthest from its centre, one vector each.
    """
    centres = start.clone()
    k, c = centres.shape
    sizes = torch.zeros(k, device=v.device)
    for _ in range(iterations):
        idx = nearest(v, centres)
        sizes = torch.bincount(idx, minlength=k).to(v.dtype)
        sums = torch.zeros_like(centres).index_add_(0, idx, v)
        centres = torch.where(sizes[:, None] > 0, sums / sizes.clamp_min(1)[:, None], centres)
        empty = (sizes == 0).nonzero()[:, 0]
        if len(empty):
            gap = (v - centres[idx]).square().sum(1)
            far = gap.topk(min(len(empty), len(v))).indices
            centres[empty[: len(far)]] = v[far]
    sizes = torch.bincount(nearest(v, centres), minlength=k).to(v.dtype)
    return centres, sizes
