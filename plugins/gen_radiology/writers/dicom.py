"""Volumes as DICOM: a folder of slices that is whole or absent, marked synthetic, masks as SEG beside it.

Values are stored in 16 bits with a rescale that gives them back within half a step; UIDs follow from the content,
so that writing again gives the same bytes.
Source: DICOM PS3.3, A.3 (CT Image), A.4 (MR Image), C.12.1 (Synthetic Data), C.7.6.1.1.2 (Image Type).
"""

from __future__ import annotations

import os
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from gen_core import __version__, atomic
from gen_core.errors import DataError, MissingError
from gen_core.volume import VolumeSpec
from gen_core.writer import Writer
from gen_radiology.writer_options import DicomWriter as Options
from gen_radiology.writers.synthetic_marks import centred_affine, content_key, derivation, distinct_parts, uid

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"  # storage classes
EXPLICIT = "1.2.840.10008.1.2.1"
IMPLEMENTATION = uid("implementation")
WINDOWS = {"CT": ([40, -600], [400, 1500], ["MEDIASTINUM", "LUNG"])}  # centre, width in HU
LEVELS = 65530  # steps of 16 bits that are used: a few less than there are keep rounding inside


def build(options: Options, context: Any = None) -> Writer:
    """The writer of DICOM series. Raises: MissingError naming the extra when pydicom or highdicom is not installed."""
    try:
        import highdicom  # noqa: F401 - asked for before any volume is computed
        import pydicom  # noqa: F401
    except ImportError:
        raise MissingError(
            "sample.format = 'dicom' needs pydicom and highdicom: pip install \"gen-imaging[dicom]\" (extra `dicom`)"
        ) from None
    return DicomFiles(options)


class DicomFiles(Writer):
    """`stem/0001.dcm`, ... rising along z (`stem/CHANNEL/0001.dcm` of several channels), `stem-seg.dcm`."""

    def __init__(self, options: Options):
        self.options = options

    def write(
        self,
        stem: Path,
        volume: np.ndarray,
        spec: VolumeSpec,
        info: dict[str, Any],
        masks: dict[str, np.ndarray] | None = None,
    ) -> list[Path]:
        """See Writer. Geometry: `spec.spacing_mm`, axes along the patient's, the middle at 0.

        Raises: DataError for bands, which a series has no place for, and for values that are not finite.
        """
        if spec.depth == "bands":
            raise DataError("sample.format = 'dicom' holds slices, the depth of these volumes is bands: use envi")
        key = content_key(volume, stem.name, sorted(info.items(), key=str), spec.spacing_mm, spec.units)
        parts = distinct_parts(list(spec.channels)).values() if len(volume) > 1 else [""]
        affine = centred_affine(spec)
        series = [
            slices(channel, affine, self._modality(spec), spec.units, key, info, number, part, stem.name)
            for number, (channel, part) in enumerate(zip(volume, parts), 1)
        ]
        beside = stem.with_name(f".{stem.name}{atomic.SUFFIX}{os.getpid()}")
        files = []
        try:
            for part, datasets in zip(parts, series):
                (beside / part).mkdir(parents=True)
                for number, dataset in enumerate(datasets, 1):
                    path = Path(part) / f"{number:04d}.dcm"
                    dataset.save_as(beside / path, enforce_file_format=True)
                    files.append(stem / path)
            publish(beside, stem)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        path = stem.with_name(stem.name + "-seg.dcm")
        if not masks:
            path.unlink(missing_ok=True)  # one of an earlier volume would refer to slices that are gone
            return files
        from gen_radiology.writers.seg import write_segmentation

        full = {name: np.broadcast_to(mask, volume.shape[1:]) for name, mask in masks.items()}
        return [*files, write_segmentation(path, full, series[0], key, info)]

    def _modality(self, spec: VolumeSpec) -> str:
        if self.options.modality != "auto":
            return self.options.modality
        return "CT" if spec.units.upper() == "HU" else "MR"


def publish(beside: Path, folder: Path) -> None:
    """Give a written folder its name; one that has the name already is put aside first and then removed."""
    old = folder.with_name(f".{folder.name}{atomic.SUFFIX}{os.getpid()}-old")
    if folder.exists():
        os.rename(folder, old)
    atomic.publish_folder(beside, folder)
    shutil.rmtree(old, ignore_errors=True)


def rescale(array: np.ndarray) -> tuple[str, str]:
    """Rescale Slope and Intercept as decimal strings for int16: 1 and 0 for whole numbers that fit.

    Otherwise the finest step of 1, 2 or 5 times a power of ten that covers the range. Raises: DataError.
    """
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        raise DataError("a volume holds values that are not finite, which DICOM pixels cannot say")
    if -32768 <= low and high <= 32767 and all((part == np.rint(part)).all() for part in array):
        return "1", "0"
    # a millionth of the largest value, which float32 hardly tells apart: it keeps the intercept within 16 characters
    least = max((high - low) / LEVELS, max(abs(low), abs(high)) * 1e-6, 1e-30)
    power = Decimal(10) ** int(np.floor(np.log10(least)))
    step = next(s for s in (power * k for k in (1, 2, 5, 10, 20)) if float(s) >= least)
    middle = step * round((low + high) / 2 / float(step))
    return _decimal(step), _decimal(middle)


