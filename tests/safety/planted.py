"""CT series whose every header element that can hold text, a name, a date or a UID holds a mark of its own."""

from __future__ import annotations

import base64
import gzip
import re
import warnings
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np

ROOT = "1.2.826.0.1.3680043.10.987"  # of planted UIDs
TEXTS = {"PN": 60, "LO": 60, "SH": 15, "ST": 200, "LT": 200, "UT": 200, "UC": 60, "AE": 15}
NEEDED = {
    # what the image cannot be read without, or what names a coding and no person
    "SOPClassUID", "SpecificCharacterSet", "TransferSyntaxUID", "PixelData", "ImageType", "Modality",
    "PhotometricInterpretation", "PatientPosition", "RescaleType", "MediaStorageSOPClassUID", "NumberOfFrames",
    # what tells of the scanner and of codes, and is kept: PS3.15 E.1-1 does not ask to remove it
    "Manufacturer", "ManufacturerModelName", "ImagedNucleus", "FilterType", "ConvolutionKernel", "SegmentLabel",
    "CodeValue", "CodingSchemeDesignator", "CodeMeaning",
}  # fmt: skip


def series(folder: Path, patient: int, slices: int = 6, shape: tuple[int, int] = (12, 16)) -> list[str]:
    """Write one CT series of a phantom; returns the marks that stand in its headers."""
    from pydicom.datadict import DicomDictionary
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    marks: list[str] = []

    def mark(n: int) -> str:
        marks.append(f"zq{patient:02d}{n:04d}k")
        return marks[-1].upper()

    def uid(n: int) -> str:
        marks.append(f"{ROOT}.{patient}.{n}.5")
        return marks[-1]

    base, n = Dataset(), 0
    for tag, (vr, _, _, retired, keyword) in DicomDictionary.items():
        if not keyword or keyword in NEEDED or retired or not 0x0008 <= tag >> 16 <= 0x0070 or tag >> 16 == 0x0028:
            continue
        n += 1
        try:
            if vr in TEXTS:
                value = mark(n)
                base.add_new(tag, vr, f"{value}^{value}" if vr == "PN" else value)
            elif vr == "UI":
                base.add_new(tag, vr, uid(n))
            elif vr == "DA":
                date = f"{1900 + patient:04d}{n % 12 + 1:02d}{n % 28 + 1:02d}"
                base.add_new(tag, vr, date)
                marks.append(date)
            elif vr == "DT":
                base.add_new(tag, vr, f"{1900 + patient:04d}0203040506.{n:06d}")
                marks.append(f"{1900 + patient:04d}0203040506")
        except Exception:
            marks.pop()
    inner = Dataset()
    inner.PatientName, inner.TextValue, inner.UID = mark(9001), mark(9002), uid(9003)
    base.ContentSequence = base.RequestAttributesSequence = base.ReferencedStudySequence = [inner]
    block = base.private_block(0x0029, mark(9004), create=True)
    block.add_new(1, "LO", mark(9005))
    block.add_new(2, "OB", mark(9006).encode())
    base.private_block(0x0071, "ACME", create=True).add_new(1, "UN", mark(9007).encode())
    base.PatientID, base.PatientBirthDate = mark(9008), f"{1900 + patient:04d}0707"
    marks.append(base.PatientBirthDate)
    base.Modality, base.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    base.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    base.StudyInstanceUID, base.SeriesInstanceUID, base.FrameOfReferenceUID = uid(9009), uid(9010), uid(9011)
    base.SeriesNumber, base.SpecificCharacterSet = 3, "ISO_IR 192"
    rng = np.random.default_rng(patient)
    z, y, x = np.mgrid[-1 : 1 : slices * 1j, -1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    body = np.where((x / 0.8) ** 2 + (y / 0.7) ** 2 < 1, 40.0, -1000.0) + 30 * rng.standard_normal(z.shape)
    for k in range(slices):
        data = Dataset()
        data.update(base)
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = uid(9100 + k)
        data.file_meta.SourceApplicationEntityTitle = mark(9200 + k)[:15]
        data.ImagePositionPatient, data.ImageOrientationPatient = [0, 0, 2.5 * k], [1, 0, 0, 0, 1, 0]
        data.PixelSpacing, data.SliceThickness, data.InstanceNumber = [1, 1], 2.5, k + 1
        data.RescaleSlope, data.RescaleIntercept, data.BurnedInAnnotation = 1, -1024, "NO"
        data.Rows, data.Columns, data.SamplesPerPixel, data.PhotometricInterpretation = *shape, 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
        data.PixelData = (body[k] + 1024).astype("<i2").tobytes()
        folder.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data.save_as(folder / f"{k:03d}.dcm", enforce_file_format=True)
    return sorted(set(marks))


def everything(data: bytes, depth: int = 3) -> bytes:
    """Bytes with all that is packed inside: gzip, zip, base64 pictures in a page, compressed text of pictures."""
    parts = [data]
    if depth and data[:2] == b"\x1f\x8b":
        parts.append(everything(gzip.decompress(data), depth - 1))
    if depth and data[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(BytesIO(data)) as archive:
            parts += [name.encode() + everything(archive.read(name), depth - 1) for name in archive.namelist()]
    if depth:
        for found in re.findall(rb"base64,([A-Za-z0-9+/=\s]{16,})", data):
            parts.append(everything(base64.b64decode(found + b"==", validate=False), depth - 1))
        if data[:4] == b"\x89PNG":
            for found in re.finditer(rb"(zTXt|iTXt|eXIf)", data):
                at = data.find(b"\0", found.end())
                try:
                    parts.append(zlib.decompress(data[at + 2 :]))
                except zlib.error:
                    continue
    return b"\n".join(parts)


LOOKS_LIKE = re.compile(rb"zq\d{6}k|1\.2\.826\.0\.1\.3680043\.10\.987[\d.]*|19\d{6}(?:\d{6})?", re.IGNORECASE)


def marks_in(data: bytes, marks: set[str]) -> set[str]:
    """The planted marks in bytes, whatever their case; of a UID its root is enough."""
    found = {m.decode().lower() for m in LOOKS_LIKE.findall(everything(data))}
    return {m for m in found if m.startswith(ROOT) or m in marks}


def leaks(folder: Path, marks: set[str]) -> list[str]:
    """ "file: mark" for each mark in a file's bytes or in a name below `folder`."""
    found = []
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        held = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found += [f"{name}: {hit}" for hit in sorted(marks_in(held, marks) | marks_in(name.encode(), marks))]
    return found
