"""Malformed recipes, volumes, masks, checkpoints and archives: each with its command and what this must say.

    python tests/corpus/corpus_cases.py FOLDER       writes every case to FOLDER/NAME/, and FOLDER/cases.json

Made from fixed numbers, so the same bytes every time. The command of a case is that of `gen`, or one of LOADERS, which
load what only a run loads; `{}` stands for the case's folder.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from attrs import asdict, field, frozen

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))
import fuzz_seeds as seeds

INSPECT, VALIDATE = ("data", "inspect"), ("recipes", "validate")
LOADERS = ("load-checkpoint", "load-weights", "load-foreign")
PIPE = b"\0pipe"  # stands for a named pipe, which has no content
HERE = b"<here>"  # stands for the case's folder in a file
BIG = 1 << 20
RECIPE, DATA, RUN = 2, 4, 5  # exit codes


@frozen
class Case:
    """files: name -> content. says: what the one line must hold. code: what the command must end with."""

    name: str
    files: dict[str, bytes]
    words: tuple[str, ...]
    code: int
    says: tuple[str, ...] = ()
    lines: int = field(default=1)  # of the message: a recipe has one a mistake


def cases() -> list[Case]:
    """All of them, by name."""
    found = [
        *recipes(), *data_sets(), *overrides(), *numpy_files(), *archives(), *sidecars(), *envi(), *matlab(), *nifti(),
        *dicom(), *masks(), *lidc(), *checkpoints(), *foreign(),
    ]  # fmt: skip
    names = [case.name for case in found]
    assert len(set(names)) == len(names), "two cases of one name"
    return found


def write(case: Case, folder: Path) -> Path:
    """The case's folder, filled."""
    here = folder / case.name
    here.mkdir(parents=True)
    for name, data in case.files.items():
        path = here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = data.replace(HERE, str(here).encode())
        if data == PIPE:
            os.mkfifo(path)
            continue
        path.write_bytes(data.rstrip(b"\0"))
        os.truncate(path, len(data))  # zeros at the end take no room on the disk
    return here


def _one(name: str, file: str, data: bytes, *says: str, command=INSPECT, code: int = DATA, **beside: bytes) -> Case:
    """A case of one file, which its message names."""
    return Case(name, {file: data, **beside}, (*command, f"{{}}/{file}"), code, (file, *says))


def _damaged(
    kind: str, file: str, data: bytes, least: int = 1, shares=(0.1, 0.5, 0.9), **beside: bytes
) -> Iterator[Case]:
    """Cut off at several places, emptied, overwritten by zeros, and another kind of file under its name."""
    yield _one(f"{kind}-empty", file, b"", **beside)
    yield _one(f"{kind}-one-byte", file, data[:1], **beside)
    for share in shares:
        yield _one(f"{kind}-cut-{round(100 * share)}", file, data[: int(share * len(data))], **beside)
    yield _one(f"{kind}-cut-last", file, data[:-least], **beside)
    yield _one(f"{kind}-zeros", file, bytes(len(data)), **beside)
    yield _one(f"{kind}-noise", file, np.random.default_rng(5).bytes(3000), **beside)
    yield _one(f"{kind}-text", file, b"this is no data file\n" * 99, **beside)


# Recipes


def _recipe(text: str) -> bytes:
    return b'gen = 1\nname = "a"\n' + text.encode()


