"""The Frechet distance of Gaussians: scipy's matrix square root, torchmetrics' eigenvalues, and ours, in turn.

    OMP_NUM_THREADS=2 python benchmarks/frechet.py             # 512 and 2048 features
    OMP_NUM_THREADS=2 python benchmarks/frechet.py --quick     # 512 only

The values are checked against each other first (1e-6 relative, where the square root is that exact).
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from harness import compare
from scipy.linalg import sqrtm

from gen_metrics.frechet import frechet_gaussians, frechet_rows


def gaussian(dim: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance with a spectrum like that of image features: falling by 1 / k."""
    g = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(dim, dim, generator=g, dtype=torch.float64))
    scale = 1.0 / torch.arange(1, dim + 1, dtype=torch.float64)
    return torch.randn(dim, generator=g, dtype=torch.float64), (q * scale) @ q.T


def by_square_root(m1: torch.Tensor, s1: torch.Tensor, m2: torch.Tensor, s2: torch.Tensor) -> float:
    root = np.trace(sqrtm(s1.numpy() @ s2.numpy()).real)
    return float((m1 - m2).square().sum() + s1.trace() + s2.trace()) - 2 * float(root)


def by_eigenvalues(m1: torch.Tensor, s1: torch.Tensor, m2: torch.Tensor, s2: torch.Tensor) -> float:
    """As torchmetrics does: the complex eigenvalues of the unsymmetric product."""
    root = torch.linalg.eigvals(s1 @ s2).sqrt().real.sum()
    return float((m1 - m2).square().sum() + s1.trace() + s2.trace() - 2 * root)


def main() -> None:
    for dim in (512,) if "--quick" in sys.argv else (512, 2048):
        pair = (*gaussian(dim, 0), *gaussian(dim, 1))
        sides = {"eigenvalues of the product": lambda p=pair: by_eigenvalues(*p)}
        if dim <= 512:
            sides["scipy sqrtm"] = lambda p=pair: by_square_root(*p)
        sides["ours"] = lambda p=pair: frechet_gaussians(*p)
        values = [side() for side in sides.values()]
        if max(values) - min(values) > 1e-6 * abs(values[-1]):
            raise SystemExit(f"{dim} features: the sides disagree, {values}")
        compare(f"Frechet distance, {dim} features", sides, rounds=3, warmup=0)

        g = torch.Generator().manual_seed(2)
        a, b = torch.randn(339, dim, generator=g), torch.randn(339, dim, generator=g) + 0.1
        few = {
            "covariances": lambda a=a, b=b: by_eigenvalues(
                a.double().mean(0), torch.cov(a.double().T), b.double().mean(0), torch.cov(b.double().T)
            ),
            "ours (nuclear norm)": lambda a=a, b=b: frechet_rows(a, b),
        }
        compare(f"Frechet distance, 339 volumes, {dim} features", few, rounds=3, warmup=0)


if __name__ == "__main__":
    main()
