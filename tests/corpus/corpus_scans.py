"""Malformed NIfTI and DICOM images."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator

import fuzz_seeds as seeds
from corpus_case import INSPECT, Case, damaged, one


def nifti() -> Iterator[Case]:
    def bad(name: str, data: bytes, *says: str, file: str = "a.nii") -> Case:
        return one(f"nifti-{name}", file, data, *says)

    yield from damaged("nifti", "a.nii", seeds.nifti())
    yield from damaged("nifti-big", "a.nii", seeds.nifti(big=True, two=True))
    yield from damaged("nifti-gz", "a.nii.gz", seeds.nifti(True))
    set_ = lambda **fields: seeds.nifti(**fields)
    yield bad("dims-none", set_(dim=[0, 7, 5, 3, 1, 1, 1, 1]), "dim[0]")
    yield bad("dims-nine", set_(dim=[9, 7, 5, 3, 1, 1, 1, 1]), "dim[0]")
    yield bad("dims-zero", set_(dim=[3, 7, 0, 3, 1, 1, 1, 1]), "dim")
    yield bad("dims-negative", set_(dim=[3, 7, -5, 3, 1, 1, 1, 1]), "dim")
    yield bad("dims-huge", set_(dim=[7] + [32767] * 7), "bytes")
    yield bad("dims-huge-2", seeds.nifti(two=True, dim=[7] + [2**62] * 7), "bytes")
    yield bad("type", set_(datatype=3), "datatype")
    yield bad("complex", set_(datatype=32), "datatype", "complex64")
    yield bad("colour", set_(datatype=128), "datatype", "RGB")
    yield bad("offset-huge", set_(vox_offset=1e30), "vox_offset")
    yield bad("offset-nan", set_(vox_offset=float("nan")), "vox_offset")
    yield bad("offset-beyond", set_(vox_offset=1e9), "bytes")
    yield bad("inter", set_(scl_slope=1, scl_inter=float("inf")), "scl_inter")
    yield bad("no-place", set_(sform_code=0, qform_code=0, pixdim=[1, 0, 0, 0, 0, 0, 0, 0]), "pixdim")
    pair = bytearray(seeds.nifti())
    pair[344:348] = b"ni1\0"
    yield bad("pair", bytes(pair), "pair")
    pair[344:348] = b"nope"
    yield bad("magic", bytes(pair), "magic")
    packed = lambda **fields: gzip.compress(seeds.nifti(**fields), mtime=0)
    yield bad("gz-lies", packed(dim=[7] + [32767] * 7), "bytes", file="a.nii.gz")
    yield bad("gz-short", packed(dim=[3, 90, 50, 3, 1, 1, 1, 1]), file="a.nii.gz")
    yield bad("gz-wrong-sum", seeds.nifti(True)[:-8] + bytes(8), file="a.nii.gz")
    yield bad("gz-nested", gzip.compress(seeds.nifti(True), mtime=0), file="a.nii.gz")
    head = seeds.nifti(dim=[3, 1000, 1000, 750, 1, 1, 1, 1])[:352]
    yield bad("bomb", gzip.compress(head, mtime=0) + seeds.gz_zeros(3000), "times", file="a.nii.gz")


def dicom() -> Iterator[Case]:
    def bad(name: str, data: bytes, *says: str) -> Case:
        return one(f"dicom-{name}", "a.dcm", data, *says)

    yield from damaged("dicom", "a.dcm", seeds.dicom(), shares=(0.5, 0.9))
    yield from damaged("dicom-implicit", "a.dcm", seeds.dicom(seeds.IMPLICIT), shares=(0.5, 0.9))
    yield from damaged("dicom-rle", "a.dcm", seeds.dicom(compress=seeds.RLE), least=20, shares=(0.5, 0.9))
    yield from damaged("dicom-frames", "a.dcm", seeds.dicom_enhanced(), shares=(0.5, 0.9))
    yield bad("deflated-cut", seeds.dicom(seeds.DEFLATED)[:-40])
    with_ = lambda **facts: seeds.dicom(**facts)
    yield bad("rows-huge", with_(Rows=65535, Columns=65535), "65535", "truncated")
    yield bad("rows-zero", with_(Rows=0))
    yield bad("frames-huge", seeds.dicom_enhanced().replace(b"IS\x02\x003 ", b"IS\x02\x0099"))
    yield bad("bits", with_(BitsAllocated=12), "BitsAllocated")
    yield bad("bits-stored", with_(BitsStored=99), "BitsStored")
    yield bad("high-bit", with_(HighBit=3), "HighBit")
    yield bad("sign", with_(PixelRepresentation=7), "PixelRepresentation")
    yield bad("colour", with_(SamplesPerPixel=3), "colour")
    yield bad("palette", with_(PhotometricInterpretation="PALETTE COLOR"), "PhotometricInterpretation")
    made = seeds.dicom()

    def swap(old: bytes, new: bytes) -> bytes:
        assert made.count(old) == 1 and len(new) <= len(old), old
        return made.replace(old, new.ljust(len(old)))

    yield bad("slope-text", swap(b"-1024.0 ", b"a\nb\x1b[2J"), "RescaleIntercept")
    yield bad("slope-nan", swap(b"-1024.0 ", b"nan"), "RescaleIntercept")
    yield bad("spacing-zero", swap(b"1.3\\0.7 ", b"0\\0"), "PixelSpacing")
    yield bad("spacing-one", swap(b"1.3\\0.7 ", b"1.3"), "PixelSpacing")
    yield bad("spacing-negative", swap(b"1.3\\0.7 ", b"-1\\-1"), "PixelSpacing")
    yield bad("position-inf", swap(b"-3.0\\11.0\\-40.0 ", b"inf\\1\\inf"), "ImagePositionPatient")
    yield bad("orientation", swap(b"1.0\\0.0\\0.0\\0.0\\1.0\\0.0 ", b"0\\0\\0\\0\\0\\0"), "ImageOrientationPatient")
    yield bad("syntax", made.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.9.9.9\0"))
    yield bad("syntax-packed", made.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"))
    at = made.index(b"\x20\x00\x32\x00")  # before ImagePositionPatient
    deep = b"\x09\x00\x10\x10SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    yield bad("deep", made[:at] + deep * 40_000 + made[at:])
    ends = (b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0") * 3000
    told = made[:at] + deep * 3000 + ends + made[at:]
    yield Case("dicom-deep-closed", {"a.dcm": told}, (*INSPECT, "{}/a.dcm"), 0)
    yield bad("long-element", made[:at] + b"\x09\x00\x10\x10UN\0\0\xfe\xff\xff\xff" + made[at:], "breaks off")
    yield bad("no-vr", made[:at] + b"\x09\x00\x10\x10??\x04\x00aaaa" + made[at:], "VR")
    yield bad("dicomdir", made.replace(b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.840.10008.1.3.10\0".ljust(26, b"\0")))
    yield bad(
        "long-header", made[:at] + b"\x09\x00\x10\x10UN\0\0" + struct.pack("<I", 65 << 20) + bytes(65 << 20), "MiB"
    )
    large = seeds.dicom(compress="1.2.840.10008.1.2.4.80", size=(33, 41))
    claims = struct.pack("<H", 60000)
    lies = large.replace(b"\x28\x00\x10\x00US\x02\x00\x21\x00", b"\x28\x00\x10\x00US\x02\x00" + claims)
    yield bad(
        "packed-lies", lies.replace(b"\x28\x00\x11\x00US\x02\x00\x29\x00", b"\x28\x00\x11\x00US\x02\x00" + claims)
    )
    yield bad("packed-cut", large[:-200])
