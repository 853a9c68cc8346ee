"""The samples of a run as `sample` keeps them: chunks of volumes, read in order or by index, without the rejected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gen_core.dataset import Split
from gen_core.run.folder import RunFolder, read_json
from gen_core.run.samples.drawn import Drawn, Under
from gen_core.tensor_file import DamagedFile, read_tensors, write_tensors
from gen_core.volume import Sample

REJECTED = "rejected.json"


def sample_id(index: int) -> str:
    """The id of synthetic sample `index`."""
    return f"sample-{index:06d}"


def chunk_path(step: Path, chunk: int) -> Path:
    """The file of chunk number `chunk` in the folder of the step `sample`."""
    return step / "chunks" / f"chunk-{chunk:05d}.safetensors"


def stored_chunks(step: Path) -> list[tuple[int, Path]]:
    """(number, file) of every chunk there is, by rising number; names alone would sort 100000 before 99999."""
    return sorted((int(path.stem.split("-")[1]), path) for path in (step / "chunks").glob("chunk-*.safetensors"))


def write_chunk(step: Path, drawn: Drawn, of: str) -> None:
    """Keep a chunk: z, x, and of every sample the condition values, the masks and the words it was drawn under.

    of: the fingerprint of its step; the chunk bears it, and its number.
    """
    tensors = {"z": drawn.z.contiguous(), "x": drawn.x.contiguous()}
    for name in sorted({name for u in drawn.under for name in u.values}):
        values = [u.values.get(name) for u in drawn.under]
        whole = all(isinstance(v, int | np.integer) for v in values if v is not None)  # a class, -1 where unknown
        tensors[f"condition.{name}"] = torch.tensor([(-1 if whole else np.nan) if v is None else v for v in values])
    shape = drawn.x.shape[2:]
    for name in sorted({name for u in drawn.under for name in u.masks}):  # a sample without the mask has an empty one
        masks = [np.broadcast_to(u.masks.get(name, np.zeros((1, 1, 1), bool)), shape) for u in drawn.under]
        tensors[f"mask.{name}"] = torch.from_numpy(np.stack(masks).astype(np.uint8)).contiguous()
    words = {"under": [u.told for u in drawn.under], "of": of, "chunk": drawn.chunk}
    write_tensors(chunk_path(step, drawn.chunk), tensors, words)


def chunk_problem(path: Path, chunk: int, of: str) -> str:
    """Why a chunk file is not to be used, in a line that names it; "" when it is whole and that chunk of that step."""
    try:
        _, words = read_tensors(path)
    except DamagedFile as error:
        return str(error)
    return "" if (words.get("chunk"), words.get("of")) == (chunk, of) else f"{path}: of another step or place"


def read_chunk(path: Path) -> tuple[Tensor, list[Under]]:
    """x (n, C, D, H, W) of a chunk and what each sample was drawn under. Raises: DamagedFile naming the chunk."""
    tensors, told = read_tensors(path)
    words = told.get("under", [])
    n = len(tensors["x"])
    part = lambda kind, k: {
        name.removeprefix(kind): value[k] for name, value in tensors.items() if name.startswith(kind)
    }
    return tensors["x"], [
        Under(
            {name: value.item() for name, value in part("condition.", k).items()},
            {name: value.numpy().astype(bool) for name, value in part("mask.", k).items()},
            words[k] if k < len(words) else {},
        )
        for k in range(n)
    ]


class SampleStore(Split):
    """Accepted samples in rising index; each access reads one volume. Views are the volumes themselves.

    batch: [sample] batch, which says where sample i lies. rejected: ids to leave out. A chunk is held against its
    hash before its first sample is given.
    Raises: DamagedFile naming the chunk.
    """

    def __init__(self, step: Path, batch: int, rejected: frozenset[str] = frozenset()):
        self.step, self.batch = step, batch
        self.indices: list[int] = []
        self._sound: set[Path] = set()
        for chunk, path in stored_chunks(step):
            first = chunk * batch
            try:
                with safe_open(path, "numpy") as file:
                    n = file.get_slice("x").get_shape()[0]
            except (OSError, SafetensorError) as error:
                raise DamagedFile(f"{path}: damaged ({error})") from None
            self.indices += [i for i in range(first, first + n) if sample_id(i) not in rejected]

    def __len__(self) -> int:
        return len(self.indices)

    def volume(self, index: int) -> np.ndarray:
        """x (C, D, H, W) of sample number `index`."""
        with safe_open(self._chunk(index), "numpy") as file:
            return np.ascontiguousarray(file.get_slice("x")[index % self.batch])

    def condition(self, index: int) -> dict[str, Any]:
        """The condition values that sample number `index` was drawn under."""
        return {name: value.item() for name, value in self._read(index, "condition.").items()}

    def masks(self, index: int) -> dict[str, np.ndarray]:
        """Name -> (D, H, W) bool of the masks that sample number `index` was asked to follow."""
        return {name: value.astype(bool) for name, value in self._read(index, "mask.").items()}

    def _chunk(self, index: int) -> Path:
        path = chunk_path(self.step, index // self.batch)
        if path not in self._sound:
            read_tensors(path)
            self._sound.add(path)
        return path

    def _read(self, index: int, kind: str) -> dict[str, Any]:
        with safe_open(self._chunk(index), "numpy") as file:
            names = [name for name in file.keys() if name.startswith(kind)]
            return {name.removeprefix(kind): file.get_slice(name)[index % self.batch] for name in names}

    def __getitem__(self, i: int) -> Sample:  # type: ignore[override]
        index = self.indices[i]
        id_, x = sample_id(index), self.volume(index)
        return Sample(x, id=id_, subject=id_, hash=id_, masks=self.masks(index), condition=self.condition(index))


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


def all_samples(folder: RunFolder, recipe: Any) -> SampleStore:
    """All samples that were drawn."""
    return SampleStore(folder.step("sample"), recipe.sample.batch)


def accepted_samples(folder: RunFolder, recipe: Any) -> SampleStore:
    """The samples that count: all that were drawn, or what `reject` left of them."""
    return SampleStore(folder.step("sample"), recipe.sample.batch, frozenset(rejected_samples(folder, recipe)))
