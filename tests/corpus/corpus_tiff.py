"""Malformed TIFF stacks and folders: tags that lie, chains of images without end, bombs, other files."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator

import fuzz_seeds as seeds
import numpy as np
from corpus_archives import deflated_zeros
from corpus_case import DATA, INSPECT, LINK, PIPE, Case, damaged, one

WIDTH, LENGTH, BITS, COMPRESSION, DESCRIPTION, OFFSETS, SAMPLES, ROWS, COUNTS, PREDICTOR, FORMAT = (
    256, 257, 258, 259, 270, 273, 277, 278, 279, 317, 339,
)  # fmt: skip
SHORT, LONG = 3, 4
HUGE = 0xFFFFFFF0


def images(data: bytes) -> list[tuple[int, int]]:
    """Where each list of tags lies in a little-endian classic TIFF, and how many tags it has."""
    found, at = [], struct.unpack_from("<I", data, 4)[0]
    while at:
        count = struct.unpack_from("<H", data, at)[0]
        found.append((at, count))
        at = struct.unpack_from("<I", data, at + 2 + 12 * count)[0]
    return found


def tagged(data: bytes, tag: int, value: int | None = None, count: int | None = None, image: int = 0) -> bytes:
    """The same file with another value or count of one tag."""
    made = bytearray(data)
    at, tags = images(data)[image]
    for place in range(at + 2, at + 2 + 12 * tags, 12):
        if struct.unpack_from("<H", made, place)[0] == tag:
            kind = struct.unpack_from("<H", made, place + 2)[0]
            if count is not None:
                struct.pack_into("<I", made, place + 4, count)
            if value is not None:
                struct.pack_into("<H" if kind == SHORT else "<I", made, place + 8, value)
            return bytes(made)
    raise AssertionError(f"no tag {tag}")


def linked(data: bytes, image: int, following: int) -> bytes:
    """The same file in which another list of tags follows that of an image."""
    at, tags = images(data)[image]
    end = at + 2 + 12 * tags
    return data[:end] + struct.pack("<I", following) + data[end + 4 :]


def written(tags: dict[int, tuple[int, int, int]], data: bytes = b"", following: int = 0) -> bytes:
    """A file of one image. tags: number -> (type, count, value); the data begin at byte 8."""
    body = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(tags.items()))
    head = b"II*\0" + struct.pack("<I", 8 + len(data))
    return head + data + struct.pack("<H", len(tags)) + body + struct.pack("<I", following)


def plain(width: int, length: int, data: bytes, samples: int = 1, **other: tuple[int, int, int]) -> bytes:
    """One strip of bytes."""
    tags = {
        WIDTH: (LONG, 1, width), LENGTH: (LONG, 1, length), BITS: (SHORT, 1, 8), COMPRESSION: (SHORT, 1, 1),
        262: (SHORT, 1, 1), OFFSETS: (LONG, 1, 8), SAMPLES: (SHORT, 1, samples), ROWS: (LONG, 1, length),
        COUNTS: (LONG, 1, len(data)), **{int(name[1:]): entry for name, entry in other.items()},
    }  # fmt: skip
    return written(tags, data)


def tiff() -> Iterator[Case]:
    def bad(name: str, data: bytes, *says: str, **beside: bytes) -> Case:
        return one(f"tiff-{name}", "a.tif", data, *says, **beside)

    stack, packed = seeds.tiff(), seeds.tiff(compression="zlib")
    yield from damaged("tiff", "a.tif", stack, least=30)
    yield from damaged("tiff-packed", "a.tif", packed, least=30, shares=(0.1, 0.5))
    yield from damaged("tiff-big", "a.tif", seeds.tiff(bigtiff=True, byteorder=">"), least=30, shares=(0.1, 0.5))
    yield bad("head-alone", b"II*\0\x08\0\0\0")
    yield bad("first-beyond", b"II*\0\xff\xff\xff\x7f" + bytes(99))
    for name, image in (("first", 0), ("middle", 1)):
        yield bad(f"loop-{name}", linked(stack, 2, images(stack)[image][0]))
    yield bad("loop-itself", linked(stack, 0, images(stack)[0][0]))
    yield bad("next-beyond", linked(stack, 2, HUGE), "pages are missing")
    at = images(stack)[0][0]
    yield bad("many-tags", stack[:at] + b"\xff\xff" + stack[at + 2 :])
    yield bad("no-tags", stack[:at] + b"\0\0" + stack[at + 2 :])
    chain = b"".join(struct.pack("<HHHIII", 1, WIDTH, LONG, 1, 1, 8 + 18 * (n + 1)) for n in range(120_000))
    yield bad("long-chain", b"II*\0\x08\0\0\0" + chain + bytes(18))
    for name, tag in (("offsets", OFFSETS), ("counts", COUNTS), ("bits", BITS), ("description", DESCRIPTION)):
        yield bad(f"count-of-{name}", tagged(seeds.tiff(description="eye"), tag, count=HUGE))
    for name, tag, value in (
        ("width-zero", WIDTH, 0), ("length-zero", LENGTH, 0), ("width-huge", WIDTH, 65535), ("bits", BITS, 12),
        ("bits-zero", BITS, 0), ("compression", COMPRESSION, 99), ("samples", SAMPLES, 60000),
        ("offset", OFFSETS, HUGE), ("format", FORMAT, 6),
    ):  # fmt: skip
        yield bad(name, _all(stack, tag, value))
    # values that lie in one piece are found without these two
    for name, tag, value in (("rows-zero", ROWS, 0), ("strip-huge", COUNTS, HUGE)):
        yield Case(f"tiff-{name}", {"a.tif": _all(stack, tag, value)}, (*INSPECT, "{}/a.tif"), 0)
    differ = tagged(stack, WIDTH, 6, image=1)  # as thumbnails do: left out, which a warning says
    yield Case("tiff-sizes-differ", {"a.tif": differ}, (*INSPECT, "{}/a.tif"), 0)
    yield bad("packed-bytes", packed.replace(b"\x78\x9c", b"\0\0"), "image")
    yield bad("packed-count", _all(packed, COUNTS, 5))
    yield bad("packed-promises", _all(_all(packed, WIDTH, 60000), LENGTH, 60000), "promises")
    bomb = b"\x78\x9c" + deflated_zeros(1500)
    three = dict(t259=(SHORT, 1, 8), t284=(SHORT, 1, 1))
    yield bad("bomb", plain(1 << 14, 32000, bomb, 3, **three), "times")
    yield bad("samples-many", plain(9, 9, bytes(81), 65535), "promises")
    xml = "<OME xmlns='http://www.openmicroscopy.org/Schemas/OME/2016-06'>%s</OME>"
    yield from _described(bad, xml)
    yield bad("pipe-beside", stack[:90], **{"a.json": PIPE})


def _all(data: bytes, tag: int, value: int) -> bytes:
    for image in range(len(images(data))):
        data = tagged(data, tag, value, image=image)
    return data


def _described(bad, xml: str) -> Iterator[Case]:
    """Descriptions that are to be read: JSON, OME-XML, ImageJ."""

    def good(name: str, description: str, **beside: bytes) -> Case:
        data = seeds.tiff(description=description.encode())
        return Case(f"tiff-{name}", {"a.tif": data, **beside}, (*INSPECT, "{}/a.tif"), 0)

    yield good("json-deep", "[" * 100_000)
    yield good("json-digits", '{"wavelength_nm": [' + "9" * 5000 + "]}")
    yield good("json-large", json.dumps({"wavelength_nm": [10**400] * 3}))
    yield good("json-lines", json.dumps({"units": "a\nb\x1b[2J"}))
    yield good("text-long", "wavelength = {" + "1," * 200_000)
    pixels = (
        "<Image ID='Image:0'><Pixels DimensionOrder='XYZCT' Type='float' SizeX='7' SizeY='5' SizeZ='{z}' SizeC='1' "
        "SizeT='1'><TiffData IFD='0' PlaneCount='{z}'>{uuid}</TiffData></Pixels></Image>"
    )
    elsewhere = "<UUID FileName='{}'>urn:uuid:2</UUID>".format
    for name, where in (("beside", "secret.tif"), ("up", "../../secret.tif"), ("device", "/dev/zero")):
        told = xml % pixels.format(z=3, uuid=elsewhere(where))
        yield good(f"ome-other-{name}", told, **{"secret.tif": seeds.tiff()})
    laughs = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    yield good("ome-laughs", f'<!DOCTYPE a [<!ENTITY a0 "ha">{laughs}]>{xml % "&a11;"}')
    yield bad("ome-huge", seeds.tiff(description=(xml % pixels.format(z=10**9, uuid="")).encode()))
    yield good("imagej-huge", "ImageJ=1.53\nimages=2000000000\nslices=2000000000\n")
    yield bad("shaped-huge", seeds.tiff(description=b'{"shape": [300000, 50000, 70000]}'))


def folders() -> Iterator[Case]:
    def page(values: np.ndarray, **how: object) -> bytes:
        import io

        import tifffile

        out = io.BytesIO()
        tifffile.imwrite(out, values, photometric="minisblack", metadata=None, **how)
        return out.getvalue()

    bands = [page(np.ascontiguousarray(seeds.CUBE[..., k].astype("f4"))) for k in range(3)]
    names = ("band1.tif", "band2.tif", "band10.tif")
    whole = {f"a/{name}": data for name, data in zip(names, bands)}

    def bad(name: str, changed: dict[str, bytes], *says: str) -> Case:
        files = {**whole, **{f"a/{file}": data for file, data in changed.items()}}
        return Case(f"tiff-folder-{name}", files, (*INSPECT, "{}/a"), DATA, says)

    last = bands[2]
    # the first two decide whether a folder is a cube at all; what is wrong with the third is told
    for how, data in {
        "empty": b"", "one-byte": last[:1], "cut-10": last[:30], "cut-50": last[: len(last) // 2],
        "cut-last": last[:-4],
        "zeros": bytes(len(last)), "noise": np.random.default_rng(5).bytes(900), "text": b"this is no data file\n" * 9,
    }.items():  # fmt: skip
        yield bad(f"last-{how}", {names[2]: data}, "a/band10.tif")
    for how, data in {"empty": b"", "noise": np.random.default_rng(5).bytes(900), "cut": bands[0][:50]}.items():
        yield bad(f"first-{how}", {names[0]: data}, "no reader")
    yield bad("size", {names[2]: page(np.zeros((5, 8), "f4"))}, "band10.tif", "among images of")
    yield bad("type", {names[2]: page(np.zeros((5, 7), "u2"))}, "band10.tif", "among images of")
    yield bad("complex", {names[2]: page(np.zeros((5, 7), "c8"))}, "band10.tif")
    yield bad("stack", {names[2]: seeds.tiff()}, "band10.tif", "more than one band")
    yield bad("width-huge", {names[2]: tagged(last, WIDTH, 65535)}, "band10.tif")
    yield bad("counts-huge", {names[2]: tagged(last, COUNTS, HUGE)}, "band10.tif")
    yield bad("loop", {names[2]: linked(last, 0, images(last)[0][0])}, "band10.tif")
    yield bad("pipe", {names[2]: PIPE}, "no reader")
    yield bad("device", {names[2]: LINK + b"/dev/zero"}, "no reader")
    yield bad("other-data", {"a.npy": seeds.npy()}, "no reader")
    yield bad("folder-inside", {"b/c.tif": bands[0]}, "no reader")
    bomb = plain(1 << 14, 90_000, b"\x78\x9c" + deflated_zeros(1406), t259=(SHORT, 1, 8))
    yield bad("bomb", {name: bomb for name in names}, "times")
    yield bad("lines", {names[2]: b"", "a\nb\x1b[2J.tif": b""}, "tif")
