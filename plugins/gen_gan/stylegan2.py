"""The prior `stylegan2-ada`: StyleGAN2 trained with adaptive discriminator augmentation.

Shape legend: z (B, c, 1, h, w) latents (with codec `identity` the images themselves); noise (B, z_dim + noise maps).
Source: Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN"; Karras et al. 2020, "Training
generative adversarial networks with limited data". Departures: a lazy penalty is added to the losses of the step in
which it is due, instead of a step of its own, so Adam's settings are not rescaled; both networks are updated from
one set of fakes, seen by the discriminator under other augmentations; conditions reach it by projection, without a
mapping network of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from gen_core.batch import Batch
from gen_core.condition import Conditions
from gen_core.engine.precision import float32_island
from gen_core.prior import DirectPrior, PriorContext
from gen_core.share import head, mean, rows
from gen_core.trainable import GroupLoss, Step
from gen_gan.augment import AugmentProbability, augment
from gen_gan.regularizers import (
    discriminator_loss,
    due,
    generator_loss,
    mix_styles,
    path_length_penalty,
    path_lengths,
    r1,
)
from gen_gan.sizes import base_of_latents
from gen_gan.stylegan2_networks import Discriminator, Mapping, Synthesis
from gen_gan.stylegan2_options import Stylegan2Ada
from gen_gan.told import Told, complete, of_batch

R1_HEURISTIC = 0.0002  # gamma = this * pixels / batch


class Generator(nn.Module):
    """What is told, mapping and synthesis: one group, averaged together."""

    def __init__(self, options: Stylegan2Ada, context: PriorContext, base: tuple[int, int], widths: list[int]):
        super().__init__()
        o = options
        self.told = Told(context.conditions, o.told_dim)
        self.mapping = Mapping(o.z_dim, self.told.dim, o.w_dim, o.mapping_layers, o.mapping_lr)
        self.synthesis = Synthesis(context.shape[0], base, widths, o.w_dim)


class Critic(nn.Module):
    """What is told, and the discriminator."""

    def __init__(self, options: Stylegan2Ada, context: PriorContext, base: tuple[int, int], widths: list[int]):
        super().__init__()
        self.told = Told(context.conditions, options.told_dim)
        self.network = Discriminator(context.shape[0], base, widths, self.told.dim, options.minibatch_group)

    def forward(self, x: Tensor, cond: Conditions) -> Tensor:
        return self.network(x, self.told(cond))


class Stylegan2Prior(DirectPrior):
    """Generator and discriminator, the mean style for truncation, the mean path length, and p."""

    truncates = True
    parallel = True
    w_mean: Tensor
    path_mean: Tensor

    def __init__(self, options: Stylegan2Ada, context: PriorContext):
        super().__init__()
        o = options
        self.options, self.shape = o, tuple(context.shape)
        base, levels = base_of_latents(self.shape, "stylegan2-ada")
        sides = [max(base) << k for k in range(levels + 1)]
        widths = [max(1, min(o.channel_base // side, o.channel_max)) for side in sides]
        self.generator = Generator(o, context, base, widths)
        self.critic = Critic(o, context, base, widths)
        self.augmentation = AugmentProbability(
            o.augment.target, o.augment.images, o.augment.start, max(o.augment.most, o.augment.start)
        )
        self.register_buffer("w_mean", torch.zeros(o.w_dim))
        self.register_buffer("path_mean", torch.zeros(()))
        self.specs = self.generator.told.specs
        pixels = self.shape[2] * self.shape[3]
        self.gamma = R1_HEURISTIC * pixels / o.fit.batch if o.r1_gamma is None else o.r1_gamma

    # drawing

    @property
    def noise_dim(self) -> int:
        """Numbers a sample's noise maps take together."""
        return sum(h * w for h, w in self.generator.synthesis.noise_sizes)

    def noise_shape(self, n: int) -> tuple[int, ...]:
        return (n, self.options.z_dim + self.noise_dim)

    def styles(self, z: Tensor, cond: Conditions) -> Tensor:
        """z (B, z_dim) -> w (B, w_dim)."""
        return self.generator.mapping(z, self.generator.told(cond))

    def images(self, w: Tensor, noise: Tensor) -> Tensor:
        """w (B, L, w_dim) -> (B, c, h, w) float32."""
        return self.generator.synthesis(w, noise).float()

    def _repeated(self, w: Tensor) -> Tensor:
        return w[:, None].expand(-1, self.generator.synthesis.styles, -1)

    def draw(self, noise: Tensor, cond: Conditions | None = None, *, truncation: float = 1.0, **options: Any) -> Tensor:
        """noise (B, z_dim + maps) standard normal -> z (B, c, 1, h, w) float32.

        truncation: psi; w moves to the mean style over training, all conditions together: w_mean + psi (w - w_mean).
        Source: Karras et al. 2019, appendix B.
        """
        cond = complete(self.specs, cond, len(noise), noise.device)
        z, maps = noise.split([self.options.z_dim, self.noise_dim], 1)
        w = self.styles(z, cond)
        if truncation != 1.0:
            w = torch.lerp(self.w_mean.to(w.dtype).expand_as(w), w, truncation)
        return self.images(self._repeated(w), maps)[:, :, None]

    # fitting

    def groups(self) -> dict[str, list[nn.Module]]:
        return {"generator": [self.generator], "discriminator": [self.critic]}

    def _noise(self, n: int, size: int, step: Step) -> Tensor:
        at = step.generator.device
        return rows(n, lambda m: torch.randn(m, size, generator=step.generator, device=at)).to(step.device)

    def _training_styles(self, n: int, cond: Conditions, step: Step, follow: bool) -> Tensor:
        """Mixed styles (n, L, w_dim); follow: let the mean style follow them."""
        z = self._noise(n, self.options.z_dim, step)
        first = self.styles(z, cond)
        if follow:
            with torch.no_grad():
                self.w_mean.lerp_(mean(first.detach().float().mean(0)), 1.0 - self.options.w_average)
        if self.options.style_mixing == 0:
            return self._repeated(first)
        second = self.styles(self._noise(n, self.options.z_dim, step), cond)
        w = self._repeated(first)
        return mix_styles(w, self._repeated(second), self.options.style_mixing, step.generator)

    def _seen(self, x: Tensor, cond: Conditions, step: Step) -> Tensor:
        """Logits of images under augmentation."""
        o = self.options.augment
        with float32_island(x.device):
            x = augment(x.float(), float(self.augmentation.p), o.kinds, step.generator)
        return self.critic(x, cond)

    def _path_penalty(self, n: int, cond: Conditions, step: Step) -> Tensor:
        """The path-length penalty of a smaller batch, in float32."""
        o = self.options
        few = lambda n: max(1, n // o.path_length_shrink)
        with float32_island(step.device), head(n, few) as (n, factor):
            w = self._training_styles(n, cond.take(slice(0, n)), step, follow=False)
            images = self.images(w, self._noise(n, self.noise_dim, step))
            direction = self._noise(n, images[0].numel(), step).view_as(images)
            lengths = path_lengths(images, w, direction)
            return factor * path_length_penalty(lengths, self.path_mean, o.path_length_decay)

    def training_step(self, batch: Batch, step: Step) -> Iterator[GroupLoss]:
        o, real, n = self.options, batch.x[:, :, 0].float(), len(batch)
        cond = of_batch(self.specs, batch, o.drop_condition, step.generator)
        w = self._training_styles(n, cond, step, follow=True)
        fake = self.images(w, self._noise(n, self.noise_dim, step))
        losses = {"adversarial": generator_loss(self._seen(fake, cond, step))}
        logs: dict[str, Tensor] = {}
        if o.path_length and due(step.index, o.path_length_every):
            penalty = self._path_penalty(n, cond, step)
            losses["path_length"] = o.path_length * o.path_length_every * penalty
            logs["path_length_mean"] = self.path_mean.clone()
        yield GroupLoss("generator", losses, logs)

        fake_logits = self._seen(fake.detach(), cond, step)
        penalized = self.gamma > 0 and due(step.index, o.r1_every)
        if penalized:
            with float32_island(step.device):
                real = real.detach().requires_grad_(True)
                real_logits = self._seen(real, cond, step)
                penalty = r1(real_logits, real)
        else:
            real_logits = self._seen(real, cond, step)
        losses = {"adversarial": discriminator_loss(real_logits, fake_logits)}
        if penalized:
            losses["r1"] = self.gamma * o.r1_every * penalty
        self.augmentation.observe(real_logits)
        logs = {
            "real_logit": real_logits.mean(),
            "fake_logit": fake_logits.mean(),
            "real_sign": real_logits.sign().mean(),
            "ada_p": self.augmentation.p.clone(),
        }
        yield GroupLoss("discriminator", losses, logs)

    @torch.no_grad()
    def updated(self, group: str, step: Step) -> None:
        if group == "discriminator" and (step.index + 1) % self.options.augment.every == 0:
            self.augmentation.adapt()

    @torch.no_grad()
    def validation_step(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        """Logits without augmentation: of volumes the discriminator never saw, and of samples for them."""
        cond = of_batch(self.specs, batch, 0.0, None)
        shape = self.noise_shape(len(batch))
        noise = torch.randn(shape, generator=step.generator, device=step.generator.device).to(step.device)
        real = self.critic(batch.x[:, :, 0].float(), cond)
        fake = self.critic(self.draw(noise, cond)[:, :, 0], cond)
        return {
            "real_logit": real.mean(),
            "fake_logit": fake.mean(),
            "real_sign": real.sign().mean(),
            "loss": discriminator_loss(real, fake),
            "ada_p": self.augmentation.p.clone(),
        }

    def notes(self) -> list[str]:
        o = self.options
        return [] if o.fit.ema else ["fit.ema = 0: samples of a GAN are usually drawn from averaged weights"]


def build(options: Stylegan2Ada, context: PriorContext) -> Stylegan2Prior:
    """The prior of `options` for latents of `context.shape`; works on the meta device.

    Raises: RecipeError for volumes more than one slice deep, sizes that cannot be halved, masks as conditions.
    """
    return Stylegan2Prior(options, context)
