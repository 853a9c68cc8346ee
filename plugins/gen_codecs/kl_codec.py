"""The KL autoencoder: a posterior of every latent value, its mean as what priors learn.

Shape legend: x (B, C, D, H, W) in [-1, 1]; mean, log_variance (B, c, d, h, w) of the posterior; z: the mean in prior
space.
Source: Kingma & Welling 2014; Rombach et al. 2022; Pinaya et al. 2022 (3-D). Where we depart: the latent is scaled per
channel over the whole training set (theirs by the spread of one batch), and it is the mean, not a draw.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen_codecs.critics import Critics
from gen_codecs.discriminators import random_slices
from gen_codecs.kl_network import KlDecoder, KlEncoder, kl_to_standard_normal, reparametrized
from gen_codecs.kl_options import AutoencoderKl
from gen_codecs.latent_scaling import ChannelMoments
from gen_codecs.perceptual import Lpips, load_lpips, notes_on_lpips, three_axis_distance
from gen_codecs.tiled_codec import TiledCodec
from gen_core.batch import Batch
from gen_core.codec import CodecContext, LatentSpec
from gen_core.engine.precision import float32_island
from gen_core.trainable import GroupLoss, Step
from gen_core.volume import VolumeSpec


class KlCodec(TiledCodec):
    """Encoder to mean and log-variance, decoder, and discriminators where their weights are not 0."""

    parallel = True

    def __init__(self, options: AutoencoderKl, spec: VolumeSpec):
        super().__init__()
        self.options, self.spec = options, spec
        channels = len(spec.channels)
        self.encoder, self.decoder = KlEncoder(channels, options), KlDecoder(channels, options)
        self.latent = LatentSpec(options.latent_channels, options.stride)
        self.grid_stride = self.latent.stride
        self.register_buffer("shift", torch.zeros(1, options.latent_channels, 1, 1, 1))
        self.register_buffer("scale", torch.ones(1, options.latent_channels, 1, 1, 1))
        self.critics = Critics(channels, options.losses, options.discriminator, options.losses.gan)
        # in a tuple: no submodule, so never trained nor stored with the codec; read when training first needs it
        self._lpips: tuple[Lpips, ...] = ()

    # coding

    def encoder_maps(self, x: Tensor) -> Tensor:
        """The encoder's last maps (B, C', d, h, w) float32, before the projection to latents."""
        return self._maps(x).float()

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance before scaling, float32."""
        return self.encoder.moments(self._maps(x))

    def encode(self, x: Tensor) -> Tensor:
        return (self.posterior(x)[0] - self.shift) / self.scale

    def decode(self, z: Tensor) -> Tensor:
        return self._volume(z.float() * self.scale + self.shift)

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Batch]) -> dict[str, float]:
        moments, spread = ChannelMoments(), ChannelMoments()
        for batch in batches:
            mean, log_variance = self.posterior(batch.x)
            moments.add(mean)
            spread.add((0.5 * log_variance).exp())
        self.shift.copy_(moments.mean.view_as(self.shift))
        self.scale.copy_(moments.sd.view_as(self.scale))
        # how wide posteriors are beside the spread of their means: 1 means a channel that says nothing
        noise = (spread.mean / moments.sd).max()
        return {"scale_mean": float(self.scale.mean()), "largest_noise": float(noise)}

    # fitting

    def groups(self) -> dict[str, list[nn.Module]]:
        found: dict[str, list[nn.Module]] = {"generator": [self.encoder, self.decoder]}
        if self.critics:
            found["discriminator"] = [self.critics]
        return found

    def notes(self) -> list[str]:
        return notes_on_lpips(self.options.losses)

    def _perceptual(self, x: Tensor, x_hat: Tensor, generator: torch.Generator) -> Tensor:
        o = self.options.losses
        if not self._lpips:
            self._lpips = (load_lpips(o.lpips_weights, o.lpips_sha256).to(x.device),)
        return three_axis_distance(self._lpips[0], x_hat, x, o.lpips_share, generator)

    def training_step(self, batch: Batch, step: Step) -> Iterator[GroupLoss]:
        o, x = self.options, batch.x
        mean, log_variance = self.posterior(x)
        with float32_island(x.device):
            nats = kl_to_standard_normal(mean, log_variance).mean()
            z = reparametrized(mean, log_variance, step.generator)
        x_hat = self._decoded(z)
        losses = {"l1": o.losses.l1 * F.l1_loss(x_hat, x)}
        if o.losses.lpips and o.losses.lpips_weights:
            losses["lpips"] = o.losses.lpips * self._perceptual(x, x_hat, step.generator)
        at = random_slices(x, 3, step.generator)
        logs = {"kl_nats": nats.detach(), "posterior_sd": (0.5 * log_variance.detach()).exp().mean()}
        playing = bool(self.critics) and step.index >= o.discriminator.start
        if playing:
            terms, said = self.critics.for_generator(
                x, x_hat, at, sum(losses.values(), torch.zeros_like(nats)), self.decoder.last_weight
            )
            losses, logs = losses | terms, logs | said
        losses["kl"] = o.losses.kl * nats
        yield GroupLoss("generator", losses, logs)
        if playing:
            yield self.critics.for_discriminator(x, x_hat, at)

    @torch.no_grad()
    def validation_step(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        mean, log_variance = self.posterior(batch.x)
        x_hat = self._volume(mean)
        mse = (x_hat - batch.x).square().mean((1, 2, 3, 4))
        return {
            "l1": (x_hat - batch.x).abs().mean(),
            "psnr": (10 * torch.log10(4 / mse.clamp_min(1e-12))).mean(),
            "kl_nats": kl_to_standard_normal(mean, log_variance).mean(),
        }

    @torch.no_grad()
    def terms(self, x: Tensor, x_hat: Tensor) -> dict[str, Tensor]:
        """kl: nats of the posterior against N(0, 1), summed over the latent; perceptual: where it has weights."""
        found = {"kl": kl_to_standard_normal(*self.posterior(x))}
        o = self.options.losses
        if o.lpips_weights:
            g = lambda: torch.Generator(x.device).manual_seed(0)
            each = [self._perceptual(a[None], b[None], g()) for a, b in zip(x, x_hat)]
            found["perceptual"] = torch.stack(each).reshape(-1)
        return found

    def checkpoint_activations(self, on: bool) -> None:
        self.encoder.recompute = self.decoder.recompute = on


def build(options: AutoencoderKl, context: CodecContext) -> KlCodec:
    return KlCodec(options, context.spec)
