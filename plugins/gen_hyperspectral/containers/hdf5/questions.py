"""What is asked of an HDF5 file, answered by the library, in the child alone (`child`).

Only what lies in the file itself is followed: no external links, no external or virtual data.
"""

from __future__ import annotations

import base64
import math
from array import array
from collections.abc import Callable, Iterator
from typing import Any

MOST_OBJECTS = 10_000  # a file with more names than this is no cube
DEEPEST = 32  # groups within groups
VECTOR_VALUES = 1 << 20
FEW = 1 << 16  # bytes of a vector that are told without being asked for
NEVER = 2**64 - 1  # the place of a chunk that was never written
Answer = tuple[Any, Any]  # facts for JSON, and bytes


class Refused(Exception):
    """A file that is not read, as it was meant to be; the message goes behind its name."""


def look(file: Any, wanted: list[str]) -> Answer:
    """Every array: name, shape (None: no values), type, and attributes of the wanted names."""
    return [[name, item.shape, item.dtype.str, attributes(item, wanted)] for name, item in arrays(file)], b""


def arrays(file: Any) -> Iterator[tuple[str, Any]]:
    """Every data set in the file by its path without leading slash; links out of it are not followed."""
    import h5py

    groups, seen, entered = [("", file, 0)], 0, {file.id}
    while groups:
        prefix, group, depth = groups.pop(0)
        for name in group:
            seen += 1
            if seen > MOST_OBJECTS:
                raise Refused(f"more than {MOST_OBJECTS} objects: no cube file, or damaged")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            item = group[name]
            if isinstance(item, h5py.Dataset):
                yield prefix + name, item
            elif isinstance(item, h5py.Group) and depth < DEEPEST and item.id not in entered:  # may go in circles
                entered.add(item.id)
                groups.append((f"{prefix}{name}/", item, depth + 1))


def attributes(item: Any, wanted: list[str]) -> list[list[Any]]:
    """Name and value of attributes whose name is wanted in any case, where the value is text or numbers."""
    import numpy as np

    found: list[list[Any]] = []
    for name in item.attrs if wanted else ():
        try:
            if name.lower() not in wanted or not _small(item.attrs.get_id(name)):
                continue
            value = item.attrs[name]
        except (OSError, TypeError, ValueError, KeyError, RuntimeError):
            continue
        value = value.item() if isinstance(value, np.ndarray) and value.shape == () else value
        value = value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value
        if isinstance(value, str):
            found.append([name, value])
        elif (numbers := np.asarray(value)).dtype.kind in "buif":
            found.append([name, _packed(numbers)])
    return found


def _packed(numbers: Any) -> dict[str, Any]:
    values = base64.b64encode(numbers.tobytes()).decode()
    return {"type": numbers.dtype.str, "shape": numbers.shape, "values": values}


def _small(attribute: Any) -> bool:
    """Whether a value is numbers or texts, and few: a damaged shape has the library go on for hours."""
    import h5py

    dtype = attribute.dtype
    text = dtype.kind == "S" or h5py.check_string_dtype(dtype) is not None
    count = math.prod(attribute.shape or ())
    return (dtype.kind in "buif" or text) and count * dtype.itemsize <= VECTOR_VALUES


def about(file: Any, names: list[str], groups: list[str], wanted: list[str], axes: bool) -> Answer:
    """How arrays are stored, and wanted attributes of them and of groups ("": the root).

    Of the first array also what its axes are called, if asked: by a scale, else by a label; of the others their values,
    where these are few.
    """
    items = [file[n] for n in names]
    told: dict[str, Any] = {"stored": [_stored(item) for item in items]}
    told["attributes"] = [attributes(item, wanted) for item in (*items, *(file[g or "/"] for g in groups))]
    told["axes"] = [dim[0].name if len(dim) else dim.label for dim in items[0].dims] if axes else []
    told["values"] = [_values(item, stored) for item, stored in zip(items[1:], told["stored"][1:])]
    return told, b""


