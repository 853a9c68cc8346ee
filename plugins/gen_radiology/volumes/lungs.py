"""The lungs in a CT by threshold, connection and filling, left and right apart, on any field of view.

Needs HU and mm, and no weights. Masks come back on the image's own grid, whatever the axes of the stack.

1. Air in the body (`ct_body`) below -500 HU, without the trachea: round tubes near the midline that go on for 2 cm,
   and what is as empty next to them.
2. Pieces in 3-D; those emptier than any lung (mean below -960 HU) are gas in bowel or stomach. The largest and one
   beside it, of 15 % or more, are the lungs. Where there is only one it is worn down until it parts in two that lie
   side by side, and every block goes to the nearer; what does not part is one lung.
3. Vessels and nodules are closed over 5 mm, holes of each slice are filled.

Source: thresholding, connected components and filling as in Hu, Hoffman, Reinhardt, IEEE Trans. Med. Imaging
20:490-498 (2001); the left and right parted by erosion as there, without its search for the junction line.
"""

from __future__ import annotations

import numpy as np
from attrs import Factory, define

from gen_core.errors import DataError
from gen_radiology.volumes.ct_body import BLOCK_MM, CROSS, GAS_HU, ROOM_HU, TISSUE_HU, blocks, find_body, refine
from gen_radiology.volumes.image import Image
from gen_radiology.volumes.resample import oriented, oriented_affine

LUNG_ML = 10.0  # less is no lung
BRONCHI_ML = 40.0  # both main bronchi hold less


@define(eq=False)
class Lungs:
    """body, left, right: (z, y, x) bool on the image's grid, left and right of the patient. notes: what was odd."""

    body: np.ndarray
    left: np.ndarray
    right: np.ndarray
    notes: list[str] = Factory(list)

    @property
    def both(self) -> np.ndarray:
        return self.left | self.right


def find_lungs(image: Image) -> Lungs:
    """Body without table, and both lungs with their vessels and nodules, of a CT of any field of view.

    Nothing odd raises: no patient, no lung, one lung, lungs that touch or are cut: the masks hold what there is, empty
    where there is nothing, and a note says so. Raises: DataError where the image is no CT in HU.
    """
    if image.modality not in ("", "CT"):
        raise DataError(f"{image.id}: lungs are found in CT (HU), not in {image.modality}")
    hu = oriented(image.array, image.affine)
    _, affine = oriented_affine(image.array.shape, image.affine)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    factor = np.maximum(1, (BLOCK_MM / spacing + 0.01).astype(int))
    coarse, mm = blocks(hu, factor), spacing * factor
    notes: list[str] = []
    body, dropped = find_body(coarse, mm, notes)
    left, right = _lungs(coarse, body, mm, notes)
    found = [np.zeros(image.array.shape, bool) for _ in range(3)]
    views = [oriented(mask, image.affine) for mask in found]
    refine(views[0], body, hu, factor, lambda block: block > TISSUE_HU, ~dropped)
    for view, lung in zip(views[1:], (left, right)):
        if lung.any():
            other = right if lung is left else left
            refine(view, lung, hu, factor, lambda block: block < TISSUE_HU, body & ~other)
    return Lungs(*found, [f"{image.id}: {note}" for note in notes])


def body_mask(image: Image) -> tuple[np.ndarray, list[str]]:
    """(z, y, x) bool: the patient with all cavities, without table, blankets and what else lies about; and notes."""
    lungs = find_lungs(image)
    return lungs.body, [note for note in lungs.notes if "lung" not in note.split(": ", 1)[-1]]


def without_table(image: Image, body: np.ndarray, air: float = -1000.0) -> np.ndarray:
    """(z, y, x) float32 HU: everything outside of `body` is `air`."""
    return np.where(body, image.array, np.float32(air))


