"""What all metrics share of streaming: who a volume is, seeded draws by identity, features computed once a batch.

Every random choice is a function of (seed, id), never of the order or size of batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from gen_core.batch import Batch
from gen_core.errors import RecipeError

_REMEMBERED: WeakKeyDictionary[Batch, dict[Any, Any]] = WeakKeyDictionary()


def draw_key(seed: int, name: str) -> int:
    """A 64-bit number drawn by (seed, name): sorts, groups and seeds volumes the same way everywhere."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest(), "little")


class Names:
    """Gives every volume of a source its name: the batch's ids, or a running number where there are none."""

    def __init__(self) -> None:
        self._count: dict[str, int] = {}

    def of(self, batch: Batch, source: str) -> list[str]:
        start = self._count.get(source, 0)
        self._count[source] = start + len(batch)
        return list(batch.ids) if batch.ids else [f"{i:08d}" for i in range(start, start + len(batch))]


def remember(batch: Batch, key: Any, make: Callable[[], Any]) -> Any:
    """make() for this batch object, once: several metrics ask for the same features and segmentations."""
    known = _REMEMBERED.setdefault(batch, {})
    if key not in known:
        known[key] = make()
    return known[key]


@torch.no_grad()
def volume_features(network: Any, x: Tensor, device: Any = None) -> Tensor:
    """x (B, C, D, H, W) -> (B, dim) float64 on the CPU.

    A network of images sees every slice as a grey image (or the three channels of a colour volume); its features
    are averaged over the slices.
    """
    network.eval()
    x = x if device is None else x.to(device)
    if network.takes == "volume":
        return network.features(x).double().cpu()
    b, c, d, h, w = x.shape
    planes = x.transpose(1, 2).reshape(b * d, c, h, w)
    if c != 3:
        planes = planes.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    parts = [network.features(p.contiguous()) for p in planes.split(128)]
    return torch.cat(parts).double().cpu().reshape(b, d, -1).mean(1)


def batch_features(network: Any, batch: Batch, device: Any = None, mirrored: bool = False) -> Tensor:
    """`volume_features` of a batch, remembered; `mirrored`: of the volumes flipped left to right."""
    flip = lambda x: x.flip(-1) if mirrored else x
    make = lambda: (network, volume_features(network, flip(batch.x), device))
    return remember(batch, ("features", id(network), mirrored), make)[1]


def features_treatment(network: Any) -> str:
    """How volumes entered the network, for protocols."""
    return "whole volumes" if network.takes == "volume" else "each slice as a grey image, mean over slices"


@torch.no_grad()
def segment(segmenter: Any, batch: Batch, device: Any = None) -> Tensor:
    """Probabilities (B, K, H, W) on the CPU, remembered; depth is reduced by the mean."""

    def make() -> tuple[Any, Tensor]:
        segmenter.eval()
        x = batch.x if device is None else batch.x.to(device)
        return segmenter, segmenter.probabilities(x).float().mean(2).cpu()

    return remember(batch, ("segment", id(segmenter)), make)[1]


def structure_probability(segmenter: Any, p: Tensor, name: str, members: tuple[str, ...]) -> Tensor:
    """(B, H, W): the segmenter's class `name`, or the sum of its exclusive classes `members`, at most 1.

    Raises: RecipeError when the segmenter knows neither.
    """
    classes = list(segmenter.classes)
    if name in classes:
        return p[:, classes.index(name)]
    missing = [m for m in members if m not in classes]
    if missing:
        raise RecipeError(
            f"structure '{name}': the segmenter has no class {', '.join(missing)}; it finds {', '.join(classes)}"
        )
    return p[:, [classes.index(m) for m in members]].sum(1).clamp(max=1.0)


def mask_union(batch: Batch, members: tuple[str, ...]) -> Tensor | None:
    """(B, H, W) bool: where any of the masks is set at any depth; None when the batch lacks one."""
    if not all(m in batch.masks for m in members):
        return None
    return torch.stack([batch.masks[m].cpu().any(2)[:, 0] for m in members]).any(0)


def nearest_band(wavelength_nm: tuple[float, ...] | None, depth: int, wanted: float) -> int:
    """Index of the band nearest to `wanted` nm; the middle slice where depth has no wavelengths."""
    if not wavelength_nm:
        return depth // 2
    return min(range(len(wavelength_nm)), key=lambda i: abs(wavelength_nm[i] - wanted))
