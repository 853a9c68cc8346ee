"""Folders converted: real series by other libraries' eyes, planted identities, completeness, repeats and refusals."""

import gzip
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from gen_core.errors import DataError
from gen_core.inspect import find_converter, inspect_path
from gen_core.registry import Registry
from gen_core.writer import Conversion
from gen_radiology import plugin

DATA = Path(__file__).parents[3] / "data"


@pytest.fixture(scope="module")
def registry():
    found = Registry()
    found.add(plugin, "radiology", "gen-imaging", "0")
    return found


@pytest.fixture
def convert(registry, tmp_path):
    """convert(source, **settings) -> report, into tmp_path/out."""

    def run(source, target=None, **settings):
        converter = find_converter(Path(source), registry)
        table = settings.pop("table", tmp_path / "table.json")
        return converter.convert(Conversion(Path(source), target or tmp_path / "out", table=table, **settings))

    return run


def images(folder):
    return sorted(p for p in folder.rglob("*.nii.gz") if "-mask-" not in p.name and "-labels" not in p.name)


def test_a_real_patient_becomes_nifti_with_the_same_values_place_and_mask(convert, tmp_path):
    found = convert(DATA / "sts_002", require=("image", "structures"))
    (row,) = found["patients"]
    assert (row["image"], row["structures"], row["complete"]) == (2, 2, True)
    ct, mr = images(tmp_path / "out")
    for path, part in ((ct, "CT"), (mr, "MR_T1")):
        folder = DATA / "sts_002" / part / "dicom/image"
        truth = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
        image = sitk.ReadImage(str(path))
        assert np.array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(truth).astype(np.float32))
        for get in ("GetSpacing", "GetOrigin", "GetDirection"):
            assert np.allclose(getattr(image, get)(), getattr(truth, get)(), atol=1e-4)
        (mask,) = path.parent.glob(f"{path.name.partition('.')[0]}-mask-*")
        published = nibabel.load(DATA / "sts_002" / part / "nifti/mask/mask.nii.gz")
        drawn = np.asarray(nibabel.load(mask).dataobj)
        assert drawn.sum() == 17090 and np.array_equal(drawn, np.asarray(published.dataobj) > 0)
    assert sum(r["reason"] == "not DICOM" for r in found["left_out"]) == 6


def test_a_segmentation_equals_its_published_label_map(convert, tmp_path):
    convert(DATA / "dcmqi_seg", require=("segmentation",), labels=True)
    (path,) = (tmp_path / "out").rglob("*-labels.nii.gz")
    published = sitk.ReadImage(str(DATA / "dcmqi_seg/liver_seg.nrrd"))
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), sitk.GetArrayFromImage(published) > 0)
    side = json.loads(next((tmp_path / "out").rglob("ct-*.json")).read_text())
    assert side["masks"]["Liver"]["voxels"] == 107098 and side["masks"]["Liver"]["label"] == 1


def test_readings_in_xml_become_masks(convert, tmp_path):
    found = convert(DATA / "lidc3/dicom", masks=(DATA / "lidc3/072.xml",))
    (row,) = found["written"]
    assert list(json.loads(next((tmp_path / "out").rglob("ct-*.json")).read_text())["masks"]) == ["nodule-1"]
    assert any("lie on slices that are not in" in note for note in row["notes"])


@pytest.fixture
def hospital(dicom, tmp_path):
    """Two patients whose names, numbers, dates and UIDs are everywhere, in folders with their names too."""
    root = tmp_path / "Export of Magrathea"
    for k, (name, number) in enumerate((("Zaphod^Beeblebrox", "MRN-775533"), ("Arthur^Dentish", "MRN-424299"))):
        uid = f"1.2.826.0.1.424242.{k + 1}"

        def change(data, z, name=name, uid=uid, k=k):
            data.PatientName, data.StudyInstanceUID, data.FrameOfReferenceUID = name, f"{uid}.2", f"{uid}.3"
            data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"{uid}.100.{z}"
            data.StudyDate, data.SeriesDescription, data.KVP = "20140607", f"thorax {name}", 120
            data.InstitutionName, data.PatientAge = "Magrathea Clinic", "044Y"
            data.private_block(0x0029, "MAGRATHEA", create=True).add_new(1, "LO", name)

        folder = root / name.replace("^", " ") / "scan"
        dicom.series(folder, dicom.stored((5, 6, 7), seed=k), series=f"{uid}.1", patient=number, change=change)
        if not k:
            structures(dicom, folder.parent / "Zaphod_RS.dcm", uid, number)
    cut = dicom.series(root / "Arthur Dentish" / "cut", dicom.stored((5, 6, 7)), series="1.2.826.0.1.424242.9",
                       patient="MRN-424299")[2]  # fmt: skip
    cut.write_bytes(cut.read_bytes()[:-30])
    (root / "Arthur Dentish" / "letter.txt").write_text("Dear Arthur")
    return root


