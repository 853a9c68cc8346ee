"""DICOM SEG: the published liver, and segmentations made by highdicom: every kind, every way to lie on the grid."""

import gzip
import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from gen_core.errors import DataError
from gen_radiology.dicom.find_series import find_series
from gen_radiology.dicom.read_series import read_series
from gen_radiology.dicom.roi_names import RoiNames
from gen_radiology.dicom.seg import segmentation_masks
from gen_radiology.volumes.image import Image

pydicom = pytest.importorskip("pydicom")
highdicom = pytest.importorskip("highdicom")
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.sr.codedict import codes  # noqa: E402
from pydicom.uid import RLELossless, generate_uid  # noqa: E402

DATA = Path(__file__).parents[3] / "data/dcmqi_seg"
TRUTH = json.loads((DATA.parent / "truth.json").read_text())["dcmqi_seg"]
SHAPE = (5, 7, 11)  # 77 voxels a frame: in bits, frames begin within a byte
SPACING = np.array([2.5, 1.3, 0.7])
CT, STUDY, SERIES, FRAME = "1.2.840.10008.5.1.4.1.1.2", generate_uid(), generate_uid(), generate_uid()


def affine_of(turned):
    q = np.eye(3)[::-1]  # z, y, x as columns in LPS
    if turned:
        q, _ = np.linalg.qr(np.random.default_rng(7).normal(size=(3, 3)))
        q[:, 0] = np.cross(q[:, 2], q[:, 1])  # z along row x column
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = q * SPACING, [12.0, -33.0, 81.0]
    return affine


def image_of(affine=None, **meta):
    return Image(np.zeros(SHAPE, np.float32), affine_of(False) if affine is None else affine, "scan", "P", meta=meta)


def sources(affine, shape=SHAPE):
    """Headers of the slices of an image, as highdicom wants them."""
    out = []
    for z in range(shape[0]):
        head = Dataset()
        head.file_meta = FileMetaDataset()
        head.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
        head.SOPClassUID, head.SOPInstanceUID, head.Modality = CT, generate_uid(), "CT"
        head.StudyInstanceUID, head.SeriesInstanceUID, head.FrameOfReferenceUID = STUDY, SERIES, FRAME
        head.PatientID, head.PatientName, head.PatientBirthDate, head.PatientSex = "P", "P", "", ""
        head.StudyDate, head.StudyTime, head.StudyID, head.AccessionNumber = "", "", "", ""
        head.ReferringPhysicianName = ""
        head.Rows, head.Columns = shape[1:]
        step = np.linalg.norm(affine[:3, :3], axis=0)
        head.ImagePositionPatient = [float(f"{v:.8g}") for v in affine[:3] @ [z, 0, 0, 1]]
        directions = affine[:3, :3] / step
        head.ImageOrientationPatient = [float(f"{v:.8g}") for v in (*directions[:, 2], *directions[:, 1])]
        head.PixelSpacing, head.SliceThickness = [float(f"{v:.8g}") for v in step[1:]], float(f"{step[0]:.8g}")
        out.append(head)
    return out


