"""In the child: the only place where the HDF5 library reads. One request at a time over pipes, each within limits.

A request is JSON with its length in front; an answer is JSON and bytes of values, with both lengths in front. What a
file makes the library do here in C - go round for ever, crash, fill the memory - ends this process and no other: the
kernel ends it after so many seconds of the processor (SIGPROF, not handled), and memory is bounded by RLIMIT_AS.
Only what lies in the file itself is followed: no external links, no external or virtual data.
"""

from __future__ import annotations

import base64
import fcntl
import json
import math
import os
import resource
import select
import signal
import struct
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

REQUEST, ANSWER = struct.Struct("<Q"), struct.Struct("<QQ")  # bytes of JSON; bytes of JSON and of values
MOST_OBJECTS = 10_000  # a file with more names than this is no cube
DEEPEST = 32  # groups within groups
VECTOR_VALUES = 1 << 20
NEVER = 2**64 - 1  # the place of a chunk that was never written
HELD = 1.0  # seconds without a request after which the file is closed
IDLE = 60.0  # and after which the child goes; a next file gets another
CLOSING = 10.0  # seconds of the processor
LITTER = 64 << 20  # bytes that files may leave behind before the child goes
Answer = tuple[Any, Any]  # facts for JSON, and bytes


class Refused(Exception):
    """A file that is not read, as it was meant to be; the message goes behind its name."""


def serve() -> None:
    """Answer until nobody asks any more: then stdin is closed, for whatever reason, or nothing has come for long."""
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):  # what a library prints goes nowhere
        os.dup2(nothing, fd)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to heed
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})
    try:
        import h5py
        import numpy  # noqa: F401
    except ImportError as error:
        _send(answers, {"missing": str(error)})
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    held = _Held(_addresses())
    _send(answers, {"ready": h5py.version.hdf5_version})
    while (request := _received(requests, held)) is not None:
        _bound(held.base + request["room"] if held.base else 0)
        began = time.process_time()
        with _within(request["seconds"]):
            facts, values = _answered(request, held)
            leaves = held.leaves()
        facts |= {"spent": time.process_time() - began, "leaves": leaves}
        _send(answers, facts, memoryview(values).cast("B"))
        if leaves:
            return


class _Held:
    """The file of the latest questions, kept open for the next ones of the same series."""

    def __init__(self, base: int):
        self.base, self.series, self.file = base, None, None  # base: bytes of addresses before any file

    def open(self, path: str, series: int) -> Any:
        if self.series != series:
            import h5py

            self.close()
            self.file = h5py.File(os.fsdecode(path.encode("latin-1")), "r")
            self.series = series
            try:  # it was no file in writing; now who likes may write it
                fcntl.flock(self.file.id.get_vfd_handle(), fcntl.LOCK_UN)
            except Exception:  # a driver without a lock
                pass
        return self.file

    def close(self) -> None:
        file, self.file, self.series = self.file, None, None
        if file is not None:
            file.close()

    def leaves(self) -> bool:
        """Whether damaged files have left behind what is not for the next one. Types do not count: h5py keeps some."""
        from h5py import h5f

        things = h5f.get_obj_count(h5f.OBJ_ALL, h5f.OBJ_DATASET | h5f.OBJ_GROUP | h5f.OBJ_ATTR)
        files = h5f.get_obj_count(h5f.OBJ_ALL, h5f.OBJ_FILE)
        return things > 0 or files > (self.file is not None) or _addresses() > self.base + LITTER


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """So many seconds of the processor; then the kernel ends the process, whatever it does."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _answered(request: dict[str, Any], held: _Held) -> tuple[dict[str, Any], Any]:
    try:
        told, values = DOES[request["do"]](held.open(request["path"], request["series"]), **request["words"])
        json.dumps(told)
        return {"told": told}, values
    except Refused as error:
        facts: dict[str, Any] = {"refused": str(error)}
    except MemoryError:
        facts = {"memory": True}
    except Exception as error:  # OSError, KeyError, RuntimeError, ValueError, TypeError, ... from anywhere
        facts = {"error": (str(error) or type(error).__name__)[:2000]}
    try:
        held.close()
    except Exception:  # said above
        pass
    return facts, b""


def _received(fd: int, held: _Held) -> dict[str, Any] | None:
    """The next request; None at the end of all. A file is not held open for long."""
    if not select.select([fd], [], [], HELD)[0]:
        with _within(CLOSING):
            held.close()
        if not select.select([fd], [], [], IDLE)[0]:
            return None
    head = _read(fd, REQUEST.size)
    return json.loads(_read(fd, REQUEST.unpack(head)[0])) if head else None


def _read(fd: int, count: int) -> bytes:
    """So many bytes; none where the pipe ends."""
    found = b""
    while len(found) < count:
        part = os.read(fd, count - len(found))
        if not part:
            return b""
        found += part
    return found


def _send(fd: int, facts: Any, values: Any = b"") -> None:
    text = json.dumps(facts).encode()
    for part in (ANSWER.pack(len(text), len(values)) + text, values):
        view = memoryview(part)
        while len(view):
            view = view[os.write(fd, view) :]


def _addresses() -> int:
    """Bytes of this process's addresses; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _bound(room: int) -> None:
    """Bound the addresses of the process, where it is known how many it has; below a bound that it came with."""
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    if room:
        resource.setrlimit(resource.RLIMIT_AS, (room if most == resource.RLIM_INFINITY else min(room, most), most))


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
            packed = base64.b64encode(numbers.tobytes()).decode()
            found.append([name, {"type": numbers.dtype.str, "shape": numbers.shape, "values": packed}])
    return found


def _small(attribute: Any) -> bool:
    """Whether a value is numbers or texts, and few: a damaged shape has the library go on for hours."""
    import h5py

    dtype = attribute.dtype
    text = dtype.kind == "S" or h5py.check_string_dtype(dtype) is not None
    count = math.prod(attribute.shape or ())
    return (dtype.kind in "buif" or text) and count * dtype.itemsize <= VECTOR_VALUES


def about(file: Any, names: list[str], groups: list[str], wanted: list[str]) -> Answer:
    """How arrays are stored, and wanted attributes of them and of groups ("": the root)."""
    stored = [_stored(file[n]) for n in names]
    told = [attributes(file[n], wanted) for n in (*names, *(g or "/" for g in groups))]
    return {"stored": stored, "attributes": told}, b""


def axes(file: Any, name: str) -> Answer:
    """What the axes of an array are called: by a scale, else by a label."""
    return [dim[0].name if len(dim) else dim.label for dim in file[name].dims], b""


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


DOES: dict[str, Callable[..., Answer]] = {f.__name__: f for f in (look, about, axes, whole, piece, places)}
