"""The chunks of a zarr array: one file each, read once, held against what the metadata promise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen

from gen_core.errors import DataError
from gen_hyperspectral.containers.zarr.codecs import unpacked, without_checksum
from gen_hyperspectral.cubes.chunked import Index, Pieces
from gen_hyperspectral.cubes.layout import one_line
from gen_hyperspectral.cubes.limits import (
    DEFLATE_LIMIT,
    SPARE,
    check_array,
    check_pieces,
    check_promise,
    check_ratio,
    needed,
)


@frozen(eq=False)
class ZarrArray(Pieces):
    """One array. codec: how its chunks are packed, "" for not; order: axes of a chunk as they lie in its file."""

    path: Path  # folder of the array
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    dtype: np.dtype
    fill: Any
    codec: str
    settings: dict[str, Any]
    order: tuple[int, ...]
    checksum: bool  # four more bytes at the end of each chunk
    prefix: str  # of the names of chunk files
    separator: str
    attributes: dict[str, Any]
    dimensions: tuple[Any, ...]

    def file(self, index: Index) -> Path:
        return self.path / (self.prefix + self.separator.join(map(str, index)))

    def check(self) -> None:
        """Hold the promise of the metadata against the chunk files. Raises: DataError."""
        what = "key 'shape'"
        need = check_array(self.path, what, self.shape, self.dtype)
        check_pieces(self.path, what, self.shape, self.chunk)
        held = sum(
            p.stat().st_size for p in self.path.rglob("*") if p.is_file() and not p.name.startswith((".z", "zarr"))
        )
        check_promise(self.path, what, need, held, packed=True, spare=SPARE if held else 0)
        check_ratio(self.path, what, max(need, math.prod(self.chunk) * self.dtype.itemsize), held)

    @contextmanager
    def opened(self) -> Iterator[Callable[[Index], np.ndarray]]:
        size = math.prod(self.chunk) * self.dtype.itemsize
        if self.codec not in ("", "gzip", "zlib"):
            needed("numcodecs", self.path)

        def load(index: Index) -> np.ndarray:
            file = self.file(index)
            try:
                if not file.exists():  # never written: all of it is the fill value
                    return np.broadcast_to(np.asarray(self.fill, self.dtype), self.chunk)
                if not file.is_file():  # a pipe or a device has no end
                    raise ValueError("no plain file")
                held = file.stat().st_size
                if size > held * DEFLATE_LIMIT + SPARE or held > 2 * size + SPARE:
                    raise ValueError(f"{held} bytes for a chunk of {size}: damaged")
                data = file.read_bytes()
                if self.checksum:
                    data = without_checksum(data)
                data = unpacked(self.codec, data, size)
                if len(data) != size:
                    raise ValueError(f"{len(data)} bytes in a chunk of {size}: damaged or cut off")
            except (OSError, ValueError, RuntimeError, TypeError, ArithmeticError) as error:
                raise DataError(f"{file}: {one_line(error)}") from None
            stored = np.frombuffer(data, self.dtype).reshape([self.chunk[a] for a in self.order])
            return stored.transpose(np.argsort(self.order))

        yield load
