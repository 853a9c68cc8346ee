"""Intervals: jackknife over volumes for distances, bootstrap for means, Clopper-Pearson for shares.

A bootstrap repeats volumes, and repeated volumes shrink covariances and fake copies: distances never use it.
Source: Efron & Tibshirani 1993, chapters 11 and 13; Clopper & Pearson 1934.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Z95 = 1.959963984540054  # two-sided 95 % of the normal distribution


def jackknife(leave_out: Sequence[Sequence[float]], value: float, lowest: float | None = 0.0) -> tuple[float, float]:
    """A 95 % interval from delete-a-group values, one list a population (their variances add).

    leave_out[p][g]: the figure without group g of population p. Returns (low, high) = value -+ 1.96 se,
    not below `lowest`.
    """
    variance = 0.0
    for values in leave_out:
        v = np.asarray(values, np.float64)
        if len(v) > 1:
            variance += (len(v) - 1) / len(v) * float(((v - v.mean()) ** 2).sum())
    half = Z95 * variance**0.5
    low = value - half
    return (low if lowest is None else max(low, lowest)), value + half


def jackknife_volumes(rows: np.ndarray, figure: Callable[[np.ndarray], float], groups: int = 50) -> tuple[float, float]:
    """The interval of figure(rows) where row i holds what volume i contributes (delete-a-group)."""
    n = len(rows)
    folds = np.array_split(np.arange(n), min(groups, n))
    left = [figure(np.delete(rows, f, axis=0)) for f in folds] if n > 1 else []
    return jackknife([left], figure(rows), None)


def bootstrap_mean(values: Sequence[float], seed: int, draws: int = 1000) -> tuple[float, float]:
    """A 95 % percentile interval of the mean; the same for any order of `values`."""
    v = np.sort(np.asarray(values, np.float64))
    g = np.random.default_rng([abs(seed), len(v)])
    means = v[g.integers(0, len(v), (draws, len(v)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def clopper_pearson(k: int, n: int) -> tuple[float, float]:
    """The exact 95 % interval of a share k / n."""
    from scipy.stats import beta

    low = 0.0 if k == 0 else float(beta.ppf(0.025, k, n - k + 1))
    high = 1.0 if k == n else float(beta.ppf(0.975, k + 1, n - k))
    return low, high
