"""HDF5 changed in its own terms: numbers of its metadata at their places, values of chunks under sound packing.

Nothing is put in or taken out, so that addresses stay true; the old format that h5py writes has no checksums, so that
what is changed is also read.
"""

from __future__ import annotations

import io
import random
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import fuzz_seeds as seeds
import numpy as np

SIGNS = (b"TREE", b"SNOD", b"HEAP", b"GCOL", b"OHDR", b"FRHP", b"BTHD")
LIMITS = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**40, 2**63 - 1, 2**64 - 1)
SECONDS = 0.5  # of the processor that the library has: what it holds costs the fuzzer no more


def held(use: Callable[[Path, bytes], object]) -> Callable[[Path, bytes], object]:
    """The same reader with less time for the library, whose end is an ordinary refusal."""

    def used(folder: Path, data: bytes) -> None:
        from gen_hyperspectral.containers.hdf5 import library as hdf5_library

        before, hdf5_library.SECONDS = hdf5_library.SECONDS, SECONDS
        try:
            use(folder, data)
        finally:
            hdf5_library.SECONDS = before

    return used


@cache
def _made(matlab: bool) -> tuple[bytes, ...]:
    import h5py

    packings = ({}, {"chunks": (2, 3, 3)}, {"chunks": (2, 3, 3), "compression": "gzip", "shuffle": True})
    found = [seeds.hdf5(matlab, **packing) for packing in packings]
    for more in ({"compression": "lzf"}, {"fletcher32": True}, {"scaleoffset": 3}):
        out = io.BytesIO()
        with h5py.File(out, "w", userblock_size=512 if matlab else 0) as file:
            values = (100 * seeds.CUBE).astype("i4")
            x = file.create_dataset("x", data=values, chunks=(5, 7, 2), maxshape=(None, 7, 3), fillvalue=7, **more)
            x.attrs["units"], x.attrs["_FillValue"], x.attrs["MATLAB_class"] = "counts", 7, np.bytes_("int32")
            file["g/wavelength"] = seeds.WAVELENGTHS
            file["wl"] = seeds.WAVELENGTHS
            file["wl"].make_scale("band")
            x.dims[2].attach_scale(file["wl"])
            file.create_dataset("cell", (1, 2), h5py.ref_dtype)[0] = [x.ref, file["g"].ref]
        made = out.getvalue()
        found.append(seeds.MATLAB_7_3 + made[len(seeds.MATLAB_7_3) :] if matlab else made)
    return tuple(found)


def seeds_of_hdf5() -> list[bytes]:
    return list(_made(False))


def seeds_of_matlab() -> list[bytes]:
    return list(_made(True))


@cache
def _chunks(length: int) -> tuple[tuple[int, int], ...]:
    """Where values lie in the seed of this length: (offset, size) of every chunk or array."""
    import h5py

    for data in (*_made(False), *_made(True)):
        if len(data) == length:
            with h5py.File(io.BytesIO(data), "r") as file:
                x = file["x"]
                if x.chunks is None:
                    return ((x.id.get_offset(), x.nbytes),)
                told = [x.id.get_chunk_info(n) for n in range(x.id.get_num_chunks())]
                return tuple((chunk.byte_offset, chunk.size) for chunk in told)
    return ()


def mutate(rng: random.Random, data: bytes) -> bytes:
    """One to four numbers of the metadata changed, or a chunk."""
    made, chunks = bytearray(data), _chunks(len(data))
    if chunks and rng.random() < 0.2:
        offset, size = rng.choice(chunks)
        new = repacked(rng, bytes(made[offset : offset + size]))[:size]
        made[offset : offset + len(new)] = new
        return bytes(made)
    signs = [at for sign in SIGNS for at in _places(data, sign)]
    for _ in range(rng.randint(1, 4)):
        if signs and rng.random() < 0.6:  # near a node, heap or header
            at = rng.choice(signs) + rng.randrange(0, 200)
        else:
            at = rng.randrange(max(len(made), 1))
        if any(offset <= at < offset + size for offset, size in chunks):
            continue
        width = rng.choice((1, 2, 4, 8))
        at -= at % min(width, 4)
        if at + width > len(made):
            continue
        old = int.from_bytes(made[at : at + width], "little")
        other = rng.randrange(max(len(made) - 8, 1)) & ~7
        new = rng.choice((
            rng.choice(LIMITS), old + rng.choice((-8, -1, 1, 8)), old ^ 1 << rng.randrange(8 * width), len(made),
            int.from_bytes(made[other : other + 8], "little"), rng.choice(signs or [0]), old << 8,
        ))  # fmt: skip
        made[at : at + width] = (new % (1 << 8 * width)).to_bytes(width, "little")
    return bytes(made)


def _places(data: bytes, sign: bytes) -> list[int]:
    found, at = [], data.find(sign)
    while at >= 0 and len(found) < 50:
        found.append(at)
        at = data.find(sign, at + 1)
    return found


def repacked(rng: random.Random, packed: bytes) -> bytes:
    """Bytes of a packed chunk changed inside of its packing, so that it unpacks; plain bytes changed as they are."""
    for wbits in (zlib.MAX_WBITS, 31):
        try:
            raw = bytearray(zlib.decompress(packed, wbits))
        except zlib.error:
            continue
        match rng.randrange(3):
            case 0:
                raw = raw[: rng.randrange(len(raw) + 1)]
            case 1:
                raw += bytes(rng.choice((1, 8, 1000, 1 << 20)))
            case _:
                raw[rng.randrange(len(raw)) if raw else 0 :] = rng.randbytes(8)
        engine = zlib.compressobj(9, zlib.DEFLATED, wbits)
        return engine.compress(bytes(raw)) + engine.flush()
    made = bytearray(packed)
    for _ in range(rng.randint(1, 4)):
        if made:
            made[rng.randrange(len(made))] = rng.randrange(256)
    return bytes(made)
