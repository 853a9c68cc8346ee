"""The XML of the LIDC-IDRI readers: outlined nodules, marks under 3 mm, non-nodules and ratings, as they stand there.

A file is either an annotation of a CT series (root `LidcReadMessage`, as a rule four reading sessions) or a reading of
chest X-rays (`IdriReadMessage`), which has no outlines and whose coordinates are those of a radiograph.

Source: Armato et al., Medical Physics 38:915-931 (2011), section II.C; the collection's notes on its XML files.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import numpy as np
from attrs import Factory, define, frozen

from gen_core.errors import DataError

MAX_BYTES = 16 * 2**20  # the collection's largest file is far below; a parsed tree takes some ten times its bytes
MAX_COORDINATE = 4095  # columns and rows of a CT slice; the collection's are 512 to 1024
MAX_READERS = 64
# Far above anything drawn by hand, and low enough that no file costs more than seconds and a few hundred MB afterwards:
MAX_NODULES = 1000  # outlined, in one file
MAX_PATH = 4096  # pixels along one outline
MAX_PIXELS = 2**28  # bounding boxes of all outlines together
# highest value of each rating; the lowest is 1
RATINGS = {
    "subtlety": 5,
    "internalStructure": 4,
    "calcification": 6,
    "sphericity": 5,
    "margin": 5,
    "lobulation": 5,
    "spiculation": 5,
    "texture": 5,
    "malignancy": 5,
}


@frozen(eq=False)
class Contour:
    """One outline on one slice. z: mm along the patient. points: (n, 2) int32, column x and row y, 0 the first.

    inclusion: True encloses nodule, False a region within that is none of it (a cavity, say).
    """

    z: float
    points: np.ndarray
    inclusion: bool = True
    sop_uid: str = ""


@frozen(eq=False)
class Outlined:
    """A nodule of 3 mm or more as one reader drew it. ratings: name -> value, without those that were not given."""

    reader: int
    name: str
    contours: tuple[Contour, ...]
    ratings: dict[str, int] = Factory(dict)


@frozen
class Mark:
    """A point: a nodule under 3 mm, or a non-nodule of 3 mm or more. x column, y row, z mm."""

    reader: int
    name: str
    x: int
    y: int
    z: float
    sop_uid: str = ""


@define(eq=False)
class Reading:
    """What one reader marked in the last, unblinded reading; all empty where the reader saw nothing."""

    reader: int
    outlined: list[Outlined] = Factory(list)
    small: list[Mark] = Factory(list)
    non_nodules: list[Mark] = Factory(list)


@define(eq=False)
class Readings:
    """kind: "CT" or "chest X-ray" (then `readings` is empty). readings: one a reader, those who saw nothing included.

    series_uid, study_uid: of the image that was read; "" where the file does not say. notes: what was passed over.
    """

    path: Path
    kind: str
    series_uid: str = ""
    study_uid: str = ""
    readings: list[Reading] = Factory(list)
    notes: list[str] = Factory(list)

    @property
    def outlined(self) -> list[Outlined]:
        return [nodule for reading in self.readings for nodule in reading.outlined]


def read_readings(path: Path | str) -> Readings:
    """Read one XML file of the collection; no document type, no entities, at most 16 MiB.

    A nodule with one point in all is a mark under 3 mm; anything else of a nodule counts as outlined.

    Raises: DataError naming the file: not readable, not XML, not of LIDC, a coordinate that is no number.
    """
    path = Path(path)
    root = _parse(path)
    kind = root.tag
    header = root.find("ResponseHeader")
    header = Element("ResponseHeader") if header is None else header
    found = Readings(path, "CT", _uid(header, "SeriesInstanceUid"), _uid(header, "StudyInstanceUid"))
    if kind == "IdriReadMessage" or root.find("CXRreadingSession") is not None:
        found.kind = "chest X-ray"
        return found
    if kind != "LidcReadMessage":
        raise DataError(
            f"{path}: root element is <{_shown(kind)}>, expected <LidcReadMessage> (an LIDC-IDRI annotation)"
        )
    sessions = root.findall("readingSession")
    if len(sessions) > MAX_READERS:
        raise DataError(f"{path}: {len(sessions)} reading sessions, expected four (at most {MAX_READERS})")
    if not sessions:
        found.notes.append(f"{path.name}: no reading session, so nobody read this series")
    found.readings = [_reading(session, reader, found) for reader, session in enumerate(sessions)]
    boxes = [np.prod(np.ptp(c.points, axis=0) + 1.0) for nodule in found.outlined for c in nodule.contours]
    if len(found.outlined) > MAX_NODULES or sum(boxes) > MAX_PIXELS:
        raise DataError(
            f"{path}: {len(found.outlined)} outlined nodules over {sum(boxes):.0f} pixels: too much to be true"
        )
    return found


def _parse(path: Path) -> Element:
    """The tree of a file. expat feeds the builder itself: no Python call an element."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DataError(f"{path}: {size} bytes; an LIDC annotation has at most {MAX_BYTES}")
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    builder = TreeBuilder()
    parser = expat.ParserCreate()  # names as written: the files use one default namespace, which differs between them
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data

    def refuse(*_: object) -> None:
        raise DataError(f"{path}: has a document type declaration; LIDC annotations have none, and it is not read")

    parser.StartDoctypeDeclHandler = refuse  # before any entity could be declared, let alone expanded
    try:
        parser.Parse(data, True)
        return builder.close()
    except (expat.ExpatError, LookupError, ValueError, AssertionError) as error:
        raise DataError(f"{path}: not well-formed XML: {error}") from None


