"""Views of training volumes: mirrored and turned in plane, masks alike."""

from __future__ import annotations

import numpy as np


def mirror_and_turn(
    x: np.ndarray, masks: dict[str, np.ndarray], names: tuple[str, ...], rng: np.random.Generator
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Mirror and turn in plane, masks alike. The draws do not depend on which of them are switched on."""
    mirror_h, mirror_v, turns = rng.random() < 0.5, rng.random() < 0.5, int(rng.integers(4))

    def move(a: np.ndarray) -> np.ndarray:
        a = a[..., ::-1] if "flip_h" in names and mirror_h else a
        a = a[..., ::-1, :] if "flip_v" in names and mirror_v else a
        return np.rot90(a, turns, (-2, -1)) if "rot90" in names else a

    return move(x), {name: move(mask) for name, mask in masks.items()}
