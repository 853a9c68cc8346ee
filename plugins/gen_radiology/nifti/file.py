"""NIfTI-1 and NIfTI-2 in one file (.nii, .nii.gz): the header, checked, and the values as they are stored.

The header's promise is held against the file's size before anything is allocated. Where the values lie: the sform,
else the qform, else (with a warning) the voxel sizes around the centre of the volume, x leftwards, as nibabel does.
Source: Cox et al. 2004, NIfTI-1 data format, `nifti1.h`; NIfTI-2, `nifti2.h`.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from attrs import Factory, define

from gen_core.errors import DataError

DTYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
REFUSED = {1: "one bit a voxel", 32: "complex64", 128: "RGB", 1536: "float128", 1792: "complex128", 2304: "RGBA"}
MAGICS = {348: (344, b"n+1\0"), 540: (4, b"n+2\0\r\n\x1a\n")}  # size of the header: where the magic is, and what
UNIT_MM = {1: (1000.0, "metres"), 3: (0.001, "micrometres")}
DEFLATE_LIMIT = 1032  # deflate cannot expand further than this: a larger promise is a lie
UNPACKED = 1 << 30  # bytes that may come out of a file however small: sparse masks pack nearly as tight as zeros
DENSEST = 900  # times, beyond that size
DRAIN = 1 << 28  # bytes beyond the voxels that are read for the sake of the checksum
CHUNK = 1 << 21  # voxels scaled at a time
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@define(eq=False)
class NiftiFile:
    """What a header says, checked. shape: (x, y, z, ...). affine: (4, 4) voxel (i, j, k) to RAS mm."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    plain: bool  # not compressed
    slope: float
    inter: float
    affine: np.ndarray
    warnings: list[str]
    meta: dict[str, Any] = Factory(dict)

    @property
    def scaled(self) -> bool:
        return (self.slope, self.inter) != (1.0, 0.0)

    def mapped(self) -> np.ndarray:
        """(..., z, y, x) as stored, memory-mapped; the file varies fastest along x."""
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape[::-1])

    def values(self, dtype: str | None = None) -> np.ndarray:
        """(..., z, y, x) of dtype (default: as stored), scaled in float64. Raises: DataError where data are cut off."""
        out = np.empty(self.shape[::-1], dtype or self.dtype.newbyteorder("="))
        flat, start = out.reshape(-1), 0
        with np.errstate(over="ignore", invalid="ignore"):  # float64 beyond float32 becomes infinite
            for chunk in self.chunks():
                if self.scaled:
                    chunk = chunk.astype(np.float64) * self.slope + self.inter
                flat[start : start + len(chunk)] = chunk
                start += len(chunk)
        return out

    def chunks(self) -> Iterator[np.ndarray]:
        """The stored voxels in file order."""
        left = math.prod(self.shape)
        try:
            with _opened(self.path, self.plain) as file:
                file.seek(self.offset)
                while left:
                    data = file.read(min(left, CHUNK) * self.dtype.itemsize)
                    if len(data) < min(left, CHUNK) * self.dtype.itemsize:
                        raise DataError(f"{self.path}: the data end {left} voxels too early (cut off?)")
                    yield np.frombuffer(data, self.dtype)
                    left -= min(left, CHUNK)
                if file.read(1):
                    self.warnings.append("there are more bytes than the header says: ignored")
                left_over = DRAIN  # the checksum of a .gz is looked at where it ends
                while not self.plain and left_over > 0 and file.read(CHUNK):
                    left_over -= CHUNK
        except (EOFError, zlib.error, OSError) as error:
            raise DataError(f"{self.path}: cannot be decompressed or read to its end: {error}") from None


def _opened(path: Path, plain: bool):
    return path.open("rb") if plain else gzip.open(path, "rb")


