"""Altered volumes: what copies may look like, and what a search should still recognize.

Planted copies of the memorization audit and queries of the recovery study are made here. Every random choice is a
function of (seed, name of the alteration, id of the volume). All alterations act on the plane (H, W) alike in every
band or slice, keep the shape, and reflect at edges.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate, pad

from gen_metrics.streams import draw_key, volume_features

Alteration = Callable[[Tensor, np.random.Generator], Tensor]
"""x (C, D, H, W) in [-1, 1] and a generator -> the altered volume, same shape and range."""


def exact(x: Tensor, g: np.random.Generator) -> Tensor:
    """The volume itself."""
    return x


def flipped(x: Tensor, g: np.random.Generator) -> Tensor:
    """Left to right."""
    return x.flip(-1)


def noisy(sd: float) -> Alteration:
    """White noise of standard deviation `sd`, of the range [-1, 1]."""
    draw = lambda x, g: torch.from_numpy(g.standard_normal(tuple(x.shape), dtype=np.float32)).to(x.device)
    return lambda x, g: (x + sd * draw(x, g)).clamp(-1, 1)


def shifted(share: float) -> Alteration:
    """By whole pixels, each way up to `share` of the width (one pixel where that is less); never by none."""

    def alter(x: Tensor, g: np.random.Generator) -> Tensor:
        h, w = x.shape[2:]
        most = min(max(1, int(share * w)), h - 1, w - 1)
        if most < 1:
            return x
        dy = dx = 0
        while dy == dx == 0:
            dy, dx = (int(v) for v in g.integers(-most, most + 1, 2))
        padded = pad(x, (most, most, most, most), mode="reflect")
        return padded[:, :, most + dy : most + dy + h, most + dx : most + dx + w].contiguous()

    return alter


def central_crop(x: Tensor, share: float) -> Tensor:
    """The central `share` of height and width of x (..., H, W), scaled back bilinearly."""
    h, w = x.shape[-2:]
    rows, columns = max(1, round(share * h)), max(1, round(share * w))
    top, left = (h - rows) // 2, (w - columns) // 2
    part = x[..., top : top + rows, left : left + columns]
    planes = part.reshape(1, -1, rows, columns)
    return interpolate(planes, (h, w), mode="bilinear", align_corners=False).reshape(x.shape)


def cropped(low: float, high: float | None = None) -> Alteration:
    """A central crop of `low` of height and width scaled back; of a random share up to `high` where that is given."""
    return lambda x, g: central_crop(x, low if high is None else float(g.uniform(low, high)))


def rotated(degrees: float) -> Alteration:
    """About the centre, by `degrees` to either side."""

    def alter(x: Tensor, g: np.random.Generator) -> Tensor:
        h, w = x.shape[2:]
        angle = np.deg2rad(degrees) * (1 if g.integers(2) else -1)
        c, s = float(np.cos(angle)), float(np.sin(angle))
        # grid_sample measures each axis in half widths of its own
        turn = torch.tensor([[[c, -s * h / w, 0.0], [s * w / h, c, 0.0]]], dtype=x.dtype, device=x.device)
        planes = x.reshape(1, -1, h, w)
        grid = affine_grid(turn, planes.shape, align_corners=False)
        return grid_sample(planes, grid, padding_mode="reflection", align_corners=False).reshape(x.shape)

    return alter


def blurred(share: float) -> Alteration:
    """By a Gaussian whose standard deviation is `share` of the width, cut at three of them."""

    def alter(x: Tensor, g: np.random.Generator) -> Tensor:
        h, w = x.shape[2:]
        sd = share * w
        reach = min(int(np.ceil(3 * sd)), h - 1, w - 1)
        taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device) / sd) ** 2)
        taps /= taps.sum()
        planes = pad(x.reshape(-1, 1, h, w), (reach, reach, reach, reach), mode="reflect")
        across = torch.nn.functional.conv2d(planes, taps.view(1, 1, 1, -1))
        return torch.nn.functional.conv2d(across, taps.view(1, 1, -1, 1)).reshape(x.shape)

    return alter


def brightened(factor: float) -> Alteration:
    """Intensities from black (-1) up times `factor` or its inverse."""
    return lambda x, g: ((x + 1) * (factor if g.integers(2) else 1 / factor) - 1).clamp(-1, 1)


def tilted(amount: float) -> Alteration:
    """Intensities times a line over depth from 1 - amount to 1 + amount, or the reverse: another lamp."""

    def alter(x: Tensor, g: np.random.Generator) -> Tensor:
        sign = 1 if g.integers(2) else -1
        line = 1 + sign * amount * torch.linspace(-1, 1, x.shape[1], dtype=x.dtype, device=x.device)
        return ((x + 1) * line[:, None, None] - 1).clamp(-1, 1)

    return alter


def both(first: Alteration, second: Alteration) -> Alteration:
    """One after the other."""
    return lambda x, g: second(first(x, g), g)


def altered(x: Tensor, name: str, alteration: Alteration, seed: int, id_: str) -> Tensor:
    """x (C, D, H, W), altered as (seed, name, id) draws."""
    g = np.random.default_rng([abs(seed), draw_key(seed, f"{name}:{id_}")])
    return alteration(x, g)


@torch.no_grad()
def features_of_versions(network: Any, versions: list[Tensor], device: Any = None) -> list[Tensor]:
    """Features (dim,) float64 of altered versions (C, D, H, W) of one volume.

    The versions of a volume always come together, so they may share a forward pass: nothing depends on batches.
    """
    if not versions:
        return []
    x = torch.stack(versions)
    if network.takes != "volume":
        return list(volume_features(network, x, device))
    network.eval()
    return list(network.features(x if device is None else x.to(device)).double().cpu())


QUERIES: dict[str, Alteration] = {
    # of the recovery study; the strengths stand in the names
    "flipped": flipped,
    "shifted 3 %": shifted(0.03),
    "shifted 10 %": shifted(0.10),
    "cropped to 90 %": cropped(0.9),
    "cropped to 75 %": cropped(0.75),
    "rotated 5 degrees": rotated(5.0),
    "rotated 15 degrees": rotated(15.0),
    "noisy 0.05": noisy(0.05),
    "noisy 0.2": noisy(0.2),
    "blurred 2 %": blurred(0.02),
    "brighter or darker by 1.2": brightened(1.2),
    "tilted spectrum 10 %": tilted(0.10),
    "cropped, rotated, noisy": both(both(cropped(0.75, 0.95), rotated(5.0)), noisy(0.05)),
}
