"""`gen data inspect` on real files: every figure of tests/data/truth.json, which other libraries computed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from gen_core.errors import DataError
from gen_core.inspect import inspect_path
from gen_core.registry import Registry
from gen_radiology import plugin
from gen_radiology.conversion.inspect import recognizes
from gen_radiology.conversion.mask_files import find_masks

DATA = Path(__file__).parents[3] / "data"
TRUTH = json.loads((DATA / "truth.json").read_text())


@pytest.fixture(scope="module")
def registry():
    found = Registry()
    found.add(plugin, "radiology", "gen-imaging", "0")
    assert found.problems == []
    return found


def check_geometry(found, truth):
    assert found["shape"] == truth["shape"]
    assert found["spacing_mm"] == pytest.approx(
        [truth["slice_gap_mm"]["median"], *truth["pixel_spacing_row_col_mm"]], abs=1e-4
    )
    assert found["origin_mm"] == pytest.approx(truth["origin_first_slice_xyz"], abs=1e-4)
    for axis, key in (("x", "row_dir"), ("y", "col_dir"), ("z", "normal")):
        assert found["directions"][axis] == pytest.approx(truth[key], abs=1e-4)


def check_values(found, truth):
    assert (found["min"], found["max"]) == (
        pytest.approx(truth["min"], abs=1e-3),
        pytest.approx(truth["max"], abs=1e-3),
    )
    assert found["mean"] == pytest.approx(truth["mean"], rel=1e-5)
    assert found["sha_f32"] == truth["sha_f32"]


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("sts_002/CT/dicom/image", ("sts_002", "CT", "image")),
        ("sts_002/MR_T1/dicom/image", ("sts_002", "MR_T1", "image")),
        ("lidc3/dicom", ("lidc3", "ct")),
        ("dcmqi_seg/ct-3slice", ("dcmqi_seg", "ct_3slice")),
        ("torchio_dcm", ("torchio_dcm",)),
    ],
)
def test_a_series_has_the_geometry_and_values_that_others_found(path, keys, registry):
    truth = TRUTH
    for key in keys:
        truth = truth[key]
    found = inspect_path(DATA / path, registry)
    check_geometry(found, truth)
    check_values(found, truth)
    assert found["reader"] == "dicom" and found["modality"] == truth["modality"] and found["masks"] == {}


@pytest.mark.parametrize("name", ["anatomical.nii", "functional.nii", "example_nifti2.nii.gz"])
def test_a_nifti_is_told_in_the_order_of_nibabel(name, registry):
    truth, found = TRUTH["nibabel"][name], inspect_path(DATA / "nibabel" / name, registry)
    assert found["shape"] == truth["shape"] and found["axes"] == "xyzt"[: len(truth["shape"])]
    assert found["spacing_mm"][::-1] == pytest.approx(truth["zooms"][:3], abs=1e-4)
    check_values(found, truth)
    ras = np.array(truth["affine"])
    assert found["origin_mm"] == pytest.approx(ras[:3, 3] * (-1, -1, 1), abs=1e-3)


@pytest.mark.parametrize("path", sorted((DATA / "nifti_rs" / "27").iterdir()), ids=lambda p: p.stem)
def test_ten_data_types_hold_the_same_values(path, registry):
    found = inspect_path(path, registry)
    assert (found["min"], found["max"], found["mean"]) == (0, 26, 13)
    assert found["sha_f32"] == TRUTH["nifti_rs"][f"27/{path.name}"]["sha_f32"]


@pytest.mark.parametrize("part", ["CT", "MR_T1"])
def test_a_structure_is_the_same_by_rtstruct_and_by_nifti(part, registry):
    folder, truth = DATA / "sts_002" / part, TRUTH["sts_002"][part]
    (name,) = truth["rtstruct"]["rois"]
    roi = truth["rtstruct"]["rois"][name]
    contours = inspect_path(folder / "dicom/image", registry, masks=[folder / "dicom/mask/RS.dcm"])["masks"][name]
    assert contours["voxels"] == roi["even_odd"] and contours["sha_f32"] == roi["sha_f32_mask"]
    assert contours["slices"] == roi["slices"] and contours["bbox_zyx"] == roi["bbox_zyx"]
    assert contours["centroid_zyx"] == pytest.approx(roi["centroid_zyx"], abs=2e-3)
    assert contours["volume_mm3"] == pytest.approx(roi["volume_mm3"], abs=0.02)
    assert contours["mean"] == pytest.approx(roi["value_mean_inside"], abs=1e-3)
    mask = folder / "nifti/mask/mask.nii.gz"
    for image in (folder / "dicom/image", folder / "nifti/image/image.nii.gz"):
        (labels,) = inspect_path(image, registry, masks=[mask])["masks"].values()
        assert labels["voxels"] == truth["nifti"]["mask_voxels"] and labels["sha_f32"] == roi["sha_f32_mask"]


def test_a_segmentation_lies_on_its_series(registry):
    folder, truth = DATA / "dcmqi_seg", TRUTH["dcmqi_seg"]["liver.dcm"]["placed"]["1"]
    found = inspect_path(folder / "ct-3slice", registry, masks=[folder / "liver.dcm"])
    assert list(found["masks"]) == ["Liver"] and found["mask_notes"] == []
    liver = found["masks"]["Liver"]
    assert liver["voxels"] == truth["voxels_on_grid"] and liver["mean"] == pytest.approx(
        truth["value_mean_inside"], abs=0.01
    )
    assert liver["centroid_zyx"] == pytest.approx(truth["centroid_zyx"], abs=0.01)


def test_the_readers_nodules_lie_between_interior_and_outline(registry):
    folder, truth = DATA / "lidc3", TRUTH["lidc3"]["xml"][0]["clusters_on_given_slices"][0]
    found = inspect_path(folder / "dicom", registry, masks=[folder / "072.xml"])
    ((name, nodule),) = found["masks"].items()
    consensus = truth["consensus_2_of_4_readers"]
    assert name == "nodule-1" and consensus["interior"] <= nodule["voxels"] <= consensus["with_edge"]
    assert nodule["centroid_zyx"] == pytest.approx(truth["centroid_zyx_consensus"], abs=0.1)
    assert sum("lie on slices that are not in" in note for note in found["mask_notes"]) == 3
    with pytest.raises(DataError, match=r"073\.xml: a reading of a chest X-ray"):
        inspect_path(folder / "dicom", registry, masks=[folder / "073.xml"])


def test_several_images_are_a_list_and_masks_go_to_the_series_they_name(registry, dicom, tmp_path):
    for name, uid in (("a", "1.2.3.41"), ("b", "1.2.3.42")):
        dicom.series(tmp_path / name, dicom.stored((4, 6, 7)), series=uid)
    shutil.copytree(DATA / "dcmqi_seg/ct-3slice", tmp_path / "liver")
    found = inspect_path(tmp_path, registry, masks=[DATA / "dcmqi_seg"])
    assert sorted(one["shape"] for one in found) == [[3, 512, 512], [4, 6, 7], [4, 6, 7]]
    with_masks = [one for one in found if one["masks"]]
    assert [list(one["masks"]) for one in with_masks] == [["Liver"]] and with_masks[0]["shape"] == [3, 512, 512]


def test_one_damaged_series_of_several_is_told_and_the_others_are_shown(registry, dicom, tmp_path):
    dicom.series(tmp_path / "a", dicom.stored((4, 6, 7)), series="1.2.3.41")
    cut = dicom.series(tmp_path / "b", dicom.stored((4, 6, 7)), series="1.2.3.42", patient="P2")[1]
    cut.write_bytes(cut.read_bytes()[:-20])
    whole, damaged = inspect_path(tmp_path, registry)
    assert whole["shape"] == [4, 6, 7] and cut.name in damaged["error"]
    with pytest.raises(DataError, match=cut.name):
        inspect_path(tmp_path / "b", registry)


def test_what_is_no_mask_is_refused_or_told(registry, dicom, tmp_path):
    image = dicom.series(tmp_path / "a", dicom.stored((4, 6, 7)))[0]
    (tmp_path / "m").mkdir()
    (tmp_path / "m/x.txt").write_text("x")
    (tmp_path / "m/bad.xml").write_text("<a>")
    found = inspect_path(tmp_path / "a", registry, masks=[tmp_path / "m", tmp_path / "a"])
    assert found["masks"] == {} and len(found["mask_notes"]) == 1 and "bad.xml" in found["mask_notes"][0]
    for path, message in (
        (image, "neither RTSTRUCT nor SEG"),
        (tmp_path / "m/x.txt", "no RTSTRUCT, SEG, NIfTI or LIDC"),
    ):
        with pytest.raises(DataError, match=message):
            find_masks([path])
    with pytest.raises(DataError, match="no such file or folder"):
        find_masks([tmp_path / "absent"])


def test_only_radiological_paths_are_recognized(tmp_path):
    assert recognizes(DATA / "torchio_dcm") and recognizes(DATA / "nibabel/anatomical.nii")
    assert not recognizes(DATA / "envi_fpi") and not recognizes(tmp_path) and not recognizes(tmp_path / "absent")
    with pytest.raises(DataError, match="masks are counted on CT"):
        inspect_path(tmp_path, Registry(), masks=["m"])
