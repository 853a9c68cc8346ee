"""Figures behind the scores: distances to training volumes, neighbours, distances over 1/N."""

from __future__ import annotations

import numpy as np

from gen_report.display import Colours, fitted_to
from gen_report.gathered import Gathered, closest
from gen_report.house_style import (
    MUTED,
    OTHER,
    SOURCE_COLOUR,
    SOURCE_NAME,
    Picture,
    as_png,
    as_svg,
    bare,
    drawing,
)

ABREAST = 3  # neighbours a sample
TILE_PIXELS = 192


def neighbours(got: Gathered, show: Colours, dpi: float) -> Picture | None:
    """The samples nearest to any training volume, beside their nearest training volumes."""
    rows = [r for r in closest(got) if r["id"] in got.far_samples]
    if not rows or not got.train:
        return None
    h, w = got.spec.size[1:]
    cell = 1.25
    blocks = 2 if len(rows) > 1 else 1
    lines = -(-len(rows) // blocks)
    with drawing(blocks * (ABREAST + 1) * cell + 0.4, lines * (cell * h / w + 0.36) + 0.1) as figure:
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.03, wspace=0.01, hspace=0.02)
        gap = [0.15] if blocks == 2 else []  # an empty column parts the two blocks
        widths = [1.0] * (ABREAST + 1) + gap + [1.0] * (ABREAST + 1) * (blocks - 1)
        axes = figure.subplots(lines, len(widths), squeeze=False, gridspec_kw={"width_ratios": widths})
        for ax in axes.ravel():
            bare(ax)
        for k, row in enumerate(rows):
            i, j = k % lines, (k // lines) * (ABREAST + 2)
            axes[i][j].imshow(
                fitted_to(show(got.far_samples[row["id"]]), TILE_PIXELS), interpolation="nearest"
            )
            axes[i][j].set_title(
                f"sample {row['id'].rpartition('-')[2].lstrip('0') or '0'}"
                + (" (!)" if row.get("copy") else ""),
                loc="center",
                color=SOURCE_COLOUR["synthetic"],
                fontsize=8.5,
            )
            mirrored = row.get("mirrored") or []
            for n, (name, distance) in enumerate(zip(row["train"][:ABREAST], row["distance"])):
                ax = axes[i][j + 1 + n]
                flip = n < len(mirrored) and mirrored[n]
                if name in got.train:
                    image = show(got.train[name])
                    image = image[:, ::-1] if flip else image
                    ax.imshow(fitted_to(image, TILE_PIXELS), interpolation="nearest")
                else:
                    ax.text(
                        0.5, 0.5, "not read", ha="center", va="center", color=MUTED, transform=ax.transAxes
                    )
                ax.set_title(
                    f"{distance:.3g}" + (", mirrored" if flip else ""),
                    loc="center",
                    fontsize=8,
                    fontweight="normal",
                )
        uri = as_png(figure, dpi)
    total = len(got.extra("neighbours"))
    return Picture(
        "Nearest training volumes",
        f"The {len(rows)} of {total} samples that come nearest to a training volume, each followed by its nearest "
        "training volumes and their distances; (!) marks those under the threshold.",
        "Samples beside their nearest training volumes.",
        uri,
        int((blocks * (ABREAST + 1) * cell + 0.4) * 105),
    )


def distances(got: Gathered) -> Picture | None:
    """Histograms of the distance to the nearest training volume."""
    found = {k: np.asarray(v, float) for k, v in (got.extra("distances") or {}).items() if len(v) > 1}
    if not found:
        return None
    # planted copies lie near 0 and would squeeze what matters: they count for the scale only if they are alone
    main = np.concatenate(
        [v for k, v in found.items() if not k.startswith("planted")] or list(found.values())
    )
    edges = np.linspace(min(main.min(), min(v.min() for v in found.values())), main.max(), 41)
    with drawing(7.0, 2.8) as figure:
        ax = figure.subplots()
        others = iter(OTHER)
        for name, values in found.items():
            colour = SOURCE_COLOUR.get(name) or next(others, OTHER[0])
            label = f"{SOURCE_NAME.get(name, name)} (N = {len(values)})"
            weights = np.full(len(values), 1 / len(values))
            ax.hist(
                values, edges, weights=weights, histtype="stepfilled", alpha=0.18, color=colour, linewidth=0
            )
            ax.hist(values, edges, weights=weights, histtype="step", color=colour, label=label, linewidth=1.3)
        threshold = got.extra("threshold")
        if threshold is not None:
            ax.axvline(threshold, color=MUTED, linestyle="--", linewidth=1)
            ax.annotate(
                "threshold",
                (threshold, 1),
                xycoords=("data", "axes fraction"),
                xytext=(3, -2),
                textcoords="offset points",
                va="top",
                color=MUTED,
                fontsize=8,
            )
        ax.set_xlabel("distance to the nearest training volume")
        ax.set_ylabel("share")
        ax.legend(loc="upper right")
        uri = as_svg(figure)
    return Picture(
        "Distance to the training set",
        "Copies would lie left of the threshold, which validation volumes themselves cross by chance only; planted "
        "copies show that the search would find them. N in the legend.",
        "Histograms of nearest-neighbour distances.",
        uri,
        720,
    )


def over_n(got: Gathered) -> list[Picture]:
    """Frechet distances over 1/N with the line to N = infinity, one figure a metric that has them."""
    pictures = []
    for metric, result in got.results.items():
        lines = {
            s: c
            for s, c in ((result.get("extra") or {}).get("over_n") or {}).items()
            if isinstance(c, dict) and len(c.get("n") or []) > 1
        }
        if not lines:
            continue
        with drawing(5.2, 2.7) as figure:
            ax = figure.subplots()
            for source, curve in lines.items():
                x, y = 1 / np.asarray(curve["n"], float), np.asarray(curve["value"], float)
                colour = SOURCE_COLOUR.get(source, OTHER[0])
                ax.plot(x, y, "o", color=colour, markersize=4, label=SOURCE_NAME.get(source, source))
                if curve.get("limit") is not None and curve.get("slope") is not None:
                    ends = np.array([0, x.max()])
                    ax.plot(ends, curve["limit"] + curve["slope"] * ends, color=colour, linewidth=1)
            ax.set_xlabel("1 / N")
            ax.set_xlim(left=0)
            ax.legend()
            uri = as_svg(figure)
        counts = "; ".join(
            f"{SOURCE_NAME.get(s, s)} N = {', '.join(map(str, c['n']))}" for s, c in lines.items()
        )
        pictures.append(
            Picture(
                f"{metric} over 1/N",
                f"Where the line meets 0 is the estimate for endlessly many volumes. {counts}.",
                f"{metric} against one over the number of volumes.",
                uri,
                540,
            )
        )
    return pictures
