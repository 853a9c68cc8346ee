"""RTSTRUCT: the published masks voxel for voxel, and structures written here with pydicom, every oddity of them."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.path import Path as Outline

from gen_core.errors import DataError, MissingError
from gen_radiology.dicom.find_series import find_series
from gen_radiology.dicom.read_series import read_series
from gen_radiology.dicom.roi_names import RoiNames
from gen_radiology.dicom.rtstruct import Contour, Roi, Structures, read_rtstruct, structure_masks
from gen_radiology.volumes.image import Image

pydicom = pytest.importorskip("pydicom")
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.sequence import Sequence  # noqa: E402

DATA = Path(__file__).parents[3] / "data"
TRUTH = json.loads((DATA / "truth.json").read_text())["sts_002"]
SHAPE = (5, 17, 23)
UIDS = tuple(f"1.2.3.{k}" for k in range(SHAPE[0]))
AXIAL = np.array([[0, 0, 0.7, -3.0], [0, 1.3, 0, 11.0], [2.5, 0, 0, -40.0], [0, 0, 0, 1]])  # z, y, x -> LPS mm


def oblique():
    """A stack turned in space: columns z, y, x of one rotation, then spacing."""
    q, _ = np.linalg.qr(np.random.default_rng(7).normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = q * [2.5, 1.3, 0.7], [12.0, -33.0, 81.0]
    return affine


def image_of(affine=AXIAL, uids=UIDS, **meta):
    return Image(np.zeros(SHAPE, np.float32), affine, "scan", "subject", slice_uids=uids, meta=meta)


def in_mm(affine, z, polygon):
    """(n, 2) voxel (y, x) on slice z -> (n, 3) LPS mm."""
    index = np.column_stack([np.full(len(polygon), float(z)), polygon, np.ones(len(polygon))])
    return (index @ affine.T)[:, :3]


def rectangle(y0, x0, y1, x1):
    return np.array([[y0, x0], [y0, x1], [y1, x1], [y1, x0]], float)


BOX = rectangle(2.5, 4.5, 8.5, 10.5)  # 6 x 6 voxels, edges between the centres


def contour(z, polygon=BOX, affine=AXIAL, kind="CLOSED_PLANAR", uid=""):
    return Contour(in_mm(affine, z, polygon), kind, uid)


def structures(*contours, name="GTV"):
    return Structures(Path("rs.dcm"), [Roi(1, name, "GTV", list(contours))])


def masks_of(*contours, image=None, name="GTV"):
    return structure_masks(structures(*contours, name=name), image or image_of())


def write(path, rois, explicit=True, frame="1.2.9"):
    """An RTSTRUCT file. rois: (number, name, type, contours)."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.7"
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1" if explicit else "1.2.840.10008.1.2"
    data.Modality, data.PatientID, data.StudyInstanceUID = "RTSTRUCT", "P-3", "1.2.8"
    series, study, reference = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = "1.2.5"
    study.RTReferencedSeriesSequence = Sequence([series])
    reference.FrameOfReferenceUID, reference.RTReferencedStudySequence = frame, Sequence([study])
    data.ReferencedFrameOfReferenceSequence = Sequence([reference])
    data.StructureSetROISequence, data.ROIContourSequence = Sequence(), Sequence()
    data.RTROIObservationsSequence = Sequence()
    for number, name, kind, contours in rois:
        roi, drawn, seen = Dataset(), Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, frame
        seen.ReferencedROINumber, seen.RTROIInterpretedType = number, kind
        drawn.ReferencedROINumber, drawn.ContourSequence = number, Sequence()
        for found in contours:
            item = Dataset()
            item.ContourGeometricType, item.NumberOfContourPoints = found.kind, len(found.points)
            item.ContourData = [f"{v:.5f}" for v in np.ravel(found.points)]
            if found.sop_uid:
                shown = Dataset()
                shown.ReferencedSOPInstanceUID = found.sop_uid
                item.ContourImageSequence = Sequence([shown])
            drawn.ContourSequence.append(item)
        data.StructureSetROISequence.append(roi)
        data.RTROIObservationsSequence.append(seen)
        data.ROIContourSequence.append(drawn)
    pydicom.dcmwrite(path, data, enforce_file_format=True)
    return path


