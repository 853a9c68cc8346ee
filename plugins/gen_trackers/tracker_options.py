"""Settings of the trackers."""

from __future__ import annotations

from attrs import field, frozen, validators


def _name(default: str) -> str:
    return field(default=default, validator=validators.min_len(1))


@frozen
class Csv:
    """[trackers.csv]: no settings."""


@frozen
class TensorBoard:
    """[trackers.tensorboard]"""

    recipe: bool = True  # the settings of the run as a text


@frozen
class WeightsAndBiases:
    """[trackers.wandb]"""

    project: str = _name("gen")
    entity: str = ""  # a team; none = yours
    group: str = ""  # runs that belong together
    recipe: bool = True  # the settings of the run as its config


@frozen
class Mlflow:
    """[trackers.mlflow]"""

    uri: str = ""  # of a server such as "http://127.0.0.1:5000", or of a database; none = one in the run's folder
    experiment: str = _name("gen")
    recipe: bool = True  # the settings of the run as its parameters