def open_nifti(path: Path) -> NiftiFile:
    """The header of a NIfTI file, checked against the file's size. Raises: DataError naming the file and the field."""
    header, order, plain, size = _header(path)
    get = {name: header[name] for name in header.dtype.names}
    warnings: list[str] = []
    dims = [int(n) for n in get["dim"]]
    if not 1 <= dims[0] <= 7:
        raise DataError(f"{path}: field 'dim[0]' is {dims[0]}, expected 1 to 7 axes")
    shape = tuple(dims[1 : dims[0] + 1])
    if min(shape) < 1:
        raise DataError(f"{path}: field 'dim' is {list(shape)}, every axis needs at least one voxel")
    code = int(get["datatype"])
    if code not in DTYPES:
        what = REFUSED.get(code, "unknown")
        raise DataError(f"{path}: field 'datatype' is {code} ({what}): only real integers and floats can be used")
    dtype = np.dtype(order + DTYPES[code])
    if int(get["bitpix"]) != 8 * dtype.itemsize:
        warnings.append(f"field 'bitpix' is {int(get['bitpix'])}, {dtype.name} has {8 * dtype.itemsize}: ignored")
    offset, least = float(get["vox_offset"]), int(get["sizeof_hdr"]) + 4
    if not 0 <= offset < 2**62:
        raise DataError(f"{path}: field 'vox_offset' is {offset:g}, expected {least} or more")
    if offset < least:
        warnings.append(f"field 'vox_offset' is {offset:g}: {least} taken, where the header ends")
    offset = max(int(get["vox_offset"]), least)
    need, limit = offset + math.prod(shape) * dtype.itemsize, size if plain else size * DEFLATE_LIMIT
    if need > limit:
        packed = "" if plain else " compressed"
        raise DataError(
            f"{path}: {'x'.join(map(str, shape))} voxels of {dtype.name} need {need} bytes, it has {size}{packed}"
        )
    if not plain and need > UNPACKED and need > DENSEST * size:
        raise DataError(f"{path}: unpacks to {need // size} times its {size} bytes: blank or hostile")
    slope, inter = float(get["scl_slope"]), float(get["scl_inter"])
    if slope == 0 or not math.isfinite(slope):  # "if scl_slope is 0, there is no scaling"
        slope, inter = 1.0, 0.0
    if not math.isfinite(inter):
        raise DataError(f"{path}: field 'scl_inter' is {inter}, expected a finite number")
    affine, source, told = _affine(path, header, shape)
    file = NiftiFile(path, shape, dtype, offset, plain, slope, inter, affine, warnings + told)
    file.meta = {
        "format": "NIfTI-2" if least == 544 else "NIfTI-1",
        "stored_dtype": dtype.str if order == ">" else dtype.name,
        "affine_ras": affine.tolist(),
        "affine_from": source,
        "spacing_mm": np.linalg.norm(affine[:3, :3], axis=0).tolist(),
        "axcodes": axis_codes(affine),
        "scl_slope": slope,
        "scl_inter": inter,
        "description": bytes(get["descrip"].item()).decode("latin-1").strip("\0 ")[:80],
    }
    return file