def recipes() -> Iterator[Case]:
    def bad(name: str, data: bytes, *says: str) -> Case:
        return _one(f"recipe-{name}", "a.toml", data, *says, command=VALIDATE, code=RECIPE)

    yield bad("empty", b"", "gen: missing")
    yield bad("binary", bytes(range(256)) * 8, "not UTF-8")
    yield bad("utf-16", seeds.RECIPE.encode("utf-16"), "not UTF-8")
    yield bad("zeros", bytes(5000), "not valid TOML")
    yield bad("control", b"gen = 1\n\x1b[31m = 2\n", "a.toml:2", "not valid TOML")
    yield bad("open-text", b'gen = 1\nname = "a\n', "a.toml:2", "not valid TOML")
    yield bad("open-table", b"gen = 1\n[codec\n", "a.toml:2", "not valid TOML")
    yield bad("twice-a-key", b"gen = 1\ngen = 1\n", "not valid TOML")
    yield bad("twice-a-table", _recipe("[volume]\n[volume]\n"), "not valid TOML")
    yield bad("deep-lists", b"gen = 1\nname = " + b"[" * 100_000, "nested")
    yield bad("deep-closed-lists", b"gen = 1\nname = " + b"[" * 5000 + b"]" * 5000, "nested")
    yield bad("deep-tables", b"gen = 1\nname = " + b"{a = " * 50_000, "nested")
    yield bad("deep-key", b"gen = 1\n" + b"a." * 20_000 + b"a = 1\n", "nested")
    yield bad("deep-header", b"gen = 1\n[" + b"a." * 900 + b"a]\n", "nested")
    yield bad("deep-list-value", _recipe("[codec]\nuse = " + "[" * 90 + "]" * 90), "nested")
    yield bad("long", b"# " + b"a" * (5 << 20), "bytes")
    yield bad("many-keys", b"gen = 1\n" + b"".join(b"a%d = 1\n" % n for n in range(90_000)), "keys")
    yield bad("long-number", _recipe("seed = " + "9" * 5000), "not valid TOML")
    yield bad("large-number", _recipe("[sample]\nn = " + "9" * 400), "[sample]", "n =")
    yield bad("infinite", _recipe("[volume]\nsize = [4, 8, 8]\n[split]\nval = inf"), "[split]", "val")
    yield bad("not-a-number", _recipe("[split]\nval = nan"), "[split]", "val")
    yield bad("date", _recipe("[split]\nval = 1979-05-27"), "[split]", "val")
    yield bad("negative", _recipe("[sample]\nn = -5"), "[sample]", "n = -5")
    yield bad("size-zero", _recipe("[volume]\nsize = [0, 8, 8]"), "[volume]", "size")
    yield bad("size-short", _recipe("[volume]\nsize = [8, 8]"), "[volume]", "size", "3")
    yield bad("size-text", _recipe('[volume]\nsize = ["a", "b", "c"]'), "[volume]", "size")
    yield bad("size-huge", _recipe("[volume]\nsize = [1000000, 1000000, 1000000]"), "[volume]", "size")
    yield bad("gen-2", b"gen = 2\n", "a.toml:1", "gen = 2")
    yield bad("gen-true", b"gen = true\n", "gen = True")
    yield bad("gen-text", b'gen = "1"\n', "gen = ")
    yield bad("name-number", b"gen = 1\nname = 3\n", "a.toml:2", "name = 3")
    yield bad("name-path", b'gen = 1\nname = "../../b"\n', "a.toml:2", "name")
    yield bad("name-escape", b'gen = 1\nname = "a\\u001b[31m"\n', "a.toml:2", "name")
    yield bad("name-long", b'gen = 1\nname = "' + b"a" * 9000 + b'"\n', "a.toml:2", "name")
    yield bad("unknown-table", _recipe("[codek]\nuse = 'vqgan'"), "a.toml:3", "[codek]", "did you mean 'codec'")
    yield bad("unknown-key", _recipe("[sample]\nnumber = 3"), "a.toml:4", "[sample]", "number")
    yield bad("unknown-use", _recipe('[codec]\nuse = "vqvea"'), "a.toml:4", "[codec]", "vqvae")
    yield bad("use-number", _recipe("[codec]\nuse = 3"), "a.toml:4", "[codec]", "use = 3")
    yield bad("use-lines", _recipe('[codec]\nuse = "a\\nb\\u001b[2J"'), "[codec]", "use")
    yield bad("use-path", _recipe('[codec]\nuse = "os:system"'), "[codec]", "os:system")
    yield bad("use-long", _recipe(f'[codec]\nuse = "{"v" * 100_000}"'), "[codec]", "use")
    yield bad("key-lines", _recipe('"a\\nb\\u001b[2J" = 1'), "a.toml:3", "no such setting")
    yield bad("key-empty", _recipe('"" = 1'), "a.toml:3", "no such setting")
    yield bad("table-as-value", _recipe("codec = 3"), "a.toml:3", "codec = 3", "table")
    yield bad("value-as-table", _recipe("[sample.n]\na = 1"), "[sample.n]", "integer")
    yield bad("table-list", _recipe("[[codec]]\nuse = 'vqvae'"), "codec", "table")
    yield bad("dotted-name", _recipe('[metrics."a.b"]\nuse = "psnr"'), "a.b", "no dot")
    yield bad("no-such-table", _recipe('[metrics.fid]\nfeatures = "features.absent"'), "[metrics.fid]", "features")
    yield bad("metric-unknown", _recipe("[metrics.nonsense]"), "metrics.nonsense", "nonsense")
    yield bad("base-itself", _recipe('base = "a.toml"'), "base", "circle")
    yield bad("base-absent", _recipe('base = "absent.toml"'), "base", "absent.toml")
    yield bad("base-number", _recipe("base = 3"), "base = 3")
    yield bad("base-folder", _recipe('base = ".."'), "base")
    yield bad("base-zero-byte", _recipe('base = "a\\u0000b"'), "base")
    yield bad("base-long", _recipe(f'base = "{"b" * 5000}"'), "base")
    yield bad("base-device", _recipe('base = "/dev/zero"'), "base")
    yield bad("weights-zero-byte", _recipe('[codec]\nuse = "vqvae"\nfrom = 3'), "[codec]", "from = 3")
    ring = {"a.toml": _recipe('base = "b.toml"'), "b.toml": _recipe('base = "a.toml"')}
    yield Case("recipe-base-ring", ring, (*VALIDATE, "{}/a.toml"), RECIPE, ("base", "circle"))
    bases = {f"{n}.toml": _recipe(f'base = "{n + 1}.toml"') for n in range(200)} | {"200.toml": _recipe("")}
    yield Case("recipe-base-chain", bases, (*VALIDATE, "{}/0.toml"), RECIPE, ("base", "more than"))
    other = {"a.toml": _recipe('base = "b.toml"\n[sample]\nn = "x"'), "b.toml": _recipe('[split]\nval = "y"')}
    yield Case("recipe-both-files", other, (*VALIDATE, "{}/a.toml"), RECIPE, ("a.toml:5", "b.toml:4"), 2)
    yield Case("recipe-pipe", {"a.toml": PIPE}, (*VALIDATE, "{}/a.toml"), RECIPE, ("a.toml",))
    yield Case("recipe-folder", {"a.toml/b": b""}, (*VALIDATE, "{}/a.toml"), RECIPE, ("a.toml",))
    yield Case("recipe-absent", {}, (*VALIDATE, "{}/a.toml"), RECIPE, ("a.toml",))


