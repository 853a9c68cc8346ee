"""A discrete-time DDPM around any network (Ho et al. 2020): a plugin brings the network, the algebra is here.

Shape legend: z (B, c, D, H, W) latents in prior space; t (B,) in (0, 1], step k = T t.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from gen_core.batch import Batch
from gen_core.condition import Conditions
from gen_core.conditional_prior import ConditionalPrior
from gen_core.ddpm.beta_schedule import betas
from gen_core.ddpm.discrete_path import DiscretePath
from gen_core.denoising import per_sample
from gen_core.prior import DiffusionPrior, PriorContext
from gen_core.share import rows
from gen_core.trainable import GroupLoss, Step

SMALLEST = 1e-8  # alpha and sigma in a divisor: a path that ends in pure noise or pure data stays finite


class DdpmOptions(Protocol):
    """The fields that a prior's options must have.

    steps: T. schedule: "cosine", "scaled-linear", "linear"; s, clip (largest beta) of cosine; beta_start, beta_end of
    the others. predict: "eps", "x0", "v". loss: "l1", "l2". min_snr_gamma: 0 = off. drop_condition: share of the
    training samples that are told nothing.
    """

    steps: int
    schedule: str
    s: float
    clip: float
    beta_start: float
    beta_end: float
    predict: str
    loss: str
    min_snr_gamma: float
    drop_condition: float


class DiscreteDdpm(ConditionalPrior, DiffusionPrior):
    """The path, the algebra between eps, z_0 and v, the losses, and who is told what; `predict` is left to do."""

    parallel = True

    def __init__(self, options: DdpmOptions, context: PriorContext):
        super().__init__(context)
        self.options = o = options
        self.path = DiscretePath(
            betas(o.schedule, o.steps, s=o.s, clip=o.clip, beta_start=o.beta_start, beta_end=o.beta_end)
        )

    @abstractmethod
    def predict(self, z_t: Tensor, t: Tensor, cond: Conditions | None) -> Tensor:
        """What the network was trained for, float32.

        cond: complete (every declared name, those not present too); None for a prior without conditions.
        """

    def coefficients(self, t: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma at t, float32, shaped to multiply z."""
        ln_alpha = self.path.ln_alpha(t)
        alpha, sigma = ln_alpha.exp(), (-torch.expm1(2.0 * ln_alpha)).sqrt()
        return per_sample(alpha.float(), z), per_sample(sigma.float(), z)

    def denoise(self, z_t: Tensor, t: Tensor, cond: Conditions | None = None) -> tuple[Tensor, Tensor]:
        """z_t, t -> (z_0, eps) with z_t = alpha z_0 + sigma eps; unclamped float32.

        Raises: RecipeError for conditions this prior was not built with.
        """
        z_t = z_t.float()
        out = self.predict(z_t, t, self.complete(cond, z_t))
        alpha, sigma = self.coefficients(t, z_t)
        if self.options.predict == "eps":
            return (z_t - sigma * out) / alpha.clamp_min(SMALLEST), out
        if self.options.predict == "x0":
            return out, (z_t - alpha * out) / sigma.clamp_min(SMALLEST)
        return alpha * z_t - sigma * out, sigma * z_t + alpha * out

    def target(self, z_0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """eps, z_0 or v = alpha eps - sigma z_0 (Salimans & Ho 2022, section 2.4)."""
        if self.options.predict == "eps":
            return eps
        return z_0 if self.options.predict == "x0" else alpha * eps - sigma * z_0

    def weight(self, t: Tensor) -> Tensor | None:
        """Min-SNR-gamma weight of each sample, (B,) float32, or None when off.

        min(SNR, gamma) for the error of z_0; divided by SNR for eps and by SNR + 1 for v, whose errors are
        that much larger (Hang et al. 2023, section 3.4). With "l1" the same weights are used, a departure.
        """
        gamma = self.options.min_snr_gamma
        if gamma == 0:
            return None
        snr = self.path.log_snr(t.double()).exp()
        divisor = {"x0": 1.0, "eps": snr, "v": snr + 1.0}[self.options.predict]
        return (snr.clamp(max=gamma) / divisor).float()

    def errors(self, z_0: Tensor, t: Tensor, eps: Tensor, cond: Conditions | None) -> tuple[Tensor, Tensor]:
        """(B,) unweighted mean error of the prediction, and of z_0 squared (detached where it is the same)."""
        alpha, sigma = self.coefficients(t, z_0)
        z_t = alpha * z_0 + sigma * eps
        out = self.predict(z_t, t, cond)
        difference = out - self.target(z_0, eps, alpha, sigma)
        error = difference.abs() if self.options.loss == "l1" else difference.square()
        return error.flatten(1).mean(1), difference.detach().square().flatten(1).mean(1)

    def draw(self, z_0: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """t uniform over the T steps and eps standard normal, on z_0's device."""
        T, at = self.path.steps, generator.device
        k = rows(len(z_0), lambda n: torch.randint(1, T + 1, (n,), generator=generator, device=at))
        eps = rows(len(z_0), lambda n: torch.randn(n, *z_0.shape[1:], generator=generator, device=at))
        return (k.double() / T).to(z_0.device), eps.to(z_0.device)

    def training_step(self, batch: Batch, step: Step) -> Iterator[GroupLoss]:
        """The simple loss (Ho et al. 2020, eq. 14), weighted where asked.

        A share `drop_condition` of the samples is told nothing at all: the same network learns the unconditional
        distribution, for classifier-free guidance. Source: Ho & Salimans 2022, algorithm 1.
        """
        z_0 = batch.x.float()
        t, eps = self.draw(z_0, step.generator)
        cond = self.partly_told(batch, self.options.drop_condition, step)  # after t and eps, which stay as they are
        error, square = self.errors(z_0, t, eps, cond)
        weight = self.weight(t)
        loss = (error if weight is None else weight * error).mean()
        yield GroupLoss("main", {"loss": loss}, {"mse": square.mean()})

    @torch.no_grad()
    def validation_step(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        """The unweighted loss at evenly spread times with one fixed noise, told all conditions: comparable."""
        z_0 = batch.x.float()
        B, T = z_0.shape[0], self.path.steps
        generator = torch.Generator().manual_seed(0)
        eps = torch.randn(z_0.shape, generator=generator).to(z_0.device)
        k = torch.linspace(1, T, B, dtype=torch.float64).round()[torch.randperm(B, generator=generator)]
        error, square = self.errors(z_0, (k / T).to(z_0.device), eps, self.told(batch))
        return {"loss": error.mean(), "mse": square.mean()}
