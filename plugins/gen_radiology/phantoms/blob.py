"""A lobulated ball: nodules and lesions. Its volume is that of a ball of its diameter, whatever its lobes."""

from __future__ import annotations

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from gen_radiology.phantoms.grid import Grid, Volume, soft

_KAPPA = 3.0  # how narrow lobes are


@frozen(eq=False)
class Blob:
    """centre: (3,) mm in (z, y, x); diameter: mm, by volume; lobes: (n, 3) unit vectors; heights: shares of radius."""

    centre: NDArray[np.float64]
    diameter: float
    lobes: NDArray[np.float64]
    heights: NDArray[np.float64]

    @classmethod
    def draw(cls, rng: np.random.Generator, centre: NDArray, diameter: float, height: float = 0.40) -> Blob:
        """A blob with four to eight lobes of up to `height`."""
        lobes = rng.normal(size=(int(rng.integers(4, 9)), 3))
        heights = rng.uniform(0.2 * height, height, len(lobes))
        return cls(np.asarray(centre), diameter, lobes / np.linalg.norm(lobes, axis=1, keepdims=True), heights)

    def box(self, grid: Grid) -> tuple[slice, slice, slice]:
        """The voxels of a grid that it may touch."""
        return grid.box(self.centre, 0.9 * self.diameter + 1.5 * max(grid.spacing))

    def sdf(self, part: Grid, size: float = 1.0) -> Volume:
        """Distance along the ray to the centre from a blob `size` times as large, negative inside: on `part`."""
        z, y, x = (a - np.float32(c) for a, c in zip(part.axes, self.centre))
        d = np.sqrt(z**2 + y**2 + x**2) + np.float32(1e-6)
        return d - self._bumps(z / d, y / d, x / d) * np.float32(size * self._radius())

    def cover(self, part: Grid, size: float = 1.0) -> Volume:
        """Share of each voxel of `part` inside."""
        return soft(self.sdf(part, size), part.width)

    def _bumps(self, z: NDArray, y: NDArray, x: NDArray) -> NDArray:
        out = np.float32(1.0)
        for (lz, ly, lx), h in zip(np.float32(self.lobes), np.float32(self.heights)):
            out = out + h * np.exp(np.float32(_KAPPA) * (lz * z + ly * y + lx * x - 1))
        return out

    def _radius(self) -> float:
        """Radius without lobes that keeps the volume: the mean of r^3 over directions (a Fibonacci sphere)."""
        k = np.arange(400) + 0.5
        z, phi = 1 - 2 * k / 400, np.pi * (1 + 5**0.5) * k
        s = np.sqrt(1 - z**2)
        return self.diameter / 2 / float(np.mean(self._bumps(z, s * np.sin(phi), s * np.cos(phi)) ** 3)) ** (1 / 3)
