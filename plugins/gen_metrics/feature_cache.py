"""Features of real volumes, kept on disk between evaluations: one small file a volume, keyed by all that decides them.

The folder is named by the network's protocol (which holds the hash of its weights), by how volumes entered it, and by
the kind of device; the file by the hash of the volume's voxels as the network gets them: a sample's own hash is that
of its source, which other sizes, bands or scales share. So a network fitted anew, another seed of triplets or a
changed volume finds nothing and is computed. Only `train` and `val` are kept: samples and reconstructions come once.

Files are safetensors with a digest of their content and place, and appear whole (renamed into place): several
processes may share the folder, a damaged file counts as absent, and deleting the folder costs time and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from gen_core.batch import Batch
from gen_core.volume import content_hash

KEPT = ("train", "val")  # sources that other evaluations see again
FORMAT = 2  # raise it when features would come out differently from the same protocol


class FeatureCache:
    """Features of one network and one treatment; without a folder it holds nothing.

    protocol: of the network. treatment: JSON of what else decides the features (planes, triplets, seed).
    """

    def __init__(self, folder: Path | None, protocol: dict[str, Any], treatment: dict[str, Any], device: Any = "cpu"):
        kind = torch.device(device or "cpu").type  # another kind of device rounds otherwise
        key = json.dumps([FORMAT, protocol, treatment, kind], sort_keys=True, default=str)
        self.folder = folder and Path(folder) / "features" / hashlib.sha256(key.encode()).hexdigest()[:32]

    def _path(self, hash_: str) -> Path:
        assert self.folder is not None
        name = hashlib.sha256(hash_.encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.safetensors"

    def get(self, hash_: str) -> Tensor | None:
        """What was put under this hash, or None; a damaged file is none."""
        if self.folder is None or not hash_:
            return None
        path = self._path(hash_)
        try:
            with safe_open(path, "numpy") as file:
                array, told = file.get_tensor("features"), (file.metadata() or {}).get("sha256")
        except (OSError, SafetensorError):
            return None
        return torch.from_numpy(array) if told == self._digest(path, array) else None

    def put(self, hash_: str, features: Tensor) -> None:
        """Keep the features of one volume; a folder that cannot be written is no reason to stop an evaluation."""
        if self.folder is None or not hash_:
            return
        path, array = self._path(hash_), np.ascontiguousarray(features.detach().cpu().numpy())
        # one name for all: what a killed process left is written over. Should two write at once, the digest tells
        beside = path.with_name(f".{path.stem}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # not flushed, for speed: the digest finds what a power cut leaves behind
            beside.write_bytes(save({"features": array}, {"sha256": self._digest(path, array)}))
            os.replace(beside, path)
        except (OSError, SafetensorError):
            with suppress(OSError):
                beside.unlink()

    def _digest(self, path: Path, array: np.ndarray) -> str:
        """Of features in their place: a whole file in the place of another is a damaged one."""
        assert self.folder is not None
        head = f"{self.folder.name}/{path.stem}{array.dtype}{array.shape}"
        return hashlib.sha256(head.encode() + array.tobytes()).hexdigest()


def kept_hashes(batch: Batch, source: str) -> list[str]:
    """The hash of each volume's voxels where its features are worth keeping, "" elsewhere."""
    if source not in KEPT:
        return [""] * len(batch)
    return [content_hash(x) for x in batch.x.detach().cpu().numpy()]
