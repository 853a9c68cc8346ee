"""A CT series of 200 slices, 512 x 512, uncompressed: files to HU in float32, sorted by position.

Sides: plain pydicom (read every file, sort by position, stack `pixel_array`, rescale), SimpleITK's series reader
(GDCM), ours (headers of the folder, then pixels). Aim: 3 times as fast as pydicom at a third of its extra memory;
the volume itself (200 MiB) counts as extra memory on every side. Files lie in the page cache after the first round.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from harness import compare

SLICES, SIZE = 200, 512
FOLDER = Path(tempfile.gettempdir()) / "gen-benchmark-dicom"


def make() -> None:
    """The series, once: noise, so that nothing packs; names run against positions."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    if len(list(FOLDER.glob("*.dcm"))) == SLICES:
        return
    FOLDER.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    study, series = generate_uid(), generate_uid()
    for i in range(SLICES):
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = CTImageStorage
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        data.StudyInstanceUID, data.SeriesInstanceUID, data.Modality = study, series, "CT"
        data.PatientID, data.PatientName, data.InstanceNumber = "benchmark", "Bench^Mark", i + 1
        data.ImageType, data.Manufacturer = ["ORIGINAL", "PRIMARY", "AXIAL"], "none"
        data.ImagePositionPatient, data.ImageOrientationPatient = [-200, -180, 1.25 * i], [1, 0, 0, 0, 1, 0]
        data.PixelSpacing, data.SliceThickness = [0.7, 0.7], 1.25
        for block in range(4):  # as many elements as scanners write
            for element in range(16):
                data.add_new((0x0019 + 2 * block) << 16 | 0x1000 + element, "LO", f"private {element}")
        data.Rows = data.Columns = SIZE
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
        data.RescaleSlope, data.RescaleIntercept = 1, -1024
        data.PixelData = rng.integers(0, 3000, (SIZE, SIZE)).astype("<i2").tobytes()
        data.save_as(FOLDER / f"{SLICES - i:04d}.dcm", enforce_file_format=True)


def with_pydicom() -> np.ndarray:
    from pydicom import dcmread

    slices = [dcmread(path) for path in FOLDER.iterdir()]
    slices.sort(key=lambda data: float(data.ImagePositionPatient[2]))
    stored = np.stack([data.pixel_array for data in slices])
    first = slices[0]
    return stored.astype(np.float32) * np.float32(first.RescaleSlope) + np.float32(first.RescaleIntercept)


def with_simpleitk() -> np.ndarray:
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(FOLDER)))
    reader.SetOutputPixelType(sitk.sitkFloat32)
    return sitk.GetArrayViewFromImage(reader.Execute())


def ours() -> np.ndarray:
    from gen_radiology.dicom.find_series import find_series
    from gen_radiology.dicom.read_series import read_series

    (series,) = find_series(FOLDER)
    return read_series(series)[0].array


if __name__ == "__main__":
    make()
    # what every side imports is there before memory is measured
    import pydicom.pixels  # noqa: F401
    import SimpleITK  # noqa: F401

    from gen_radiology.dicom import find_series, read_series  # noqa: F401

    compare(
        f"{SLICES} slices, {SIZE} x {SIZE}, int16 to HU",
        {"pydicom": with_pydicom, "SimpleITK": with_simpleitk, "ours": ours},
    )