@pytest.mark.parametrize("modality", ["CT", "MR_T1"])
def test_the_published_tumour_is_reproduced_voxel_for_voxel(modality):
    folder = DATA / "sts_002" / modality / "dicom"
    ((name, truth),) = TRUTH[modality]["rtstruct"]["rois"].items()
    ((image,),) = [read_series(series) for series in find_series(folder / "image")]
    found = read_rtstruct(folder / "mask/RS.dcm")
    assert [(r.number, r.name, len(r.contours)) for r in found.rois] == [(1, name, truth["contours"])]
    assert found.subject == "STS_002" and found.warnings == []
    masks = structure_masks(found, image)
    mask = masks.masks[name]
    assert masks.notes == [] and mask.shape == image.array.shape and mask.dtype == bool
    assert mask.sum() == truth["even_odd"] and mask.any((1, 2)).sum() == truth["slices"]
    assert hashlib.sha256(mask.astype("<f4").tobytes()).hexdigest() == truth["sha_f32_mask"]
    assert mask.sum() * image.spacing.prod() == pytest.approx(truth["volume_mm3"], abs=0.02)
    assert image.array[mask].mean(dtype=np.float64) == pytest.approx(truth["value_mean_inside"], abs=1e-3)
    assert np.argwhere(mask).mean(0) == pytest.approx(truth["centroid_zyx"], abs=1e-3)
    assert list(structure_masks(found, image, RoiNames()).masks) == ["gtv"]


@pytest.mark.parametrize("explicit", [True, False])
def test_what_pydicom_writes_is_read_back(tmp_path, explicit):
    rois = [(4, "Lung_L", "ORGAN", [contour(1, uid=UIDS[1]), contour(2)]), (9, "Heart", "", [])]
    found = read_rtstruct(write(tmp_path / "a.dcm", rois, explicit))
    assert [(r.number, r.name, r.interpreted_type) for r in found.rois] == [(4, "Lung_L", "ORGAN"), (9, "Heart", "")]
    assert found.rois[0].frame_of_reference_uid == "1.2.9" and found.series_uids == ("1.2.5",)
    assert (found.subject, found.study_uid) == ("P-3", "1.2.8")
    first, second = found.rois[0].contours
    assert np.allclose(first.points, contour(1).points, atol=1e-5) and first.points.shape == (4, 3)
    assert (first.sop_uid, second.sop_uid, first.kind) == (UIDS[1], "", "CLOSED_PLANAR")


@pytest.mark.parametrize("affine", [AXIAL, oblique()], ids=["axial", "oblique"])
def test_outlines_fill_the_voxels_that_matplotlib_finds_inside(tmp_path, affine):
    rng = np.random.default_rng(4)
    expected, contours = np.zeros(SHAPE, bool), []
    centres = np.stack([v.ravel() for v in np.mgrid[: SHAPE[1], : SHAPE[2]]], 1)
    for z in (0, 1, 4):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 29))
        radius = rng.uniform(3, 7, 29)[:, None]
        polygon = [8.123, 11.456] + radius * np.stack([np.sin(angle), np.cos(angle)], 1)
        expected[z] = Outline(polygon).contains_points(centres).reshape(SHAPE[1:])
        contours.append(contour(z, polygon, affine))
    path = write(tmp_path / "a.dcm", [(1, "blob", "", contours)])
    found = structure_masks(read_rtstruct(path), image_of(affine))
    assert np.array_equal(found.masks["blob"], expected) and expected.sum() > 100 and found.notes == []


def test_a_hole_is_a_hole_as_a_second_contour_and_as_a_keyhole():
    hole = rectangle(3.5, 5.5, 5.5, 7.5)
    two = masks_of(contour(2), contour(2, hole)).masks["GTV"]
    keyhole = np.concatenate([BOX, BOX[:1], hole[[0, 3, 2, 1, 0]]])
    one = masks_of(contour(2, keyhole)).masks["GTV"]
    assert two.sum() == 36 - 4 and not two[2, 4:6, 6:8].any() and np.array_equal(one, two)
    assert np.array_equal(masks_of(contour(2, kind="CLOSEDPLANAR_XOR"), contour(2, hole)).masks["GTV"], two)


@pytest.mark.parametrize("uid", ["", "9.9.9", UIDS[3]])
def test_slices_are_found_by_position_whether_uids_are_missing_unknown_or_known(uid):
    found = masks_of(contour(3, uid=uid))
    assert found.masks["GTV"].sum(axis=(1, 2)).tolist() == [0, 0, 0, 36, 0] and found.notes == []


