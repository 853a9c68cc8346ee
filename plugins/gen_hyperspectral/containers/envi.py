"""ENVI cubes: a text header (`.hdr`) and raw data beside it, band-sequential, by line or by pixel.

The header is parsed tolerantly (any case of keys, lists over several lines, trailing commas); the data are
memory-mapped after their size was held against the header.
Source: ENVI header format, NV5 Geospatial documentation, "ENVI Header Files".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gen_core.errors import DataError
from gen_core.writer import RawVolume, Reader
from gen_hyperspectral.cubes.layout import bad_bands_of, one_line, wavelengths_of
from gen_hyperspectral.reader_options import EnviReader as Options

DTYPES = {1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8", 12: "u2", 13: "u4", 14: "i8", 15: "u8"}
COMPLEX = {6: "complex64", 9: "complex128"}
DATA_SUFFIXES = (".dat", ".img", ".raw", ".bsq", ".bil", ".bip", "")
HEADER_BYTES = 4 << 20  # more than any real header; keeps a wrong file from being read whole


def build(options: Options, context: Any = None) -> Reader:
    """The reader of ENVI files."""
    return EnviCubes()


class EnviCubes(Reader):
    """Opens an ENVI header, or a data file whose header lies beside it."""

    version = 1

    def recognizes(self, path: Path) -> bool:
        try:
            header = find_header(path)
            if header is None:
                return False
            with header.open("rb") as file:
                return file.read(16).removeprefix(b"\xef\xbb\xbf").lstrip()[:4].upper() == b"ENVI"
        except OSError:
            return False

    def files(self, path: Path) -> list[Path]:
        """The header and the data file. Raises: DataError."""
        header = find_header(path)
        if header is None:
            raise DataError(f"{path}: no ENVI header (.hdr) beside it")
        try:
            return [header, find_data(header)]
        except DataError:
            return [header]

    def open(self, path: Path, **_: Any) -> RawVolume:
        """The cube with axes (y, x, band), values as stored. Raises: DataError naming file and key."""
        header = find_header(path)
        if header is None:
            raise DataError(f"{path}: no ENVI header (.hdr) beside it")
        return open_header(header)


def find_header(path: Path) -> Path | None:
    """The header of a path: itself, `name.ext.hdr` or `name.hdr`."""
    if path.suffix.lower() == ".hdr":
        return path if path.is_file() else None
    if not path.is_file():
        return None
    for candidate in (f"{path.name}.hdr", f"{path.name}.HDR", f"{path.stem}.hdr", f"{path.stem}.HDR"):
        header = path.with_name(candidate)
        if header.is_file() and (path.suffix.lower() in DATA_SUFFIXES or candidate.startswith(path.name)):
            return header
    return None


def find_data(header: Path, size: int | None = None) -> Path:
    """The data file of a header; among several, the one of exactly `size` bytes. Raises: DataError."""
    stem = header.name[: -len(header.suffix)]
    names = [stem + suffix for suffix in DATA_SUFFIXES] + [stem + suffix.upper() for suffix in DATA_SUFFIXES[:-1]]
    found = [header.with_name(name) for name in dict.fromkeys(names) if header.with_name(name).is_file()]
    if not found:
        looked = ", ".join(stem + suffix for suffix in DATA_SUFFIXES)
        raise DataError(f"{header}: no data file beside it (looked for {looked})")
    return next((path for path in found if path.stat().st_size == size), found[0])


def parse_header(header: Path) -> dict[str, str]:
    """Keys (lower case, single blanks) and values as text; a list keeps its content without braces.

    Raises: DataError for a file that is no ENVI header or has an unclosed brace.
    """
    try:
        if header.stat().st_size > HEADER_BYTES:
            raise DataError(f"{header}: too large for an ENVI header ({header.stat().st_size} bytes)")
        text = header.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise DataError(f"{header}: cannot be read: {error.strerror or error}") from None
    lines = iter(text.splitlines())
    if next(lines, "").strip().upper()[:4] != "ENVI":
        raise DataError(f"{header}: first line is not 'ENVI': no ENVI header")
    keys: dict[str, str] = {}
    for line in lines:
        key, equals, value = line.partition("=")
        if not equals or line.lstrip().startswith(";"):
            continue
        key, value = " ".join(key.lower().split()), value.strip()
        if value.startswith("{"):
            parts = [value[1:]]
            while "}" not in parts[-1]:
                more = next(lines, None)
                if more is None:
                    raise DataError(f"{header}: key '{one_line(key)}': the brace is never closed")
                parts.append(more)
            value = "\n".join(parts).split("}")[0].strip()
        keys[key] = value
    return keys


def _whole(header: Path, keys: dict[str, str], key: str, default: int | None = None, least: int = 1) -> int:
    text = keys.get(key)
    if text is None:
        if default is None:
            raise DataError(f"{header}: key '{key}' is missing")
        return default
    try:
        value = int(text)
    except ValueError:
        raise DataError(f"{header}: key '{key}' is '{one_line(text)}', expected a whole number") from None
    if value < least:
        raise DataError(f"{header}: key '{key}' is {value}, expected at least {least}")
    return value


def _number(header: Path, keys: dict[str, str], key: str) -> float | None:
    if key not in keys:
        return None
    try:
        return float(keys[key])
    except ValueError:
        raise DataError(f"{header}: key '{key}' is '{one_line(keys[key])}', expected a number") from None


def _list(header: Path, keys: dict[str, str], key: str, warnings: list[str]) -> list[float] | None:
    if key not in keys:
        return None
    parts = [part for part in keys[key].replace(",", " ").split() if part]
    try:
        return [float(part) for part in parts] or None
    except ValueError:
        warnings.append(f"key '{key}' holds something that is no number: ignored")
        return None


def open_header(header: Path) -> RawVolume:
    """The cube a header describes."""
    keys, warnings = parse_header(header), []
    x, y, bands = (_whole(header, keys, key) for key in ("samples", "lines", "bands"))
    code = _whole(header, keys, "data type")
    if code in COMPLEX:
        raise DataError(f"{header}: key 'data type' is {code} ({COMPLEX[code]}): complex values cannot be used")
    if code not in DTYPES:
        known = ", ".join(map(str, DTYPES))
        raise DataError(f"{header}: key 'data type' is {code}, expected one of {known}")
    interleave = keys.get("interleave", "").lower()
    if not interleave:
        interleave = "bsq"
        warnings.append("key 'interleave' is missing: bsq assumed")
    if interleave not in ("bsq", "bil", "bip"):
        raise DataError(f"{header}: key 'interleave' is '{one_line(interleave)}', expected bsq, bil or bip")
    dtype = np.dtype(DTYPES[code])
    if "byte order" not in keys and dtype.itemsize > 1:
        warnings.append("key 'byte order' is missing: 0 (little-endian) assumed")
    order = _whole(header, keys, "byte order", 0, 0)
    if order > 1:
        raise DataError(f"{header}: key 'byte order' is {order}, expected 0 or 1")
    dtype = dtype.newbyteorder("<>"[order])
    offset = _whole(header, keys, "header offset", 0, 0)
    if _whole(header, keys, "file compression", 0, 0):
        raise DataError(f"{header}: key 'file compression': compressed ENVI data cannot be read; decompress it first")
    need = offset + y * x * bands * dtype.itemsize
    data = find_data(header, need)
    size = data.stat().st_size
    if size < need:
        raise DataError(
            f"{header}: {y} lines x {x} samples x {bands} bands of {dtype.name} after offset {offset} need {need} "
            f"bytes, {data.name} has {size}"
        )
    if size > need:
        warnings.append(f"{data.name} has {size - need} bytes more than the header says")
    stored = {"bsq": (bands, y, x), "bil": (y, bands, x), "bip": (y, x, bands)}[interleave]
    array = np.memmap(data, dtype, "r", offset, stored)
    array = array.transpose({"bsq": (1, 2, 0), "bil": (0, 2, 1), "bip": (0, 1, 2)}[interleave])
    values = _list(header, keys, "wavelength", warnings)
    wavelength, told = wavelengths_of(bands, values, keys.get("wavelength units"), "key 'wavelength'")
    bad, bad_told = bad_bands_of(bands, _list(header, keys, "bbl", warnings), True, "key 'bbl'")
    meta: dict[str, Any] = {
        "interleave": interleave,
        "byte_order": order,
        "data_type": code,
        "header_offset": offset,
        "data_file": data.name,
    }
    factor = _number(header, keys, "reflectance scale factor")
    if factor is not None:
        if factor <= 0:
            raise DataError(f"{header}: key 'reflectance scale factor' is {factor:g}, expected a positive number")
        meta["scale_factor"] = factor
        meta["units"] = "reflectance"
    for key, name in (("data units", "units"), ("description", "description"), ("sensor type", "sensor")):
        if keys.get(key):
            meta.setdefault(name, " ".join(keys[key].split())[:500])
    nodata = _number(header, keys, "data ignore value")
    return RawVolume(array, "yxb", wavelength, bad, nodata, warnings + told + bad_told, meta)
