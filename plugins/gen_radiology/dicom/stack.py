"""Frames as a stack: their order, spacing and affine, and what keeps them from being an even, upright grid.

Frames are sorted by position along the normal row x col; the affine takes voxel (z, y, x) to LPS mm, its z column
being the step from frame to frame, which a tilted gantry makes oblique.
Source: DICOM PS3.3 2024e, C.7.6.2.1.1 and equation C.7.6.2.1-1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from attrs import Factory, define

from gen_core.errors import DataError
from gen_radiology.dicom.frames import Frame

EVEN = 0.02  # gaps differ by less than this share of the median gap (headers are often rounded)
STRAIGHT = 0.1  # pixels: positions leave their line by less


@define(eq=False)
class Grid:
    """A sorted stack. gap: mm along the normal from slice to slice; shift: (n, 2) pixels by which slices lie off the
    normal through the first, (y, x); faults: what keeps the stack from being an even, upright grid, one line each.
    """

    frames: list[Frame]
    affine: np.ndarray
    along: np.ndarray  # (n,) mm along the normal
    gap: float
    shift: np.ndarray
    faults: list[str] = Factory(list)
    notes: list[str] = Factory(list)

    @property
    def shape(self) -> tuple[int, int, int]:
        return (len(self.frames), *self.frames[0].size)


def normal_of(orientation: tuple[float, ...]) -> np.ndarray:
    """row x col, unit."""
    normal = np.cross(orientation[:3], orientation[3:])
    return normal / np.linalg.norm(normal)


def sorted_frames(frames: list[Frame]) -> tuple[list[Frame], np.ndarray]:
    """Frames by position along the normal, and these positions in mm; equal positions keep their order."""
    along = np.array([frame.position for frame in frames]) @ normal_of(frames[0].orientation)
    order = np.argsort(along, kind="stable")
    return [frames[i] for i in order], along[order]


def places(frames: list[Frame]) -> tuple[list[Frame], np.ndarray]:
    """Sorted frames and the number of the place each lies at: frames closer than a tenth of a mm share one.

    A tenth of the usual gap is asked as well, so that thin slices stay apart.
    """
    ordered, along = sorted_frames(frames)
    gaps = np.diff(along)
    wide = gaps[gaps > 1e-3]
    near = min(0.1, 0.1 * float(np.median(wide))) if wide.size else 1e-3
    return ordered, np.concatenate([[0], np.cumsum(gaps > near)])


def lay_out(frames: list[Frame]) -> Grid:
    """Sort one frame a place into a grid, and find its faults.

    The z column of the affine is the mean step from first to last. One frame alone takes the header's thickness, or
    1 mm with a note.
    """
    frames, along = sorted_frames(frames)
    first = frames[0]
    row, col = (v / np.linalg.norm(v) for v in np.reshape(first.orientation, (2, 3)))
    normal, (dy, dx) = normal_of(first.orientation), first.spacing
    positions = np.array([frame.position for frame in frames])
    faults, notes = [], []
    n = len(frames)
    if n == 1:
        known = 0 < first.thickness < 1e4
        gap = first.thickness if known else 1.0
        if not known:
            notes.append("one slice without thickness: 1 mm assumed")
        step = gap * normal
        gaps = np.empty(0)
    else:
        step = (positions[-1] - positions[0]) / (n - 1)
        gaps = np.diff(along)
        gap, told = _gap(along, gaps)
        faults += told
    off = positions - positions[0]
    shift = np.stack([off @ col / dy, off @ row / dx], axis=1)
    if n > 1 and np.abs(shift).max() > STRAIGHT:
        share = (along - along[0]) / (along[-1] - along[0])
        wander = np.abs(shift - share[:, None] * shift[-1]).max()
        if wander > STRAIGHT:
            worst = int(np.argmax(np.abs(shift - share[:, None] * shift[-1]).max(1)))
            faults.append(f"slices do not lie on one line: {wander:.3g} pixels off at {along[worst]:.6g} mm")
        else:
            mm = math.hypot(*(step - (step @ normal) * normal))
            angle = math.degrees(math.atan2(mm, step @ normal))
            if angle > 0.1:
                faults.append(f"the stack is tilted by {angle:.2f} degrees: slices shift by {mm:.4g} mm in their plane")
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2], affine[:3, 3] = step, dy * col, dx * row, positions[0]
    return Grid(frames, affine, along, gap, shift, faults, notes)


def _gap(along: np.ndarray, gaps: np.ndarray) -> tuple[float, list[str]]:
    """The gap of the stack in mm, and what is wrong with its evenness.

    Gaps that are whole multiples of the smallest, which most have, are missing slices; others are uneven.
    """
    median = float(np.median(gaps))
    if np.abs(gaps - median).max() <= EVEN * median + 1e-3:
        return float((along[-1] - along[0]) / len(gaps)), []
    base = float(np.median(gaps[gaps <= (1 + EVEN) * gaps.min() + 1e-3]))
    multiple = np.maximum(np.rint(gaps / base), 1)
    whole = np.abs(gaps - multiple * base) <= EVEN * base * multiple + 1e-3
    if whole.all() and 2 * (multiple == 1).sum() >= len(gaps):
        missing = [along[i] + base * k for i, m in enumerate(multiple) for k in range(1, int(m))]
        return base, [f"{len(missing)} slices are missing of a gap of {base:.4g} mm, at {_listed(missing)} mm"]
    odd = along[1:][np.abs(gaps - median) > EVEN * median + 1e-3]
    return median, [
        f"gaps between slices are uneven, {gaps.min():.4g} to {gaps.max():.4g} mm, before {_listed(odd)} mm"
    ]


def _listed(values: Any) -> str:
    shown = ", ".join(f"{value:.6g}" for value in values[:8])
    return shown + (f" and {len(values) - 8} more" if len(values) > 8 else "")


def resample(grid: Grid, array: np.ndarray, fill: float) -> tuple[np.ndarray, np.ndarray, str]:
    """Linear interpolation onto an even, upright grid: (array, affine, what was done).

    Slices are moved in their plane onto the normal through the first (the canvas grows so that nothing is cut off,
    filled with `fill`), then interpolated along it; the ends stay, and the gap is the nearest to the usual one that
    divides the stack.
    """
    shift = np.where(np.abs(grid.shift).max(0) > STRAIGHT, np.round(grid.shift, 6), 0)
    low, high = np.floor(shift.min(0)), np.ceil(shift.max(0))
    _, rows, columns = grid.shape
    grow = (high - low).astype(int)
    if grow[0] > rows or grow[1] > columns:
        raise DataError(f"{grid.frames[0].path}: slices shift by more than their size ({grow[0]}, {grow[1]} pixels)")
    done = []
    affine = grid.affine.copy()
    if shift.any():
        canvas = np.full((len(array), rows + grow[0], columns + grow[1]), fill, np.float32)
        for moved, slice_, (y, x) in zip(canvas, array, shift - low):
            _move(moved, slice_, y, x, fill)
        affine[:3, 3] += affine[:3, 1] * low[0] + affine[:3, 2] * low[1]
        array = canvas
        done.append("slices moved in their plane onto the normal (linear)")
    normal = normal_of(grid.frames[0].orientation)
    extent = grid.along[-1] - grid.along[0]
    n = int(round(extent / grid.gap)) + 1
    if n > 8 * len(grid.frames) + 64:
        raise DataError(f"{grid.frames[0].path}: an even grid of {grid.gap:.4g} mm needs {n} slices")
    gap = extent / (n - 1) if n > 1 else grid.gap
    at = grid.along[0] + gap * np.arange(n)
    if n != len(array) or np.abs(at - grid.along).max() > EVEN * gap:
        upper = np.clip(np.searchsorted(grid.along, at, side="right"), 1, len(array) - 1)
        weight = np.clip((at - grid.along[upper - 1]) / (grid.along[upper] - grid.along[upper - 1]), 0, 1)
        even = np.empty((n, *array.shape[1:]), np.float32)
        for out, i, w in zip(even, upper, weight.astype(np.float32)):
            np.multiply(array[i - 1], 1 - w, out=out)
            out += w * array[i]
        array = even
        done.append(f"interpolated along the normal to {n} slices, {gap:.6g} mm apart (linear)")
    affine[:3, 0] = gap * normal
    return array, affine, "; ".join(done) or "nothing to do"


def _move(out: np.ndarray, slice_: np.ndarray, y: float, x: float, fill: float) -> None:
    """Add a slice shifted by y, x >= 0 pixels to a canvas, bilinear, `fill` beyond its border."""
    top, left = int(y), int(x)
    fy, fx = np.float32(y - top), np.float32(x - left)
    rows, columns = slice_.shape
    off = slice_ - np.float32(fill)
    for i, wy in ((top, 1 - fy), (top + 1, fy)):
        for j, wx in ((left, 1 - fx), (left + 1, fx)):
            if wy * wx:
                out[i : i + rows, j : j + columns] += wy * wx * off
