"""Malformed HDF5 and MATLAB v7.3 cubes: damaged, lying about shapes and chunks, bombs, values in other files."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from typing import Any

import fuzz_seeds as seeds
import numpy as np
from corpus_archives import deflated_zeros
from corpus_case import DATA, INSPECT, Case, damaged, one

SHAPE = struct.pack("<QQQ", *seeds.CUBE.shape)  # as a dataspace message has it
CHUNK = (2, 3, 3)


def made(fill: Callable[[Any], object], matlab: bool = False) -> bytes:
    """An HDF5 file with what `fill` puts into it; matlab: behind MATLAB's own 512 bytes."""
    import h5py

    out = io.BytesIO()
    with h5py.File(out, "w", userblock_size=512 if matlab else 0) as file:
        fill(file)
    data = out.getvalue()
    return seeds.MATLAB_7_3 + data[len(seeds.MATLAB_7_3) :] if matlab else data


def _swapped(data: bytes, old: bytes, new: bytes, first: bool = False) -> bytes:
    """The same file with other bytes in one place, or in all places."""
    assert old in data and len(old) == len(new)
    return data.replace(old, new, 1) if first else data.replace(old, new)


def _zeros(file: Any, shape: tuple[int, int, int], tall: int) -> None:
    """Zeros in packed chunks of so many MiB, each written as it will lie in the file."""
    x = file.create_dataset("x", shape, "u1", chunks=(tall, *shape[1:]), compression="gzip")
    stream = b"\x78\x9c" + deflated_zeros(tall * shape[1] * shape[2] >> 20)
    for first in range(0, shape[0], tall):
        x.id.write_direct_chunk((first, 0, 0), stream)


def _bomb(file: Any) -> None:
    _zeros(file, (1500, 1024, 1024), 1500)


def hdf5() -> Iterator[Case]:
    def bad(name: str, data: bytes, *says: str, **beside: bytes) -> Case:
        return one(f"hdf5-{name}", "a.h5", data, *says, **beside)

    plain, packed = seeds.hdf5(), seeds.hdf5(chunks=CHUNK, compression="gzip")
    yield from damaged("hdf5", "a.h5", plain)
    yield from damaged("hdf5-packed", "a.h5", packed)
    dims = lambda data, *shape: _swapped(data, SHAPE, struct.pack("<QQQ", *shape))
    yield bad("promises", dims(plain, 50_000, 70_000, 300), "invalid dataset size")
    yield bad("promises-packed", dims(packed, 50_000, 70_000, 300), "'x'", "promises")
    yield bad("overflows", dims(plain, 2**31, 2**31, 4), "a.h5")
    yield bad("shape-largest", dims(plain, 2**64 - 1, 2**64 - 1, 2**64 - 1))
    yield bad("empty-axis", made(lambda f: f.create_dataset("x", (5, 0, 3), "f8")), "empty axis")
    layout = plain.index(struct.pack("<Q", seeds.CUBE.nbytes)) - 8  # address of the values
    yield bad("values-beyond", plain[:layout] + struct.pack("<Q", 1 << 40) + plain[layout + 8 :], "a.h5")
    yield bad("values-largest", plain[:layout] + struct.pack("<Q", 2**64 - 9) + plain[layout + 8 :], "a.h5")
    told = struct.pack("<III", *CHUNK)
    yield bad("chunk-zero", _swapped(packed, told, struct.pack("<III", 0, 3, 3)), "a.h5")
    yield bad("chunk-huge", _swapped(packed, told, struct.pack("<III", 1 << 30, 1 << 30, 3)), "a.h5")
    yield bad("chunk-other", _swapped(packed, told, struct.pack("<III", 1, 3, 3)), "a.h5")
    tree = packed.index(b"TREE\x01")  # of the chunks: size, mask and offsets of each, then its address
    entry = tree + 24
    for name, place, new in (
        ("size", entry, struct.pack("<I", 0xFFFFFFF0)),
        ("size-zero", entry, bytes(4)),
        ("mask", entry + 4, b"\xff" * 4),
        ("offset", entry + 8, struct.pack("<Q", 999)),
        ("address", entry + 40, struct.pack("<Q", 1 << 50)),
        ("count", tree + 6, b"\xff\xff"),
        ("itself", entry + 40, struct.pack("<Q", tree)),
    ):
        yield bad(f"chunk-table-{name}", packed[:place] + new + packed[place + len(new) :], "a.h5")
    level = packed[: tree + 5] + b"\x07" + packed[tree + 6 :]
    circle = level[: entry + 40] + struct.pack("<Q", tree) + level[entry + 48 :]  # the library goes down it for ever
    yield bad("chunk-table-level", circle, "a.h5: the HDF5 library was ended by SIGSEGV over it")
    yield bad("noise-in-chunk", _swapped(packed, b"\x78\x5e", b"\0\0"), "chunk")

    yield bad("bomb", made(_bomb), "times")
    yield bad("bomb-of-chunks", made(lambda f: _zeros(f, (640, 1024, 1024), 16)), "times")
    pieces = lambda f: f.create_dataset("x", (120, 100, 100), "u1", chunks=(1, 1, 1))
    yield bad("pieces", made(lambda f: pieces(f).__setitem__((0, 0, 0), 1)), "1200000 pieces")
    never = lambda f: f.create_dataset("x", (5000, 7000, 30), "u2", chunks=(500, 700, 3), compression="gzip")
    yield bad("never-written", made(never), "'x'", "promises")

    def long_list(file: Any) -> None:
        file["x"] = seeds.CUBE
        wide = file.create_dataset("wl", (3,), "f8", chunks=(1 << 26,), maxshape=(None,), compression="gzip")
        wide.id.write_direct_chunk((0,), b"\x78\x9c" + deflated_zeros(512))

    yield bad("list-in-a-large-chunk", made(long_list), "'wl'")
    yield from _types(bad)
    yield from _elsewhere(bad)