def _reading(session: Element, reader: int, found: Readings) -> Reading:
    reading = Reading(reader)
    for node in session.findall("unblindedReadNodule"):
        name = _shown(_text(node, "noduleID"), 64) or "unnamed"
        where = f"{found.path}: reader {reader + 1}, nodule '{name}'"
        contours = [c for roi in node.findall("roi") if (c := _contour(roi, where, found)) is not None]
        if not contours:
            found.notes.append(f"{where}: has no point and is passed over")
        elif len(contours) == 1 and len(contours[0].points) == 1:
            (x, y), only = contours[0].points.tolist()[0], contours[0]
            reading.small.append(Mark(reader, name, x, y, only.z, only.sop_uid))
        else:
            reading.outlined.append(Outlined(reader, name, tuple(contours), _ratings(node, where, found)))
    for node in session.findall("nonNodule"):
        name = _shown(_text(node, "nonNoduleID"), 64) or "unnamed"
        where = f"{found.path}: reader {reader + 1}, non-nodule '{name}'"
        points = _points(node, "locus", where)
        if len(points):
            x, y = points[0].tolist()
            reading.non_nodules.append(Mark(reader, name, x, y, _z(node, where), _text(node, "imageSOP_UID")))
        else:
            found.notes.append(f"{where}: has no point and is passed over")
    return reading


def _contour(roi: Element, where: str, found: Readings) -> Contour | None:
    points = _points(roi, "edgeMap", where)
    if not len(points):
        found.notes.append(f"{where}: an outline without points is passed over")
        return None
    inclusion = _text(roi, "inclusion").upper() or "TRUE"
    if inclusion not in ("TRUE", "FALSE"):
        raise DataError(f"{where}: inclusion is '{_shown(inclusion)}', expected TRUE or FALSE")
    along = int(np.abs(np.roll(points, -1, axis=0) - points).max(1).sum())
    if along > MAX_PATH:
        raise DataError(f"{where}: an outline is {along} pixels long, expected at most {MAX_PATH}")
    return Contour(_z(roi, where), points, inclusion == "TRUE", _text(roi, "imageSOP_UID"))


def _points(node: Element, tag: str, where: str) -> np.ndarray:
    """(n, 2) int32 of the <xCoord>, <yCoord> in each child <tag>."""
    pairs = [(p.findtext("xCoord", ""), p.findtext("yCoord", "")) for p in node.findall(tag)]
    try:
        points = np.array([(int(x), int(y)) for x, y in pairs], dtype=np.int64).reshape(-1, 2)
    except (ValueError, OverflowError):
        bad = next(text for pair in pairs for text in pair if not re.fullmatch(r"\s*[+-]?\d{1,18}\s*", text))
        raise DataError(f"{where}: coordinate '{_shown(bad)}' is not a whole number") from None
    if points.size and (points.min() < 0 or points.max() > MAX_COORDINATE):
        raise DataError(f"{where}: coordinates {points.min()}..{points.max()} leave 0..{MAX_COORDINATE}")
    return points.astype(np.int32)


def _z(node: Element, where: str) -> float:
    text = _text(node, "imageZposition")
    try:
        z = float(text)
    except ValueError:
        z = math.nan
    if not math.isfinite(z):
        raise DataError(f"{where}: imageZposition is '{_shown(text)}', expected mm")
    return z


def _ratings(node: Element, where: str, found: Readings) -> dict[str, int]:
    """The ratings that lie in their range; others are passed over with a note."""
    ratings: dict[str, int] = {}
    given = node.find("characteristics")
    for name, highest in RATINGS.items() if given is not None else ():
        text = _text(given, name)
        if re.fullmatch(r"\d", text) and 1 <= int(text) <= highest:
            ratings[name] = int(text)
        elif text:
            found.notes.append(f"{where}: {name} is '{_shown(text)}', expected 1..{highest}; passed over")
    return ratings


def _shown(text: str, length: int = 20) -> str:
    """What a file says, fit for a message of one line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * length]).split())[:length]


def _text(node: Element, tag: str) -> str:
    return (node.findtext(tag) or "").strip()


def _uid(header: Element, tag: str) -> str:
    """The first UID of that name; files write Uid as well as UID."""
    texts = ((child.text or "").strip() for child in header if child.tag.lower() == tag.lower())
    return next((text for text in texts if re.fullmatch(r"[0-9.]{1,64}", text)), "")
