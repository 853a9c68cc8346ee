"""The files below a folder, and which DICOM objects are images: names and suffixes say nothing and are not asked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from gen_core.errors import DataError
from gen_radiology.dicom.header import Header

RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # segments; label map
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
PLACED = ("CT", "MR", "PT")  # modalities whose images must have a place in the patient
NO_IMAGES = {
    "1.2.840.10008.1.3.10": "DICOMDIR, an index of files",
    "1.2.840.10008.5.1.4.1.1.481.2": "RTDOSE: a dose, no image",
    "1.2.840.10008.5.1.4.1.1.66.1": "spatial registration, no image",
    "1.2.840.10008.5.1.4.1.1.66": "raw data, no image",
    "1.2.840.10008.5.1.4.1.1.4.2": "spectroscopy, no image",
}


def walk(root: Path) -> Iterator[Path]:
    """Regular files below a folder (or the file itself), sorted; links are followed once, hidden ones left out.

    Raises: DataError for a folder that cannot be read.
    """
    if not root.is_dir():
        if root.is_file():
            yield root
        return
    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, onerror=_unreadable, followlinks=True):
        where = os.stat(folder)
        if (where.st_dev, where.st_ino) in seen:
            folders.clear()
            continue
        seen.add((where.st_dev, where.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        for name in sorted(files):
            path = Path(folder, name)
            if not name.startswith(".") and path.is_file():  # pipes and sockets would hang
                yield path


def _unreadable(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be read: {error.strerror}")


def why_no_image(header: Header) -> str:
    """Why an object is no image to stack although nothing need be wrong with it, "" if it is one."""
    sop = header.text("SOPClassUID")
    if sop in NO_IMAGES:
        return NO_IMAGES[sop]
    kind = header.text("Modality")[:16] or "object"
    if header.pixels is None and header.numbers("Rows") is None:
        return f"damaged: {header.damage}" if header.damage else f"{kind}: no pixel data"
    if "LOCALIZER" in header.text("ImageType").upper().split("\\"):
        return "localizer"
    if header.number("SamplesPerPixel", 1) != 1:
        return f"{kind}: colour, {header.number('SamplesPerPixel'):g} samples a pixel"
    if header.enhanced:
        return ""
    if header.raw("NumberOfFrames").strip(b" \0") not in (b"", b"1"):
        return f"{kind}: several frames without places"
    screenshot = kind not in PLACED or sop.startswith(SECONDARY_CAPTURE)
    return f"{kind}: no place in the patient" if screenshot and not header.raw("ImagePositionPatient") else ""
