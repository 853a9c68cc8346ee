"""Activations between passes: in memory, or in a nameless file that the system removes with its process."""

from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from gen_core.errors import RunError
from gen_core.tiling.windows import Region

Shape = tuple[int, int, int, int]


class Store(Protocol):
    """One activation (C, D, H, W) that is written and read region by region."""

    def read(self, region: Region) -> Tensor:
        """(1, C, d, h, w) of a region; the caller must not write into it."""
        ...

    def write(self, region: Region, x: Tensor) -> None:
        """Put x (1, C, d, h, w) into a region."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


def _slices(region: Region) -> tuple[slice, ...]:
    return tuple(slice(a, b) for a, b in region)


class MemoryStore:
    """In memory of a device, in the dtype of what is written first."""

    def __init__(self, shape: Shape, device: torch.device):
        self.shape, self.device, self.data = shape, device, torch.empty(0)

    def read(self, region: Region) -> Tensor:
        return self.data[(slice(None), slice(None), *_slices(region))]

    def write(self, region: Region, x: Tensor) -> None:
        if not self.data.numel():
            self.data = torch.empty((1, *self.shape), dtype=x.dtype, device=self.device)
        self.data[(slice(None), slice(None), *_slices(region))] = x

    def close(self) -> None:
        self.data = torch.empty(0)


class FileStore:
    """A float32 file without a name in `folder`: a process that ends, however it ends, leaves nothing behind.

    Mapped anew for each access: pages stay in the system's cache, where they can be given up, and do not count as
    memory of the process.
    """

    def __init__(self, shape: Shape, folder: Path, device: torch.device):
        self.shape, self.device = shape, device
        size = 4 * int(np.prod(shape))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            free = os.statvfs(folder)
            if size > free.f_bavail * free.f_frsize:
                raise OSError(f"{free.f_bavail * free.f_frsize / 2**30:.1f} GiB are free")
            # unlinked by tempfile as soon as it is open (or never named, where the system can)
            self.file = tempfile.TemporaryFile(dir=folder, prefix=".tiling-")
            os.posix_fallocate(self.file.fileno(), 0, size)  # a full disk is found here, not as a bus error later
        except OSError as error:
            raise RunError(
                f"[tiling] scratch: {size / 2**30:.1f} GiB of activations do not fit into {folder} ({error}); "
                "name a folder with room, or raise tiling.memory_gib"
            ) from error

    def _mapped(self, access: int) -> np.ndarray:
        return np.frombuffer(mmap.mmap(self.file.fileno(), 0, access=access), np.float32).reshape(self.shape)

    def read(self, region: Region) -> Tensor:
        part = self._mapped(mmap.ACCESS_READ)[(slice(None), *_slices(region))]
        return torch.from_numpy(np.array(part)[None]).to(self.device)

    def write(self, region: Region, x: Tensor) -> None:
        try:
            self._mapped(mmap.ACCESS_WRITE)[(slice(None), *_slices(region))] = x[0].float().cpu().numpy()
        except OSError as error:
            raise RunError(f"[tiling] scratch: cannot write activations ({error})") from error

    def close(self) -> None:
        self.file.close()
