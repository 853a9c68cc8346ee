"""Pictures of volumes: wavelength panel, image grids, reconstructions with their error."""

from __future__ import annotations

import numpy as np

from gen_report.display import Colours, colours, fitted_to, mosaic, shown_planes
from gen_report.gathered import Gathered
from gen_report.house_style import ERROR_MAP, GREY, MUTED, Board, Picture, as_image, drawing, pixels_as_image

PANEL_PIXELS = 256  # of one plane, at most
GRID_COLUMNS = 6
CELL, GAP = 1.68, 0.04  # inches: a picture's width, and what parts two


def transform(got: Gathered) -> Colours | None:
    """The one display transform of the page: fitted to real volumes, or to samples where none may be shown."""
    volumes = [x for _, x, _ in got.real] or [p[1] for p in got.pairs] or [x for _, x, _ in got.synthetic]
    return colours(got.spec, volumes, got.options.rgb_nm) if volumes else None


def panel(got: Gathered, dpi: float) -> Picture | None:
    """Rows real, reconstruction, synthetic; columns wavelengths; every column has one scale."""
    rows: list[tuple[str, np.ndarray]] = []
    if got.pairs:
        rows += [("real", got.pairs[0][3]), ("reconstruction", got.pairs[0][4])]
    elif got.real:
        rows.append(("real", got.real[0][2]))
    rows += [(f"synthetic {k + 1}", p) for k, (_, _, p) in enumerate(got.synthetic[:2])]
    if not rows:
        return None
    planes = shown_planes(got.spec, got.options.panel_nm)
    high, left, top = CELL * got.spec.size[1] / got.spec.size[2], 0.22, 0.24
    width, height = left + (CELL + GAP) * len(planes), top + (high + GAP) * len(rows) + 0.22
    with drawing(width, height) as figure:
        board = Board(figure)
        for j, (d, label) in enumerate(planes):
            # over all rows: eyes differ by a factor of two, and none should be all white or all black
            lo, hi = np.percentile(np.stack([v[0, d] for _, v in rows]), (0.5, 99))
            grey = {"cmap": GREY, "vmin": lo, "vmax": max(hi, lo + 1e-9)}
            x = left + j * (CELL + GAP)
            for i, (_, volume) in enumerate(rows):
                board.image(fitted_to(volume[0, d], PANEL_PIXELS), x, top + i * (high + GAP), CELL, high, **grey)
            board.text(x + CELL / 2, top / 2, label, 9.5, fontweight="bold")
            board.text(x + CELL / 2, height - 0.12, f"{lo:.3g} … {hi:.3g}", 8, color=MUTED)
        for i, (name, _) in enumerate(rows):
            board.text(left / 2, top + i * (high + GAP) + high / 2, name, 9, rotation=90, color=MUTED)
        uri = as_image(figure, dpi)
    units = got.spec.units or "data units"
    what = "bands" if got.spec.wavelength_nm else "planes"
    compared = "; the reconstruction is of the real volume above it" if got.pairs else ""
    return Picture(
        f"The same {what}, real beside synthetic" if got.real or got.pairs else f"Synthetic {what}",
        f"One scale a column, over all its rows, black … white in {units} under it{compared}. "
        f"N = {len(rows)} volumes, the first of each kind; not chosen.",
        f"Grid of grey images: rows {', '.join(n for n, _ in rows)}; columns {', '.join(p for _, p in planes)}.",
        uri,
        int(width * 105),
    )


def grid(got: Gathered, kind: str, show: Colours, dpi: float) -> Picture | None:
    """The first volumes of a kind ("real" or "synthetic") side by side."""
    volumes = got.real if kind == "real" else got.synthetic
    if not volumes:
        return None
    tiles = [show(x) for _, x, _ in volumes[: got.options.images]]
    side = max(24, int(1.45 * dpi))
    columns = min(GRID_COLUMNS, len(tiles))
    whose = "validation volumes" if kind == "real" else "samples"
    return Picture(
        "Real" if kind == "real" else "Synthetic",
        f"The first {len(tiles)} {whose}; {show.about}, stretched alike in all grids of this page.",
        f"{len(tiles)} {kind} images in {columns} columns.",
        pixels_as_image(mosaic(tiles, columns, side)),
        columns * 108,
    )


def reconstructions(got: Gathered, show: Colours, dpi: float) -> Picture | None:
    """Input, output and absolute error of validation volumes, the error in physical units."""
    if not got.pairs:
        return None
    spec = got.spec
    target = 540.0 if spec.wavelength_nm else 0.0
    middle = int(np.abs(np.asarray(spec.wavelength_nm) - target).argmin()) if spec.wavelength_nm else spec.size[0] // 2
    label = f"{spec.wavelength_nm[middle]:.0f} nm" if spec.wavelength_nm else f"plane {middle + 1}"
    heads = ["input", "output", f"input, {label}", f"output, {label}", f"|error|, {label}"]
    high, top = CELL * spec.size[1] / spec.size[2], 0.24
    width, height = (CELL + GAP) * len(heads) + 0.95, top + (high + GAP) * len(got.pairs)
    errors = [np.abs(a[0, middle] - b[0, middle]) for _, _, _, a, b in got.pairs]
    worst = max(float(np.percentile(np.stack(errors), 99.5)), 1e-9)
    with drawing(width, height) as figure:
        board = Board(figure)
        for j, head in enumerate(heads):
            board.text(j * (CELL + GAP) + CELL / 2, top / 2, head, 9.5, fontweight="bold")
        for i, (_, x, x_hat, physical, physical_hat) in enumerate(got.pairs):
            lo, hi = np.percentile(physical[0, middle], (0.5, 99.8))
            grey = {"cmap": GREY, "vmin": lo, "vmax": max(hi, lo + 1e-9)}
            drawn = [
                (show(x), {}),
                (show(x_hat), {}),
                (physical[0, middle], grey),
                (physical_hat[0, middle], grey),
                (errors[i], {"cmap": ERROR_MAP, "vmin": 0, "vmax": worst}),
            ]
            for j, (plane, how) in enumerate(drawn):
                at = (j * (CELL + GAP), top + i * (high + GAP))
                last = board.image(fitted_to(plane, PANEL_PIXELS), *at, CELL, high, **how)
        units = spec.units or "data units"
        board.bar(last, (CELL + GAP) * len(heads) + 0.05, top, min(2 * high, height - top - GAP), units)
        uri = as_image(figure, dpi)
    mean = np.mean([np.abs(a - b).mean() for _, _, _, a, b in got.pairs])
    return Picture(
        "What the codec keeps",
        f"Validation volumes through encoder and decoder; colours: {show.about}. Mean absolute error over all "
        f"planes {mean:.3g} {spec.units or '(data units)'}. N = {len(got.pairs)}.",
        "Rows of input, output and error images of validation volumes.",
        uri,
        int(width * 105),
    )
