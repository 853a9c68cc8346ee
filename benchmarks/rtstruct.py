"""An RTSTRUCT of four regions on 512 x 512 x 134 voxels to masks; the aim is under five seconds.

The file is made here with pydicom: body, two lungs and a tumour with a hole, 670 contours, 255 000 points. Peer: the
usual script, ContourData by pydicom and one polygon after the other by Pillow, pasted by exclusive or. Ours: the same
file through `read_rtstruct` and `structure_masks`, which also hold each contour against the grid.
Run: python benchmarks/rtstruct.py
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image as Picture
from PIL import ImageDraw
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence

sys.path.insert(0, str(Path(__file__).parent))
from harness import compare

from gen_radiology.dicom.rtstruct import read_rtstruct, structure_masks
from gen_radiology.volumes.image import Image

SHAPE = (134, 512, 512)
SPACING, ORIGIN = (2.5, 0.9765625, 0.9765625), (-250.0, -250.0, -300.0)  # z, y, x; x, y, z
# centre (y, x), radii (y, x) in mm, points a contour
REGIONS = {
    "BODY": [((0, 0), (170, 220), 900)],
    "Lung_L": [((-10, 80), (95, 60), 400)],
    "Lung_R": [((-10, -80), (95, 60), 400)],
    "GTV-1": [((20, 70), (28, 24), 120), ((20, 70), (11, 9), 80)],  # the second is the hole
}
FILE = Path(tempfile.gettempdir()) / "gen-benchmark-rtstruct" / "rs.dcm"


def outline(centre: tuple, radii: tuple, points: int, z: float, phase: float) -> np.ndarray:
    """(points, 3) LPS mm: a wobbly ellipse."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    radius = 1 + 0.08 * np.sin(5 * angle + phase) + 0.03 * np.sin(17 * angle - phase)
    x, y = centre[1] + radii[1] * radius * np.cos(angle), centre[0] + radii[0] * radius * np.sin(angle)
    return np.column_stack([x, y, np.full(points, z)])


def file() -> Path:
    """The RTSTRUCT on disk, made once."""
    if FILE.exists():
        return FILE
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3"
    data.Modality = "RTSTRUCT"
    data.StructureSetROISequence, data.ROIContourSequence = Sequence(), Sequence()
    for number, (name, ellipses) in enumerate(REGIONS.items(), 1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, drawn.ReferencedROINumber = number, name, number
        drawn.ContourSequence = Sequence()
        for k in range(SHAPE[0]):
            for ellipse in ellipses:
                item = Dataset()
                points = outline(*ellipse, ORIGIN[2] + k * SPACING[0], 0.05 * k)
                item.ContourGeometricType, item.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
                item.ContourData = [f"{v:.3f}" for v in points.ravel()]
                drawn.ContourSequence.append(item)
        data.StructureSetROISequence.append(roi)
        data.ROIContourSequence.append(drawn)
    FILE.parent.mkdir(exist_ok=True)
    beside = FILE.with_suffix(".part")
    pydicom.dcmwrite(beside, data, enforce_file_format=True)
    beside.rename(FILE)
    return FILE


def image() -> Image:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = np.eye(3)[::-1] * SPACING, ORIGIN
    return Image(np.zeros(SHAPE, np.float32), affine, "scan", "subject")


def plain(path: Path) -> dict[str, np.ndarray]:
    data = pydicom.dcmread(path)
    names = {roi.ROINumber: roi.ROIName for roi in data.StructureSetROISequence}
    masks = {}
    for drawn in data.ROIContourSequence:
        mask = masks[names[drawn.ReferencedROINumber]] = np.zeros(SHAPE, bool)
        for item in drawn.ContourSequence:
            points = np.array(item.ContourData, float).reshape(-1, 3)
            k = round((points[0, 2] - ORIGIN[2]) / SPACING[0])
            picture = Picture.new("1", SHAPE[:0:-1])
            pixels = (points[:, :2] - ORIGIN[:2]) / SPACING[:0:-1]
            ImageDraw.Draw(picture).polygon([tuple(p) for p in pixels], outline=1, fill=1)
            mask[k] ^= np.array(picture)
    return masks


def ours(path: Path) -> dict[str, np.ndarray]:
    found = structure_masks(read_rtstruct(path), image())
    assert len(found.masks) == len(REGIONS) and not found.notes, found.notes
    return found.masks


def main() -> None:
    path = file()
    compare(
        "rtstruct 512x512x134, 4 regions",
        {"pydicom + Pillow": lambda: plain(path), "ours": lambda: ours(path)},
        rounds=5,
    )


if __name__ == "__main__":
    main()
