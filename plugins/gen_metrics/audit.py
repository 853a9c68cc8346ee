"""The audit of a search for copies: does it find those that were planted, and does it accuse held-out volumes?

Found: the share of planted copies of training volumes under the threshold, each kind by itself. False alarms: the
threshold is set on one half of the validation subjects and counts alarms on the other half, both ways.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from attrs import frozen

from gen_metrics.alterations import Alteration, both, cropped, exact, flipped, noisy, shifted
from gen_metrics.intervals import clopper_pearson
from gen_metrics.streams import draw_key

ENOUGH_VALIDATION = 100  # volumes; with fewer the 1 % quantile is no more than a guess
FOUND_ENOUGH = 0.95  # of the planted copies of each kind
SURE = 0.05  # p-values under it count


def planted_kinds(noise: float, shift: float, crop: float) -> dict[str, Alteration]:
    """The copies that are planted."""
    return {
        "exact": exact,
        "flipped": flipped,
        "shifted": shifted(shift),
        "noisy": noisy(noise),
        "cropped": cropped(crop),
    }


def lesson_kinds(noise: float, shift: float, crop: float) -> dict[str, Alteration]:
    """Alterations from which the discriminant learns; of other volumes than those planted, at other strengths."""
    low, farther = max(0.5, 1 - 1.2 * (1 - crop)), min(1.5 * shift, 0.5)
    return {
        "lesson shifted": shifted(farther),
        "lesson noisy": noisy(noise),
        "lesson cropped": cropped(low, 1.0),
        "lesson both": both(shifted(farther), cropped((1 + crop) / 2)),
    }


def binomial_tail(k: int, n: int, p: float) -> float:
    """P(X >= k) of a binomial distribution: the exact one-sided p-value."""
    from scipy.stats import binom

    return float(binom.sf(k - 1, n, p)) if n else 1.0


def tail_with_estimated_quantile(k: int, n: int, reference: int, p: float) -> float:
    """The same tail when the quantile itself comes from `reference` values: beta-binomial, so wider.

    The r-th smallest of m values has a share Beta(r, m + 1 - r) of the distribution below it; r = p (m + 1).
    """
    from scipy.stats import betabinom

    r = min(max(p * (reference + 1), 1e-9), reference)
    return float(betabinom.sf(k - 1, n, r, reference + 1 - r)) if n else 1.0


def threshold_of(distances: np.ndarray, quantile: float) -> float:
    """The quantile by Weibull's rule (r = p (n + 1)): the expected share of further draws below it is p exactly,
    but never under the smallest value, below which 1 / (n + 1) of them fall."""
    return float(np.quantile(distances, quantile, method="weibull"))


@frozen
class Alarms:
    """False alarms on held-out volumes, and how likely as many are when all is well.

    promised: the share that thresholds from half of the volumes lead to expect. p: of at least as many alarms, given
    that each threshold comes from few volumes itself; low, high: the plain interval of the share.
    """

    count: int
    n: int
    low: float
    high: float
    promised: float
    p: float

    @property
    def share(self) -> float:
        return self.count / self.n


def halves(subjects: dict[str, str], seed: int) -> dict[str, int]:
    """Volume -> half (0 or 1); all volumes of a subject fall into the same half, drawn by (seed, subject)."""
    order = sorted(set(subjects.values()), key=lambda s: (draw_key(seed, s), s))
    of = {subject: i % 2 for i, subject in enumerate(order)}
    return {name: of[subject] for name, subject in subjects.items()}


def false_alarms(
    distances: dict[str, float], half: dict[str, int], quantile: float, below: bool = True
) -> Alarms | None:
    """Alarms of each half under the threshold of the other; None where a half is empty.

    below: an alarm is a distance below the quantile; otherwise above the (1 - quantile) quantile.
    """
    sign = 1.0 if below else -1.0
    parts = [np.array([sign * distances[n] for n in sorted(distances) if half[n] == h]) for h in (0, 1)]
    if min(map(len, parts)) == 0:
        return None
    count = sum(int((mine < threshold_of(other, quantile)).sum()) for mine, other in (parts, parts[::-1]))
    n = len(distances)
    promised = max(quantile, float(np.mean([1 / (len(p) + 1) for p in parts])))
    p = tail_with_estimated_quantile(count, n, n // 2, promised)
    return Alarms(count, n, *clopper_pearson(count, n), promised, p)


def objections(found: dict[str, float], alarms: Alarms | None, validation: int, quantile: float) -> list[str]:
    """Why there can be no verdict, each in a few words; none means the audit is passed."""
    why = []
    if validation < ENOUGH_VALIDATION:
        why.append(f"only {validation} validation volumes (under {ENOUGH_VALIDATION})")
    missed = {kind: share for kind, share in found.items() if share < FOUND_ENOUGH}
    if not found:
        why.append("no copies were planted")
    elif missed:
        why.append("the audit found only " + ", ".join(f"{s:.0%} of {k}" for k, s in missed.items()) + " copies")
    if alarms is not None and alarms.p < SURE:
        why.append(f"{alarms.share:.1%} false alarms on held-out subjects, more than {quantile:.1%}")
    return why


def told(alarms: Alarms) -> dict[str, Any]:
    """The alarms as JSON."""
    return {
        "count": alarms.count,
        "n": alarms.n,
        "share": alarms.share,
        "low": alarms.low,
        "high": alarms.high,
        "promised": alarms.promised,
        "p": alarms.p,
    }
