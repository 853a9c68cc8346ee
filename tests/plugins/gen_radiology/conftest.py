"""Small synthetic DICOM objects, written by pydicom: what a scanner might send, and what it should not."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

AXIAL, SAGITTAL, CORONAL = (1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1)
SOP_CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
}
ENHANCED = {"CT": "1.2.840.10008.5.1.4.1.1.2.1", "MR": "1.2.840.10008.5.1.4.1.1.4.1"}
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"


def oblique(degrees=(20, -35, 10)):
    """Row and column directions of a rotated axial slice, by scipy's rotations."""
    from scipy.spatial.transform import Rotation

    return tuple(Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()[:, :2].T.ravel())


def dataset(modality="CT", uid=None, series="1.2.3.4", patient="P1", syntax=EXPLICIT, sop=None):
    """The facts of patient, study and series, without an image."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, generate_uid

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = UID(syntax)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = sop or SOP_CLASSES[modality]
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = uid or generate_uid()
    data.Modality, data.PatientID, data.PatientName = modality, patient, "Doe^Jane"
    data.StudyInstanceUID, data.SeriesInstanceUID, data.SeriesNumber = "1.2.3", series, 7
    data.FrameOfReferenceUID = "1.2.3.9"
    return data


def put_pixels(data, stored, bits=None, photometric="MONOCHROME2"):
    """Rows, columns, bits and the pixels themselves, (rows, columns) or (frames, rows, columns)."""
    data.Rows, data.Columns = stored.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, photometric
    data.BitsAllocated = 8 * stored.itemsize
    data.BitsStored = bits or data.BitsAllocated
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(stored.dtype.kind == "i")
    data.PixelData = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    data["PixelData"].VR = "OB" if stored.itemsize == 1 else "OW"
    return data


def number(value):
    """A decimal string of at most 16 characters."""
    return f"{value:.12g}"[:16]


def save(data, path, compress=None):
    """Write a data set; compress: a transfer syntax UID, by pydicom's own encoder for RLE."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if compress:
            plugin = {"1.2.840.10008.1.2.5": "pydicom"}.get(compress, "")
            data.compress(compress, encoding_plugin=plugin, generate_instance_uid=False)
        data.save_as(path, enforce_file_format=True)
    return path


class Dicom:
    """Hands the helpers to tests."""

    AXIAL, SAGITTAL, CORONAL, EXPLICIT, IMPLICIT = AXIAL, SAGITTAL, CORONAL, EXPLICIT, IMPLICIT
    oblique, dataset, put_pixels, save = map(staticmethod, (oblique, dataset, put_pixels, save))

    @staticmethod
    def stored(shape=(5, 6, 7), dtype="i2", low=-900, high=1500, seed=0):
        """Random stored values, five sizes that differ."""
        return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)

    @staticmethod
    def normal(orientation):
        return np.cross(orientation[:3], orientation[3:])

    @staticmethod
    def series(
        folder: Path,
        stored: np.ndarray,
        modality="CT",
        orientation=AXIAL,
        origin=(-30.5, 12.25, 100.0),
        spacing=(2.5, 0.75, 0.5),
        positions=None,
        rescale=(1, -1024),
        change=None,
        names=None,
        compress=None,
        bits=None,
        photometric="MONOCHROME2",
        **facts,
    ) -> list[Path]:
        """One file a slice of stored (z, y, x), z rising along row x col; names run against z unless given.

        positions: (z, 3) LPS mm instead of even steps. change(data, z): last touches before saving.
        """
        orientation = np.asarray(orientation, float)
        if positions is None:
            steps = np.arange(len(stored))[:, None] * spacing[0] * Dicom.normal(orientation)
            positions = np.asarray(origin) + steps
        paths = []
        for z, (slice_, position) in enumerate(zip(stored, positions)):
            data = put_pixels(dataset(modality, **facts), slice_, bits, photometric)
            data.ImagePositionPatient = [number(v) for v in position]
            data.ImageOrientationPatient = [number(v) for v in orientation]
            data.PixelSpacing = [number(v) for v in spacing[1:]]
            data.SliceThickness, data.InstanceNumber = number(spacing[0]), len(stored) - z
            if rescale:
                data.RescaleSlope, data.RescaleIntercept = (number(v) for v in rescale)
            if change:
                change(data, z)
            name = names[z] if names else f"{len(stored) - z:03d}.dcm"
            paths.append(save(data, Path(folder) / name, compress))
        return paths

    @staticmethod
    def enhanced(
        path: Path,
        stored: np.ndarray,
        positions: np.ndarray,
        modality="MR",
        orientation=AXIAL,
        spacing=(0.75, 0.5),
        rescale=None,
        frame=None,
        compress=None,
        **facts,
    ) -> Path:
        """One multi-frame object of stored (frames, y, x); rescale(i) and frame(groups, i) fill groups of a frame."""
        from pydicom.dataset import Dataset
        from pydicom.sequence import Sequence

        def item(**values):
            made = Dataset()
            for name, value in values.items():
                setattr(made, name, value)
            return Sequence([made])

        data = put_pixels(dataset(modality, sop=ENHANCED[modality], **facts), stored)
        data.NumberOfFrames = len(stored)
        shared = Dataset()
        shared.PlaneOrientationSequence = item(ImageOrientationPatient=[number(v) for v in orientation])
        shared.PixelMeasuresSequence = item(PixelSpacing=list(spacing), SliceThickness=2.5)
        data.SharedFunctionalGroupsSequence = Sequence([shared])
        groups = []
        for i, position in enumerate(positions):
            group = Dataset()
            group.PlanePositionSequence = item(ImagePositionPatient=[number(v) for v in position])
            if rescale:
                slope, intercept = rescale(i)
                group.PixelValueTransformationSequence = item(
                    RescaleSlope=number(slope), RescaleIntercept=number(intercept), RescaleType="US"
                )
            if frame:
                frame(group, i, item)
            groups.append(group)
        data.PerFrameFunctionalGroupsSequence = Sequence(groups)
        return save(data, Path(path), compress)


@pytest.fixture(scope="session")
def dicom() -> Dicom:
    pytest.importorskip("pydicom")
    return Dicom()


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """Real files with independently computed truths."""
    return Path(__file__).parents[2] / "data"