def test_a_contour_that_names_the_image_of_another_slice_stays_where_it_is_drawn():
    found = masks_of(contour(3, uid=UIDS[1]))
    assert found.masks["GTV"][3].sum() == 36 == found.masks["GTV"].sum()
    assert found.notes == ["ROI 'GTV': 1 contours name the image of another slice: placed by position"]


def test_a_contour_between_slices_is_told_unless_it_names_its_image():
    found = masks_of(contour(1), contour(2.4))
    assert found.masks["GTV"].any((1, 2)).tolist() == [False, True, False, False, False]
    assert found.notes == ["ROI 'GTV': 1 of 2 not drawn: contours between slices (z = -34.00 mm)"]
    named = masks_of(contour(2.4, uid=UIDS[2]))
    assert named.masks["GTV"][2].sum() == 36 and named.notes == []
    near = masks_of(contour(2.2))
    assert near.masks["GTV"][2].sum() == 36 and near.notes == []


def test_of_contours_thinner_than_the_slices_only_the_nearest_plane_is_drawn():
    hole = rectangle(3.5, 5.5, 5.5, 7.5)
    found = masks_of(contour(2.2), contour(2.05), contour(2.05, hole), contour(1.9))
    assert found.masks["GTV"][2].sum() == 36 - 4  # not the parity of all four
    assert found.meta["rois"]["GTV"]["contours"] == 2
    (note,) = found.notes
    assert note.startswith("ROI 'GTV': 2 of 4 not drawn: contours farther from a slice than others of it (z = -35.25,")


def test_contours_off_the_grid_are_told_and_a_region_without_any_gives_no_mask():
    found = masks_of(contour(-2), contour(5), contour(2, BOX + 40))
    assert found.masks == {} and found.notes == [
        "ROI 'GTV': 2 of 3 not drawn: contours outside the stack (z = -45.00, -27.50 mm)",
        "ROI 'GTV': 1 of 3 not drawn: contours beside the slices (z = -35.00 mm)",
        "ROI 'GTV': none of its contours lies on the image: no mask",
    ]


def test_a_contour_reaching_beyond_the_slice_is_cut_off_and_told():
    found = masks_of(contour(2, rectangle(-5, -5, 30, 30)))
    assert found.masks["GTV"][2].all()
    assert found.notes == ["ROI 'GTV': 1 contours reach beyond the slices: cut off at the edge"]


def test_contours_on_other_planes_are_told():
    sagittal = np.array([[0, 3, 6, 1], [0, 9, 6, 1], [4, 9, 6, 1], [4, 3, 6, 1]]) @ AXIAL.T
    found = masks_of(contour(1), Contour(sagittal[:, :3]))
    assert found.masks["GTV"].sum() == 36
    told = "ROI 'GTV': 1 of 2 not drawn: contours on planes tilted against the slices (z = -35.00 mm)"
    assert found.notes == [told]


def test_a_slightly_tilted_contour_is_projected_onto_its_slice():
    tilted = contour(2)
    tilted.points[:, 2] += [-0.5, 0.5, 0.5, -0.5]  # 0.4 slice distances in all
    found = masks_of(tilted)
    assert found.masks["GTV"][2].sum() == 36 and found.notes == []


def test_points_open_contours_and_contours_of_two_points_are_told_and_points_are_kept():
    point = Contour(in_mm(AXIAL, 1, np.array([[3.0, 4.0]])), "POINT")
    found = masks_of(contour(2), point, contour(3, kind="OPEN_PLANAR"), contour(4, BOX[:2]))
    assert found.masks["GTV"].sum() == 36
    assert found.meta["rois"]["GTV"]["points_mm"] == [pytest.approx([-0.2, 14.9, -37.5])]
    assert found.notes == [
        "ROI 'GTV': 1 of 4 not drawn: single points (z = -37.50 mm)",
        "ROI 'GTV': 1 of 4 not drawn: open contours (OPEN_PLANAR) (z = -32.50 mm)",
        "ROI 'GTV': 1 of 4 not drawn: contours of fewer than three points (z = -30.00 mm)",
    ]


def test_a_region_without_contours_or_smaller_than_a_voxel_is_told():
    assert masks_of().notes == ["ROI 'GTV' has no contours: no mask"]
    small = masks_of(contour(2, rectangle(3.2, 4.2, 3.8, 4.8)))
    assert not small.masks["GTV"].any() and "no voxel centre" in small.notes[0]


