"""The samples to be ashamed of: those that look worst, and those that were set aside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gen_report.display import Colours, fitted_to
from gen_report.gathered import Gathered, farthest, pictured_rejects, short_id
from gen_report.house_style import MUTED, Board, Picture, as_image, drawing

CELL, GAP, TOP, UNDER = 1.68, 0.06, 0.22, 0.2  # inches: a picture's width, what parts two, room for name and reason
COLUMNS = 6
TILE_PIXELS = 192
LETTERS = 27  # of a reason under its picture


def worst(got: Gathered, show: Colours, dpi: float) -> Picture | None:
    """The accepted samples that an outlier metric ranks last, else those farthest from all training volumes."""
    rows = [(i, why) for i, why in farthest(got) if i in got.by_id]
    if not rows:
        return None
    ranked = bool(got.extra("worst"))
    by = "ranked by the outlier scores" if ranked else "the farthest from their nearest training volume"
    uri, width = _named(got, rows, show, dpi)
    total = len(got.extra("neighbours") or []) or len(got.extra("distances") or [])
    return Picture(
        "The worst samples",
        f"{len(rows)} samples, {by}{f', of N = {total}' if total and not ranked else ''}. Look at these first: what a "
        "model gets wrong shows here.",
        f"{len(rows)} images of the worst samples: {', '.join(short_id(i) for i, _ in rows)}.",
        uri,
        width,
    )


def rejected(got: Gathered, show: Colours, dpi: float) -> Picture | None:
    """The first samples that the judges set aside."""
    rows = [(i, got.rejected[i][0]) for i in pictured_rejects(got) if i in got.by_id]
    if not rows:
        return None
    uri, width = _named(got, rows, show, dpi)
    return Picture(
        "Rejected samples",
        f"The first {len(rows)} of N = {len(got.rejected)} samples that were set aside; they are in no score.",
        f"{len(rows)} images of rejected samples: {', '.join(short_id(i) for i, _ in rows)}.",
        uri,
        width,
    )


def _named(got: Gathered, rows: Sequence[tuple[str, str]], show: Colours, dpi: float) -> tuple[str, int]:
    """Pictures with their name above and a reason below: the image, and its width in CSS pixels."""
    columns = min(COLUMNS, len(rows))
    high = CELL * got.spec.size[1] / got.spec.size[2]
    block = TOP + high + UNDER
    width, height = columns * (CELL + GAP) - GAP, -(-len(rows) // columns) * (block + GAP) - GAP
    with drawing(width, height) as figure:
        board = Board(figure)
        for k, (id_, why) in enumerate(rows):
            x, y = (k % columns) * (CELL + GAP), (k // columns) * (block + GAP)
            board.text(x + CELL / 2, y + TOP / 2, short_id(id_), 8.5, fontweight="bold")
            board.image(fitted_to(np.asarray(show(got.by_id[id_])), TILE_PIXELS), x, y + TOP, CELL, high)
            said = why if len(why) <= LETTERS else why[: LETTERS - 1] + "…"
            board.text(x + CELL / 2, y + TOP + high + UNDER / 2, said, 7.5, color=MUTED)
        return as_image(figure, dpi), int(width * 105)
