"""The header of a DICOM file, scanned element by element up to the pixel data and no further.

The few elements that are wanted are kept as bytes and decoded when asked for.
Source: DICOM PS3.5 2024e, sections 7.1 (data elements), 7.5 (sequences), annex A (transfer syntaxes); PS3.10, 7.1.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Any

from attrs import Factory, define

from gen_core.errors import DataError
from gen_radiology.dicom.elements import (
    BIG_ENDIAN,
    DEFLATED,
    FUNCTIONAL_GROUPS,
    IMPLICIT,
    ITEM,
    ITEM_END,
    LONG_VRS,
    NUMBER_VRS,
    PIXELS,
    SEQUENCE_END,
    STRUCTURES,
    TAGS,
    TEXT_VRS,
    UNDEFINED,
    VRS,
    WANTED,
)

HEADER_BYTES = 64 << 20  # more than any real header; keeps a wrong file from being read whole
CHUNKS = (1 << 13, 1 << 18, 1 << 23, HEADER_BYTES)  # most headers end within the first
HEADS = {(explicit, order): struct.Struct(f"{order}HH2sH" if explicit else f"{order}HHI")
         for explicit in (False, True) for order in "<>"}  # fmt: skip


class NotDicom(Exception):
    """A file that is something else."""


class _Short(Exception):
    """The header goes on beyond the bytes that were read."""


@define(eq=False)
class Header:
    """What a header says, decoded on asking. Pixel data: element name, VR, offset in the file, length (UNDEFINED when
    encapsulated); a deflated file counts from the start of its inflated data set. damage: why the header ended early.
    """

    path: Path
    size: int
    order: str = "<"
    elements: dict[int, tuple[bytes, bytes]] = Factory(dict)
    pixels: tuple[str, bytes, int, int] | None = None
    enhanced: bool = False
    start: int = 0  # of the data set, behind the file meta
    damage: str = ""

    @property
    def syntax(self) -> str:
        return self.text("TransferSyntaxUID") or IMPLICIT

    def raw(self, name: str) -> bytes:
        return self.elements.get(TAGS[name][0], (b"", b""))[1]

    def text(self, name: str) -> str:
        """The value as text of one line, "" if absent; several values are parted by backslashes."""
        raw = self.raw(name)
        if not raw:
            return ""
        charset = "ascii"
        if not raw.isascii():
            charset = {b"ISO_IR 192": "utf-8", b"GB18030": "gb18030"}.get(
                self.raw("SpecificCharacterSet").split(b"\\")[-1].strip(b" \0"), "latin-1"
            )
        text = raw.decode(charset, "replace").strip(" \0\r\n\t")
        return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text).strip()

    def numbers(self, name: str, count: int | None = None) -> tuple[float, ...] | None:
        """The values as numbers, None if absent or empty. Raises: DataError for other text or another count."""
        tag, usual = TAGS[name]
        vr, raw = self.elements.get(tag, (usual, b""))
        if vr in (b"UN", b""):
            vr = usual
        text = raw.strip(b" \0") if vr in TEXT_VRS else raw
        if not text:
            return None
        try:
            if vr in TEXT_VRS:
                values = tuple([float(part) for part in text.split(b"\\")])
            else:
                code = NUMBER_VRS[vr]
                values = struct.unpack(f"{self.order}{len(raw) // struct.calcsize(code)}{code}", raw)
        except (ValueError, KeyError, struct.error):
            shown = raw[:24].decode("latin-1").encode("unicode_escape").decode()
            raise DataError(
                f"{self.path}: {name} is '{shown}' with VR {vr.decode('latin-1')}, expected {usual.decode()} numbers"
            ) from None
        if count is not None and len(values) != count:
            raise DataError(f"{self.path}: {name} has {len(values)} values, expected {count}")
        return values

    def number(self, name: str, default: float | None = None) -> float:
        """The first value. Raises: DataError if it is absent without a default."""
        values = self.numbers(name)
        if values is None:
            if default is None:
                raise DataError(f"{self.path}: {name} is missing")
            return default
        return values[0]

    def whole(self, name: str, default: int | None = None) -> int:
        value = self.number(name, default)
        if value != value or value != int(value):
            raise DataError(f"{self.path}: {name} is {value:g}, expected a whole number")
        return int(value)


def is_dicom(path: Path) -> bool:
    """Whether a file starts like DICOM; never raises."""
    try:
        with path.open("rb") as file:
            return start_of(file.read(160)) is not None
    except OSError:
        return False


def start_of(head: bytes) -> int | None:
    """Where the elements begin: behind the preamble, or at once in old files without one."""
    if head[128:132] == b"DICM":
        return 132
    if len(head) < 16 or head[:2] not in (b"\x02\0", b"\x08\0"):
        return None
    explicit = head[4:6] in VRS
    length = struct.unpack_from("<H", head, 6)[0] if explicit else struct.unpack_from("<I", head, 4)[0]
    return 0 if head[2:4] < b"\x20\0" and length < 128 else None


def read_header(path: Path) -> Header:
    """The header of a file, up to its pixel data.

    Raises: NotDicom for another kind of file, DataError when it cannot be read. A header that breaks off comes with
    `damage` and what was there.
    """
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            head = b""
            for chunk in CHUNKS:
                head += file.read(chunk - len(head))
                try:
                    return _parse(path, size, head, whole=len(head) >= size)
                except _Short:
                    continue
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    raise DataError(f"{path}: the header is longer than {HEADER_BYTES >> 20} MiB")


def _parse(path: Path, size: int, head: bytes, whole: bool) -> Header:
    pos = start_of(head)
    if pos is None:
        raise NotDicom
    header = Header(path, size)
    if head[pos : pos + 2] == b"\x02\0":
        pos = scan(header, head, pos, whole, True, meta=True)
        if header.damage:
            return header
    syntax = header.syntax
    if syntax == DEFLATED:
        try:
            inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            head, header.start = inflater.decompress(head[pos:], HEADER_BYTES), pos
        except zlib.error as error:
            header.damage = f"deflated data: {error}"
            return header
        pos, whole = 0, whole and (inflater.eof or not inflater.unconsumed_tail)
    else:
        header.start = pos
    header.order = ">" if syntax == BIG_ENDIAN else "<"
    # what the elements look like counts more than what the meta says: some writers contradict themselves
    scan(header, head, pos, whole, head[pos + 4 : pos + 6] in VRS)
    return header


def scan(header: Header, head: bytes, pos: int, whole: bool, explicit: bool, meta: bool = False) -> int:
    """Keep what is wanted from `pos` on; returns where the pixel data, or the data set behind the meta, begins."""
    order, end, elements = header.order, len(head), header.elements
    unpack, wide = HEADS[explicit, order].unpack_from, struct.Struct(f"{order}I").unpack_from
    while pos + 8 <= end:
        if explicit:
            group, element, vr, length = unpack(head, pos)
            if meta and group != 2:
                return pos
            value = pos + 8
            if vr in LONG_VRS:
                if pos + 12 > end:
                    break
                length, value = wide(head, pos + 8)[0], pos + 12
            elif vr not in VRS:
                header.damage = f"element ({group:04X},{element:04X}) has no VR that exists"
                return pos
        else:
            group, element, length = unpack(head, pos)
            vr, value = b"", pos + 8
        tag = group << 16 | element
        if tag in PIXELS:
            header.pixels = (PIXELS[tag], vr, value, length)
            return pos
        if group == STRUCTURES:
            return pos
        if tag in FUNCTIONAL_GROUPS:
            header.enhanced = True
        if length == UNDEFINED:
            pos = behind_sequence(head, value, explicit and vr != b"UN", order)
            if pos < 0:
                pos = end + 1
                break
            continue
        pos = value + length
        if pos > end:
            break
        if tag in WANTED:
            elements[tag] = (vr, head[value:pos])
    if not whole:
        raise _Short
    if pos != end:
        header.damage = "the header breaks off in the middle of an element"
    return pos


def behind_sequence(head: Any, pos: int, explicit: bool, order: str) -> int:
    """Behind a sequence of undefined length, however deep; -1 where the bytes end first."""
    short, wide = struct.Struct(f"{order}H").unpack_from, struct.Struct(f"{order}I").unpack_from
    modes, end = [explicit], len(head)
    while modes:
        if pos + 8 > end:
            return -1
        tag = short(head, pos)[0] << 16 | short(head, pos + 2)[0]
        if tag in (ITEM, ITEM_END, SEQUENCE_END):
            length, mode, pos = wide(head, pos + 4)[0], modes[-1], pos + 8
            if tag != ITEM:
                modes.pop()
                continue
        else:
            vr, mode = head[pos + 4 : pos + 6], modes[-1]
            if not mode:
                length, pos = wide(head, pos + 4)[0], pos + 8
            elif vr in LONG_VRS:
                if pos + 12 > end:
                    return -1
                length, pos, mode = wide(head, pos + 8)[0], pos + 12, vr != b"UN"
            else:
                length, pos = short(head, pos + 6)[0], pos + 8
        if length == UNDEFINED:
            modes.append(mode)
        else:
            pos += length
    return pos
