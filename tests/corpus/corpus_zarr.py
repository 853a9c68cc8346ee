"""Malformed zarr folders: metadata and chunks that are damaged, lie or are missing, and keys that lead elsewhere."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator

import fuzz_seeds as seeds
import numpy as np
from corpus_archives import deflated_zeros
from corpus_case import DATA, INSPECT, LINK, PIPE, Case

FILE = {2: ".zarray", 3: "zarr.json"}
CHUNK = {2: "0.0.0", 3: "c/0/0/0"}


def folder(files: dict[str, bytes], inside: str = "a.zarr") -> dict[str, bytes]:
    return {f"{inside}/{name}": data for name, data in files.items()}


def zarr() -> Iterator[Case]:
    def bad(name: str, files: dict[str, bytes], *says: str, **beside: bytes) -> Case:
        return Case(f"zarr-{name}", folder(files) | beside, (*INSPECT, "{}/a.zarr"), DATA, ("a.zarr", *says))

    def good(name: str, files: dict[str, bytes]) -> Case:
        return Case(f"zarr-{name}", folder(files), (*INSPECT, "{}/a.zarr"), 0)

    for version in (2, 3):
        whole, meta, chunk = seeds.zarr(version), FILE[version], CHUNK[version]
        label = lambda name, version=version: f"{version}-{name}"
        for file in (meta, chunk):
            kind, data = ("meta" if file == meta else "chunk"), whole[file]
            noise = np.random.default_rng(5).bytes(len(data))
            ways = {"empty": b"", "cut": data[: len(data) // 2], "cut-last": data[:-1], "zeros": bytes(len(data))}
            for how, content in {**ways, "noise": noise, "text": b"this is no data file\n" * 9}.items():
                yield bad(label(f"{kind}-{how}"), {**whole, file: content}, file)
        keys = lambda version=version, **keys: seeds.zarr(version, **keys)
        yield bad(label("deep"), {**whole, meta: b"[" * 200_000}, meta)
        yield bad(label("list"), {**whole, meta: b"[]"}, meta, "object")
        yield bad(label("long"), {**whole, meta: b" " * (17 << 20)}, meta, "large")
        yield bad(label("digits"), {**whole, meta: whole[meta].replace(b"5", b"9" * 5000, 1)}, meta)
        for name, shape in {
            "none": None, "text": "5,7,3", "floats": [5.5, 7, 3], "negative": [-5, 7, 3], "huge": [2**62, 7, 3],
            "true": [True, 7, 3], "nested": [[5], 7, 3],
        }.items():  # fmt: skip
            yield bad(label(f"shape-{name}"), keys(shape=shape), meta, "'shape'")
        yield bad(label("promises"), keys(shape=[50_000, 70_000, 300]), "'shape'")
        yield bad(label("empty-axis"), keys(shape=[5, 0, 3]), "no 3-D array")
        yield bad(label("no-axis"), keys(shape=[]), "no 3-D array")
        missing = {name: data for name, data in whole.items() if name != chunk}
        yield good(label("chunk-missing"), missing)
        yield bad(label("chunks-all-missing"), {meta: whole[meta]}, "promises")
        yield bad(label("chunk-pipe"), {**whole, chunk: PIPE}, chunk, "no plain file")
        yield bad(label("chunk-device"), {**whole, chunk: LINK + b"/dev/zero"}, chunk, "no plain file")
        yield bad(label("chunk-folder"), {**missing, f"{chunk}/a": b"1"}, chunk, "no plain file")
        yield bad(label("meta-pipe"), {**missing, meta: PIPE}, "")
        yield bad(label("fill-beyond"), _whole_numbers(version, 10**30), "a.zarr")
    yield from _version_2(bad)
    yield from _version_3(bad)
    yield from _groups(bad)


def _whole_numbers(version: int, fill: object) -> dict[str, bytes]:
    """Integers, the first chunk missing."""
    names = {"dtype": "<u2"} if version == 2 else {"data_type": "uint16"}
    pack = seeds.gzipped if version == 3 else zlib.compress
    whole = seeds.zarr(version, (b"", pack(bytes(140))), fill_value=fill, **names)
    return {name: data for name, data in whole.items() if name != CHUNK[version]}


def _version_2(bad) -> Iterator[Case]:
    keys = lambda **keys: seeds.zarr(2, **keys)
    yield bad("2-chunks-zero", keys(chunks=[0, 7, 2]), "pieces")
    yield bad("2-chunks-short", keys(chunks=[5, 7]), "pieces")
    yield bad("2-chunks-huge", keys(chunks=[1 << 40, 7, 2]), "times")
    yield bad("2-pieces", keys(shape=[120, 100, 100], chunks=[1, 1, 1]), "1200000 pieces")
    for name, dtype in {
        "objects": "|O", "texts": "|S9", "records": [["a", "<f8"]], "complex": "<c16", "dates": "<M8[s]", "number": 7,
        "many": "(1000000,1000000)f8", "commas": "f8," * 9000, "brackets": "(" * 9000, "code": "__import__('os')",
        "object": {"a": 1}, "half": "<f3", "none": None, "old": "a8",
    }.items():  # fmt: skip
        yield bad(f"2-type-{name}", keys(dtype=dtype), "no 3-D array" if name != "none" else "")
    yield bad("2-type-other", keys(dtype="<f4"), "0.0.0")
    yield bad("2-filters", keys(filters=[{"id": "pickle"}]), "'filters'")
    for name, codec in {
        "pickle": {"id": "pickle"},
        "lines": {"id": "a\nb\x1b[2J"},
        "text": "zlib",
        "list": [1],
    }.items():
        yield bad(f"2-codec-{name}", keys(compressor=codec), ".zarray")
    for codec in ("blosc", "zstd", "lz4"):
        noise = np.random.default_rng(5).bytes(300)
        yield bad(f"2-{codec}-noise", seeds.zarr(2, (noise, noise), compressor={"id": codec}), "0.0.0")
        yield bad(f"2-{codec}-zeros", seeds.zarr(2, (bytes(300),) * 2, compressor={"id": codec}), "0.0.0")
    bomb = b"\x78\x9c" + deflated_zeros(1500)
    large = {"shape": [1500, 1024, 1024], "chunks": [1500, 1024, 1024], "dtype": "|u1"}
    yield bad("2-bomb", seeds.zarr(2, (bomb,), **large), "times")
    many = {"shape": [640, 1024, 1024], "chunks": [16, 1024, 1024], "dtype": "|u1"}
    stream = b"\x78\x9c" + deflated_zeros(16)
    chunks = {f"{n}.0.0": stream for n in range(40)}
    yield bad("2-bomb-of-chunks", {".zarray": seeds.zarr(2, **many)[".zarray"], **chunks}, "times")
    yield bad("2-attributes", {**seeds.zarr(2), ".zattrs": b"[1]"}, ".zattrs", "object")
    yield bad("2-attributes-deep", {**seeds.zarr(2), ".zattrs": b"[" * 100_000}, ".zattrs")
    escape = seeds.zarr(2, dimension_separator="/../../")
    yield Case("zarr-2-separator", folder(escape), (*INSPECT, "{}/a.zarr"), 0)


def _version_3(bad) -> Iterator[Case]:
    keys = lambda **keys: seeds.zarr(3, **keys)
    grid = lambda *shape: {"name": "regular", "configuration": {"chunk_shape": list(shape)}}
    yield bad("3-chunks-zero", keys(chunk_grid=grid(0, 7, 2)), "pieces")
    yield bad("3-chunks-huge", keys(chunk_grid=grid(1 << 40, 7, 2)), "times")
    yield bad("3-pieces", keys(shape=[120, 100, 100], chunk_grid=grid(1, 1, 1)), "1200000 pieces")
    yield bad("3-grid", keys(chunk_grid={"name": "rectilinear"}), "'chunk_grid'")
    yield bad("3-grid-none", keys(chunk_grid=None), "'chunk_grid'")
    yield bad("3-node", keys(node_type="other"), "no 3-D array")
    for name, codecs in {
        "shards": [{"name": "sharding_indexed", "configuration": {"chunk_shape": [1, 1, 1]}}],
        "pickle": [{"name": "bytes"}, {"name": "numcodecs.pickle"}],
        "lines": [{"name": "a\nb\x1b[2J"}], "number": [7],
        "transpose": [{"name": "transpose", "configuration": {"order": [0, 0, 0]}}],
        "transpose-text": [{"name": "transpose", "configuration": {"order": "zyx"}}],
        "twice": [{"name": "bytes"}, {"name": "gzip"}, {"name": "gzip"}],
    }.items():  # fmt: skip
        yield bad(f"3-codecs-{name}", keys(codecs=codecs), "zarr.json")
    sums = [{"name": "bytes"}, {"name": "gzip"}, {"name": "crc32c"}]
    unpacked = tuple(data + bytes(4) for data in seeds.zarr_chunks(bytes))
    yield bad("3-wrong-sum", seeds.zarr(3, unpacked, codecs=sums[::2]), "c/0/0/0", "checksum")
    for name, keys_ in {"up": "/../../../", "root": "//etc/"}.items():
        told = {"name": "default", "configuration": {"separator": keys_}}
        case = folder(seeds.zarr(3, chunk_key_encoding=told))
        yield Case(f"zarr-3-separator-{name}", case, (*INSPECT, "{}/a.zarr"), 0)
    bomb = gzip.compress(bytes(1 << 20), mtime=0)
    large = {"shape": [1500, 1024, 1024], "chunk_grid": grid(1500, 1024, 1024), "data_type": "uint8"}
    yield bad("3-bomb", seeds.zarr(3, (bomb * 1500,), **large), "times")
    for name, told in {
        "deep": {"wavelength_nm": [[[[[1]]]]]}, "texts": {"wavelength_nm": ["a", None]},
        "large": {"wavelength_nm": [10**400] * 3},
        "lines": {"units": "a\nb\x1b[2J", "axes": "a\nb"}, "nodata": {"_FillValue": 10**400},
    }.items():  # fmt: skip
        case = folder(seeds.zarr(3, attributes=told))
        yield Case(f"zarr-3-attributes-{name}", case, (*INSPECT, "{}/a.zarr"), 0)
    yield bad("3-attributes-list", keys(attributes=[1]), "'attributes'")


def _groups(bad) -> Iterator[Case]:
    group = json.dumps({"zarr_format": 3, "node_type": "group"}).encode()
    two = {"zarr.json": group, **folder(seeds.zarr(), "left"), **folder(seeds.zarr(2), "right")}
    yield bad("several", two, "left 5x7x3, right 5x7x3", "choose one with dataset.variable")
    yield bad("empty-group", {"zarr.json": group}, "no 3-D array")
    yield bad("name-lines", {"zarr.json": group, **folder(seeds.zarr(shape=[5, -1, 3]), "a\nb\x1b[2J")}, "no 3-D array")
    yield bad("link-up", {"zarr.json": group, "again": LINK + b"."}, "no 3-D array")
    many = {f"g{n}/.zarray": seeds.zarr(2)[".zarray"] for n in range(1001)}
    yield bad("many", {".zgroup": b"{}", **many}, "arrays")
    deep = {f"{'a/' * n}.zgroup": b"{}" for n in range(100)}
    yield bad("deep", deep, "no 3-D array")
    yield bad("no-folder", {"readme.txt": b"nothing"}, "no reader")
