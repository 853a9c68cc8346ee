"""Masks come back from a SEG by plain pydicom: each frame placed by its position, each segment by its name."""

import highdicom
import numpy as np
import pydicom
import pytest

from gen_core.volume import VolumeSpec
from gen_radiology.writer_options import DicomWriter
from gen_radiology.writers.dicom import build

SPEC = VolumeSpec(size=(4, 6, 5), depth="slices", units="HU", spacing_mm=(2.5, 0.7, 0.9))
VOLUME = np.random.default_rng(0).uniform(-1000, 1000, SPEC.shape).astype(np.float32)


def write(folder, masks):
    files = build(DicomWriter()).write(folder / "s", VOLUME, SPEC, {"synthetic": True}, masks)
    return pydicom.dcmread(files[-1]), [pydicom.dcmread(f) for f in files[:-1]]


def by_position(seg):
    """name -> (z, y, x) bool, from the frames' own positions."""
    names = {s.SegmentNumber: s.SegmentLabel for s in seg.SegmentSequence}
    found = {name: np.zeros(SPEC.size, bool) for name in names.values()}
    (shared,) = seg.SharedFunctionalGroupsSequence
    frames = seg.pixel_array.reshape(-1, *SPEC.size[1:])
    for frame, group in zip(frames, seg.PerFrameFunctionalGroupsSequence):
        z = float(group.PlanePositionSequence[0].ImagePositionPatient[2])
        (identified,) = group.get("SegmentIdentificationSequence") or shared.SegmentIdentificationSequence
        name = names[identified.ReferencedSegmentNumber]
        found[name][round(z / 2.5 + 1.5)] |= frame.astype(bool)
    return found


def test_overlapping_flat_and_empty_masks_come_back(tmp_path):
    rng = np.random.default_rng(1)
    masks = {
        "lung": rng.random(SPEC.size) > 0.5,
        "flat": rng.random((1, 6, 5)) > 0.5,
        "none": np.zeros(SPEC.size, bool),
    }
    masks["lung"][2] = False  # a slice without a frame
    seg, _ = write(tmp_path, masks)
    found = by_position(seg)
    assert list(found) == list(masks)
    for name, mask in masks.items():
        assert np.array_equal(found[name], np.broadcast_to(mask, SPEC.size)), name


def test_only_empty_masks_come_back_empty(tmp_path):
    seg, _ = write(tmp_path, {"none": np.zeros(SPEC.size, bool)})
    assert not by_position(seg)["none"].any()


def test_it_refers_to_its_series_and_says_that_it_is_synthetic(tmp_path):
    seg, images = write(tmp_path, {"a": VOLUME[0] > 0})
    (series,) = seg.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == images[0].SeriesInstanceUID != seg.SeriesInstanceUID
    named = {i.ReferencedSOPInstanceUID for i in series.ReferencedInstanceSequence}
    assert named == {i.SOPInstanceUID for i in images}
    assert (seg.StudyInstanceUID, seg.FrameOfReferenceUID) == (
        images[0].StudyInstanceUID,
        images[0].FrameOfReferenceUID,
    )
    assert seg.SyntheticData == "YES" and seg.PatientIdentityRemoved == "YES" and seg.PatientID == images[0].PatientID


def test_no_moment_of_writing_is_left_in_it(tmp_path):
    seg, _ = write(tmp_path, {"a": VOLUME[0] > 0})
    times = [e.value for e in seg.iterall() if e.VR in ("DA", "TM", "DT") and e.value]
    assert times and set(times) <= {"19000101", "000000", "19000101000000"}
    assert seg.SOPInstanceUID == seg.file_meta.MediaStorageSOPInstanceUID


def test_highdicom_reads_it(tmp_path):
    mask = VOLUME[0] > 0
    write(tmp_path, {"a": mask})
    seg = highdicom.seg.segread(tmp_path / "s-seg.dcm")
    assert [s.SegmentLabel for s in seg.SegmentSequence] == ["a"]
    read = seg.get_volume(combine_segments=True).array
    assert read.sum() == mask.sum() and sorted(read.shape) == sorted(SPEC.size)


@pytest.mark.parametrize("name", ["GTV-1", "x" * 80])
def test_labels_are_the_names_as_far_as_they_fit(name, tmp_path):
    seg, _ = write(tmp_path, {name: VOLUME[0] > 0})
    assert seg.SegmentSequence[0].SegmentLabel == name[:64]


def test_our_own_readers_give_back_volume_place_and_masks(tmp_path):
    from gen_radiology.dicom.find_series import find_series
    from gen_radiology.dicom.read_series import read_series
    from gen_radiology.dicom.seg import segmentation_masks
    from gen_radiology.writers.synthetic_marks import centred_affine

    masks = {"lesion": VOLUME[0] > 300, "body": VOLUME[0] > -500}
    write(tmp_path, masks)
    (series,) = find_series(tmp_path / "s")
    (image,) = read_series(series)
    assert np.allclose(image.affine, centred_affine(SPEC), atol=1e-5) and image.units == "HU"
    assert np.abs(image.array - VOLUME[0]).max() <= 0.025 * (1 + 1e-3)
    found = segmentation_masks(tmp_path / "s-seg.dcm", image).masks
    assert list(found) == ["lesion", "body"] and all(np.array_equal(found[n], masks[n]) for n in masks)
