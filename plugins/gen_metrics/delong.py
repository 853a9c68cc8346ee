"""Areas under ROC curves of several scores on the same volumes: covariance, intervals, paired tests.

Source: DeLong, DeLong & Clarke-Pearson 1988, "Comparing the areas under two or more correlated receiver operating
characteristic curves", eq. 2-5; placements from midranks as Sun & Xu 2014, algorithm 2, n log n instead of n^2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gen_metrics.intervals import Z95

Array = NDArray[np.float64]


def areas(scores: Array, present: NDArray[np.bool_]) -> tuple[Array, Array | None]:
    """(AUC (k,), covariance (k, k)) of k scores (k, n) of volumes where a label is `present` (n,) or not.

    Ties count half. The covariance needs two volumes of each class, else it is None. Raises: ValueError where a class
    is empty.
    """
    from scipy.stats import rankdata

    m, n = int(present.sum()), int((~present).sum())
    if m == 0 or n == 0:
        raise ValueError("an area needs volumes of both classes")
    both, x, y = (rankdata(s, axis=1) for s in (scores, scores[:, present], scores[:, ~present]))
    above = (both[:, present] - x) / n  # of each present volume: share of absent ones with a lower score
    below = 1 - (both[:, ~present] - y) / m
    auc = above.mean(1)
    if m < 2 or n < 2:
        return auc, None
    return auc, np.atleast_2d(np.cov(above)) / m + np.atleast_2d(np.cov(below)) / n


def interval(value: float, variance: float, lowest: float = 0.0, highest: float = 1.0) -> tuple[float, float]:
    """The 95 % interval of the normal approximation, cut to what is possible."""
    half = Z95 * max(variance, 0.0) ** 0.5
    return max(lowest, value - half), min(highest, value + half)


def paired(auc: Array, covariance: Array, i: int, j: int) -> tuple[float, float, float | None]:
    """(AUC_i - AUC_j, its variance, two-sided p); p is None where the scores order all volumes alike."""
    from scipy.stats import norm

    variance = float(covariance[i, i] + covariance[j, j] - 2 * covariance[i, j])
    difference = float(auc[i] - auc[j])
    if variance <= 1e-15:
        return difference, 0.0, None
    return difference, variance, float(2 * norm.sf(abs(difference) / variance**0.5))


def holm(p: list[float]) -> list[float]:
    """p values corrected for their number, in the same order. Source: Holm 1979."""
    order, found, running = sorted(range(len(p)), key=lambda i: p[i]), [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p) - rank) * p[i]))
        found[i] = running
    return found
