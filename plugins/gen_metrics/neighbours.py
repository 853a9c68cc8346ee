"""Exact nearest neighbours in feature space, in chunks: memory stays bounded, results do not depend on the chunk."""

from __future__ import annotations

import torch
from torch import Tensor

_CHUNK = 2048  # training rows compared at once
_QUERIES = 256


def _distances(a: Tensor, b: Tensor, distance: str) -> Tensor:
    if distance == "l1":
        return torch.cdist(a, b, p=1.0)
    if distance == "l2":
        return torch.cdist(a, b, p=2.0, compute_mode="donot_use_mm_for_euclid_dist")
    unit = lambda v: v / v.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return (1.0 - unit(a) @ unit(b).T).clamp(min=0.0)


def nearest(queries: Tensor, base: Tensor, k: int, distance: str = "l1") -> tuple[Tensor, Tensor]:
    """The k nearest rows of `base` (m, d) for each of `queries` (n, d): distances (n, k) rising, indices (n, k).

    distance: "l1", "l2" or "cosine" (1 - cos). k is cut to m. Equal distances keep the lower index.
    """
    k = min(k, len(base))
    all_d, all_i = [], []
    for part in queries.split(_QUERIES):
        best_d = torch.full((len(part), 0), 0.0, dtype=queries.dtype)
        best_i = torch.zeros((len(part), 0), dtype=torch.int64)
        for start in range(0, len(base), _CHUNK):
            d = _distances(part, base[start : start + _CHUNK], distance)
            i = torch.arange(start, start + d.shape[1]).expand_as(d)
            d, i = torch.cat((best_d, d), 1), torch.cat((best_i, i), 1)
            best_d, order = torch.sort(d, dim=1, stable=True)
            best_d, best_i = best_d[:, :k], i.gather(1, order[:, :k])
        all_d.append(best_d)
        all_i.append(best_i)
    return torch.cat(all_d), torch.cat(all_i)


def nearest_of_views(views: list[Tensor], base: Tensor, k: int, distance: str) -> tuple[Tensor, Tensor, Tensor]:
    """As `nearest`, each query given in several views (plain, mirrored): a base row counts by its nearest view.

    Returns distances (n, k), indices (n, k) and which view (n, k).
    """
    found = [nearest(v, base, k, distance) for v in views]
    d = torch.cat([f[0] for f in found], 1)
    i = torch.cat([f[1] for f in found], 1)
    view = torch.cat([torch.full_like(f[1], n) for n, f in enumerate(found)], 1)
    d, order = torch.sort(d, dim=1, stable=True)
    i, view = i.gather(1, order), view.gather(1, order)
    keep = min(k, len(base))
    rows = []
    for r in range(len(d)):  # the first (nearest) mention of each base row
        seen: set[int] = set()
        rows.append([c for c, j in enumerate(i[r].tolist()) if not (j in seen or seen.add(j))][:keep])
    at = torch.tensor(rows, dtype=torch.int64)
    return d.gather(1, at), i.gather(1, at), view.gather(1, at)
