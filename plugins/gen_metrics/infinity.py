"""The Frechet distance at infinitely many volumes: a line over 1/N, and the standard error of its end.

The distance of finite samples is biased upwards, to first order in 1/N (Chong & Forsyth 2020). N counts volumes here
(vectors of one volume depend on each other), and both sides are cut alike, because each adds a bias of its own; the
abscissa is (1/N1 + 1/N2) / 2. Departing from the paper, every N = all / k is the mean over k disjoint random parts,
repeated: all volumes serve at every N, so the points have about equal errors and one plain least-squares line fits.
The standard error is a delete-a-group jackknife of the whole procedure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gen_metrics.frechet import extrapolate
from gen_metrics.intervals import Z95
from gen_metrics.sides import Side, Units

PARTS = (4, 3, 2, 1)  # the volumes are cut into so many parts
REPEATS = 2  # random cuts for each number of parts
LEAST = 5  # volumes in the smallest part
FOLDS = 12  # of the jackknife, at most


def too_few_for_limit(a: Side, b: Side) -> str:
    """Why there is no limit, "" when there is one: the smallest part needs 5 volumes and as many vectors as features.

    With fewer vectors the distance does not follow a line over 1/N: for Gaussians of 32 features the limit is 65 %
    too high from 2 x 32 vectors in all, and right from 4 x 32 on.
    """
    volumes, vectors, units = (min(f(s) for s in (a, b)) for f in (_volumes, _vectors, _units))
    if volumes < LEAST * PARTS[0] or units < 2 * PARTS[0]:
        return f"a limit needs {LEAST * PARTS[0]} volumes, in {2 * PARTS[0]} groups or more, on each side"
    if vectors < PARTS[0] * a.dim:
        return f"a limit needs {PARTS[0]} x {a.dim} feature vectors on each side: the line holds from there on"
    return ""


def at_infinity(a: Side, b: Side, seed: int) -> dict[str, Any]:
    """The curve over rising N and the end of its line: {"n", "value", "spread", "limit", "slope", "se", "low", "high"}.

    n: harmonic mean of the volumes on both sides. spread: sd over the random parts of one N. low, high: 95 %.
    The limit may lie under zero by its error.
    """
    points = _points(a, b, range(len(a.volumes)), range(len(b.volumes)), seed)
    limit, slope = _line(points)
    folds = min(FOLDS, len(a.volumes), len(b.volumes))
    left = []
    for f in range(folds):  # the same fold leaves both sides: their deviations are independent, so variances add
        mine, theirs = ([u for u in range(len(side.volumes)) if u % folds != f] for side in (a, b))
        left.append(_line(_points(a, b, mine, theirs, seed))[0])
    v = np.asarray(left)
    se = float(((folds - 1) / folds * ((v - v.mean()) ** 2).sum()) ** 0.5)
    return {
        "n": [1.0 / t for t, _ in points],
        "value": [float(np.mean(d)) for _, d in points],
        "spread": [float(np.std(d, ddof=1)) if len(d) > 1 else 0.0 for _, d in points],
        "limit": limit,
        "slope": slope,
        "se": se,
        "low": limit - Z95 * se,
        "high": limit + Z95 * se,
    }


def _points(a: Side, b: Side, mine: Units, theirs: Units, seed: int) -> list[tuple[float, list[float]]]:
    """For each number of parts: the mean of (1/N1 + 1/N2) / 2, and the distances of the random parts."""
    points = []
    size = min(len(mine), len(theirs))
    for parts in PARTS:
        at, found = [], []
        once = parts == 1 and len(mine) == len(theirs)  # every cut is the same
        for repeat in range(1 if once else REPEATS):
            g = np.random.default_rng([abs(seed), parts, repeat])
            left, right = g.permutation(len(mine)), g.permutation(len(theirs))
            n = size // parts
            for i in range(0, n * parts, n):
                one = sorted(mine[j] for j in left[i : i + n])
                two = sorted(theirs[j] for j in right[i : i + n])
                at.append((1.0 / _count(a, one) + 1.0 / _count(b, two)) / 2)
                found.append(a.distance(b, one, two))
        points.append((float(np.mean(at)), found))
    return points


def _count(side: Side, units: Sequence[int]) -> int:
    return sum(side.volumes[u] for u in units)


def _volumes(side: Side) -> int:
    return sum(side.volumes)


def _vectors(side: Side) -> int:
    return sum(side.vectors)


def _units(side: Side) -> int:
    return len(side.volumes)


def _line(points: list[tuple[float, list[float]]]) -> tuple[float, float]:
    return extrapolate([1.0 / t for t, _ in points], [float(np.mean(d)) for _, d in points])
