"""What a header may promise: sizes are held against the file before anything is allocated."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from types import ModuleType

import numpy as np

from gen_core.errors import DataError, MissingError

DEFLATE_LIMIT = 1032  # deflate cannot expand further than this: a larger promise is a lie
UNPACKED = 320 << 20  # bytes in memory that may come out of a file however small
DENSEST = 200  # times: beyond that size no cube of measured values packs tighter
SPARE = 64 << 20  # bytes that pieces left out of a file (all zero) may stand for without an equivalent in it
MOST_PIECES = 500_000  # each costs some ten microseconds to put in its place; 672 x 672 pixels of their own are fewer


def check_promise(path: Path, what: str, need: int, held: int, packed: bool, spare: int = 0) -> None:
    """Raises: DataError where `need` bytes cannot come out of the `held` bytes of a file."""
    if need > (held * DEFLATE_LIMIT if packed else held) + spare:
        told = " compressed" if packed else ""
        raise DataError(f"{path}: {what} promises {need} bytes, the file holds {held}{told}: damaged or cut off?")


def check_ratio(path: Path, what: str, need: int, held: int) -> None:
    """Raises: DataError where much memory would come out of little data: a blank array, or a file made to fill it."""
    if need > UNPACKED and need > DENSEST * held:
        raise DataError(f"{path}: {what} unpacks to {need // max(held, 1)} times its {held} bytes: blank or hostile")


def check_array(path: Path, what: str, shape: tuple[int, ...], dtype: np.dtype) -> int:
    """The bytes of an array of real numbers. Raises: DataError for other types and empty axes."""
    if dtype.kind not in "buif" or dtype.hasobject:
        raise DataError(f"{path}: {what} holds {dtype}, which is not a real number type")
    if not shape or min(shape) <= 0:
        raise DataError(f"{path}: {what} has shape {list(shape)}: an empty axis")
    return math.prod(shape) * dtype.itemsize


def check_pieces(path: Path, what: str, shape: tuple[int, ...], chunk: tuple[int, ...]) -> None:
    """Raises: DataError where an array is cut into nothing, or into more pieces than can be read."""
    if len(chunk) != len(shape) or min(chunk) <= 0:
        raise DataError(f"{path}: {what} of shape {list(shape)} has pieces of {list(chunk)}: damaged")
    pieces = math.prod(-(-n // c) for n, c in zip(shape, chunk))
    if pieces > MOST_PIECES:
        raise DataError(
            f"{path}: {what} lies in {pieces} pieces of {list(chunk)}: write it again with larger ones, or damaged"
        )


def needed(package: str, path: Path) -> ModuleType:
    """A package of the extra `hyper`. Raises: MissingError naming the file and the extra."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise lacking(package, path) from None


def lacking(package: str, path: Path) -> MissingError:
    """What is to be said where a package of the extra `hyper` is not there."""
    return MissingError(f'{path}: reading it needs {package}: pip install "gen-imaging[hyper]" (extra `hyper`)')
