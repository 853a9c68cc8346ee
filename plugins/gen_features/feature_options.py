"""Settings of the feature networks; attrs only, so that a recipe resolves without torch."""

from __future__ import annotations

from attrs import field, frozen, validators


@frozen
class RandomConv64:
    """[features] random-conv64: fixed random convolutions."""

    seed: int = field(default=0, validator=validators.ge(0))  # of the weights; scores of different seeds never compare


@frozen
class CodecFeatures:
    """[features] codec: no settings; the features are those of the run's own codec."""
