"""Where volumes lie in feature space: principal components of real and synthetic volumes together."""

from __future__ import annotations

import numpy as np

from gen_report.gathered import Gathered
from gen_report.house_style import SOURCE_COLOUR, SOURCE_MARK, SOURCE_NAME, Picture, as_svg, drawing

ORDER = ("train", "val", "synthetic")  # what is drawn last lies on top


def principal_components(vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """vectors (n, dim) -> (scores (n, k), share of the variance of each), the sign set by the largest loading."""
    centred = vectors - vectors.mean(0)
    _, s, rows = np.linalg.svd(centred, full_matrices=False)
    rows = rows[:k]
    rows *= np.sign(rows[np.arange(len(rows)), np.abs(rows).argmax(1)])[:, None]
    power = s**2
    return centred @ rows.T, power[:k] / max(power.sum(), 1e-30)


def components(got: Gathered) -> Picture | None:
    """The first four components, two by two; as many volumes of each source, so that none rules the axes."""
    if got.features is None:
        return None
    found = {s: np.asarray(v, float) for s, v in got.features.vectors.items() if len(v) > 1}
    if len(found) < 2 or min(v.shape[1] for v in found.values()) < 2:
        return None
    n = min(map(len, found.values()))
    names = [s for s in ORDER if s in found]
    pooled = np.concatenate([found[s][:n] for s in names])
    scores, share = principal_components(pooled, 4)
    pairs = [(i, i + 1) for i in range(0, scores.shape[1] - 1, 2)]
    with drawing(3.7 * len(pairs), 3.5) as figure:
        axes = figure.subplots(1, len(pairs), squeeze=False)[0]
        for ax, (i, j) in zip(axes, pairs):
            for k, source in enumerate(names):
                part = scores[k * n : (k + 1) * n]
                filled = source != "val"
                ax.scatter(
                    part[:, i],
                    part[:, j],
                    s=16,
                    marker=SOURCE_MARK[source],
                    facecolors=SOURCE_COLOUR[source] if filled else "none",
                    edgecolors="none" if filled else SOURCE_COLOUR[source],
                    linewidths=0.9,
                    alpha=0.75,
                    label=f"{SOURCE_NAME[source]} (N = {n})",
                )
            ax.set_xlabel(f"component {i + 1} ({100 * share[i]:.0f} % of variance)")
            ax.set_ylabel(f"component {j + 1} ({100 * share[j]:.0f} %)")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        uri = as_svg(figure)
    return Picture(
        "Real and synthetic in feature space",
        f"Principal components of {pooled.shape[1]} features of [{got.features.name}], fitted to all {len(pooled)} "
        "points. Synthetic volumes should cover the cloud of real ones and not leave it; what these few components "
        "do not show may still differ.",
        f"Scatter plots of principal components: {', '.join(SOURCE_NAME[s] for s in names)}, {n} points each.",
        uri,
        390 * len(pairs),
    )
