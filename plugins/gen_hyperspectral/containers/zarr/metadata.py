"""What the metadata of a zarr array or group say, in formats 2 and 3: JSON that is read here and believed nowhere.

Source: Zarr core specification 3.0 and 2; codecs "bytes" and "transpose" among those of `codecs`.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from gen_core.errors import DataError
from gen_hyperspectral.containers.zarr.chunks import ZarrArray
from gen_hyperspectral.containers.zarr.codecs import PACKED
from gen_hyperspectral.cubes.layout import one_line

METADATA_BYTES = 16 << 20
# real numbers as formats 2 and 3 name them; numpy reads far more out of a text, some of it for minutes
TYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248])|bool|u?int(?:8|16|32|64)|float(?:16|32|64)")


def array_of(folder: Path) -> ZarrArray | None:
    """The array that a folder is; None where it is none. Raises: DataError naming file and key."""
    if (folder / "zarr.json").is_file():
        data = _json(folder / "zarr.json")
        return _version_3(folder, data) if data.get("node_type") == "array" else None
    return _version_2(folder, _json(folder / ".zarray")) if (folder / ".zarray").is_file() else None


def group_attributes(folder: Path) -> dict[str, Any]:
    """The attributes of a group. Raises: DataError."""
    if (folder / "zarr.json").is_file():
        return _object(folder / "zarr.json", _json(folder / "zarr.json").get("attributes", {}), "attributes")
    return _json(folder / ".zattrs") if (folder / ".zattrs").is_file() else {}


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
