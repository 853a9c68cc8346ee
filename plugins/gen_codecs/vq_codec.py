"""The vector-quantized codecs: VQ-VAE, and VQ-GAN with slice and volume discriminators.

Shape legend: x (B, C, D, H, W) in [-1, 1]; e, z (B, c, d, h, w): encoder output, and the same in prior space.
Source: van den Oord et al. 2017 (VQ-VAE); Esser et al. 2021 (VQ-GAN); Khader et al. 2023 (3-D layout).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen_codecs.blocks import Conv3d
from gen_codecs.codebook import Codebook, perplexity
from gen_codecs.critics import Critics
from gen_codecs.discriminators import as_image, random_slices
from gen_codecs.encoder_decoder import Decoder, Encoder
from gen_codecs.latent_scaling import ChannelMoments
from gen_codecs.perceptual import Lpips, load_lpips, notes_on_lpips
from gen_codecs.tiled_codec import TiledCodec
from gen_codecs.vq_options import Vqgan, VqNetwork, Vqvae
from gen_core.batch import Batch
from gen_core.codec import CodecContext, LatentSpec
from gen_core.engine.precision import float32_island
from gen_core.errors import RecipeError
from gen_core.share import whole
from gen_core.trainable import GroupLoss, Step


def _vectors(e: Tensor) -> Tensor:
    """(B, c, d, h, w) -> (B d h w, c) float32."""
    return e.movedim(1, -1).reshape(-1, e.shape[1]).float()


class VqCodec(TiledCodec):
    """Encoder, codebook, decoder; `vqgan` adds discriminators."""

    parallel = True

    def __init__(self, options: VqNetwork, spec: Any):
        super().__init__()
        if options.losses.bands and len(options.losses.bands) != spec.size[0]:
            raise RecipeError(
                f"[codec] losses.bands has {len(options.losses.bands)} weights, volumes have {spec.size[0]} slices"
            )
        if options.losses.bands and options.fit.crop and options.fit.crop[0]:
            raise RecipeError("[codec.fit] crop: losses.bands goes by slice, so the depth must stay whole (0)")
        self.options, self.spec = options, spec
        channels = len(spec.channels)
        self.encoder = Encoder(channels, options)
        self.to_latent = Conv3d(self.encoder.channels, options.latent_channels, (1, 1, 1))
        self.decoder = Decoder(channels, options)
        self.codebook = Codebook(options.codes, options.latent_channels, options.codebook)
        bounds = (-1.0, 1.0) if options.latent_scaling == "codebook-minmax" else None
        self.latent = LatentSpec(options.latent_channels, tuple(options.stride), bounds, options.codes)
        self.grid_stride = self.latent.stride
        self.register_buffer("shift", torch.zeros(1, options.latent_channels, 1, 1, 1))
        self.register_buffer("scale", torch.ones(1, options.latent_channels, 1, 1, 1))
        critic = options.discriminator if isinstance(options, Vqgan) else None
        self.critics = Critics(channels, options.losses, critic)
        # in a tuple: no submodule, so never trained nor stored with the codec; read when training first needs it
        self._lpips: tuple[Lpips, ...] = ()

    # coding

    def encoder_maps(self, x: Tensor) -> Tensor:
        """The encoder's last maps (B, C', d, h, w) float32, before the projection to latents."""
        return self._maps(x).float()

    def _e(self, x: Tensor) -> Tensor:
        return self.to_latent(self._maps(x)).float()

    def encode(self, x: Tensor) -> Tensor:
        return (self._e(x) - self.shift) / self.scale

    def _quantize(self, e: Tensor) -> tuple[Tensor, Tensor]:
        idx = self.codebook.lookup(_vectors(e))
        shape = (e.shape[0], *e.shape[2:])
        return self._codes(idx.view(shape)), idx.view(shape)

    def _codes(self, idx: Tensor) -> Tensor:
        return F.embedding(idx, self.codebook.codebook).permute(0, 4, 1, 2, 3).contiguous()

    def decode(self, z: Tensor) -> Tensor:
        e = z.float() * self.scale + self.shift
        if self.options.requantize:
            e = self._quantize(e)[0]
        return self._volume(e)

    def encode_tokens(self, x: Tensor) -> Tensor:
        return self._quantize(self._e(x))[1]

    def decode_tokens(self, idx: Tensor) -> Tensor:
        return self._volume(self._codes(idx))

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Batch]) -> dict[str, float]:
        moments = ChannelMoments()
        used = torch.zeros(self.codebook.codes, dtype=torch.bool, device=self.shift.device)
        for batch in batches:
            e = self._e(batch.x)
            used[self._quantize(e)[1].unique()] = True
            moments.add(e)
        if self.options.latent_scaling == "per-channel":
            self.shift.copy_(moments.mean.view_as(self.shift))
            self.scale.copy_(moments.sd.view_as(self.scale))
        else:
            codes = self.codebook.codebook[used] if bool(used.any()) else self.codebook.codebook
            low, high = float(codes.min()), float(codes.max())
            self.shift.fill_((low + high) / 2)
            self.scale.fill_(max((high - low) / 2, 1e-6))
        return {"codes_used": int(used.sum()), "scale_mean": float(self.scale.mean())}

    # fitting

    def groups(self) -> dict[str, list[nn.Module]]:
        found: dict[str, list[nn.Module]] = {"generator": [self.encoder, self.to_latent, self.decoder]}
        if self.critics:
            found["discriminator"] = [self.critics]
        return found

    def _reconstruction(self, x: Tensor, x_hat: Tensor) -> dict[str, Tensor]:
        """The weighted terms that need no discriminator."""
        o = self.options.losses
        distance = F.l1_loss(x_hat, x, reduction="none")
        if o.smooth:
            distance = F.smooth_l1_loss(x_hat, x, beta=o.smooth, reduction="none")
        if o.bands:
            weights = torch.tensor(o.bands, device=x.device)
            distance = distance * (weights / weights.mean())[:, None, None]
        losses = {"l1": o.l1 * distance.mean()}
        if o.gradient:
            down, right = (lambda t: t[..., 1:, :] - t[..., :-1, :]), (lambda t: t[..., 1:] - t[..., :-1])
            losses["gradient"] = o.gradient * sum(F.l1_loss(d(x_hat), d(x)) for d in (down, right))
        return losses

    def _perceptual(self, x: Tensor, x_hat: Tensor, at: Tensor) -> Tensor:
        """LPIPS of one image a volume: three slices as RGB, the mean over channels."""
        o = self.options.losses
        if not self._lpips:
            self._lpips = (load_lpips(o.lpips_weights, o.lpips_sha256).to(x.device),)
        image = lambda t: as_image(t.mean(1, keepdim=True), at)[:, :, 0]
        return o.lpips * self._lpips[0](image(x_hat), image(x))

    def notes(self) -> list[str]:
        """What a user should know of these settings before and after fitting."""
        return notes_on_lpips(self.options.losses)

    def training_step(self, batch: Batch, step: Step) -> Iterator[GroupLoss]:
        o, x = self.options, batch.x
        e = self._e(x)
        v = whole(_vectors(e.detach()))  # of all processes: each keeps the whole codebook
        with float32_island(x.device):
            if not bool(self.codebook.initialized):
                self.codebook.start(v, step.generator)
            z_q, idx = self._quantize(e)
            commitment = F.mse_loss(e, z_q)
            used = whole(idx.reshape(-1))
            self.codebook.observe(v, used, step.micro == 0, step.index)
        x_hat = self._decoded(e + (z_q - e).detach())  # straight through
        losses = self._reconstruction(x, x_hat)
        at = random_slices(x, 3, step.generator)
        if o.losses.lpips and o.losses.lpips_weights:
            losses["lpips"] = self._perceptual(x, x_hat, at)
        playing = bool(self.critics) and step.index >= o.discriminator.start
        logs = {"quantization": commitment.detach(), "perplexity": perplexity(used, o.codes)}
        logs["code_use"] = self.codebook.use(step.index)
        if playing:
            terms, said = self.critics.for_generator(
                x, x_hat, at, sum(losses.values(), torch.zeros_like(commitment)), self.decoder.last_weight
            )
            losses, logs = losses | terms, logs | said
        losses["commitment"] = o.losses.commitment * commitment
        yield GroupLoss("generator", losses, logs)
        if playing:
            yield self.critics.for_discriminator(x, x_hat, at)

    @torch.no_grad()
    def updated(self, group: str, step: Step) -> None:
        if group == "generator":
            self.codebook.step(step.generator)

    @torch.no_grad()
    def epoch_started(self, epoch: int, step: Step) -> dict[str, float]:
        """K-means reset of the codebook, where one is due."""
        o = self.options.codebook
        if step.index == 0:
            self.codebook.forget()  # what another fit left, when this one starts from its weights
        if not o.kmeans_every or epoch == 0 or epoch % o.kmeans_every or step.index > o.kmeans_until * step.total:
            return {}
        return {"kmeans_reset": float(self.codebook.reset(step.generator))}

    @torch.no_grad()
    def validation_step(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        e = self._e(batch.x)
        z_q, idx = self._quantize(e)
        x_hat = self._volume(z_q)
        mse = (x_hat - batch.x).square().mean((1, 2, 3, 4))
        return {
            "l1": (x_hat - batch.x).abs().mean(),
            "psnr": (10 * torch.log10(4 / mse.clamp_min(1e-12))).mean(),
            "perplexity": perplexity(idx.reshape(-1), self.options.codes),
            "quantization": F.mse_loss(e, z_q),
        }

    def checkpoint_activations(self, on: bool) -> None:
        self.encoder.recompute = self.decoder.recompute = on


def build_vqvae(options: Vqvae, context: CodecContext) -> VqCodec:
    return VqCodec(options, context.spec)


def build_vqgan(options: Vqgan, context: CodecContext) -> VqCodec:
    return VqCodec(options, context.spec)
