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
    Board,
    Picture,
    as_png,
    as_svg,
    drawing,
)

ABREAST = 3  # neighbours a sample
CELL, GAP = 1.27, 0.04  # inches: a picture's width, and what parts two
TILE_PIXELS = 192


def neighbours(got: Gathered, show: Colours, dpi: float) -> Picture | None:
    """The samples nearest to any training volume, beside their nearest training volumes."""
    rows = [r for r in closest(got) if r["id"] in got.far_samples]
    if not rows or not got.train:
        return None
    high, top, apart = CELL * got.spec.size[1] / got.spec.size[2], 0.22, 0.2
    blocks = 2 if len(rows) > 1 else 1
    lines = -(-len(rows) // blocks)
    block = (ABREAST + 1) * (CELL + GAP) + apart
    width, height = blocks * block - apart, lines * (high + top + GAP)
    with drawing(width, height) as figure:
        board = Board(figure)
        for k, row in enumerate(rows):
            x, y = (k // lines) * block, (k % lines) * (high + top + GAP) + top
            name = f"sample {row['id'].rpartition('-')[2].lstrip('0') or '0'}" + (" (!)" if row.get("copy") else "")
            how = {"fontweight": "bold", "color": SOURCE_COLOUR["synthetic"]}
            board.text(x + CELL / 2, y - top / 2, name, 8.5, **how)
            board.image(fitted_to(show(got.far_samples[row["id"]]), TILE_PIXELS), x, y, CELL, high)
            mirrored = row.get("mirrored") or []
            for n, (near, distance) in enumerate(zip(row["train"][:ABREAST], row["distance"])):
                x += CELL + GAP
                flip = n < len(mirrored) and mirrored[n]
                if near in got.train:
                    image = show(got.train[near])
                    image = image[:, ::-1] if flip else image
                    board.image(fitted_to(image, TILE_PIXELS), x, y, CELL, high)
                else:
                    board.text(x + CELL / 2, y + high / 2, "not read", 8, color=MUTED)
                board.text(x + CELL / 2, y - top / 2, f"{distance:.3g}" + (", mirrored" if flip else ""), 8)
        uri = as_png(figure, dpi)
    total = len(got.extra("neighbours"))
    return Picture(
        "Nearest training volumes",
        f"The {len(rows)} of {total} samples that come nearest to a training volume, each followed by its nearest "
        "training volumes and their distances; (!) marks those under the threshold.",
        "Samples beside their nearest training volumes.",
        uri,
        int(width * 105),
    )


def distances(got: Gathered) -> Picture | None:
    """Histograms of the distance to the nearest training volume."""
    found = {k: np.asarray(v, float) for k, v in (got.extra("distances") or {}).items() if len(v) > 1}
    if not found:
        return None
    # planted copies lie near 0 and would squeeze what matters: they count for the scale only if they are alone
    main = np.concatenate([v for k, v in found.items() if not k.startswith("planted")] or list(found.values()))
    edges = np.linspace(min(main.min(), min(v.min() for v in found.values())), main.max(), 41)
    with drawing(7.0, 3.1) as figure:
        ax = figure.subplots()
        others = iter(OTHER)
        for name, values in found.items():
            colour = SOURCE_COLOUR.get(name) or next(others, OTHER[0])
            label = f"{SOURCE_NAME.get(name, name)} (N = {len(values)})"
            weights = np.full(len(values), 1 / len(values))
            ax.hist(values, edges, weights=weights, histtype="stepfilled", alpha=0.18, color=colour, linewidth=0)
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
        figure.legend(loc="outside lower center", ncols=2)
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
        counts = "; ".join(f"{SOURCE_NAME.get(s, s)} N = {', '.join(map(str, c['n']))}" for s, c in lines.items())
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
