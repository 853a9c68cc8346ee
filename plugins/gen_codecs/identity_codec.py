"""The codec that leaves volumes as they are: a prior on voxels."""

from __future__ import annotations

from torch import Tensor

from gen_codecs.identity import IdentityOptions
from gen_core.codec import Codec, CodecContext, LatentSpec


class Identity(Codec):
    """z = x."""

    fitted = False

    def __init__(self, context: CodecContext):
        super().__init__()
        self.spec = context.spec
        self.latent = LatentSpec(len(context.spec.channels), (1, 1, 1), (-1.0, 1.0))

    def encode(self, x: Tensor) -> Tensor:
        return x

    def decode(self, z: Tensor) -> Tensor:
        return z.clamp(-1, 1)


def build(options: IdentityOptions, context: CodecContext) -> Identity:
    """The identity on volumes of the context's spec."""
    return Identity(context)