def data_sets() -> Iterator[Case]:
    """Data sets of recipes, opened; and a plan that nobody could carry out."""
    asked = 'use = "hyperspectral"\nroot = "<here>/data"'
    recipe = seeds.RECIPE.replace('use = "retina-phantom"\nsubjects = 12', asked)
    scans = recipe.replace('"hyperspectral"', '"nifti"')

    def bad(name: str, text: str, files: dict[str, bytes], *says: str) -> Case:
        return Case(f"set-of-{name}", {"r.toml": text.encode(), **files}, (*INSPECT, "{}/r.toml"), DATA, says)

    for kind, text in (("cubes", recipe), ("scans", scans)):
        absent = text.replace("<here>/data", "/absent/folder")
        yield bad(f"{kind}-absent", absent, {}, "dataset.root", "/absent/folder")
        yield bad(f"{kind}-none", text, {"data/readme.txt": b"nothing"}, "dataset.root")
    yield bad("cubes-damaged", recipe, {f"data/{n}.npy": seeds.npy()[:-n] for n in range(1, 5)}, "data/", ".npy")
    yield bad("scans-damaged", scans, {f"data/{n}/a.nii": seeds.nifti()[:-n] for n in range(1, 5)}, "a.nii")
    huge = {"a.toml": seeds.RECIPE.replace("[4, 16, 24]", "[99999, 99999, 99999]").encode()}
    yield Case("run-size-huge", huge, ("run", "{}/a.toml", "--dry-run"), RECIPE, ("a.toml", "size"))


def overrides() -> Iterator[Case]:
    for name, given, says in (
        ("no-value", "codec.fit.steps", "expected key.path=value"),
        ("empty", "=", "expected key.path=value"),
        ("gen", "gen=2", "only be said in a file"),
        ("base", "base=/etc/passwd", "only be said in a file"),
        ("deep", "a." * 5000 + "a=1", "nested"),
        ("deep-value", "sample.n=" + "[" * 5000, "sample"),
        ("wrong", "sample.n=many", "sample"),
        ("lines", 'sample.n="a\nb"', "sample"),
        ("key-lines", '"a\nb"=1', "expected key.path=value"),
    ):
        words = (*VALIDATE, "{}/a.toml", "--set", given)
        yield Case(f"set-{name}", {"a.toml": seeds.RECIPE.encode()}, words, RECIPE, (says,))


# Cubes


def _npy_header(text: str, data: bytes = b"", version: tuple[int, int] = (1, 0), length: int | None = None) -> bytes:
    body = text.encode("latin-1") + b"\n"
    size = len(body) if length is None else length
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version == (1, 0) else "<I", size) + body + data


