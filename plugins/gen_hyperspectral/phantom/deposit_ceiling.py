"""How well the label `deposits` can be told from a picture: by anyone at most, and by a linear observer.

The bound is `amount_auc`: whoever reads the amount of deposits without error. The linear observer sees pictures only,
but knows where deposits lie in each eye. From a picture it takes, band by band, how brightness goes with the deposit
map among pixels equally far from vessels, a slope (D,) in which pigment, light and vessels cancel in part; then it
weighs the bands as the Hotelling observer does, by the inverse covariance of the slopes over eyes: noise, motion, light
and background of the generator as they are. A network that must find the vessels first should stay below it.

Source: Barrett & Myers 2004, "Foundations of image science", section 13.2.12 (Hotelling observer, detectability).
"""

from __future__ import annotations

import numpy as np
from attrs import frozen
from numpy.typing import NDArray
from scipy.stats import norm

from gen_hyperspectral.phantom.dataset_options import RetinaPhantom
from gen_hyperspectral.phantom.deposits import amount_auc, auc, deposit_map, vessel_halo
from gen_hyperspectral.phantom.eye import draw_eye, draw_vessels
from gen_hyperspectral.phantom.fields import fields
from gen_hyperspectral.phantom.maps import pool
from gen_hyperspectral.phantom.volume import default_wavelengths, render

Array = NDArray[np.float64]
_DARK = 1e-3  # of the reference white: added before the logarithm, so that no pixel weighs too much
_RIDGE = 1e-3  # of the mean variance, added to the covariance


@frozen
class Ceiling:
    """AUC of the best possible observer and of the linear one, with its detectability d'."""

    bound: float  # nobody exceeds it in the mean over eyes
    observer: float  # measured on eyes that the observer was not made from
    detectability: float  # of the linear observer: a binormal AUC of Phi(d' / sqrt 2)
    eyes: int

    @property
    def binormal(self) -> float:
        """The linear observer's AUC if its scores were Gaussian."""
        return float(norm.cdf(self.detectability / 2**0.5))


def deposit_ceiling(
    options: RetinaPhantom, size: tuple[int, int, int], nm: tuple[float, ...] | None = None, eyes: int = 200
) -> Ceiling:
    """The ceiling at `size` (D, H, W) and bands `nm`, from pairs of pictures of `eyes` eyes with and without deposits.

    The observer is made from every second eye and tested on the others, and the other way round; both of an eye's
    pictures have the same noise and light, and its haze. Assumed: one picture an eye.
    Raises: ValueError under 8 eyes, or where the options have no deposits to tell.
    """
    if eyes < 8 or not options.deposits or not options.deposit_strength:
        raise ValueError(
            f"a ceiling needs deposits > 0 of a strength > 0 and at least 8 eyes; got {options.deposits:g}, "
            f"{options.deposit_strength:g} and {eyes}"
        )
    nm = nm or default_wavelengths(size[0])
    pairs = np.stack([_slopes(options, size, nm, subject) for subject in range(eyes)])
    absent, present = pairs[:, 0], pairs[:, 1]
    scores = np.empty((2, eyes))
    for fold in (0, 1):
        mine = np.arange(eyes) % 2 == fold
        weights = hotelling(absent[~mine], present[~mine])
        scores[:, mine] = absent[mine] @ weights, present[mine] @ weights
    return Ceiling(
        bound=amount_auc(options),
        observer=auc(scores.ravel(), np.repeat([False, True], eyes)),
        detectability=float(np.diff(scores.mean(1))[0] / np.sqrt(scores.var(1, ddof=1).mean())),
        eyes=eyes,
    )


def hotelling(absent: Array, present: Array) -> Array:
    """Weights (D,) from rows (n, D) of two classes: w = S^-1 delta, scaled to scores of about unit sd."""
    delta = present.mean(0) - absent.mean(0)
    S = 0.5 * (np.cov(absent, rowvar=False) + np.cov(present, rowvar=False))
    S = np.atleast_2d(S)
    S = S + _RIDGE * np.trace(S) / len(S) * np.eye(len(S))
    weights = np.linalg.solve(S, delta)
    return weights / np.sqrt(max(delta @ weights, 1e-300))  # d'^2 = delta^T S^-1 delta


def _slopes(options: RetinaPhantom, size: tuple[int, int, int], nm: tuple[float, ...], subject: int) -> Array:
    """(2, D): without and with deposits, how ln brightness goes with the deposit map, other things being equal.

    Ordinary least squares on the pixels of the field off the disc. Other things: nearness of vessels, blood, macular
    pigment, and the light's course over the field.
    """
    eye = draw_eye(options.seed, subject)
    f = fields(eye, draw_vessels(options.seed, eye, options.vessel_scale), options.seed, size[1:], options.fov_mm)
    at = f.masks["valid"] & (f.disc < 0.05)
    y, x = np.nonzero(at)
    x, y = x / size[2] - 0.5, y / size[1] - 0.5
    halo, blood = vessel_halo(f)[at], pool(f.artery_cm + f.vein_cm, f.factor)[at]
    background = [np.ones_like(x), x, y, x * x, x * y, y * y, halo, halo**2, blood, blood**2, f.macular[at]]
    design = np.stack([deposit_map(options, subject, f)[at], *background], 1)
    slope = np.linalg.pinv(design)[0]
    turn = (lambda a: a[..., ::-1]) if eye.mirrored else (lambda a: a)
    found = []
    for present in (False, True):
        picture = turn(render(options, size, nm, subject, present=present)[0][0])
        found.append(np.log((picture[:, at] + 1) / 2 + _DARK) @ slope)
    return np.stack(found)
