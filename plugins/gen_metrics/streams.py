"""What all metrics share of streaming: who a volume is, seeded draws by identity, features computed once a batch.

Every random choice is a function of (seed, id), never of the order or size of batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from gen_core.batch import Batch
from gen_core.errors import RecipeError
from gen_metrics.feature_cache import FeatureCache, kept_hashes

_REMEMBERED: WeakKeyDictionary[Batch, dict[Any, Any]] = WeakKeyDictionary()


def draw_key(seed: int, name: str) -> int:
    """A 64-bit number drawn by (seed, name): sorts, groups and seeds volumes the same way everywhere."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest(), "little")


def in_seeded_order(table: dict[str, Any], seed: int) -> list[tuple[str, Any]]:
    """(name, entry) of a table by name, in an order drawn by (seed, name): that of a random, yet fixed, shuffle."""
    return sorted(table.items(), key=lambda item: (draw_key(seed, item[0]), item[0]))


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

    One volume at a time, so that its features never depend on its company in a batch, not even by rounding.
    A network of images sees every slice as a grey image (or the three channels of a colour volume); its features
    are averaged over the slices.
    """
    network.eval()
    x = x if device is None else x.to(device)
    if network.takes == "volume":
        return torch.cat([network.features(v[None]) for v in x]).double().cpu()
    return torch.stack([image_features(network, slices(v)).mean(0) for v in x])


def slices(volume: Tensor, axis: int = 0) -> Tensor:
    """volume (C, D, H, W) -> planes across `axis` of (D, H, W) as images (n, 3, ., .), grey or in three colours."""
    planes = volume.movedim(axis + 1, 0)
    return planes if planes.shape[1] == 3 else planes.mean(1, keepdim=True).expand(-1, 3, -1, -1)


@torch.no_grad()
def image_features(network: Any, images: Tensor) -> Tensor:
    """images (n, 3, ., .) -> (n, dim) float64 on the CPU, 128 at a time."""
    return torch.cat([network.features(p.contiguous()) for p in images.split(128)]).double().cpu()


def batch_features(
    network: Any, batch: Batch, device: Any = None, mirrored: bool = False, source: str = "", folder: Path | None = None
) -> Tensor:
    """`volume_features` of a batch, remembered; `mirrored`: of the volumes flipped left to right.

    source, folder: features of real volumes are looked up in this folder first, and kept there.
    """

    def make() -> tuple[Any, Tensor]:
        treatment = {"input": features_treatment(network), "mirrored": mirrored}
        cache = FeatureCache(folder, network.protocol(), treatment, device) if folder is not None else None
        hashes = kept_hashes(batch, source) if cache is not None else [""] * len(batch)
        found = [cache.get(h) if cache is not None else None for h in hashes]
        for i, known in enumerate(found):
            if known is None:
                x = batch.x[i : i + 1]
                found[i] = volume_features(network, x.flip(-1) if mirrored else x, device)[0]
                if cache is not None:
                    cache.put(hashes[i], found[i])
        return network, torch.stack(found)

    return remember(batch, ("features", id(network), mirrored), make)[1]


def context_features(context: Any, table: str, batch: Batch, source: str, mirrored: bool = False) -> Tensor:
    """(B, dim) float64: features of a batch by the context's network `table`, on its device and with its cache."""
    device, folder = getattr(context, "device", None), getattr(context, "cache", None)
    return batch_features(context.features(table), batch, device, mirrored, source, folder)


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
