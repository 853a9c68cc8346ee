"""A cube that lies in pieces: chunks of HDF5 and zarr, strips of TIFF, slabs of one .gz stream. Each is unpacked once.

Legend: stored axes are the file's, in C order (the last varies fastest); presented axes are (y, x, band).
Rows of chosen bands are handed out from top to bottom out of strips, where a strip of pieces is small; where pieces
hold whole planes, or a stream runs band by band, the chosen bands are laid out plane by plane first, in memory or, if
they are many, in a nameless temporary file (in TMPDIR) that is mapped.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from gen_core.errors import RunError
from gen_core.mapped import release

STRIP_BYTES = 40 << 20  # a strip of pieces as wide as the cube, chosen bands only
RAM_BYTES = 64 << 20  # chosen bands held in memory; more go to a temporary file
LARGE_PIECE = 32 << 20  # larger pieces are unpacked one after another
HANDFUL_BYTES = 256 << 10  # smaller pieces go to a thread by the handful: passing one costs more than unpacking it
HAND_BACK = 16 << 20  # bytes laid out between two releases of mapped pages

Index = tuple[int, ...]


class Pieces(ABC):
    """The pieces of an array: shape and chunk along the stored axes, and how one is loaded.

    in_order: pieces come out of one stream, and must be asked for in C order.
    """

    path: Path
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    dtype: np.dtype
    in_order: bool = False

    @abstractmethod
    def opened(self) -> AbstractContextManager[Callable[[Index], np.ndarray]]:
        """Gives `load(index) -> piece`, at least as large as what of it lies inside the array; thread-safe.

        Raises: DataError naming the file.
        """


class ChunkedCube:
    """The array of some pieces with axes (y, x, band); read by `select` or by slices of rows."""

    ndim = 3

    def __init__(self, pieces: Pieces, axes: Iterable[int] | None = None):
        """axes: the stored axis of each presented one; stored axes left out have one element."""
        self.pieces = pieces
        self.axes = tuple(range(len(pieces.shape)) if axes is None else axes)
        kept = sorted(self.axes)
        self._order = [kept.index(self.axes[i]) for i in (2, 0, 1)]  # of what a piece holds: band, y, x
        self._all: Any = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.pieces.shape[a] for a in self.axes)

    @property
    def dtype(self) -> np.dtype:
        return self.pieces.dtype

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def transpose(self, order: Iterable[int]) -> ChunkedCube:
        return ChunkedCube(self.pieces, (self.axes[o] for o in order))

    def __getitem__(self, rows: slice) -> np.ndarray:
        """(rows, x, band); going through a cube from top to bottom unpacks each piece once."""
        if not isinstance(rows, slice) or rows.step not in (None, 1):
            raise TypeError("a cube in pieces is sliced by rows")
        if self._all is None:
            self._all = self.select(np.arange(self.shape[2]))
        return self._all[rows]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self[:], dtype or self.dtype.newbyteorder("="))

    def select(self, bands: np.ndarray) -> np.ndarray | Strips:
        """Chosen bands (rising, each once) as (y, x, len(bands)), to be sliced by rows from top to bottom."""
        y, x, _ = self.axes
        pieces, lower = self.pieces, [n for n in self.pieces.shape[: self.axes[0]] if n > 1]
        strip = len(bands) * pieces.chunk[y] * pieces.shape[x] * self.itemsize
        if strip <= STRIP_BYTES and not (pieces.in_order and lower):
            return Strips(self, bands)
        return lay_out(self, bands)

    def wanted(self, bands: np.ndarray, row: int | None = None) -> list[Index]:
        """Places of the pieces that hold some of the bands, in C order; row: only that row of pieces."""
        ranges: list[Iterable[int]] = [range(-(-n // c)) for n, c in zip(self.pieces.shape, self.pieces.chunk)]
        ranges[self.axes[2]] = sorted(set((bands // self.pieces.chunk[self.axes[2]]).tolist()))
        if row is not None:
            ranges[self.axes[0]] = [row]
        return list(itertools.product(*ranges))

    def places(self, bands: np.ndarray) -> dict[int, tuple[slice, slice | np.ndarray]]:
        """Of each row of pieces along the bands: which of the chosen ones it holds, and where in a piece they lie."""
        size, found = self.pieces.chunk[self.axes[2]], {}
        for i in sorted(set((bands // size).tolist())):
            low, high = np.searchsorted(bands, [i * size, (i + 1) * size])
            inside = bands[low:high] - i * size
            together = inside[-1] - inside[0] + 1 == len(inside)
            found[i] = slice(low, high), slice(inside[0], inside[-1] + 1) if together else inside
        return found

    def put(self, out: np.ndarray, piece: np.ndarray, index: Index, places: dict[int, Any], first_row: int = 0) -> int:
        """Copy what a piece holds of the bands into out (len(bands), rows, x); the bytes copied."""
        y, x, b = self.axes
        chunk, (height, width, _) = self.pieces.chunk, self.shape
        top, left = index[y] * chunk[y], index[x] * chunk[x]
        bottom, right = min(top + chunk[y], height), min(left + chunk[x], width)
        targeted, held = places[index[b]]
        cut: list[Any] = [0] * len(index)  # stored axes that are left out have one element
        cut[y], cut[x], cut[b] = slice(0, bottom - top), slice(0, right - left), slice(None)
        part = piece[tuple(cut)].transpose(self._order)[held]
        target = out[targeted, top - first_row : bottom - first_row, left:right]
        target[...] = part
        return target.nbytes


class Strips:
    """Rows of chosen bands from top to bottom; going back begins again."""

    def __init__(self, cube: ChunkedCube, bands: np.ndarray):
        self.cube, self.bands = cube, bands
        self.shape, self.dtype = (*cube.shape[:2], len(bands)), cube.dtype
        self._begin()

    def _begin(self) -> None:
        self._held: deque[tuple[int, np.ndarray]] = deque()  # first row, (K, rows, x)
        self._coming, self._end = _strips(self.cube, self.bands), 0

    def __getitem__(self, rows: slice) -> np.ndarray:
        begin, end, _ = rows.indices(self.shape[0])
        if begin < (self._held[0][0] if self._held else self._end):
            self._begin()
        parts = []
        while self._held and self._held[0][0] + self._held[0][1].shape[1] <= begin:
            self._held.popleft()
        while self._end < end:
            strip = next(self._coming)
            if self._end + strip.shape[1] > begin:
                self._held.append((self._end, strip))
            self._end += strip.shape[1]
        for first, strip in self._held:
            if first < end:
                parts.append(strip[:, max(begin - first, 0) : end - first])
        block = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        return block.transpose(1, 2, 0)


def _strips(cube: ChunkedCube, bands: np.ndarray) -> Iterator[np.ndarray]:
    """Strip after strip (len(bands), rows, x). No method: what is half read is closed with the last reference."""
    tall, height, width = cube.pieces.chunk[cube.axes[0]], cube.shape[0], cube.shape[1]
    rows = range(-(-height // tall))
    order = (index for row in rows for index in cube.wanted(bands, row))
    coming = loaded(cube.pieces, order)
    count, places = len(cube.wanted(bands, 0)), cube.places(bands)
    for row in rows:
        first = row * tall
        strip = np.empty((len(bands), min(tall, height - first), width), cube.dtype)
        for index, piece in itertools.islice(coming, count):
            cube.put(strip, piece, index, places, first)
        if row == rows[-1]:
            next(coming, None)  # to its end: the file is closed
        yield strip


def lay_out(cube: ChunkedCube, bands: np.ndarray) -> np.ndarray:
    """The chosen bands plane by plane, presented as (y, x, len(bands)). Raises: RunError without room for them."""
    out = _room((len(bands), *cube.shape[:2]), cube.dtype, cube.pieces.path)
    done, places = 0, cube.places(bands)
    for index, piece in loaded(cube.pieces, iter(cube.wanted(bands))):
        done += cube.put(out, piece, index, places)
        if done > HAND_BACK:
            release(out)
            done = 0
    release(out)
    return out.transpose(1, 2, 0)


def _room(shape: tuple[int, ...], dtype: np.dtype, path: Path) -> np.ndarray:
    need = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if need <= RAM_BYTES:
        return np.empty(shape, dtype)
    try:
        with tempfile.TemporaryFile(prefix="gen-cube-") as file:
            # asked for whole: a full disk is an error here and would be a crash at the first write to a mapped page
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, need)
            return np.memmap(file, dtype, "r+", 0, shape)
    except OSError as error:
        where = tempfile.gettempdir()
        raise RunError(
            f"{path}: unpacking its bands needs {need} bytes in {where} ({error.strerror or error}); set TMPDIR"
        ) from None


def loaded(pieces: Pieces, wanted: Iterator[Index]) -> Iterator[tuple[Index, np.ndarray]]:
    """The wanted pieces in their order, unpacked a few ahead by threads."""
    size = int(np.prod(pieces.chunk, dtype=np.int64)) * pieces.dtype.itemsize
    with pieces.opened() as load:
        if size > LARGE_PIECE:
            yield from ((index, load(index)) for index in wanted)
            return
        workers = 1 if pieces.in_order else _cores()
        handful = max(1, HANDFUL_BYTES // max(size, 1))
        ahead: deque[Future[list[tuple[Index, np.ndarray]]]] = deque()
        pool = ThreadPoolExecutor(workers, thread_name_prefix="unpack")
        try:
            while some := list(itertools.islice(wanted, handful)):
                ahead.append(pool.submit(lambda some: [(index, load(index)) for index in some], some))
                if len(ahead) > workers + 1:
                    yield from ahead.popleft().result()
            while ahead:
                yield from ahead.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)
