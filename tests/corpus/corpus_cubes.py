"""Malformed sidecars, ENVI headers and MATLAB v5 files."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import fuzz_seeds as seeds
import numpy as np
from corpus_archives import deflated_zeros
from corpus_case import DATA, INSPECT, Case, damaged, one


def sidecars() -> Iterator[Case]:
    def bad(name: str, side: str, data: bytes, *says: str) -> Case:
        words = (*INSPECT, "{}/a.npy")
        return Case(f"sidecar-{name}", {"a.npy": seeds.npy(), side: data}, words, DATA, (side, *says))

    yield bad("deep", "a.json", b"[" * 200_000)
    yield bad("deep-object", "a.json", b'{"a":' * 200_000)
    yield bad("no-json", "a.json", b"{")
    yield bad("number", "a.json", b"7", "object")
    yield bad("binary", "a.json", bytes(range(256)))
    yield bad("texts", "a.json", b'{"wavelength_nm": ["a", "b", "c"]}', "wavelength_nm", "numbers")
    yield bad("object", "a.json", b'{"wavelength_nm": {"a": 1}}', "wavelength_nm")
    yield bad("axes", "a.json", b'{"axes": "yyx"}', "axes")
    yield bad("axes-lines", "a.json", b'{"axes": "a\\nb\\u001b[2J"}', "axes")
    yield bad("nodata", "a.json", b'{"nodata": [1]}', "nodata")
    yield bad("digits", "a.json", b'{"wavelength_nm": [' + b"9" * 5000 + b"]}")
    yield bad("large-number", "a.json", b'{"wavelength_nm": [' + b"9" * 400 + b"]}", "wavelength_nm")
    yield bad("long", "a.json", b"[" + b"1," * (1 << 20) + b"1]", "large")
    yield bad("ragged", "a.csv", b"1,2\n3\n", "columns")
    yield bad("words", "a.csv", b"a,b\nc,d\n", "numbers")
    yield bad("empty", "a.txt", b"\n\n", "no wavelengths")


def envi() -> Iterator[Case]:
    data = seeds.CUBE.tobytes()

    def bad(name: str, header: bytes | str, *says: str, dat: bytes = data) -> Case:
        header = header.encode() if isinstance(header, str) else header
        return one(f"envi-{name}", "a.hdr", header, *says, **{"a.dat": dat})

    swap = lambda old, new: seeds.ENVI.replace(old, new)
    yield bad("empty", "", "a.hdr")
    yield bad("zeros", bytes(500))
    yield bad("noise", np.random.default_rng(5).bytes(3000))
    yield bad("head-alone", "ENVI\n", "samples", "missing")
    yield bad("cut", seeds.ENVI[:40], "missing")
    yield bad("no-lines", swap("lines = 5\n", ""), "lines", "missing")
    yield bad("brace", "ENVI\nsamples=7\nwavelength = {1,\n2\n", "wavelength", "never closed")
    yield bad("samples-text", swap("samples=7", "samples=seven"), "samples", "whole number")
    yield bad("samples-negative", swap("samples=7", "samples=-7"), "samples")
    yield bad("samples-zero", swap("samples=7", "samples=0"), "samples")
    yield bad("samples-digits", swap("samples=7", "samples=" + "9" * 5000), "samples")
    yield bad("samples-huge", swap("samples=7", "samples=" + "9" * 30), "bytes")
    yield bad("offset-huge", swap("header offset = 0", "header offset = " + "9" * 30), "bytes")
    yield bad("offset-negative", swap("header offset = 0", "header offset = -1"), "header offset")
    yield bad("type", swap("data type = 5", "data type = 99"), "data type")
    yield bad("complex", swap("data type = 5", "data type = 6"), "data type", "complex")
    yield bad("interleave", swap("bsq", "b\x1b[2Jsq"), "interleave")
    yield bad("order", swap("byte order = 0", "byte order = 7"), "byte order")
    yield bad("packed", swap("bbl=", "file compression = 1\nbbl="), "file compression")
    yield bad("factor-zero", swap("bbl=", "reflectance scale factor = 0\nbbl="), "reflectance scale factor")
    yield bad("factor-text", swap("bbl=", "reflectance scale factor = x\nbbl="), "reflectance scale factor")
    yield bad("nodata", swap("value = 0", "value = x"), "data ignore value")
    yield bad("data-short", seeds.ENVI, "a.dat", "bytes", dat=data[:-1])
    yield bad("data-empty", seeds.ENVI, "a.dat", dat=b"")
    yield bad("long", "ENVI\n" + "a\n" * (3 << 20), "large")
    yield bad("long-list", "ENVI\nwavelength = {" + "1,\n" * (2 << 20), "large")
    yield Case("envi-no-data", {"a.hdr": seeds.ENVI.encode()}, (*INSPECT, "{}/a.hdr"), DATA, ("a.hdr", "no data file"))


def _mat_element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data


def _mat_array(shape: tuple[int, ...], name: bytes = b"x", values: bytes = bytes(64), said: int | None = None) -> bytes:
    """Flags, dimensions, name and values of a double array; said: the length that its values claim."""
    pad = lambda b: b + bytes(-len(b) % 8)
    body = _mat_element(6, struct.pack("<II", 6, 0)) + pad(_mat_element(5, struct.pack(f"<{len(shape)}i", *shape)))
    body += pad(_mat_element(1, name))
    return body + struct.pack("<II", 9, len(values) if said is None else said) + values


def matlab() -> Iterator[Case]:
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"

    def bad(name: str, data: bytes, *says: str) -> Case:
        return one(f"mat-{name}", "a.mat", data, *says)

    yield from damaged("mat", "a.mat", seeds.mat(False), least=9)
    yield from damaged("mat-packed", "a.mat", seeds.mat(True), shares=(0.1, 0.5))
    yield bad("head-alone", head, "no 3-D array")
    yield bad("byte-order", head[:126] + b"XX" + bytes(99), "byte order")
    yield bad("long-element", head + struct.pack("<II", 14, 2**32 - 1) + bytes(99), "cut off")
    yield bad("kind", head + struct.pack("<II", 77, 8) + bytes(8), "element type 77")
    huge = (2**31 - 1, 2**31 - 1, 4)
    yield bad("promises", head + _mat_element(14, _mat_array(huge)), "x", "promises")
    yield bad("negative", head + _mat_element(14, _mat_array((-5, -7, 3))), "no 3-D array")
    lying = _mat_array((30000, 30000, 30), said=30000 * 30000 * 30 * 8 % 2**32)
    yield bad("promises-packed", head + _mat_element(15, zlib.compress(_mat_element(14, lying))), "x", "promises")
    yield bad("no-stream", head + _mat_element(15, b"nonsense" * 9))
    yield bad("name", head + _mat_element(14, _mat_array((2, 2, 2), b"a\nb\x1b[2J")), "name")
    whole = _mat_element(14, _mat_array((2, 2, 2)))
    cut = zlib.compress(whole)[:-9]
    yield bad("stream-cut", head + _mat_element(15, cut))
    many = b"".join(_mat_element(14, _mat_array((2, 2, 2), b"x%d" % n)) for n in range(2000))
    yield bad("many", head + many, "choose one")
    size = 1496 << 20
    start = _mat_array((1 << 10, 1 << 10, size >> 23), values=b"", said=size)
    packed = b"\x78\x9c" + deflated_zeros(size >> 20, struct.pack("<II", 14, len(start) + size) + start)
    yield bad("bomb", head + _mat_element(15, packed), "x", "times")
    yield bad("version-4", struct.pack("<IIIII", 0, 2, 2, 0, 2) + b"x\0" + bytes(200), "not a MATLAB")
