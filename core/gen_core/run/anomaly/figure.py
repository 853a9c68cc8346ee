"""The figure of anomaly maps over t: a row of pictures a volume, reconstructions above, maps below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import Factory, define

from gen_core import atomic

ROWS = 3  # volumes shown of either kind: with anomalies, and without
DPI = 110


@define(eq=False)
class Shown:
    """One slice of a volume: the input, its mask, what the codec makes of it, and for every t reconstruction and map.

    All (H, W); input and reconstructions in [-1, 1], the mean over channels.
    """

    id: str
    at: int
    input: np.ndarray
    mask: np.ndarray | None
    codec: np.ndarray
    reconstructions: list[np.ndarray] = Factory(list)
    maps: list[np.ndarray] = Factory(list)


def slice_of(mask: np.ndarray | None, depth: int) -> int:
    """The slice with most of the mask, else the middle one."""
    if mask is None or not mask.any():
        return depth // 2
    return int(mask.sum((1, 2)).argmax())


def draw(shown: Sequence[Shown], columns: Sequence[str], path: Path) -> None:
    """Write the figure as PNG. columns: the words above each t."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    n = len(columns)
    height, width = shown[0].input.shape
    cell = 1.7
    size = (cell * (n + 2) + 0.9, (cell * height / width * 2 + 0.12) * len(shown) + 0.6)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(2 * len(shown), n + 2, squeeze=False)
    grey: dict[str, Any] = {"cmap": "gray", "vmin": -1, "vmax": 1, "interpolation": "nearest"}
    for axis in grid.ravel():
        axis.set_xticks([])
        axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set_visible(False)
    top = max(float(np.max(m)) for one in shown for m in one.maps) or 1.0  # one scale for all: maps compare
    for k, one in enumerate(shown):
        above, below = grid[2 * k], grid[2 * k + 1]
        above[0].imshow(one.input, **grey)
        above[1].imshow(one.codec, **grey)
        above[0].set_ylabel(one.id[-24:], fontsize=7)
        if one.mask is None:
            below[0].set_visible(False)
        else:
            below[0].imshow(one.mask, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        below[1].set_visible(False)
        for j in range(n):
            above[2 + j].imshow(one.reconstructions[j], **grey)
            picture = below[2 + j].imshow(one.maps[j], cmap="magma", vmin=0, vmax=top, interpolation="nearest")
            if one.mask is not None and one.mask.any() and not one.mask.all():
                below[2 + j].contour(one.mask, levels=[0.5], colors="cyan", linewidths=0.7)
        figure.colorbar(picture, ax=list(below[2:]), fraction=0.03, pad=0.01).ax.tick_params(labelsize=6)
    for axis, word in zip(grid[0], ("input, mask below", "codec alone", *columns)):
        axis.set_title(word, fontsize=7)
    with atomic.replacing(path) as beside:
        figure.savefig(beside, format="png")
