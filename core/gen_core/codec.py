"""The codec interface: volumes to latents in prior space, and back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable

import torch
from attrs import frozen
from torch import Tensor

from gen_core.batch import Batch
from gen_core.tiling.graph import Graph
from gen_core.tiling.tiles import Tiles
from gen_core.trainable import Trainable
from gen_core.volume import VolumeSpec


@frozen
class CodecContext:
    """What core hands to a codec's `build(options, context)`."""

    spec: VolumeSpec


@frozen
class LatentSpec:
    """What a prior needs to know of latents: channels, stride (D, H, W), bounds or None, number of codes or None."""

    channels: int
    stride: tuple[int, int, int]
    bounds: tuple[float, float] | None = None
    tokens: int | None = None

    def shape(self, size: tuple[int, int, int]) -> tuple[int, int, int, int]:
        """(C, d, h, w) of the latent of a volume of `size`; sizes that stride does not divide are padded up."""
        return (self.channels, *(-(-n // s) for n, s in zip(size, self.stride)))


class Codec(Trainable):
    """Encodes volumes of one spec. `latent` is fixed at construction."""

    latent: LatentSpec
    fitted: bool = True  # False for codecs without weights (identity): their fit step is skipped
    spec: VolumeSpec
    tiles: Tiles | None = None  # how fitted networks take volumes larger than memory; set by the run

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """x (B, C, D, H, W) in [-1, 1] -> z (B, c, d, h, w) in prior space; deterministic, changes no state."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """z -> x_hat (B, C, D, H, W), clamped to [-1, 1]; re-quantizing is the codec's own business."""

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Set the scaling between encoder output and prior space after fitting (in buffers); returns it for the log.

        Prior space is centred and of about unit scale (or within `latent.bounds`).
        """
        return {}

    def graphs(self) -> dict[str, Graph]:
        """The networks of "encode" and "decode" on a volume of `spec`, as graphs; empty where they cannot be tiled.

        A codec that has them sends its networks through `tiles.run` when `tiles` is set.
        """
        return {}

    def terms(self, x: Tensor, x_hat: Tensor) -> dict[str, Tensor]:
        """What the codec measures of itself, each (B,) and unweighted, such as the KL of its posterior.

        x: (B, C, D, H, W) real volumes; x_hat: what the codec made of them.
        """
        return {}

    def encode_tokens(self, x: Tensor) -> Tensor:
        """x -> code indices (B, d, h, w) int64, where the codec has tokens."""
        raise TypeError(f"codec {type(self).__name__} has no tokens")

    def decode_tokens(self, idx: Tensor) -> Tensor:
        """The inverse of `encode_tokens`."""
        raise TypeError(f"codec {type(self).__name__} has no tokens")
