"""The samples of a run as `sample` keeps them: chunks of volumes, read in order or by index, without the rejected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from gen_core.dataset import Split
from gen_core.run.folder import RunFolder, read_json
from gen_core.volume import Sample

REJECTED = "rejected.json"


def sample_id(index: int) -> str:
    """The id of synthetic sample `index`."""
    return f"sample-{index:06d}"


def chunk_path(step: Path, chunk: int) -> Path:
    """The file of chunk number `chunk` in the folder of the step `sample`."""
    return step / "chunks" / f"chunk-{chunk:05d}.safetensors"


class SampleStore(Split):
    """Accepted samples in rising index; each access reads one volume. Views are the volumes themselves.

    batch: [sample] batch, which says where sample i lies. rejected: ids to leave out.
    """

    def __init__(self, step: Path, batch: int, rejected: frozenset[str] = frozenset()):
        self.step, self.batch = step, batch
        self.indices: list[int] = []
        for path in sorted((step / "chunks").glob("chunk-*.safetensors")):
            first = int(path.stem.split("-")[1]) * batch
            with safe_open(path, "numpy") as file:
                n = file.get_slice("x").get_shape()[0]
            self.indices += [i for i in range(first, first + n) if sample_id(i) not in rejected]

    def __len__(self) -> int:
        return len(self.indices)

    def volume(self, index: int) -> np.ndarray:
        """x (C, D, H, W) of sample number `index`."""
        with safe_open(chunk_path(self.step, index // self.batch), "numpy") as file:
            return np.ascontiguousarray(file.get_slice("x")[index % self.batch])

    def __getitem__(self, i: int) -> Sample:  # type: ignore[override]
        id_ = sample_id(self.indices[i])
        return Sample(x=self.volume(self.indices[i]), id=id_, subject=id_, hash=id_)


class Joined(Split):
    """Several splits one after the other."""

    def __init__(self, *parts: Split):
        self.parts = parts

    def _at(self, i: int) -> tuple[Split, int]:
        i = range(len(self))[i]
        for part in self.parts:
            if i < len(part):
                return part, i
            i -= len(part)
        raise IndexError(i)

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, i: int) -> Sample:  # type: ignore[override]
        part, at = self._at(i)
        return part[at]

    def view(self, i: int, draw: int) -> Sample:
        part, at = self._at(i)
        return part.view(at, draw)


def rejected_samples(folder: RunFolder, recipe: Any) -> dict[str, list[str]]:
    """Id -> reasons of every sample that the step `reject` set aside; empty where the recipe asks for no judge."""
    if not recipe.evaluate.reject.by or folder.done("reject") is None:
        return {}
    return (read_json(folder.step("reject") / REJECTED) or {}).get("rejected", {})


def accepted_samples(folder: RunFolder, recipe: Any) -> SampleStore:
    """The samples that count: all that were drawn, or what `reject` left of them."""
    return SampleStore(folder.step("sample"), recipe.sample.batch, frozenset(rejected_samples(folder, recipe)))
