"""The patient in a CT: a body mask without table, blankets and mattress, by threshold, shape and connection.

All of it runs on blocks of about 2.5 mm, axes turned so that z runs to the head, y to the back and x to the left, and
is brought back to voxels at the end, where the threshold of -500 HU is asked once more at the surface.

1. Air around the patient: pieces of a slice below -500 HU that reach the edge of the image and are empty (mean below
   -930 HU). A lung that the edge cuts is denser, so it stays, and a crop inside of the chest is all patient.
2. What is left, with the lungs, is opened by an octagon of 7 mm in the slice: a plate of less than 14 mm goes, and so
   do thin bridges to it. Lungs are in, so that the chest wall is no thin plate itself.
3. The largest piece is the patient, others of 5 % of it or more too (arms), unless four times as wide as thick or
   mostly foam. Small rests at the surface come back; holes of each slice are filled.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

TISSUE_HU = -500.0  # between lung (-950..-700) and everything solid or liquid
GAS_HU = -960.0  # inside of the body: bowel, stomach and trachea are emptier than any lung
ROOM_HU = -930.0  # at the edge of the image: the air around the patient, with its noise
BLOCK_MM = 2.5
PLATE_MM = 7.0  # half the thickness of what is a table rather than a patient
RESIDUE_MM2 = 300.0  # of a slice: what an opening takes from the edge of a body; more is something attached
BODY_ML = 10.0  # less is no patient
CROSS, SQUARE, COLUMN = (np.zeros((3, 3, 3), bool) for _ in range(3))  # within a slice; in turn they make an octagon
CROSS[1, 1, :] = CROSS[1, :, 1] = SQUARE[1] = COLUMN[1, :, 1] = True  # COLUMN where blocks are too wide for more
for _shape in (CROSS, SQUARE, COLUMN):
    _shape.flags.writeable = False


def blocks(hu: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Means over blocks of factor (z, y, x) voxels, then clipped to -1000..400 HU (padding is air).

    Clipped last: noise about -1000 would rise otherwise, towards a lung. What is over at the end of an axis makes a
    smaller block.
    """
    starts = [np.arange(0, n, f) for n, f in zip(hu.shape, factor)]
    counts = [np.diff([*s, n]) for s, n in zip(starts, hu.shape)]
    out = np.empty([len(s) for s in starts], np.float32)
    for k, (start, count) in enumerate(zip(starts[0], counts[0])):
        slab = np.nan_to_num(hu[start : start + count].astype(np.float32), nan=-1000.0).clip(-2048.0, 3000.0).mean(0)
        slab = np.add.reduceat(np.add.reduceat(slab, starts[1], axis=0), starts[2], axis=1)
        out[k] = slab / (counts[1][:, None] * counts[2])
    return out.clip(-1000.0, 400.0)


