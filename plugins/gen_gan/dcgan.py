"""The prior `dcgan`: strided convolutions, batch norm, and the non-saturating loss.

Shape legend: z (B, c, 1, h, w) latents (with codec `identity` the images themselves); noise (B, z_dim).
Source: Radford et al. 2016, section 3 and figure 1. Departures: any size k * 2^n; the last activation is tanh only
where latents are bounded by -1 and 1; conditions are appended to the noise and reach the discriminator by projection
(Miyato & Koyama 2018, eq. 3); both networks are updated from one set of fakes; R1 as an option.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from gen_core.batch import Batch
from gen_core.condition import Conditions
from gen_core.engine.precision import float32_island
from gen_core.prior import DirectPrior, PriorContext
from gen_core.share import rows
from gen_core.trainable import GroupLoss, Step
from gen_gan.dcgan_options import Dcgan
from gen_gan.regularizers import discriminator_loss, due, generator_loss, r1
from gen_gan.sizes import base_of_latents
from gen_gan.told import Told, complete, of_batch

WEIGHT_SD = 0.02  # of every weight at the start; also that of the norms' gains around 1
SLOPE = 0.2  # of the discriminator's leaky rectifiers


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, WEIGHT_SD)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, WEIGHT_SD)


class DcganGenerator(nn.Module):
    """Noise, and what is told, through a linear layer and kernel-4 stride-2 transposed convolutions.

    widths: maps from the base up to half the full size.
    """

    def __init__(self, options: Dcgan, context: PriorContext, base: tuple[int, int], widths: list[int]):
        super().__init__()
        self.told = Told(context.conditions, options.told_dim)
        self.base, self.n = base, widths[0]
        self.project = nn.Linear(options.z_dim + self.told.dim, widths[0] * base[0] * base[1], bias=False)
        layers: list[nn.Module] = [nn.BatchNorm2d(widths[0]), nn.ReLU()]
        for n, out in zip(widths, widths[1:]):
            layers += [nn.ConvTranspose2d(n, out, 4, 2, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
        layers.append(nn.ConvTranspose2d(widths[-1], context.shape[0], 4, 2, 1))
        if context.bounds == (-1.0, 1.0):
            layers.append(nn.Tanh())
        self.layers = nn.Sequential(*layers)
        for module in (self.project, *self.layers.modules()):
            _start(module)

    def forward(self, z: Tensor, cond: Conditions) -> Tensor:
        """z (B, z_dim) -> (B, c, h, w) float32."""
        told = self.told(cond)
        x = self.project(z if told is None else torch.cat((z, told), 1))
        return self.layers(x.view(-1, self.n, *self.base)).float()


class DcganDiscriminator(nn.Module):
    """Kernel-4 stride-2 convolutions down to the base, then one logit; no norm after the first."""

    def __init__(self, options: Dcgan, context: PriorContext, base: tuple[int, int], widths: list[int]):
        super().__init__()
        self.told = Told(context.conditions, options.told_dim)
        down = widths[::-1]
        layers: list[nn.Module] = [nn.Conv2d(context.shape[0], down[0], 4, 2, 1), nn.LeakyReLU(SLOPE)]
        for n, out in zip(down, down[1:]):
            layers += [nn.Conv2d(n, out, 4, 2, 1, bias=False), nn.BatchNorm2d(out), nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers)
        features = down[-1] * base[0] * base[1]
        self.logit = nn.Linear(features, 1)
        self.project = nn.Linear(self.told.dim, features, bias=False) if self.told.dim else None
        for module in (self.logit, *self.layers.modules()):
            _start(module)

    def forward(self, x: Tensor, cond: Conditions) -> Tensor:
        """x (B, c, h, w) -> (B,) float32."""
        x = self.layers(x).flatten(1)
        y = self.logit(x)[:, 0]
        if self.project is not None:
            y = y + (x * self.project(self.told(cond))).sum(1) / math.sqrt(x.shape[1])
        return y.float()


class DcganPrior(DirectPrior):
    """Generator and discriminator."""

    parallel = True

    def __init__(self, options: Dcgan, context: PriorContext):
        super().__init__()
        o = options
        self.options, self.shape = o, tuple(context.shape)
        base, levels = base_of_latents(self.shape, "dcgan")
        widths = [min(o.width << k, o.width_max) for k in reversed(range(levels))]
        self.generator = DcganGenerator(o, context, base, widths)
        self.critic = DcganDiscriminator(o, context, base, widths)
        self.specs = self.generator.told.specs

    def noise_shape(self, n: int) -> tuple[int, ...]:
        return (n, self.options.z_dim)

    def draw(self, noise: Tensor, cond: Conditions | None = None, **options: Any) -> Tensor:
        """noise (B, z_dim) standard normal -> z (B, c, 1, h, w) float32."""
        return self.generator(noise, complete(self.specs, cond, len(noise), noise.device))[:, :, None]

    def groups(self) -> dict[str, list[nn.Module]]:
        return {"generator": [self.generator], "discriminator": [self.critic]}

    def training_step(self, batch: Batch, step: Step) -> Iterator[GroupLoss]:
        o, real = self.options, batch.x[:, :, 0].float()
        cond = of_batch(self.specs, batch, o.drop_condition, step.generator)
        at = step.generator.device
        noise = rows(len(batch), lambda n: torch.randn(self.noise_shape(n), generator=step.generator, device=at))
        fake = self.generator(noise.to(step.device), cond)
        yield GroupLoss("generator", {"adversarial": generator_loss(self.critic(fake, cond))})

        fake_logits = self.critic(fake.detach(), cond)
        penalized = o.r1_gamma > 0 and due(step.index, o.r1_every)
        if penalized:
            with float32_island(step.device):
                real = real.detach().requires_grad_(True)
                real_logits = self.critic(real, cond)
                penalty = r1(real_logits, real)
        else:
            real_logits = self.critic(real, cond)
        losses = {"adversarial": discriminator_loss(real_logits, fake_logits)}
        if penalized:
            losses["r1"] = o.r1_gamma * o.r1_every * penalty
        logs = {"real_logit": real_logits.mean(), "fake_logit": fake_logits.mean()}
        yield GroupLoss("discriminator", losses, logs)

    @torch.no_grad()
    def validation_step(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        """Logits of volumes the discriminator never saw, and of samples for them."""
        cond = of_batch(self.specs, batch, 0.0, None)
        shape = self.noise_shape(len(batch))
        noise = torch.randn(shape, generator=step.generator, device=step.generator.device).to(step.device)
        real = self.critic(batch.x[:, :, 0].float(), cond)
        fake = self.critic(self.generator(noise, cond), cond)
        return {"real_logit": real.mean(), "fake_logit": fake.mean(), "loss": discriminator_loss(real, fake)}


def build(options: Dcgan, context: PriorContext) -> DcganPrior:
    """The prior of `options` for latents of `context.shape`; works on the meta device.

    Raises: RecipeError for volumes more than one slice deep, sizes that cannot be halved, masks as conditions.
    """
    return DcganPrior(options, context)
