"""The dataset `lung-ct-phantom`: CT of chests that never were, with nodules of three kinds.

x: (1, D, H, W) in [-1, 1], HU clipped to lo..hi. D runs from feet to head, H from front to back, W from the
patient's right to left (rising LPS). Condition: class `nodule`, scalars `diameter_mm` (NaN without a nodule) and
`z_mm`, the height of the volume's middle above the carina.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from gen_core.dataset import DatasetContext
from gen_core.errors import RecipeError
from gen_core.volume import Geometry, VolumeSpec
from gen_radiology.phantoms.dataset import Phantom, PhantomDataset, grid_of, to_unit, window
from gen_radiology.phantoms.grid import Grid
from gen_radiology.phantoms.lung_anatomy import Chest, draw_chest
from gen_radiology.phantoms.lung_ct_options import LungCtPhantom
from gen_radiology.phantoms.lung_nodules import KINDS, MAX_DIAMETER_MM, Nodule, draw_nodule
from gen_radiology.phantoms.lung_render import add_noise, noise_free
from gen_radiology.phantoms.lung_vessels import airways, vessels

VERSION = 1  # of the picture: raise it when a volume would come out differently
DEFAULT_SIZE = (64, 64, 64)
CLASSES = ("none", *KINDS)
MASKS = ("nodule", "lung", "body")
_LUNG_MM = (-125.0, 75.0)  # heights above the carina between which there is lung in every chest
_SHIFT_MM = 22.0  # sd-like reach of the scan's start along the body
_SEEN_VOXELS = 2.5  # diameter of the smallest nodule that counts as visible


@frozen(eq=False)
class Scan:
    """One subject as it is seen: the chest, the grid of the scan, and its nodule."""

    chest: Chest
    grid: Grid
    nodule: Nodule | None


def build(options: LungCtPhantom, context: DatasetContext) -> PhantomDataset:
    """The dataset of `options` at the size and split of `context`."""
    size, spacing = grid_of("lung-ct-phantom", context, DEFAULT_SIZE, options)
    if not options.kinds:
        raise RecipeError("[dataset] kinds = []: name at least one, or set nodules = 0")
    low = options.min_diameter_mm
    if low is not None and low > MAX_DIAMETER_MM:
        raise RecipeError(f"[dataset] min_diameter_mm = {low:g}: nodules are at most {MAX_DIAMETER_MM:g} mm")
    spec = VolumeSpec(
        size=size,
        depth="slices",
        units="HU",
        spacing_mm=spacing,
        scale=window(options.lo, options.hi),
        masks=MASKS,
        classes={"nodule": CLASSES},
    )

    def rendered(subject: int) -> tuple[NDArray[np.float32], dict[str, NDArray[np.bool_]]]:
        hu, masks = render(options, size, spacing, subject)
        return to_unit(spec.scale, hu), masks

    def facts(subject: int) -> tuple[dict[str, Any], Geometry]:
        scan = draw(options, size, spacing, subject)
        return condition(scan), Geometry(scan.grid.affine)

    phantom = Phantom(
        name="lung-ct-phantom",
        subject="chest",
        version=VERSION,
        spec=spec,
        render=rendered,
        facts=facts,
        note="synthetic chests drawn from simple shapes; not patients",
    )
    return PhantomDataset(options, context, phantom)


def draw(options: LungCtPhantom, size: tuple[int, int, int], spacing: tuple[float, float, float], subject: int) -> Scan:
    """Chest, field of view and nodule of a subject: the same chest at any size."""
    chest = draw_chest(_rng(options, subject, 0))
    view = _rng(options, subject, 1)
    lo, hi = (chest.scale[0] * v for v in _LUNG_MM)
    spare = max(_SHIFT_MM, (hi - lo - size[0] * spacing[0]) / 2)
    grid = Grid.centred(size, spacing, (lo + hi) / 2 + spare * float(view.uniform(-1.0, 1.0)))
    rng = _rng(options, subject, 2)
    if rng.random() >= options.nodules:
        return Scan(chest, grid, None)
    low = options.min_diameter_mm
    if low is None:
        low = min(_SEEN_VOXELS * max(spacing), 0.75 * MAX_DIAMETER_MM)
    return Scan(chest, grid, draw_nodule(rng, chest, grid, options.kinds, low, options.pleural))


def render(
    options: LungCtPhantom,
    size: tuple[int, int, int],
    spacing: tuple[float, float, float],
    subject: int,
    noise: bool = True,
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.bool_]]]:
    """(HU (D, H, W), masks name -> (D, H, W)) of a subject; HU are not clipped."""
    scan = draw(options, size, spacing, subject)
    trees = vessels(scan.chest, _rng(options, subject, 3)), airways(scan.chest, _rng(options, subject, 4))
    hu, masks = noise_free(scan.chest, scan.grid, *trees, scan.nodule, options.table)
    if noise:
        hu = add_noise(hu, options.noise_hu, masks["body"], _rng(options, subject, 5))
    return hu, masks


def condition(scan: Scan) -> dict[str, Any]:
    """Class and scalars of a scan, as `Sample.condition` holds them."""
    nodule = scan.nodule
    return {
        "nodule": 0 if nodule is None else CLASSES.index(nodule.kind),
        "diameter_mm": float("nan") if nodule is None else nodule.diameter,
        "z_mm": scan.grid.origin[0] + (scan.grid.size[0] - 1) / 2 * scan.grid.spacing[0],
    }


def _rng(options: LungCtPhantom, subject: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([options.seed, subject, stream])
