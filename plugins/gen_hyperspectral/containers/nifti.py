"""NIfTI files (.nii, .nii.gz) as cubes: slices are bands. A plain file is mapped; a .gz is unpacked once, in order.

By custom i is x, j is y and k the band, as `dataset.axes` can say otherwise. NIfTI knows no wavelengths: they come
from a sidecar. Source: Cox et al. 2004, NIfTI-1 data format, `nifti1.h`; NIfTI-2, `nifti2.h`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen

from gen_core.errors import DataError
from gen_core.writer import RawVolume, Reader
from gen_hyperspectral.cubes.chunked import ChunkedCube, Index, Pieces
from gen_hyperspectral.cubes.facts import Facts, assemble
from gen_hyperspectral.cubes.inflate import GzipStream
from gen_hyperspectral.cubes.limits import check_array, check_pieces, check_promise, check_ratio
from gen_hyperspectral.cubes.wavelengths import find_sidecar
from gen_hyperspectral.reader_options import NiftiCubeReader as Options

DTYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
MAGIC = {348: (344, b"n+1\0"), 540: (4, b"n+2\0\r\n\x1a\n")}  # size of the header: where the magic is, and what
FIELDS = {  # dim, datatype, vox_offset, scl_slope and scl_inter: type and place
    348: (("8h", 40), ("h", 70), ("f", 108), ("2f", 112)),
    540: (("8q", 16), ("h", 12), ("q", 168), ("2d", 176)),
}
SLAB_BYTES = 4 << 20  # at most, unless one step along the slowest axis is larger


def build(options: Options, context: Any = None) -> Reader:
    """The reader of NIfTI cubes."""
    return NiftiCubes(options)


class NiftiCubes(Reader):
    """Opens .nii and .nii.gz as cubes; `version` enters cache keys."""

    version = 1

    def __init__(self, options: Options):
        self.options = options

    def recognizes(self, path: Path) -> bool:
        try:
            return path.is_file() and path.name.lower().endswith((".nii", ".nii.gz"))
        except OSError:
            return False

    def files(self, path: Path) -> list[Path]:
        """The file and its sidecar, if any."""
        sidecar = find_sidecar(path)
        return [path] if sidecar is None else [path, sidecar]

    def open(self, path: Path, **_: Any) -> RawVolume:
        """The cube with axes (y, x, band); scaled values are float32. Raises: DataError naming file and field."""
        head = read_header(path)
        facts = Facts(custom="xyb", sidecar=find_sidecar(path), meta={"format": head.format})
        long = [n for n, size in enumerate(head.shape) if size > 1 or n < 3]
        if len(long) == 4 and head.shape[2] == 1:
            long.remove(2)  # (x, y, 1, band)
        if len(long) > 3:
            raise DataError(f"{path}: field 'dim' is {list(head.shape)}, expected three axes (x, y, band)")
        c_order = tuple(len(head.shape) - 1 - n for n in long)
        if head.plain and not head.scaled:
            stored = np.memmap(path, head.dtype, "r", head.offset, head.shape[::-1])
            rest = tuple(slice(None) if n in c_order else 0 for n in range(stored.ndim))
            array: Any = stored[rest].T
        else:
            array = ChunkedCube(NiftiSlabs(path, head), c_order)
        if head.scaled:
            facts.meta["scl"] = [head.slope, head.inter]
        return assemble(path, array, facts, self.options.axes)


@frozen
class Header:
    """What a header says, checked. shape: (i, j, k, ...)."""

    format: str
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    plain: bool  # not compressed
    slope: float
    inter: float

    @property
    def scaled(self) -> bool:
        return (self.slope, self.inter) != (1.0, 0.0)


def read_header(path: Path) -> Header:
    """Raises: DataError naming the file and the field."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            plain = file.read(2) != b"\x1f\x8b"
            file.seek(0)
            if plain:
                head = file.read(540)
            else:
                room = bytearray(540)
                head = bytes(room[: GzipStream(path, file).readinto(memoryview(room))])
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    length, order = next(
        ((n, o) for n in MAGIC for o in "<>" if len(head) >= n and struct.unpack_from(o + "i", head)[0] == n), (0, "<")
    )
    if not length:
        raise DataError(f"{path}: not a NIfTI file (empty, cut off or another format)")
    at, magic = MAGIC[length]
    if head[at : at + len(magic)] != magic:
        raise DataError(f"{path}: field 'magic' is {head[at : at + 4]!r}, expected {magic[:3]!r}")
    if length == 348:
        dims = struct.unpack_from(order + "8h", head, 40)
        (code,) = struct.unpack_from(order + "h", head, 70)
        (offset,), (slope, inter) = (
            struct.unpack_from(order + "f", head, 108),
            struct.unpack_from(order + "2f", head, 112),
        )
    else:
        dims = struct.unpack_from(order + "8q", head, 16)
        (code,) = struct.unpack_from(order + "h", head, 12)
        (offset,), (slope, inter) = (
            struct.unpack_from(order + "q", head, 168),
            struct.unpack_from(order + "2d", head, 176),
        )
    if not 1 <= dims[0] <= 7:
        raise DataError(f"{path}: field 'dim[0]' is {dims[0]}, expected 1 to 7 axes")
    shape = tuple(dims[1 : dims[0] + 1])
    shape += (1,) * (3 - len(shape))
    if code not in DTYPES:
        raise DataError(f"{path}: field 'datatype' is {code}: only real integers and floats can be used")
    dtype = np.dtype(order + DTYPES[code])
    if not 0 <= offset < 2**62:
        raise DataError(f"{path}: field 'vox_offset' is {offset:g}, expected {length + 4} or more")
    offset = max(int(offset), length + 4)
    need = offset + check_array(path, "field 'dim'", shape, dtype)
    check_promise(path, "field 'dim'", need, size, packed=not plain)
    check_ratio(path, "field 'dim'", need, size)
    if slope == 0 or not math.isfinite(slope):  # "if scl_slope is 0, there is no scaling"
        slope, inter = 1.0, 0.0
    if not math.isfinite(inter):
        raise DataError(f"{path}: field 'scl_inter' is {inter}, expected a finite number")
    return Header(f"NIfTI-{1 if length == 348 else 2}", shape, dtype, offset, plain, slope, inter)