PLANTED = b"zaphod beeblebrox arthur dentish mrn- 20140607 magrathea 424242".split()


def structures(dicom, path, uid, number):
    """An RTSTRUCT of one square, on the third slice of the series `uid`.1."""
    from pydicom.dataset import Dataset

    def item(**values):
        made = Dataset()
        for key, value in values.items():
            setattr(made, key, value)
        return made

    data = dicom.dataset("CT", uid=f"{uid}.7", series=f"{uid}.8", patient=number, sop="1.2.840.10008.5.1.4.1.1.481.3")
    data.Modality, data.PatientName, data.StudyInstanceUID = "RTSTRUCT", "Zaphod^Beeblebrox", f"{uid}.2"
    data.OperatorsName, data.StructureSetLabel = "Trillian", "Zaphod"
    referenced = item(SeriesInstanceUID=f"{uid}.1", ContourImageSequence=[])
    study = item(ReferencedSOPInstanceUID=f"{uid}.2", RTReferencedSeriesSequence=[referenced])
    frame = item(FrameOfReferenceUID=f"{uid}.3", RTReferencedStudySequence=[study])
    data.ReferencedFrameOfReferenceSequence = [frame]
    data.StructureSetROISequence = [item(ROINumber=1, ROIName="GTV-1 zaphod", ReferencedFrameOfReferenceUID=f"{uid}.3")]
    # slice 2 lies at z = 105; columns 1..4 and rows 2..4 of pixels 0.5 x 0.75 mm from (-30.5, 12.25)
    left, right, top, bottom = -30.5 + 0.3, -30.5 + 2.2, 12.25 + 1.2, 12.25 + 3.2
    corners = [left, top, 105, right, top, 105, right, bottom, 105, left, bottom, 105]
    image = item(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID=f"{uid}.100.2")
    contour = item(ContourGeometricType="CLOSED_PLANAR", NumberOfContourPoints=4, ContourImageSequence=[image])
    contour.ContourData = [f"{v:.6g}" for v in corners]
    data.ROIContourSequence = [item(ReferencedROINumber=1, ContourSequence=[contour])]
    data.RTROIObservationsSequence = [
        item(ObservationNumber=1, ReferencedROINumber=1, RTROIInterpretedType="GTV", ROIInterpreter="Trillian")
    ]
    return dicom.save(data, path)


def everything(folder):
    """Names and bytes of all that was written, unpacked."""
    for path in folder.rglob("*"):
        yield str(path.relative_to(folder)).encode()
        if path.is_file():
            data = path.read_bytes()
            yield gzip.decompress(data) if path.suffix == ".gz" else data


@pytest.mark.parametrize("to", ["nifti", "dicom"])
@pytest.mark.parametrize("dates", ["remove", "shift"])
def test_no_name_number_date_or_uid_survives(to, dates, hospital, convert, tmp_path):
    assert all(any(word in data.lower() for data in everything(hospital)) for word in PLANTED)
    found = convert(hospital, to=to, dates=dates)
    assert len(found["written"]) == 2 and (tmp_path / "out/left_out.csv").exists()
    leaks = [
        (w, data[:60]) for w in (*PLANTED, b"trillian") for data in everything(tmp_path / "out") if w in data.lower()
    ]
    assert leaks == []
    table = json.loads((tmp_path / "table.json").read_text())
    assert sorted(table["patients"]) == ["MRN-424299", "MRN-775533"]
    assert {row["patient"] for row in found["written"]} == set(table["patients"].values())


