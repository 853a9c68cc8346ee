"""The numeric arrays of an HDF5 file, their attributes, and their values: mapped, or chunk by chunk.

What the library finds in a file is asked of `library`, never found in this process; values that lie in one piece
are mapped here, and chunks read and unpacked here (`chunks`).
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from attrs import define, field, frozen

from gen_core.errors import DataError
from gen_hyperspectral.containers.hdf5 import library as hdf5_library
from gen_hyperspectral.containers.hdf5.chunks import Hdf5Chunks
from gen_hyperspectral.containers.hdf5.questions import VECTOR_VALUES
from gen_hyperspectral.cubes.chunked import ChunkedCube
from gen_hyperspectral.cubes.layout import one_line
from gen_hyperspectral.cubes.limits import SPARE, check_array, check_pieces, check_promise, check_ratio

SIGNATURE = b"\x89HDF\r\n\x1a\n"


@frozen
class Array:
    """An array of the file: shape (None without values), type, and attributes asked for."""

    shape: tuple[int, ...] | None
    dtype: np.dtype
    attributes: dict[str, Any]

    @property
    def size(self) -> int:
        return math.prod(self.shape or ())


@frozen
class Stored:
    """How an array is stored. chunk: None in one piece; offset: of the values, None where they lie in the header.

    held: bytes of all chunks; filters: their codes in the order they were applied; elsewhere: in other files.
    values: where they are few and were told at once.
    """

    chunk: tuple[int, ...] | None
    offset: int | None
    held: int
    filters: tuple[int, ...]
    elsewhere: bool
    attributes: dict[str, Any]
    values: np.ndarray | None


@frozen
class About:
    """Arrays by name, attributes of the groups that were asked for, and the names of the first array's axes."""

    arrays: dict[str, Stored]
    groups: list[dict[str, Any]]
    axes: list[str]


@define
class Hdf5File:
    """Questions to the library, which has so many seconds of the processor for all of them together."""

    path: Path
    seconds: float = field(factory=lambda: hdf5_library.SECONDS)
    series: int = field(factory=hdf5_library.library.series)

    def arrays(self, wanted: Iterable[str] = ()) -> dict[str, Array]:
        """Every data set in the file by its path without leading slash. wanted: names of attributes, lower case."""
        told = self._ask("look", wanted=list(wanted)).told
        return {
            name: Array(None if shape is None else tuple(shape), np.dtype(dtype), _attributes(attributes))
            for name, shape, dtype, attributes in told
        }

    def about(
        self, names: Iterable[str], wanted: Iterable[str] = (), groups: Iterable[str] = (), axes: bool = False
    ) -> About:
        """How arrays are stored, and attributes of them and of groups ("": the root). axes: by a scale, or a label."""
        names = list(names)
        told = self._ask("about", names=names, groups=list(groups), wanted=list(wanted), axes=axes).told
        said = [_attributes(a) for a in told["attributes"]]
        values = [None, *(v and _numbers(v) for v in told["values"])]
        arrays = {
            n: Stored(
                s["chunk"] and tuple(s["chunk"]), s["offset"], s["held"], tuple(s["filters"]), s["elsewhere"], a, v
            )
            for n, s, a, v in zip(names, told["stored"], said, values)
        }
        return About(arrays, said[len(names) :], [str(axis) for axis in told["axes"]])

    def vector(self, name: str, array: Array, stored: Stored) -> np.ndarray:
        """A small array, whole. Raises: DataError."""
        what = f"'{one_line(name)}'"
        need = max(check_array(self.path, what, array.shape or (), array.dtype), _chunk_bytes(array, stored))
        if need > VECTOR_VALUES * 8:
            shape = list(stored.chunk or array.shape or ())
            raise DataError(f"{self.path}: {what} has shape or pieces {shape}, too large for a list of bands")
        self._check_inside(what, stored)
        return (self._whole(name, array) if stored.values is None else stored.values).ravel()

    def cube(self, name: str, array: Array, stored: Stored) -> np.ndarray | ChunkedCube:
        """A 3-D array, mapped where it lies in one piece, else chunk by chunk. Raises: DataError naming the file."""
        path, what, shape = self.path, f"'{one_line(name)}'", array.shape or ()
        need = check_array(path, what, shape, array.dtype)
        self._check_inside(what, stored)
        size = path.stat().st_size
        if stored.chunk is None:
            if stored.offset is not None:
                check_promise(path, what, stored.offset + need, size, packed=False)
                return np.memmap(path, array.dtype, "r", stored.offset, shape)
            check_promise(path, what, need, size, packed=False)
            return self._whole(name, array)  # compact: in the header, 64 KiB at most
        if stored.held > size:
            raise DataError(f"{path}: {what} holds {stored.held} bytes in a file of {size}: damaged or cut off?")
        check_promise(path, what, need, stored.held, packed=bool(stored.filters), spare=SPARE)
        check_pieces(path, what, shape, stored.chunk)
        check_ratio(path, what, max(need, _chunk_bytes(array, stored)), stored.held)
        return ChunkedCube(Hdf5Chunks(path, name, shape, stored.chunk, array.dtype, stored.filters))

    def _check_inside(self, what: str, stored: Stored) -> None:
        """Raises: DataError where the values are to come out of other files, which a file could choose freely."""
        if stored.elsewhere:
            raise DataError(f"{self.path}: {what} keeps its values in other files: copy them into this one (h5repack)")

    def _whole(self, name: str, array: Array) -> np.ndarray:
        answer = self._ask("whole", name=name)
        return np.frombuffer(answer.values, answer.told["type"]).reshape(array.shape or ())

    def _ask(self, do: str, **words: Any) -> hdf5_library.Answer:
        answer = hdf5_library.library.ask(do, self.path, self.series, max(self.seconds, 0.1), **words)
        self.seconds -= answer.seconds
        return answer


def _attributes(told: list[list[Any]]) -> dict[str, Any]:
    """Name -> text or numbers."""
    found = {}
    for name, value in told:
        if isinstance(value, dict):
            value = _numbers(value)
        found[name] = value
    return found


def _numbers(told: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(told["values"]), told["type"]).reshape(told["shape"])


def _chunk_bytes(array: Array, stored: Stored) -> int:
    return math.prod(stored.chunk or (0,)) * array.dtype.itemsize
