"""Nearest neighbours in feature space: exact by default, by an index where asked or where sets are very large.

Every way first finds candidates (a few more than are wanted), then measures those exactly in float64 and sorts them
by (distance, row): so ways that find the same candidates give the same figures to the last digit. Cosine distance is
half the squared L2 distance of unit vectors, 1 - cos = |u - v|^2 / 2, which keeps its digits near 0.

Memory stays bounded: blocks of `_QUERIES` x `_ROWS`, never the whole matrix of distances.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gen_metrics.vector_indexes import faiss_candidates, faiss_installed, hnsw_candidates, hnsw_installed

DISTANCES = ("l1", "l2", "cosine")
VERY_LARGE = 1_000_000  # rows: from here on "auto" takes an approximate index where hnswlib is installed
WORTH_FAISS = 1e9  # queries x rows x features: below it the import costs more than it saves
_ROWS = 2048  # base rows compared at once
_QUERIES = 256
_BLOCK = 1 << 17  # numbers in the buffer of L1 differences: stays in the second-level cache
_WIDE = 256  # features from which the blocked L1 beats torch.cdist
_MARGIN = 6  # candidates beyond k, against rounding of the first pass
_WIDER = 10  # times k candidates when the index ranks by L2 and the answer by L1

Candidates = Callable[[Tensor, int], Tensor]
"""(queries (n, d), m) -> (n, m) rows of the base that are likely the nearest; -1 where there is none."""


def l1_distances(a: Tensor, b: Tensor) -> Tensor:
    """(n, m) Manhattan distances of rows a (n, d) and b (m, d); exactly 0 for equal rows.

    One query against a block of rows at a time, so that the differences never leave the cache.
    """
    n, m, d = len(a), len(b), a.shape[1]
    if d < _WIDE:
        return torch.cdist(a, b, p=1.0)
    out = torch.empty(n, m, dtype=a.dtype)
    rows = max(1, _BLOCK // d)
    room, ones = torch.empty(min(rows, m), d, dtype=a.dtype), torch.ones(d, dtype=a.dtype)
    for start in range(0, m, rows):
        part = b[start : start + rows]
        differences = room[: len(part)]
        for i in range(n):
            torch.sub(part, a[i], out=differences).abs_()
            torch.mv(differences, ones, out=out[i, start : start + len(part)])
    return out


def squared_l2(a: Tensor, b: Tensor) -> Tensor:
    """(n, m) squared Euclidean distances by a matrix product: quick, rounded where rows are nearly equal."""
    return a.square().sum(1)[:, None] + b.square().sum(1)[None] - 2 * (a @ b.T)


def measured(queries: Tensor, base: Tensor, rows: Tensor, distance: str) -> Tensor:
    """(n, m) float64 distances of queries (n, d) to the rows (n, m) of base; inf where the row is -1."""
    parts = []
    at_once = max(1, _BLOCK // max(1, rows.shape[1] * base.shape[1]))  # queries: their differences stay in the cache
    for q, at in zip(queries.split(at_once), rows.split(at_once)):
        gap = base[at.clamp(min=0)].double() - q[:, None].double()
        parts.append((gap.abs().sum(2) if distance == "l1" else gap.square().sum(2)).masked_fill(at < 0, torch.inf))
    found = torch.cat(parts)
    return found if distance == "l1" else found.sqrt() if distance == "l2" else found / 2


class Neighbours:
    """Searches one base. After a search, `method` says how, and `recall(queries, k)` how well.

    base: (m, d). distance: "l1", "l2" or "cosine". how: "exact" (torch), "faiss" (exact, quicker), "hnsw" (approximate,
    candidates by L2) or "auto": exact, by faiss where it is installed and worth it, by hnsw from a million rows.
    Raises: MissingError when an index is asked for that is not installed.
    """

    def __init__(self, base: Tensor, distance: str = "l2", how: str = "exact", seed: int = 0):
        assert distance in DISTANCES, distance
        self.distance, self.how, self.seed = distance, how, seed
        self.base = _unit(base) if distance == "cosine" else base
        self.method = ""
        self._found: dict[str, Candidates] = {}

    def __call__(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Distances (n, k) float64 rising and rows (n, k) int64; k is cut to m. Equal distances: the lower row."""
        k = min(k, len(self.base))
        queries = _unit(queries) if self.distance == "cosine" else queries
        self.method = self._choose(len(queries))
        return self._search(queries, k, self.method)

    def recall(self, queries: Tensor, k: int, most: int = 100) -> float:
        """Share of the true k nearest rows that the last search's way finds, on `most` evenly spaced queries."""
        if self.method != "hnsw" or not len(queries):
            return 1.0
        queries = queries[:: max(1, len(queries) // most)][:most]
        queries = _unit(queries) if self.distance == "cosine" else queries
        k = min(k, len(self.base))
        got, true = (self._search(queries, k, way)[1] for way in ("hnsw", "exact"))
        return float((got[:, :, None] == true[:, None]).any(2).double().mean())

    def _choose(self, queries: int) -> str:
        if self.how != "auto":
            return self.how
        if len(self.base) >= VERY_LARGE and hnsw_installed():
            return "hnsw"
        work = float(queries) * self.base.numel()
        return "faiss" if work >= WORTH_FAISS and faiss_installed() else "exact"

    def _search(self, queries: Tensor, k: int, way: str) -> tuple[Tensor, Tensor]:
        more = max(k + _MARGIN, _WIDER * k if way == "hnsw" and self.distance == "l1" else 0)
        rows = self._candidates(way)(queries, min(more, len(self.base)))
        rows = rows.sort(1).values  # by row first: the stable sort by distance then keeps the lower one
        d, order = torch.sort(measured(queries, self.base, rows, self.distance), dim=1, stable=True)
        return d[:, :k], rows.gather(1, order)[:, :k]

    def _candidates(self, way: str) -> Candidates:
        if way not in self._found:
            metric = "l1" if self.distance == "l1" else "l2"
            makers: dict[str, Callable[[], Candidates]] = {
                "exact": lambda: lambda queries, m: _exact_candidates(queries, self.base, m, metric),
                "faiss": lambda: faiss_candidates(self.base, metric),
                "hnsw": lambda: hnsw_candidates(self.base, self.seed),
            }
            self._found[way] = makers[way]()
        return self._found[way]


def _unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)


def _exact_candidates(queries: Tensor, base: Tensor, m: int, metric: str) -> Tensor:
    compare = l1_distances if metric == "l1" else squared_l2
    centre = base.mean(0)  # products of centred rows are small, so little is lost when they cancel
    queries = queries - centre if metric == "l2" else queries
    found = []
    for part in queries.split(_QUERIES):
        best = torch.empty(len(part), 0, dtype=part.dtype)
        rows = torch.empty(len(part), 0, dtype=torch.int64)
        for start in range(0, len(base), _ROWS):
            block = base[start : start + _ROWS]
            d, at = compare(part, block - centre if metric == "l2" else block).topk(min(m, len(block)), largest=False)
            best, rows = torch.cat((best, d), 1), torch.cat((rows, at + start), 1)
            best, order = best.topk(min(m, best.shape[1]), largest=False)
            rows = rows.gather(1, order)
        found.append(rows)
    return torch.cat(found) if found else torch.empty(0, m, dtype=torch.int64)


def nearest(queries: Tensor, base: Tensor, k: int, distance: str = "l2", how: str = "exact") -> tuple[Tensor, Tensor]:
    """The k nearest rows of `base` (m, d) for each of `queries` (n, d): distances (n, k) rising, rows (n, k)."""
    return Neighbours(base, distance, how)(queries, k)


def nearest_of_views(
    views: Sequence[Tensor], bases: Sequence[Neighbours], k: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `nearest`, with queries and base each given in several views: a row of the base counts by its nearest pair.

    views: (n, d) each. bases: equally many rows each, in the same order. Returns distances (n, k), rows (n, k), and
    which view of the query and of the base it was, (n, k) each.
    """
    found = [(q, b, *base(view, k)) for q, view in enumerate(views) for b, base in enumerate(bases)]
    d = torch.cat([f[2] for f in found], 1)
    at = torch.cat([f[3] for f in found], 1)
    pair = torch.cat([torch.full_like(f[3], f[0] * len(bases) + f[1]) for f in found], 1)
    d, order = torch.sort(d, dim=1, stable=True)
    at, pair = at.gather(1, order), pair.gather(1, order)
    # only the first (nearest) mention of each row stays; the others move to the end
    earlier = torch.ones(d.shape[1], d.shape[1], dtype=torch.bool).tril(-1)
    again = torch.cat([((a[:, :, None] == a[:, None]) & earlier).any(2) for a in at.split(64)])
    d, order = torch.sort(d.masked_fill(again, torch.inf), dim=1, stable=True)
    keep = order[:, : min(k, len(bases[0].base))]
    at, pair = at.gather(1, keep), pair.gather(1, keep)
    return d[:, : keep.shape[1]], at, pair // len(bases), pair % len(bases)
