"""The segmenter interface: volumes to probabilities of named structures, trained on data-set masks."""

from __future__ import annotations

from abc import abstractmethod

from attrs import frozen
from torch import Tensor

from gen_core.trainable import Trainable
from gen_core.volume import VolumeSpec


@frozen
class SegmenterContext:
    """What core hands to a segmenter's `build(options, context)`."""

    spec: VolumeSpec


class Segmenter(Trainable):
    """`classes` are the structures it finds (data-set mask names, or unions the options define)."""

    classes: tuple[str, ...]

    @abstractmethod
    def probabilities(self, x: Tensor) -> Tensor:
        """x (B, C, D, H, W) in [-1, 1] -> (B, K, D or 1, H, W) in [0, 1], K = len(classes)."""
