"""The numeric arrays of an HDF5 file, their attributes, and their values: mapped, or chunk by chunk.

Only what lies in the file itself is followed: no external links, no external or virtual data. Chunks are fetched as
stored and unpacked here, by several threads and never beyond their promised size; other filters than gzip, shuffle
and fletcher32 are left to the HDF5 library.
Source: The HDF Group, "HDF5 File Format Specification", version 3.0, IV.A.2.l (filter pipeline).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen

from gen_core.errors import DataError, GenError
from gen_hyperspectral.chunked_cube import ChunkedCube, Index, Pieces
from gen_hyperspectral.inflate import inflate
from gen_hyperspectral.layout import one_line
from gen_hyperspectral.limits import SPARE, check_array, check_pieces, check_promise, check_ratio, needed

SIGNATURE = b"\x89HDF\r\n\x1a\n"
DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3
OURS = {DEFLATE, SHUFFLE, FLETCHER32}
CHECKSUM_BYTES = 4  # of fletcher32, behind the data
MOST_OBJECTS = 10_000  # a file with more names than this is no cube
DEEPEST = 32  # groups within groups
VECTOR_VALUES = 1 << 20


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The h5py file. Raises: DataError naming the file whatever the library makes of a damaged one."""
    h5py = needed("h5py", path)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except GenError:
        raise
    except MemoryError:
        raise DataError(f"{path}: damaged HDF5 file: it asks for more memory than there is") from None
    except Exception as error:  # the library raises OSError, KeyError, RuntimeError, ValueError, TypeError, ...
        raise DataError(f"{path}: damaged or no HDF5 file: {one_line(error)}") from None


def arrays(file: Any) -> dict[str, Any]:
    """Every data set in the file by its path without leading slash; links out of it are not followed."""
    import h5py

    found: dict[str, Any] = {}
    groups, seen, entered = [("", file, 0)], 0, {file.id}
    while groups:
        prefix, group, depth = groups.pop(0)
        for name in group:
            seen += 1
            if seen > MOST_OBJECTS:
                raise DataError(f"{file.filename}: more than {MOST_OBJECTS} objects: no cube file, or damaged")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            item = group[name]
            if isinstance(item, h5py.Dataset):
                found[prefix + name] = item
            elif (
                isinstance(item, h5py.Group) and depth < DEEPEST and item.id not in entered
            ):  # groups may go in circles
                entered.add(item.id)
                groups.append((f"{prefix}{name}/", item, depth + 1))
    return found


def attributes(item: Any) -> dict[str, Any]:
    """Attributes as text or numbers; others are passed over."""
    found: dict[str, Any] = {}
    for name in item.attrs:
        try:
            if not _small(item.attrs.get_id(name)):
                continue
            value = item.attrs[name]
        except (OSError, TypeError, ValueError, KeyError, RuntimeError):
            continue
        value = value.item() if isinstance(value, np.ndarray) and value.shape == () else value
        value = value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value
        found[name] = value
    return found


def _small(attribute: Any) -> bool:
    """Whether a value is numbers or texts, and few: a damaged shape has the library go on for hours."""
    import h5py

    dtype = attribute.dtype
    text = dtype.kind == "S" or h5py.check_string_dtype(dtype) is not None
    count = math.prod(attribute.shape or ())
    return (dtype.kind in "buif" or text) and count * dtype.itemsize <= VECTOR_VALUES


def vector(path: Path, name: str, item: Any) -> np.ndarray:
    """A small array, whole. Raises: DataError."""
    what = f"'{one_line(name)}'"
    need = max(check_array(path, what, item.shape, item.dtype), _chunk_bytes(item))
    if need > VECTOR_VALUES * 8:
        shape = list(item.chunks or item.shape)
        raise DataError(f"{path}: {what} has shape or pieces {shape}, too large for a list of bands")
    _check_inside(path, what, item)
    return np.asarray(item[()]).ravel()


def _chunk_bytes(item: Any) -> int:
    return math.prod(item.chunks or (0,)) * item.dtype.itemsize


