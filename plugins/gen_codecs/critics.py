"""The discriminators of a codec and what they add to its losses; shared by the VQ-GAN and the KL autoencoder.

Source: Isola et al. 2017 (PatchGAN); Khader et al. 2023 (slices and volumes side by side); Esser et al. 2021, eq. 7.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gen_codecs.adversarial_losses import (
    adaptive_weight,
    feature_matching,
    hinge_discriminator,
    hinge_generator,
    least_squares_discriminator,
    least_squares_generator,
)
from gen_codecs.discriminators import PatchDiscriminator, as_image
from gen_codecs.vq_options import DiscriminatorOptions
from gen_core.trainable import GroupLoss

KINDS = {
    "hinge": (hinge_discriminator, hinge_generator),
    "least-squares": (least_squares_discriminator, least_squares_generator),
}


class Critics(nn.ModuleDict):
    """Up to two discriminators: "slices" sees three slices as one image, "volume" the whole; none is fine.

    losses: options with the weights gan_2d, gan_3d (0 leaves a discriminator out), feature_matching, and `adaptive`.
    kind: "hinge" or "least-squares".
    """

    def __init__(self, channels: int, losses: Any, options: DiscriminatorOptions | None, kind: str = "hinge"):
        super().__init__()
        self.losses, self.kind = losses, kind
        if options and losses.gan_2d:
            self["slices"] = PatchDiscriminator(3 * channels, options, flat=True)
        if options and losses.gan_3d:
            self["volume"] = PatchDiscriminator(channels, options, flat=False)

    def _views(self, x: Tensor, at: Tensor) -> dict[str, Tensor]:
        """What each discriminator sees of a batch."""
        return {name: as_image(x, at) if name == "slices" else x for name in self}

    def for_generator(
        self, x: Tensor, x_hat: Tensor, at: Tensor, reconstruction: Tensor, last: nn.Parameter
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The generator's weighted GAN and feature-matching terms, and what to log.

        at: (B, 3) the slices to look at. With `adaptive` the terms are scaled against the gradient of `reconstruction`
        (the sum of the other losses) at `last`, the weight that makes the voxels.
        """
        o, losses, logs = self.losses, {}, {}
        real, fake = self._views(x, at), self._views(x_hat, at)
        for name, critic in self.items():
            with torch.no_grad():
                maps = critic(real[name])
            seen = critic(fake[name])
            weight = o.gan_2d if name == "slices" else o.gan_3d
            losses[f"gan_{name}"] = weight * KINDS[self.kind][1](seen[-1].float())
            if o.feature_matching:
                losses[f"matching_{name}"] = o.feature_matching * weight * feature_matching(maps, seen).float()
        if o.adaptive:
            factor = adaptive_weight(reconstruction, sum(losses.values(), torch.zeros_like(reconstruction)), last)
            losses = {k: factor * t for k, t in losses.items()}
            logs["adaptive_weight"] = factor
        return losses, logs

    def for_discriminator(self, x: Tensor, x_hat: Tensor, at: Tensor) -> GroupLoss:
        """What the discriminators minimize; x_hat is detached here."""
        losses, logs = {}, {}
        real, fake = self._views(x, at), self._views(x_hat.detach(), at)
        name_of_loss = "hinge" if self.kind == "hinge" else "square"
        for name, critic in self.items():
            d_real, d_fake = critic(real[name])[-1].float(), critic(fake[name])[-1].float()
            losses[f"{name_of_loss}_{name}"] = KINDS[self.kind][0](d_real, d_fake)
            logs |= {f"real_{name}": d_real.detach().mean(), f"fake_{name}": d_fake.detach().mean()}
        return GroupLoss("discriminator", losses, logs)
