"""A segmenter of spectra: logistic regression on each pixel's spectrum and on its difference from the neighbourhood.

Features of a pixel: its spectrum s, the local means m_w of several widths w as differences s - m_w (thin dark
vessels) and m_w - m_w' (large bright discs), the squares of these differences, and which share of the largest window
lies inside the image. One binary logistic model a class (Bishop 2006, section 4.3.2), fitted by the engine in a few
hundred steps on the data set's masks.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from gen_core.batch import Batch
from gen_core.errors import RecipeError
from gen_core.segmenter import Segmenter, SegmenterContext
from gen_core.trainable import GroupLoss, Step
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits

from gen_features.pixel_logistic_options import PixelLogistic as Options


class PixelLogistic(Segmenter):
    """Probabilities (B, K, 1, H, W) of the classes that the options define.

    Raises: RecipeError when depth is no band axis (a CT slice stack has no spectrum), or a mask does not exist.
    """

    def __init__(self, options: Options, context: SegmenterContext):
        super().__init__()
        spec = context.spec
        if spec.depth == "slices":
            raise RecipeError(
                "[segmenter] pixel-logistic reads spectra: depth must be bands, this data set has slices"
            )
        members = [m for group in options.classes.values() for m in group]
        missing = sorted({m for m in members if spec.masks and m not in spec.masks})
        if missing:
            raise RecipeError(
                f"[segmenter] classes: the data set has no mask {', '.join(missing)}; it has {', '.join(spec.masks)}"
            )
        self.options = options
        self.classes = tuple(options.classes)
        bands = spec.shape[0] * spec.shape[1]
        # a window must fit the image, or its mean is mostly padding
        self.windows = tuple(w for w in options.windows if w <= min(spec.size[1:])) or (3,)
        self.dim = bands * (1 + 2 * len(self.windows)) + 1
        self.linear = nn.Linear(self.dim, len(self.classes))
        nn.init.zeros_(self.linear.weight)
        nn.init.constant_(self.linear.bias, -2.0)  # structures are rare
        self.register_buffer("mean", torch.zeros(self.dim))
        self.register_buffer("scale", torch.ones(self.dim))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def pixel_features(self, x: Tensor) -> Tensor:
        """x (B, C, D, H, W) -> (B, F, H, W) float32, not normalized."""
        s = x.float().flatten(1, 2)
        inside = torch.ones_like(s[:, :1])
        means = []
        for w in self.windows:
            share = avg_pool2d(inside, w, 1, w // 2)
            means.append(avg_pool2d(s, w, 1, w // 2) / share)  # the mean over pixels inside the image
        chain = [s, *means]
        differences = [a - b for a, b in zip(chain, chain[1:])]
        return torch.cat([s, *differences, *(d.square() for d in differences), share], 1)

    def _logits(self, x: Tensor) -> Tensor:
        f = (self.pixel_features(x) - self.mean[:, None, None]) * self.scale[:, None, None]
        return torch.einsum("bfhw,kf->bkhw", f, self.linear.weight) + self.linear.bias[:, None, None]

    @torch.no_grad()
    def probabilities(self, x: Tensor) -> Tensor:
        """x (B, C, D, H, W) in [-1, 1] -> (B, K, 1, H, W)."""
        return self._logits(x).sigmoid()[:, :, None]

    def targets(self, batch: Batch) -> Tensor:
        """(B, K, H, W) float32: the union of each class' masks over depth. Raises: RecipeError when one is missing."""
        found = []
        for name, members in self.options.classes.items():
            lacking = [m for m in members if m not in batch.masks]
            if lacking:
                raise RecipeError(
                    f"[segmenter] classes.{name}: the volumes carry no mask {', '.join(lacking)}"
                )
            found.append(torch.stack([batch.masks[m].any(2)[:, 0] for m in members]).any(0))
        return torch.stack(found, 1).float()

    @torch.no_grad()
    def _learn_scale(self, x: Tensor) -> None:
        """Running mean and sd of the features over the first steps; a buffer, so that a resumed fit agrees."""
        f = self.pixel_features(x).double().transpose(0, 1).flatten(1)
        n = int(self.seen)
        mean, variance = f.mean(1), f.var(1, correction=0)
        old_mean, old_variance = self.mean.double(), self.scale.double() ** -2
        if n:
            both = (n * old_mean + mean) / (n + 1)
            variance = (n * (old_variance + (old_mean - both) ** 2) + variance + (mean - both) ** 2) / (n + 1)
            mean = both
        self.mean.copy_(mean)
        self.scale.copy_(variance.clamp(min=1e-8).rsqrt())
        self.seen += 1

    def training_step(self, batch: Batch, step: Step) -> Iterator[GroupLoss]:
        if step.index < self.options.normalize_steps and int(self.seen) < self.options.normalize_steps:
            self._learn_scale(batch.x)
        target = self.targets(batch).to(batch.x.device)
        losses = {"bce": binary_cross_entropy_with_logits(self._logits(batch.x), target)}
        if self.options.l2 > 0:
            losses["l2"] = self.options.l2 * self.linear.weight.square().sum()
        yield GroupLoss("main", losses)

    @torch.no_grad()
    def validation_step(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        """Precision, recall and Dice of each class at p >= 0.5, and the precision at 0.95."""
        target = self.targets(batch).to(batch.x.device) > 0.5
        p = self.probabilities(batch.x)[:, :, 0]
        found: dict[str, Tensor] = {}
        for k, name in enumerate(self.classes):
            true = target[:, k]
            share = lambda a, b: a.sum() / b.sum().clamp(min=1)
            at, sure = p[:, k] >= 0.5, p[:, k] >= 0.95
            found[f"{name} precision"] = share(at & true, at)
            found[f"{name} recall"] = share(at & true, true)
            found[f"{name} dice"] = 2 * (at & true).sum() / (at.sum() + true.sum()).clamp(min=1)
            found[f"{name} precision at .95"] = share(sure & true, sure)
        return found


def build(options: Options, context: SegmenterContext) -> PixelLogistic:
    """The segmenter of a recipe's table."""
    return PixelLogistic(options, context)
