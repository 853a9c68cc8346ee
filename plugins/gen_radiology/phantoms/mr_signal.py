"""What an MR scanner measures of each tissue: signal equations, relaxation times, and the noise of magnitude images.

Times in ms, angles in degrees, signals as a share of the signal of water at equilibrium.
Source of the table: the BrainWeb simulator at 1.5 T (Kwan, Evans & Pike 1999; Collins et al. 1998).
"""

from __future__ import annotations

import numpy as np
from attrs import frozen
from numpy.typing import NDArray


@frozen
class Tissue:
    """Relaxation times (ms) and proton density of a tissue."""

    t1: float
    t2: float
    t2_star: float
    pd: float


TISSUES = {
    "csf": Tissue(2569.0, 329.0, 58.0, 1.0),
    "grey-matter": Tissue(833.0, 83.0, 69.0, 0.86),
    "white-matter": Tissue(500.0, 70.0, 61.0, 0.77),
    "fat": Tissue(350.0, 70.0, 58.0, 1.0),
    "muscle": Tissue(900.0, 47.0, 30.0, 1.0),
    "lesion": Tissue(752.0, 237.0, 204.0, 0.76),
}


@frozen
class Sequence:
    """A pulse sequence: "spoiled-gradient-echo" or "spin-echo" (which ignores the flip angle)."""

    kind: str
    tr: float
    te: float
    flip: float = 90.0

    def signal(self, tissue: Tissue) -> float:
        """The signal of a tissue."""
        if self.kind == "spin-echo":
            return spin_echo(tissue, self.tr, self.te)
        return spoiled_gradient_echo(tissue, self.tr, self.te, self.flip)


CONTRASTS = {
    "t1": Sequence("spoiled-gradient-echo", tr=18.0, te=10.0, flip=30.0),
    "t2": Sequence("spin-echo", tr=3300.0, te=120.0),
    "pd": Sequence("spin-echo", tr=3300.0, te=35.0),
}


def spin_echo(tissue: Tissue, tr: float, te: float) -> float:
    """PD (1 - 2 exp(-(TR - TE/2) / T1) + exp(-TR / T1)) exp(-TE / T2): a 90 and a 180 degree pulse.

    Source: Haacke et al. 1999, "Magnetic Resonance Imaging", section 8.2.
    """
    recovery = 1 - 2 * np.exp(-(tr - te / 2) / tissue.t1) + np.exp(-tr / tissue.t1)
    return float(tissue.pd * recovery * np.exp(-te / tissue.t2))


def spoiled_gradient_echo(tissue: Tissue, tr: float, te: float, flip: float) -> float:
    """PD sin a (1 - E1) / (1 - E1 cos a) exp(-TE / T2*), with E1 = exp(-TR / T1).

    Source: Ernst & Anderson 1966; Haacke et al. 1999, eq. 18.14.
    """
    e1, a = np.exp(-tr / tissue.t1), np.radians(flip)
    return float(tissue.pd * np.sin(a) * (1 - e1) / (1 - e1 * np.cos(a)) * np.exp(-te / tissue.t2_star))


def ernst_angle(t1: float, tr: float) -> float:
    """The flip angle (degrees) that makes the spoiled gradient echo strongest: cos a = exp(-TR / T1)."""
    return float(np.degrees(np.arccos(np.exp(-tr / t1))))


def rician(signal: NDArray[np.float32], sigma: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """The magnitude |signal + n1 + i n2| of a signal with noise of sd sigma in both channels.

    Where there is no signal it is Rayleigh distributed: mean sigma sqrt(pi / 2). Source: Gudbjartsson & Patz 1995.
    """
    real = rng.standard_normal(signal.shape, np.float32)
    imaginary = rng.standard_normal(signal.shape, np.float32)
    sigma32 = np.float32(sigma)
    return np.hypot(signal + sigma32 * real, sigma32 * imaginary)
