"""Deposits beside the vessels of a phantom eye: the label `deposits`, and the map that dims the blue.

Every eye of a data set with deposits has some haze beside its vessels, a little more or less than the mean eye; the
eyes that the label marks have `deposit_strength` more of it. The picture knows the label only through that amount,
which is why the best possible observer is known: see `deposit_ceiling`.

All draws come from streams of their own, so that an eye is otherwise the same with and without them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter
from scipy.stats import norm, rankdata

from gen_hyperspectral.phantom.dataset_options import RetinaPhantom
from gen_hyperspectral.phantom.fields import Fields
from gen_hyperspectral.phantom.maps import Map, pool, smooth_noise, soft

LABEL = "deposits"
_REACH_MM = 0.30  # sd of the blur that spreads blood paths into a halo
_FULL_MM = 0.03  # blurred path beside which the halo is about full
_PATCH_MM = 0.9  # lattice of the patches: deposits come in stretches, not all along a vessel
_BARE = -0.7  # of the patches' noise: below it, in a quarter of the field, vessels are bare


@frozen
class Deposits:
    """What an eye has beside its vessels, as natural density at 450 nm: about the share of light that is lost."""

    present: bool  # the label
    haze: float  # of this eye without deposits, against the mean eye; may be negative
    amount: float  # haze, and the strength where present


def draw_deposits(options: RetinaPhantom, subject: int, present: bool | None = None) -> Deposits | None:
    """The deposits of an eye, the same at every visit; None where the data set has none (`deposits` = 0).

    A higher prevalence marks more eyes and takes none back. present: the label as it is wished, not as it was drawn.
    """
    if options.deposits == 0:
        return None
    g = np.random.default_rng([options.seed, subject, 0, 3])
    drawn = bool(g.random() < options.deposits)
    present = drawn if present is None else present
    haze = float(options.deposit_spread * g.standard_normal())
    return Deposits(present, haze, haze + options.deposit_strength * present)


def deposit_map(options: RetinaPhantom, subject: int, f: Fields) -> Map:
    """Where deposits of this eye lie (H, W) float32 in [0, 1]: patches of a halo beside vessels, off the disc."""
    return vessel_halo(f) * _patches(options, subject, f)


def vessel_halo(f: Fields) -> Map:
    """How near a vessel is (H, W) float32 in [0, 1]; 0 on the disc."""
    path_mm = pool(10.0 * (f.artery_cm + f.vein_cm), f.factor)
    near = gaussian_filter(path_mm, _REACH_MM / f.pixel_mm, mode="nearest")
    return ((1 - np.exp(-near / _FULL_MM)) * (1 - f.disc)).astype(np.float32)


def _patches(options: RetinaPhantom, subject: int, f: Fields) -> Map:
    """Smooth patches (H, W) in [0, 1] over about three quarters of the field; any image samples the same ones."""
    H, W = f.disc.shape
    y = ((np.arange(H) + 0.5) - H / 2) * f.pixel_mm
    x = ((np.arange(W) + 0.5) - W / 2) * f.pixel_mm
    g = np.random.default_rng([options.seed, subject, 0, 4])
    return (1 - soft(smooth_noise(g, y, x, _PATCH_MM, _PATCH_MM), _BARE, 0.25)).astype(np.float32)


def amount_auc(options: RetinaPhantom) -> float:
    """AUC of an observer who reads the amount without error: Phi(strength / (spread sqrt 2)), the binormal area.

    No observer of pictures can do better in the mean over eyes: label -> amount -> picture is a Markov chain, and of
    two Gaussians of one spread the amount itself is the likelihood ratio's order.
    Source: Green & Swets 1966, "Signal detection theory and psychophysics", for two equal spreads.
    """
    if options.deposit_strength == 0:
        return 0.5
    return float(norm.cdf(options.deposit_strength / (2**0.5 * max(options.deposit_spread, 1e-12))))


def auc(scores: ArrayLike, present: ArrayLike) -> float:
    """P(score of a present > score of an absent), ties half: Mann & Whitney 1947. NaN where a class is empty."""
    scores, present = np.asarray(scores, float), np.asarray(present, bool)
    m, n = int(present.sum()), int((~present).sum())
    if m * n == 0:
        return float("nan")
    return float((rankdata(scores)[present].sum() - m * (m + 1) / 2) / (m * n))


def ceiling_record(options: RetinaPhantom, subjects: dict[str, list[int]]) -> dict[str, Any]:
    """What `prepare` records of the label's ceiling, JSON: `auc` over all eyes, and over those of each split.

    A split is a finite draw: on it the observer who reads the amount may be luckier or less lucky than in the mean.
    """
    splits = {}
    for name, members in subjects.items():
        drawn = [d for s in members if (d := draw_deposits(options, s)) is not None]
        value = auc([d.amount for d in drawn], [d.present for d in drawn])
        if value == value:
            splits[name] = value
    return {
        "auc": amount_auc(options),
        "splits": splits,
        "definition": "AUC of an observer who reads the amount of deposits in each eye without error",
    }