def _npy_dict(descr: str, shape: str, order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


def numpy_files() -> Iterator[Case]:
    def bad(name: str, data: bytes, *says: str) -> Case:
        return _one(f"npy-{name}", "a.npy", data, *says)

    yield from _damaged("npy", "a.npy", seeds.npy())
    plain = lambda descr, shape: _npy_header(_npy_dict(descr, shape), bytes(64))
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
    yield bad("deep", _npy_header("(" * 5000, bytes(9)))
    yield bad("deep-minus", _npy_header(_npy_dict("-" * 9000 + "1", "(1,)")))
    yield bad("long-header", _npy_header("{", b"", (2, 0), 2**32 - 1))
    yield bad("version-9", b"\x93NUMPY\x09\x00" + bytes(99))
    yield bad("pickle", b"\x93NUMPY" + bytes(2) + b"cos\nsystem\n(S'true'\ntR.")
    yield bad("two-axes-of-text", _npy_header(_npy_dict("'<f8'", "'a'"), bytes(9)))


def _zip(*members: tuple[str, bytes], level: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", level) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=level)
    return out.getvalue()


def _deflated_zeros(megabytes: int, head: bytes = b"") -> bytes:
    """A raw deflate stream of `head` and that many MB of zeros: one block, written again and again."""
    engine = zlib.compressobj(9, zlib.DEFLATED, -15)
    start = engine.compress(head) + engine.flush(zlib.Z_FULL_FLUSH)
    block = engine.compress(bytes(BIG)) + engine.flush(zlib.Z_FULL_FLUSH)
    return start + block * megabytes + engine.flush()


Member = tuple[str, bytes, int, int, int]


def _archive(*members: Member, method: int = 8, offset: int | None = None) -> bytes:
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


def _zeros_member(name: str, megabytes: int, shape: tuple[int, ...]) -> Member:
    """An .npy of zeros, a thousandth of its size; its sum is right where it is small."""
    head = _npy_header(_npy_dict("'|u1'", repr(shape)))
    packed = _deflated_zeros(megabytes, head)
    check = zlib.crc32(head + bytes(megabytes << 20)) if megabytes < 9 else 0
    return name, packed, len(packed), len(head) + (megabytes << 20), check


def archives() -> Iterator[Case]:
    def bad(name: str, data: bytes, *says: str) -> Case:
        return _one(f"npz-{name}", "a.npz", data, *says)

    yield from _damaged("npz", "a.npz", seeds.npz())
    yield from _damaged("npz-packed", "a.npz", seeds.npz(True))
    raw, whole = zlib.compress(seeds.npy())[2:-4], len(seeds.npy())
    check = zlib.crc32(seeds.npy())
    member = ("x.npy", raw, len(raw), whole, check)
    yield bad("bomb", _archive(_zeros_member("x.npy", 1500, (1500 << 10, 32, 32))), "times")
    yield bad("lies-packed-size", _archive(("x.npy", raw, 2**40, 2**50, check)))
    yield bad("lies-whole-size", _archive(("x.npy", raw, len(raw), 2**50, check)))
    lying = _npy_header(_npy_dict("'<f8'", "(100000, 100000, 1000)"), bytes(64))
    yield bad("lies-header", _zip(("x.npy", lying)), "x", "promises")
    yield bad("lies-both", _archive(("x.npy", zlib.compress(lying)[2:-4], 2**40, 8 * 10**13 + 999, 0)))
    yield bad("wrong-sum", _archive((*member[:4], 7)))
    yield bad("no-method", _archive(member, method=99))
    yield bad("offset-beyond", _archive(member, offset=2**31))
    yield bad("offset-inside", _archive(member, offset=40))
    same = [(f"a{n}.npy", b"" if n else raw, len(raw), whole, check) for n in range(9)]
    yield bad("overlapping", _archive(*same, offset=0))
    yield bad("pickle", _zip(("x.npy", _npy_header(_npy_dict("'|O'", "(1, 1, 1)"), b"cos\nsystem\n"))), "pickle")
    yield bad("nested", _zip(("a.npz", _zip(("b.npz", seeds.npz())))), "no 3-D array")
    yield bad("no-array", _zip(("readme.txt", b"hello")), "no 3-D array")
    yield bad("no-member", _zip(), "no 3-D array")
    yield bad("name-lines", _zip(("a\nb\x1b[2J.npy", b"no array")), "header")
    yield bad("many-names", _zip(*((f"a{n}.npy", seeds.npy()) for n in range(3000))), "choose one")
    yield bad(
        "long-wavelengths",
        _archive(_zeros_member("x.npy", 1, (64, 128, 128)), _zeros_member("wl.npy", 450, (450 << 20,))),
        "wl",
    )
    secret = bytearray(_zip(("x.npy", seeds.npy())))
    secret[6] |= 1
    secret[secret.index(b"PK\1\2") + 8] |= 1
    yield bad("secret", bytes(secret), "npz")
    for name in ("../../x.npy", "/x.npy", "C:\\x.npy", "a/../../../etc/x.npy"):
        label = "".join(c if c.isalnum() else "-" for c in name)
        yield Case(f"npz-path-{label}", {"a.npz": _zip((name, seeds.npy()))}, (*INSPECT, "{}/a.npz"), 0)


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
        return _one(f"envi-{name}", "a.hdr", header, *says, **{"a.dat": dat})

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
        return _one(f"mat-{name}", "a.mat", data, *says)

    yield from _damaged("mat", "a.mat", seeds.mat(False), least=9)
    yield from _damaged("mat-packed", "a.mat", seeds.mat(True), shares=(0.1, 0.5))
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
    packed = b"\x78\x9c" + _deflated_zeros(size >> 20, struct.pack("<II", 14, len(start) + size) + start)
    yield bad("bomb", head + _mat_element(15, packed), "x", "times")
    yield bad("version-4", struct.pack("<IIIII", 0, 2, 2, 0, 2) + b"x\0" + bytes(200), "not a MATLAB")


# Scans


def nifti() -> Iterator[Case]:
    def bad(name: str, data: bytes, *says: str, file: str = "a.nii") -> Case:
        return _one(f"nifti-{name}", file, data, *says)

    yield from _damaged("nifti", "a.nii", seeds.nifti())
    yield from _damaged("nifti-big", "a.nii", seeds.nifti(big=True, two=True))
    yield from _damaged("nifti-gz", "a.nii.gz", seeds.nifti(True))
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
        return _one(f"dicom-{name}", "a.dcm", data, *says)

    yield from _damaged("dicom", "a.dcm", seeds.dicom(), shares=(0.5, 0.9))
    yield from _damaged("dicom-implicit", "a.dcm", seeds.dicom(seeds.IMPLICIT), shares=(0.5, 0.9))
    yield from _damaged("dicom-rle", "a.dcm", seeds.dicom(compress=seeds.RLE), least=20, shares=(0.5, 0.9))
    yield from _damaged("dicom-frames", "a.dcm", seeds.dicom_enhanced(), shares=(0.5, 0.9))
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


# Weights


def checkpoints() -> Iterator[Case]:
    def signed(state: object) -> bytes:
        if isinstance(state, dict):
            state = {**state, "sha256": hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()}
        return json.dumps(state).encode()

    def bad(name: str, state: bytes, tensors: bytes | None, *says: str) -> Case:
        files = {"state.json": state} | ({} if tensors is None else {"model.safetensors": tensors})
        return Case(f"checkpoint-{name}", files, ("load-checkpoint", "{}"), RUN, says)

    def holding(tensors: bytes) -> bytes:
        return signed({"format": 1, "files": {"model.safetensors": hashlib.sha256(tensors).hexdigest()}})

    good = seeds.safetensors()
    state = holding(good)
    yield bad("state-empty", b"", good, "state.json")
    yield bad("state-cut", state[:-5], good, "state.json")
    yield bad("state-binary", bytes(range(256)), good, "state.json")
    yield bad("state-deep", b"[" * 200_000, good, "state.json")
    yield bad("state-list", b"[]", good, "state.json")
    yield bad("state-unsigned", b'{"format": 1, "files": {}}', good, "SHA-256")
    yield bad("state-no-format", signed({"files": {}}), good, "format")
    yield bad("state-format", signed({"format": 9, "files": {}}), good, "format 9")
    yield bad("state-no-files", signed({"format": 1}), good, "files")
    yield bad("state-files-list", signed({"format": 1, "files": [1]}), good, "files")
    yield bad("state-path", signed({"format": 1, "files": {"../secret": "00"}}), good, "files")
    yield bad("state-absolute", signed({"format": 1, "files": {"/etc/passwd": "00"}}), good, "files")
    yield bad("tensors-absent", state, None, "model.safetensors", "missing")
    yield bad("tensors-changed", state, good[:-1] + b"x", "model.safetensors", "SHA-256")
    entry = lambda dtype, shape, ends: {"dtype": dtype, "shape": shape, "data_offsets": ends}
    for name, tensors in {
        "empty": b"",
        "cut": good[:-1],
        "cut-header": good[:20],
        "long-header": struct.pack("<Q", 2**63) + good[8:],
        "header-beyond": struct.pack("<Q", 10_000) + good[8:],
        "no-json": struct.pack("<Q", 5) + b"nope!" + bytes(9),
        "deep": struct.pack("<Q", 90_000) + b'{"a":' * 18_000,
        "overlap": seeds.safetensors(b=entry("I64", [2], [0, 16])),
        "hole": seeds.safetensors(b=entry("I64", [1], [32, 40])),
        "beyond": seeds.safetensors(b=entry("I64", [2000], [24, 16024])),
        "backwards": seeds.safetensors(b=entry("I64", [2], [40, 24])),
        "negative": seeds.safetensors(b=entry("I64", [-2], [24, 40])),
        "overflow": seeds.safetensors(b=entry("I64", [2**62, 2**62], [24, 40])),
        "type": seeds.safetensors(b=entry("OBJECT", [2], [24, 40])),
        "shape": seeds.safetensors(b=entry("I64", [3], [24, 40])),
    }.items():
        yield bad(f"tensors-{name}", holding(tensors), tensors, "model.safetensors")

    def record(name: str, data: bytes, tensors: bytes, *says: str) -> Case:
        files = {"weights.json": data, "weights.safetensors": tensors}
        return Case(f"weights-{name}", files, ("load-weights", "{}"), RUN, says)

    told = lambda tensors: json.dumps({"format": 1, "sha256": hashlib.sha256(tensors).hexdigest()}).encode()
    yield record("empty", b"", good, "weights.json")
    yield record("list", b"[]", good, "weights.json")
    yield record("deep", b"[" * 200_000, good, "weights.json")
    yield record("no-sum", b"{}", good, "weights.json", "sha256")
    yield record("changed", told(good), good[:-1] + b"x", "weights.safetensors", "SHA-256")
    yield record("cut", told(good[:-1]), good[:-1], "weights.safetensors")
    yield Case("weights-absent", {"weights.json": b"{}"}, ("load-weights", "{}"), 3, ("weights.safetensors",))


def foreign() -> Iterator[Case]:
    """Weights of somebody else, which are pickles: nothing in them runs."""

    def bad(name: str, data: bytes, *says: str) -> Case:
        return Case(f"torch-{name}", {"w.pth": data}, ("load-foreign", "{}/w.pth"), DATA, ("w.pth", *says))

    good, bare = seeds.torch_file(), seeds.torch_file(True)
    for share in (0.0, 0.1, 0.5, 0.9):
        yield bad(f"cut-{round(100 * share)}", good[: int(share * len(good))])
        yield bad(f"bare-cut-{round(100 * share)}", bare[: int(share * len(bare))])
    yield bad("zeros", bytes(999))
    yield bad("text", b"no weights\n" * 99)
    hostile = b"cos\nsystem\n(S'touch hostile'\ntR."
    yield bad("pickle", hostile)
    yield bad("pickle-in-zip", _zip(("a/data.pkl", hostile), ("a/byteorder", b"little")))
    yield bad("no-index", _zip(("a/readme", b"")))
    yield bad("two-indexes", _zip(("a/data.pkl", b"."), ("b/data.pkl", b".")))
    yield bad("deep", _zip(("a/data.pkl", b"\x80\x02" + b"(" * 300_000 + b"t" * 300_000 + b".")))
    yield bad("long-text", _zip(("a/data.pkl", b"\x80\x02X\xff\xff\xff\x7fabc.")))
    yield bad("long-number", _zip(("a/data.pkl", b"\x80\x02\x8b\xff\xff\xff\x7fabc.")))
    yield bad("index-lies", _archive(("a/data.pkl", zlib.compress(b"\x80\x02")[2:-4], 9, 2**50, 0)))
    index = _deflated_zeros(1500)
    yield bad("index-bomb", _archive(("a/data.pkl", index, len(index), 1500 << 20, 0)))


def main() -> None:
    folder = Path(sys.argv[1])
    told = []
    for case in cases():
        write(case, folder)
        told.append({k: v for k, v in asdict(case).items() if k != "files"})
    (folder / "cases.json").write_text(json.dumps(told, indent=1))
    print(f"{len(told)} cases in {folder}")


if __name__ == "__main__":
    main()
