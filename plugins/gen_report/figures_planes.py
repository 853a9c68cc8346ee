"""Volumes of slices in three planes: axial, coronal, sagittal, CT through the two windows that radiologists read."""

from __future__ import annotations

from typing import Any

import numpy as np
from attrs import frozen

from gen_report.gathered import Gathered
from gen_report.house_style import GREY, MUTED, Board, Picture, as_image, drawing

CELL, GAP, ASIDE = 1.75, 0.05, 0.24  # inches: the longest side of a plane, what parts two, room for a row's name
PLANES = ("axial", "coronal", "sagittal")


@frozen
class Window:
    """Grey values from level - width / 2 (black) to level + width / 2 (white), in HU."""

    name: str
    width: float
    level: float

    @property
    def ends(self) -> tuple[float, float]:
        return self.level - self.width / 2, self.level + self.width / 2


LUNG, MEDIASTINAL = Window("lung", 1500.0, -600.0), Window("mediastinal", 400.0, 40.0)


def is_slices(spec: Any) -> bool:
    """Whether a volume has three planes to look at."""
    return spec.depth == "slices" and spec.size[0] > 1


def cuts(volume: np.ndarray) -> list[np.ndarray]:
    """(D, H, W) -> the middle axial (H, W), coronal (D, W) and sagittal (D, H) plane; the last slice comes on top."""
    d, h, w = volume.shape
    return [volume[d // 2], volume[::-1, h // 2], volume[::-1, :, w // 2]]


def extents(spec: Any) -> list[tuple[float, float]]:
    """(height, width) in inches of the three planes, true to each other; voxels are cubes where no spacing is known."""
    d, h, w = np.asarray(spec.size) * np.asarray(spec.spacing_mm or (1.0, 1.0, 1.0))
    inch = CELL / max(d, h, w)
    return [(h * inch, w * inch), (d * inch, w * inch), (d * inch, h * inch)]


def orthogonal(got: Gathered, dpi: float) -> Picture | None:
    """Rows of volumes; columns three planes, for CT in HU once in each window."""
    spec = got.spec
    rows = [("real", p) for _, _, p in got.real[:1]]
    rows += [(f"synthetic {k + 1}", p) for k, (_, _, p) in enumerate(got.synthetic[:2])]
    if not rows or not is_slices(spec):
        return None
    ct = spec.units.upper() == "HU"
    if ct:
        scales = [(w.name, w.ends) for w in (LUNG, MEDIASTINAL)]
    else:
        values = np.stack([p[0] for _, p in rows])
        scales = [("", (float(np.percentile(values, 0.5)), float(np.percentile(values, 99.5))))]
    sizes = extents(spec)
    high, top = max(h for h, _ in sizes), 0.42
    width = ASIDE + sum(w + GAP for _, w in sizes) * len(scales) + GAP * (len(scales) - 1)
    height = top + (high + GAP) * len(rows)
    with drawing(width, height) as figure:
        board, x = Board(figure), ASIDE
        for label, (lo, hi) in scales:
            whole = sum(w + GAP for _, w in sizes) - GAP
            head = f"{label} window, {lo:.0f} … {hi:.0f} HU" if ct else f"{lo:.3g} … {hi:.3g} {spec.units}"
            board.text(x + whole / 2, 0.1, head, 9, fontweight="bold")
            for plane, (h, w) in enumerate(sizes):
                board.text(x + w / 2, 0.29, PLANES[plane], 8.5, color=MUTED)
                for i, (_, volume) in enumerate(rows):
                    y = top + i * (high + GAP) + (high - h) / 2
                    grey = {"cmap": GREY, "vmin": lo, "vmax": max(hi, lo + 1e-9)}
                    board.image(cuts(volume[0])[plane], x, y, w, h, **grey)
                x += w + GAP
            x += GAP
        for i, (name, _) in enumerate(rows):
            board.text(ASIDE / 2, top + i * (high + GAP) + high / 2, name, 9, rotation=90, color=MUTED)
        uri = as_image(figure, dpi)
    how = "".join(f"{w.name.capitalize()} window: W {w.width:.0f}, L {w.level:.0f}. " for w in (LUNG, MEDIASTINAL))
    spacing = "" if spec.spacing_mm else "; no spacing is known, voxels are drawn as cubes"
    return Picture(
        "Three planes",
        f"The middle plane of each direction, the last slice on top{spacing}. {how if ct else ''}"
        f"N = {len(rows)} volumes, the first of each kind; not chosen.",
        f"Axial, coronal and sagittal planes of {', '.join(n for n, _ in rows)}"
        f"{' in lung and mediastinal windows' if ct else ''}.",
        uri,
        int(width * 105),
    )
