"""Masks and photographs: what lies beside cubes as .npy or an image, and what the camera of a fundus writes."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import fuzz_seeds as seeds
import numpy as np

SIZE = (5, 7)
GREY = (np.random.default_rng(3).random(SIZE) * 255).astype("u1")


def mask(folder: Path, data: bytes) -> None:
    """An array where it begins like one, else an image."""
    from gen_hyperspectral.prepare.masks import read_mask

    name = "a.npy" if data[:1] == b"\x93" else "a.png"
    assert read_mask(seeds.write(folder, name, data), SIZE).shape == SIZE


def photograph(folder: Path, data: bytes) -> None:
    from gen_hyperspectral.photographs.planes import photograph_size, read_photograph

    path = seeds.write(folder, "a.jpg", data)
    planes, opaque, _ = read_photograph(path, "repeat")
    assert planes.shape[1:] == opaque.shape == photograph_size(path) and np.isfinite(planes).all()


def masks() -> list[bytes]:
    arrays = [_npy(GREY > 99), _npy((GREY > 99).astype("f8")[None])]
    return [*arrays, _image("PNG"), _image("PNG", mode="1"), _image("GIF", mode="P"), _image("TIFF", mode="I;16")]


def photographs() -> list[bytes]:
    turned = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    return [
        _image("JPEG", mode="RGB", exif=turned),
        _image("JPEG", mode="RGB", progressive=True),
        _image("PNG", mode="RGBA"),
        _image("PNG", mode="LA"),
        _image("PNG", mode="P"),
        _image("TIFF", mode="RGB", compression="tiff_lzw"),
        _sixteen_bits_a_colour(),
    ]


def _npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def _image(kind: str, mode: str = "L", **how: object) -> bytes:
    from PIL import Image

    image = Image.fromarray(GREY.astype("u2") * 257) if mode == "I;16" else Image.fromarray(GREY).convert(mode)
    out = io.BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


def _sixteen_bits_a_colour() -> bytes:
    """A PNG that Pillow reads and does not write."""
    rows = np.stack([GREY.astype(">u2") * 257] * 3, -1)
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    head = struct.pack(">IIBBBBB", SIZE[1], SIZE[0], 16, 2, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", packed), (b"IEND", b"")]
    chunk = lambda kind, body: struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)
