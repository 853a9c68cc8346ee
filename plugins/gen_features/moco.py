"""Momentum Contrast: a ResNet that learns, without labels, which views come from the same volume.

A query view must be nearer to the key of the other view of its volume than to the keys of earlier batches. Keys come
from a slowly following copy of the network, so that those in the queue stay comparable.

Source: He et al. 2020, "Momentum contrast for unsupervised visual representation learning" (MoCo), eq. 1 and 2;
Chen et al. 2020, "Improved baselines with momentum contrastive learning" (v2: MLP head, stronger views).
Departures: views keep the spectrum (see views.py); keys of the query's own volume are no negatives, because a medical
data set is often smaller than the queue; Adam instead of SGD; a shorter memory of the key encoder in short runs.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from gen_core.batch import Batch
from gen_core.errors import RecipeError
from gen_core.features import FeatureNetwork, FeaturesContext
from gen_core.trainable import GroupLoss, Step
from gen_features.codec_features import weights_sha256
from gen_features.moco_options import Moco as Options
from gen_features.resnet import GroupedBatchNorm, ResNet, group_norm
from gen_features.views import random_view

NOBODY = -1  # in the queue's list of volumes: a random start vector


class Moco(FeatureNetwork):
    """Volumes or band triplets -> (B, dim), the pooled maps of the query encoder before its head.

    Raises: RecipeError for triplets where depth is no axis of at least three bands.
    """

    fitted = True

    def __init__(self, name: str, layers: int, options: Options, context: FeaturesContext):
        super().__init__()
        channels, bands = context.spec.shape[:2]
        if options.planes == "triplets" and (context.spec.depth != "bands" or bands < 3):
            raise RecipeError(
                f'[features] {name}, planes = "triplets": needs a depth of at least 3 bands; this data set has '
                f"{bands} x '{context.spec.depth}': use planes = \"bands\""
            )
        self.name, self.options = name, options
        self.takes = "image" if options.planes == "triplets" else "volume"
        inputs = 3 if options.planes == "triplets" else channels * bands
        norm = group_norm if options.norm == "group" else lambda c: GroupedBatchNorm(c, options.norm_groups_of)
        self.backbone = ResNet(inputs, layers, options.width, options.stem, norm)
        self.dim = self.backbone.dim
        self.head = nn.Sequential(
            nn.Linear(self.dim, self.dim), nn.ReLU(inplace=True), nn.Linear(self.dim, options.embedding)
        )
        self.key_backbone, self.key_head = copy.deepcopy(self.backbone), copy.deepcopy(self.head)
        self.key_backbone.requires_grad_(False)
        self.key_head.requires_grad_(False)
        self.register_buffer("queue", normalize(torch.randn(options.queue, options.embedding)))
        self.register_buffer("volumes", torch.full((options.queue,), NOBODY))
        self.register_buffer("enqueued", torch.zeros((), dtype=torch.int64))
        self._keys: list[tuple[Tensor, Tensor]] = []  # of the step under way

    def groups(self) -> dict[str, list[nn.Module]]:
        return {"main": [self.backbone, self.head]}

    # Features

    def embed(self, x: Tensor) -> Tensor:
        """`features` that gradients flow through, in whichever mode the network is: for probes that fine-tune it."""
        return self.backbone(x.float().flatten(1, -3)).float()

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """x (B, C, D, H, W), or (B, 3, H, W) of triplets, in [-1, 1] -> (B, dim) float32."""
        training = self.backbone.training
        self.backbone.eval()
        try:
            return self.embed(x)
        finally:
            self.backbone.train(training)

    def protocol(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "sha256": weights_sha256(self.backbone),
            "width": self.options.width,
            "stem": self.options.stem,
            "norm": self.options.norm,
            "train_on": self.options.train_on,
            "planes": self.options.planes,
            "input": "whole volumes in [-1, 1], bands as channels, native size"
            if self.takes == "volume"
            else "band triplets in falling wavelength in [-1, 1], native size",
            "statistics": "mean over positions of the last maps",
        }

    # Learning

    def training_step(self, batch: Batch, step: Step) -> Iterator[GroupLoss]:
        if step.micro == 0:
            self._keys = []
        q, k = self._pair(batch.x, step.generator)
        volumes = _numbers(batch).to(q.device)
        positive, negative = self._similarities(q, k, volumes)
        logits = torch.cat((positive, negative), 1) / self.options.temperature
        target = torch.zeros(len(q), dtype=torch.int64, device=q.device)  # the first column is the other view
        loss = cross_entropy(logits, target)  # eq. 1
        self._keys.append((k, volumes))
        yield GroupLoss("main", {"contrast": loss}, {"accuracy": _top1(positive, negative)})

    @torch.no_grad()
    def updated(self, group: str, step: Step) -> None:
        """The key encoder follows (eq. 2), and the step's keys take the place of the oldest."""
        m = self.options.momentum
        if self.options.scale_momentum:
            m = min(m, max(0.0, 1 - 10 / step.total))
        for key, query in ((self.key_backbone, self.backbone), (self.key_head, self.head)):
            for mine, theirs in zip(key.parameters(), query.parameters()):
                mine.lerp_(theirs, 1 - m)
        keys, volumes = (torch.cat(parts) for parts in zip(*self._keys))
        at = (self.enqueued + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[at], self.volumes[at] = keys, volumes
        self.enqueued += len(keys)
        self._keys = []

    @torch.no_grad()
    def validation_step(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        """Whether it learns: how often the other view is the nearest of all keys, and how the embeddings lie.

        accuracy: top-1 among the other view and the queue's keys so far; chance is 1 / (1 + keys).
        alignment: mean squared distance of two views; uniformity: ln of the mean of exp(-2 d^2) over pairs of volumes,
        0 when all lie on one point, -4 when spread over the sphere (Wang & Isola 2020, eq. 1 and 2; both lower better).
        """
        q, k = self._pair(batch.x, step.generator)
        positive, negative = self._similarities(q, k, _numbers(batch).to(q.device))
        negative = negative.masked_fill(self.volumes == NOBODY, -torch.inf)
        apart = torch.pdist(q).square() if len(q) > 1 else q.new_zeros(1)
        return {
            "accuracy": _top1(positive, negative),
            "alignment": (q - k).square().sum(1).mean(),
            "uniformity": apart.mul(-2).exp().mean().log(),
        }

    def _pair(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Embeddings (B, embedding) of unit length of two views: the query's and, without gradient, the key's."""
        with torch.no_grad():
            if self.takes == "image":
                x = _triplets(x, generator)
            views = [random_view(x, self.options.views, generator).flatten(1, 2) for _ in range(2)]
            # other companions in the norm's groups than the query had, else their statistics would give it away
            order = torch.randperm(len(x), generator=generator, device=generator.device)
            k = torch.empty(len(x), self.options.embedding, device=x.device)
            k[order] = normalize(self.key_head(self.key_backbone(views[1][order])).float())
        q = normalize(self.head(self.backbone(views[0])).float())
        return q, k

    def _similarities(self, q: Tensor, k: Tensor, volumes: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines of q with its key (B, 1), and with the queue (B, K), -inf where a key is of the same volume."""
        # float32: under autocast the products would be rounded to 8 bits, and ties would count as hits
        with torch.autocast(q.device.type, enabled=False):
            positive = (q * k).sum(1, keepdim=True)
            negative = q @ self.queue.T
        return positive, negative.masked_fill(self.volumes == volumes[:, None], -torch.inf)


def _top1(positive: Tensor, negative: Tensor) -> Tensor:
    return (positive[:, 0] > negative.amax(1)).float().mean()


def _numbers(batch: Batch) -> Tensor:
    """(B,) int64 >= 0: a number for each volume, the same in every view, process and run."""
    digest = lambda name: int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") >> 1
    return torch.tensor([digest(name) for name in batch.ids])


def _triplets(x: Tensor, generator: torch.Generator) -> Tensor:
    """x (B, C, D, H, W) -> (B, 1, 3, H, W): three distinct bands of each volume, the longest wavelength first.

    Channels of a band are averaged, as the hyperspectral Frechet distance does.
    """
    n, bands = len(x), x.shape[2]
    keys = torch.rand(n, bands, generator=generator, device=generator.device)
    picks = keys.argsort(1)[:, :3].sort(1, descending=True).values
    index = picks[:, :, None, None].expand(-1, -1, *x.shape[-2:])
    return x.mean(1).gather(1, index)[:, None]


def build_resnet18(options: Options, context: FeaturesContext) -> Moco:
    """The network of a recipe's table, 18 layers."""
    return Moco("moco-resnet18", 18, options, context)


def build_resnet50(options: Options, context: FeaturesContext) -> Moco:
    """The network of a recipe's table, 50 layers."""
    return Moco("moco-resnet50", 50, options, context)
