"""Images inside TIFF files: where their strips or tiles lie, and rows of them, unpacked no further than promised.

tifffile finds the images (TIFF, BigTIFF, ImageJ, OME); values that are stored plainly or by deflate are read here,
other compressions by tifffile, which needs imagecodecs for most.
Source: Adobe, "TIFF Revision 6.0", 1992, sections 8, 14 (predictor), 15 (tiles); TIFF technical note 2 (deflate).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen

from gen_core.errors import DataError, GenError
from gen_hyperspectral.cubes.chunked import Index, Pieces
from gen_hyperspectral.cubes.inflate import inflate
from gen_hyperspectral.cubes.layout import one_line
from gen_hyperspectral.cubes.limits import check_array, check_pieces, check_promise, check_ratio, needed

NONE, DEFLATES = 1, (8, 32946, 50013)
HORIZONTAL = 2  # predictor: differences along a row
MOST_PAGES = 100_000
ROWS = 64  # at least so many rows a piece: strips of one row are common
SPARE = 1 << 16  # bytes that a packed strip may be larger than its values


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The tifffile.TiffFile. Raises: DataError naming the file whatever comes of a damaged one."""
    tifffile = needed("tifffile", path)
    log = _Log()
    try:
        # the ways of OME, MMStack and NDTiff to fetch images from other files stay shut: a file could name any
        with log, tifffile.TiffFile(path, _multifile=False, is_mmstack=False, is_ndtiff=False) as tif:
            if int(tif.pages.first.imagelength) < 1 or len(tif.pages) < 1 or log.cut_off:
                raise DataError(f"{path}: damaged TIFF: pages are missing (cut off?)")
            yield tif
    except GenError:
        raise
    except MemoryError:
        raise DataError(f"{path}: damaged TIFF: it asks for more memory than there is") from None
    except Exception as error:  # struct.error, IndexError, ZeroDivisionError, TiffFileError, ...
        raise DataError(f"{path}: damaged or no TIFF: {one_line(error) or type(error).__name__}") from None


