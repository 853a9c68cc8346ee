"""Deflate streams by the quickest library at hand, and never more of them than was promised.

isal and zlib-ng unpack two to three times as fast as zlib; all three give the same bytes.
"""

from __future__ import annotations

import importlib
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from gen_core.errors import DataError

READ = 1 << 18  # bytes of the packed file read at a time
STEP = 1 << 22  # bytes unpacked at a time
DRAIN = 1 << 28  # bytes beyond the values that are read for the sake of the checksum


def _quickest() -> tuple[Any, tuple[type[Exception], ...]]:
    for name in ("isal.isal_zlib", "zlib_ng.zlib_ng"):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        return module, (zlib.error, module.error)
    return zlib, (zlib.error,)


ENGINE, ERRORS = _quickest()


def inflate(data: bytes, size: int, wbits: int = zlib.MAX_WBITS) -> bytes:
    """The `size` bytes that a zlib stream holds (wbits = 31: a gzip stream). Raises: ValueError otherwise."""
    engine = ENGINE.decompressobj(wbits)
    try:
        out = engine.decompress(data, size + 1)
        if len(out) == size and not engine.eof:  # the checksum stands behind the last byte
            out += engine.decompress(engine.unconsumed_tail, 1)
    except ERRORS as error:
        raise ValueError(f"cannot be decompressed: {error}") from None
    if len(out) != size or not engine.eof:
        raise ValueError(f"{len(out)} bytes or more came out of a piece of {size}: damaged or cut off")
    return out


class GzipStream:
    """The content of a .gz file from its start to its end, once; several members follow each other."""

    def __init__(self, path: Path, file: BinaryIO):
        self.path, self.file = path, file
        self.engine = ENGINE.decompressobj(31)
        self.rest = b""

    def readinto(self, view: memoryview) -> int:
        """Fill `view` (bytes); fewer only at the end of the stream. Raises: DataError."""
        done = 0
        while done < len(view):
            part = self._some(min(len(view) - done, STEP))
            if not part:
                break
            view[done : done + len(part)] = part
            done += len(part)
        return done

    def skip(self, count: int) -> None:
        """Pass over `count` bytes. Raises: DataError where the stream ends before."""
        while count:
            part = self._some(min(count, STEP))
            if not part:
                raise DataError(f"{self.path}: its data end too early (cut off?)")
            count -= len(part)

    def drain(self) -> bool:
        """To the end, where the checksum stands. True when there were bytes left."""
        left = DRAIN
        while left > 0 and (part := self._some(STEP)):
            left -= len(part)
        return left < DRAIN

    def _some(self, most: int) -> bytes:
        try:
            while True:
                source = self.rest or self.file.read(READ)
                if self.engine.eof:
                    source = source.lstrip(b"\0")  # padding between members is allowed
                    if not source:
                        self.rest = b""
                        return b""
                    self.engine = ENGINE.decompressobj(31)
                part = self.engine.decompress(source, most)
                self.rest = self.engine.unused_data if self.engine.eof else self.engine.unconsumed_tail
                if part:
                    return part
                if not source and not self.engine.eof:
                    raise DataError(f"{self.path}: its data end too early (cut off?)")
        except ERRORS as error:
            raise DataError(f"{self.path}: cannot be decompressed: {error}") from None
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror or error}") from None