def _check_inside(path: Path, what: str, item: Any) -> None:
    """Raises: DataError where the values are to come out of other files, which a file could choose freely."""
    if item.is_virtual or item.id.get_create_plist().get_external_count():
        raise DataError(f"{path}: {what} keeps its values in other files: copy them into this one (h5repack)")


def cube_array(path: Path, file: Any, name: str) -> np.ndarray | ChunkedCube:
    """A 3-D array, mapped where it lies in one piece, else chunk by chunk. Raises: DataError naming file and path."""
    item = file[name]
    what = f"'{one_line(name)}'"
    need = check_array(path, what, item.shape, item.dtype)
    _check_inside(path, what, item)
    plist = item.id.get_create_plist()
    size = path.stat().st_size
    if item.chunks is None:
        offset = item.id.get_offset()
        if offset is not None:
            check_promise(path, what, offset + need, size, packed=False)
            return np.memmap(path, item.dtype, "r", offset, item.shape)
        check_promise(path, what, need, size, packed=False)
        return np.asarray(item[()])  # compact: in the header, 64 KiB at most
    held = item.id.get_storage_size()
    if held > size:
        raise DataError(f"{path}: {what} holds {held} bytes in a file of {size}: damaged or cut off?")
    filters = tuple(plist.get_filter(i)[0] for i in range(plist.get_nfilters()))
    check_promise(path, what, need, held, packed=bool(filters), spare=SPARE)
    check_pieces(path, what, item.shape, item.chunks)
    check_ratio(path, what, max(need, _chunk_bytes(item)), held)
    return ChunkedCube(Hdf5Chunks(path, name, item.shape, item.chunks, item.dtype, filters))


@frozen(eq=False)
class Hdf5Chunks(Pieces):
    """The chunks of one array. filters: codes in the order they were applied."""

    path: Path
    name: str
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    dtype: np.dtype
    filters: tuple[int, ...]

    @contextmanager
    def opened(self) -> Iterator[Callable[[Index], np.ndarray]]:
        # a checksum is only left unlooked at where deflate's own stands for it
        ours = set(self.filters) <= {DEFLATE, SHUFFLE} or DEFLATE in self.filters and set(self.filters) <= OURS
        with opened(self.path) as file:
            item = file[self.name]

            def load(index: Index) -> np.ndarray:
                start = tuple(i * c for i, c in zip(index, self.chunk))
                try:
                    return self._fetched(item, start) if ours else self._by_library(item, start)
                except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
                    raise DataError(
                        f"{self.path}: '{one_line(self.name)}', chunk at {list(start)}: {one_line(error)}"
                    ) from None

            yield load

    def _by_library(self, item: Any, start: Index) -> np.ndarray:
        return item[tuple(slice(s, min(s + c, n)) for s, c, n in zip(start, self.chunk, self.shape))]

    def _fetched(self, item: Any, start: Index) -> np.ndarray:
        if item.id.get_chunk_info_by_coord(start).byte_offset is None:  # never written
            return np.broadcast_to(np.asarray(item.fillvalue, self.dtype), self.chunk)
        skipped, data = item.id.read_direct_chunk(start)
        size = int(np.prod(self.chunk, dtype=np.int64)) * self.dtype.itemsize
        applied = [f for i, f in enumerate(self.filters) if not skipped >> i & 1]
        for code in reversed(applied):
            if code == FLETCHER32:
                data = data[:-CHECKSUM_BYTES]
            elif code == DEFLATE:
                inner = CHECKSUM_BYTES if FLETCHER32 in applied[: applied.index(DEFLATE)] else 0
                data = inflate(data, size + inner)
            else:
                data = _unshuffled(data, self.dtype.itemsize)
        if len(data) != size:
            raise ValueError(f"{len(data)} bytes in a chunk of {size}: damaged")
        return np.frombuffer(data, self.dtype).reshape(self.chunk)


def _unshuffled(data: bytes, itemsize: int) -> bytes | np.ndarray:
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
