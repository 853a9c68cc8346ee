"""Pictures of the radiology phantoms for the docs: docs/images/phantom_lung.png and phantom_brain.png.

    python benchmarks/phantom_pictures.py [--size 128] [--out docs/images]

Rendering alone, with its time, in seconds a volume: one core, no training.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from gen_radiology.phantoms import brain_mri, lung_ct
from gen_radiology.phantoms.brain_mri_options import BrainMriPhantom
from gen_radiology.phantoms.grid import Grid
from gen_radiology.phantoms.lung_ct_options import LungCtPhantom

LUNG_WINDOW, SOFT_WINDOW = (-1350.0, 150.0), (-160.0, 240.0)  # W1500 L-600, W400 L40


def show(ax: Axes, picture: NDArray, window: tuple[float, float], title: str, aspect: float = 1.0) -> None:
    """One plane in grey, without axes."""
    ax.imshow(picture, cmap="gray", vmin=window[0], vmax=window[1], interpolation="bicubic", aspect=aspect)
    ax.set_title(title, fontsize=7, pad=2)


def slice_at(grid: Grid, z_mm: float) -> int:
    """The slice nearest to a height."""
    return int(np.clip(round((z_mm - grid.origin[0]) / grid.spacing[0]), 0, grid.size[0] - 1))


def lung(n: int) -> plt.Figure:
    """Three chests in planes and windows; a nodule of each kind; one chest at coarser voxels."""
    fig, axes = plt.subplots(3, 6, figsize=(9.6, 4.9))
    for row, (subject, kind) in enumerate(((0, "solid"), (5, "part-solid"), (2, "ground-glass"))):
        o = LungCtPhantom(nodules=1.0, kinds=(kind,), min_diameter_mm=14.0)
        size, spacing = (n, n, n), tuple(f / n for f in o.fov_mm)
        start = time.perf_counter()
        hu, masks = lung_ct.render(o, size, spacing, subject)
        print(f"chest {subject} at {n}^3: {time.perf_counter() - start:.2f} s")
        scan = lung_ct.draw(o, size, spacing, subject)
        k = slice_at(scan.grid, scan.nodule.centre[0])
        show(axes[row, 0], hu[slice_at(scan.grid, 0.0)], LUNG_WINDOW, f"chest {subject}, at the carina")
        show(axes[row, 1], hu[k], LUNG_WINDOW, f"{scan.nodule.kind}, {scan.nodule.diameter:.0f} mm")
        across = masks["nodule"][k].nonzero()
        at = (across[1].mean() + 4, across[0].mean() + 4)
        axes[row, 1].annotate("", at, (at[0] + 16, at[1] + 16), arrowprops={"color": "tab:orange", "arrowstyle": "->"})
        show(axes[row, 2], hu[slice_at(scan.grid, -55.0)], SOFT_WINDOW, "soft tissue, 55 mm below")
        show(axes[row, 3], hu[slice_at(scan.grid, -100.0)], SOFT_WINDOW, "100 mm below")
        show(axes[row, 4], hu[::-1, int(n * 0.52)], LUNG_WINDOW, "coronal", spacing[0] / spacing[2])
        m = n // 2 if row < 2 else n // 4
        coarse_spacing = tuple(f / m for f in o.fov_mm)
        coarse, _ = lung_ct.render(o, (m, m, m), coarse_spacing, subject)
        at = slice_at(lung_ct.draw(o, (m, m, m), coarse_spacing, subject).grid, 0.0)
        show(axes[row, 5], coarse[at], LUNG_WINDOW, f"at {m} x {m} x {m}")
    return fig


def brain(n: int) -> plt.Figure:
    """Heads in three contrasts and planes, lesions with their mask, tissues, coarser voxels."""
    base = BrainMriPhantom(lesions=1.0)
    size, spacing = (n, n, n), tuple(f / n for f in base.fov_mm)
    fig, axes = plt.subplots(3, 6, figsize=(9.6, 4.9))
    for row, subject in enumerate((0, 5, 9)):
        pictures = {}
        for contrast in ("t1", "t2", "pd"):
            o = BrainMriPhantom(lesions=1.0, contrast=contrast)
            start = time.perf_counter()
            pictures[contrast], masks = brain_mri.render(o, size, spacing, subject)
            print(f"head {subject}, {contrast}, at {n}^3: {time.perf_counter() - start:.2f} s")
        scan = brain_mri.draw(base, size, spacing, subject)
        k = slice_at(scan.grid, scan.lesions.blobs[0].centre[0])
        top = {c: (0.0, brain_mri.top(BrainMriPhantom(contrast=c)) * (0.75 if c == "t1" else 1)) for c in pictures}
        show(axes[row, 0], pictures["t1"][k], top["t1"], f"head {subject}, T1")
        axes[row, 0].contour(masks["lesion"][k], [0.5], colors="tab:orange", linewidths=0.7)
        show(axes[row, 1], pictures["t2"][k], top["t2"], "T2")
        show(axes[row, 2], pictures["pd"][k], top["pd"], "PD")
        off = slice(n // 2 - n // 16, n // 2 - n // 16 + 1)
        show(axes[row, 3], pictures["t1"][::-1, :, off][..., 0], top["t1"], "T1, sagittal", spacing[0] / spacing[1])
        show(axes[row, 4], pictures["t1"][::-1, n // 2], top["t1"], "T1, coronal", spacing[0] / spacing[2])
        if row == 0:
            tissue = sum(
                v * masks[m][k] for v, m in ((1, "csf"), (2, "grey-matter"), (3, "white-matter"), (4, "lesion"))
            )
            show(axes[row, 5], tissue, (0, 4), "masks")
            continue
        small = (n // 4, n // 2, n // 2) if row == 1 else (n // 8, n // 4, n // 4)
        coarse_spacing = tuple(f / m for f, m in zip(base.fov_mm, small))
        coarse, _ = brain_mri.render(base, small, coarse_spacing, subject)
        at = slice_at(brain_mri.draw(base, small, coarse_spacing, subject).grid, scan.lesions.blobs[0].centre[0])
        show(axes[row, 5], coarse[at], top["t1"], f"at {small[0]} x {small[1]} x {small[2]}")
    return fig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "docs" / "images")
    args = parser.parse_args()
    for name, draw in (("lung", lung), ("brain", brain)):
        fig = draw(args.size)
        for ax in fig.axes:
            ax.axis("off")
        fig.tight_layout(pad=0.3)
        fig.savefig(args.out / f"phantom_{name}.png", dpi=110)
        plt.close(fig)


if __name__ == "__main__":
    main()
