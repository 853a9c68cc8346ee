"""The feature-network interface: images or volumes to vectors in which distances mean something."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from torch import Tensor

from gen_core.errors import UsageError
from gen_core.trainable import Trainable
from gen_core.volume import VolumeSpec


class FeatureNetwork(Trainable):
    """Built as `build(options, context)`, context a FeaturesContext.

    takes: "image" ((B, 3, H, W) float32 in [-1, 1], e.g. a band triplet) or "volume" ((B, C, D, H, W)).
    fitted: whether it has weights the engine must train first.

    A network of images is asked for many triplets of the same bands. What it does to each band alone (resizing, the
    part of the first layer that a band gives) it may do once: override `prepare_bands` and `features_of_triplets`
    together; up to rounding they give what `features` gives on the gathered triplets.
    """

    takes: str = "image"
    dim: int
    fitted: bool = False

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """x -> (B, dim) float32; deterministic."""

    def prepare_bands(self, bands: Tensor) -> Any:
        """bands (D, H, W) in [-1, 1] of one volume -> what `features_of_triplets` takes; default: the bands."""
        return bands

    def features_of_triplets(self, prepared: Any, picks: Tensor) -> Tensor:
        """Features (T, dim) of the images (T, 3, H, W) that picks (T, 3), indices of bands, choose; default: gather."""
        return self.features(prepared[picks])

    @abstractmethod
    def protocol(self) -> dict[str, Any]:
        """Name, hash of the weights, input treatment: scores of different protocols are never compared."""


class FeaturesContext:
    """What core hands to a feature network: the spec, and the fitted codec or another network on request."""

    def __init__(
        self,
        spec: VolumeSpec,
        codec: Any = None,
        features: Callable[[str], FeatureNetwork] | None = None,
        fresh: Callable[[str], FeatureNetwork] | None = None,
    ):
        self.spec, self._codec, self._features, self._fresh = spec, codec, features, fresh

    def codec(self) -> Any:
        """The run's fitted codec (loaded on first use)."""
        return self._codec() if callable(self._codec) and not hasattr(self._codec, "encode") else self._codec

    def features(self, table: str) -> FeatureNetwork:
        """The fitted network of another [features] table, which an option made by `table_ref("features")` names."""
        if self._features is None:
            raise UsageError(f"[{table}] is asked for where there are no other feature networks")
        return self._features(table)

    def fresh(self, table: str) -> FeatureNetwork:
        """The network of another [features] table with its weights as built, the same at every call."""
        if self._fresh is None:
            raise UsageError(f"[{table}] is asked for where there are no other feature networks")
        return self._fresh(table)
