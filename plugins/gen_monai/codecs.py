"""MONAI's autoencoders as codecs: their networks and names of weights, our latents, scaling and training contract.

Training is plain: L1 with the KL divergence, or with VQ's own commitment loss. Perceptual and adversarial terms
belong to the codecs of gen.

Shape legend: x (B, C, D, H, W) in [-1, 1]; e (B, c, d, h, w): what the network makes of it; z: e in prior space.
Source: Pinaya et al. 2022 (AutoencoderKL); Tudosiu et al. 2022 (VQVAE); Guo et al. 2024 (MAISI).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen_core.batch import Batch
from gen_core.codec import Codec, CodecContext, LatentSpec
from gen_core.engine.precision import float32_island
from gen_core.errors import MissingError, RecipeError
from gen_core.foreign_weights import fill, read_state
from gen_core.trainable import GroupLoss, Step
from gen_core.volume import VolumeSpec
from gen_monai.codec_options import MaisiAutoencoder, MonaiAutoencoderKl, MonaiVqvae
from gen_monai.networks import autoencoder_kl, maisi_autoencoder, modern_names, vqvae


class MonaiCodec(Codec):
    """What the codecs share: handing over volumes in the network's conventions, and scaling its latents."""

    def __init__(self, options: Any, spec: VolumeSpec, network: nn.Module, stride: int, tokens: int | None = None):
        super().__init__()
        if options.flat and spec.size[0] != 1:
            raise RecipeError(f"[codec] flat = true is for images; volumes have {spec.size[0]} slices")
        self.options, self.spec, self.network = options, spec, network
        self.latent = LatentSpec(
            options.latent_channels, (1 if options.flat else stride, stride, stride), tokens=tokens
        )
        self.register_buffer("shift", torch.zeros(1, options.latent_channels, 1, 1, 1))
        self.register_buffer("scale", torch.ones(1, options.latent_channels, 1, 1, 1))

    # conventions

    def _theirs(self, t: Tensor) -> Tensor:
        """(B, C, D, H, W) with the axes that the network wants."""
        t = t[:, :, 0] if self.options.flat else t
        return t.transpose(2, -1).flip(2, 3).contiguous() if self.options.orientation == "ras" else t

    def _ours(self, t: Tensor) -> Tensor:
        """The inverse of `_theirs`, in float32; of indices (B, 1, ...) too."""
        t = t.flip(2, 3).transpose(2, -1) if self.options.orientation == "ras" else t
        return t[:, :, None] if self.options.flat else t

    def _input(self, x: Tensor) -> Tensor:
        d, h, w = (-n % s for n, s in zip(x.shape[2:], self.latent.stride))
        x = self._theirs(F.pad(x, (0, w, 0, h, 0, d), mode="replicate"))
        return (x + 1) / 2 if self.options.intensities == "unit" else x

    def _reconstructed(self, e: Tensor) -> Tensor:
        """e -> x_hat in [-1, 1] or somewhat beyond, float32."""
        y = self._ours(self.network.decode(self._theirs(e))).float()
        d, h, w = self.spec.size
        y = y[:, :, :d, :h, :w]
        return 2 * y - 1 if self.options.intensities == "unit" else y

    # coding

    @abstractmethod
    def _e(self, x: Tensor) -> Tensor:
        """What is scaled to prior space, float32: no draw, no state."""

    def encode(self, x: Tensor) -> Tensor:
        return (self._e(x) - self.shift) / self.scale

    def decode(self, z: Tensor) -> Tensor:
        return self._reconstructed(z.float() * self.scale + self.shift).clamp(-1, 1)

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Batch]) -> dict[str, float]:
        n, total, squares = 0, 0.0, 0.0
        for batch in batches:
            e = self._e(batch.x).double()
            n += e.numel() // e.shape[1]
            total = total + e.sum((0, 2, 3, 4))
            squares = squares + e.square().sum((0, 2, 3, 4))
        mean = total / n
        sd = (squares / n - mean.square()).clamp_min(1e-12).sqrt()
        self.shift.copy_(mean.view_as(self.shift))
        self.scale.copy_(sd.view_as(self.scale))
        return {"scale_mean": float(self.scale.mean())}

    # fitting

    def groups(self) -> dict[str, list[nn.Module]]:
        return {"generator": [self.network]}

    def notes(self) -> list[str]:
        found = ["trained by the plain losses of its network, without perceptual and adversarial terms"]
        if self.options.weights and not self.options.weights_sha256:
            found.append("weights_sha256 is not set: the weights file is taken without checking what it is")
        return found

    def _scores(self, x: Tensor, x_hat: Tensor) -> dict[str, Tensor]:
        """Validation values of a reconstruction."""
        x_hat = x_hat.clamp(-1, 1)
        mse = (x_hat - x).square().mean((1, 2, 3, 4))
        return {"l1": (x_hat - x).abs().mean(), "psnr": (10 * torch.log10(4 / mse.clamp_min(1e-12))).mean()}


