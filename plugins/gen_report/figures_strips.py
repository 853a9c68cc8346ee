"""Strips that show the prior at work: from one sample to another, and one sample on its way out of the noise."""

from __future__ import annotations

from gen_report.display import Colours, fitted_to
from gen_report.gathered import Gathered
from gen_report.house_style import MUTED, Board, Picture, as_image, drawing

CELL, GAP = 1.42, 0.04  # inches: a picture's width, and what parts two
TILE_PIXELS = 192


def interpolation(got: Gathered, show: Colours, dpi: float) -> Picture | None:
    """From sample 0 to sample 1, along the great circle between their noise."""
    if len(got.between) < 2:
        return None
    high, top = CELL * got.spec.size[1] / got.spec.size[2], 0.24
    width = (CELL + GAP) * len(got.between) - GAP
    with drawing(width, top + high) as figure:
        board = Board(figure)
        for k, (share, x) in enumerate(got.between):
            at = k * (CELL + GAP)
            name = {0: "sample 0", len(got.between) - 1: "sample 1"}.get(k, f"{100 * share:.0f} %")
            board.text(at + CELL / 2, top / 2, name, 9, fontweight="bold" if "sample" in name else "normal")
            board.image(fitted_to(show(x), TILE_PIXELS), at, top, CELL, high)
        uri = as_image(figure, dpi)
    return Picture(
        "Between two samples",
        "Every draw of noise moves on the great circle from that of sample 0 to that of sample 1. A prior that knows "
        f"the anatomy passes through plausible volumes; one that stores examples jumps. N = {len(got.between)} steps.",
        f"{len(got.between)} images from sample 0 to sample 1.",
        uri,
        int(width * 105),
    )


def denoising(got: Gathered, show: Colours, dpi: float) -> Picture | None:
    """z_t and the estimate of z_0, decoded, at falling times."""
    if len(got.way) < 2:
        return None
    high, top, left = CELL * got.spec.size[1] / got.spec.size[2], 0.24, 0.22
    width, height = left + (CELL + GAP) * len(got.way) - GAP, top + 2 * (high + GAP) - GAP
    with drawing(width, height) as figure:
        board = Board(figure)
        for k, (t, noisy, clean) in enumerate(got.way):
            x = left + k * (CELL + GAP)
            board.text(x + CELL / 2, top / 2, f"t = {t:.2f}" if t else "the sample", 9)
            board.image(fitted_to(show(noisy), TILE_PIXELS), x, top, CELL, high)
            board.image(fitted_to(show(clean), TILE_PIXELS), x, top + high + GAP, CELL, high)
        for i, name in enumerate(("state", "estimate")):
            board.text(left / 2, top + i * (high + GAP) + high / 2, name, 9, rotation=90, color=MUTED)
        uri = as_image(figure, dpi)
    return Picture(
        "Out of the noise",
        "Sample 0 on its way: above, the latent at time t (1: noise, 0: data), decoded; below, what the network "
        f"takes the end of the way to be. At most {got.options.strip_steps} sampler steps.",
        f"Two rows of {len(got.way)} images: noise turning into a volume, and its estimate becoming sharp.",
        uri,
        int(width * 105),
    )
