"""LPIPS, when a file with its weights is given: VGG-16 features of two images, compared layer by layer.

The file is a safetensors file with `features.<i>.weight/bias` of VGG-16's convolutions (torchvision's numbering) and
`lin<k>.weight` (1, C, 1, 1) of the five linear heads. Without it the term is off, and the log says so.
Source: Zhang et al. 2018, eq. 1; Simonyan & Zisserman 2015 (VGG-16).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from gen_core.errors import MissingError

Widths = Sequence[Sequence[int]]
WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
SHIFT, SCALE = (
    (-0.030, -0.088, -0.188),
    (0.458, 0.448, 0.450),
)  # of images in [-1, 1], as in Zhang et al.'s release


class Lpips(nn.Module):
    """Distance (mean over a batch) of two batches of images (B, 3, H, W) in [-1, 1]. widths: of VGG-16."""

    def __init__(self, widths: Widths = WIDTHS) -> None:
        super().__init__()
        self.blocks, self.heads, channels = nn.ModuleList(), nn.ParameterList(), 3
        for block in widths:
            convs = nn.ModuleList()
            for width in block:
                convs.append(nn.Conv2d(channels, width, 3, padding=1))
                channels = width
            self.blocks.append(convs)
            self.heads.append(nn.Parameter(torch.zeros(1, channels, 1, 1)))
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1))

    def named_tensors(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every weight with its name in the file."""
        number = 0
        for k, convs in enumerate(self.blocks):
            for conv in convs:  # type: ignore[union-attr]
                yield f"features.{number}.weight", conv.weight
                yield f"features.{number}.bias", conv.bias
                number += 2  # each convolution is followed by its relu
            number += 1  # and each block by its pooling
            yield f"lin{k}.weight", self.heads[k]

    def maps(self, x: Tensor) -> list[Tensor]:
        """The relu maps at the end of each block, each normalized to unit length over channels; float32."""
        x, found = (x - self.shift) / self.scale, []
        for k, convs in enumerate(self.blocks):
            if k and min(x.shape[-2:]) > 1:
                x = F.max_pool2d(x, 2)
            for conv in convs:  # type: ignore[union-attr]
                x = F.relu(conv(x))
            a = x.float()  # differences of unit vectors drown in bfloat16
            # eps under the root: its gradient at an all-zero vector is NaN otherwise
            found.append(a / (a.square().sum(1, keepdim=True) + 1e-20).sqrt())
        return found

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.maps(y)
        total = torch.zeros((), device=x.device)
        for head, a, b in zip(self.heads, self.maps(x), wanted):
            total = total + (head * (a - b).square()).sum(1).mean()
        return total


def three_axis_distance(
    distance: nn.Module, x_hat: Tensor, x: Tensor, share: float, generator: torch.Generator
) -> Tensor:
    """A 2-D distance of volumes (B, C, D, H, W): the sum, over the three axes, of its mean over random slices.

    share: of the slices along an axis that are looked at, at least one; the same ones of all volumes and of both. They
    enter as RGB images of equal channels, the mean over C. Axes whose slices would be lines (D = 1) are left out.
    Source: Pinaya et al. 2022 (a 2-D perceptual loss in 3-D, by slices).
    """
    total, pair = torch.zeros((), device=x.device), torch.stack((x_hat.mean(1), x.mean(1)))  # (2, B, D, H, W)
    for axis in (2, 3, 4):
        sides = [n for i, n in enumerate(pair.shape) if i > 1 and i != axis]
        if min(sides) < 2:
            continue
        wanted = max(1, round(share * pair.shape[axis]))
        at = torch.rand(pair.shape[axis], generator=generator, device=x.device).argsort()[:wanted]
        slices = pair.index_select(axis, at).movedim(axis, 2).flatten(1, 2)[:, :, None]
        total = total + distance(*slices.expand(-1, -1, 3, -1, -1))
    return total


def notes_on_lpips(losses: Any) -> list[str]:
    """What a user should know of the settings lpips, lpips_weights and lpips_sha256 of a codec's losses."""
    if losses.lpips and not losses.lpips_weights:
        return ["the perceptual loss is off: losses.lpips_weights names no file"]
    if losses.lpips and not Path(losses.lpips_weights).is_file():
        return [f"losses.lpips_weights: no file {losses.lpips_weights}; fitting will stop there"]
    if losses.lpips and not losses.lpips_sha256:
        return ["losses.lpips_sha256 is not set: the weights file is taken without checking what it is"]
    return []


def load_lpips(path: str, sha256: str, widths: Widths = WIDTHS) -> Lpips:
    """The network with the weights of `path`, frozen.

    Raises: MissingError naming the file and the key of the recipe, when there is no such file, its SHA-256 is not
    `sha256` (where that is given), or it holds other tensors.
    """
    file = Path(path)
    if not file.is_file():
        raise MissingError(f"[codec] losses.lpips_weights: no file {file}")
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if sha256 and found != sha256.lower():
        raise MissingError(f"[codec] losses.lpips_sha256: {file} has SHA-256 {found}, expected {sha256}")
    try:
        weights = load_file(file)
    except (SafetensorError, OSError) as error:
        raise MissingError(f"[codec] losses.lpips_weights: {file} is no safetensors file ({error})") from None
    network = Lpips(widths)
    for name, parameter in network.named_tensors():
        given = tuple(weights[name].shape) if name in weights else "missing"
        if given != tuple(parameter.shape):
            raise MissingError(
                f"[codec] losses.lpips_weights: {file} does not hold VGG-16 with LPIPS heads: "
                f"'{name}' is {given}, expected {tuple(parameter.shape)}"
            )
        parameter.data.copy_(weights[name])
    return network.eval().requires_grad_(False)
