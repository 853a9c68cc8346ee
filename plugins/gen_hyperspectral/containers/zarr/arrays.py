"""The arrays of a zarr folder (formats 2 and 3): what their metadata say, and their chunk files, each read once.

The metadata are JSON and the codecs few, so they are read here: every chunk is unpacked into a piece of its promised
size and never beyond. gzip and zlib need nothing; blosc, zstd and lz4 need numcodecs (extra `hyper`).
Source: Zarr core specification 3.0 and 2; codecs "bytes", "transpose", "gzip", "zstd", "blosc", "crc32c".
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen

from gen_core.errors import DataError
from gen_hyperspectral.cubes.chunked import Index, Pieces
from gen_hyperspectral.cubes.inflate import inflate
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

METADATA_BYTES = 16 << 20
MOST_ARRAYS = 1000
DEEPEST = 8  # folders within folders
GZIP, CHECKSUM_BYTES = 31, 4
# real numbers as formats 2 and 3 name them; numpy reads far more out of a text, some of it for minutes
TYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248])|bool|u?int(?:8|16|32|64)|float(?:16|32|64)")
PACKED = ("gzip", "zlib", "zstd", "blosc", "lz4")


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
                    data = _checked(data)
                data = self._unpacked(data, size)
                if len(data) != size:
                    raise ValueError(f"{len(data)} bytes in a chunk of {size}: damaged or cut off")
            except (OSError, ValueError, RuntimeError, TypeError, ArithmeticError) as error:
                raise DataError(f"{file}: {one_line(error)}") from None
            stored = np.frombuffer(data, self.dtype).reshape([self.chunk[a] for a in self.order])
            return stored.transpose(np.argsort(self.order))

        yield load

    def _unpacked(self, data: bytes, size: int) -> bytes | np.ndarray:
        if self.codec in ("gzip", "zlib"):
            return inflate(data, size, GZIP if self.codec == "gzip" else zlib.MAX_WBITS)
        if not self.codec:
            return data
        import numcodecs

        out = np.zeros(size, np.uint8)  # a codec that finds more than this refuses
        codec = {"zstd": numcodecs.Zstd, "blosc": numcodecs.Blosc, "lz4": numcodecs.LZ4}[self.codec]()
        promised = {"blosc": _blosc_size, "lz4": _lz4_size, "zstd": _zstd_size}[self.codec](data)
        if promised not in (None, size):
            raise ValueError(f"its header promises {promised} bytes for a chunk of {size}: damaged")
        codec.decode(data, out)
        return out


def _checked(data: bytes) -> bytes:
    """Without the CRC-32C behind it, held against it where google_crc32c (which zarr brings along) is installed."""
    data, told = data[:-CHECKSUM_BYTES], int.from_bytes(data[-CHECKSUM_BYTES:], "little")
    try:
        import google_crc32c
    except ImportError:
        return data
    if google_crc32c.value(data) != told:
        raise ValueError("its checksum does not fit: damaged")
    return data


def _blosc_size(data: bytes) -> int:
    return int.from_bytes(data[4:8], "little") if len(data) >= 16 else -1


def _lz4_size(data: bytes) -> int:
    return int.from_bytes(data[:4], "little")


def _zstd_size(data: bytes) -> int | None:
    """The content size of the first frame; None where it is not stored. Source: RFC 8878, 3.1.1.1."""
    if len(data) < 6 or data[:4] != b"\x28\xb5\x2f\xfd":
        return -1
    head, single = data[4], data[4] >> 5 & 1
    width = (single, 2, 4, 8)[head >> 6]
    at = 5 + (1 - single) + (0, 1, 2, 4)[head & 3]
    return int.from_bytes(data[at : at + width], "little") + (256 if width == 2 else 0) if width else None


def is_zarr(path: Path) -> bool:
    """Whether a folder is a zarr array or group."""
    return path.is_dir() and any((path / name).is_file() for name in (".zarray", ".zgroup", "zarr.json"))


def arrays(path: Path) -> dict[str, ZarrArray]:
    """Every array in a folder by its path ("" where the folder itself is one). Raises: DataError naming the file."""
    found: dict[str, ZarrArray] = {}
    folders = [("", path, 0)]
    while folders:
        name, folder, depth = folders.pop(0)
        array = _array(folder)
        if array is not None:
            found[name] = array
            if len(found) > MOST_ARRAYS:
                raise DataError(f"{path}: more than {MOST_ARRAYS} arrays: no cube")
        elif is_zarr(folder) and depth < DEEPEST:
            inside = sorted(p for p in folder.iterdir() if p.is_dir() and not p.is_symlink() and p.name.isprintable())
            folders += [(f"{name}/{p.name}".lstrip("/"), p, depth + 1) for p in inside]
    return found


def group_attributes(folder: Path) -> dict[str, Any]:
    """The attributes of a group. Raises: DataError."""
    if (folder / "zarr.json").is_file():
        return _object(folder / "zarr.json", _json(folder / "zarr.json").get("attributes", {}), "attributes")
    return _json(folder / ".zattrs") if (folder / ".zattrs").is_file() else {}


def vector(array: ZarrArray) -> np.ndarray:
    """A small array, whole. Raises: DataError."""
    array.check()
    if len(array.shape) != 1 or array.shape[0] > 1 << 20:
        raise DataError(f"{array.path}: shape {list(array.shape)} is no list of bands")
    out = np.empty(array.shape, array.dtype)
    step = array.chunk[0]
    with array.opened() as load:
        for i in range(-(-len(out) // step)):
            part = out[i * step : (i + 1) * step]
            part[...] = load((i,))[: len(part)]
    return out


def _array(folder: Path) -> ZarrArray | None:
    if (folder / "zarr.json").is_file():
        data = _json(folder / "zarr.json")
        return _version_3(folder, data) if data.get("node_type") == "array" else None
    return _version_2(folder, _json(folder / ".zarray")) if (folder / ".zarray").is_file() else None


def _version_2(folder: Path, data: dict[str, Any]) -> ZarrArray:
    file = folder / ".zarray"
    shape = _whole_numbers(file, data, "shape")
    if data.get("filters"):
        raise DataError(f"{file}: key 'filters' is {one_line(data['filters'])}: arrays with filters are not read")
    packing = data.get("compressor") or {}
    codec = str(_object(file, packing, "compressor").get("id", ""))
    order = tuple(range(len(shape)))
    attributes = group_attributes(folder)
    dimensions = attributes.get("_ARRAY_DIMENSIONS") or ()
    return ZarrArray(
        path=folder,
        shape=shape,
        chunk=_whole_numbers(file, data, "chunks"),
        dtype=_dtype(file, data.get("dtype")),
        fill=_fill(file, data.get("fill_value")),
        codec=_codec(file, codec),
        settings=packing,
        order=order[::-1] if data.get("order") == "F" else order,
        checksum=False,
        prefix="",
        separator="/" if data.get("dimension_separator") == "/" else ".",
        attributes=attributes,
        dimensions=tuple(dimensions) if isinstance(dimensions, list) else (),
    )


def _version_3(folder: Path, data: dict[str, Any]) -> ZarrArray:
    file = folder / "zarr.json"
    shape = _whole_numbers(file, data, "shape")
    grid = _object(file, data.get("chunk_grid"), "chunk_grid")
    if grid.get("name") != "regular":
        raise DataError(f"{file}: key 'chunk_grid' is '{one_line(grid.get('name'))}', expected 'regular'")
    keys = _object(file, data.get("chunk_key_encoding", {}), "chunk_key_encoding")
    default = keys.get("name", "default") == "default"
    separator = _object(file, keys.get("configuration", {}), "chunk_key_encoding").get("separator")
    separator = separator if separator in ("/", ".") else "/" if default else "."
    order, codec, settings, checksum, endian = tuple(range(len(shape))), "", {}, False, "<"
    codecs = data.get("codecs")
    for step in codecs if isinstance(codecs, list) else []:
        name = str(_object(file, step, "codecs").get("name"))
        told = _object(file, step.get("configuration") or {}, "codecs")
        if name == "bytes":
            endian = ">" if told.get("endian") == "big" else "<"
        elif name == "transpose" and not codec:
            turn = told.get("order")
            if not isinstance(turn, list) or sorted(map(str, turn)) != sorted(map(str, range(len(shape)))):
                raise DataError(f"{file}: key 'codecs': transpose has no order of {len(shape)} axes")
            order = tuple(order[int(t)] for t in turn)
        elif name == "crc32c" and not checksum:
            checksum = True
        elif name == "sharding_indexed":
            raise DataError(f"{file}: key 'codecs': shards are not read; write the array again without them")
        elif not codec and not checksum:
            codec, settings = _codec(file, name), told
        else:
            raise DataError(f"{file}: key 'codecs': '{one_line(name)}' on top of '{codec}' is not read")
    dimensions = data.get("dimension_names") or ()
    return ZarrArray(
        path=folder,
        shape=shape,
        chunk=_whole_numbers(file, _object(file, grid.get("configuration"), "chunk_grid"), "chunk_shape"),
        dtype=_dtype(file, data.get("data_type")).newbyteorder(endian),
        fill=_fill(file, data.get("fill_value")),
        codec=codec,
        settings=settings,
        order=order,
        checksum=checksum,
        prefix="c" + separator if default else "",
        separator=separator,
        attributes=_object(file, data.get("attributes", {}), "attributes"),
        dimensions=tuple(dimensions) if isinstance(dimensions, list) else (),
    )


def _json(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > METADATA_BYTES:
            raise DataError(f"{file}: too large for zarr metadata ({file.stat().st_size} bytes)")
        return _object(file, json.loads(file.read_text(encoding="utf-8")), "metadata")
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: damaged zarr metadata: {one_line(error)}") from None


def _object(file: Path, value: Any, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{file}: key '{key}' is {one_line(value)!r}, expected a JSON object")
    return value


def _whole_numbers(file: Path, data: dict[str, Any], key: str) -> tuple[int, ...]:
    value = data.get(key)
    if not isinstance(value, list) or not all(type(n) is int and 0 <= n < 2**48 for n in value) or len(value) > 16:
        raise DataError(f"{file}: key '{key}' is {one_line(value)!r}, expected a list of whole numbers")
    return tuple(value)


def _dtype(file: Path, name: Any) -> np.dtype:
    if name is None:
        raise DataError(f"{file}: no type of values ('dtype' or 'data_type')")
    if not isinstance(name, str) or not TYPE.fullmatch(name):
        return np.dtype("V")  # texts, records, some extension type: refused where it is the cube
    return np.dtype(name)


def _fill(file: Path, value: Any) -> float:
    if isinstance(value, str):
        value = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}.get(value, 0)
    return value if isinstance(value, int | float) else 0


def _codec(file: Path, name: str) -> str:
    if name and name not in PACKED:
        raise DataError(f"{file}: compression '{one_line(name)}' is not read; write it with {', '.join(PACKED)}")
    return name
