"""Written series are read back by pydicom and SimpleITK: values, geometry, marks; the same bytes every time."""

import builtins
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from gen_core import atomic
from gen_core.errors import DataError, MissingError
from gen_core.testing import check_writer
from gen_core.volume import VolumeSpec
from gen_radiology.writer_options import DicomWriter
from gen_radiology.writers.dicom import build, rescale
from gen_radiology.writers.synthetic_marks import centred_affine, uid

SPEC = VolumeSpec(size=(4, 6, 5), depth="slices", units="HU", spacing_mm=(2.5, 0.7, 0.9))
INFO = {
    "synthetic": True,
    "id": "sample-000003",
    "seed": 7,
    "prior": "ab12",
    "sampler": "ddim",
    "condition": {"age": 61.5},
}


@pytest.fixture
def volume():
    return np.random.default_rng(0).uniform(-1000, 1000, SPEC.shape).astype(np.float32)


def pydicom_volume(folder):
    """Stacked by hand: value = slope * stored + intercept, sorted by z."""
    found = sorted(map(pydicom.dcmread, folder.glob("*.dcm")), key=lambda d: d.ImagePositionPatient[2])
    return np.stack([d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept) for d in found]), found


def test_the_writer_keeps_its_contract(tmp_path):
    check_writer(build(DicomWriter()), tmp_path, SPEC)


def test_values_and_geometry_by_pydicom(volume, tmp_path):
    files = build(DicomWriter()).write(tmp_path / "s.1", volume, SPEC, INFO)
    assert [f.relative_to(tmp_path).as_posix() for f in files] == [f"s.1/{k:04d}.dcm" for k in (1, 2, 3, 4)]
    values, found = pydicom_volume(tmp_path / "s.1")
    step = float(found[0].RescaleSlope)
    assert step == 0.05 and np.abs(values - volume[0]).max() <= step / 2 * (1 + 1e-6)
    assert list(map(float, found[0].PixelSpacing)) == [0.7, 0.9]
    first = centred_affine(SPEC)[:3, 3]
    for k, one in enumerate(found):
        assert np.allclose(np.float64(one.ImagePositionPatient), first + (0, 0, 2.5 * k), atol=1e-5)
        assert one.InstanceNumber == k + 1


def test_values_and_geometry_by_simpleitk(volume, tmp_path):
    build(DicomWriter()).write(tmp_path / "s", volume, SPEC, INFO)
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "s"))
    image = sitk.ReadImage(names)
    assert np.abs(sitk.GetArrayFromImage(image) - volume[0]).max() <= 0.025 * (1 + 1e-4)
    assert np.allclose(image.GetSpacing(), (0.9, 0.7, 2.5), atol=1e-5)
    assert np.allclose(image.GetDirection(), np.eye(3).ravel(), atol=1e-5)
    assert np.allclose(image.GetOrigin(), centred_affine(SPEC)[:3, 3], atol=1e-5)


@pytest.mark.parametrize(
    ("low", "high"), [(-1000, 1000), (0, 1e-7), (1e6, 1e6 + 3), (-3e9, 5e9), (0.3, 0.3), (0, 6553)]
)
def test_any_range_is_within_half_a_step(low, high):
    array = np.random.default_rng(1).uniform(low, high, (3, 4, 5)).astype(np.float32)
    array[0, 0, :2] = low, high
    slope, intercept = rescale(array)
    assert len(slope) <= 16 and len(intercept) <= 16
    stored = np.rint((array.astype(np.float64) - float(intercept)) / float(slope))
    assert stored.min() >= -32768 and stored.max() <= 32767
    assert np.abs(stored * float(slope) + float(intercept) - array).max() <= float(slope) / 2 * (1 + 1e-6)
    assert float(slope) <= 5 * max((high - low) / 65530, abs(high) * 1e-6, abs(low) * 1e-6)


def test_whole_numbers_are_stored_as_they_are(volume, tmp_path):
    build(DicomWriter()).write(tmp_path / "s", volume.round(), SPEC, INFO)
    values, found = pydicom_volume(tmp_path / "s")
    assert found[0].RescaleSlope == 1 and found[0].RescaleIntercept == 0
    assert np.array_equal(values, volume[0].round())


def test_every_slice_says_that_it_is_synthetic(volume, tmp_path):
    files = build(DicomWriter()).write(tmp_path / "s", volume, SPEC, INFO)
    seen = set()
    for path in files:
        one = pydicom.dcmread(path)
        assert one[0x0008, 0x001C].value == "YES" and list(one.ImageType[:2]) == ["DERIVED", "SECONDARY"]
        assert one.PatientID.startswith("SYN-") and one.PatientIdentityRemoved == "YES"
        assert "prior ab12" in one.DerivationDescription and "age = 61.5" in one.DerivationDescription
        assert "gen 0." in one.DerivationDescription
        assert one.BurnedInAnnotation == "NO" and one.PatientBirthDate == one.StudyDate == ""
        seen.add(one.SOPInstanceUID)
        seen.add((one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID))
    assert len(seen) == 4 + 1 and all(pydicom.uid.UID(u).is_valid for u in seen if isinstance(u, str))


