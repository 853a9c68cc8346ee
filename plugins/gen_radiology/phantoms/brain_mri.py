"""The dataset `brain-mri-phantom`: MR pictures of heads that never were, healthy or with lesions.

x: (1, D, H, W) in [-1, 1], intensities (a.u.) clipped to lo..hi. D runs from feet to head, H from front to back, W
from the patient's right to left (rising LPS). Condition: class `lesion`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from attrs import evolve, frozen
from numpy.typing import NDArray

from gen_core.dataset import DatasetContext
from gen_core.errors import RecipeError
from gen_core.volume import Geometry, VolumeSpec
from gen_radiology.phantoms import brain_render, mr_signal
from gen_radiology.phantoms.brain_anatomy import Head, draw_head
from gen_radiology.phantoms.brain_lesions import Lesions, draw_lesions
from gen_radiology.phantoms.brain_mri_options import BrainMriPhantom
from gen_radiology.phantoms.dataset import Phantom, PhantomDataset, grid_of, to_unit, window
from gen_radiology.phantoms.grid import Grid, Volume

VERSION = 1  # of the picture: raise it when a volume would come out differently
DEFAULT_SIZE = (32, 64, 64)
CLASSES = ("healthy", "lesion")
MASKS = ("lesion", "brain", "white-matter", "grey-matter", "csf")
GAIN = 1000.0  # a.u. of the signal of water at equilibrium
_MIDDLE_MM = 7.0  # height of the middle of a picture of the whole head
_DEEP_MM = (0.0, 42.0)  # heights between which a slab of a few slices is placed
_SHIFT_MM = 5.0
_SPREAD = 0.012  # sd of a tissue's signal between subjects, as a share


@frozen(eq=False)
class Scan:
    """One subject as it is seen: the head, the grid of the scan, its lesions."""

    head: Head
    grid: Grid
    lesions: Lesions | None


def build(options: BrainMriPhantom, context: DatasetContext) -> PhantomDataset:
    """The dataset of `options` at the size and split of `context`."""
    size, spacing = grid_of("brain-mri-phantom", context, DEFAULT_SIZE, options)
    if options.lesion_mm[0] > options.lesion_mm[1]:
        raise RecipeError(f"[dataset] lesion_mm = {list(options.lesion_mm)}: the smallest comes first")
    if options.flip_deg is not None and options.contrast != "t1":
        raise RecipeError(f'[dataset] flip_deg: a spin echo (contrast = "{options.contrast}") has none; leave it out')
    spec = VolumeSpec(
        size=size,
        depth="slices",
        units="a.u.",
        spacing_mm=spacing,
        scale=window(options.lo, top(options)),
        masks=MASKS,
        classes={"lesion": CLASSES},
    )

    def rendered(subject: int) -> tuple[NDArray[np.float32], dict[str, NDArray[np.bool_]]]:
        picture, masks = render(options, size, spacing, subject)
        return to_unit(spec.scale, picture), masks

    def facts(subject: int) -> tuple[dict[str, Any], Geometry]:
        scan = draw(options, size, spacing, subject)
        return {"lesion": int(scan.lesions is not None)}, Geometry(scan.grid.affine)

    phantom = Phantom(
        name="brain-mri-phantom",
        subject="head",
        version=VERSION,
        spec=spec,
        render=rendered,
        facts=facts,
        note="synthetic heads drawn from simple shapes; not patients",
    )
    return PhantomDataset(options, context, phantom)


def sequence(options: BrainMriPhantom) -> mr_signal.Sequence:
    """The pulse sequence of the contrast, with the times that the options change."""
    given = {"tr": options.tr_ms, "te": options.te_ms, "flip": options.flip_deg}
    chosen = evolve(mr_signal.CONTRASTS[options.contrast], **{k: v for k, v in given.items() if v is not None})
    if chosen.te >= chosen.tr:
        raise RecipeError(f"[dataset] te_ms = {chosen.te:g} must be shorter than tr_ms = {chosen.tr:g}")
    return chosen


def signals(options: BrainMriPhantom) -> dict[str, float]:
    """Signal of each tissue in a.u., before any subject's variation."""
    seq = sequence(options)
    return {name: GAIN * seq.signal(mr_signal.TISSUES[name]) for name in brain_render.TISSUES}


def top(options: BrainMriPhantom) -> float:
    """The intensity that becomes +1."""
    return 1.1 * max(signals(options).values()) if options.hi is None else options.hi


def draw(
    options: BrainMriPhantom, size: tuple[int, int, int], spacing: tuple[float, float, float], subject: int
) -> Scan:
    """Head, field of view and lesions of a subject: the same head at any size."""
    head = draw_head(_rng(options, subject, 0))
    at = float(_rng(options, subject, 1).uniform(-1.0, 1.0))
    deep = (_DEEP_MM[1] - _DEEP_MM[0]) / 2
    thick = size[0] * spacing[0]
    if thick >= 2 * deep:
        middle = _MIDDLE_MM + _SHIFT_MM * at
    else:  # a slab: anywhere between the basal nuclei and the top of the ventricles
        middle = sum(_DEEP_MM) / 2 + (deep - thick / 2) * at
    grid = Grid.centred(size, spacing, head.scale[0] * middle)
    rng = _rng(options, subject, 2)
    if rng.random() >= options.lesions:
        return Scan(head, grid, None)
    low, high = options.lesion_mm
    low = min(max(low, 2.5 * max(spacing)), high)  # smaller ones could not be seen
    return Scan(head, grid, draw_lesions(rng, head, grid, options.lesions_max, (low, high)))


def render(
    options: BrainMriPhantom,
    size: tuple[int, int, int],
    spacing: tuple[float, float, float],
    subject: int,
    healthy: bool = False,
) -> tuple[Volume, dict[str, NDArray[np.bool_]]]:
    """(intensities (D, H, W) in a.u., masks name -> (D, H, W)) of a subject; not clipped.

    healthy: the same head, shading and noise without its lesions.
    """
    scan = draw(options, size, spacing, subject)
    shares, masks = brain_render.tissues(scan.head, scan.grid, None if healthy else scan.lesions)
    base = np.array(list(signals(options).values()))
    values = base * (1 + _SPREAD * _rng(options, subject, 3).standard_normal(len(base)))
    shading = np.exp(np.float32(options.bias) * scan.head.bias.on(*scan.grid.axes)) if options.bias > 0 else None
    picture = brain_render.signal(shares, values.astype(np.float32), shading)
    if options.noise > 0:
        sigma = options.noise * signals(options)["white-matter"]
        picture = mr_signal.rician(picture, sigma, _rng(options, subject, 4))
    return picture, masks


def _rng(options: BrainMriPhantom, subject: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([options.seed, subject, stream])