def write(path, frames, kind="BINARY", affine=None, labels=("liver", "GTV-1"), **settings):
    """frames: (z, y, x, segments) or a label map (z, y, x), on the grid of `affine`."""
    affine = affine_of(False) if affine is None else affine
    liver, tissue = codes.SCT.Liver, codes.SCT.Tissue
    segments = [
        highdicom.seg.SegmentDescription(n, label, tissue, liver, "MANUAL") for n, label in enumerate(labels, 1)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = highdicom.seg.Segmentation(
            sources(affine, frames.shape[:3]), frames, kind, segments, generate_uid(), 1, generate_uid(), 1,
            "maker", "model", "1", "0", **settings,
        )  # fmt: skip
        made.save_as(path)
    return path


def two_masks(overlap=False):
    """(z, y, x, 2): the second segment touches one slice only."""
    rng = np.random.default_rng(0)
    masks = np.zeros((*SHAPE, 2), np.uint8)
    masks[1:4, ..., 0] = rng.random((3, *SHAPE[1:])) < 0.4
    masks[3, ..., 1] = rng.random(SHAPE[1:]) < 0.5
    if not overlap:
        masks[..., 1] &= 1 - masks[..., 0]
    return masks


def agrees(found, masks):
    return all(np.array_equal(found.masks[name], masks[..., i] > 0) for i, name in enumerate(("liver", "GTV-1")))


def test_the_published_liver_is_reproduced_voxel_for_voxel():
    ((image,),) = [read_series(series) for series in find_series(DATA / "ct-3slice")]
    masks = segmentation_masks(DATA / "liver.dcm", image)
    truth, mask = TRUTH["liver.dcm"]["placed"]["1"], masks.masks["Liver"]
    assert list(masks.masks) == ["Liver"] and masks.notes == []
    assert mask.sum() == truth["voxels_on_grid"] and np.flatnonzero(mask.any((1, 2))).tolist() == truth["slices"]
    assert image.array[mask].mean(dtype=np.float64) == pytest.approx(truth["value_mean_inside"], abs=0.005)
    assert np.argwhere(mask).mean(0) == pytest.approx(truth["centroid_zyx"], abs=0.005)
    header, _, body = (DATA / "liver_seg.nrrd").read_bytes().partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in header.decode().splitlines() if ": " in line)
    assert (fields["encoding"], fields["endian"], fields["type"]) == ("gzip", "little", "short")
    shape = [int(n) for n in fields["sizes"].split()][::-1]
    assert np.array_equal(np.frombuffer(gzip.decompress(body), "<i2").reshape(shape) > 0, mask)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("overlap", [False, True])
def test_binary_segments_are_placed_frame_by_frame_even_where_they_overlap(tmp_path, turned, overlap):
    masks, affine = two_masks(overlap), affine_of(turned)
    path = write(tmp_path / "s.dcm", masks, affine=affine)
    data = pydicom.dcmread(path)
    assert data.NumberOfFrames == 4 and data.BitsAllocated == 1  # sparse: empty frames are not there
    found = segmentation_masks(path, image_of(affine))
    assert agrees(found, masks) and found.notes == []
    assert found.meta["segments"]["GTV-1"] == {"numbers": [2], "labels": ["GTV-1"], "frames": 1, "placed": 1}


def test_frames_in_any_order_find_their_slice(tmp_path):
    masks = two_masks()
    path = write(tmp_path / "s.dcm", masks, "FRACTIONAL", max_fractional_value=1)
    data = pydicom.dcmread(path)
    order = [2, 0, 3, 1]
    data.PixelData = data.pixel_array[order].tobytes()
    data.PerFrameFunctionalGroupsSequence = [data.PerFrameFunctionalGroupsSequence[i] for i in order]
    data.save_as(path)
    assert agrees(segmentation_masks(path, image_of()), masks)


@pytest.mark.parametrize("syntax", [None, RLELossless], ids=["native", "rle"])
@pytest.mark.parametrize("top", [255, 100])
def test_fractions_of_at_least_half_the_maximum_are_inside(tmp_path, syntax, top):
    shares = np.random.default_rng(1).random((*SHAPE, 2))
    settings = {"transfer_syntax_uid": syntax} if syntax else {}
    path = write(tmp_path / "s.dcm", shares, "FRACTIONAL", max_fractional_value=top, **settings)
    found = segmentation_masks(path, image_of())
    stored = np.rint(shares * top)  # as highdicom stores them
    assert agrees(found, stored >= top / 2)
    assert found.notes == ["s.dcm: fractional (probability): inside where at least 0.5 of the maximum"]
    strict = segmentation_masks(path, image_of(), threshold=0.8)
    assert agrees(strict, stored >= 0.8 * top) and "at least 0.8" in strict.notes[0]


@pytest.mark.parametrize("syntax", [None, RLELossless], ids=["native", "rle"])
def test_a_label_map_gives_a_mask_a_segment(tmp_path, syntax):
    masks = two_masks()
    settings = {"transfer_syntax_uid": syntax} if syntax else {}
    path = write(tmp_path / "s.dcm", masks[..., 0] + 2 * masks[..., 1], "LABELMAP", **settings)
    assert pydicom.dcmread(path).SegmentationType == "LABELMAP"
    found = segmentation_masks(path, image_of())
    assert agrees(found, masks) and found.notes == [] and list(found.masks) == ["liver", "GTV-1"]


