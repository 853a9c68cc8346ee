"""The variational autoencoder: a vector (or a few small maps) with a standard normal prior, decoded to a volume.

Shape legend: x (B, C, D, H, W) in [-1, 1]; mean, log_variance (B, c, d, h, w) of the posterior, d = h = w = 1 where the
latent is flat; z: the mean in prior space.
Source: Kingma & Welling 2014, eq. 10, with a Gaussian likelihood of variance 1/2 in units of [-1, 1], so that its log
is the summed squared error; beta: Higgins et al. 2017, eq. 4; free bits: Kingma et al. 2016, eq. 15.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs
import torch
from torch import Tensor, nn

from gen_codecs.blocks import Conv3d
from gen_codecs.encoder_decoder import Decoder, Encoder
from gen_codecs.kl_network import LOG_VARIANCE, kl_to_standard_normal, reparametrized
from gen_codecs.latent_scaling import ChannelMoments
from gen_codecs.tiled_codec import TiledCodec
from gen_codecs.vae_options import Vae
from gen_core import share
from gen_core.batch import Batch
from gen_core.codec import CodecContext, LatentSpec
from gen_core.engine.precision import float32_island
from gen_core.trainable import GroupLoss, Step
from gen_core.volume import VolumeSpec

ACTIVE = 0.01  # variance of a channel's means above which it says something (Burda et al. 2016, section 5.2)


class VaeCodec(TiledCodec):
    """Encoder to mean and log-variance, decoder of a draw."""

    parallel = True

    def __init__(self, options: Vae, spec: VolumeSpec):
        super().__init__()
        o, channels, self.spec = options, len(spec.channels), spec
        self.options = options
        self.grid = LatentSpec(o.latent_channels, o.stride).shape(spec.size)[1:]  # of the encoder's last maps
        self.encoder = Encoder(channels, o)  # type: ignore[arg-type]
        maps = self.encoder.channels
        if o.latent == "flat":
            self.latent = LatentSpec(o.latent_channels, spec.size)  # one cell holds the whole volume
            voxels = maps * self.grid[0] * self.grid[1] * self.grid[2]
            self.moments: nn.Module = nn.Linear(voxels, 2 * o.latent_channels)
            self.unfold: nn.Module = nn.Linear(o.latent_channels, voxels)
        else:
            self.latent = LatentSpec(o.latent_channels, o.stride)
            self.moments = Conv3d(maps, 2 * o.latent_channels, (1, 1, 1))
            self.unfold = Conv3d(o.latent_channels, maps, (1, 1, 1))
        self.decoder = Decoder(channels, attrs.evolve(o, latent_channels=maps))  # type: ignore[arg-type]
        self.grid_stride = o.stride
        self.register_buffer("shift", torch.zeros(1, o.latent_channels, 1, 1, 1))
        self.register_buffer("scale", torch.ones(1, o.latent_channels, 1, 1, 1))

    # coding

    def encoder_maps(self, x: Tensor) -> Tensor:
        """The encoder's last maps (B, C', d, h, w) float32, before the projection to latents."""
        return self._maps(x).float()

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance before scaling, (B, c, d, h, w) float32."""
        h = self._maps(x)
        if self.options.latent == "flat":
            both = self.moments(h.flatten(1))[..., None, None, None]
        else:
            both = self.moments(h)
        mean, log_variance = both.float().chunk(2, dim=1)
        return mean, log_variance.clamp(*LOG_VARIANCE)

    def _unfolded(self, z: Tensor) -> Tensor:
        """The maps that the decoder starts from."""
        flat = self.options.latent == "flat"
        return self.unfold(z.flatten(1)).unflatten(1, (-1, *self.grid)) if flat else self.unfold(z)

    def encode(self, x: Tensor) -> Tensor:
        return (self.posterior(x)[0] - self.shift) / self.scale

    def decode(self, z: Tensor) -> Tensor:
        return self._volume(self._unfolded(z.float() * self.scale + self.shift))

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """See Codec. The posteriors together have the variance of their means plus the mean of their variances."""
        means, variances = ChannelMoments(), ChannelMoments()
        for batch in batches:
            mean, log_variance = self.posterior(batch.x)
            means.add(mean)
            variances.add(log_variance.exp())
        spread = (means.sd.square() + variances.mean).sqrt()
        how = self.options.latent_scaling
        if how != "none":
            self.shift.copy_(means.mean.view_as(self.shift))
            self.scale.copy_((means.sd if how == "mean" else spread).view_as(self.scale))
        active = (means.sd.square() > ACTIVE).double().mean()
        return {
            "scale_mean": float(self.scale.mean()),
            "posterior_spread": float(spread.mean()),  # 1 where the posteriors together match the prior
            "active_share": float(active),  # of the channels
        }

    # fitting

    def _beta(self, step: Step) -> float:
        o = self.options.losses
        return o.beta * min(1.0, (step.index + 1) / o.warmup) if o.warmup else o.beta

    def training_step(self, batch: Batch, step: Step) -> Iterator[GroupLoss]:
        x = batch.x
        mean, log_variance = self.posterior(x)
        with float32_island(x.device):
            z = reparametrized(mean, log_variance, step.generator)
            channels = kl_by_channel(mean, log_variance)
        x_hat = self._decoded(self._unfolded(z))
        with float32_island(x.device):
            squares = (x_hat - x.float()).square().flatten(1).sum(1).mean()
            kl = charged(channels, self.options.losses.free_bits).sum()
        losses = {"squared_error": squares, "kl": self._beta(step) * kl}
        kept = {"kl_nats": channels.detach().sum(), "posterior_sd": (0.5 * log_variance.detach()).exp().mean()}
        yield GroupLoss("main", losses, kept)

    @torch.no_grad()
    def validation_step(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        mean, log_variance = self.posterior(batch.x)
        error = (self._volume(self._unfolded(mean)) - batch.x).square()
        mse, kl = error.mean((1, 2, 3, 4)), kl_to_standard_normal(mean, log_variance)
        return {
            "loss": (error.flatten(1).sum(1) + self.options.losses.beta * kl).mean(),
            "psnr": (10 * torch.log10(4 / mse.clamp_min(1e-12))).mean(),
            "kl_nats": kl.mean(),
        }

    @torch.no_grad()
    def terms(self, x: Tensor, x_hat: Tensor) -> dict[str, Tensor]:
        """kl: nats of the posterior against N(0, 1), summed over the latent; squared_error: summed over voxels."""
        squares = (x_hat.float() - x.float()).square().flatten(1).sum(1)
        return {"kl": kl_to_standard_normal(*self.posterior(x)), "squared_error": squares}

    def checkpoint_activations(self, on: bool) -> None:
        self.encoder.recompute = self.decoder.recompute = on


def kl_by_channel(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, sigma^2) || N(0, 1)) in nats of each latent channel, (c,): sum over its voxels, mean over the batch.

    Free bits hold for these groups: each is charged for its nats, or for `free_bits` if it has fewer.
    Source: Kingma & Welling 2014, appendix B; Kingma et al. 2016, eq. 15 (the mean is that of the micro-batch).
    """
    terms = mean.square() + log_variance.exp() - log_variance - 1
    return 0.5 * terms.flatten(2).sum(2).mean(0)


def charged(channels: Tensor, free_bits: float) -> Tensor:
    """The nats of each channel, or `free_bits` where the mean over the whole micro-batch has fewer."""
    return torch.where(share.mean(channels.detach()) >= free_bits, channels, free_bits)


def build(options: Vae, context: CodecContext) -> VaeCodec:
    return VaeCodec(options, context.spec)
