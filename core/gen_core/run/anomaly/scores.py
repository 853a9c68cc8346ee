"""How well scores tell positives from negatives, exactly: area under the ROC curve, average precision, best Dice.

The positives and the negatives are sorted apart; every figure is then a count of one among the other. Ties count half
for the area, and a threshold takes all that equals it.
"""

from __future__ import annotations

import numpy as np
from attrs import frozen


@frozen(eq=False)
class Ranking:
    """Scores of the positives and of the negatives, each rising, (P,) and (N,) float32."""

    positives: np.ndarray
    negatives: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, positive: np.ndarray) -> Ranking:
        """scores: any shape; positive: bool of the same shape."""
        return cls(np.sort(scores[positive]), np.sort(scores[~positive]))

    @property
    def auroc(self) -> float | None:
        """The chance that a positive has a higher score than a negative; None without one of either kind.

        Source: Hanley & McNeil 1982 (the Mann-Whitney statistic).
        """
        if not (len(self.positives) and len(self.negatives)):
            return None
        below = np.searchsorted(self.negatives, self.positives, "left").sum(dtype=np.int64)
        below_or_equal = np.searchsorted(self.negatives, self.positives, "right").sum(dtype=np.int64)
        return float(below + below_or_equal) / (2.0 * len(self.positives) * len(self.negatives))

    def _counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(thresholds, true positives, false positives) at each score that a positive has, rising.

        Other thresholds need no look: they only add false positives.
        """
        thresholds = np.unique(self.positives)
        tp = len(self.positives) - np.searchsorted(self.positives, thresholds, "left")
        fp = len(self.negatives) - np.searchsorted(self.negatives, thresholds, "left")
        return thresholds, tp, fp

    @property
    def average_precision(self) -> float | None:
        """Sum of precision times the step in recall, over falling thresholds; None without positives."""
        if not len(self.positives):
            return None
        _, tp, fp = self._counts()
        steps = -np.diff(np.append(tp, 0))
        return float((steps * (tp / (tp + fp))).sum() / len(self.positives))

    @property
    def best_dice(self) -> tuple[float, float] | None:
        """(Dice, threshold): the largest 2 TP / (2 TP + FP + FN) of {score >= threshold}; None without positives."""
        if not len(self.positives):
            return None
        thresholds, tp, fp = self._counts()
        dice = 2 * tp / (tp + fp + len(self.positives))
        best = int(dice.argmax())
        return float(dice[best]), float(thresholds[best])


TOP = 0.01  # share of the voxels that the score of a volume is the mean of


def volume_scores(values: np.ndarray) -> dict[str, float]:
    """Scores of one volume from its map's voxels (any shape): mean of the highest 1 %, 99th percentile, mean."""
    values = np.asarray(values, np.float64).ravel()
    top = max(1, round(TOP * len(values)))
    highest = np.partition(values, len(values) - top)[-top:]
    return {
        "top 1 %": float(highest.mean()),
        "99th percentile": float(np.percentile(values, 99)),
        "mean": float(values.mean()),
    }