@pytest.mark.parametrize("flips", [(0,), (1,), (2,), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("turned", [False, True])
def test_frames_mirrored_or_stacked_the_other_way_are_turned_back(tmp_path, flips, turned):
    masks, affine, mirror = two_masks(), affine_of(turned), np.eye(4)
    for axis in flips:
        mirror[axis, axis], mirror[axis, 3] = -1, SHAPE[axis] - 1
    path = write(tmp_path / "s.dcm", np.flip(masks, flips), affine=affine @ mirror)
    found = segmentation_masks(path, image_of(affine))
    assert agrees(found, masks) and found.notes == []


def test_frames_of_another_plane_of_the_same_grid_are_placed_too(tmp_path):
    """A coronal segmentation of an axial image: its axes (z', y', x') are the image's (y, z, x)."""
    masks, swap = two_masks(), np.eye(4)[[1, 0, 2, 3]]
    path = write(tmp_path / "s.dcm", masks.transpose(1, 0, 2, 3), affine=affine_of(False) @ swap)
    found = segmentation_masks(path, image_of())
    assert agrees(found, masks) and found.notes == []


def test_cropped_frames_are_put_in_their_place_and_those_beside_the_image_are_told(tmp_path):
    masks, shift = two_masks(), np.eye(4)
    shift[:3, 3] = [1, 2, -3]
    path = write(tmp_path / "s.dcm", masks[:, :4], affine=affine_of(False) @ shift)
    found = segmentation_masks(path, image_of())
    expected = np.zeros_like(masks)
    expected[1:, 2:6, :-3] = masks[:-1, :4, 3:]
    assert agrees(found, expected)
    assert "segment 'liver': 3 of 3 frames cut off at the image's edge" in found.notes
    far = affine_of(False) @ np.array([[1, 0, 0, 90], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    found = segmentation_masks(write(tmp_path / "far.dcm", masks, affine=far), image_of())
    assert found.masks == {} and "segment 'liver': 3 of 3 frames outside the image" in found.notes
    assert "segment 'GTV-1': none of its frames lies on the image: no mask" in found.notes


def test_another_grid_is_told_or_resampled_to_the_nearest_voxel_when_asked(tmp_path):
    masks = two_masks()
    finer = affine_of(False) @ np.diag([0.5, 0.5, 0.5, 1.0])
    finer[:3, 3] -= affine_of(False)[:3, :3] @ np.full(3, 0.25)  # halves of the same voxels
    halves = masks.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    path = write(tmp_path / "s.dcm", halves, affine=finer)
    found = segmentation_masks(path, image_of())
    assert found.masks == {} and found.notes == [
        "segment 'liver': 6 frames on another grid than scan: left out (resampling to the nearest voxel is an option)",
        "segment 'GTV-1': 2 frames on another grid than scan: left out (resampling to the nearest voxel is an option)",
        "segment 'liver': none of its frames lies on the image: no mask",
        "segment 'GTV-1': none of its frames lies on the image: no mask",
    ]
    found = segmentation_masks(path, image_of(), resample=True)
    assert agrees(found, masks)
    assert found.notes[0] == "segment 'liver': 6 frames on another grid than scan: resampled to the nearest voxel"


def test_segments_of_one_label_are_told_apart_or_united_under_a_standard_name(tmp_path):
    masks = two_masks()
    path = write(tmp_path / "s.dcm", masks, labels=("GTV-1", "GTV-1"))
    found = segmentation_masks(path, image_of())
    assert list(found.masks) == ["GTV-1 #1", "GTV-1 #2"] and "2 segments are called 'GTV-1'" in found.notes[0]
    found = segmentation_masks(path, image_of(), names=RoiNames())
    assert np.array_equal(found.masks["gtv"], masks.any(-1)) and "are united" in found.notes[0]


def test_frames_without_a_position_and_of_segments_nobody_described_are_told(tmp_path):
    masks = two_masks()
    path = write(tmp_path / "s.dcm", masks)
    data = pydicom.dcmread(path)
    for frame in data.PerFrameFunctionalGroupsSequence:
        shown = frame.SegmentIdentificationSequence[0]
        if shown.ReferencedSegmentNumber == 2:
            shown.ReferencedSegmentNumber = 7
        elif frame.PlanePositionSequence[0].ImagePositionPatient[2] == 81.0 + 2.5:  # slice 1
            del frame.PlanePositionSequence
    data.save_as(path)
    found = segmentation_masks(path, image_of())
    assert np.array_equal(found.masks["liver"][2:], masks[2:, ..., 0] > 0) and not found.masks["liver"][1].any()
    assert found.notes == [
        "s.dcm: 1 frames of segment 7, which is not described: left out",
        "segment 'liver': 1 of 3 frames without a plane position",
        "segment 'GTV-1': none of its frames lies on the image: no mask",
    ]


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_a_segment_without_frames_is_empty_and_not_unknown(tmp_path, kind):
    masks = two_masks()
    masks[..., 1] = 0
    found = segmentation_masks(write(tmp_path / "s.dcm", masks, kind), image_of())
    assert agrees(found, masks) and found.notes == []


def test_another_frame_of_reference_is_told(tmp_path):
    path = write(tmp_path / "s.dcm", two_masks())
    assert segmentation_masks(path, image_of(frame_of_reference_uid=str(FRAME))).notes == []
    found = segmentation_masks(path, image_of(frame_of_reference_uid="1.2"))
    assert found.notes == ["s.dcm: in another frame of reference than scan: placed by position all the same"]


def changed(path, **elements):
    data = pydicom.dcmread(path)
    for key, value in elements.items():
        if value is None:
            delattr(data, key)
        else:
            setattr(data, key, value)
    data.save_as(path)
    return path


@pytest.mark.parametrize(
    "elements, message",
    [
        ({"SOPClassUID": CT}, "not a DICOM SEG .modality 'SEG'"),
        ({"SegmentationType": "SURFACE"}, "key 'SegmentationType' is 'SURFACE'"),
        ({"NumberOfFrames": 5000}, "key 'NumberOfFrames' is 5000, .* has 4 items"),
        ({"SegmentSequence": None}, "key 'SegmentSequence' is missing"),
        ({"PixelData": None}, "key 'PixelData' is missing"),
        ({"PixelData": b"\0\0"}, "key 'PixelData' has 2 bytes, 4 frames need 39"),
        ({"Rows": 65535, "Columns": 65535}, "keys 'Rows', 'Columns' are 65535, 65535"),
        ({"Rows": 0}, "keys 'Rows', 'Columns' are 0, 11"),
        ({"BitsAllocated": 12}, "key 'BitsAllocated' is 12"),
    ],
)
def test_a_header_that_lies_is_one_line_with_file_and_key(tmp_path, elements, message):
    path = changed(write(tmp_path / "s.dcm", two_masks()), **elements)
    with pytest.raises(DataError, match=f"s.dcm: {message}") as caught:
        segmentation_masks(path, image_of())
    assert "\n" not in str(caught.value)


def test_a_compressed_segmentation_with_frames_missing_or_rubbish_is_refused(tmp_path):
    path = write(tmp_path / "s.dcm", two_masks() * 1.0, "FRACTIONAL", transfer_syntax_uid=RLELossless)
    data = pydicom.dcmread(path)
    whole = data.PixelData
    for pixels in (whole[: len(whole) // 2], whole[:8] + bytes(len(whole) - 8), whole[:8]):
        data.PixelData = pixels
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data.save_as(path)
        with pytest.raises(DataError, match="s.dcm: ") as caught:
            segmentation_masks(path, image_of())
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_file_that_is_cut_off_is_refused(tmp_path, share):
    path = write(tmp_path / "s.dcm", two_masks())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match="s.dcm: ") as caught:
        segmentation_masks(path, image_of())
    assert "\n" not in str(caught.value)


def test_a_frame_with_a_flat_orientation_has_no_place(tmp_path):
    path = write(tmp_path / "s.dcm", two_masks())
    data = pydicom.dcmread(path)
    plane = data.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    plane.ImageOrientationPatient = [1, 0, 0, 1, 0, 0]
    data.save_as(path)
    found = segmentation_masks(path, image_of())
    assert found.masks == {} and "3 of 3 frames without a plane position" in found.notes[0]
