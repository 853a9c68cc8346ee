"""What a file of a cube can carry, and must: one channel, and a sentence that says whether it is synthetic."""

from __future__ import annotations

from typing import Any

import numpy as np

from gen_core.errors import DataError


def one_cube(volume: np.ndarray, form: str) -> np.ndarray:
    """(D, H, W) of a one-channel volume. Raises: DataError for several channels, which the format has no place for."""
    if len(volume) != 1:
        raise DataError(f"sample.format = '{form}' holds one channel, the volumes have {len(volume)}: use npy")
    return volume[0]


def describe(info: dict[str, Any]) -> str:
    """The sentence every file carries."""
    if info.get("synthetic"):
        return f"SYNTHETIC data made by gen ({info.get('id', 'sample')}); no patient, not for diagnosis"
    return f"written by gen ({info.get('id', 'volume')})"
