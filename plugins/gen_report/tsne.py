"""t-SNE, exactly: every pair of points, for the few hundred that a figure shows.

Source: van der Maaten & Hinton 2008, "Visualizing data using t-SNE": eq. 1 (p_j|i), perplexity by bisection, eq. 4
(q_ij), eq. 5 (gradient); early exaggeration and momentum as in section 3.4. Started from principal components, not
from noise: the same points give the same picture.
"""

from __future__ import annotations

import numpy as np

ITERATIONS, EXAGGERATED, EXAGGERATION = 500, 120, 12.0
SMALLEST = 1e-12


def affinities(vectors: np.ndarray, perplexity: float) -> np.ndarray:
    """(n, n) joint probabilities p_ij, symmetric, sum 1; each point's bandwidth has the wished perplexity."""
    n = len(vectors)
    square = ((vectors[:, None] - vectors[None]) ** 2).sum(-1)
    np.fill_diagonal(square, np.inf)
    low, high = np.zeros(n), np.full(n, np.inf)
    beta = 1.0 / np.maximum(np.where(np.isfinite(square), square, 0).mean(1), SMALLEST)  # 1 / (2 sigma^2)
    wished = np.log(perplexity)
    for _ in range(64):
        shifted = square - square.min(1, keepdims=True)  # the nearest neighbour keeps weight 1 whatever the bandwidth
        weight = np.exp(-shifted * beta[:, None])
        total = weight.sum(1)
        p = weight / total[:, None]
        entropy = np.log(total) + beta * (p * np.where(np.isfinite(shifted), shifted, 0)).sum(1)
        wide = entropy > wished
        low, high = np.where(wide, beta, low), np.where(wide, high, beta)
        beta = np.where(np.isfinite(high), (low + high) / 2, beta * 2)
    return np.maximum((p + p.T) / (2 * n), 0)


def tsne(vectors: np.ndarray, perplexity: float = 30.0) -> np.ndarray:
    """vectors (n, dim) -> (n, 2); a perplexity over (n - 1) / 3 is lowered to that."""
    vectors = np.asarray(vectors, float)
    n = len(vectors)
    if n < 4:
        return np.zeros((n, 2))
    P = affinities(vectors, min(perplexity, (n - 1) / 3))
    centred = vectors - vectors.mean(0)
    u, s, rows = np.linalg.svd(centred, full_matrices=False)
    sign = np.sign(rows[np.arange(len(rows)), np.abs(rows).argmax(1)])
    y = np.zeros((n, 2))
    k = min(2, len(s))
    y[:, :k] = (u * s * sign)[:, :k]
    y *= 1e-4 / max(y[:, 0].std(), SMALLEST)
    step, gain, rate = np.zeros_like(y), np.ones_like(y), max(n / EXAGGERATION / 4, 10.0)
    for i in range(ITERATIONS):
        difference = y[:, None] - y[None]
        kernel = 1.0 / (1.0 + (difference**2).sum(-1))
        np.fill_diagonal(kernel, 0)
        Q = kernel / kernel.sum()
        force = P * (EXAGGERATION if i < EXAGGERATED else 1.0) - Q
        gradient = 4.0 * ((force * kernel)[:, :, None] * difference).sum(1)
        gain = np.maximum(np.where(np.sign(gradient) == np.sign(step), gain * 0.8, gain + 0.2), 0.01)
        step = (0.5 if i < EXAGGERATED else 0.8) * step - rate * 4 * gain * gradient
        y = y + step
    return y - y.mean(0)
