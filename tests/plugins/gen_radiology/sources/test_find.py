"""What is found in folders: series and their masks matched, patterns of NIfTI files, readings; policies and notes."""

import math
import shutil
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from attrs import evolve

from gen_core.errors import DataError
from gen_radiology.dataset_options import Dicom, Lidc, Nifti
from gen_radiology.dicom.find_series import find_objects
from gen_radiology.sources.dicom import owners_of
from gen_radiology.sources.find import find_sources
from gen_radiology.sources.source import files_hash, subject_of

pydicom = pytest.importorskip("pydicom")

DATA = Path(__file__).parents[3] / "data"
STS, SEG, LIDC = DATA / "sts_002", DATA / "dcmqi_seg", DATA / "lidc3"


def rewrite(path, change):
    """A DICOM file with a changed header."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = pydicom.dcmread(path)
        change(data)
        data.save_as(path)


@pytest.fixture
def patients(tmp_path):
    """Two patients of one 3-slice CT each, the second a copy with other ids, and a segmentation of the first."""
    root = tmp_path / "archive"
    for i in range(2):
        shutil.copytree(SEG / "ct-3slice", root / f"deep{i}" / "er")
        for path in (root / f"deep{i}" / "er").iterdir():
            rewrite(path, lambda d, i=i: change_ids(d, i))
    shutil.copy(SEG / "liver.dcm", root / "liver.dcm")
    return root


def change_ids(data, i):
    data.PatientAge, data.PatientSex, data.PatientWeight = ("018M", "F", 11.5) if i else ("063Y", "X", None)
    data.SeriesDescription = f"Chest {i}"
    if i:
        data.PatientID = "other"
        for key in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID"):
            data[key].value = data[key].value + ".9"


# DICOM


def test_every_patient_and_series_is_found_with_the_masks_that_name_it(patients):
    found = find_sources(Dicom(root=str(patients), masks=("liver",)))
    assert [s.subject for s in found.sources] == ["99000", "other"] and found.notes == []
    first, second = found.sources
    assert first.segmentations == (patients / "liver.dcm",) and second.segmentations == ()
    _, masks = first.read(True)
    assert masks.masks["liver"].sum() == 107098 and second.read(True)[1].masks == {}
    assert first.grid()[0] == (3, 512, 512) and first.modality == "CT"


def test_names_are_standardized_and_aliases_heeded(patients):
    source = lambda **kw: find_sources(Dicom(root=str(patients), **kw)).sources[0].read(True)[1]
    assert source(masks=("Hepar",)).masks["Hepar"].sum() == 107098
    assert set(source(masks=("big_organ",), aliases={"big_organ": ("liver",)}).masks) == {"big_organ"}
    unasked = source(masks=("spleen",))
    assert unasked.masks == {} and "masks that were not asked for: liver" in unasked.notes


def test_filters_leave_out_and_say_so(patients):
    found = find_sources(Dicom(root=str(patients), description="(?i)chest 1"))
    assert len(found.sources) == 1 and found.sources[0].subject == "other"
    assert any("description 'Chest 0'" in note for note in found.notes)
    with pytest.raises(DataError, match=r"no DICOM series .*3 slices \(dataset.min_slices\)"):
        find_sources(Dicom(root=str(patients), min_slices=4))
    with pytest.raises(DataError, match="its modality is CT"):
        find_sources(Dicom(root=str(patients), modality="MR"))
    with pytest.raises(DataError, match=r"dataset.description = '\(' is no regular expression"):
        find_sources(Dicom(root=str(patients), description="("))
    by_folder = find_sources(Dicom(root=str(patients), subject=r"deep(\d)"))
    assert [s.subject for s in by_folder.sources] == ["0", "1"]


def test_headers_give_age_in_years_sex_weight_and_spacing(patients):
    options = Dicom(root=str(patients), header=("age", "sex", "weight", "slice_spacing_mm", "pixel_spacing_mm"))
    one, two = (s.condition(np.eye(4), (3, 4, 5)) for s in find_sources(options).sources)
    assert one["age"] == 63 and one["sex"] == -1 and math.isnan(one["weight"])
    assert two["age"] == 1.5 and two["sex"] == 0 and two["weight"] == 11.5
    assert abs(one["slice_spacing_mm"] - 1.0) < 1e-6 and abs(one["pixel_spacing_mm"] - 0.810547) < 1e-6


def test_a_segmentation_without_its_series_is_matched_by_frame_of_reference_study_or_patient(patients):
    def forget(*keys):
        def change(data):
            for key in keys:
                if key in data:
                    del data[key]

        return change

    path, folder = patients / "liver.dcm", None
    for keys, how in (
        (("ReferencedSeriesSequence",), "the same frame of reference"),
        (("FrameOfReferenceUID",), "the same study"),
        (("StudyInstanceUID",), "the same patient"),
    ):
        rewrite(path, forget(*keys))
        folder, notes = find_objects(patients), []
        owners = owners_of(folder, notes)
        assert [s.subject for s in owners] == ["99000"] and notes[0].endswith(how)
    rewrite(path, forget("PatientID"))
    notes = []
    assert owners_of(find_objects(patients), notes) == {}
    assert notes == ["left out: liver.dcm: belongs to no series that is here"]


def test_of_series_that_share_everything_the_nearest_folder_gets_the_structures():
    folder = find_objects(STS)
    notes = []
    owners = owners_of(folder, notes)
    found = {s.modality: [p.relative_to(STS).as_posix() for p in mine] for s, (mine, _) in owners.items()}
    assert found == {"CT": ["CT/dicom/mask/RS.dcm"], "MR": ["MR_T1/dicom/mask/RS.dcm"]}
    assert len(notes) == 2 and all("nearest folder" in note for note in notes)


def test_a_series_of_damaged_files_is_told_when_it_is_read(patients):
    path = sorted((patients / "deep1" / "er").iterdir())[1]
    path.write_bytes(path.read_bytes()[:-100000])
    sources = find_sources(Dicom(root=str(patients))).sources
    assert len(sources) == 2
    with pytest.raises(DataError, match=path.name):
        sources[1].read(False)
    (patients / "liver.dcm").write_bytes((patients / "liver.dcm").read_bytes()[:2000])
    found = find_sources(Dicom(root=str(patients), masks=("liver",)))
    told = " ".join(found.notes)
    try:
        found.sources[0].read(True)
    except DataError as error:
        told += str(error)
    assert "liver.dcm" in told


# NIfTI


@pytest.fixture
def images(tmp_path):
    root = tmp_path / "nifti"
    array = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    labels = (array % 4).astype(np.uint8)
    for name, data in (
        ("sub-1/anat/sub-1_T1w.nii.gz", array),
        ("sub-1/anat/sub-1_T1w_seg.nii.gz", labels),
        ("sub-2/anat/sub-2_T1w.nii", array + 1),
        ("masks/sub-1_T1w_tumour.nii.gz", (array > 60).astype(np.uint8)),
        ("masks/sub-9_T1w_tumour.nii.gz", (array > 60).astype(np.uint8)),  # its image is missing
        (".hidden/x.nii", array),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(data, np.diag([-1.0, -1.0, 2.0, 1.0])), root / name)
    return root


def test_masks_are_found_by_pattern_and_are_no_images(images):
    options = Nifti(
        root=str(images), subject=r"sub-(\w+)/", mask_files={"tumour": "masks/{stem}_tumour.nii.gz"},
        labels_file="{id}_seg.nii.gz", labels={"one": 1, "two": 2, "unused": 3}, masks=("tumour", "one", "two"),
    )  # fmt: skip
    one, two = find_sources(options).sources
    assert (one.id, one.subject, two.id, two.subject) == ("sub-1/anat/sub-1_T1w", "1", "sub-2/anat/sub-2_T1w", "2")
    image, masks = one.read(True)
    assert image.array.shape == one.grid()[0] == (6, 5, 4) and np.allclose(image.affine, one.grid()[1])
    truth = np.arange(120).reshape(4, 5, 6).T
    assert np.array_equal(masks.masks["tumour"], truth > 60)
    assert np.array_equal(masks.masks["one"], truth % 4 == 1) and np.array_equal(masks.masks["two"], truth % 4 == 2)
    assert set(masks.masks) == {"tumour", "one", "two"} and len(one.mask_files) == 2
    assert two.read(True)[1].masks == {} and two.mask_files == ()
    assert find_sources(evolve(options, masks=())).sources[0].read(False)[1].masks == {}


def test_folders_and_modalities_of_nifti(images):
    options = Nifti(root=str(images), pattern="sub-*/**/*T1w.nii*", mask_files={"t": "{folder}/../../masks/x.nii"})
    assert len(find_sources(options).sources) == 2
    image, _ = find_sources(evolve(options, modality="ct")).sources[0].read(False)
    assert image.units == "HU" and image.modality == "CT"
    assert find_sources(options).sources[0].read(False)[0].units == ""
    shutil.copy(images / "sub-2/anat/sub-2_T1w.nii", images / "sub-1/anat/sub-1_T1w.nii")
    with pytest.raises(DataError, match="'sub-1/anat/sub-1_T1w' is there with two suffixes"):
        find_sources(options)
    with pytest.raises(DataError, match="dataset.pattern = '/x': Non-relative"):
        find_sources(evolve(options, pattern="/x"))


def test_subjects_by_part_and_expression():
    path = Path("a/b/c12")
    assert subject_of(path, "0") == "a" and subject_of(path, "-1") == "c12" and subject_of(path, r"c(\d+)") == "12"
    with pytest.raises(DataError, match="dataset.subject = '7': 'a/b/c12' has no such part"):
        subject_of(path, "7")
    with pytest.raises(DataError, match=r"finds no group in 'a/b/c12'"):
        subject_of(path, r"d(\d)")
    with pytest.raises(DataError, match="is no regular expression"):
        subject_of(path, "(")


# LIDC-IDRI


def test_readings_are_matched_by_series_and_chest_x_rays_left_out():
    found = find_sources(Lidc(root=str(LIDC)))
    (source,) = found.sources
    assert source.mask_files == (LIDC / "072.xml",) and len(source.nodules) == 4
    assert "left out: 1 readings of chest X-rays" in found.notes
    _, masks = source.read(True)
    assert masks.masks["nodule"].sum() == 3241
    by_class = find_sources(Lidc(root=str(LIDC), masks=("nodule", "solid", "ground-glass"))).sources[0].read(True)[1]
    assert by_class.masks["solid"].sum() == 3241 and not by_class.masks["ground-glass"].any()
    union = find_sources(Lidc(root=str(LIDC), level=0.25)).sources[0].read(True)[1]
    assert union.masks["nodule"].sum() == 5914


def test_nodules_are_units_and_those_that_are_not_here_are_told():
    found = find_sources(Lidc(root=str(LIDC), unit="nodule"))
    assert [s.id.rsplit("-CT-")[1].split("-", 1)[1] for s in found.sources] == ["nodule-1"]
    assert sum("most of it lies on slices that are not here" in note for note in found.notes) == 3
    focus = np.linalg.inv(found.sources[0].grid()[1]) @ [*found.sources[0].focus, 1.0]
    assert np.abs(focus[:3] - (5.46, 350.11, 367.31)).max() < 8  # near the consensus' centroid


def test_series_without_readings_and_readings_without_series(tmp_path):
    shutil.copytree(LIDC, tmp_path / "lidc")
    (tmp_path / "lidc" / "072.xml").unlink()
    with pytest.raises(DataError, match="no XML names its SeriesInstanceUID"):
        find_sources(Lidc(root=str(tmp_path / "lidc")))
    healthy = find_sources(Lidc(root=str(tmp_path / "lidc"), without_xml="healthy")).sources[0]
    condition = healthy.condition(np.eye(4), (11, 512, 512))
    assert condition["nodule"] == 0 and math.isnan(condition["malignancy"]) and math.isnan(condition["diameter_mm"])
    assert not healthy.read(True)[1].masks["nodule"].any()
    shutil.copy(LIDC / "072.xml", tmp_path / "lidc" / "a.xml")
    shutil.copy(LIDC / "072.xml", tmp_path / "lidc" / "b.xml")
    notes = find_sources(Lidc(root=str(tmp_path / "lidc"))).notes
    assert "left out: b.xml: reads the same series as a.xml" in notes
    (tmp_path / "lidc" / "c.xml").write_text("<html></html>")
    with pytest.raises(DataError, match=r"c.xml: root element .* \(dataset.unreadable = \"skip\""):
        find_sources(Lidc(root=str(tmp_path / "lidc")))
    assert any(
        n.startswith("passed over c.xml")
        for n in find_sources(Lidc(root=str(tmp_path / "lidc"), unreadable="skip")).notes
    )


# hashes


def test_contents_decide_the_hash_and_are_remembered(tmp_path):
    for name in "ab":
        (tmp_path / name).write_text(name * (1 << 20))
    files = [tmp_path / "a", tmp_path / "b"]
    first = files_hash(files, tmp_path / "cache")
    assert files_hash(files, tmp_path / "cache") == first == files_hash(files, tmp_path / "elsewhere")
    assert files_hash(files[::-1], tmp_path / "cache") != first
    (tmp_path / "b").write_text("something else")
    assert files_hash(files, tmp_path / "cache") != first
    assert files_hash([], tmp_path / "cache") == files_hash([], tmp_path / "cache")
