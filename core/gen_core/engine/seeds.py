"""Random numbers as pure functions of named keys: nothing to save, nothing to restore, same for any batching.

Each generator is seeded from a stable hash of its key, e.g. (seed, stage, step, micro, rank). The noise of
samples comes from numpy's counter-based Philox with a 128-bit key, because torch's CPU generator keeps only
32 bits of a seed: among 1e5 samples two would likely start from the same noise.
Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

Key = int | str


def _digest(key: tuple[Key, ...]) -> bytes:
    """SHA-256 of a key; ints and strings of the same text differ, and no two keys run together."""
    parts = (f"i{int(k)}" if not isinstance(k, str) else f"s{len(k)}:{k}" for k in key)
    return hashlib.sha256(",".join(parts).encode()).digest()


def stable_seed(*key: Key) -> int:
    """A seed in [0, 2^63) that is the same on every machine and in every process."""
    return int.from_bytes(_digest(key)[:8], "little") >> 1


def generator(*key: Key, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator on `device` that is a pure function of its key."""
    return torch.Generator(device=device).manual_seed(stable_seed(*key))


def seed_global(*key: Key) -> None:
    """Seed torch's global generators of all devices, for layers that draw from them (dropout)."""
    torch.manual_seed(stable_seed(*key))


@contextmanager
def seeded_global(*key: Key) -> Iterator[None]:
    """Seed torch's global CPU generator inside, and give it back as it was."""
    state = torch.get_rng_state()
    try:
        seed_global(*key)
        yield
    finally:
        torch.set_rng_state(state)


def per_sample_noise(seed: int, index: int, k: int, shape: Sequence[int]) -> Tensor:
    """The k-th standard normal draw of sample `index`: `shape` float32 on the CPU.

    Made on the CPU whatever the device, so that it is the same on any device and in any batch.
    """
    words = np.frombuffer(_digest((seed, "sample", index, k))[:16], dtype="<u8")
    draws = np.random.Generator(np.random.Philox(key=words.astype(np.uint64)))
    return torch.from_numpy(draws.standard_normal(tuple(shape), dtype=np.float32))


def sample_noise(
    seed: int, indices: Sequence[int], shape: Sequence[int], device: torch.device | str = "cpu"
) -> Callable[[int], Tensor]:
    """noise(k) for a sampler: (len(indices), *shape) on `device`, row i from sample indices[i] alone."""

    def noise(k: int) -> Tensor:
        draws = torch.stack([per_sample_noise(seed, i, k, shape) for i in indices])
        if torch.device(device).type == "cuda":  # from pinned memory: the host need not wait for the device's queue
            return draws.pin_memory().to(device, non_blocking=True)
        return draws.to(device)

    return noise
