"""numpy .npy and .npz cubes; the size a header promises is checked before anything is read, pickles never are.

Wavelengths come from an array of the .npz (`wavelength_nm`, `wl`, ...) or from a sidecar of the same stem
(JSON, CSV, txt). The array is memory-mapped where the file allows it.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy_format

from gen_core.errors import DataError
from gen_core.writer import RawVolume, Reader
from gen_hyperspectral.cubes.facts import VECTOR_NAMES, Facts, assemble
from gen_hyperspectral.cubes.layout import choose_variable, one_line
from gen_hyperspectral.cubes.limits import DEFLATE_LIMIT, check_ratio
from gen_hyperspectral.cubes.wavelengths import find_sidecar
from gen_hyperspectral.reader_options import NpyReader as Options

MAGIC = b"\x93NUMPY"
LONGEST_AXIS = 1 << 48


def build(options: Options, context: Any = None) -> Reader:
    """The reader of .npy and .npz files."""
    return NpyCubes(options)


class NpyCubes(Reader):
    """Opens .npy and .npz; `version` enters cache keys."""

    version = 1

    def __init__(self, options: Options):
        self.options = options

    def recognizes(self, path: Path) -> bool:
        try:
            if not path.is_file():
                return False
            if path.suffix.lower() in (".npy", ".npz"):
                return True
            with path.open("rb") as file:
                return file.read(6) == MAGIC
        except OSError:
            return False

    def files(self, path: Path) -> list[Path]:
        """The array file and its sidecar, if any."""
        sidecar = find_sidecar(path)
        return [path] if sidecar is None else [path, sidecar]

    def open(self, path: Path, variable: str | None = None, guess: bool = False, **_: Any) -> RawVolume:
        """The cube with axes (y, x, band). variable: which array of an .npz. Raises: DataError."""
        try:
            with path.open("rb") as file:
                magic = file.read(6)
                if magic == MAGIC:
                    file.seek(0)
                    array, extra, warnings, name = _open_npy(path, file), {}, [], None
                elif magic[:2] == b"PK":
                    array, extra, warnings, name = _open_npz(path, variable, guess)
                else:
                    raise DataError(f"{path}: not a numpy file (empty, damaged or another format)")
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
        return self._describe(path, array, extra, warnings, name)

    def _describe(
        self,
        path: Path,
        array: np.ndarray,
        extra: dict[str, np.ndarray],
        warnings: list[str],
        name: str | None,
    ) -> RawVolume:
        meta: dict[str, Any] = {"stored_shape": list(array.shape), **({"variable": name} if name else {})}
        facts = Facts(where="array", warnings=warnings, meta=meta, sidecar=find_sidecar(path), sidecar_first=True)
        facts.heed(extra)
        if array.ndim == 4 and array.shape[0] == 1:
            array, facts.axes = array[0], "byx"  # (C = 1, D, H, W), as volumes are written by some
        if array.ndim == 2:
            array, facts.axes = array[:, :, None], "yxb"
        return assemble(path, array, facts, self.options.axes)


def _header(path: Path, file: BinaryIO, where: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, Fortran order and dtype of the .npy stream; the data follow at file.tell()."""
    try:
        version = npy_format.read_magic(file)
        read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except Exception as error:  # a damaged header raises ValueError, SyntaxError, TokenError, ...
        raise DataError(f"{where}: damaged .npy header: {one_line(error)}") from None
    if dtype.hasobject:
        raise DataError(f"{where}: holds Python objects (a pickle), which is never loaded")
    if dtype.kind not in "buif":
        raise DataError(f"{where}: data type {dtype} is not a real number type")
    if len(shape) > 32 or any(abs(n) > LONGEST_AXIS for n in shape):
        raise DataError(f"{where}: damaged .npy header: {len(shape)} axes, or one longer than any file")
    if any(n <= 0 for n in shape):
        raise DataError(f"{where}: shape {list(shape)} has an empty axis")
    return shape, fortran, dtype


def _open_npy(path: Path, file: BinaryIO) -> np.ndarray:
    shape, fortran, dtype = _header(path, file, str(path))
    offset, size = file.tell(), path.stat().st_size
    need = math.prod(shape) * dtype.itemsize
    if size - offset < need:
        raise DataError(
            f"{path}: header says shape {list(shape)} {dtype} ({need} bytes), {size - offset} bytes follow: truncated?"
        )
    if not shape:
        raise DataError(f"{path}: a single number, expected three axes (y, x, band)")
    return np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C")


def _open_npz(
    path: Path, variable: str | None, guess: bool
) -> tuple[np.ndarray, dict[str, np.ndarray], list[str], str]:
    try:
        with zipfile.ZipFile(path) as archive:
            found = {}
            for info in archive.infolist():
                if not info.filename.endswith(".npy"):
                    continue
                with archive.open(info) as stream:
                    shape, fortran, dtype = _header(path, stream, f"{path}[{one_line(info.filename[:-4])}]")
                    need = math.prod(shape) * dtype.itemsize + stream.tell()
                if need > info.file_size or info.file_size > DEFLATE_LIMIT * max(info.compress_size, 1) + 1024:
                    raise DataError(
                        f"{path}[{one_line(info.filename[:-4])}]: header promises more data than the file holds"
                    )
                found[info.filename[:-4]] = (info, shape, fortran, dtype)
                if info.compress_size > path.stat().st_size:
                    raise DataError(f"{path}[{one_line(info.filename[:-4])}]: its packed size is more than the file")
            cubes = {name: entry[1] for name, entry in found.items() if len(entry[1]) == 3}
            vectors = {name: max(entry[1]) for name, entry in found.items() if _is_vector(entry[1])}
            name, warnings = choose_variable(path, cubes, variable, vectors, guess)
            wanted = [name] + [n for n in vectors if n.lower() in VECTOR_NAMES]
            for n in wanted:
                check_ratio(path, one_line(n), found[n][0].file_size, found[n][0].compress_size)
            loaded = {n: _member(archive, *found[n]) for n in wanted}
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path}: damaged .npz: {one_line(error)}") from None
    except Exception as error:
        if type(error).__module__ == "zlib":
            raise DataError(f"{path}: damaged .npz: {one_line(error)}") from None
        raise
    return loaded.pop(name), loaded, warnings, name


def _is_vector(shape: tuple[int, ...]) -> bool:
    return 0 < len(shape) <= 2 and max(shape) == math.prod(shape)


def _member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, shape: tuple[int, ...], fortran: bool, dtype: np.dtype
) -> np.ndarray:
    """Read one array of the archive straight into its memory."""
    array = np.empty(math.prod(shape), dtype)
    view = memoryview(array).cast("B")
    with archive.open(info) as stream:
        _header(Path(info.filename), stream, info.filename)
        done = 0
        while done < len(view):
            count = stream.readinto(view[done : done + (1 << 20)])
            if not count:
                raise EOFError(f"{info.filename} ends early")
            done += count
    return array.reshape(shape, order="F" if fortran else "C")
