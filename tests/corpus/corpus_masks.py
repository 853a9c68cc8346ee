"""Malformed masks on a sound slice: structures, segmentations, label maps, readings of LIDC."""

from __future__ import annotations

from collections.abc import Iterator

import fuzz_seeds as seeds
from corpus_case import DATA, INSPECT, Case


def masks() -> Iterator[Case]:
    """Structures and segmentations on a sound slice."""
    image = seeds.dicom()

    def bad(name: str, file: str, data: bytes, *says: str) -> Case:
        words = (*INSPECT, "{}/image/a.dcm", "--masks", f"{{}}/{file}")
        return Case(name, {"image/a.dcm": image, file: data}, words, DATA, (file, *says))

    for kind, data in (("rtstruct", seeds.rtstruct()), ("seg", seeds.segmentation())):
        for share in (0.3, 0.7, 0.95):
            yield bad(f"{kind}-cut-{round(100 * share)}", "m.dcm", data[: int(share * len(data))])
        for name, content in (("empty", b""), ("zeros", bytes(999)), ("text", b"no mask\n" * 99)):
            yield bad(f"{kind}-{name}", "m.dcm", content)
    seg = seeds.segmentation
    yield bad("seg-rows-huge", "m.dcm", seg(Rows=65535, Columns=65535), "Rows")
    yield bad("seg-frames", "m.dcm", seg(NumberOfFrames=2_000_000_000), "NumberOfFrames")
    yield bad("seg-bits", "m.dcm", seg(BitsAllocated=7), "BitsAllocated")
    yield bad("seg-kind", "m.dcm", seg(SegmentationType="OTHER"), "SegmentationType")
    yield bad("seg-pixels", "m.dcm", seg(PixelData=b"\0\0"), "PixelData")
    yield bad("seg-none", "m.dcm", seg(SegmentSequence=[]), "SegmentSequence")
    deep = b"\x06\x30\x10\x00SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    struct_ = seeds.rtstruct()
    at = struct_.index(b"\x06\x30\x20\x00")
    yield bad("rtstruct-deep", "m.dcm", struct_[:at] + deep * 4000 + struct_[at:])
    yield bad("rtstruct-is-image", "m.dcm", image, "neither RTSTRUCT nor SEG")
    yield bad("labels-damaged", "m.nii.gz", seeds.nifti(True)[:-30])
    yield bad("labels-grid", "m.nii.gz", seeds.nifti(True), "grid")


def lidc() -> Iterator[Case]:
    image = seeds.dicom()

    def bad(name: str, data: bytes, *says: str) -> Case:
        words = (*INSPECT, "{}/image/a.dcm", "--masks", "{}/m.xml")
        return Case(f"lidc-{name}", {"image/a.dcm": image, "m.xml": data}, words, DATA, ("m.xml", *says))

    good = seeds.lidc()
    for share in (0.2, 0.6, 0.99):
        yield bad(f"cut-{round(100 * share)}", good[: int(share * len(good))])
    yield bad("empty", b"")
    yield bad("binary", bytes(range(256)) * 9)
    yield bad("other-root", good.replace(b"LidcReadMessage", b"OtherReadMessage"), "OtherReadMessage")
    yield bad("chest", good.replace(b"LidcReadMessage", b"IdriReadMessage"), "chest X-ray")
    laughs = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    yield bad("laughs", seeds.lidc(f'<!DOCTYPE a [<!ENTITY a0 "ha">{laughs}]>', noduleID="&a11;"), "document type")
    quadratic = f'<!DOCTYPE a [<!ENTITY a "{"a" * 100_000}">]>'
    yield bad("quadratic", seeds.lidc(quadratic, noduleID="&a;" * 20_000), "document type")
    outside = '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    yield bad("external", seeds.lidc(outside, noduleID="&a;"), "document type")
    yield bad("parameter", seeds.lidc('<!DOCTYPE a [<!ENTITY % p SYSTEM "http://localhost:9/x">%p;]>'), "document type")
    yield bad("doctype", seeds.lidc('<!DOCTYPE a SYSTEM "file:///dev/zero">'), "document type")
    yield bad("deep", good.replace(b"<readingSession>", b"<a>" * 200_000, 1))
    yield bad("long", b"<a>" + b" " * (17 << 20), "bytes")
    yield bad(
        "many-readers",
        good.replace(b"<readingSession>", b"<readingSession/>" * 99 + b"<readingSession>", 1),
        "sessions",
    )
    yield bad("coordinate-text", seeds.lidc(xCoord="seven"), "seven")
    yield bad("coordinate-digits", seeds.lidc(xCoord="9" * 5000), "whole number")
    yield bad("coordinate-negative", seeds.lidc(xCoord="-"), "coordinate")
    yield bad("position", seeds.lidc(imageZposition="nan"), "imageZposition")
    yield bad("position-text", seeds.lidc(imageZposition="a&#10;b"), "imageZposition")
    yield bad("inclusion", seeds.lidc(inclusion="PERHAPS"), "inclusion")
    yield bad("encoding", good.replace(b"UTF-8", b"UTF-99"))
    edge = b"".join(b"<edgeMap><xCoord>%d</xCoord><yCoord>0</yCoord></edgeMap>" % x for x in (0, 4095))
    yield bad("long-outline", good.replace(b"<edgeMap>", edge * 40 + b"<edgeMap>", 1), "long")
