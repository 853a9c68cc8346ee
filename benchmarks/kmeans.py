"""K-means of the codebook reset, 65 536 x 8 -> 1024 in 10 iterations, against scikit-learn from the same start.

    OMP_NUM_THREADS=2 python benchmarks/kmeans.py

Inertia must not be more than 1.001 x scikit-learn's.
"""

from __future__ import annotations

import warnings

import torch
from harness import compare
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from gen_codecs.kmeans import kmeans

N, CHANNELS, CODES, ITERATIONS = 65536, 8, 1024, 10


def inertia(v: Tensor, centres: Tensor) -> float:
    return sum(
        torch.cdist(part.double(), centres.double()).min(1).values.square().sum().item() for part in v.split(4096)
    )


def scikit_learn(v: Tensor, start: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        peer = KMeans(CODES, init=start.numpy(), n_init=1, max_iter=ITERATIONS, tol=0).fit(v.numpy())
    return torch.from_numpy(peer.cluster_centers_)


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    middles = 2 * torch.randn(300, CHANNELS, generator=generator)
    v = middles[torch.randint(300, (N,), generator=generator)] + torch.randn(N, CHANNELS, generator=generator)
    start = v[torch.randperm(N, generator=generator)[:CODES]]
    theirs, own = inertia(v, scikit_learn(v, start)), inertia(v, kmeans(v, start, ITERATIONS)[0])
    if own > 1.001 * theirs:
        raise SystemExit(f"inertia {own:.6g}, scikit-learn {theirs:.6g}")
    sides = {"scikit-learn": lambda: scikit_learn(v, start), "ours": lambda: kmeans(v, start, ITERATIONS)}
    compare(f"K-means {N} x {CHANNELS} -> {CODES}, {ITERATIONS} iterations", sides, rounds=5)


if __name__ == "__main__":
    main()
