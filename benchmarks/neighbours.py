"""Nearest neighbours: scikit-learn, torch.cdist and faiss against ours, and a graph with its recall, in turn.

    OMP_NUM_THREADS=2 python benchmarks/neighbours.py             # 1 035 and 100 000 rows x 2048; minutes
    OMP_NUM_THREADS=2 python benchmarks/neighbours.py --quick     # 1 035 rows, and 10 000 for the graph
    python benchmarks/neighbours.py --no-graph                    # exact searches alone
    OMP_NUM_THREADS=1 python benchmarks/neighbours.py --graph     # the graph of 100 000 rows alone

200 queries, 10 neighbours, float32. The neighbours of every exact side are checked against each other first. faiss and
hnswlib are extras (`fast`); rows of what is not installed are left out, and said.

Rows are clusters around 500 centres in 32 directions plus noise: features of real volumes fill a small part of their
space, and a graph finds its way among them far better than among independent numbers.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import torch
from harness import compare

from gen_metrics import neighbours, vector_indexes
from gen_metrics.neighbours import Neighbours

DIM, QUERIES, K = 2048, 200, 10
METRICS = {"l1": "manhattan", "l2": "euclidean"}


def rows(n: int, seed: int) -> torch.Tensor:
    """(n, DIM) float32; the same centres for every seed."""
    g = torch.Generator().manual_seed(99)
    centres, plane = torch.randn(500, 32, generator=g), torch.randn(32, DIM, generator=g) / 32**0.5
    g = torch.Generator().manual_seed(seed)
    of = torch.randint(0, 500, (n,), generator=g)
    low = centres[of] + 0.5 * torch.randn(n, 32, generator=g)
    return low @ plane + 0.2 * torch.randn(n, DIM, generator=g)


def by_scikit_learn(queries: torch.Tensor, base: torch.Tensor, distance: str) -> torch.Tensor:
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(
        n_neighbors=K, metric=METRICS[distance], algorithm="brute", n_jobs=torch.get_num_threads()
    )
    return torch.from_numpy(search.fit(base.numpy()).kneighbors(queries.numpy())[1])


def by_cdist(queries: torch.Tensor, base: torch.Tensor, distance: str) -> torch.Tensor:
    """As anybody would write it; in chunks of the base, so that it runs at 100 000 rows."""
    p = 1.0 if distance == "l1" else 2.0
    return torch.cat([torch.cdist(queries, part, p=p) for part in base.split(8192)], 1).topk(K, largest=False).indices


def sides(queries: torch.Tensor, base: torch.Tensor, distance: str) -> dict[str, Callable[[], torch.Tensor]]:
    """Every exact side; indexes are built within the time, as one evaluation would."""
    found = {
        "scikit-learn": lambda: by_scikit_learn(queries, base, distance),
        "torch.cdist": lambda: by_cdist(queries, base, distance),
        "ours, torch": lambda: Neighbours(base, distance, "exact")(queries, K)[1],
    }
    if neighbours.faiss_installed():
        found["ours, faiss"] = lambda: Neighbours(base, distance, "faiss")(queries, K)[1]
    return found


def agree(found: dict[str, torch.Tensor], base: torch.Tensor, queries: torch.Tensor, distance: str) -> None:
    """Exact sides must name equally near rows. Raises: SystemExit."""
    measured = {side: neighbours.measured(queries, base, at, distance) for side, at in found.items()}
    want = measured["ours, torch"]
    for side, d in measured.items():
        if not torch.allclose(d.sort(1).values, want, rtol=1e-6):
            raise SystemExit(f"{len(base)} rows, {distance}: {side} names rows that are farther away")


def graph(base: torch.Tensor, queries: torch.Tensor) -> None:
    """The approximate search: building, searching, recall."""
    if not vector_indexes.hnsw_installed():
        print("\nhnswlib is not installed: no row for the graph")
        return
    start = time.perf_counter()
    candidates = vector_indexes.hnsw_candidates(base, 0)
    built = time.perf_counter() - start
    print(f"\n| graph of {len(base)} x {DIM} | built | 200 queries | recall at {K} |")
    print("| --- | --- | --- | --- |")
    for distance in ("l2", "l1"):
        search = Neighbours(base, distance, "hnsw")
        search._found["hnsw"] = candidates  # built once for both
        start = time.perf_counter()
        search(queries, K)
        took = time.perf_counter() - start
        recall = search.recall(queries, K)
        print(
            f"| {distance}, ranked exactly | {built:.1f} s (one thread) | {1e3 * took:.0f} ms | {recall:.3f} |",
            flush=True,
        )


def main() -> None:
    quick = "--quick" in sys.argv
    queries = rows(QUERIES, 1)
    sizes = () if "--graph" in sys.argv else (1035,) if quick else (1035, 100_000)
    for n in sizes:
        base = rows(n, 0)
        for distance in METRICS:
            those = sides(queries, base, distance)
            if "GEN_BENCHMARK_SIDE" not in os.environ:  # the fresh process that measures memory skips the check
                agree({side: call() for side, call in those.items()}, base, queries, distance)
            compare(f"{n} x {DIM}, {distance}", those, rounds=5 if n < 10_000 else 3, warmup=0)
    if not neighbours.faiss_installed():
        print("\nfaiss is not installed: no row for it")
    if "--no-graph" not in sys.argv and "GEN_BENCHMARK_SIDE" not in os.environ:
        graph(rows(10_000 if quick else 100_000, 0), queries)


if __name__ == "__main__":
    main()
