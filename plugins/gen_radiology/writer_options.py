"""Settings of the writers of NIfTI and DICOM, and of the converter."""

from __future__ import annotations

from typing import Literal

from attrs import frozen


@frozen
class NiftiWriter:
    """One .nii.gz a channel, masks and a JSON sidecar beside it."""

    dtype: Literal["float32", "int16"] = "float32"  # int16: with slope and intercept, half the size
    masks: Literal["each", "labels"] = "each"  # a file a mask, or one file of labels where none overlap


@frozen
class DicomWriter:
    """One folder of slices a volume, masks as one SEG beside it."""

    modality: Literal["auto", "CT", "MR"] = "auto"  # auto: CT for values in HU, else MR


@frozen
class Converting:
    """The converter takes all it needs from the command."""
