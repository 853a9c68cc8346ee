"""Cubes that lie: .npy, .npz and other zip archives, and the parts of which such files are made."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator

import fuzz_seeds as seeds
from corpus_case import BIG, INSPECT, Case, damaged, one


def npy_header(text: str, data: bytes = b"", version: tuple[int, int] = (1, 0), length: int | None = None) -> bytes:
    body = text.encode("latin-1") + b"\n"
    size = len(body) if length is None else length
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version == (1, 0) else "<I", size) + body + data


def npy_dict(descr: str, shape: str, order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


def numpy_files() -> Iterator[Case]:
    def bad(name: str, data: bytes, *says: str) -> Case:
        return one(f"npy-{name}", "a.npy", data, *says)

    yield from damaged("npy", "a.npy", seeds.npy())
    plain = lambda descr, shape: npy_header(npy_dict(descr, shape), bytes(64))
    yield bad("promises", plain("'<f8'", "(100000, 100000, 100)"), "bytes")
    yield bad("overflows", plain("'<f8'", f"({2**62}, {2**62}, 8)"), "longer")
    yield bad("digits", plain("'<f8'", f"({'9' * 4000}, 1, 1)"))
    yield bad("negative", plain("'<f8'", "(-5, 7, 3)"), "axis")
    yield bad("no-axis", plain("'<f8'", "()"), "number")
    yield bad("empty-axis", plain("'<f8'", "(0, 7, 3)"), "axis")
    yield bad("many-axes", plain("'<u1'", "(" + "1, " * 40 + ")"))
    yield bad("floats", plain("'<f8'", "(1.5, 2, 3)"))
    yield bad("objects", plain("'|O'", "(1, 1, 1)"), "pickle")
    yield bad("records", plain("[('a', '<f8'), ('b', '|O')]", "(1, 1, 1)"))
    yield bad("texts", plain("'|S2000000000'", "(1, 1, 1)"))
    yield bad("complex", plain("'<c16'", "(1, 1, 1)"), "real number")
    yield bad("dates", plain("'<M8[s]'", "(1, 1, 1)"), "real number")
    yield bad("code", plain("__import__('os').getcwd()", "(1, 1, 1)"))
    yield bad("deep", npy_header("(" * 5000, bytes(9)))
    yield bad("deep-minus", npy_header(npy_dict("-" * 9000 + "1", "(1,)")))
    yield bad("long-header", npy_header("{", b"", (2, 0), 2**32 - 1))
    yield bad("version-9", b"\x93NUMPY\x09\x00" + bytes(99))
    yield bad("pickle", b"\x93NUMPY" + bytes(2) + b"cos\nsystem\n(S'true'\ntR.")
    yield bad("two-axes-of-text", npy_header(npy_dict("'<f8'", "'a'"), bytes(9)))


def zip_of(*members: tuple[str, bytes], level: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", level) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=level)
    return out.getvalue()


def deflated_zeros(megabytes: int, head: bytes = b"") -> bytes:
    """A raw deflate stream of `head` and that many MB of zeros: one block, written again and again."""
    engine = zlib.compressobj(9, zlib.DEFLATED, -15)
    start = engine.compress(head) + engine.flush(zlib.Z_FULL_FLUSH)
    block = engine.compress(bytes(BIG)) + engine.flush(zlib.Z_FULL_FLUSH)
    return start + block * megabytes + engine.flush()


Member = tuple[str, bytes, int, int, int]


def archive_of(*members: Member, method: int = 8, offset: int | None = None) -> bytes:
    """A zip of (name, packed data, packed size, whole size, sum), whatever these say; zip64: sizes may be large."""
    body, index = b"", b""
    for name, data, packed, whole, check in members:
        extra = struct.pack("<HHQQ", 1, 16, whole, packed)
        text = name.encode()
        fields = (method, 0, 33, check, 0xFFFFFFFF, 0xFFFFFFFF, len(text), len(extra))
        at = len(body) if offset is None else offset
        index += struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 45, 45, 0, *fields, 0, 0, 0, 0, at) + text + extra
        body += struct.pack("<IHHHHHIIIHH", 0x04034B50, 45, 0, *fields) + text + extra + data
    return body + index + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, *[len(members)] * 2, len(index), len(body), 0)


def zeros_member(name: str, megabytes: int, shape: tuple[int, ...]) -> Member:
    """An .npy of zeros, a thousandth of its size; its sum is right where it is small."""
    head = npy_header(npy_dict("'|u1'", repr(shape)))
    packed = deflated_zeros(megabytes, head)
    check = zlib.crc32(head + bytes(megabytes << 20)) if megabytes < 9 else 0
    return name, packed, len(packed), len(head) + (megabytes << 20), check


def archives() -> Iterator[Case]:
    def bad(name: str, data: bytes, *says: str) -> Case:
        return one(f"npz-{name}", "a.npz", data, *says)

    yield from damaged("npz", "a.npz", seeds.npz())
    yield from damaged("npz-packed", "a.npz", seeds.npz(True))
    raw, whole = zlib.compress(seeds.npy())[2:-4], len(seeds.npy())
    check = zlib.crc32(seeds.npy())
    member = ("x.npy", raw, len(raw), whole, check)
    yield bad("bomb", archive_of(zeros_member("x.npy", 1500, (1500 << 10, 32, 32))), "times")
    yield bad("lies-packed-size", archive_of(("x.npy", raw, 2**40, 2**50, check)))
    yield bad("lies-whole-size", archive_of(("x.npy", raw, len(raw), 2**50, check)))
    lying = npy_header(npy_dict("'<f8'", "(100000, 100000, 1000)"), bytes(64))
    yield bad("lies-header", zip_of(("x.npy", lying)), "x", "promises")
    yield bad("lies-both", archive_of(("x.npy", zlib.compress(lying)[2:-4], 2**40, 8 * 10**13 + 999, 0)))
    yield bad("wrong-sum", archive_of((*member[:4], 7)))
    yield bad("no-method", archive_of(member, method=99))
    yield bad("offset-beyond", archive_of(member, offset=2**31))
    yield bad("offset-inside", archive_of(member, offset=40))
    same = [(f"a{n}.npy", b"" if n else raw, len(raw), whole, check) for n in range(9)]
    yield bad("overlapping", archive_of(*same, offset=0))
    yield bad("pickle", zip_of(("x.npy", npy_header(npy_dict("'|O'", "(1, 1, 1)"), b"cos\nsystem\n"))), "pickle")
    yield bad("nested", zip_of(("a.npz", zip_of(("b.npz", seeds.npz())))), "no 3-D array")
    yield bad("no-array", zip_of(("readme.txt", b"hello")), "no 3-D array")
    yield bad("no-member", zip_of(), "no 3-D array")
    yield bad("name-lines", zip_of(("a\nb\x1b[2J.npy", b"no array")), "header")
    yield bad("many-names", zip_of(*((f"a{n}.npy", seeds.npy()) for n in range(3000))), "choose one")
    yield bad(
        "long-wavelengths",
        archive_of(zeros_member("x.npy", 1, (64, 128, 128)), zeros_member("wl.npy", 450, (450 << 20,))),
        "wl",
    )
    secret = bytearray(zip_of(("x.npy", seeds.npy())))
    secret[6] |= 1
    secret[secret.index(b"PK\1\2") + 8] |= 1
    yield bad("secret", bytes(secret), "npz")
    for name in ("../../x.npy", "/x.npy", "C:\\x.npy", "a/../../../etc/x.npy"):
        label = "".join(c if c.isalnum() else "-" for c in name)
        yield Case(f"npz-path-{label}", {"a.npz": zip_of((name, seeds.npy()))}, (*INSPECT, "{}/a.npz"), 0)
