"""Pixels of frames out of their files, as physical values.

Uncompressed data are read straight into the volume, one frame at a time through a small buffer; compressed data are
decoded by pydicom and its plugins, one frame at a time.
Source: DICOM PS3.5 2024e, annex A.4 (encapsulation), annex G (run lengths).
"""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

import numpy as np
from attrs import evolve

from gen_core.errors import DataError, MissingError
from gen_radiology.dicom.cut_off import pixels_break_off
from gen_radiology.dicom.elements import DEFLATED, NATIVE
from gen_radiology.dicom.frames import Frame
from gen_radiology.dicom.header import Header
from gen_radiology.dicom.stored_pixels import RLE, Stored, stored, to_physical

THREADS = 4
FEW = 16  # frames below which threads do not pay


def read_frames(frames: list[Frame], out: np.ndarray) -> None:
    """Physical values of frames into out (n, rows, columns) float32.

    Raises: DataError naming the file; MissingError when a decoder is not installed.
    """
    parts = []
    for _, group in groupby(enumerate(frames), key=lambda pair: pair[1].path):
        group = list(group)
        parts.append((group[0][1].header, [(frame, out[i]) for i, frame in group]))
    plain = all(header.syntax in NATIVE and header.syntax != DEFLATED for header, _ in parts)
    workers = min(THREADS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    if not plain or len(parts) < FEW or workers < 2:
        _read_parts(parts)
        return
    with ThreadPoolExecutor(workers) as pool:  # reading and arithmetic leave the interpreter's lock
        size = -(-len(parts) // workers)
        for done in [pool.submit(_read_parts, parts[i : i + size]) for i in range(0, len(parts), size)]:
            done.result()


def _read_parts(parts: list[tuple[Header, list[tuple[Frame, np.ndarray]]]]) -> None:
    buffer = bytearray()
    for header, wanted in parts:
        how = stored(header)
        try:
            if header.syntax not in NATIVE:
                _decode(header, how, wanted)
            else:
                buffer = _read_native(header, how, wanted, buffer)
        except OSError as error:
            raise DataError(f"{header.path}: cannot be read: {error.strerror or error}") from None


def _read_native(header: Header, how: Stored, wanted: list[tuple[Frame, np.ndarray]], buffer: bytearray) -> bytearray:
    """Read frames through the buffer, which is handed on to the next file."""
    rows, columns = wanted[0][0].size
    need = rows * columns * how.dtype.itemsize
    if len(buffer) < need:
        buffer = bytearray(need)
    view = memoryview(buffer)[:need]
    pixels = np.frombuffer(view, how.dtype).reshape(rows, columns)
    _, vr, offset, _ = header.pixels
    if header.order == ">" and vr == b"OW" and how.dtype.itemsize == 1:
        raise DataError(f"{header.path}: 8-bit pixels in big-endian words: not supported")
    if header.syntax == DEFLATED:
        data = _inflated(header, offset + need * (1 + max(frame.index for frame, _ in wanted)))
        for frame, out in wanted:
            start = offset + need * frame.index
            view[:] = data[start : start + need]
            to_physical(pixels, how, frame, out)
        return buffer
    with header.path.open("rb", buffering=0) as file:
        for frame, out in wanted:
            file.seek(offset + need * frame.index)
            got = 0
            while got < need:
                more = file.readinto(view[got:])
                if not more:
                    raise DataError(f"{header.path}: pixel data end after {got} of {need} bytes of a frame: truncated")
                got += more
            to_physical(pixels, how, frame, out)
    return buffer


def _inflated(header: Header, need: int) -> bytes:
    """The first `need` bytes of a deflated data set."""
    try:
        with header.path.open("rb") as file:
            file.seek(header.start)
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(), need)
    except zlib.error as error:
        raise DataError(f"{header.path}: deflated data: {error}") from None
    if len(data) < need:
        raise DataError(f"{header.path}: deflated data end after {len(data)} of {need} bytes: truncated")
    return data


def _decode(header: Header, how: Stored, wanted: list[tuple[Frame, np.ndarray]]) -> None:
    """Frames of compressed pixel data, by pydicom's decoders."""
    from pydicom.pixels import get_decoder, iter_pixels
    from pydicom.uid import UID

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            syntax = UID(header.syntax)
            decoder = get_decoder(syntax)
    except NotImplementedError:
        raise DataError(f"{header.path}: transfer syntax '{_plain(header.syntax)}' is not known") from None
    if not decoder.is_available:
        raise MissingError(f"{header.path}: no decoder for {syntax.name}: pip install 'gen-imaging[dicom]'")
    if pixels_break_off(header):  # some decoders make a picture of what there is
        raise DataError(f"{header.path}: compressed pixel data end too early (cut off?)")
    indices = [frame.index for frame, _ in wanted]
    every = len(indices) == 1 and header.whole("NumberOfFrames", 1) == 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plain = header.syntax == RLE and not _rle_is_tidy(header, how, indices)
            plugin = "pydicom" if plain else ""
            decoded = iter_pixels(header.path, raw=True, indices=None if every else indices, decoding_plugin=plugin)
            for (frame, out), pixels in zip(wanted, decoded, strict=True):
                if pixels.shape != frame.size:
                    raise DataError(f"{header.path}: decodes to {pixels.shape}, header says {frame.size}")
                to_physical(np.ascontiguousarray(pixels), _decoded(header, how, pixels.dtype), frame, out)
    except (DataError, MissingError):
        raise
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # decoders raise what they like on damaged data; a panic in Rust is no Exception
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise DataError(f"{header.path}: pixel data cannot be decoded ({syntax.name}): {line}") from None


def _rle_is_tidy(header: Header, how: Stored, indices: list[int]) -> bool:
    """Whether the runs of every frame fill their planes to the pixel.

    Where they do not, the decoder in Rust panics, with a trace on the screen; pydicom's own raises, or bears with it.
    Source: DICOM PS3.5, annex G (a header of 16 words, then byte planes packed by PackBits).
    """
    from pydicom.encaps import generate_frames

    count, wanted = header.whole("NumberOfFrames", 1), set(indices)
    pixels = header.whole("Rows") * header.whole("Columns")
    with header.path.open("rb") as file:
        file.seek(header.pixels[2])
        for index, data in enumerate(generate_frames(file, number_of_frames=count)):
            if index not in wanted:
                continue
            segments, *offsets = struct.unpack("<16I", data[:64].ljust(64, b"\0"))
            if segments != how.dtype.itemsize:
                return False
            for start, end in zip(offsets[:segments], [*offsets[1:segments], len(data)]):
                at, left = start, pixels
                while left > 0 and at < end:
                    run = data[at]
                    if run < 128:
                        at, left = at + run + 2, left - run - 1
                    else:
                        at, left = at + 1 + (run > 128), left - (257 - run) * (run > 128)
                if left or not 64 <= start <= end <= len(data) or not 0 <= end - at <= 1:
                    return False
    return True


def _plain(text: str) -> str:
    return text[:64].encode("unicode_escape").decode()


def _decoded(header: Header, how: Stored, dtype: np.dtype) -> Stored:
    """How a decoder hands pixels over: RLE packs the words as they are, the others code values."""
    if header.syntax == RLE:
        return evolve(how, dtype=dtype)
    return Stored(dtype, min(how.bits, 8 * dtype.itemsize), 0, dtype.kind == "i", how.inverted, clean=True)


def same_pixels(frames: Iterable[Frame]) -> bool:
    """Whether frames of one size hold the same physical values."""
    first = None
    for frame in frames:
        values = np.empty((1, *frame.size), np.float32)
        read_frames([frame], values)
        if first is None:
            first = values
        elif values.shape != first.shape or not np.array_equal(values, first, equal_nan=True):
            return False
    return True
