"""Are samples copies? The verdict in words, nearest training volumes, distances to the training set."""

from __future__ import annotations

import numpy as np

from gen_report.display import Colours, fitted_to
from gen_report.gathered import ABREAST, Gathered, closest, short_id
from gen_report.house_style import MUTED, OTHER, SOURCE_COLOUR, SOURCE_NAME, Board, Picture, as_image, as_svg, drawing

CELL, GAP = 1.27, 0.04  # inches: a picture's width, and what parts two
TILE_PIXELS = 192
NAMED = 8  # flagged samples that the caption names
PLANTED_DASH = (0, (3, 1.5))


def neighbours(got: Gathered, show: Colours, dpi: float) -> Picture | None:
    """The samples nearest to any training volume, beside their nearest training volumes."""
    rows = [r for r in closest(got) if r["id"] in got.by_id]
    if not rows or not got.options.show_real:
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
            name = short_id(row["id"]) + (" (!)" if row.get("copy") else "")
            how = {"fontweight": "bold", "color": SOURCE_COLOUR["synthetic"]}
            board.text(x + CELL / 2, y - top / 2, name, 8.5, **how)
            board.image(fitted_to(show(got.by_id[row["id"]]), TILE_PIXELS), x, y, CELL, high)
            mirrored = row.get("mirrored") or []
            for n, (near, distance) in enumerate(zip(row["train"][:ABREAST], row["distance"])):
                x += CELL + GAP
                flip = n < len(mirrored) and mirrored[n]
                if near in got.by_id:
                    image = show(got.by_id[near])
                    image = image[:, ::-1] if flip else image
                    board.image(fitted_to(image, TILE_PIXELS), x, y, CELL, high)
                else:
                    board.text(x + CELL / 2, y + high / 2, "not read", 8, color=MUTED)
                board.text(x + CELL / 2, y - top / 2, f"{distance:.3g}" + (", mirrored" if flip else ""), 8)
        uri = as_image(figure, dpi)
    total = len(got.extra("neighbours"))
    return Picture(
        "Nearest training volumes",
        f"The {len(rows)} of N = {total} samples that come nearest to a training volume, each followed by its nearest "
        "training volumes and their distances; (!) marks those under the threshold.",
        f"{len(rows)} samples, each beside its {ABREAST} nearest training volumes with the distances.",
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
    with drawing(7.0, 3.3) as figure:
        ax = figure.subplots()
        for k, (name, values) in enumerate(found.items()):
            colour = SOURCE_COLOUR.get(name) or OTHER[k % len(OTHER)]
            label = f"{SOURCE_NAME.get(name, name)} (N = {len(values)})"
            weights = np.full(len(values), 1 / len(values))
            how = {"color": colour, "linestyle": PLANTED_DASH if name.startswith("planted") else "-"}
            ax.hist(values, edges, weights=weights, histtype="stepfilled", alpha=0.16, color=colour, linewidth=0)
            ax.hist(values, edges, weights=weights, histtype="step", label=label, linewidth=1.3, **how)
        threshold = got.extra("threshold")
        if threshold is not None:
            ax.axvline(threshold, color=MUTED, linestyle="--", linewidth=1)
            place = {"xytext": (3, -2), "textcoords": "offset points", "va": "top", "color": MUTED, "fontsize": 8}
            ax.annotate("threshold", (threshold, 1), xycoords=("data", "axes fraction"), **place)
        flagged = [r for r in got.extra("neighbours") or [] if r.get("copy") and r.get("distance")]
        if flagged:
            at = [r["distance"][0] for r in flagged]
            ax.plot(at, [0] * len(at), "^", color=SOURCE_COLOUR["synthetic"], markersize=8, clip_on=False, zorder=5)
        # planted copies fall into one or two bars, which may leave at the top: the others are what must be told apart
        tallest = [np.histogram(v, edges)[0].max() / len(v) for k, v in found.items() if not k.startswith("planted")]
        ax.set_ylim(0, 1.2 * max(tallest, default=1.0))
        ax.set_xlabel("distance to the nearest training volume")
        ax.set_ylabel("share")
        figure.legend(loc="outside lower center", ncols=2)
        uri = as_svg(figure)
    named = ", ".join(short_id(r["id"]) for r in flagged[:NAMED]) + (" and others" if len(flagged) > NAMED else "")
    said = f"Triangles on the axis: under the threshold lie {named} ({len(flagged)} in all). " if flagged else ""
    return Picture(
        "Distance to the training set",
        f"Copies would lie left of the threshold, which validation volumes themselves cross by chance only; planted "
        f"copies show that the search would find them. {said}N in the legend.",
        f"Distances to the nearest training volume: {', '.join(SOURCE_NAME.get(k, k) for k in found)}.",
        uri,
        720,
    )