def _types(bad: Callable[..., Case]) -> Iterator[Case]:
    """Arrays that are no cube of real numbers, too many of them, and names and attributes to fall over."""
    import h5py

    yield bad("complex", made(lambda f: f.__setitem__("x", seeds.CUBE.astype("c16"))), "no 3-D array")
    yield bad("texts", made(lambda f: f.__setitem__("x", np.full((2, 3, 4), b"abc"))), "no 3-D array")
    vlen = h5py.vlen_dtype(np.float64)
    yield bad("lists", made(lambda f: f.create_dataset("x", (2, 3, 4), vlen)), "no 3-D array")
    refs = lambda f: f.create_dataset("x", (2, 3, 4), h5py.ref_dtype)
    yield bad("references", made(refs), "no 3-D array")
    record = np.dtype([("a", "f8"), ("b", "i4")])
    yield bad("records", made(lambda f: f.create_dataset("x", (2, 3, 4), record)), "no 3-D array")
    yield bad("opaque", made(lambda f: f.create_dataset("x", (2, 3, 4), "V7")), "no 3-D array")

    def several(file: Any, names: tuple[str, ...] = ("left", "right")) -> None:
        for name in names:
            file[name] = seeds.CUBE

    yield bad("several", made(several), "left 5x7x3, right 5x7x3", "choose one with dataset.variable")
    yield bad("name-lines", made(lambda f: several(f, ("a\nb\x1b[2J", "c"))), "choose one")
    hostile = lambda f: f.create_dataset("a\nb\x1b[2J", (5, 0, 3), "f8")
    yield bad("name-lines-of-the-cube", made(hostile), "empty axis")
    yield bad("no-array", made(lambda f: f.create_group("a")), "no 3-D array")
    yield bad("many", made(lambda f: [f.create_group(f"g{n}") for n in range(10_001)]), "objects")

    def deep(file: Any) -> None:
        for _ in range(3000):
            file = file.create_group("a")
        file["x"] = seeds.CUBE

    yield bad("deep", made(deep), "no 3-D array")

    def circle(file: Any) -> None:
        file["a/x"] = seeds.CUBE
        file["a/again"] = file["a"]
        file["a/root"] = file["/"]

    yield Case("hdf5-circle", {"a.h5": made(circle)}, (*INSPECT, "{}/a.h5"), 0)

    def told(file: Any) -> None:
        file["x"] = seeds.CUBE
        for name in ("wavelength_nm", "units", "axes", "_FillValue", "MATLAB_class"):
            file["x"].attrs[name] = np.array([[1, 2], [3, 4]])
        file["x"].attrs["reference"] = file["x"].ref
        file["x"].attrs["\x1b[2J\n"] = "a\nb\x1b[2J"

    yield Case("hdf5-attributes", {"a.h5": made(told)}, (*INSPECT, "{}/a.h5"), 0)