def test_the_damaged_and_the_foreign_are_told_with_their_reason(hospital, convert, tmp_path):
    found = convert(hospital)
    reasons = {Path(row["path"]).name: row["reason"] for row in found["left_out"]}
    assert reasons["letter.txt"] == "not DICOM" and "cut" in reasons
    text = (tmp_path / "out/left_out.csv").read_text()
    assert text.count("\n") == 3 and "not DICOM" in text and "letter" not in text
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert [r["structures"] for r in sorted(report["patients"], key=lambda r: r["structures"])] == [0, 1]
    table = json.loads((tmp_path / "table.json").read_text())
    assert str(hospital / "Arthur Dentish" / "letter.txt") in table["files"].values()


def test_copies_hold_the_same_pixels_and_whole_references(hospital, convert, tmp_path, registry):
    convert(hospital, to="dicom")
    (contours,) = (tmp_path / "out").rglob("structures-*.dcm")
    folder = next(p for p in contours.parent.iterdir() if p.is_dir())
    source = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(hospital / "Zaphod Beeblebrox" / "scan")))
    copy = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    assert np.array_equal(sitk.GetArrayFromImage(copy), sitk.GetArrayFromImage(source))
    assert np.allclose(copy.GetOrigin(), source.GetOrigin()) and np.allclose(copy.GetSpacing(), source.GetSpacing())
    data = pydicom.dcmread(contours)
    named = data.ROIContourSequence[0].ContourSequence[0].ContourImageSequence[0].ReferencedSOPInstanceUID
    assert named in {pydicom.dcmread(p).SOPInstanceUID for p in folder.iterdir()}
    assert data.StructureSetROISequence[0].ROIName == "region-1"
    (mask,) = inspect_path(folder, registry, masks=[contours])["masks"].values()
    assert mask["voxels"] == 4 * 3 and mask["bbox_zyx"] == [[2, 2], [2, 4], [1, 4]]


def test_a_repeat_keeps_what_is_whole_and_mends_what_is_not(hospital, convert, tmp_path):
    convert(hospital)
    first, second = images(tmp_path / "out")
    second.write_bytes(second.read_bytes()[:100])
    before, others = first.stat().st_mtime_ns, {p.name: p.read_bytes() for p in first.parent.iterdir()}
    found = convert(hospital)
    assert sorted(bool(row.get("kept")) for row in found["written"]) == [False, True]
    assert first.stat().st_mtime_ns == before and {p.name: p.read_bytes() for p in first.parent.iterdir()} == others
    assert np.asarray(nibabel.load(second).dataobj).shape == (7, 6, 5)
    assert {p["image"] for p in found["patients"]} == {1} and sum(p["structures"] for p in found["patients"]) == 1


def test_other_settings_leave_no_files_of_the_old_ones(hospital, convert, tmp_path):
    names = tmp_path / "names.toml"
    names.write_text('tumour = ["GTV-1 zaphod"]\n')
    convert(hospital)
    assert len(list((tmp_path / "out").rglob("*-mask-region-1*"))) == 1
    convert(hospital, names=names)
    assert [p.name.partition("-mask-")[2] for p in (tmp_path / "out").rglob("*-mask-*")] == ["tumour.nii.gz"]
    convert(hospital, to="dicom")
    assert images(tmp_path / "out") == [] and len(list((tmp_path / "out").rglob("0001.dcm"))) == 2


def test_a_patient_without_a_required_part_is_left_out_whole(hospital, convert, tmp_path):
    convert(hospital)
    found = convert(hospital, require=("image", "structures"))
    assert [row["complete"] for row in sorted(found["patients"], key=lambda r: r["complete"])] == [False, True]
    assert len(images(tmp_path / "out")) == 1  # the other was there, by an earlier call that asked for less
    assert "required and not there: structures" in (tmp_path / "out/left_out.csv").read_text()
    found = convert(hospital, require=("segmentation",))
    assert found["written"] == [] and images(tmp_path / "out") == []