def _lungs(c: np.ndarray, body: np.ndarray, mm: np.ndarray, notes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """(left, right) on blocks, filled."""
    from scipy import ndimage

    none = np.zeros_like(body)
    if not body.any():
        notes.append("no lung in view")
        return none, none.copy()
    air = body & (c < TISSUE_HU)
    trachea = _trachea(c, air, body, mm)
    labels, n = ndimage.label(air & ~trachea)
    volume = np.bincount(labels.ravel(), minlength=n + 1) * mm.prod() / 1000
    inner = (labels > 0) & ndimage.binary_erosion(air, border_value=1)
    where = np.where(inner, labels, 0)
    count = np.bincount(where.ravel(), minlength=n + 1)
    mean = np.bincount(where.ravel(), c.ravel(), minlength=n + 1) / np.maximum(count, 1)
    gas = (count > 0) & (mean < GAS_HU)
    gas[0] = True
    if np.any(gas[1:] & (volume[1:] >= LUNG_ML)):
        notes.append(f"{volume[1:][gas[1:] & (volume[1:] >= LUNG_ML)].sum():.0f} ml of gas in the body is no lung")
    volume[gas] = 0
    largest = volume.max(initial=0)
    if largest < LUNG_ML:
        notes.append("no lung in view")
        return none, none.copy()
    pieces = [labels == i for i in np.argsort(-volume) if volume[i] >= max(LUNG_ML, 0.05 * largest)]
    left, right = _sides(pieces, body, mm, notes)
    ball = max(1, round(5.0 / mm.max()))
    for lung, other in ((left, right), (right, left)):
        if lung.any():
            wide = np.pad(lung, ball, mode="edge")  # a lung that is cut goes on beyond the cut
            closed = ndimage.binary_closing(wide, iterations=ball)[(slice(ball, -ball),) * 3]
            lung |= closed & body & ~other & ~trachea
            for plane, stop in zip(lung, other):
                plane |= ndimage.binary_fill_holes(plane) & ~stop
    return left, right


def _trachea(c: np.ndarray, air: np.ndarray, body: np.ndarray, mm: np.ndarray) -> np.ndarray:
    """Round tubes of air near the midline that go on for 2 cm along z, and the bronchi as far as they are as empty."""
    from scipy import ndimage

    labels, n = ndimage.label(air, CROSS)
    tube = np.zeros(n + 1, bool)
    across = [np.flatnonzero(plane.any(0)) for plane in body]
    middle = [(x[0] + x[-1]) / 2 if len(x) else 0.0 for x in across]
    for i, where in enumerate(ndimage.find_objects(labels), 1):
        high, wide = (s.stop - s.start for s in where[1:])
        if max(high * mm[1], wide * mm[2]) > 40.0:
            continue
        part = labels[where] == i
        off = abs((where[2].start + where[2].stop - 1) / 2 - middle[where[0].start]) * mm[2]
        area = part.sum() * mm[1] * mm[2]
        tube[i] = off < 30.0 and 30.0 < area < 800.0 and c[where][part].min() < -850.0
    chains, n = ndimage.label(tube[labels])
    long = [False] + [(s[0].stop - s[0].start) * mm[0] >= 20.0 for s in ndimage.find_objects(chains)]
    tube = np.array(long)[chains]
    if not tube.any():
        return tube
    off = np.abs(np.arange(air.shape[2]) - np.array(middle)[:, None]) * mm[2]
    lumen = air & (c < ROOM_HU) & (off < 60.0)[:, None]
    grown = ndimage.binary_propagation(tube, mask=tube | lumen)
    if (grown & ~tube).sum() * mm.prod() < 1000 * BRONCHI_ML:  # more is a lung with emphysema
        tube = air & ndimage.binary_dilation(grown)
    return tube


def _sides(
    pieces: list[np.ndarray], body: np.ndarray, mm: np.ndarray, notes: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """(left, right) from the pieces, the largest first; x rises to the left of the patient."""

    spans = [np.flatnonzero(piece.any((0, 1))) for piece in pieces]
    first, second = pieces[0], None
    for piece, span in zip(pieces[1:], spans[1:]):
        shared = min(span[-1], spans[0][-1]) - max(span[0], spans[0][0]) + 1
        if piece.sum() >= 0.15 * first.sum() and shared < 0.5 * len(span):
            second = piece
            break
    joined = second is None
    if joined:
        first, second = _part(first, mm)
    if second is None:
        across = np.flatnonzero(body.any((0, 1)))
        is_left = np.nonzero(first)[2].mean() > (across[0] + across[-1]) / 2
        notes.append(f"one lung in view, taken as the {'left' if is_left else 'right'} one by its side of the body")
        both = np.logical_or.reduce(pieces)
        return (both, np.zeros_like(both)) if is_left else (np.zeros_like(both), both)
    if joined:
        notes.append("the lungs hang together; parted where they are narrowest")
    if np.nonzero(first)[2].mean() < np.nonzero(second)[2].mean():
        first, second = second, first
    left, right = first.copy(), second.copy()
    centres = [np.nonzero(lung)[2].mean() for lung in (left, right)]
    for piece in pieces:
        if not (piece & (left | right)).any():
            x = np.nonzero(piece)[2].mean()
            side = left if abs(x - centres[0]) < abs(x - centres[1]) else right
            side |= piece
    return left, right


def _part(joined: np.ndarray, mm: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Two lungs that touch: worn down until they part, then every block to the nearer one. One lung stays one."""
    from scipy import ndimage

    worn, total = joined, joined.sum()
    for _ in range(max(1, round(10.0 / mm.max()))):
        worn = ndimage.binary_erosion(worn, border_value=1)
        labels, n = ndimage.label(worn)
        sizes = np.bincount(labels.ravel(), minlength=n + 1)[1:]
        if n < 2:
            continue
        one, two = np.argsort(-sizes)[:2] + 1
        spans = [np.flatnonzero((labels == i).any((0, 1))) for i in (one, two)]
        shared = min(s[-1] for s in spans) - max(s[0] for s in spans) + 1
        if sizes[two - 1] >= 0.1 * total and shared < 0.5 * len(spans[1]):
            seeds = (labels == one) | (labels == two)
            nearest = ndimage.distance_transform_edt(~seeds, mm, return_distances=False, return_indices=True)
            of_one = joined & (labels[tuple(nearest)] == one)
            return of_one, joined & ~of_one
    return joined, None
