"""W-Net: two small U-Nets in a row; the second sees the image and what the first made of it.

Source: Galdran et al. 2022, "State-of-the-art retinal vessel segmentation with minimalistic models", section 2.1
(architecture, both outputs supervised); soft Dice: Milletari et al. 2016, section 3, with plain sums below.
Departures: bilinear up-sampling to the size of the skip, so that odd sizes work; Dice beside cross-entropy, because
thin structures are rare; random crops for large images; beside the bands their local contrast, which shows vessels
in dark and bright parts alike and saves most of the training. All arithmetic is float32: so narrow a network gains
nothing from less.
Shapes: B images, N bands taken, K classes, H rows, W columns. Work is 2-D: bands are channels, depth is gone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, binary_cross_entropy_with_logits, grid_sample, interpolate, max_pool2d

from gen_core.batch import Batch
from gen_core.engine.precision import float32_island
from gen_core.errors import RecipeError
from gen_core.segmenter import Segmenter, SegmenterContext
from gen_core.trainable import GroupLoss, Step
from gen_core.volume import VolumeSpec
from gen_features.class_masks import check_classes, class_scores, class_targets
from gen_features.pixel_logistic import local_mean
from gen_features.wnet_options import Augment
from gen_features.wnet_options import WNet as Options


class WNet(Segmenter):
    """Probabilities (B, K, 1, H, W) of the classes that the options define; one sigmoid a class.

    Raises: RecipeError when depth is no band axis, a band or a mask does not exist, or images are too small.
    """

    def __init__(self, options: Options, context: SegmenterContext):
        super().__init__()
        check_classes(options.classes, context.spec)
        least = 2 ** (len(options.widths) - 1)
        if min(context.spec.size[1:]) < least:
            raise RecipeError(
                f"[segmenter] w-net: {len(options.widths)} levels (widths) need at least {least} pixels a side, "
                f"volumes are {list(context.spec.size)}"
            )
        self.options, self.classes = options, tuple(options.classes)
        self.bands = chosen_bands(options, context.spec)
        channels, k = context.spec.shape[0] * len(self.bands) * (2 if options.contrast else 1), len(self.classes)
        self.first = UNet(channels, k, options.widths)
        self.second = UNet(channels + k, k, options.widths)

    def image(self, x: Tensor) -> Tensor:
        """x (B, C, D, H, W) in [-1, 1] -> (B, C N, H, W), the bands taken."""
        return x.float()[:, :, list(self.bands)].flatten(1, 2)

    def logits(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """image (B, C N, H, W) -> the first and the second network's (B, K, H, W)."""
        if self.options.contrast:
            image = torch.cat([image, local_contrast(image, self.options.contrast)], 1)
        image = image.contiguous(memory_format=torch.channels_last)  # 1.5 times the speed on CPUs
        with float32_island(image.device):
            first = self.first(image)
            return first, self.second(torch.cat([image, first.sigmoid()], 1))

    @torch.no_grad()
    def probabilities(self, x: Tensor) -> Tensor:
        """x (B, C, D, H, W) in [-1, 1] -> (B, K, 1, H, W)."""
        return self.logits(self.image(x))[1].sigmoid()[:, :, None]

    def training_step(self, batch: Batch, step: Step) -> Iterator[GroupLoss]:
        o = self.options
        with torch.no_grad():
            target = class_targets(o.classes, batch).to(batch.x.device)
            image, target = training_view(self.image(batch.x), target, o.crop, o.crops, o.augment, step.generator)
        losses: dict[str, Tensor] = {}
        for name, logits in zip(("first", "second"), self.logits(image)):
            if o.bce > 0:
                losses[f"{name} bce"] = o.bce * binary_cross_entropy_with_logits(logits, target)
            if o.dice > 0:
                losses[f"{name} dice"] = o.dice * soft_dice_loss(logits.sigmoid(), target)
        yield GroupLoss("main", losses)

    @torch.no_grad()
    def validation_step(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        """Precision, recall and Dice of each class at p >= 0.5, and the precision at 0.95."""
        target = class_targets(self.options.classes, batch).to(batch.x.device)
        return class_scores(self.classes, self.probabilities(batch.x)[:, :, 0], target)


def chosen_bands(options: Options, spec: VolumeSpec) -> tuple[int, ...]:
    """Indices of the bands a network takes: those of `bands`, else those nearest to `wavelengths_nm`, else all.

    Raises: RecipeError for slices, which have no spectrum, and for an index that is not there.
    """
    depth = spec.size[0]
    if spec.depth == "slices":
        raise RecipeError("[segmenter] w-net reads bands: this data set's depth is slices")
    if options.bands:
        beyond = [b for b in options.bands if not 0 <= b < depth]
        if beyond:
            raise RecipeError(f"[segmenter] bands: there is no band {beyond[0]}; volumes have bands 0 to {depth - 1}")
        return options.bands
    if spec.wavelength_nm is None:
        return tuple(range(depth))
    nearest = lambda nm: min(range(depth), key=lambda i: abs(spec.wavelength_nm[i] - nm))  # type: ignore[index]
    return tuple(sorted({nearest(nm) for nm in options.wavelengths_nm}))


class UNet(nn.Module):
    """Two convolutions a level, halved on the way down; on the way up resized to the skip and joined with it.

    Batch normalization, whose running statistics make a crop and the whole image the same to the network.
    """

    def __init__(self, channels: int, classes: int, widths: tuple[int, ...]):
        super().__init__()
        inputs = (channels, *widths)
        self.down = nn.ModuleList(Block(a, b) for a, b in zip(inputs, widths))
        self.up = nn.ModuleList(Block(b + a, a) for a, b in reversed(list(zip(widths, widths[1:]))))
        self.head = nn.Conv2d(widths[0], classes, 1)
        nn.init.constant_(self.head.bias, -2.0)  # structures are rare

    def forward(self, x: Tensor) -> Tensor:
        """x (B, channels, H, W) -> logits (B, classes, H, W)."""
        skips: list[Tensor] = []
        for block in self.down:
            x = block(max_pool2d(x, 2) if skips else x)
            skips.append(x)
        skips.pop()
        for block in self.up:
            skip = skips.pop()
            x = interpolate(x, skip.shape[-2:], mode="bilinear", align_corners=False)
            x = block(torch.cat([x, skip], 1))
        return self.head(x)


class Block(nn.Module):
    """Twice convolution, normalization, ReLU; a 1x1 shortcut around both."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        conv = lambda a: [nn.Conv2d(a, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)]
        self.body = nn.Sequential(*conv(inputs), nn.ReLU(inplace=True), *conv(outputs))
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def local_contrast(image: Tensor, width: int) -> Tensor:
    """(image - m) / s of (B, N, H, W); m, s: mean and sd over the width x width pixels around that lie inside."""
    difference = image - local_mean(image, width)
    return difference / (local_mean(difference.square(), width) + FLAT).sqrt()


def soft_dice_loss(p: Tensor, target: Tensor) -> Tensor:
    """1 - 2 sum(p t) / (sum p + sum t), mean over classes; sums over the batch, where a class is rarely empty.

    p, target: (B, K, H, W) in [0, 1].
    """
    over = (0, 2, 3)
    # one pixel in both: a class that is nowhere and not found costs nothing
    return (1 - (2 * (p * target).sum(over) + 1) / (p.sum(over) + target.sum(over) + 1)).mean()


def training_view(
    image: Tensor, target: Tensor, crop: int, crops: int, augment: Augment, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Random crops, turned and mirrored in one interpolation, and with other light.

    image: (B, N, H, W) in [-1, 1]; target: (B, K, H, W) -> (B crops, ., h, w), h and w `crop` or the image's own.
    Targets are interpolated too and may lie between 0 and 1 at borders.
    """
    image, target = (t.repeat_interleave(crops, 0) for t in (image, target))
    n, (h, w) = len(image), image.shape[-2:]
    tall, wide = (min(crop or length, length) for length in (h, w))
    draw = lambda: torch.rand(n, generator=generator, device=generator.device).to(image.device)
    # the crop's centre and half size, in coordinates that run from -1 to 1 over the image; whole pixels
    down = 2 * (draw() * (h - tall + 1)).floor() / h + tall / h - 1
    right = 2 * (draw() * (w - wide + 1)).floor() / w + wide / w - 1
    angle = (2 * draw() - 1) * math.radians(augment.rotate)
    mirror = [torch.where(draw() < 0.5, -1.0, 1.0) if augment.flip else torch.ones_like(angle) for _ in "yx"]
    y, x, cos, sin = mirror[0] * tall / h, mirror[1] * wide / w, angle.cos(), angle.sin()
    theta = torch.stack(
        [
            torch.stack([x * cos, -y * sin * h / w, right], 1),
            torch.stack([x * sin * w / h, y * cos, down], 1),
        ],
        1,
    )
    grid = affine_grid(theta, [n, 1, tall, wide], align_corners=False)
    both = grid_sample(torch.cat([image, target], 1), grid, padding_mode="reflection", align_corners=False)
    image, target = both.split([image.shape[1], target.shape[1]], 1)
    return other_light(image, augment, generator), target.clamp(0.0, 1.0)


def other_light(image: Tensor, augment: Augment, generator: torch.Generator) -> Tensor:
    """gain * u ** gamma of u = (image + 1) / 2 in [0, 1], both common to all bands: the spectrum keeps its shape."""
    normal = lambda: torch.randn(len(image), generator=generator, device=generator.device).to(image.device)
    gain, gamma = (augment.gain * normal()).exp(), (augment.gamma * normal()).exp()
    u = ((image + 1) / 2).clamp(0.0, 1.0)
    return 2 * (gain[:, None, None, None] * u ** gamma[:, None, None, None]).clamp(max=1.0) - 1


FLAT = 1e-4  # variance added to every neighbourhood: (1 % of the half range)^2, so that a flat one stays flat


def build(options: Options, context: SegmenterContext) -> WNet:
    """The segmenter of a recipe's table."""
    return WNet(options, context)