def _header(path: Path) -> tuple[Any, str, bool, int]:
    """The nibabel header, byte order, whether the file is not compressed, and its size in bytes."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            plain = file.read(2) != b"\x1f\x8b"
        with _opened(path, plain) as file:
            head = file.read(540)
    except (EOFError, zlib.error, OSError) as error:
        raise DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    for length, (at, magic) in MAGICS.items():
        for order, name in (("<", "little"), (">", "big")):
            if int.from_bytes(head[:4], name) == length and len(head) >= length:
                if head[at : at + 4] in (b"ni1\0", b"ni2\0"):
                    raise DataError(f"{path}: the header of a pair (.hdr, .img): write it as one .nii file first")
                if head[at : at + len(magic)] != magic:
                    raise DataError(f"{path}: field 'magic' is {head[at : at + 4]!r}, expected {magic[:3].decode()!r}")
                kind = Nifti1Header if length == 348 else Nifti2Header
                return kind(head[:length], order, check=False)._structarr, order, plain, size
    raise DataError(f"{path}: not a NIfTI file (empty, cut off or another format)")


def _affine(path: Path, header: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, str, list[str]]:
    """Voxel (i, j, k) to RAS mm, the field it came from, and warnings. Raises: DataError without a usable one."""
    told: list[str] = []
    found: list[tuple[str, np.ndarray]] = []
    for name, make in (("sform", _sform), ("qform", _qform)):
        if header[f"{name}_code"] > 0:
            matrix = make(header)
            if _usable(matrix):
                found.append((name, matrix))
            else:
                told.append(f"field '{name}' has no usable numbers (not finite or flat): ignored")
    sizes = [abs(float(p)) for p in header["pixdim"][1:4]]
    sizes = [s if i < len(shape) else 1.0 for i, s in enumerate(sizes)]
    if not found:
        scale = np.diag([-sizes[0], sizes[1], sizes[2], 1.0])
        if not _usable(scale):
            raise DataError(f"{path}: field 'pixdim' is {sizes} and there is no usable sform or qform: no voxel size")
        scale[:3, 3] = -scale[:3, :3] @ [(n - 1) / 2 for n in (*shape, 1, 1)[:3]]
        told.append("neither sform nor qform is set: centre at 0, x leftwards assumed; left and right are a guess")
        found.append(("pixdim", scale))
    source, affine = found[0]
    if len(found) == 2 and not np.allclose(found[0][1], found[1][1], atol=0.05 * min(_spacing(affine))):
        told.append("sform and qform differ: the sform is taken")
    spacing = _spacing(affine)
    if any(abs(s - p) > 0.01 * s for s, p in zip(spacing, sizes[: len(shape)])):
        listed = ", ".join(f"{p:g}" for p in sizes)
        told.append(
            f"field 'pixdim' says {listed}, the {source} {', '.join(f'{s:g}' for s in spacing)}: the latter taken"
        )
    unit = int(header["xyzt_units"]) & 7
    if unit in UNIT_MM:
        factor, name = UNIT_MM[unit]
        affine = np.diag([factor] * 3 + [1.0]) @ affine
        told.append(f"field 'xyzt_units' says {name}: converted to mm")
    return affine, source, told


def _spacing(affine: np.ndarray) -> np.ndarray:
    return np.linalg.norm(affine[:3, :3], axis=0)


def _usable(affine: np.ndarray) -> bool:
    """Finite, and no axis of length nought or in the plane of the others."""
    if not np.isfinite(affine).all():
        return False
    spacing = _spacing(affine)
    return bool(1e-6 < spacing.min() and spacing.max() < 1e6 and abs(np.linalg.det(affine[:3, :3] / spacing)) > 1e-3)


def _sform(header: Any) -> np.ndarray:
    return np.array([header["srow_x"], header["srow_y"], header["srow_z"], [0, 0, 0, 1]], np.float64)


def _qform(header: Any) -> np.ndarray:
    """Rotation from the unit quaternion (a, b, c, d), a >= 0 left out in the file, times the voxel sizes; method 2."""
    b, c, d = (float(header[f"quatern_{k}"]) for k in "bcd")
    norm = b * b + c * c + d * d
    if not norm < 1.001:  # no unit quaternion, or NaN
        return np.full((4, 4), np.nan)
    if norm > 1 - 1e-7:  # half a turn, up to the rounding of float32
        b, c, d = (q / math.sqrt(norm) for q in (b, c, d))
    a = math.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    qfac = -1.0 if header["pixdim"][0] < 0 else 1.0
    affine = np.eye(4)
    affine[:3, :3] = rotation * (np.asarray(header["pixdim"][1:4], np.float64) * [1, 1, qfac])
    affine[:3, 3] = [header[f"qoffset_{k}"] for k in "xyz"]
    return affine


def axis_codes(affine: np.ndarray) -> str:
    """The direction each voxel axis points to most, as nibabel names them: "RAS", "LPS", ..."""
    from nibabel.orientations import aff2axcodes

    return "".join(code or "?" for code in aff2axcodes(affine))


def stem_of(path: Path) -> str:
    """The name of a file without .nii or .nii.gz."""
    name = path.name
    for suffix in (".nii.gz", ".nii"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return path.stem
