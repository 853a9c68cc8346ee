"""Settings of the cube readers."""

from __future__ import annotations

from typing import Literal

from attrs import frozen

Axes = Literal["auto", "yxb", "byx", "ybx", "xyb", "bxy"]
"""Order of the stored axes (y rows, x columns, b bands); "auto": sidecar, then the wavelength count, then y, x, b."""


@frozen
class NpyReader:
    """numpy .npy and .npz arrays."""

    axes: Axes = "auto"


@frozen
class EnviReader:
    """ENVI header and data; the header says everything."""


@frozen
class MatReader:
    """MATLAB v5 and v7.3 files."""

    axes: Axes = "auto"


@frozen
class Hdf5Reader:
    """HDF5 files."""

    axes: Axes = "auto"


@frozen
class TiffReader:
    """TIFF stacks and folders of single-band TIFFs; their tags say which axis is which."""


@frozen
class ZarrReader:
    """zarr arrays in folders."""

    axes: Axes = "auto"


@frozen
class NiftiCubeReader:
    """NIfTI files whose slices are bands; axes in the file's order (i, j, k), by custom (x, y, band)."""

    axes: Axes = "auto"
