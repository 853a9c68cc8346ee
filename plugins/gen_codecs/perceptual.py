"""LPIPS, when a file with its weights is given: VGG-16 features of two images, compared layer by layer.

The file is a safetensors file with `features.<i>.weight/bias` of VGG-16's convolutions (torchvision's numbering) and
`lin<k>.weight` (1, C, 1, 1) of the five linear heads. Without it the term is off, and the log says so.
Source: Zhang et al. 2018, eq. 1; Simonyan & Zisserman 2015 (VGG-16).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from gen_core.errors import MissingError

WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
SHIFT, SCALE = (
    (-0.030, -0.088, -0.188),
    (0.458, 0.448, 0.450),
)  # of images in [-1, 1], as in Zhang et al.'s release


class Lpips(nn.Module):
    """Distance (mean over a batch) of two batches of images (B, 3, H, W) in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks, self.heads, channels = nn.ModuleList(), nn.ParameterList(), 3
        for widths in WIDTHS:
            convs = nn.ModuleList()
            for width in widths:
                convs.append(nn.Conv2d(channels, width, 3, padding=1))
                channels = width
            self.blocks.append(convs)
            self.heads.append(nn.Parameter(torch.zeros(1, channels, 1, 1)))
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1))

    def maps(self, x: Tensor) -> list[Tensor]:
        """The five relu maps, each normalized to unit length over channels."""
        x, found = (x - self.shift) / self.scale, []
        for k, convs in enumerate(self.blocks):
            if k and min(x.shape[-2:]) > 1:
                x = F.max_pool2d(x, 2)
            for conv in convs:  # type: ignore[union-attr]
                x = F.relu(conv(x))
            found.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return found

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        total = torch.zeros((), device=x.device)
        for head, a, b in zip(self.heads, self.maps(x), self.maps(y)):
            total = total + (head * (a - b).square()).sum(1).mean()
        return total


def load_lpips(path: str, sha256: str) -> Lpips:
    """The network with the weights of `path`. Raises: MissingError naming the file and the key of the recipe."""
    file = Path(path)
    if not file.is_file():
        raise MissingError(f"[codec] losses.lpips_weights: no file {file}")
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if sha256 and found != sha256:
        raise MissingError(f"[codec] losses.lpips_sha256: {file} has SHA-256 {found}, expected {sha256}")
    weights = load_file(file)
    network, number = Lpips(), 0
    try:
        for k, convs in enumerate(network.blocks):
            for conv in convs:  # type: ignore[union-attr]
                conv.weight.data.copy_(weights[f"features.{number}.weight"])
                conv.bias.data.copy_(weights[f"features.{number}.bias"])
                number += 2  # each convolution is followed by its relu
            number += 1  # and each block by its pooling
            network.heads[k].data.copy_(weights[f"lin{k}.weight"])
    except (KeyError, RuntimeError) as error:
        raise MissingError(
            f"[codec] losses.lpips_weights: {file} does not hold VGG-16 with LPIPS heads ({error})"
        ) from None
    return network.eval().requires_grad_(False)
