"""Settings of the probe; attrs only, so that a recipe resolves without torch."""

from __future__ import annotations

from typing import Any, Literal

from attrs import Factory, field, frozen, validators

from gen_core.options import FitOptions, positive, table_ref


def _probing_fit() -> FitOptions:
    return FitOptions(
        steps=300,
        batch=32,
        optimizer="adam",
        lr=1e-3,
        schedule="cosine",
        warmup=10,
        clip=5.0,
        checkpoint_every=100,
        log_every=20,
    )


def _named(options: Any, attribute: Any, value: str) -> None:
    if not value:
        raise ValueError(f"'{attribute.name}' must be given")


@frozen
class Probe:
    """[features] probe: learns a yes-no condition of the data set from another network's features."""

    # The [features] table to learn on; it is fitted before.
    backbone: str = field(default="features", validator=_named, metadata=dict(table_ref("features").metadata))
    label: str = field(default="deposits", validator=_named)  # a condition of the volumes that is 0 or 1
    # "linear": logistic regression on features as they are. "full": a copy of the network learns along.
    tune: Literal["linear", "full"] = "linear"
    from_scratch: bool = False  # the network's weights as built, before any pre-training: what is that worth?
    # Penalty l2 / 2 |w|^2 on the weights of standardized features; 1 / n is scikit-learn's C = 1 for n volumes.
    l2: float = field(default=1e-2, validator=validators.ge(0.0))
    normalize_steps: int = positive(20)  # first steps, which set mean and spread of the features
    fit: FitOptions = Factory(_probing_fit)