def test_regions_of_one_name_are_told_apart_or_united_under_a_standard_name():
    rois = [Roi(n, name, "", [contour(z)]) for n, name, z in ((1, "GTV-1", 1), (2, "gtv1", 2), (5, "GTV-1", 3))]
    plain = structure_masks(Structures(Path("rs.dcm"), rois), image_of())
    assert list(plain.masks) == ["GTV-1 #1", "gtv1", "GTV-1 #5"] and len(plain.notes) == 1
    united = structure_masks(Structures(Path("rs.dcm"), rois), image_of(), RoiNames())
    assert united.masks["gtv"].sum(axis=(1, 2)).tolist() == [0, 36, 36, 36, 0]
    assert united.notes == ["3 regions are 'gtv' and are united: GTV-1, GTV-1, gtv1"]
    assert united.meta["rois"]["gtv"]["numbers"] == [1, 2, 5] and united.meta["rois"]["gtv"]["contours"] == 3


def test_another_frame_of_reference_is_told(tmp_path):
    found = read_rtstruct(write(tmp_path / "a.dcm", [(1, "GTV", "", [contour(2)])], frame="1.2.9"))
    same, other = (structure_masks(found, image_of(frame_of_reference_uid=uid)) for uid in ("1.2.9", "1.2.10"))
    assert same.notes == [] and other.masks["GTV"].sum() == 36
    assert other.notes == ["a.dcm: in another frame of reference than scan: placed by position all the same"]


def test_damaged_contours_are_left_out_one_by_one_and_told(tmp_path):
    path = write(tmp_path / "a.dcm", [(1, "GTV", "", [contour(1), contour(2), contour(3)])])
    data = pydicom.dcmread(path)
    items = data.ROIContourSequence[0].ContourSequence
    items[0].ContourData = list(items[0].ContourData)[:-1]  # no whole triples
    del items[1].ContourData
    pydicom.dcmwrite(path, data)
    found = read_rtstruct(path)
    assert found.warnings == ["a.dcm: ROI 'GTV': a contour without whole x, y, z: left out"] * 2
    assert structure_masks(found, image_of()).masks["GTV"].any((1, 2)).tolist() == [False, False, False, True, False]
    raw = path.read_bytes()
    bad = tmp_path / "b.dcm"
    at = raw.index(b"-32.50000")  # a number of the last contour
    bad.write_bytes(raw[:at] + b"rubbish!!" + raw[at + 9 :])
    assert len(read_rtstruct(bad).warnings) == 3 and read_rtstruct(bad).rois[0].contours == []


def test_contours_of_a_region_without_a_name_and_a_number_given_twice(tmp_path):
    path = write(tmp_path / "a.dcm", [(1, "GTV", "", [contour(1)]), (1, "other", "", []), (3, "X", "", [contour(2)])])
    data = pydicom.dcmread(path)
    data.StructureSetROISequence.pop()
    pydicom.dcmwrite(path, data)
    found = read_rtstruct(path)
    assert [r.name for r in found.rois] == ["GTV", "ROI 3"] and len(found.warnings) == 2


def test_files_that_are_no_rtstruct_are_refused_in_one_line(tmp_path):
    text = tmp_path / "text.dcm"
    text.write_bytes(b"no dicom at all" * 20)
    image = DATA / "sts_002/CT/dicom/image/000000.dcm"
    for path, message in (
        (text, "not a DICOM file"),
        (tmp_path / "none.dcm", "cannot be read: No such file"),
        (image, "not an RTSTRUCT .modality 'CT'"),
    ):
        with pytest.raises(DataError, match=f"{path.name}: {message}"):
            read_rtstruct(path)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_file_that_is_cut_off_is_an_error_or_told_and_never_a_crash(tmp_path, share):
    path = write(tmp_path / "a.dcm", [(1, "GTV", "", [contour(z, uid=UIDS[z]) for z in range(5)])])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    try:
        found = structure_masks(read_rtstruct(path), image_of())
    except DataError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
    else:
        assert found.notes or found.masks["GTV"].sum() == 5 * 36  # only what comes behind the contours is missing


def test_without_pydicom_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingError, match=r"pip install 'gen-imaging\[dicom\]'"):
        read_rtstruct(DATA / "sts_002/CT/dicom/mask/RS.dcm")
