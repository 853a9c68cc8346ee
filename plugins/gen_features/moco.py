"""Momentum Contrast: a ResNet that learns, without labels, which views come from the same volume.

A query view must be nearer to the key of the other view of its volume than to the keys of earlier batches. Keys come
from a slowly following copy of the network, so that those in the queue stay comparable.

Source: He et al. 2020, "Momentum contrast for unsupervised visual representation learning" (MoCo), eq. 1 and 2;
Chen et al. 2020, "Improved baselines with momentum contrastive learning" (v2: MLP head, stronger views).
Departures:
- Views keep the spectrum (see views.py).
- The batch's other fresh keys are negatives too. In short runs the networks change quickly, and a query could tell its
  key from the queue's by age alone: the loss falls and nothing is learnt. Keys of one age leave no such way.
- Keys of the query's own volume are no negatives, because a medical data set is often smaller than the queue.
- The head sees standardized features: volumes of one organ are so alike that all embeddings would start as one point.
  Mean and variance are running ones of earlier steps, so nothing of a batch passes between its views.
- Adam instead of SGD; a shorter memory of the key encoder in short runs.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from attrs import evolve, frozen
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


class Standardize(nn.Module):
    """(B, dim) minus the mean, over the sd, of the features of earlier steps; in training as in evaluation."""

    def __init__(self, dim: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("variance", torch.ones(dim))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        return (x.float() - self.mean) / (self.variance + 1e-6).sqrt()

    def learn(self, x: Tensor) -> None:
        """Move a tenth of the way to the statistics of x (B, dim); at the first step all the way."""
        share = torch.where(self.steps == 0, 1.0, 0.1).to(x)
        self.mean.lerp_(x.mean(0), share)
        self.variance.lerp_(x.var(0, correction=0), share)
        self.steps += 1


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
            Standardize(self.dim), nn.Linear(self.dim, self.dim), nn.ReLU(), nn.Linear(self.dim, options.embedding)
        )
        self.key_backbone, self.key_head = copy.deepcopy(self.backbone), copy.deepcopy(self.head)
        self.key_backbone.requires_grad_(False)
        self.key_head.requires_grad_(False)
        self.register_buffer("queue", normalize(torch.randn(options.queue, options.embedding)))
        self.register_buffer("volumes", torch.full((options.queue,), NOBODY))
        self.register_buffer("enqueued", torch.zeros((), dtype=torch.int64))
        self._seen: list[_Pair] = []  # of the step under way

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
            self._seen = []
        pair = self._pair(batch, step.generator)
        positive, fresh, queued = self._similarities(pair)
        logits = torch.cat((positive, fresh, queued), 1) / self.options.temperature
        target = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)  # the first column
        loss = cross_entropy(logits, target)  # eq. 1
        self._seen.append(pair.detached())
        yield GroupLoss("main", {"contrast": loss}, {"accuracy": _top1(positive, fresh)})

    @torch.no_grad()
    def updated(self, group: str, step: Step) -> None:
        """The key encoder follows (eq. 2), and the step's keys take the place of the oldest."""
        m = self.options.momentum
        if self.options.scale_momentum:
            m = min(m, max(0.0, 1 - 10 / step.total))
        for key, query in ((self.key_backbone, self.backbone), (self.key_head, self.head)):
            for mine, theirs in zip(key.parameters(), query.parameters()):
                mine.lerp_(theirs, 1 - m)
        together = lambda part: torch.cat([getattr(pair, part) for pair in self._seen])
        self.head[0].learn(together("query_features"))
        self.key_head[0].learn(together("key_features"))
        keys = together("k")
        at = (self.enqueued + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[at], self.volumes[at] = keys, together("volumes")
        self.enqueued += len(keys)
        self._seen = []

    @torch.no_grad()
    def validation_step(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        """Whether it learns: how often the other view is the nearest key, and how the embeddings lie.

        accuracy: top-1 among the fresh keys of the batch; chance is 1 / volumes of the batch. queue accuracy: top-1
        among all keys of the queue too, which flatters while the network changes, because those are older.
        alignment: mean squared distance of two views; uniformity: ln of the mean of exp(-2 d^2) over pairs of volumes,
        0 when all lie on one point, -4 when spread over the sphere (Wang & Isola 2020, eq. 1 and 2; both lower better).
        """
        pair = self._pair(batch, step.generator)
        positive, fresh, queued = self._similarities(pair)
        queued = queued.masked_fill(self.volumes == NOBODY, -torch.inf)
        apart = torch.pdist(pair.q).square() if len(pair.q) > 1 else pair.q.new_zeros(1)
        return {
            "accuracy": _top1(positive, fresh),
            "queue accuracy": _top1(positive, torch.cat((fresh, queued), 1)),
            "alignment": (pair.q - pair.k).square().sum(1).mean(),
            "uniformity": apart.mul(-2).exp().mean().log(),
        }

    def _pair(self, batch: Batch, generator: torch.Generator) -> _Pair:
        """Two views of each volume: one through the query network, one, without gradient, through the key network."""
        with torch.no_grad():
            x = _triplets(batch.x, generator) if self.takes == "image" else batch.x
            views = [random_view(x, self.options.views, generator).flatten(1, 2) for _ in range(2)]
            # other companions in the norm's groups than the query had, else their statistics would give it away
            order = torch.randperm(len(x), generator=generator, device=generator.device)
            key_features = self.key_backbone(views[1][order])[order.argsort()]
            k = normalize(self.key_head(key_features).float())
        query_features = self.backbone(views[0])
        q = normalize(self.head(query_features).float())
        return _Pair(q, k, query_features, key_features, _numbers(batch).to(q.device))

    def _similarities(self, pair: _Pair) -> tuple[Tensor, Tensor, Tensor]:
        """Cosines of q with its own key (B, 1), the batch's keys (B, B) and the queue (B, K).

        Keys of the same volume are -inf in the last two: they are no negatives.
        """
        own = pair.volumes[:, None]
        # float32: under autocast the products would be rounded to 8 bits, and ties would count as hits
        with torch.autocast(pair.q.device.type, enabled=False):
            positive = (pair.q * pair.k).sum(1, keepdim=True)
            fresh = (pair.q @ pair.k.T).masked_fill(pair.volumes == own, -torch.inf)
            queued = (pair.q @ self.queue.T).masked_fill(self.volumes == own, -torch.inf)
        return positive, fresh, queued


@frozen(eq=False)
class _Pair:
    """Two views of B volumes: embeddings q and k (B, embedding) of unit length, features (B, dim), who they are."""

    q: Tensor
    k: Tensor
    query_features: Tensor
    key_features: Tensor
    volumes: Tensor

    def detached(self) -> _Pair:
        """The same without the graph of the query."""
        return evolve(self, q=self.q.detach(), query_features=self.query_features.detach())


def _top1(positive: Tensor, negative: Tensor) -> Tensor:
    """Share of rows whose positive (B, 1) is above all negatives (B, K); a tie is no hit."""
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
