"""The Frechet distance of two Gaussians, in float64, without matrix square roots.

d^2 = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)   (Dowson & Landau 1982, eq. 16; FID: Heusel et al. 2017, eq. 6)

With S1 = L L^T the eigenvalues of S1 S2 are those of L^T S2 L, which is symmetric: no complex parts, no NaN.
With fewer samples than features, S1 = X^T X / (n - 1) and S2 = Y^T Y / (m - 1) of centred rows give
tr (S1 S2)^(1/2) = |X Y^T|_* / sqrt((n - 1)(m - 1)), the nuclear norm of a small matrix: exact, and quick.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _factor(cov: Tensor) -> Tensor:
    """L with L L^T = cov; by Cholesky, or by eigenvectors where cov is singular."""
    factor, info = torch.linalg.cholesky_ex(cov)
    if int(info) == 0:
        return factor
    values, vectors = torch.linalg.eigh(cov)
    return vectors * values.clamp(min=0.0).sqrt()


def frechet_gaussians(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> float:
    """d^2 of N(mean1, cov1) and N(mean2, cov2); (d,) and (d, d), any floating dtype, singular allowed."""
    m1, s1, m2, s2 = (a.to("cpu", torch.float64) for a in (mean1, cov1, mean2, cov2))
    L = _factor((s1 + s1.T) / 2)
    inner = L.T @ ((s2 + s2.T) / 2) @ L
    root = torch.linalg.eigvalsh((inner + inner.T) / 2).clamp(min=0.0).sqrt().sum()
    return max(float((m1 - m2).square().sum() + s1.trace() + s2.trace() - 2.0 * root), 0.0)


def frechet_rows(a: Tensor, b: Tensor) -> float:
    """d^2 of the Gaussians fitted (unbiased covariance) to rows a (n, d) and b (m, d); n, m >= 2.

    Raises: ValueError for fewer than two rows.
    """
    a, b = a.to("cpu", torch.float64), b.to("cpu", torch.float64)
    if min(len(a), len(b)) < 2:
        raise ValueError(f"a Frechet distance needs two rows on each side, got {len(a)} and {len(b)}")
    m1, m2 = a.mean(0), b.mean(0)
    x, y = a - m1, b - m2
    n, m, d = len(x), len(y), x.shape[1]
    if min(n, m) >= d:
        return frechet_gaussians(m1, x.T @ x / (n - 1), m2, y.T @ y / (m - 1))
    root = torch.linalg.svdvals(x @ y.T).sum() / ((n - 1) * (m - 1)) ** 0.5
    traces = x.square().sum() / (n - 1) + y.square().sum() / (m - 1)
    return max(float((m1 - m2).square().sum() + traces - 2.0 * root), 0.0)


def extrapolate(ns: list[float], values: list[float]) -> tuple[float, float]:
    """Intercept and slope of the least-squares line of values over 1/N (Chong & Forsyth 2020: the value at N = inf)."""
    t = torch.tensor([1.0 / n for n in ns], dtype=torch.float64)
    v = torch.tensor(values, dtype=torch.float64)
    dt = t - t.mean()
    slope = float((dt * (v - v.mean())).sum() / dt.square().sum().clamp(min=1e-300))
    return float(v.mean()) - slope * float(t.mean()), slope
