"""The reader of NIfTI files for `gen data inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gen_core.writer import RawVolume, Reader
from gen_radiology.nifti.file import MAGICS, open_nifti
from gen_radiology.reader_options import NiftiReader as Options

AXES = "xyztuvw"


def build(options: Options, context: Any = None) -> Reader:
    """The reader of NIfTI files."""
    return NiftiFiles()


class NiftiFiles(Reader):
    """Opens .nii and .nii.gz; `version` enters cache keys."""

    version = 1
    cubes = False

    def recognizes(self, path: Path) -> bool:
        try:
            if not path.is_file():
                return False
            if path.name.lower().endswith((".nii", ".nii.gz")):
                return True
            with path.open("rb") as file:
                head = file.read(348)
            return len(head) == 348 and any(head[at:].startswith(magic) for at, magic in MAGICS.values())
        except OSError:
            return False

    def files(self, path: Path) -> list[Path]:
        return [path]

    def open(self, path: Path, **_: Any) -> RawVolume:
        """Axes (x, y, z[, t]) as nibabel has them; memory-mapped where the file is neither packed nor scaled.

        Scaled values are float32 (computed in float64), others as stored. Raises: DataError naming the file.
        """
        file = open_nifti(Path(path))
        array = file.mapped() if file.plain and not file.scaled else file.values("<f4" if file.scaled else None)
        return RawVolume(array.T, AXES[: array.ndim], warnings=file.warnings, meta=file.meta)
