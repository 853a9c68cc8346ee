"""Candidates from optional index libraries: faiss (flat, exact in float32) and hnswlib (a graph, approximate).

Both are extras (`pip install gen-imaging[fast]`), imported on use. They propose rows; `neighbours.py` measures and
ranks them exactly. The graph is built and searched by one thread with a fixed seed, because more threads would insert
rows in another order each time and find others.

Source of the graph: Malkov & Yashunin 2020 (HNSW).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor

from gen_core.errors import MissingError

LINKS = 32  # edges of a row in the graph (M)
BUILD_WIDTH = 200  # candidates while it is built (ef_construction)
SEARCH_WIDTH = 400  # candidates of a search at least (ef)

Candidates = Callable[[Tensor, int], Tensor]


def faiss_installed() -> bool:
    """Whether `faiss` can be imported; without importing it."""
    return importlib.util.find_spec("faiss") is not None


def hnsw_installed() -> bool:
    """Whether `hnswlib` can be imported; without importing it."""
    return importlib.util.find_spec("hnswlib") is not None


def _missing(package: str, how: str) -> MissingError:
    return MissingError(
        f"search = '{how}' needs {package}: pip install gen-imaging[fast], or search = 'exact', which needs nothing"
    )


def faiss_candidates(base: Tensor, metric: str) -> Candidates:
    """A flat index of base (m, d) under "l1" or "l2". Raises: MissingError without faiss."""
    if not faiss_installed():
        raise _missing("faiss-cpu", "faiss")
    import faiss

    centre = base.mean(0)  # float32 keeps more digits of small numbers
    index = faiss.IndexFlat(base.shape[1], faiss.METRIC_L1 if metric == "l1" else faiss.METRIC_L2)
    index.add((base - centre).float().contiguous().numpy())

    def candidates(queries: Tensor, m: int) -> Tensor:
        return torch.from_numpy(index.search((queries - centre).float().contiguous().numpy(), m)[1])

    return candidates


def hnsw_candidates(base: Tensor, seed: int) -> Candidates:
    """A graph over base (m, d) under L2. Raises: MissingError without hnswlib."""
    if not hnsw_installed():
        raise _missing("hnswlib (built from source: a C++ compiler)", "hnsw")
    import hnswlib

    centre = base.mean(0)
    index = hnswlib.Index(space="l2", dim=base.shape[1])
    index.init_index(max_elements=len(base), M=LINKS, ef_construction=BUILD_WIDTH, random_seed=abs(seed) + 1)
    index.add_items((base - centre).float().numpy(), num_threads=1)

    def candidates(queries: Tensor, m: int) -> Tensor:
        index.set_ef(max(SEARCH_WIDTH, 2 * m))
        found, _ = index.knn_query((queries - centre).float().numpy(), k=m, num_threads=1)
        return torch.from_numpy(found.astype("int64"))

    return candidates
