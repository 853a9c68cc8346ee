"""Small volumes of bands with a bright disc and thin dark lines, for the feature networks and segmenters."""

from __future__ import annotations

import pytest
import torch

from gen_core.batch import Batch
from gen_core.volume import VolumeSpec

D, H, W = 6, 24, 28


def eyes(n: int, seed: int) -> Batch:
    """n volumes (n, 1, D, H, W); every class has its own spectrum, every eye its own brightness."""
    g = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    slope = torch.linspace(-0.4, 0.4, D)[:, None, None]
    volumes, masks = [], {"vein": [], "artery": [], "onh": []}
    for _ in range(n):
        level = 0.15 * torch.randn((), generator=g)
        v = level + slope + 0.05 * torch.randn(D, H, W, generator=g)
        cy, cx = (
            6 + int(torch.randint(0, 12, (), generator=g)),
            6 + int(torch.randint(0, 16, (), generator=g)),
        )
        disc = (y - cy) ** 2 + (x - cx) ** 2 <= 12
        lines = {}
        for name, depth in (("vein", 0.35), ("artery", 0.25)):
            row = int(torch.randint(0, H, (), generator=g))
            lines[name] = (y == row) & ~disc
            v = torch.where(lines[name], v - depth * torch.linspace(1.4, 0.6, D)[:, None, None], v)
        v = torch.where(disc, v + 0.4 - slope, v)
        volumes.append(v[None].clamp(-1, 1))
        for name, m in (*lines.items(), ("onh", disc)):
            masks[name].append(m[None, None])
    x = torch.stack(volumes)
    return Batch(x, [f"{seed}-{i}" for i in range(n)], masks={k: torch.stack(m) for k, m in masks.items()})


@pytest.fixture(scope="session")
def make_eyes():
    return eyes


@pytest.fixture(scope="session")
def spec():
    return VolumeSpec((D, H, W), masks=("vein", "artery", "onh"))
