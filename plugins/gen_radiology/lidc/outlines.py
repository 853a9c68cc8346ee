"""Outlines of LIDC-IDRI readers as pixels: what an edge map encloses, and how long it is.

The rule: the pixels of an edge map lie just outside what they enclose, of inclusions and exclusions alike (Armato et
al. 2011, section II.C: an outer border that does not overlap the nodule). So by default (`outline = "exclude"`) the
nodule is what an outline encloses without the outline, and a hole takes its outline along. `outline = "include"`
counts the pixels of every outline to the nodule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from attrs import frozen

from gen_radiology.lidc.readings import Contour, Outlined

OUTLINES = ("exclude", "include")


@frozen(eq=False)
class Patch:
    """inside: (h, w) bool, its first row and column at top, left of the slice."""

    top: int
    left: int
    inside: np.ndarray


def enclosed_by(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outline (n, 2) of x, y -> (edge, enclosed), both (h, w) bool on the bounding box of the points, disjoint.

    Points that are no neighbours are joined by a straight line, the last one to the first. Enclosed are the pixels
    whose centre lies inside by the even-odd rule and that are no pixels of the outline.
    """
    steps = np.abs(np.roll(points, -1, axis=0) - points).max(1).clip(1)
    line = np.repeat(np.arange(len(points)), steps)
    along = (np.arange(len(line)) - np.repeat(np.cumsum(steps) - steps, steps)) / steps[line]
    path = points[line] + along[:, None] * (np.roll(points, -1, axis=0) - points)[line]
    path = np.rint(path).astype(int) - points.min(0)
    edge = np.zeros(np.ptp(points, axis=0)[::-1] + 1, bool)
    edge[path[:, 1], path[:, 0]] = True
    # A step between rows y and y + 1 crosses the ray of row y once, at its end on that row.
    after = np.roll(path, -1, axis=0)
    upper = np.where((path[:, 1] < after[:, 1])[:, None], path, after)[path[:, 1] != after[:, 1]]
    crossings = np.zeros(edge.shape, np.int32)
    np.add.at(crossings, (upper[:, 1], upper[:, 0]), 1)
    return edge, (np.cumsum(crossings, axis=1) % 2 == 1) & ~edge


def outline_slices(
    drawn: Iterable[Outlined], locate: Callable[[Contour], int | None], outline: str
) -> dict[int, Patch]:
    """What one reader drew, by slice: inclusions joined, exclusions taken out."""
    planes: dict[int, list[Contour]] = {}
    for contour in (contour for one in drawn for contour in one.contours):
        if (k := locate(contour)) is not None:
            planes.setdefault(k, []).append(contour)
    patches = {}
    for k, contours in planes.items():
        corner = np.min([c.points.min(0) for c in contours], axis=0)
        size = np.max([c.points.max(0) for c in contours], axis=0) - corner + 1
        inside = np.zeros(size[::-1], bool)
        for contour in sorted(contours, key=lambda c: not c.inclusion):
            edge, enclosed = enclosed_by(contour.points)
            left, top = contour.points.min(0) - corner
            part = inside[top : top + edge.shape[0], left : left + edge.shape[1]]
            if contour.inclusion:
                part |= enclosed | edge if outline == "include" else enclosed
            else:
                part &= ~enclosed if outline == "include" else ~(enclosed | edge)
        patches[k] = Patch(int(corner[1]), int(corner[0]), inside)
    return patches


def longest_axis(drawn: Iterable[Outlined], spacing: Iterable[float]) -> float:
    """Longest axis on one slice, mm: between outline pixels, less one pixel, as these lie half a pixel outside each."""
    _, dy, dx = spacing
    longest = 0.0
    for contour in (contour for one in drawn for contour in one.contours if contour.inclusion):
        points = contour.points * (dx, dy)
        across = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1).max())
        longest = max(longest, float(across) - (dx + dy) / 2)
    return longest
