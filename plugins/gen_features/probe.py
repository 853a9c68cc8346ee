"""A probe: how well a yes-no condition of the volumes can be told from the features of another network.

Linear: logistic regression on standardized features that stay as they are (Alain & Bengio 2017). Full: a copy of the
network is fine-tuned with it. On the same network with the weights it was built with, either says what pre-training
was worth. Fitted on the data set's training volumes, whatever the network itself was trained on: samples have no label.

The weights are learned in coordinates in which the features are uncorrelated (linear) or of one spread (full); the
problem and its penalty stay those of logistic regression on standardized features, but Adam needs far fewer steps.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from gen_core.batch import Batch
from gen_core.errors import RecipeError
from gen_core.features import FeatureNetwork, FeaturesContext
from gen_core.trainable import GroupLoss, Step
from gen_features.codec_features import weights_sha256
from gen_features.probe_options import Probe as Options

HEAD_RATE = 30.0  # the head learns so many times faster than the network: one learning rate serves both
FLOOR = 1e-3  # of the mean eigenvalue: directions that carry only rounding stay small


class Probe(FeatureNetwork):
    """Volumes (B, C, D, H, W) -> (B, 1), the logit of the label.

    Raises: RecipeError when the network is to be tuned and its features have no gradient.
    """

    takes = "volume"
    dim = 1
    fitted = True

    def __init__(self, options: Options, context: FeaturesContext):
        super().__init__()
        self.options = options
        given = (context.fresh if options.from_scratch else context.features)(options.backbone)
        self.tuned = options.tune == "full"
        if self.tuned or options.from_scratch:
            self.backbone = copy.deepcopy(given).requires_grad_(False)
        self._given = (given,)  # in a tuple: a network that stays as it is is not trained, moved or stored with us
        bands = context.spec.size[0]
        self.register_buffer("picks", band_triplets(bands), persistent=False)
        n = given.dim * (len(self.picks) if given.takes == "image" else 1)
        # not from torch's global generator, which the loading of the other network may or may not have used
        start = 0.01 * torch.randn(n, generator=torch.Generator().manual_seed(n))
        self.weight, self.bias = nn.Parameter(start), nn.Parameter(torch.zeros(()))
        self.register_buffer("mean", torch.zeros(n))
        self.register_buffer("root", torch.eye(n))  # learned coordinates -> weights of features
        self.register_buffer("spread", torch.ones(n))
        self.register_buffer("seen", torch.zeros((), dtype=torch.float64))
        self.register_buffer("total", torch.zeros(n, dtype=torch.float64))
        self.register_buffer("outer", torch.zeros((n, n) if not self.tuned else (n,), dtype=torch.float64))
        if self.tuned:
            self._free_what_embeds(torch.zeros(1, *context.spec.shape))

    @property
    def network(self) -> FeatureNetwork:
        """The network that is probed: our copy, or the one given."""
        return self.backbone if hasattr(self, "backbone") else self._given[0]

    def _free_what_embeds(self, x: Tensor) -> None:
        """Let those weights of the copy learn that its features depend on: no heads, no momentum encoders."""
        self.backbone.requires_grad_(True)
        device = next((p.device for p in self.backbone.parameters()), x.device)
        with torch.enable_grad():
            out = self.embed(x.to(device))
            weights = list(self.backbone.parameters())
            if not weights or not out.requires_grad:
                raise RecipeError(
                    f"[{self.options.backbone}] has no features that gradients flow through (an `embed` method); "
                    'probe it with tune = "linear"'
                )
            gradients = torch.autograd.grad(out.sum(), weights, allow_unused=True)
        for weight, gradient in zip(weights, gradients):
            weight.requires_grad_(gradient is not None)

    # Features

    def embed(self, x: Tensor) -> Tensor:
        """x (B, C, D, H, W) -> features (B, n) of the probed network; of one of images, triplet after triplet.

        A network without `embed` of its own gives its `features`, which have no gradient.
        """
        embed = getattr(self.network, "embed", self.network.features)
        if self.network.takes == "volume":
            return embed(x).float()
        triplets = x.mean(1)[:, self.picks]  # (B, T, 3, H, W)
        return embed(triplets.flatten(0, 1)).float().unflatten(0, (len(x), -1)).flatten(1)

    def logits(self, features: Tensor) -> Tensor:
        """features (B, n) -> (B,)."""
        return (features - self.mean) @ (self.coefficients() / self.spread) + HEAD_RATE * self.bias

    def coefficients(self) -> Tensor:
        """(n,) weights of the standardized features."""
        return HEAD_RATE * (self.root @ self.weight)

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """x (B, C, D, H, W) in [-1, 1] -> (B, 1) float32: the logit of the label."""
        training = self.network.training
        self.network.eval()
        try:
            return self.logits(self.embed(x))[:, None]
        finally:
            self.network.train(training)

    def protocol(self) -> dict[str, Any]:
        probed = self.network.protocol()
        if self.options.from_scratch:
            probed.pop("train_on", None)
        return {
            "name": "probe",
            "sha256": weights_sha256(self),
            "label": self.options.label,
            "tune": self.options.tune,
            "from_scratch": self.options.from_scratch,
            "l2": self.options.l2,
            "features": self.options.backbone,
            "backbone": probed,
            "input": "whole volumes"
            if self.network.takes == "volume"
            else f"{len(self.picks)} band triplets that hold every band, features side by side",
        }

    # Learning

    def training_step(self, batch: Batch, step: Step) -> Iterator[GroupLoss]:
        target = self.targets(batch)
        if self.tuned:
            features = self.embed(batch.x)
        else:
            with torch.no_grad():
                self.network.eval()
                features = self.embed(batch.x)
        # float32: products of long vectors lose digits under autocast
        with torch.autocast(features.device.type, enabled=False):
            if step.index < self.options.normalize_steps:
                self._learn_spread(features.detach(), step.index)
            logits = self.logits(features)
            losses = {"bce": binary_cross_entropy_with_logits(logits, target)}
            if self.options.l2 > 0:
                losses["l2"] = 0.5 * self.options.l2 * self.coefficients().square().sum()
        yield GroupLoss("main", losses, {"accuracy": _accuracy(logits, target)})

    @torch.no_grad()
    def validation_step(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        """bce and accuracy on volumes as they are."""
        target, logits = self.targets(batch), self.features(batch.x)[:, 0]
        return {"bce": binary_cross_entropy_with_logits(logits, target), "accuracy": _accuracy(logits, target)}

    def targets(self, batch: Batch) -> Tensor:
        """(B,) float32 of 0 and 1. Raises: RecipeError when the volumes have no such label."""
        label = self.options.label
        if label not in batch.condition:
            known = ", ".join(sorted(batch.condition)) or "none"
            raise RecipeError(f"[features] probe, label = '{label}': volumes have no such condition; they have {known}")
        target = batch.condition[label].to(batch.x.device, torch.float32)
        if target.shape != (len(batch),) or not ((target == 0) | (target == 1)).all():
            raise RecipeError(f"[features] probe, label = '{label}': not a number that is 0 or 1 in every volume")
        return target

    @torch.no_grad()
    def _learn_spread(self, features: Tensor, index: int) -> None:
        """Mean, spread and (linear) correlation of the features over the first steps, in buffers.

        The root is taken after 1, 2, 4, ... steps and at the last, because it is dear with many features.
        """
        f = features.double()
        self.seen += len(f)
        self.total += f.sum(0)
        self.outer += f.T @ f if self.outer.ndim == 2 else f.square().sum(0)
        last = index + 1 == self.options.normalize_steps
        if (index + 1) & index and not last:
            return
        mean = self.total / self.seen
        self.mean.copy_(mean)
        if self.outer.ndim == 1:
            self.spread.copy_(_spread(self.outer / self.seen - mean.square()))
            self.root.copy_(torch.eye(len(mean), device=mean.device) / len(mean) ** 0.5)
            return
        covariance = self.outer / self.seen - torch.outer(mean, mean)
        spread = _spread(covariance.diagonal())
        self.spread.copy_(spread)
        values, vectors = torch.linalg.eigh(covariance / torch.outer(spread, spread))
        # 4 l2: the loss curves by a quarter of the variance at most, the penalty by l2
        floor = 4 * self.options.l2 + FLOOR
        self.root.copy_((vectors * (values.clamp(min=0.0) + floor).rsqrt()) @ vectors.T)


def band_triplets(bands: int) -> Tensor:
    """(T, 3) indices of bands, falling (the longest wavelength is red), that hold every band; T = ceil(bands / 3)."""
    t = -(-bands // 3)
    low = torch.arange(t)
    return torch.stack((low + 2 * t, low + t, low), 1).clamp(max=bands - 1)


def _spread(variance: Tensor) -> Tensor:
    """Standard deviation, 1 where a feature is constant."""
    sd = variance.clamp(min=0.0).sqrt()
    return torch.where(sd > 1e-6 * sd.amax().clamp(min=1e-12), sd, torch.ones_like(sd))


def _accuracy(logits: Tensor, target: Tensor) -> Tensor:
    return ((logits > 0) == (target > 0.5)).float().mean()


def build(options: Options, context: FeaturesContext) -> Probe:
    """The probe of a recipe's table, on the fitted network that it names."""
    return Probe(options, context)
