"""What a sample is, before it is a file: latent, volume, and the conditions it was drawn under."""

from __future__ import annotations

from typing import Any

import numpy as np
from attrs import Factory, frozen
from torch import Tensor


@frozen
class Under:
    """What one sample was drawn under.

    values: condition values by their names in the data set, as `Sample.condition` holds them. masks: name ->
    (D or 1, H, W) bool that it was asked to follow. told: the same in words, for people.
    """

    values: dict[str, Any] = Factory(dict)
    masks: dict[str, np.ndarray] = Factory(dict)
    told: dict[str, Any] = Factory(dict)


@frozen(eq=False)
class Drawn:
    """A chunk of samples: z (n, c, d, h, w), x (n, C, D, H, W), seconds spent, and what each was drawn under."""

    chunk: int
    z: Tensor
    x: Tensor
    seconds: dict[str, float]
    under: list[Under]
