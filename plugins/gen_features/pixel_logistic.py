"""A segmenter of spectra: logistic regression on each pixel's spectrum and on its difference from the neighbourhood.

Features of a pixel: its spectrum s, the local means m_w of several widths w as differences s - m_w (thin dark
vessels), m_w - m_w' (large bright discs) and m_w minus the mean of the whole image (pale and dark eyes), and the
squares of these differences; the logarithm of the spectrum makes its shape linear, whatever the brightness. One binary
logistic model a class (Bishop 2006, section 4.3.2), fitted by the engine in a few
hundred steps on the data set's masks.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits

from gen_core.batch import Batch
from gen_core.errors import RecipeError
from gen_core.segmenter import Segmenter, SegmenterContext
from gen_core.trainable import GroupLoss, Step
from gen_features.class_masks import check_classes, class_scores, class_targets
from gen_features.pixel_logistic_options import PixelLogistic as Options


class PixelLogistic(Segmenter):
    """Probabilities (B, K, 1, H, W) of the classes that the options define.

    Raises: RecipeError when depth is no band axis (a CT slice stack has no spectrum), or a mask does not exist.
    """

    def __init__(self, options: Options, context: SegmenterContext):
        super().__init__()
        spec = context.spec
        if spec.depth == "slices":
            raise RecipeError("[segmenter] pixel-logistic reads spectra: depth must be bands, this data set has slices")
        check_classes(options.classes, spec)
        self.options = options
        self.classes = tuple(options.classes)
        bands = spec.shape[0] * spec.shape[1]
        # a window must fit the image, or its mean is mostly padding
        self.windows = tuple(w for w in options.windows if w <= min(spec.size[1:])) or (3,)
        self.dim = bands * (5 + 2 * len(self.windows))
        self.linear = nn.Linear(self.dim, len(self.classes))
        nn.init.zeros_(self.linear.weight)
        nn.init.constant_(self.linear.bias, -2.0)  # structures are rare
        self.register_buffer("mean", torch.zeros(self.dim))
        self.register_buffer("whiten", torch.eye(self.dim))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        # float64: second moments of 2e5 pixels whose small eigenvalues matter
        self.register_buffer("total", torch.zeros(self.dim, dtype=torch.float64))
        self.register_buffer("outer", torch.zeros(self.dim, self.dim, dtype=torch.float64))

    def _chain(self, x: Tensor) -> list[Tensor]:
        """The spectrum and its means over growing neighbourhoods up to the whole image, each (B, bands, H, W)."""
        s = x.float().flatten(1, 2)
        return [s, *(local_mean(s, w) for w in self.windows), s.mean((2, 3), keepdim=True).expand_as(s)]

    def _expand(self, chain: list[Tensor]) -> Tensor:
        """The features of a chain, (B, F, ...)."""
        differences = [a - b for a, b in zip(chain, chain[1:])]
        shapes = [torch.log((m + 1.0).clamp(min=0.0) / 2 + DARK) for m in chain[:2]]
        return torch.cat([chain[0], *shapes, *differences, *(d.square() for d in differences)], 1)

    def pixel_features(self, x: Tensor) -> Tensor:
        """x (B, C, D, H, W) -> (B, F, H, W) float32, not normalized."""
        return self._expand(self._chain(x))

    def _logits(self, features: Tensor) -> Tensor:
        """features (B, F, N) -> (B, K, N); the whitening is folded into the weights."""
        weight = self.linear.weight @ self.whiten
        return weight @ features + (self.linear.bias - weight @ self.mean)[:, None]

    @torch.no_grad()
    def probabilities(self, x: Tensor) -> Tensor:
        """x (B, C, D, H, W) in [-1, 1] -> (B, K, 1, H, W)."""
        return self._logits(self.pixel_features(x).flatten(2)).sigmoid().unflatten(2, x.shape[-2:])[:, :, None]

    def targets(self, batch: Batch) -> Tensor:
        """(B, K, H, W) float32: the union of each class' masks over depth. Raises: RecipeError when one is missing."""
        return class_targets(self.options.classes, batch)

    @torch.no_grad()
    def _learn_whitening(self, features: Tensor, index: int) -> None:
        """Mean and inverse square root of the covariance of the features over the first steps, in buffers.

        Bands and local means are strongly correlated: without whitening Adam needs several times the steps.
        The root is taken after 1, 2, 4, ... steps and at the last, because it is dear with many bands.
        """
        f = features.transpose(0, 1).flatten(1).double()
        self.total += f.sum(1)
        self.outer += f @ f.T
        self.seen += f.shape[1]
        if (index + 1) & index and index + 1 < self.options.normalize_steps:
            return
        mean = self.total / self.seen
        values, vectors = torch.linalg.eigh(self.outer / self.seen - torch.outer(mean, mean))
        root = (values.clamp(min=0.0) + FLOOR * values[-1].clamp(min=1e-12)).rsqrt()
        self.mean.copy_(mean)
        self.whiten.copy_((vectors * root) @ vectors.T)

    def training_step(self, batch: Batch, step: Step) -> Iterator[GroupLoss]:
        with torch.no_grad():
            target = self.targets(batch).to(batch.x.device).flatten(2)
            chain = [m.flatten(2) for m in self._chain(batch.x)]
            n = target.shape[2]
            if n > self.options.pixels:
                # neighbours say nearly the same: a part of the pixels, drawn anew in every step, is enough
                pick = torch.randperm(n, generator=step.generator, device=step.generator.device)
                pick = pick[: self.options.pixels].to(target.device)
                chain, target = [m[:, :, pick] for m in chain], target[:, :, pick]
            features = self._expand(chain)
            if step.index < self.options.normalize_steps:
                self._learn_whitening(features, step.index)
        losses = {"bce": binary_cross_entropy_with_logits(self._logits(features), target)}
        if self.options.l2 > 0:
            losses["l2"] = self.options.l2 * self.linear.weight.square().sum()
        yield GroupLoss("main", losses)

    @torch.no_grad()
    def validation_step(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        """Precision, recall and Dice of each class at p >= 0.5, and the precision at 0.95."""
        target = self.targets(batch).to(batch.x.device)
        return class_scores(self.classes, self.probabilities(batch.x)[:, :, 0], target)


FLOOR = 1e-5  # of the largest eigenvalue, added to all: directions that carry only rounding stay small
DARK = 0.05  # keeps the logarithm of black finite; about the camera's noise
DENSE = 512  # axes up to this length are averaged by one small matrix product, 5 times the speed of pooling


def _mean_matrix(n: int, width: int, like: Tensor) -> Tensor:
    """(n, n): row i averages the places within width // 2 of i."""
    at = torch.arange(n, device=like.device)
    near = ((at[:, None] - at).abs() <= width // 2).to(like.dtype)
    return near / near.sum(1, keepdim=True)


def local_mean(s: Tensor, width: int) -> Tensor:
    """Mean over the width x width pixels around each that lie inside the image; one axis after the other."""
    h, w = s.shape[-2:]
    if max(h, w) <= DENSE:
        return _mean_matrix(h, width, s) @ s @ _mean_matrix(w, width, s).T
    half = width // 2
    s = avg_pool2d(s, (width, 1), 1, (half, 0), count_include_pad=False)
    return avg_pool2d(s, (1, width), 1, (0, half), count_include_pad=False)


def build(options: Options, context: SegmenterContext) -> PixelLogistic:
    """The segmenter of a recipe's table."""
    return PixelLogistic(options, context)