def refine(
    out: np.ndarray,
    coarse: np.ndarray,
    hu: np.ndarray,
    factor: np.ndarray,
    belongs: Callable[[np.ndarray], np.ndarray],
    may: np.ndarray,
) -> None:
    """Blocks to voxels: the inner blocks as they are, at the surface the voxels whose HU belong, one block further."""
    from scipy import ndimage

    core = ndimage.binary_erosion(coarse, border_value=1)
    rim = (ndimage.binary_dilation(coarse) & (may | coarse)) & ~core
    for z in range(out.shape[0]):
        planes = (part[z // factor[0]].repeat(factor[1], 0).repeat(factor[2], 1) for part in (core, rim))
        inner, edge = (plane[: out.shape[1], : out.shape[2]] for plane in planes)
        out[z] = inner | (edge & belongs(hu[z]))


def find_body(c: np.ndarray, mm: np.ndarray, notes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """(body, what is solid and none of it), both (z, y, x) bool on blocks."""
    from scipy import ndimage

    air = c < TISSUE_HU
    outside = _room(c, air, mm)
    solid = ~outside & ~(air & _empty_or_thin(c, air, mm))
    rounds = max(1, round(PLATE_MM / mm[1]))
    shapes = [COLUMN if (i + 1) * mm[2] > 2 * PLATE_MM else SQUARE if i % 2 else CROSS for i in range(rounds)]
    core = solid
    for shape in shapes:
        core = ndimage.binary_erosion(core, shape, border_value=1)  # a body that the edge cuts goes on beyond it
    for shape in shapes:
        core = ndimage.binary_dilation(core, shape)
    core &= solid
    labels, n = ndimage.label(core)
    sizes = np.bincount(labels.ravel(), minlength=n + 1)[1:]
    if not n or sizes.max() * mm.prod() < 1000 * BODY_ML:
        notes.append("no patient in view: all air")
        return np.zeros_like(solid), solid
    keep = [i + 1 for i in np.flatnonzero(sizes >= 0.05 * sizes.max())]
    keep = [i for i in keep if sizes[i - 1] == sizes.max() or not _is_table(labels == i, c, mm)]
    body = np.isin(labels, keep)
    rest, n = ndimage.label(solid & ~body, CROSS)
    small = np.bincount(rest.ravel(), minlength=n + 1) * mm[1] * mm[2] < RESIDUE_MM2
    small[0] = False
    near = ndimage.binary_dilation(body, CROSS)
    touching = np.zeros(n + 1, bool)
    touching[np.unique(rest[near])] = True
    body |= (small & touching)[rest]
    for plane in body:
        plane |= ndimage.binary_fill_holes(plane)
    dropped = solid & ~body
    if dropped.sum() > 0.005 * body.sum():
        notes.append("table and what else lies outside of the body taken out")
    if body[:, :, [0, -1]].mean() > 0.2 or body[:, [0, -1]].mean() > 0.2:
        notes.append("the body is cut by the edge of the image")
    return body, dropped


def _room(c: np.ndarray, air: np.ndarray, mm: np.ndarray) -> np.ndarray:
    """Air around the patient: pieces of a slice that reach its edge and are empty; a lung that is cut there is not."""
    from scipy import ndimage

    labels, n = ndimage.label(air, CROSS)
    edge = np.zeros(n + 1, bool)
    for side in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
        edge[np.unique(side)] = True
    edge[0] = False
    count = np.bincount(labels.ravel(), minlength=n + 1)
    mean = np.bincount(labels.ravel(), c.ravel(), minlength=n + 1) / np.maximum(count, 1)
    return (edge & ((mean < ROOM_HU) | (count * mm[1] * mm[2] < 500.0)))[labels]


def _empty_or_thin(c: np.ndarray, air: np.ndarray, mm: np.ndarray) -> np.ndarray:
    """Pieces of a slice of air that are no lung: gas, slits under the patient, and the flat core of a table."""
    from scipy import ndimage

    labels, n = ndimage.label(air, CROSS)
    inner = ndimage.binary_erosion(air, CROSS, border_value=1)
    count = np.bincount(labels[inner], minlength=n + 1)
    mean = np.bincount(labels[inner], c[inner], minlength=n + 1) / np.maximum(count, 1)
    no_lung = (count == 0) | (mean < GAS_HU)
    for i, where in enumerate(ndimage.find_objects(labels), 1):
        width = (where[2].stop - where[2].start) * mm[2]
        if width > 100.0 and not no_lung[i]:
            thick = (labels[where] == i).sum() * mm[1] * mm[2] / width
            no_lung[i] = width > 4 * thick and thick < 45.0
    no_lung[0] = False
    return no_lung[labels]


def _is_table(piece: np.ndarray, c: np.ndarray, mm: np.ndarray) -> bool:
    """A piece apart from the body that is four times as wide as thick, or more foam than tissue."""
    slices = piece[piece.any((1, 2))]
    width = slices.any(1).sum(1).mean() * mm[2]
    thick = slices.sum() * mm[1] * mm[2] / (len(slices) * width)
    return bool(width > 4 * thick or (c[piece] > TISSUE_HU).mean() < 0.5)
