"""Whether a DICOM file ends too early: told from the lengths of its elements, whatever a lenient parser makes of it.

Source: DICOM PS3.5 2024e, sections 7.1 (data elements), 7.5 (sequences), annex A.4 (encapsulated pixel data).
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any

from gen_radiology.dicom.elements import BIG_ENDIAN, DEFLATED, LONG_VRS, UNDEFINED, VRS
from gen_radiology.dicom.header import Header, behind_sequence, scan, start_of


def breaks_off(path: Path) -> bool:
    """Whether a file ends within an element, a sequence or the pixel data, whatever a lenient parser makes of it.

    Only the lengths of elements are read, from their heads. Zeros behind the last element are padding. A deflated data
    set is left to who inflates it. Raises: OSError.
    """
    size = path.stat().st_size
    if not size:
        return True
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = start_of(data[:160])
        if start is None:
            return True
        header, pos = Header(path, size), start
        if data[pos : pos + 2] == b"\x02\0":
            pos = scan(header, data, pos, True, True, meta=True)
        if header.syntax == DEFLATED or header.damage:
            return bool(header.damage)
        order = ">" if header.syntax == BIG_ENDIAN else "<"
        explicit = data[pos + 4 : pos + 6] in VRS
        while pos + 8 <= size:
            pos = _behind(data, pos, explicit, order)
            if pos < 0:
                return True
        return pos > size or any(data[pos:size])


def _behind(data: Any, pos: int, explicit: bool, order: str) -> int:
    """Behind the element at `pos`, sequences and all; -1 where the bytes end first."""
    vr, length = b"", struct.unpack_from(f"{order}I", data, pos + 4)[0]
    value = pos + 8
    if explicit:
        vr = data[pos + 4 : pos + 6]
        if vr in LONG_VRS:
            if pos + 12 > len(data):
                return -1
            length, value = struct.unpack_from(f"{order}I", data, pos + 8)[0], pos + 12
        else:
            length = struct.unpack_from(f"{order}H", data, pos + 6)[0]
    return behind_sequence(data, value, explicit and vr != b"UN", order) if length == UNDEFINED else value + length


def pixels_break_off(header: Header) -> bool:
    """Whether the items of encapsulated pixel data end before they are closed. Raises: OSError."""
    if header.pixels is None or header.pixels[3] != UNDEFINED:
        return False
    with header.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return not 0 <= behind_sequence(data, header.pixels[2], True, header.order) <= len(data)
