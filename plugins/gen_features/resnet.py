"""Residual networks of 18 and 50 layers for images of any number of channels, down to one vector an image.

Source: He et al. 2016, "Deep residual learning for image recognition", table 1 and figure 5. Departures: the stride of
a bottleneck sits in its 3 x 3 convolution ("v1.5", Goyal et al. 2017), stems for small images, a free width, and a
choice of norm, because batch statistics tell the two views of a contrastive pair apart from all others.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, relu

LAYERS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}  # residual blocks a stage
STEMS = {
    # kernel, stride, max pool: how far an image shrinks before the first stage
    "small": (3, 1, False),  # 1 x: images of 32 pixels
    "medium": (3, 2, False),  # 2 x: 64 pixels
    "large": (7, 2, True),  # 4 x: the published stem, for 224 pixels
}
GROUPS = 8  # of GroupNorm

Norm = Callable[[int], nn.Module]


def group_norm(channels: int) -> nn.Module:
    """GroupNorm (Wu & He 2018) of 8 groups, or of as many as divide the channels."""
    groups = next(g for g in range(GROUPS, 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)


class GroupedBatchNorm(nn.BatchNorm2d):
    """BatchNorm whose training statistics are those of small groups of the batch, as if each had a device of its own.

    of: samples a group; a batch is cut into at least two nearly equal groups, unless it is too small for that.
    """

    def __init__(self, channels: int, of: int):
        super().__init__(channels)
        self.of = of

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        n = len(x)
        groups = max(-(-n // self.of), min(2, n // 2), 1)
        normed = [
            batch_norm(part, self.running_mean, self.running_var, self.weight, self.bias, True, self.momentum, self.eps)
            for part in x.tensor_split(groups)
        ]
        return torch.cat(normed)


class Residual(nn.Module):
    """x + F(x), then a rectifier. F is two 3 x 3 convolutions, or a bottleneck 1 x 1, 3 x 3, 1 x 1."""

    def __init__(self, cin: int, cout: int, stride: int, bottleneck: bool, norm: Norm):
        super().__init__()
        inner = cout // 4 if bottleneck else cout
        kernels = ((1, 1), (3, stride), (1, 1)) if bottleneck else ((3, stride), (3, 1))
        sizes = [cin, *(inner for _ in kernels[1:]), cout]
        self.convs = nn.ModuleList(convolution(a, b, k, s) for a, b, (k, s) in zip(sizes, sizes[1:], kernels))
        self.norms = nn.ModuleList(norm(c) for c in sizes[1:])
        # each block starts as the identity: He et al. 2019, "Bag of tricks", section 3.1 (zero gamma)
        nn.init.zeros_(self.norms[-1].weight)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or cin != cout:
            self.shortcut = nn.Sequential(convolution(cin, cout, 1, stride), norm(cout))

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms)):
            h = norm(conv(h))
            if i + 1 < len(self.convs):
                h = relu(h)
        return relu(h + self.shortcut(x))


class ResNet(nn.Module):
    """Images (B, channels, H, W) -> (B, dim): the mean over positions of the last maps.

    width: channels of the first stage (64 as published); dim = 8 width, times 4 at 50 layers.
    """

    def __init__(self, channels: int, layers: int = 18, width: int = 64, stem: str = "medium", norm: Norm = group_norm):
        super().__init__()
        bottleneck = layers >= 50
        kernel, stride, pool = STEMS[stem]
        self.conv = convolution(channels, width, kernel, stride)
        self.norm = norm(width)
        self.pool = nn.MaxPool2d(3, 2, 1) if pool else nn.Identity()
        blocks: list[nn.Module] = []
        cin = width
        for stage, count in enumerate(LAYERS[layers]):
            cout = width * 2**stage * (4 if bottleneck else 1)
            for i in range(count):
                blocks.append(Residual(cin, cout, 2 if stage and i == 0 else 1, bottleneck, norm))
                cin = cout
        self.blocks = nn.Sequential(*blocks)
        self.dim = cin

    def forward(self, x: Tensor) -> Tensor:
        h = self.pool(relu(self.norm(self.conv(x))))
        return self.blocks(h).float().mean((2, 3))  # float32: a mean over many positions


def convolution(cin: int, cout: int, kernel: int, stride: int) -> nn.Conv2d:
    """A convolution without bias, He-initialized by fan-out (He et al. 2015, eq. 14), because a norm follows."""
    conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv
