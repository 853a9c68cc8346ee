"""Stored pixels and what they mean: value = slope * stored + intercept, float32.

Arithmetic is float32 where that is exact, else float64.
Source: DICOM PS3.5 2024e, 8.1.1 (bits stored, high bit); PS3.3, C.11.1.1.2 (rescale), C.7.6.3.1.2 (photometric
interpretation).
"""

from __future__ import annotations

import numpy as np
from attrs import frozen

from gen_core.errors import DataError
from gen_radiology.dicom.elements import DEFLATED, NATIVE, UNDEFINED
from gen_radiology.dicom.frames import Frame
from gen_radiology.dicom.header import Header

MEASURED = ("CT", "PT")  # values are quantities: MONOCHROME1 says how to show them, not what they are
PIXELS_A_BYTE = 200  # no coder packs a real image tighter; more is a header that lies
RLE_PIXELS_A_BYTE = 64  # two bytes stand for 128 at most
SMALL = 1 << 20  # pixels that any file may claim: an empty image packs without limit
EXACT = 1 << 24  # whole numbers up to here are exact in float32
RLE = "1.2.840.10008.1.2.5"


@frozen
class Stored:
    """How pixels lie in a file. low: the bit a value begins at, above unused ones. clean: other bits were seen to."""

    dtype: np.dtype
    bits: int
    low: int
    signed: bool
    inverted: bool
    clean: bool = False

    @property
    def partial(self) -> bool:
        return not self.clean and self.dtype.kind in "iu" and self.bits < 8 * self.dtype.itemsize

    def limits(self) -> tuple[int, int]:
        return (-(1 << self.bits - 1), (1 << self.bits - 1) - 1) if self.signed else (0, (1 << self.bits) - 1)


def stored(header: Header) -> Stored:
    """How the pixels of an object are stored. Raises: DataError naming file and key."""
    if header.pixels is None:
        why = header.damage or "the file ends before it"
        raise DataError(f"{header.path}: no pixel data: {why}")
    name = header.pixels[0]
    if name != "PixelData":
        dtype = np.dtype(header.order + ("f4" if name == "FloatPixelData" else "f8"))
        return Stored(dtype, 8 * dtype.itemsize, 0, True, False)
    allocated = header.whole("BitsAllocated")
    if allocated not in (8, 16, 32):
        raise DataError(f"{header.path}: BitsAllocated is {allocated}, expected 8, 16 or 32")
    bits = header.whole("BitsStored", allocated)
    high = header.whole("HighBit", bits - 1)
    sign = header.whole("PixelRepresentation", 0)
    if not 1 <= bits <= allocated or not bits - 1 <= high < allocated:
        raise DataError(f"{header.path}: BitsStored {bits}, HighBit {high} do not fit into BitsAllocated {allocated}")
    if sign not in (0, 1):
        raise DataError(f"{header.path}: PixelRepresentation is {sign}, expected 0 or 1")
    photometric = header.text("PhotometricInterpretation") or "MONOCHROME2"
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise DataError(
            f"{header.path}: PhotometricInterpretation is {photometric}, expected MONOCHROME1 or MONOCHROME2"
        )
    inverted = photometric == "MONOCHROME1" and header.text("Modality") not in MEASURED
    order = ">" if header.order == ">" else "<"
    dtype = np.dtype(f"{order}{'i' if sign else 'u'}{allocated // 8}")
    return Stored(dtype, bits, high + 1 - bits, bool(sign), inverted)


def check_size(header: Header) -> None:
    """Hold what the header claims against the bytes that are there, before anything is allocated.

    Raises: DataError for truncated pixel data, or sizes that the file cannot hold.
    """
    how = stored(header)
    _, _, offset, length = header.pixels
    rows, columns, frames = header.whole("Rows"), header.whole("Columns"), header.whole("NumberOfFrames", 1)
    pixels = rows * columns * frames
    claim = f"{rows} rows x {columns} columns x {frames} frames"
    if header.syntax not in NATIVE or header.syntax == DEFLATED:
        there = header.size - offset * (header.syntax != DEFLATED)
        packed = RLE_PIXELS_A_BYTE if header.syntax == RLE else PIXELS_A_BYTE
        if pixels > max(SMALL, packed * there) or there <= 0:
            raise DataError(f"{header.path}: {claim} cannot come out of {max(there, 0)} bytes of compressed pixel data")
        return
    need = pixels * how.dtype.itemsize
    there = header.size - offset
    if length != UNDEFINED:
        there = max(0, min(there, length))
    if length == UNDEFINED:
        raise DataError(f"{header.path}: pixel data are encapsulated, but the transfer syntax says that they are plain")
    if there < need:
        raise DataError(f"{header.path}: {claim} need {need} bytes of pixel data, {there} are there: truncated")


def to_physical(pixels: np.ndarray, how: Stored, frame: Frame, out: np.ndarray) -> None:
    """Stored pixels (rows, columns) to slope * stored + intercept, into out float32. `pixels` may be overwritten."""
    if how.partial:
        pixels = _meant(pixels, how)
    if how.inverted:
        low, high = how.limits()
        pixels = (low + high) - pixels.astype(np.int64)
    slope, intercept = frame.slope, frame.intercept
    whole = slope == int(slope) and intercept == int(intercept) and pixels.dtype.kind in "iu"
    if whole and max(map(abs, how.limits())) * abs(slope) + abs(intercept) < EXACT:
        if slope == 1:
            np.add(pixels, np.float32(intercept), out=out, dtype=np.float32, casting="same_kind")
        else:
            np.multiply(pixels, np.float32(slope), out=out, dtype=np.float32, casting="same_kind")
            out += np.float32(intercept)
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            out[...] = pixels * np.float64(slope) + intercept


def _meant(pixels: np.ndarray, how: Stored) -> np.ndarray:
    """The stored bits alone: overlays and rubbish above and below them go, the sign is extended."""
    width = 8 * pixels.dtype.itemsize
    native = pixels.astype(pixels.dtype.newbyteorder("="))
    native <<= width - how.bits - how.low
    native >>= width - how.bits  # arithmetic for signed types
    return native


def padding_value(header: Header, frame: Frame) -> float | None:
    """PixelPaddingValue in physical units, None if there is none."""
    tag, raw = "PixelPaddingValue", header.raw("PixelPaddingValue")
    if not raw:
        return None
    value = header.whole(tag)
    bits = 8 * len(raw)
    if header.whole("PixelRepresentation", 0) and bits == 16 and value >= 1 << 15:  # US or SS: what the pixels are
        value -= 1 << 16
    return float(np.float32(frame.slope * value + frame.intercept))
