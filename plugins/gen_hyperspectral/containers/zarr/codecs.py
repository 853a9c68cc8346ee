"""What chunks of zarr are packed with: unpacked to their promised size, and never beyond.

gzip and zlib need nothing; blosc, zstd and lz4 need numcodecs (extra `hyper`).
Source: Zarr core specification 3.0 and 2; codecs "gzip", "zstd", "blosc", "crc32c".
"""

from __future__ import annotations

import zlib

import numpy as np

from gen_hyperspectral.cubes.inflate import inflate

GZIP, CHECKSUM_BYTES = 31, 4
PACKED = ("gzip", "zlib", "zstd", "blosc", "lz4")


def unpacked(codec: str, data: bytes, size: int) -> bytes | np.ndarray:
    """The bytes of a chunk. codec: one of PACKED, "" for none. Raises: ValueError where it would be another size."""
    if codec in ("gzip", "zlib"):
        return inflate(data, size, GZIP if codec == "gzip" else zlib.MAX_WBITS)
    if not codec:
        return data
    import numcodecs

    out = np.zeros(size, np.uint8)  # a codec that finds more than this refuses
    made = {"zstd": numcodecs.Zstd, "blosc": numcodecs.Blosc, "lz4": numcodecs.LZ4}[codec]()
    promised = {"blosc": _blosc_size, "lz4": _lz4_size, "zstd": _zstd_size}[codec](data)
    if promised not in (None, size):
        raise ValueError(f"its header promises {promised} bytes for a chunk of {size}: damaged")
    made.decode(data, out)
    return out


def without_checksum(data: bytes) -> bytes:
    """Without the CRC-32C behind it, held against it where google_crc32c (which zarr brings along) is installed."""
    data, told = data[:-CHECKSUM_BYTES], int.from_bytes(data[-CHECKSUM_BYTES:], "little")
    try:
        import google_crc32c
    except ImportError:
        return data
    if google_crc32c.value(data) != told:
        raise ValueError("its checksum does not fit: damaged")
    return data


def _blosc_size(data: bytes) -> int:
    return int.from_bytes(data[4:8], "little") if len(data) >= 16 else -1


def _lz4_size(data: bytes) -> int:
    return int.from_bytes(data[:4], "little")


def _zstd_size(data: bytes) -> int | None:
    """The content size of the first frame; None where it is not stored. Source: RFC 8878, 3.1.1.1."""
    if len(data) < 6 or data[:4] != b"\x28\xb5\x2f\xfd":
        return -1
    head, single = data[4], data[4] >> 5 & 1
    width = (single, 2, 4, 8)[head >> 6]
    at = 5 + (1 - single) + (0, 1, 2, 4)[head & 3]
    return int.from_bytes(data[at : at + width], "little") + (256 if width == 2 else 0) if width else None
