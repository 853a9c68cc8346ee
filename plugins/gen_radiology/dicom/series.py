"""A DICOM series: frames that belong together, and what lies several times at the same places told apart."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from attrs import Factory, define

from gen_core.errors import DataError
from gen_radiology.dicom.frames import TIMES, Frame
from gen_radiology.dicom.stack import Grid, lay_out, places

RANKED = ("TemporalPositionIdentifier", "TriggerTime", "AcquisitionTime", "ContentTime")


@define(eq=False)
class Series:
    """Frames that belong together. id: readable, unique in its folder. notes: what was told apart.

    problems: files of this series that cannot be used; reading it raises the first.
    """

    id: str
    subject: str
    study_uid: str
    series_uid: str
    modality: str
    description: str
    frames: list[Frame]
    notes: list[str] = Factory(list)
    problems: list[str] = Factory(list)
    number: int = 0

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file once, in the order of slices."""
        return tuple(dict.fromkeys(frame.path for frame in self.frames))

    @property
    def folder(self) -> Path:
        """The deepest folder that holds every file."""
        return Path(os.path.commonpath([frame.path.parent for frame in self.frames]))

    @property
    def images(self) -> int:
        """How many images `read_series` gives."""
        return len(split_times(self.frames))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x) of the first image as stored. Raises: DataError."""
        return self._first().shape

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) from voxel (z, y, x, 1) to LPS mm, of the first image as stored. Raises: DataError."""
        return self._first().affine

    def _first(self) -> Grid:
        if self.problems:
            raise DataError(self.problems[0])
        ordered, place = places(split_times(self.frames)[0][1])
        keep = np.diff(place, prepend=-1) > 0
        return lay_out([frame for frame, kept in zip(ordered, keep) if kept])


def split_times(frames: list[Frame]) -> list[tuple[dict[str, Any], list[Frame]]]:
    """Frames that share places, parted by the first key that tells whole stacks apart: (what it was, frames) each.

    Keys are tried in the order of TIMES, several one after the other (echo, then time). Times that differ from slice
    to slice part by their rank at each place. What no key tells apart stays together: duplicates.
    """
    ordered, place = places(frames)
    counts = np.bincount(place)
    if counts.max() == 1:
        return [({}, ordered)]
    for name in TIMES:
        groups: dict[Any, list[int]] = {}
        for i, frame in enumerate(ordered):
            groups.setdefault(frame.keys.get(name), []).append(i)
        covered = min(len(set(place[part])) for part in groups.values())
        if len(groups) > 1 and 2 * covered > len(counts):
            values = sorted(groups, key=lambda v: (isinstance(v, str), str(type(v)), v if v is not None else 0))
            return [
                ({name: value, **more}, part)
                for value in values
                for more, part in split_times([ordered[i] for i in groups[value]])
            ]
    if counts.min() == counts.max() and len(counts) > 1:
        for name in RANKED:
            ranks: list[list[Frame]] = [[] for _ in range(counts.max())]
            for p in range(len(counts)):
                here = [ordered[i] for i in np.flatnonzero(place == p)]
                values = [frame.keys.get(name) for frame in here]
                if None in values or len(set(values)) < len(values) or len({type(v) for v in values}) > 1:
                    break
                for rank, frame in zip(ranks, sorted(here, key=lambda f: f.keys[name])):
                    rank.append(frame)
            else:
                return [({f"rank of {name}": i + 1}, rank) for i, rank in enumerate(ranks)]
    return [({}, ordered)]