def _decimal(number: Decimal) -> str:
    text = str(number.normalize())
    assert len(text) <= 16, text  # DS holds 16 characters
    return text


def slices(
    array: np.ndarray,
    affine: np.ndarray,
    modality: str,
    units: str,
    key: str,
    info: dict[str, Any],
    number: int = 1,
    channel: str = "",
    name: str = "",
) -> list[Any]:
    """One pydicom dataset a slice of `array` (z, y, x). key: what all UIDs follow from; number: of the series."""
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.valuerep import format_number_as_ds

    numbers = lambda values: [format_number_as_ds(float(v)) for v in values]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    direction = affine[:3, :3] / spacing + 0.0
    slope, intercept = rescale(array)
    identity = f"SYN-{key[:12]}"
    shared = Dataset()
    put = lambda **values: [setattr(shared, keyword, value) for keyword, value in values.items()]
    put(SpecificCharacterSet="ISO_IR 192", SOPClassUID=CT if modality == "CT" else MR, SyntheticData="YES")
    put(ImageType=["DERIVED", "SECONDARY", "AXIAL" if modality == "CT" else "OTHER"], Modality=modality)
    put(
        StudyDate="", StudyTime="", AccessionNumber="", ReferringPhysicianName="", StudyID=""
    )  # type 2: known to be none
    put(Manufacturer="gen", ManufacturerModelName="gen-imaging", SoftwareVersions=__version__, DeviceSerialNumber="0")
    put(PatientName=f"SYNTHETIC^{identity}", PatientID=identity, PatientBirthDate="", PatientSex="")
    put(PatientIdentityRemoved="YES", DeidentificationMethod="synthetic volume: there is no patient")
    put(SeriesDescription=f"SYNTHETIC {channel or name}"[:64], DerivationDescription=derivation(info))
    put(StudyInstanceUID=uid(key, "study"), SeriesInstanceUID=uid(key, "series", number), SeriesNumber=number)
    put(FrameOfReferenceUID=uid(key, "frame"), PositionReferenceIndicator="", AcquisitionNumber="")
    put(PatientPosition="HFS", BurnedInAnnotation="NO", LossyImageCompression="00")
    put(SliceThickness=numbers(spacing[:1])[0], SpacingBetweenSlices=numbers(spacing[:1])[0])
    put(PixelSpacing=numbers(spacing[1:]), ImageOrientationPatient=numbers([*direction[:, 2], *direction[:, 1]]))
    put(SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2", Rows=array.shape[1], Columns=array.shape[2])
    put(BitsAllocated=16, BitsStored=16, HighBit=15, PixelRepresentation=1)
    put(RescaleSlope=slope, RescaleIntercept=intercept)
    if modality == "CT":
        put(KVP="", RescaleType="HU")
    else:
        put(ScanningSequence="RM", SequenceVariant="NONE", ScanOptions="", MRAcquisitionType="")
        put(RepetitionTime="", EchoTime="", EchoTrainLength="", RescaleType="US")
    centre, width, explained = WINDOWS.get(modality) or _window(array)
    put(WindowCenter=centre, WindowWidth=width, WindowCenterWidthExplanation=explained)
    found = []
    for k, part in enumerate(array):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = shared.SOPClassUID, uid(key, number, k)
        meta.TransferSyntaxUID, meta.ImplementationClassUID = EXPLICIT, IMPLEMENTATION
        meta.ImplementationVersionName = f"GEN {__version__}"[:16]
        one = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
        one.update(shared)
        one.SOPInstanceUID, one.InstanceNumber = meta.MediaStorageSOPInstanceUID, k + 1
        one.ImagePositionPatient = numbers(affine[:3, 3] + k * affine[:3, 0])
        one.SliceLocation = numbers([k * spacing[0]])[0]
        stored = np.rint((part.astype(np.float64) - float(intercept)) / float(slope)).astype("<i2")
        one.PixelData = stored.tobytes() + bytes(stored.nbytes % 2)
        found.append(one)
    return found


def _window(array: np.ndarray) -> tuple[list[str], list[str], list[str]]:
    """Centre and width from the first to the 99th percentile of the middle slice."""
    low, high = np.percentile(array[len(array) // 2], (1, 99))
    width = max(float(high - low), 1e-3)
    return [f"{(low + high) / 2:.6g}"], [f"{width:.6g}"], ["PERCENTILES"]
