"""Features of the run's own codec: mean and sd over positions of its last encoder maps.

Cheap and sensitive to what the codec can represent; blind to what it cannot, and a codec judges itself: figures of
different codecs are never compared. The hash of its weights stands in every protocol.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

from gen_core.features import FeatureNetwork, FeaturesContext
from gen_features.feature_options import CodecFeatures as Options


def weights_sha256(module: torch.nn.Module) -> str:
    """SHA-256 over names, shapes and bytes of parameters and buffers, in the order of names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        array = tensor.detach().cpu().contiguous()
        digest.update(f"{name}{tuple(array.shape)}{array.dtype}".encode())
        digest.update(array.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class CodecFeatures(FeatureNetwork):
    """Volumes (B, C, D, H, W) -> (B, 2 C') where C' are the channels of `codec.encoder_maps`.

    A codec without that method (identity) gives its latents; depth then counts among the channels, because a latent
    of one channel would leave two features.
    """

    takes = "volume"
    fitted = False

    def __init__(self, codec: Any):
        super().__init__()
        self._codec = (codec,)  # in a tuple: no submodule of ours, so never trained, moved or stored with us
        self._sha256: str | None = None
        self._dim: int | None = None

    @property
    def codec(self) -> Any:
        return self._codec[0]

    def _maps(self, x: Tensor) -> Tensor:
        if hasattr(self.codec, "encoder_maps"):
            return self.codec.encoder_maps(x).float()
        return self.codec.encode(x).float().flatten(1, 2)[:, :, None]

    @property
    def dim(self) -> int:  # type: ignore[override]
        """Features a volume; the first question runs one empty volume through the encoder."""
        if self._dim is None:
            device = next(iter(self.codec.state_dict().values()), torch.zeros(1)).device
            self.features(torch.zeros(1, *self.codec.spec.shape, device=device))
        assert self._dim is not None
        return self._dim

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """x (B, C, D, H, W) in [-1, 1] -> (B, dim) float32."""
        self.codec.eval()
        maps = self._maps(x).flatten(2)
        found = torch.cat((maps.mean(2), maps.std(2, correction=0)), 1)
        self._dim = found.shape[1]
        return found

    @torch.no_grad()
    def slice_features(self, x: Tensor) -> Tensor:
        """x (B, C, D, H, W) -> (B, d, dim): mean and sd of each slice of the maps, d slices."""
        self.codec.eval()
        maps = self.codec.encoder_maps(x) if hasattr(self.codec, "encoder_maps") else self.codec.encode(x)
        maps = maps.float().flatten(3)  # (B, C', d, h w)
        return torch.cat((maps.mean(3), maps.std(3, correction=0)), 1).transpose(1, 2)

    def protocol(self) -> dict[str, Any]:
        if self._sha256 is None:
            self._sha256 = weights_sha256(self.codec)
        own = hasattr(self.codec, "encoder_maps")
        return {
            "name": "codec",
            "codec": type(self.codec).__name__,
            "sha256": self._sha256,
            "input": "whole volumes in [-1, 1]",
            "statistics": f"mean and sd over positions of the {'last encoder maps' if own else 'latents'}",
        }


def build(options: Options, context: FeaturesContext) -> CodecFeatures:
    """The network of a recipe's table, around the run's fitted codec."""
    return CodecFeatures(context.codec())