class NiftiSlabs(Pieces):
    """Slabs along the slowest axis, one after another out of one stream."""

    in_order = True

    def __init__(self, path: Path, head: Header):
        self.path, self.head, self.shape = path, head, head.shape[::-1]
        self.dtype = np.dtype("<f4") if head.scaled else head.dtype
        slow = next((n for n, size in enumerate(self.shape) if size > 1), 0)
        step = math.prod(self.shape[slow + 1 :]) * head.dtype.itemsize
        self.slow = slow
        self.chunk = (
            *self.shape[:slow],
            max(1, min(self.shape[slow], SLAB_BYTES // step)),
            *self.shape[slow + 1 :],
        )
        check_pieces(path, "the stream", self.shape, self.chunk)

    @contextmanager
    def opened(self) -> Iterator[Callable[[Index], np.ndarray]]:
        head, tall = self.head, self.chunk[self.slow]
        step = math.prod(self.shape[self.slow + 1 :]) * head.dtype.itemsize
        with self.path.open("rb") as file:
            stream = Plain(self.path, file) if head.plain else GzipStream(self.path, file)
            stream.skip(head.offset)
            next_row = 0

            def load(index: Index) -> np.ndarray:
                nonlocal next_row
                first = index[self.slow] * tall
                last = min(first + tall, self.shape[self.slow])
                assert first >= next_row, "slabs are asked for in order"
                stream.skip((first - next_row) * step)
                data = bytearray((last - first) * step)
                if stream.readinto(memoryview(data)) < len(data):
                    raise DataError(f"{self.path}: its data end too early (cut off?)")
                next_row = last
                if last == self.shape[self.slow] and not head.plain:
                    stream.drain()
                values = np.frombuffer(data, head.dtype)
                if head.scaled:
                    with np.errstate(over="ignore", invalid="ignore"):  # beyond float32: infinite
                        values = (values.astype(np.float64) * head.slope + head.inter).astype("<f4")
                return values.reshape(*self.shape[: self.slow], last - first, *self.shape[self.slow + 1 :])

            yield load


class Plain:
    """An unpacked file as a stream."""

    def __init__(self, path: Path, file: Any):
        self.path, self.file = path, file

    def readinto(self, view: memoryview) -> int:
        return self.file.readinto(view)

    def skip(self, count: int) -> None:
        self.file.seek(count, 1)