def test_time_points_are_images_of_their_own(convert, dicom, tmp_path):
    for t in (0, 1):
        change = lambda data, z, t=t: setattr(data, "TemporalPositionIdentifier", t + 1)
        names = [f"t{t}z{z}" for z in range(4)]
        dicom.series(tmp_path / "in", dicom.stored((4, 6, 7), seed=t), "MR", rescale=None, change=change, names=names)
    found = convert(tmp_path / "in")
    assert [row["image"][-5:] for row in found["written"]] == ["-t000", "-t001"]
    for t, path in enumerate(images(tmp_path / "out")):
        assert np.array_equal(np.asarray(nibabel.load(path).dataobj).T, dicom.stored((4, 6, 7), seed=t))
    assert all(row["kept"] for row in convert(tmp_path / "in")["written"])


def test_an_uneven_stack_follows_the_policy(convert, dicom, tmp_path):
    z = np.array([0, 2.5, 5, 10, 12.5])
    positions = np.stack([np.zeros(5), np.zeros(5), z], 1)
    dicom.series(tmp_path / "in", dicom.stored(), positions=positions)
    assert convert(tmp_path / "in")["written"] == []
    (row,) = convert(tmp_path / "in", geometry="resample")["written"]
    assert row["notes"] and nibabel.load(images(tmp_path / "out")[0]).shape == (7, 6, 6)


def test_burned_in_annotation_is_refused_or_told(convert, dicom, tmp_path):
    dicom.series(tmp_path / "in", dicom.stored(), change=lambda data, z: setattr(data, "BurnedInAnnotation", "YES"))
    found = convert(tmp_path / "in")
    assert found["written"] == [] and "Burned In Annotation (0028,0301) is YES" in found["left_out"][0]["reason"]
    (row,) = convert(tmp_path / "in", burned_in="warn")["written"]
    assert "Burned In" in row["notes"][0]


def test_label_maps_are_matched_by_their_grid(convert, dicom, tmp_path):
    dicom.series(tmp_path / "in/a", dicom.stored((4, 6, 7)), series="1.2.3.41")
    dicom.series(tmp_path / "in/b", dicom.stored((4, 6, 7)), series="1.2.3.42", origin=(0, 0, 0))
    convert(tmp_path / "in", target=tmp_path / "first", table=None)
    labels = nibabel.load(images(tmp_path / "first")[1])
    values = np.zeros((7, 6, 4), np.uint8)
    values[1:3, 2, 1], values[4, 4, 2] = 1, 2
    nibabel.save(nibabel.Nifti1Image(values, labels.affine), tmp_path / "truth.nii.gz")
    found = convert(tmp_path / "in", masks=(tmp_path / "truth.nii.gz",))
    assert sorted(len(row["sources"]["segmentation"]) for row in found["written"]) == [0, 1]
    masks = {
        p.name.partition("-mask-")[2]: np.asarray(nibabel.load(p).dataobj) for p in tmp_path.glob("out/*/*-mask-*")
    }
    assert {k: v.sum() for k, v in masks.items()} == {"label-1.nii.gz": 2, "label-2.nii.gz": 1}
    assert np.array_equal(masks["label-1.nii.gz"], values == 1)


def test_public_data_keeps_its_ids(convert, tmp_path):
    (row,) = convert(DATA / "torchio_dcm", keep_ids=True, table=None)["written"]
    patient = pydicom.dcmread(DATA / "torchio_dcm/IMG0001.dcm").PatientID
    assert row["patient"] == patient or patient == ""
    assert convert(DATA / "torchio_dcm", keep_ids=True, table=None)["written"][0]["kept"]


def test_ids_that_differ_in_what_file_names_cannot_hold_stay_apart(convert, dicom, tmp_path):
    for k, patient in enumerate(("a b", "a/b")):
        dicom.series(tmp_path / f"in/{k}", dicom.stored(), series=f"1.2.3.4{k}", patient=patient)
    rows = convert(tmp_path / "in", keep_ids=True, table=None)["written"]
    assert len({row["patient"] for row in rows}) == 2 == len(list((tmp_path / "out").glob("a_b-*")))


