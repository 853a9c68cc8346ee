"""Groups among the real volumes, and where synthetic ones fall: t-SNE coloured by the K-means clusters of originals."""

from __future__ import annotations

import numpy as np

from gen_report.gathered import Gathered
from gen_report.house_style import SOURCE_NAME, Picture, as_svg, drawing
from gen_report.tsne import tsne

CLUSTERS, LEAST = 5, 4  # clusters at most; volumes of a source, and of a cluster in the mean, at least
HUES = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#aa3377")  # told apart by colour-blind eyes (Tol's bright set)


def kmeans(vectors: np.ndarray, k: int, seed: int = 0) -> np.ndarray:
    """Centres (k, dim) of Lloyd's algorithm from k-means++ starts, the best of eight; fewer where points coincide."""
    from scipy.cluster.vq import kmeans2, vq

    best, least = vectors[:1], np.inf
    for start in range(8):
        centres, labels = kmeans2(vectors, k, iter=50, minit="++", rng=np.random.default_rng(seed + start))
        centres = centres[np.unique(labels)]
        spread = float((vq(vectors, centres)[1] ** 2).sum())
        if spread < least - 1e-12:
            best, least = centres, spread
    return best


def nearest(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The centre nearest to each vector."""
    return ((vectors[:, None] - centres[None]) ** 2).sum(-1).argmin(1)


def clusters(got: Gathered) -> Picture | None:
    """t-SNE of training and synthetic volumes, coloured by the clusters of the former; shares of both by cluster."""
    if got.features is None:
        return None
    found = {s: np.asarray(v, float) for s, v in got.features.vectors.items() if s in ("train", "synthetic")}
    if len(found) < 2 or min(map(len, found.values())) < LEAST:
        return None
    n = min(map(len, found.values()))
    real, synthetic = found["train"][:n], found["synthetic"][:n]
    sd = real.std(0)
    real, synthetic = ((v - real.mean(0)) / np.where(sd > 1e-12, sd, 1) for v in (real, synthetic))
    centres = kmeans(real, max(1, min(CLUSTERS, n // LEAST)))
    labels = [nearest(v, centres) for v in (real, synthetic)]
    y = tsne(np.concatenate([real, synthetic]))
    with drawing(7.4, 3.7) as figure:
        cloud, bars = figure.subplots(1, 2, width_ratios=(1.5, 1))
        for k in range(len(centres)):
            mine = labels[0] == k
            cloud.scatter(*y[:n][mine].T, s=17, color=HUES[k], linewidths=0, alpha=0.8)
            mine = labels[1] == k
            cloud.scatter(*y[n:][mine].T, s=22, facecolors="none", edgecolors=HUES[k], marker="^", linewidths=0.9)
        cloud.scatter([], [], s=17, color="0.45", label=f"{SOURCE_NAME['train']} (N = {n})")
        cloud.scatter(
            [],
            [],
            s=22,
            facecolors="none",
            edgecolors="0.45",
            marker="^",
            label=f"{SOURCE_NAME['synthetic']} (N = {n})",
        )
        cloud.set_xticks([])
        cloud.set_yticks([])
        cloud.set_xlabel("t-SNE: neighbours stay neighbours, distances and sizes mean little")
        figure.legend(*cloud.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        at = np.arange(len(centres))
        for shift, of, filled in ((-0.2, labels[0], True), (0.2, labels[1], False)):
            share = [100 * float((of == k).mean()) for k in at]
            face = [HUES[k] if filled else "none" for k in at]
            bars.bar(at + shift, share, 0.36, color=face, edgecolor=[HUES[k] for k in at], linewidth=1.0)
        bars.set_xticks(at, [str(k + 1) for k in at])
        bars.set_xlabel("cluster")
        bars.set_ylabel("share of volumes, %")
        uri = as_svg(figure)
    missing = [str(k + 1) for k in at if not (labels[1] == k).any()]
    lack = f" No synthetic volume falls into cluster {', '.join(missing)}." if missing else ""
    return Picture(
        "Groups of real volumes, and where synthetic ones fall",
        f"Colours: {len(centres)} K-means clusters of the real volumes in {real.shape[1]} features of "
        f"[{got.features.name}], each standardized; a synthetic volume (open) bears the colour of the nearest centre. "
        f"Right: shares of real (filled) and synthetic (open) volumes by cluster, N = {n} of each.{lack}",
        "Scatter plot of t-SNE coordinates coloured by cluster, and bars of the share of each cluster.",
        uri,
        780,
    )
