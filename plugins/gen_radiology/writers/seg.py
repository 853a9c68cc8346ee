"""Masks as one binary DICOM SEG that refers to the series they were drawn on.

Source: DICOM PS3.3, A.51 and C.8.20 (Segmentation); highdicom (Bridge et al. 2022) writes the frames.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gen_core import __version__, atomic
from gen_radiology.writers.synthetic_marks import uid

HIGHDICOM = "1.2.826.0.1.3680043.10.511."  # the root below which highdicom draws random UIDs
NO_DATE, NO_TIME = "19000101", "000000"  # Content Date is mandatory; one that says nothing keeps the bytes the same


def write_segmentation(
    path: Path, masks: dict[str, np.ndarray], images: list[Any], key: str, info: dict[str, Any]
) -> Path:
    """masks: name -> (z, y, x) bool on the grid of `images`, one dataset a slice. Empty segments keep their name.

    key: what all UIDs follow from. Returns `path`.
    """
    import highdicom
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom.sr.codedict import codes

    algorithm = highdicom.AlgorithmIdentificationSequence("gen", codes.DCM.ArtificialIntelligence, __version__)
    segments = [
        SegmentDescription(
            number,
            name[:64],  # LO
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=codes.SCT.AnatomicalStructure,
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
        )
        for number, name in enumerate(masks, 1)
    ]
    made = Segmentation(
        images,
        np.stack(list(masks.values()), axis=-1).astype(np.uint8),
        "BINARY",
        segments,
        series_instance_uid=uid(key, "segmentation"),
        series_number=1000,
        sop_instance_uid=uid(key, "segmentation", 0),
        instance_number=1,
        manufacturer="gen",
        manufacturer_model_name="gen-imaging",
        software_versions=__version__,
        device_serial_number="0",
        series_description="SYNTHETIC masks",
        content_label="MASKS",
        omit_empty_frames=any(mask.any() for mask in masks.values()),
    )
    if info.get("synthetic"):
        made.SyntheticData = "YES"
    made.PatientIdentityRemoved = "YES"
    made.DeidentificationMethod = images[0].DeidentificationMethod
    settle(made, key)
    with atomic.replacing(path) as beside:
        made.save_as(beside, enforce_file_format=True)
    return path


def settle(made: Any, key: str) -> None:
    """Take chance and time out of what highdicom made: UIDs follow from `key`, dates say nothing."""
    known: dict[str, str] = {}

    def change(dataset: Any, element: Any) -> None:
        if element.VR == "UI" and str(element.value).startswith(HIGHDICOM):
            element.value = known.setdefault(str(element.value), uid(key, "drawn", len(known)))
        elif element.VR == "DA" and element.value:
            element.value = NO_DATE
        elif element.VR == "TM" and element.value:
            element.value = NO_TIME
        elif element.VR == "DT" and element.value:
            element.value = NO_DATE + NO_TIME

    made.walk(change)
