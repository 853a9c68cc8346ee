"""Volumes as NIfTI-1 in RAS mm, masks as uint8 files beside them, and a JSON sidecar with provenance.

Arrays come as (z, y, x); a file holds (i, j, k) = (x, y, z). The same volume gives the same bytes.
Source: NIfTI-1.1 standard, nifti1.h (nifti.nimh.nih.gov).
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from gen_core import atomic
from gen_core.errors import DataError
from gen_core.volume import VolumeSpec
from gen_core.writer import Writer
from gen_radiology.writer_options import NiftiWriter as Options
from gen_radiology.writers.synthetic_marks import centred_affine, derivation, distinct_parts, sentence

ALIGNED = 2  # qform_code, sform_code: aligned to something else, not this scanner's own coordinates
PACKING = 4  # of gzip: on a CT five times as fast as 6, and 4 % larger
LEVELS = 65534  # steps of int16 that are used: one code less than there are keeps rounding inside


def build(options: Options, context: Any = None) -> Writer:
    """The writer of NIfTI files."""
    return NiftiFiles(options)


class NiftiFiles(Writer):
    """`stem.nii.gz` (`stem-CHANNEL.nii.gz` of several channels), `stem-mask-NAME.nii.gz`, `stem.json`."""

    def __init__(self, options: Options):
        self.options = options

    def write(
        self,
        stem: Path,
        volume: np.ndarray,
        spec: VolumeSpec,
        info: dict[str, Any],
        masks: dict[str, np.ndarray] | None = None,
    ) -> list[Path]:
        """See Writer. Geometry: `spec.spacing_mm`, axes along the patient's, the middle at 0."""
        affine, says = centred_affine(spec), sentence(info)
        names = [""] if len(volume) == 1 else [f"-{p}" for p in distinct_parts(list(spec.channels)).values()]
        images = [stem.with_name(f"{stem.name}{name}.nii.gz") for name in names]
        for path, channel in zip(images, volume):
            write_volume(path, channel, affine, says, self.options.dtype)
        full = {n: np.broadcast_to(m, volume.shape[1:]) for n, m in (masks or {}).items()}
        beside, described = write_masks(stem, full, affine, says, self.options.masks == "labels")
        sidecar = stem.with_name(stem.name + ".json")
        facts: dict[str, Any] = {
            "description": derivation(info) if info.get("synthetic") else says,
            "synthetic": bool(info.get("synthetic", False)),
            "images": [p.name for p in images],
            "channels": list(spec.channels),
            "units": spec.units,
            "depth": spec.depth,
            "spacing_mm": list(spec.spacing_mm) if spec.spacing_mm else None,  # z, y, x
        }
        if spec.wavelength_nm is not None:
            facts["wavelength_nm"] = [float(w) for w in spec.wavelength_nm]
        atomic.write_json(sidecar, {**facts, "masks": described, "info": info})
        return [*images, *beside, sidecar]


def write_volume(path: Path, array: np.ndarray, affine: np.ndarray, says: str, dtype: str = "float32") -> None:
    """One volume (z, y, x), atomically. affine: (4, 4) from (z, y, x) to LPS mm. says: at most 79 ASCII characters.

    dtype: "float32", "int16" with slope and intercept (within half a slope), or "uint8" as it is.
    Raises: DataError naming the file.
    """
    slope, inter = quantization(array, path) if dtype == "int16" else (1.0, 0.0)
    head = header(array.shape, affine, says, dtype, slope, inter, path)
    with atomic.replacing(path) as beside, beside.open("wb") as file:
        # neither name nor time in the gzip header: the same volume gives the same bytes
        with gzip.GzipFile("", "wb", PACKING, file, mtime=0) as out:
            out.write(head)
            for part in array:  # C order of (z, y, x) is the file's order: x runs fastest
                out.write(_stored(part, dtype, slope, inter).tobytes())


def _stored(part: np.ndarray, dtype: str, slope: float, inter: float) -> np.ndarray:
    if dtype != "int16":
        return np.ascontiguousarray(part, "<f4" if dtype == "float32" else "u1")
    return np.rint((part.astype(np.float64) - inter) / slope).astype("<i2")


def quantization(array: np.ndarray, path: Path) -> tuple[float, float]:
    """Slope and intercept, exact in float32, that put the range of `array` into int16. Raises: DataError."""
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        raise DataError(f"{path}: holds values that are not finite, which int16 cannot say: dtype = 'float32'")
    if -32768 <= low and high <= 32767 and all((part == np.rint(part)).all() for part in array):
        return 1.0, 0.0
    inter = float(np.float32((low + high) / 2))
    # never finer than float32 tells values apart
    step = max((high - low) / LEVELS, max(abs(low), abs(high)) * 2.0**-23, 1e-30)
    return float(np.nextafter(np.float32(step), np.float32(np.inf))), inter


def header(
    shape: tuple[int, ...], affine: np.ndarray, says: str, dtype: str, slope: float, inter: float, path: Path
) -> bytes:
    """The 352 bytes before the values of a (z, y, x) array. Raises: DataError for what NIfTI-1 cannot hold."""
    import nibabel

    head = nibabel.Nifti1Header(endianness="<")
    ras = ras_affine(affine)
    try:
        head.set_data_shape(shape[::-1])
        head.set_data_dtype(np.dtype(dtype))
        head.set_qform(ras, code=ALIGNED)
        head.set_sform(ras, code=ALIGNED)
    except (nibabel.spatialimages.HeaderDataError, np.linalg.LinAlgError) as error:
        raise DataError(f"{path}: cannot be written as NIfTI-1: {error}") from error
    head.set_xyzt_units("mm", "unknown")
    head["magic"], head["vox_offset"] = b"n+1", 352
    head["scl_slope"], head["scl_inter"] = slope, inter
    head["descrip"] = says.encode("ascii", "replace")
    return head.binaryblock + bytes(4)  # no extensions


def ras_affine(affine: np.ndarray) -> np.ndarray:
    """(z, y, x) -> LPS mm into (x, y, z) -> RAS mm."""
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine[:, [2, 1, 0, 3]] + 0.0


def write_masks(
    stem: Path, masks: dict[str, np.ndarray], affine: np.ndarray, says: str, labels: bool = False
) -> tuple[list[Path], dict[str, Any]]:
    """Masks (z, y, x) bool beside `stem`: the files, and name -> {file, label, voxels}.

    labels: one file of values 1, 2, ... where no two overlap and there are at most 255; else a file a mask.
    """
    if not masks:
        return [], {}
    parts = distinct_parts(list(masks))
    count = {name: int(np.count_nonzero(mask)) for name, mask in masks.items()}
    if labels and len(masks) < 256:
        together = np.zeros(next(iter(masks.values())).shape, np.uint8)
        for value, mask in enumerate(masks.values(), 1):
            together[mask] = value
        if all(np.count_nonzero(together == k) == n for k, n in enumerate(count.values(), 1)):
            path = stem.with_name(f"{stem.name}-labels.nii.gz")
            write_volume(path, together, affine, says, "uint8")
            rows = {n: {"file": path.name, "label": k, "voxels": count[n]} for k, n in enumerate(masks, 1)}
            return [path], rows
    files, rows = [], {}
    for name, mask in masks.items():
        path = stem.with_name(f"{stem.name}-mask-{parts[name]}.nii.gz")
        write_volume(path, mask, affine, says, "uint8")
        files.append(path)
        rows[name] = {"file": path.name, "label": 1, "voxels": count[name]}
    return files, rows
