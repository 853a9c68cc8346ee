"""Where the voxels of a phantom lie in mm, and the smooth functions of space that shape it.

Every random function lives on a lattice in mm, so that the same subject is seen at any voxel size.
Axes are (z, y, x): z inferior -> superior, y anterior -> posterior, x patient right -> left (rising LPS).
Shapes: volumes (D, H, W) float32; points (n, 3) float64 in (z, y, x) mm.
"""

from __future__ import annotations

import numpy as np
from attrs import frozen
from numpy.typing import NDArray
from scipy import ndimage

Volume = NDArray[np.float32]
Points = NDArray[np.float64]

_B_SPLINE_SD = 0.4795**1.5  # of a cubic B-spline with white coefficients in three dimensions, averaged over a cell


@frozen(eq=False)
class Grid:
    """Voxel centres: `origin` + index * `spacing`, mm in (z, y, x)."""

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]

    @classmethod
    def centred(cls, size: tuple[int, int, int], spacing: tuple[float, float, float], z_mm: float) -> Grid:
        """A grid whose middle lies at (z_mm, 0, 0)."""
        at = [-(n - 1) / 2 * s for n, s in zip(size, spacing)]
        return cls(size, spacing, (at[0] + z_mm, at[1], at[2]))

    @property
    def axes(self) -> tuple[Volume, Volume, Volume]:
        """z (D, 1, 1), y (1, H, 1) and x (1, 1, W) in mm."""
        a = [np.float32(o + s * np.arange(n)) for n, s, o in zip(self.size, self.spacing, self.origin)]
        return a[0][:, None, None], a[1][None, :, None], a[2][None, None, :]

    @property
    def width(self) -> float:
        """Side of a cube as large as a voxel: how wide a sharp edge looks."""
        return float(np.prod(self.spacing) ** (1 / 3))

    @property
    def affine(self) -> NDArray[np.float64]:
        """(4, 4) from voxel index (d, h, w, 1) to LPS mm (x, y, z, 1)."""
        affine = np.zeros((4, 4))
        for axis in range(3):
            affine[2 - axis, axis] = self.spacing[axis]
            affine[2 - axis, 3] = self.origin[axis]
        affine[3, 3] = 1.0
        return affine

    def box(self, centre: Points, reach: NDArray | float) -> tuple[slice, slice, slice]:
        """Slices of the voxels within `reach` mm of `centre` along each axis; empty ones when outside."""
        reach = np.broadcast_to(reach, 3)
        cut = []
        for n, s, o, c, r in zip(self.size, self.spacing, self.origin, centre, reach):
            lo, hi = int(np.ceil((c - r - o) / s)), int(np.floor((c + r - o) / s)) + 1
            cut.append(slice(min(max(lo, 0), n), min(max(hi, 0), n)))
        return tuple(cut)

    def part(self, box: tuple[slice, slice, slice]) -> Grid:
        """The grid of a box of voxels."""
        size = tuple(s.stop - s.start for s in box)
        return Grid(size, self.spacing, tuple(o + s.start * d for o, s, d in zip(self.origin, box, self.spacing)))


def soft(sdf: Volume, width: float) -> Volume:
    """Share of a voxel inside a surface: sdf is the signed distance of its centre in mm, negative inside."""
    return np.clip(0.5 - sdf / np.float32(width), 0.0, 1.0)


def paint(image: Volume, cover: Volume, value: Volume | float) -> None:
    """image <- (1 - cover) image + cover value, in place."""
    image += cover * (value - image)


@frozen(eq=False)
class SmoothField:
    """A cubic B-spline with white coefficients of unit field variance: smooth over about `pitch` mm."""

    coefficients: NDArray[np.float64]  # (k, k, k)
    pitch: NDArray[np.float64]  # (3,) mm in (z, y, x)
    start: NDArray[np.float64]  # (3,) mm of the first knot

    @classmethod
    def draw(cls, rng: np.random.Generator, pitch: float | tuple[float, float, float], reach: float) -> SmoothField:
        """A field on the cube of half side `reach` mm around 0."""
        pitch = np.broadcast_to(np.asarray(pitch, np.float64), 3)
        counts = np.ceil(2 * reach / pitch).astype(int) + 4
        return cls(rng.standard_normal(counts) / _B_SPLINE_SD, pitch, -(counts - 1) / 2 * pitch)

    def on(self, z: Volume, y: Volume, x: Volume) -> Volume:
        """The field on the outer product of three axes of any shape: (len(z), len(y), len(x)) float32."""
        out = self.coefficients.astype(np.float32)
        for axis, at in enumerate((z, y, x)):
            basis = _basis((at.ravel() - self.start[axis]) / self.pitch[axis], self.coefficients.shape[axis])
            out = np.moveaxis(np.tensordot(basis, out, (1, axis)), 0, axis)
        return np.ascontiguousarray(out)

    def at(self, points: Points) -> NDArray[np.float64]:
        """The field at scattered points (n, 3): (n,)."""
        index = (points - self.start) / self.pitch
        # Without prefilter the coefficients are taken as they are: the very spline of `on`.
        return ndimage.map_coordinates(self.coefficients, index.T, order=3, prefilter=False, mode="nearest")


def _basis(t: NDArray, knots: int) -> NDArray[np.float32]:
    """Cubic B-spline weights (len(t), knots) at t in units of knots; beyond the ends the last knot repeats."""
    distance = np.abs(np.clip(t, 0, knots - 1)[:, None] - np.arange(-2, knots + 2))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    weights = np.where(distance < 1, near, far)
    weights[:, 2] += weights[:, :2].sum(1)
    weights[:, -3] += weights[:, -2:].sum(1)
    return weights[:, 2:-2].astype(np.float32)


def ellipsoid(z: Volume, y: Volume, x: Volume, centre: tuple[float, ...], radii: tuple[float, ...]) -> Volume:
    """Signed distance, measured along the ray to the centre, to an ellipsoid along the axes; (z, y, x) mm."""
    dz, dy, dx = z - np.float32(centre[0]), y - np.float32(centre[1]), x - np.float32(centre[2])
    q = np.sqrt((dz / radii[0]) ** 2 + (dy / radii[1]) ** 2 + (dx / radii[2]) ** 2)
    r = np.sqrt(dz**2 + dy**2 + dx**2)
    # (q - 1) r / q, whose limit at the centre is minus the smallest radius.
    return np.where(q > 1e-3, (q - 1) * r / np.maximum(q, 1e-3), -min(radii)).astype(np.float32)
