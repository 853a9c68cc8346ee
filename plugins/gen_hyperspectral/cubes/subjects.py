"""Whose file it is: the subject, told by the file's name and folders."""

from __future__ import annotations

import re
from pathlib import Path

from gen_core.errors import DataError
from gen_hyperspectral.cubes.names import stem_of


def subject_of(relative: Path, how: str) -> str:
    """relative: the path below the root. how: "" for the stem, the index of a path part, or an expression with a group.

    Raises: DataError naming dataset.subject.
    """
    if not how:
        return stem_of(relative)
    if re.fullmatch(r"-?\d+", how):
        try:
            return relative.with_name(stem_of(relative)).parts[int(how)]
        except IndexError:
            raise DataError(f"dataset.subject = '{how}': '{relative}' has no such part") from None
    try:
        match = re.search(how, relative.as_posix())
    except re.error as error:
        raise DataError(f"dataset.subject = '{how}' is no regular expression: {error}") from None
    if match is None or not match.groups() or match.group(1) is None:
        raise DataError(f"dataset.subject = '{how}' finds no group in '{relative.as_posix()}'")
    return match.group(1)
