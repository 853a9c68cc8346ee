"""What one volume is made of: an image, its masks and what is known about it. Kinds of folders are in their own files.

A source is found from headers; pixels are read by `read` alone.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import Factory, define, field

from gen_core import atomic
from gen_core.errors import DataError
from gen_core.volume_cache import key_of, source_hash
from gen_radiology.volumes.image import Image, MaskSet

SMALL = 1 << 20  # bytes of files up to which reading them again costs less than remembering
LARGE = 1 << 30  # bytes of files from which on names, sizes and times stand for the content


@define(eq=False)
class Source(ABC):
    """One volume to be. id: unique in its folder. whole: the image it is a part of. where: for messages.

    told, told_subject: what samples and records call it and its subject.
    image_files, mask_files: everything its content depends on. focus: LPS mm that a block is centred on, or none.
    """

    id: str
    subject: str
    where: str
    modality: str
    image_files: tuple[Path, ...]
    mask_files: tuple[Path, ...] = ()
    whole: str = ""
    focus: np.ndarray | None = None
    notes: list[str] = Factory(list)
    told: str = field(default=Factory(lambda self: self.id, takes_self=True), kw_only=True)
    told_subject: str = field(default=Factory(lambda self: self.subject, takes_self=True), kw_only=True)

    @abstractmethod
    def grid(self) -> tuple[tuple[int, int, int], np.ndarray]:
        """Shape (z, y, x) and affine to LPS mm as stored, from headers. Raises: DataError."""

    @abstractmethod
    def read(self, masks: bool) -> tuple[Image, MaskSet]:
        """The image in physical values, and its masks by the names of the recipe. Raises: DataError."""

    def condition(self, affine: np.ndarray, shape: tuple[int, int, int]) -> dict[str, Any]:
        """What headers and readings say of a block on this grid: floats, and indices of classes."""
        return {}


@define
class Found:
    """The sources of a folder, by id, and what was left out or guessed, one line each.

    words: of headers, that may tell of a patient.
    """

    sources: list[Source]
    notes: list[str] = Factory(list)
    words: set[str] = Factory(set)


def files_hash(files: Sequence[Path], cache: Path) -> str:
    """SHA-256 of the contents of files, remembered in `cache` by path, size and time; of large sets of these alone."""
    stats = [(str(path.resolve()), path.stat()) for path in files]
    name = key_of(files=[[path, s.st_size, s.st_mtime_ns] for path, s in stats])
    total = sum(s.st_size for _, s in stats)
    if total > LARGE:
        return name
    if total < SMALL:
        return key_of(files=[source_hash(path) for path in files])
    known = cache / "series" / name[:2] / name
    if known.exists() and len(text := known.read_text()) == 64:
        return text
    value = key_of(files=[source_hash(path) for path in files])
    atomic.write_text(known, value)
    return value


def subject_of(relative: Path, how: str) -> str:
    """The subject by a regular expression with one group, or the index of a part, of a path below the root."""
    if re.fullmatch(r"-?\d+", how):
        try:
            return relative.parts[int(how)]
        except IndexError:
            raise DataError(f"dataset.subject = '{how}': '{relative}' has no such part") from None
    match = regex("subject", how).search(relative.as_posix())
    if match is None or not match.groups() or not match.group(1):
        raise DataError(f"dataset.subject = '{how}' finds no group in '{relative.as_posix()}'")
    return match.group(1)


def regex(key: str, text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise DataError(f"dataset.{key} = '{text}' is no regular expression: {error}") from None


def counted(reasons: Iterable[tuple[Path, str]], root: Path) -> list[str]:
    """One line a reason, however many files it holds for."""
    groups: dict[str, list[Path]] = {}
    for path, reason in reasons:
        groups.setdefault(reason, []).append(path)
    return [
        f"left out: {p[0].relative_to(root)}{f' and {len(p) - 1} more' if len(p) > 1 else ''}: {reason}"
        for reason, p in groups.items()
    ]
