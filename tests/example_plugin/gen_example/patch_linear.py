"""A linear autoencoder of patches: what principal components would find, found by gradient descent."""

from __future__ import annotations

import torch
from einops import rearrange
from gen_core.codec import Codec, CodecContext, LatentSpec
from gen_core.trainable import GroupLoss
from torch import nn

from gen_example.options import PatchLinear


class PatchLinearCodec(Codec):
    """z = (W patch - mean) / sd, and back."""

    def __init__(self, options: PatchLinear, context: CodecContext):
        super().__init__()
        self.spec, self.stride = context.spec, options.stride
        self.latent = LatentSpec(options.channels, options.stride)
        patch = len(self.spec.channels) * self.stride[0] * self.stride[1] * self.stride[2]
        self.down, self.up = nn.Linear(patch, options.channels), nn.Linear(options.channels, patch)
        self.register_buffer("mean", torch.zeros(options.channels))
        self.register_buffer("sd", torch.ones(options.channels))

    def patches(self, x):
        d, h, w = self.stride
        return rearrange(x, "b c (D d) (H h) (W w) -> b D H W (c d h w)", d=d, h=h, w=w)

    def volume(self, patches):
        d, h, w = self.stride
        return rearrange(patches, "b D H W (c d h w) -> b c (D d) (H h) (W w)", d=d, h=h, w=w)

    def encode(self, x):
        z = (self.down(self.patches(x)) - self.mean) / self.sd
        return rearrange(z, "b D H W c -> b c D H W")

    def decode(self, z):
        z = rearrange(z, "b c D H W -> b D H W c") * self.sd + self.mean
        return self.volume(self.up(z)).clamp(-1, 1)

    @torch.no_grad()
    def calibrate(self, batches):
        z = torch.cat([self.down(self.patches(b.x)).flatten(0, 3) for b in batches])
        self.mean.copy_(z.mean(0))
        self.sd.copy_(z.std(0).clamp_min(1e-6))
        return {"sd": self.sd.mean().item()}

    def training_step(self, batch, step):
        error = self.volume(self.up(self.down(self.patches(batch.x)))) - batch.x
        yield GroupLoss("main", {"mse": error.square().mean()})

    @torch.no_grad()
    def validation_step(self, batch, step):
        return {"mae": (self.decode(self.encode(batch.x)) - batch.x).abs().mean()}
