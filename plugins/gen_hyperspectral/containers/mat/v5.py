"""The numeric arrays of a MATLAB v5 file (v6, v7): what it holds, and one array at a time.

Written out here because every count and type is checked before it is believed: damaged files crash the usual
library. Cells, structs, objects, text, sparse and complex arrays are passed over.
Source: MathWorks, "MAT-File Format", level 5: a 128-byte header, then tagged elements, each an array or a
zlib-compressed array; an array is flags, dimensions, name and values, column by column.
"""

from __future__ import annotations

import math
import os
import re
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from attrs import frozen

from gen_core.errors import DataError
from gen_hyperspectral.cubes.limits import DEFLATE_LIMIT, check_ratio

ELEMENTS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
NAME = re.compile(r"[A-Za-z]\w{0,62}", re.ASCII)  # of a MATLAB variable
MATRIX, COMPRESSED = 14, 15
COMPLEX = 0x0800  # bit of the array flags
HEADER = 128
HEAD_BYTES = 1 << 16  # flags, dimensions and name of an array fit in this
CHUNK = 1 << 20


@frozen
class Variable:
    """A real numeric array. dtype: of the array, stored: of its values in the file, which may be narrower."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    stored: np.dtype
    at: int  # of the element's content in the file
    length: int  # of the element's content in the file
    offset: int  # of the values in the (decompressed) content
    compressed: bool


def list_variables(path: Path) -> dict[str, Variable]:
    """Every real numeric array by name. Raises: DataError naming the file when it is damaged."""
    found: dict[str, Variable] = {}
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        order = _byte_order(path, file)
        at = HEADER
        while at + 8 <= size:
            file.seek(at)
            kind, length = struct.unpack(order + "II", file.read(8))
            at += 8
            if length > size - at:
                raise DataError(f"{path}: damaged MATLAB file: an element of {length} bytes at byte {at} is cut off")
            if kind in (MATRIX, COMPRESSED):
                head = file.read(min(length, HEAD_BYTES))
                variable = _describe(path, head, order, at, length, kind == COMPRESSED)
                if variable is not None:
                    found.setdefault(variable.name, variable)
            elif not 1 <= kind <= 18:
                raise DataError(f"{path}: damaged MATLAB file: element type {kind} at byte {at - 8}")
            at += length
    return found


def load_variable(path: Path, variable: Variable) -> np.ndarray:
    """The array; mapped from the file where it is stored plainly. Raises: DataError."""
    count = math.prod(variable.shape)
    if not variable.compressed:
        start = variable.at + variable.offset
        flat = np.memmap(path, variable.stored, "r", start, (count,))
    else:
        check_ratio(path, f"variable '{variable.name}'", count * variable.dtype.itemsize, variable.length)
        flat = _inflate(path, variable, count)
    if flat.dtype != variable.dtype:
        flat = flat.astype(variable.dtype)
    return flat.reshape(variable.shape, order="F")


def _byte_order(path: Path, file: BinaryIO) -> str:
    head = file.read(HEADER)
    if len(head) < HEADER or head[126:128] not in (b"IM", b"MI"):
        raise DataError(f"{path}: damaged MATLAB file: its header is cut off or has no byte order")
    return "<" if head[126:128] == b"IM" else ">"


def _tag(head: bytes, at: int, order: str) -> tuple[int, int, int, int]:
    """Type, length, start of the data, start of the next element. Small elements keep their data in the tag."""
    (first,) = struct.unpack_from(order + "I", head, at)
    if first >> 16:
        return first & 0xFFFF, first >> 16, at + 4, at + 8
    (length,) = struct.unpack_from(order + "I", head, at + 4)
    return first, length, at + 8, at + 8 + -(-length // 8) * 8


def _describe(path: Path, head: bytes, order: str, at: int, length: int, compressed: bool) -> Variable | None:
    try:
        if compressed:
            head = zlib.decompressobj().decompress(head, HEAD_BYTES)
            kind, inner = struct.unpack_from(order + "II", head)
            if kind != MATRIX:
                return None
            room, start = min(inner, length * DEFLATE_LIMIT), 8
        else:
            room, start = length, 0
        if room == 0:
            return None  # an empty array written by some programs
        _, _, data, at_dims = _tag(head, start, order)
        (flags,) = struct.unpack_from(order + "I", head, data)
        if flags & COMPLEX or (flags & 0xFF) not in CLASSES:
            return None
        kind, bytes_, data, at_name = _tag(head, at_dims, order)
        if kind != 5 or not 8 <= bytes_ <= 32 * 4:
            raise ValueError("dimensions of an array are damaged")
        shape = struct.unpack_from(f"{order}{bytes_ // 4}i", head, data)
        _, bytes_, data, at_values = _tag(head, at_name, order)
        name = head[data : data + bytes_].decode("utf-8", errors="replace")
        if not name or min(shape) <= 0:
            return None
        if not NAME.fullmatch(name):
            raise ValueError("the name of an array is damaged")
        kind, bytes_, data, _ = _tag(head, at_values, order)
        if kind not in ELEMENTS:
            raise ValueError(f"values of '{name}' have type {kind}")
    except (zlib.error, struct.error, ValueError) as error:
        raise DataError(f"{path}: damaged MATLAB file: {error} (array at byte {at})") from None
    stored = np.dtype(ELEMENTS[kind]).newbyteorder(order)
    need = math.prod(shape) * stored.itemsize
    if need != bytes_ or data - start + need > room:
        raise DataError(
            f"{path}: variable '{name}' of {'x'.join(map(str, shape))} promises {need} bytes, the file holds "
            f"{min(bytes_, room)}"
        )
    dtype = np.dtype(CLASSES[flags & 0xFF])
    dtype = stored if stored.newbyteorder("=") == dtype else dtype
    return Variable(name, shape, dtype, stored, at, length, data, compressed)


def _inflate(path: Path, variable: Variable, count: int) -> np.ndarray:
    """The values of a compressed array, decompressed straight into their memory."""
    flat = np.empty(count, variable.stored)
    out, done, skip = memoryview(flat).cast("B"), 0, variable.offset
    engine, left = zlib.decompressobj(), variable.length
    try:
        with path.open("rb") as file:
            file.seek(variable.at)
            while done < len(out):
                source = engine.unconsumed_tail
                if not source:
                    source = file.read(min(left, CHUNK))
                    left -= len(source)
                    if not source:
                        raise DataError(f"{path}: variable '{variable.name}' cannot be read: its data end early")
                part = engine.decompress(source, CHUNK)
                drop = min(skip, len(part))
                skip, part = skip - drop, part[drop : drop + len(out) - done]
                out[done : done + len(part)] = part
                done += len(part)
            # to the end of the stream, so that its checksum is held against the data
            while not engine.eof and (rest := engine.unconsumed_tail or file.read(min(left, CHUNK))):
                left -= 0 if engine.unconsumed_tail else len(rest)
                engine.decompress(rest, CHUNK)
            if not engine.eof:
                raise DataError(f"{path}: variable '{variable.name}' cannot be read: its data end early")
    except zlib.error as error:
        raise DataError(f"{path}: variable '{variable.name}' cannot be read: {error}") from None
    return flat
