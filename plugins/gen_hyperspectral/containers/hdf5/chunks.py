"""The chunks of an HDF5 array: read where the library says that they lie, and unpacked here by several threads.

None unpacks beyond its promised size; other filters than gzip, shuffle and fletcher32 are left to the HDF5 library,
chunk by chunk in its process.
Source: The HDF Group, "HDF5 File Format Specification", version 3.0, IV.A.2.l (filter pipeline).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from attrs import frozen

from gen_core.errors import DataError
from gen_hyperspectral.containers.hdf5 import library as hdf5_library
from gen_hyperspectral.containers.hdf5.library import reading
from gen_hyperspectral.containers.hdf5.questions import NEVER
from gen_hyperspectral.cubes.chunked import Index, Pieces
from gen_hyperspectral.cubes.inflate import inflate
from gen_hyperspectral.cubes.layout import one_line

DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3
OURS = {DEFLATE, SHUFFLE, FLETCHER32}
CHECKSUM_BYTES = 4  # of fletcher32, behind the data
SLOWEST = 20 << 20  # bytes that any filter unpacks in a second


@frozen(eq=False)
class Hdf5Chunks(Pieces):
    """The chunks of one array. filters: codes in the order they were applied."""

    path: Path
    name: str
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    dtype: np.dtype
    filters: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of an unpacked chunk."""
        return math.prod(self.chunk) * self.dtype.itemsize

    @contextmanager
    def opened(self) -> Iterator[Callable[[Index], np.ndarray]]:
        with reading(self.path), self.path.open("rb", buffering=0) as file:
            load = self._loader(file.fileno(), hdf5_library.library.series())
            yield lambda index: self._told(index, load)

    def _told(self, index: Index, load: Callable[[Index], np.ndarray]) -> np.ndarray:
        try:
            return load(index)
        except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
            start = [i * c for i, c in zip(index, self.chunk)]
            raise DataError(f"{self.path}: '{one_line(self.name)}', chunk at {start}: {one_line(error)}") from None

    def _loader(self, fd: int, series: int) -> Callable[[Index], np.ndarray]:
        """Reads chunks of the open file where they lie."""
        places, end = self._places(series), os.fstat(fd).st_size
        # a checksum is only left unlooked at where deflate's own stands for it
        ours = set(self.filters) <= {DEFLATE, SHUFFLE} or DEFLATE in self.filters and set(self.filters) <= OURS
        # what is packed grows by deflate's blocks and a checksum at most; more is not read, and told when unpacked
        most = self.nbytes + self.nbytes // 64 + 4096
        blank = np.broadcast_to(places.fill, self.chunk)

        def load(index: Index) -> np.ndarray:
            offset, size = int(places.offsets[index]), int(places.sizes[index])
            if offset == NEVER:
                return blank
            if offset + size > end:
                raise ValueError(f"{size} bytes at {offset} of a file of {end}: damaged or cut off")
            if not ours:
                return self._by_library(index, series)
            return self._unpacked(_stored(fd, offset, min(size, most)), int(places.skipped[index]))

        return load

    def _places(self, series: int) -> Places:
        grid = [-(-n // c) for n, c in zip(self.shape, self.chunk)]
        words = {"name": self.name, "chunk": list(self.chunk), "grid": grid}
        answer = hdf5_library.library.ask("places", self.path, series, hdf5_library.SECONDS, **words)
        offsets, sizes, skipped = np.frombuffer(answer.values, np.uint64).reshape(3, *grid)
        return Places(offsets, sizes, skipped, np.frombuffer(bytes.fromhex(answer.told["fill"]), self.dtype)[0])

    def _by_library(self, index: Index, series: int) -> np.ndarray:
        start = [i * c for i, c in zip(index, self.chunk)]
        stop = [min(s + c, n) for s, c, n in zip(start, self.chunk, self.shape)]
        seconds, room = hdf5_library.SECONDS + self.nbytes / SLOWEST, 4 * self.nbytes
        words = {"name": self.name, "start": start, "stop": stop}
        answer = hdf5_library.library.ask("piece", self.path, series, seconds, room, **words)
        return np.frombuffer(answer.values, self.dtype).reshape([b - a for a, b in zip(start, stop)])

    def _unpacked(self, data: bytes | np.ndarray, skipped: int) -> np.ndarray:
        """A chunk out of its stored bytes. skipped: a bit for each filter that was left out."""
        applied = [f for i, f in enumerate(self.filters) if not skipped >> i & 1]
        for code in reversed(applied):
            if code == FLETCHER32:
                data = data[:-CHECKSUM_BYTES]
            elif code == DEFLATE:
                inner = CHECKSUM_BYTES if FLETCHER32 in applied[: applied.index(DEFLATE)] else 0
                data = inflate(data, self.nbytes + inner)
            else:
                data = _unshuffled(data, self.dtype.itemsize)
        if len(data) != self.nbytes:
            raise ValueError(f"{len(data)} bytes in a chunk of {self.nbytes}: damaged")
        return np.frombuffer(data, self.dtype).reshape(self.chunk)


@frozen(eq=False)
class Places:
    """Where chunks lie: offset (NEVER: not written), stored bytes and filters left out, over the grid of chunks."""

    offsets: np.ndarray
    sizes: np.ndarray
    skipped: np.ndarray
    fill: np.generic


def _stored(fd: int, offset: int, size: int) -> bytes:
    """Bytes of a file, at a place of their own: threads do not wait for each other."""
    data = os.pread(fd, size, offset)
    while len(data) < size:
        part = os.pread(fd, size - len(data), offset + len(data))
        if not part:
            raise ValueError(f"{len(data)} of {size} bytes at {offset}: cut off")
        data += part
    return data


def _unshuffled(data: bytes | np.ndarray, itemsize: int) -> bytes | np.ndarray:
    """Bytes that were sorted by their place in a value, back in their values."""
    if itemsize == 1:
        return data
    if len(data) % itemsize:
        raise ValueError(f"{len(data)} bytes in values of {itemsize}: damaged")
    planes = np.frombuffer(data, np.uint8).reshape(itemsize, -1)
    out = np.empty(planes.shape[::-1], np.uint8)
    for place in range(itemsize):
        out[:, place] = planes[place]
    return out.reshape(-1)