def test_the_modality_follows_the_units_or_the_setting(volume, tmp_path):
    mr = VolumeSpec(size=SPEC.size, depth="slices", spacing_mm=SPEC.spacing_mm)
    for spec, setting, modality, name in (
        (SPEC, "auto", "CT", "CT Image Storage"),
        (mr, "auto", "MR", "MR Image Storage"),
        (mr, "CT", "CT", "CT Image Storage"),
    ):
        files = build(DicomWriter(modality=setting)).write(tmp_path / "s", volume, spec, INFO)
        one = pydicom.dcmread(files[0])
        assert one.Modality == modality and one.SOPClassUID.name == name


def test_the_same_volume_gives_the_same_bytes_and_another_other_uids(volume, tmp_path):
    writer, masks = build(DicomWriter()), {"a": volume[0] > 0}
    first = [f.read_bytes() for f in writer.write(tmp_path / "s", volume, SPEC, INFO, masks)]
    assert [f.read_bytes() for f in writer.write(tmp_path / "s", volume, SPEC, INFO, masks)] == first
    uids = [pydicom.dcmread(tmp_path / "s" / "0001.dcm").SOPInstanceUID]
    volume[0, 3, 5, 4] += 1
    writer.write(tmp_path / "s", volume, SPEC, INFO)
    uids.append(pydicom.dcmread(tmp_path / "s" / "0001.dcm").SOPInstanceUID)
    writer.write(tmp_path / "t", volume, SPEC, INFO)
    uids.append(pydicom.dcmread(tmp_path / "t" / "0001.dcm").SOPInstanceUID)
    assert len(set(uids)) == 3 and uid("a", 1) == uid("a", 1) != uid("a", 2)


def test_a_folder_is_whole_or_absent(volume, tmp_path, monkeypatch):
    writer = build(DicomWriter())
    writer.write(tmp_path / "s", volume, SPEC, INFO)
    before = (tmp_path / "s" / "0001.dcm").read_bytes()
    monkeypatch.setattr(atomic, "sync_file", lambda path: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        writer.write(tmp_path / "t", volume, SPEC, INFO)
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
    assert (tmp_path / "s" / "0001.dcm").read_bytes() == before


def test_a_shorter_volume_leaves_no_slice_of_the_longer_one(volume, tmp_path):
    writer = build(DicomWriter())
    writer.write(tmp_path / "s", volume, SPEC, INFO)
    single = VolumeSpec(size=(1, 6, 5), depth="none", units="HU", spacing_mm=(1.0, 0.7, 0.9))
    files = writer.write(tmp_path / "s", volume[:, :1], single, INFO, {"a": np.ones((1, 6, 5), bool)})
    assert [p.name for p in (tmp_path / "s").iterdir()] == ["0001.dcm"] and files[-1].name == "s-seg.dcm"
    image = sitk.ReadImage(str(files[0]))
    assert np.abs(sitk.GetArrayFromImage(image) - volume[0, :1]).max() <= 0.026
    writer.write(tmp_path / "s", volume, SPEC, INFO)
    assert [p.name for p in tmp_path.iterdir()] == ["s"]  # nor masks of what was there before


def test_channels_are_series_of_one_study(tmp_path):
    spec = VolumeSpec(size=(2, 3, 4), channels=("T1", "T2"), depth="slices")
    volume = np.random.default_rng(2).random(spec.shape, np.float32)
    files = build(DicomWriter()).write(tmp_path / "s", volume, spec, INFO)
    assert [f.relative_to(tmp_path / "s").as_posix() for f in files[::2]] == ["T1/0001.dcm", "T2/0001.dcm"]
    a, b = (pydicom.dcmread(f) for f in files[::2])
    assert a.StudyInstanceUID == b.StudyInstanceUID and a.SeriesInstanceUID != b.SeriesInstanceUID
    values, _ = pydicom_volume(tmp_path / "s" / "T2")
    assert np.abs(values - volume[1]).max() <= float(b.RescaleSlope) / 2 * (1 + 1e-6)


def test_bands_and_values_that_are_not_finite_are_refused(volume, tmp_path):
    with pytest.raises(DataError, match="the depth of these volumes is bands"):
        build(DicomWriter()).write(tmp_path / "s", volume, VolumeSpec(size=(4, 6, 5)), INFO)
    volume[0, 0, 0, 0] = np.inf
    with pytest.raises(DataError, match="not finite"):
        build(DicomWriter()).write(tmp_path / "s", volume, SPEC, INFO)
    assert list(tmp_path.iterdir()) == []


def test_without_pydicom_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kw):
        if name.partition(".")[0] in ("pydicom", "highdicom"):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return real(name, *args, **kw)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingError, match=r"dicom.*extra `dicom`"):
        build(DicomWriter())


@pytest.mark.skipif(shutil.which("dcmdump") is None, reason="dcmtk is not installed")
def test_dcmtk_reads_a_slice(volume, tmp_path):
    files = build(DicomWriter()).write(tmp_path / "s", volume, SPEC, INFO)
    shown = subprocess.run(["dcmdump", str(files[0])], capture_output=True, text=True, check=True)
    assert "SYN-" in shown.stdout and not shown.stderr