def test_the_sidecar_holds_listed_fields_only_and_characteristics_on_request(hospital, convert, tmp_path):
    convert(hospital)
    header = json.loads(next((tmp_path / "out").rglob("ct-*.json")).read_text())["header"]
    assert header["KVP"] == 120 and "PatientAge" not in header and "SeriesDescription" not in header
    convert(hospital, characteristics=True)
    assert json.loads(next((tmp_path / "out").rglob("ct-*.json")).read_text())["header"]["PatientAge"] == "044Y"


def test_what_would_harm_is_refused(hospital, convert, tmp_path):
    with pytest.raises(DataError, match="lies in the source"):
        convert(hospital, target=hospital / "out")
    with pytest.raises(DataError, match="must not lie in the folder"):
        convert(hospital, table=tmp_path / "out" / "table.json")
    with pytest.raises(DataError, match="absent: no such file"):
        convert(hospital, masks=(tmp_path / "absent",))
    convert(hospital)  # in the folder of the one that failed
    with pytest.raises(DataError, match="was made with another table"):
        convert(hospital, table=None)
    (tmp_path / "out/report.json").write_text("{")
    with pytest.raises(DataError, match=r"report\.json: not the report"):
        convert(hospital)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is a file"):
        convert(hospital, target=tmp_path / "file")


def test_a_stopped_conversion_goes_on(hospital, convert, tmp_path, monkeypatch):
    from gen_radiology.writers import nifti

    real, count = nifti.write_volume, []

    def stops(*args):
        count.append(1)
        if len(count) == 2:
            raise KeyboardInterrupt
        real(*args)

    monkeypatch.setattr(nifti, "write_volume", stops)
    with pytest.raises(KeyboardInterrupt):
        convert(hospital)
    monkeypatch.undo()
    found = convert(hospital)
    assert len(found["written"]) == 2 and len(images(tmp_path / "out")) == 2
    assert not [p for p in tmp_path.rglob("*partial*")]
    shutil.rmtree(tmp_path / "out")
    assert {r["image"] for r in convert(hospital)["written"]} == {r["image"] for r in found["written"]}


def test_the_nifti_data_set_finds_a_converted_set_as_documented(hospital, convert, tmp_path):
    from gen_radiology.dataset_options import Nifti
    from gen_radiology.sources.nifti import find_nifti

    names = tmp_path / "names.toml"
    names.write_text('gtv = ["GTV-1 zaphod"]\n')
    written = convert(hospital, names=names)["written"]
    options = Nifti(
        pattern="*/ct-??????????.nii.gz",
        modality="CT",
        subject="0",
        masks=("gtv",),
        mask_files={"gtv": "{id}-mask-gtv.nii.gz"},
    )
    found = find_nifti(tmp_path / "out", options).sources
    assert {s.subject for s in found} == {row["patient"] for row in written} and len(found) == 2
    assert sorted(len(s.mask_files) for s in found) == [0, 1]


def test_multi_frame_and_compressed_series_are_copied_whole(convert, dicom, tmp_path):
    from gen_radiology.dicom.find_series import find_series
    from gen_radiology.dicom.read_series import read_series

    stored = dicom.stored((4, 6, 7), "u2", 0, 900)
    positions = np.stack([np.full(4, -3.0), np.full(4, 2.0), 2.5 * np.arange(4)], 1)
    dicom.enhanced(tmp_path / "in/enhanced/a.dcm", stored, positions, series="1.2.3.41", rescale=lambda i: (i + 1, -i))
    dicom.series(tmp_path / "in/rle", dicom.stored((4, 6, 7)), series="1.2.3.42", compress="1.2.840.10008.1.2.5")
    assert len(convert(tmp_path / "in", to="dicom")["written"]) == 2
    copies = {s.modality: read_series(s)[0] for s in find_series(tmp_path / "out")}
    for series in find_series(tmp_path / "in"):
        (image,), copy = read_series(series), copies[series.modality]
        assert np.array_equal(copy.array, image.array) and np.allclose(copy.affine, image.affine)
    assert pydicom.dcmread(next((tmp_path / "out").rglob("ct-*/0001.dcm"))).file_meta.TransferSyntaxUID.is_compressed
