"""One eye of the retina phantom: everything that is drawn at random, in millimetres, as a function of its number.

The eye (anatomy, pigments, age) follows from (seed, subject); a visit (light, eye motion, noise) from
(seed, subject, visit). Neither knows the image size: a finer image shows the same eye more finely.
Frame: x right, y down, mm, origin at the centre of the round field, drawn as a right eye seen by a camera that
puts the fovea right of the disc; a left eye is mirrored at the very end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from attrs import asdict, frozen
from numpy.typing import NDArray

from gen_hyperspectral.phantom.vessel_tree import VesselTree, grow_tree

Array = NDArray[np.float64]
Point = tuple[float, float]


@frozen
class Eye:
    """The true parameters of an eye. Lengths in mm, densities decadic and one way, reflectances 0-1."""

    subject: int
    mirrored: bool  # the fovea lies left of the disc
    age: float  # years
    melanin: float  # density at 500 nm, pigment epithelium and choroid together: 0.3 blond, above 1 dark
    choroid_mm: float  # choroidal blood between the large vessels
    choroid_vessel_mm: float  # what a large choroidal vessel adds
    surface: float  # reflectance of the inner limiting membrane
    rpe: float  # of the pigment epithelium
    sclera: float
    macular: float  # peak density of macular pigment
    disc: Point  # centre
    fovea: Point
    rotation: float  # of the line from disc to fovea, radians
    disc_radii: Point  # horizontal, vertical
    cup_ratio: float  # of the disc's diameter
    nerve: float  # reflectance of the disc's nerve fibres
    lamina: float  # and of the lamina cribrosa behind them
    disc_capillary_mm: float  # blood before the lamina in the rim; the cup has half of it
    artery_saturation: float
    vein_saturation: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@frozen(eq=False)
class Visit:
    """The circumstances of one picture; noise_seed: words that seed its motion and noise."""

    vignette: float  # loss of light at the rim
    tilt: Point  # of the light, relative, per half field
    gain: float
    noise_seed: tuple[int, int, int, int]


def draw_eye(seed: int, subject: int) -> Eye:
    """The eye number `subject` of `seed`: same numbers, same eye, whatever else was drawn before."""
    g = np.random.default_rng([seed, subject, 0])
    centre = g.normal(0.0, (0.40, 0.30))  # of the field between disc and fovea
    rotation = g.normal(0.0, 0.07)
    distance = g.normal(4.5, 0.2)
    # The fovea lies about 6 degrees below the disc's centre.
    axis = np.array([np.cos(rotation + 0.10), np.sin(rotation + 0.10)])
    disc = np.array([-2.3, -0.15]) + centre
    fovea = disc + distance * axis
    width = g.uniform(0.82, 0.94)
    melanin = float(np.clip(np.exp(g.normal(np.log(0.50), 0.35)), 0.28, 1.0))
    return Eye(
        subject=subject,
        mirrored=bool(g.integers(2)),
        age=float(g.uniform(20.0, 78.0)),
        melanin=melanin,
        choroid_mm=float(g.uniform(0.064, 0.096)),
        choroid_vessel_mm=float(g.uniform(0.13, 0.18)),
        surface=float(g.uniform(0.0016, 0.0030)),
        rpe=float(g.uniform(0.0135, 0.0155) - 0.0055 * melanin),  # dark eyes absorb before it, too
        sclera=float(g.uniform(0.26, 0.36)),
        macular=float(g.uniform(0.20, 0.55)),
        disc=(float(disc[0]), float(disc[1])),
        fovea=(float(fovea[0]), float(fovea[1])),
        rotation=float(rotation),
        disc_radii=(float(width), float(width * g.uniform(1.04, 1.14))),
        cup_ratio=float(g.uniform(0.28, 0.55)),
        nerve=float(g.uniform(0.030, 0.040)),
        lamina=float(g.uniform(0.19, 0.25)),
        disc_capillary_mm=float(g.uniform(0.055, 0.085)),
        artery_saturation=float(np.clip(g.normal(0.98, 0.006), 0.95, 1.0)),
        vein_saturation=float(np.clip(g.normal(0.65, 0.03), 0.55, 0.75)),
    )


def draw_visit(seed: int, subject: int, visit: int) -> Visit:
    """The circumstances of visit number `visit` of that eye."""
    g = np.random.default_rng([seed, subject, 1 + visit])
    return Visit(
        vignette=float(g.uniform(0.15, 0.40)),
        tilt=(float(g.normal(0.0, 0.05)), float(g.normal(0.0, 0.05))),
        gain=float(g.uniform(0.92, 1.08)),
        noise_seed=(seed, subject, 1 + visit, 1),
    )


def draw_vessels(seed: int, eye: Eye, vessel_scale: float) -> VesselTree:
    """The vessels of `eye` in its field's frame (mm); `vessel_scale` changes calibres only."""
    g = np.random.default_rng([seed, eye.subject, 0, 1])
    disc, fovea = np.array(eye.disc), np.array(eye.fovea)
    d = fovea - disc
    c, s = d / np.hypot(*d)
    tree = grow_tree(g, np.array([np.hypot(*d), 0.0]), vessel_scale)
    place = lambda p: np.stack([c * p[:, 0] - s * p[:, 1], s * p[:, 0] + c * p[:, 1]], 1) + disc
    return VesselTree(
        start=place(tree.start),
        stop=place(tree.stop),
        radius=tree.radius,
        kind=tree.kind,
        line=tree.line,
        junctions=tree.junctions,
        parent=tree.parent,
    )