def _elsewhere(bad: Callable[..., Case]) -> Iterator[Case]:
    """Links and values that point out of the file: never followed, whatever lies there."""
    import h5py

    secret = {"secret.h5": seeds.hdf5(), "secret.bin": seeds.CUBE.tobytes()}
    for name, where in (("", "secret.h5"), ("-up", "../../secret.h5"), ("-device", "/dev/zero")):
        link = made(lambda f, where=where: f.__setitem__("x", h5py.ExternalLink(where, "/x")))
        yield bad(f"external-link{name}", link, "no 3-D array", **secret)
    yield bad("soft-link", made(lambda f: f.__setitem__("x", h5py.SoftLink("/x"))), "no 3-D array")
    shape, size = seeds.CUBE.shape, seeds.CUBE.nbytes
    for name, where in (("file", "secret.bin"), ("passwd", "/etc/passwd"), ("device", "/dev/zero")):
        out = lambda f, where=where: f.create_dataset("x", shape, "f8", external=[(where, 0, size)])
        yield bad(f"external-{name}", made(out), "other files", **secret)

    def vector(file: Any) -> None:
        file["x"] = seeds.CUBE
        file.create_dataset("wl", (3,), "f8", external=[("/dev/zero", 0, 24)])

    yield bad("external-wavelengths", made(vector), "'wl'", "other files")


def matlab_7_3() -> Iterator[Case]:
    def bad(name: str, data: bytes, *says: str) -> Case:
        return one(f"mat73-{name}", "a.mat", data, *says)

    whole = seeds.hdf5(True)
    yield from damaged("mat73", "a.mat", whole)
    yield bad("head-alone", whole[:512])
    yield bad("zeros-behind-head", whole[:512] + bytes(2000))
    yield bad("noise-behind-head", whole[:512] + np.random.default_rng(5).bytes(3000))
    yield bad("promises", _swapped(whole, SHAPE, struct.pack("<QQQ", 50_000, 70_000, 300)), "invalid dataset size")
    import h5py

    def cell(file: Any) -> None:
        """A cell array as MATLAB stores it: references to what lies under #refs#."""
        file["#refs#/a"] = seeds.CUBE
        file.create_dataset("c", (1, 1, 1), h5py.ref_dtype)[0, 0, 0] = file["#refs#/a"].ref
        file["c"].attrs["MATLAB_class"] = np.bytes_("cell")

    yield bad("cell", made(cell, True), "no 3-D array")
    whole = bytearray(made(cell, True))
    with h5py.File(io.BytesIO(bytes(whole)), "r") as file:
        at = file["c"].id.get_offset()
    whole[at : at + 8] = struct.pack("<Q", 1 << 40)
    yield bad("cell-dangling", bytes(whole), "no 3-D array")

    def of_class(kind: str) -> Callable[[Any], None]:
        def fill(file: Any) -> None:
            file["x"] = seeds.CUBE.astype("u2")
            file["x"].attrs["MATLAB_class"] = np.bytes_(kind)

        return fill

    yield bad("char", made(of_class("char"), True), "no 3-D array")
    yield bad("logical", made(of_class("logical"), True), "no 3-D array")
    yield bad("struct", made(lambda f: f.__setitem__("s/x", seeds.CUBE), True), "no 3-D array")
    link = lambda f: f.__setitem__("x", h5py.ExternalLink("/dev/zero", "/x"))
    yield bad("external-link", made(link, True), "no 3-D array")
    out = lambda f: f.create_dataset("x", (5, 7, 3), "f8", external=[("/etc/passwd", 0, 840)])
    yield bad("external", made(out, True), "other files")
    two = lambda f: [f.__setitem__(name, seeds.CUBE) for name in ("x", "y")]
    yield bad("several", made(two, True), "choose one with dataset.variable")

    yield bad("bomb", made(_bomb, True), "times")
    yield Case("mat73-complex", {"a.mat": made(lambda f: f.__setitem__("x", seeds.CUBE.astype("c16")), True)},
               (*INSPECT, "{}/a.mat"), DATA, ("a.mat", "no 3-D array"))  # fmt: skip
