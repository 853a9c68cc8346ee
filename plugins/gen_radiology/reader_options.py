"""Settings of the readers of DICOM and NIfTI."""

from __future__ import annotations

from typing import Literal

from attrs import frozen

GeometryPolicy = Literal["refuse", "warn", "resample"]
"""What happens to a stack without an even grid: refused, taken as it is with a warning, or interpolated onto one."""


@frozen
class DicomReader:
    """DICOM series; geometry: what happens to tilted, uneven or incomplete stacks."""

    geometry: GeometryPolicy = "refuse"


@frozen
class NiftiReader:
    """NIfTI volumes; the header says everything."""