class _Log(logging.Handler):
    """What tifffile logs of a file: it passes over pages that are cut off, and tells nobody else."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.cut_off, self._thread = False, threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        ours = record.thread == self._thread
        self.cut_off |= ours and "invalid" in record.getMessage() and "offset" in record.getMessage()

    def __enter__(self) -> _Log:
        logging.getLogger("tifffile").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("tifffile").removeHandler(self)


@frozen(eq=False)
class Plane:
    """One image, or one sample of an image whose samples lie apart: (rows, columns[, samples]).

    segment: rows and columns of a strip or tile; a last strip may have fewer rows. offsets, counts: of the segments,
    row by row of segments.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    segment: tuple[int, int]
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    compression: int
    predictor: int
    tiled: bool
    decode: Callable[..., Any] | None  # of tifffile, for other compressions

    @property
    def layout(self) -> tuple[Any, ...]:
        return self.shape, self.dtype.newbyteorder("="), len(self.shape)

    def rows(self, file: Any, begin: int, end: int) -> np.ndarray:
        """Rows begin..end, whole in width. file: open for reading. Raises: ValueError, OSError."""
        tall, wide = self.segment
        height, width = self.shape[:2]
        across = -(-width // wide)
        out = np.empty((end - begin, *self.shape[1:]), self.dtype.newbyteorder("="))
        for row in range(begin // tall, -(-end // tall)):
            first = row * tall
            low, high = max(begin, first), min(end, first + tall)
            for column in range(across):
                part = self._segment(file, row * across + column, min(tall, height - first))
                x0, x1 = column * wide, min(column * wide + wide, width)
                out[low - begin : high - begin, x0:x1] = part[low - first : high - first, : x1 - x0]
        return out

    def _segment(self, file: Any, number: int, rows: int) -> np.ndarray:
        """A strip or tile as stored; a last strip holds `rows` rows, tiles are whole."""
        tall, wide = self.segment
        file.seek(self.offsets[number])
        data = file.read(self.counts[number])
        if len(data) != self.counts[number]:
            raise ValueError(f"strip {number} is cut off")
        shape = (tall if self.tiled else rows, wide, *self.shape[2:])
        if self.decode is not None:
            array = np.asarray(self.decode(data, number)[0])  # (1, rows, columns, samples)
            return array.reshape(*array.shape[-3:-1], *self.shape[2:])
        size = int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize
        data = inflate(data, size) if self.compression in DEFLATES else data[:size]
        if len(data) < size:
            raise ValueError(f"strip {number} has {len(data)} bytes, expected {size}")
        values = np.frombuffer(data, self.dtype).reshape(shape)
        if self.predictor == HORIZONTAL:
            unsigned = np.dtype(f"u{self.dtype.itemsize}")  # sums wrap around
            values = np.cumsum(values.astype(self.dtype.newbyteorder("=")).view(unsigned), axis=1, dtype=unsigned)
            values = values.view(self.dtype.newbyteorder("="))
        return values


def planes_of(path: Path, page: Any, dtype: np.dtype, keyframe: Any) -> list[Plane]:
    """The planes of one page: one, or one a sample where samples lie apart. Raises: DataError."""
    key, samples = keyframe, int(keyframe.samplesperpixel)
    bits = key.bitspersample
    bits = bits[0] if isinstance(bits, tuple) else bits
    if bits != 8 * dtype.itemsize or dtype.kind not in "buif":
        raise DataError(f"{path}: tag 'BitsPerSample' is {bits}: only whole 8, 16, 32 and 64 bit values are read")
    tall, wide = (key.tilelength, key.tilewidth) if key.is_tiled else (key.rowsperstrip, key.imagewidth)
    tall = min(int(tall), int(key.imagelength)) if not key.is_tiled else int(tall)
    height, width = int(key.imagelength), int(key.imagewidth)
    offsets, counts = tuple(page.dataoffsets), tuple(page.databytecounts)
    apart = samples > 1 and int(key.planarconfig) == 2
    shape = (height, width) if apart or samples == 1 else (height, width, samples)
    check_array(path, "an image", (*shape, max(tall, 1), max(wide, 1)), dtype)
    if int(getattr(key, "imagedepth", 1)) != 1 or min(tall, wide) < 1:
        raise DataError(f"{path}: an image of {key.imagedepth} planes in strips of {tall} rows cannot be read")
    per_plane = -(-height // tall) * -(-width // wide)
    if len(offsets) < per_plane * (samples if apart else 1) or len(counts) < len(offsets):
        raise DataError(f"{path}: {len(offsets)} strips or tiles, {per_plane} expected: damaged or cut off?")
    size = path.stat().st_size
    stored = tall * wide * dtype.itemsize * (1 if apart else samples)
    for offset, count in zip(offsets, counts):
        if offset + count > size or count > 2 * stored + SPARE:
            raise DataError(f"{path}: a strip of {count} bytes at byte {offset}, the file has {size}: damaged?")
    compression, predictor = int(key.compression), int(key.predictor or 1)
    need = height * width * dtype.itemsize * (1 if apart else samples)
    check_promise(path, "an image", need, sum(counts[:per_plane]), packed=compression != NONE)
    check_ratio(path, "a strip or tile", stored, max(counts))
    own = compression == NONE or compression in DEFLATES
    if own and (predictor not in (1, HORIZONTAL) or predictor == HORIZONTAL and compression == NONE):
        raise DataError(f"{path}: tag 'Predictor' is {predictor}: write the images again without it")
    parts = samples if apart else 1
    return [
        Plane(
            path, shape, dtype, (tall, int(wide)),
            offsets[i * per_plane : (i + 1) * per_plane], counts[i * per_plane : (i + 1) * per_plane],
            compression, predictor, bool(key.is_tiled), None if own else key.decode,
        )
        for i in range(parts)
    ]  # fmt: skip


class TiffPieces(Pieces):
    """Planes as bands (band, y, x), or one plane with its samples as bands (y, x, band)."""

    def __init__(self, path: Path, planes: list[Plane]):
        first = planes[0]
        for plane in planes:
            if plane.layout != first.layout:
                raise DataError(
                    f"{plane.path}: an image of {list(plane.shape)} {plane.dtype.name} among images of "
                    f"{list(first.shape)} {first.dtype.name}"
                )
        self.path, self.planes = path, planes
        self.dtype = first.dtype.newbyteorder("=")
        tall = first.segment[0] * -(-ROWS // first.segment[0]) if first.segment[0] < first.shape[0] else ROWS
        if first.compression != NONE and first.segment[0] >= first.shape[0]:
            tall = first.shape[0]  # one strip: all of it or nothing
        tall = min(tall, first.shape[0])
        self.many = len(first.shape) == 2
        self.shape = (len(planes), *first.shape) if self.many else first.shape
        self.chunk = (1, tall, first.shape[1]) if self.many else (tall, *first.shape[1:])
        check_pieces(path, "the images", self.shape, self.chunk)
        need = int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize
        files = {p.path: p.path.stat().st_size for p in planes}
        check_ratio(path, "the stack", need, min(sum(files.values()), sum(sum(p.counts) for p in planes)))

    @contextmanager
    def opened(self) -> Iterator[Callable[[Index], np.ndarray]]:
        def load(index: Index) -> np.ndarray:
            plane = self.planes[index[0] if self.many else 0]
            row = index[1] if self.many else index[0]
            tall = self.chunk[1] if self.many else self.chunk[0]
            try:
                with plane.path.open("rb") as file:
                    rows = plane.rows(file, row * tall, min(row * tall + tall, plane.shape[0]))
            except Exception as error:  # of tifffile's decoders too
                raise DataError(f"{plane.path}: an image cannot be read: {one_line(error)}") from None
            return rows[None] if self.many else rows

        yield load
