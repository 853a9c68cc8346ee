"""DICOM files of a folder: which hold images, structures or segmentations, told from headers alone.

Headers are scanned here, element by element up to the pixel data and no further: the few elements that are wanted
are kept as bytes and decoded when asked for. Names and suffixes of files say nothing and are not asked.
Source: DICOM PS3.5 2024e, sections 7.1 (data elements), 7.5 (sequences), annex A (transfer syntaxes); PS3.10, 7.1.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import Factory, define

from gen_core.errors import DataError, MissingError

HEADER_BYTES = 64 << 20  # more than any real header; keeps a wrong file from being read whole
CHUNKS = (1 << 13, 1 << 18, 1 << 23, HEADER_BYTES)  # most headers end within the first
UNDEFINED = 0xFFFFFFFF
IMPLICIT, BIG_ENDIAN, DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
NATIVE = (IMPLICIT, "1.2.840.10008.1.2.1", BIG_ENDIAN, DEFLATED)  # pixel data as plain numbers
RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # segments; label map
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
PLACED = ("CT", "MR", "PT")  # modalities whose images must have a place in the patient
NO_IMAGES = {
    "1.2.840.10008.1.3.10": "DICOMDIR, an index of files",
    "1.2.840.10008.5.1.4.1.1.481.2": "RTDOSE: a dose, no image",
    "1.2.840.10008.5.1.4.1.1.66.1": "spatial registration, no image",
    "1.2.840.10008.5.1.4.1.1.66": "raw data, no image",
    "1.2.840.10008.5.1.4.1.1.4.2": "spectroscopy, no image",
}
LONG_VRS = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
TEXT_VRS = set(b"AE AS CS DA DS DT IS LO LT PN SH ST TM UI UC UR UT".split())
NUMBER_VRS = {b"US": "H", b"SS": "h", b"UL": "I", b"SL": "i", b"FL": "f", b"FD": "d", b"UV": "Q", b"SV": "q"}
VRS = LONG_VRS | TEXT_VRS | NUMBER_VRS.keys() | {b"AT"}
PIXELS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
FUNCTIONAL_GROUPS = (0x52009229, 0x52009230)  # shared, per frame
STRUCTURES = 0x3006  # group of contours, which may be hundreds of MB: nothing that is wanted comes behind
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD

TAGS = {
    "TransferSyntaxUID": (0x00020010, b"UI"),
    "SpecificCharacterSet": (0x00080005, b"CS"),
    "ImageType": (0x00080008, b"CS"),
    "SOPClassUID": (0x00080016, b"UI"),
    "SOPInstanceUID": (0x00080018, b"UI"),
    "AcquisitionTime": (0x00080032, b"TM"),
    "ContentTime": (0x00080033, b"TM"),
    "Modality": (0x00080060, b"CS"),
    "Manufacturer": (0x00080070, b"LO"),
    "SeriesDescription": (0x0008103E, b"LO"),
    "PatientName": (0x00100010, b"PN"),
    "PatientID": (0x00100020, b"LO"),
    "SliceThickness": (0x00180050, b"DS"),
    "EchoTime": (0x00180081, b"DS"),
    "InversionTime": (0x00180082, b"DS"),
    "EchoNumbers": (0x00180086, b"IS"),
    "SpacingBetweenSlices": (0x00180088, b"DS"),
    "TriggerTime": (0x00181060, b"DS"),
    "FlipAngle": (0x00181314, b"DS"),
    "DiffusionBValue": (0x00189087, b"FD"),
    "DiffusionGradientOrientation": (0x00189089, b"FD"),
    "SiemensBValue": (0x0019100C, b"IS"),
    "StudyInstanceUID": (0x0020000D, b"UI"),
    "SeriesInstanceUID": (0x0020000E, b"UI"),
    "SeriesNumber": (0x00200011, b"IS"),
    "AcquisitionNumber": (0x00200012, b"IS"),
    "InstanceNumber": (0x00200013, b"IS"),
    "ImagePositionPatient": (0x00200032, b"DS"),
    "ImageOrientationPatient": (0x00200037, b"DS"),
    "FrameOfReferenceUID": (0x00200052, b"UI"),
    "TemporalPositionIdentifier": (0x00200100, b"IS"),
    "SamplesPerPixel": (0x00280002, b"US"),
    "PhotometricInterpretation": (0x00280004, b"CS"),
    "NumberOfFrames": (0x00280008, b"IS"),
    "Rows": (0x00280010, b"US"),
    "Columns": (0x00280011, b"US"),
    "PixelSpacing": (0x00280030, b"DS"),
    "BitsAllocated": (0x00280100, b"US"),
    "BitsStored": (0x00280101, b"US"),
    "HighBit": (0x00280102, b"US"),
    "PixelRepresentation": (0x00280103, b"US"),
    "PixelPaddingValue": (0x00280120, b"US"),
    "RescaleIntercept": (0x00281052, b"DS"),
    "RescaleSlope": (0x00281053, b"DS"),
    "RescaleType": (0x00281054, b"LO"),
    "LossyImageCompression": (0x00282110, b"CS"),
    "Units": (0x00541001, b"CS"),
    "PhilipsBValue": (0x20011003, b"FL"),
}
WANTED = frozenset(tag for tag, _ in TAGS.values())
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


def need_pydicom() -> None:
    """Raises: MissingError. Asked once a folder, so that the answer does not hang on what the files hold."""
    try:
        import pydicom  # noqa: F401
    except ImportError:
        raise MissingError("reading DICOM needs pydicom: pip install 'gen-imaging[dicom]'") from None


def walk(root: Path) -> Iterator[Path]:
    """Regular files below a folder (or the file itself), sorted; links are followed once, hidden ones left out.

    Raises: DataError for a folder that cannot be read.
    """
    if not root.is_dir():
        if root.is_file():
            yield root
        return
    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, onerror=_unreadable, followlinks=True):
        where = os.stat(folder)
        if (where.st_dev, where.st_ino) in seen:
            folders.clear()
            continue
        seen.add((where.st_dev, where.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        for name in sorted(files):
            path = Path(folder, name)
            if not name.startswith(".") and path.is_file():  # pipes and sockets would hang
                yield path


def _unreadable(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be read: {error.strerror}")


def is_dicom(path: Path) -> bool:
    """Whether a file starts like DICOM; never raises."""
    try:
        with path.open("rb") as file:
            return _start(file.read(160)) is not None
    except OSError:
        return False


def _start(head: bytes) -> int | None:
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
    pos = _start(head)
    if pos is None:
        raise NotDicom
    header = Header(path, size)
    if head[pos : pos + 2] == b"\x02\0":
        pos = _scan(header, head, pos, whole, True, meta=True)
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
    _scan(header, head, pos, whole, head[pos + 4 : pos + 6] in VRS)
    return header


def _scan(header: Header, head: bytes, pos: int, whole: bool, explicit: bool, meta: bool = False) -> int:
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
            pos = _skip(head, value, explicit and vr != b"UN", order)
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


def _skip(head: Any, pos: int, explicit: bool, order: str) -> int:
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


def breaks_off(path: Path) -> bool:
    """Whether a file ends within an element, a sequence or the pixel data, whatever a lenient parser makes of it.

    Only the lengths of elements are read, from their heads. Zeros behind the last element are padding. A deflated data
    set is left to who inflates it. Raises: OSError.
    """
    size = path.stat().st_size
    if not size:
        return True
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = _start(data[:160])
        if start is None:
            return True
        header, pos = Header(path, size), start
        if data[pos : pos + 2] == b"\x02\0":
            pos = _scan(header, data, pos, True, True, meta=True)
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
    return _skip(data, value, explicit and vr != b"UN", order) if length == UNDEFINED else value + length


def pixels_break_off(header: Header) -> bool:
    """Whether the items of encapsulated pixel data end before they are closed. Raises: OSError."""
    if header.pixels is None or header.pixels[3] != UNDEFINED:
        return False
    with header.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return not 0 <= _skip(data, header.pixels[2], True, header.order) <= len(data)


def why_no_image(header: Header) -> str:
    """Why an object is no image to stack although nothing need be wrong with it, "" if it is one."""
    sop = header.text("SOPClassUID")
    if sop in NO_IMAGES:
        return NO_IMAGES[sop]
    kind = header.text("Modality")[:16] or "object"
    if header.pixels is None and header.numbers("Rows") is None:
        return f"damaged: {header.damage}" if header.damage else f"{kind}: no pixel data"
    if "LOCALIZER" in header.text("ImageType").upper().split("\\"):
        return "localizer"
    if header.number("SamplesPerPixel", 1) != 1:
        return f"{kind}: colour, {header.number('SamplesPerPixel'):g} samples a pixel"
    if header.enhanced:
        return ""
    if header.raw("NumberOfFrames").strip(b" \0") not in (b"", b"1"):
        return f"{kind}: several frames without places"
    screenshot = kind not in PLACED or sop.startswith(SECONDARY_CAPTURE)
    return f"{kind}: no place in the patient" if screenshot and not header.raw("ImagePositionPatient") else ""