def _values(item: Any, stored: dict[str, Any]) -> dict[str, Any] | None:
    """Values of numbers, where they are few, lie in the file, and can be read; else they are asked for one by one."""
    import numpy as np

    most = max(math.prod(item.shape or ()), math.prod(item.chunks or ())) * item.dtype.itemsize
    if stored["elsewhere"] or item.dtype.kind not in "buif" or most > FEW:
        return None
    try:
        return _packed(np.asarray(item[()]))
    except (OSError, TypeError, ValueError, KeyError, RuntimeError):
        return None


def _stored(item: Any) -> dict[str, Any]:
    plist = item.id.get_create_plist()
    found: dict[str, Any] = {"chunk": item.chunks, "offset": None, "held": 0, "filters": []}
    found["elsewhere"] = bool(item.is_virtual or plist.get_external_count())
    if not found["elsewhere"]:
        found["filters"] = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
        if item.chunks is None:
            found["offset"] = item.id.get_offset()
        else:
            found["held"] = item.id.get_storage_size()
    return found


def whole(file: Any, name: str) -> Answer:
    """All values of a small array."""
    import numpy as np

    values = np.asarray(file[name][()])
    return {"type": values.dtype.str, "shape": values.shape}, values.tobytes()


def piece(file: Any, name: str, start: list[int], stop: list[int]) -> Answer:
    """One chunk, unpacked by the library."""
    values = file[name][tuple(slice(a, b) for a, b in zip(start, stop))]
    return {"type": values.dtype.str, "shape": values.shape}, values.tobytes()


def places(file: Any, name: str, chunk: list[int], grid: list[int]) -> Answer:
    """Where each chunk lies: three arrays of uint64 over the grid - offset or NEVER, stored bytes, filters left out.

    told: the fill value, of the array's type, as hexadecimal bytes.
    """
    import numpy as np

    item, rank, most = file[name], len(grid), math.prod(grid)
    rows = array("Q")

    def note(info: Any) -> bool | None:
        where = NEVER if info.byte_offset is None else info.byte_offset
        rows.extend((*info.chunk_offset, where, info.size, info.filter_mask))
        return True if len(rows) > most * (rank + 3) else None  # ends the walk

    item.id.chunk_iter(note)
    table = np.frombuffer(rows, np.uint64).reshape(-1, rank + 3)
    at = table[:, :rank] // np.array(chunk, np.uint64)
    fits = (at < np.array(grid, np.uint64)).all() and (at * np.array(chunk, np.uint64) == table[:, :rank]).all()
    if len(table) > most or not fits:
        raise ValueError("the table of its chunks has entries that lie outside of it: damaged")
    flat = np.ravel_multi_index(tuple(at.T.astype(np.int64)), tuple(grid)) if len(at) else np.empty(0, np.int64)
    if len(np.unique(flat)) != len(flat):
        raise ValueError("the table of its chunks has the same chunk twice: damaged")
    found = np.full((3, most), NEVER, np.uint64)
    found[:, flat] = table[:, rank:].T
    if len(flat) and file.userblock_size:
        written = found[0] != NEVER
        found[0, written] += np.uint64(_left_out(file.userblock_size))
    return {"fill": np.asarray(item.fillvalue, item.dtype).tobytes().hex()}, found.tobytes()


def _left_out(block: int) -> int:
    """Bytes of the user block that this version of the library leaves out of the places it tells: tried."""
    import h5py

    told: list[int] = []
    for size in (512, 1024):
        with h5py.File("tried", "w", driver="core", backing_store=False, userblock_size=size) as file:
            data = file.create_dataset("x", data=[1, 2, 3], chunks=(3,))
            file.flush()
            data.id.chunk_iter(lambda info: told.append(info.byte_offset))
    return block if told[0] == told[1] else 0


QUESTIONS: dict[str, Callable[..., Answer]] = {f.__name__: f for f in (look, about, whole, piece, places)}