class MonaiKlCodec(MonaiCodec):
    """AutoencoderKL and MAISI's: latents are posterior means (their own `encode_stage_2_inputs` draws noise)."""

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, float32."""
        mean, sigma = self.network.encode(self._input(x))
        return self._ours(mean).float(), self._ours(sigma).float()

    def _e(self, x: Tensor) -> Tensor:
        return self.posterior(x)[0]

    @staticmethod
    def _nats(mean: Tensor, sigma: Tensor) -> Tensor:
        """KL to the standard normal, summed over a sample's values, mean over the batch."""
        return 0.5 * (mean.square() + sigma.square() - 2 * sigma.log() - 1).flatten(1).sum(1).mean()

    def training_step(self, batch: Batch, step: Step) -> Iterator[GroupLoss]:
        o, x = self.options, batch.x
        mean, sigma = self.posterior(x)
        with float32_island(x.device):
            nats = self._nats(mean, sigma)
            z = mean + sigma * torch.randn(mean.shape, generator=step.generator, device=x.device)
        losses = {"l1": o.l1 * F.l1_loss(self._reconstructed(z), x), "kl": o.kl * nats}
        yield GroupLoss("generator", losses, {"kl_nats": nats.detach(), "posterior_sd": sigma.detach().mean()})

    @torch.no_grad()
    def validation_step(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        mean, sigma = self.posterior(batch.x)
        return self._scores(batch.x, self._reconstructed(mean)) | {"kl_nats": self._nats(mean, sigma)}

    def checkpoint_activations(self, on: bool) -> None:
        self.network.use_checkpoint = on


class MonaiVqCodec(MonaiCodec):
    """VQVAE: latents are encoder outputs, snapped to codes before decoding.

    MONAI moves its codes at every forward pass in training mode, encoding included. Here they move once a step, by
    MONAI's own rule, on all of the step's vectors, and never when coding. MONAI draws the first codes from a normal
    distribution, far from what a new encoder makes, and one code takes all; here they are vectors of the first batch.
    """

    def __init__(self, options: MonaiVqvae, spec: VolumeSpec, network: nn.Module):
        super().__init__(options, spec, network, options.stride, options.codes)
        self.register_buffer("started", torch.tensor(False))
        self._seen: list[Tensor] = []

    @property
    def _quantizer(self) -> Any:
        return self.network.quantizer.quantizer  # the one inside the wrapper, which keeps a perplexity

    def _e(self, x: Tensor) -> Tensor:
        return self._ours(self.network.encode(self._input(x))).float()

    def _quantize(self, e: Tensor) -> tuple[Tensor, Tensor]:
        """e -> nearest codes (B, c, d, h, w), and their indices (B, d, h, w)."""
        with float32_island(e.device):
            idx = self._quantizer.quantize(self._theirs(e))[2]
            return self._ours(self._quantizer.embed(idx)), self._ours(idx[:, None])[:, 0]

    def decode(self, z: Tensor) -> Tensor:
        e = z.float() * self.scale + self.shift
        return self._reconstructed(self._quantize(e)[0]).clamp(-1, 1)

    def encode_tokens(self, x: Tensor) -> Tensor:
        return self._quantize(self._e(x))[1].contiguous()

    def decode_tokens(self, idx: Tensor) -> Tensor:
        theirs = self._theirs(idx[:, None])[:, 0]
        return self._reconstructed(self._ours(self._quantizer.embed(theirs))).clamp(-1, 1)

    @torch.no_grad()
    def _start(self, e: Tensor, generator: torch.Generator) -> None:
        """The first codes: vectors of the first batch, blurred by a hundredth of their spread so that all differ."""
        v, quantizer = e.movedim(1, -1).flatten(0, 3), self._quantizer
        pick = torch.randperm(len(v), generator=generator, device=v.device)
        pick = pick.repeat(-(-self.options.codes // len(v)))[: self.options.codes]
        noise = torch.randn(len(pick), v.shape[1], generator=generator, device=v.device)
        codes = v[pick] + 0.01 * v.std(correction=0) * noise
        quantizer.embedding.weight.copy_(codes)
        quantizer.ema_w.copy_(codes)
        quantizer.ema_cluster_size.fill_(1.0)
        self.started.fill_(True)

    def training_step(self, batch: Batch, step: Step) -> Iterator[GroupLoss]:
        o, x = self.options, batch.x
        e = self._e(x)
        if not bool(self.started):
            self._start(e.detach(), step.generator)
        with float32_island(x.device):
            z_q, idx = self._quantize(e)
            commitment = F.mse_loss(e, z_q)
        self._seen = [*(self._seen if step.micro else []), self._theirs(e.detach())]
        x_hat = self._reconstructed(e + (z_q - e).detach())  # straight through
        share = torch.bincount(idx.flatten(), minlength=o.codes) / idx.numel()
        logs = {"quantization": commitment.detach(), "perplexity": torch.special.entr(share).sum().exp()}
        losses = {"l1": o.l1 * F.l1_loss(x_hat, x), "commitment": o.commitment * commitment}
        yield GroupLoss("generator", losses, logs)

    @torch.no_grad()
    def updated(self, group: str, step: Step) -> None:
        quantizer, vectors = self._quantizer, torch.cat(self._seen)
        self._seen = []
        was = quantizer.training
        with float32_island(vectors.device):
            quantizer.train()(vectors)
        quantizer.train(was)

    @torch.no_grad()
    def validation_step(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        e = self._e(batch.x)
        z_q, _ = self._quantize(e)
        return self._scores(batch.x, self._reconstructed(z_q)) | {"quantization": F.mse_loss(e, z_q)}

    def checkpoint_activations(self, on: bool) -> None:
        self.network.use_checkpointing = on


def _check_splits(options: MaisiAutoencoder, size: tuple[int, int, int]) -> None:
    """MAISI's slabs overlap by three voxels, and it tells strides from sizes: smaller ones give wrong results silently.

    Raises: RecipeError where the coarsest maps are too small.
    """
    first, second = (size[2], size[1]) if options.orientation == "ras" else size[:2]  # axes, as the network sees them
    first, second = -(-first // options.kl_stride), -(-second // options.kl_stride)
    if options.splits > 1 and (first % options.splits or first // options.splits < 3 or second < 2):
        raise RecipeError(
            f"[codec] splits = {options.splits} does not suit latents of {first} x {second} along the axes it cuts and "
            "the next: it must divide the first into slabs of at least 3, and the other must be at least 2"
        )


def build(options: MonaiAutoencoderKl | MaisiAutoencoder | MonaiVqvae, context: CodecContext) -> MonaiCodec:
    """The codec of these options, with the weights of their file if they name one.

    Raises: MissingError without MONAI or the file; DataError when the file does not fit; RecipeError for settings that
    do not suit the volumes.
    """
    channels = len(context.spec.channels)
    try:
        if isinstance(options, MonaiVqvae):
            codec: MonaiCodec = MonaiVqCodec(options, context.spec, vqvae(options, channels))
        elif isinstance(options, MaisiAutoencoder):
            _check_splits(options, context.spec.size)
            codec = MonaiKlCodec(options, context.spec, maisi_autoencoder(options, channels), options.kl_stride)
        else:
            codec = MonaiKlCodec(options, context.spec, autoencoder_kl(options, channels), options.kl_stride)
    except ImportError:
        raise MissingError("[codec] the networks of MONAI need it: pip install 'gen-imaging[monai]'") from None
    if options.weights:
        key = "[codec] weights"
        state = read_state(options.weights, options.weights_sha256, key, options.weights_entry)
        fill(codec.network, modern_names(state) if isinstance(options, MonaiAutoencoderKl) else state, key)
        if isinstance(codec, MonaiVqCodec):
            codec.started.fill_(True)
    return codec
