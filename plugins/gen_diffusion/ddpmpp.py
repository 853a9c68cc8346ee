"""The prior `ddpm++`: a score network in continuous time, on a VP, sub-VP, VE, EDM or straight path.

Source: Song et al. 2021 (score SDE); Karras et al. 2022 (EDM); Liu et al. 2023, Esser et al. 2024 (rectified flow).
The losses are `score_matching`, the paths `gen_core.paths`.
Shape legend: z (B, c, D, H, W) latents in prior space; t (B,) in (0, 1].
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gen_core.batch import Batch
from gen_core.condition import VECTORS, Conditions
from gen_core.conditional_prior import ConditionalPrior
from gen_core.paths.continuous_path import ContinuousPath
from gen_core.paths.edm_path import EdmPath
from gen_core.paths.rectified_flow_path import RectifiedFlowPath
from gen_core.paths.sub_vp_path import SubVpPath
from gen_core.paths.ve_path import VePath
from gen_core.paths.vp_path import VpPath
from gen_core.prior import DiffusionPrior, PriorContext
from gen_core.share import rows
from gen_core.trainable import GroupLoss, Step
from gen_diffusion import edm_preconditioning as edm
from gen_diffusion import score_matching as matching
from gen_diffusion.condition_embedding import ConditionEmbedding, grid_channels
from gen_diffusion.ddpmpp_network import DdpmppNetwork
from gen_diffusion.ddpmpp_options import Ddpmpp

STEPS = 999.0  # what t = 1 is told as to positional features, as of a schedule of 1000 steps


def path_of(o: Ddpmpp) -> ContinuousPath:
    """The noise path that the options name."""
    if o.path in ("vp", "sub-vp"):
        path = {"vp": VpPath, "sub-vp": SubVpPath}[o.path](o.beta_min, o.beta_max)
    elif o.path in ("ve", "edm"):
        path = {"ve": VePath, "edm": EdmPath}[o.path](*o.sigma_ends)
    else:
        path = RectifiedFlowPath()
    if o.spacing != "auto":
        path.spacing = o.spacing
    return path


def times_of(o: Ddpmpp, path: ContinuousPath) -> matching.Times:
    """The training times that the options name."""
    by_prediction = {"velocity": "logit-normal", "edm": "log-normal"}
    kind = by_prediction.get(o.predict, "uniform") if o.times == "auto" else o.times
    mean, sd = (edm.MEAN, edm.SD) if kind == "log-normal" else (0.0, 1.0)
    mean = mean if o.times_mean is None else o.times_mean
    high = 1.0 - o.smallest_t if o.path == "rectified-flow" else 1.0  # nothing is left of the data at t = 1
    return matching.Times(kind, path, o.smallest_t, high, mean, o.times_sd or sd)


class DdpmppPrior(ConditionalPrior, DiffusionPrior):
    """The network, the embedding of conditions where there are some, and what its output means on the path."""

    parallel = True

    def __init__(self, options: Ddpmpp, context: PriorContext):
        super().__init__(context)
        self.options = o = options
        self.path: ContinuousPath = path_of(o)
        self.times = times_of(o, self.path)
        tokens = o.embed == "cross-attention" and any(spec.kind in VECTORS for spec in self.specs.values())
        context_dim = o.context_dim if tokens else 0
        self.network = DdpmppNetwork(self.shape, o, grid_channels(self.specs), context_dim)
        self.embedding = (
            ConditionEmbedding(self.specs, context_dim or 4 * o.base, tokens) if self.specs else None
        )  # fmt: skip

    def checkpoint_activations(self, on: bool) -> None:
        self.network.checkpointing = on

    def shardable(self) -> list[nn.Module]:
        network = self.network
        units = [unit for level in (*network.down, *network.up) for unit in level]
        return [*units, network.middle, network.middle_block, network]

    def told_time(self, t: Tensor) -> Tensor:
        """The number that tells the network the time, (B,) float32."""
        o, t = self.options, t.double().clamp_min(self.options.smallest_t)
        if o.predict == "edm":
            return edm.c_noise((-0.5 * self.path.log_snr(t)).exp()).float()
        if o.time == "positional":
            return (STEPS * t).float()
        # random frequencies want a narrow range: noise levels that span decades are told by their logarithm
        return (self.path.sigma(t).log() if o.path in ("ve", "edm") else t).float()

    def meaning(self, t: Tensor) -> matching.Meaning:
        """What the network's output says at t."""
        alpha, sigma = self.path.alpha(t.double()), self.path.sigma(t.double())
        return matching.meaning(self.options.predict, alpha, sigma, self.options.sigma_data)

    def predict(self, z_t: Tensor, t: Tensor, cond: Conditions | None) -> Tensor:
        """What the network was trained for, float32. cond: complete, or None for a prior without conditions."""
        z = z_t * matching.per_sample(self.meaning(t).input.float(), z_t)
        told = None if self.embedding is None else self.embedding(cond)
        return self.network(z, self.told_time(t), told).float()

    def denoise(self, z_t: Tensor, t: Tensor, cond: Conditions | None = None) -> tuple[Tensor, Tensor]:
        """z_t, t -> (z_0, eps) with z_t = alpha z_0 + sigma eps; unclamped float32.

        Raises: RecipeError for conditions this prior was not built with.
        """
        z_t = z_t.float()
        return self.meaning(t).read(z_t, self.predict(z_t, t, self.complete(cond, z_t)))

    def errors(self, z_0: Tensor, t: Tensor, eps: Tensor, cond: Conditions | None) -> tuple[Tensor, Tensor]:
        """(B,) weighted squared error of the prediction, and (detached) that of eps."""
        o, path = self.options, self.path
        alpha, sigma = path.alpha(t), path.sigma(t)
        wide = lambda value: matching.per_sample(value.float(), z_0)
        out = self.predict(wide(alpha) * z_0 + wide(sigma) * eps, t, cond)
        square = (out - matching.target(o.predict, z_0, eps, alpha, sigma, o.sigma_data)).square().flatten(1).mean(1)
        s = self.meaning(t).s
        weight = matching.loss_weight(o.predict, o.weighting, path, t, s)
        if o.weighting == "likelihood":
            weight = weight / self.times.density(t)
        return weight.float() * square, (s**2).float() * square.detach()

    def training_step(self, batch: Batch, step: Step) -> Iterator[GroupLoss]:
        """Weighted denoising score matching; a share `drop_condition` of the samples is told nothing."""
        z_0, at = batch.x.float(), step.generator.device
        draw = lambda f, *more, **kw: rows(len(z_0), lambda n: f(n, *more, generator=step.generator, device=at, **kw))
        u = draw(torch.rand, dtype=torch.float64)
        eps = draw(torch.randn, *z_0.shape[1:]).to(z_0.device)
        cond = self.partly_told(batch, self.options.drop_condition, step)
        loss, square = self.errors(z_0, self.times.at(u.to(z_0.device)), eps, cond)
        yield GroupLoss("main", {"loss": loss.mean()}, {"eps_mse": square.mean()})

    @torch.no_grad()
    def validation_step(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        """The loss at evenly spread quantiles of the times with one fixed noise, told all conditions: comparable."""
        z_0, B = batch.x.float(), len(batch)
        generator = torch.Generator().manual_seed(0)
        eps = torch.randn(z_0.shape, generator=generator).to(z_0.device)
        u = (torch.randperm(B, generator=generator).double() + 0.5) / B
        loss, square = self.errors(z_0, self.times.at(u.to(z_0.device)), eps, self.told(batch))
        return {"loss": loss.mean(), "eps_mse": square.mean()}


def build(options: Ddpmpp, context: PriorContext) -> DdpmppPrior:
    """The prior of `options` for latents of `context.shape`; works on the meta device.

    Raises: RecipeError for a path that cannot be.
    """
    return DdpmppPrior(options, context)
