"""Ways in which a file goes bad. Each takes the path; the file of another run or step is `other`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

Damage = Callable[[Path, Path], None]


def _cut(share: float) -> Damage:
    def cut(path: Path, other: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])

    return cut


def _last_byte(path: Path, other: Path) -> None:
    """Of text the last that says something: a line end that is lost at the end loses nothing."""
    path.write_bytes(path.read_bytes().rstrip(b"\n")[:-1])


def _zeros(path: Path, other: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _block_of_zeros(path: Path, other: Path) -> None:
    """A lost sector: the middle, at most 512 bytes, that is not zero already."""
    data = bytearray(path.read_bytes())
    first = next(i for i in range(len(data) // 2, len(data)) if data[i])
    for i in range(first, min(first + 512, len(data) - 1)):
        data[i] = 0
    path.write_bytes(data)


def _flipped_bit(path: Path, other: Path) -> None:
    data = bytearray(path.read_bytes())
    data[3 * len(data) // 4] ^= 0x04
    path.write_bytes(data)


def _missing(path: Path, other: Path) -> None:
    path.unlink()


def _empty(path: Path, other: Path) -> None:
    path.write_bytes(b"")


def _of_another(path: Path, other: Path) -> None:
    """A whole file of the same name, in the wrong place."""
    shutil.copyfile(other, path)


DAMAGES: dict[str, Damage] = {
    "cut to a quarter": _cut(0.25),
    "cut to a half": _cut(0.5),
    "last byte lost": _last_byte,
    "zeros": _zeros,
    "a block of zeros": _block_of_zeros,
    "one bit flipped": _flipped_bit,
    "missing": _missing,
    "empty": _empty,
    "of another run": _of_another,
}
