"""NIfTI files: real ones against numbers made by others, geometry against SimpleITK, and every damaged header."""

import gzip
import hashlib
import json
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from gen_core.errors import DataError
from gen_core.testing import check_reader
from gen_radiology.nifti.file import open_nifti
from gen_radiology.nifti.images import read_images
from gen_radiology.nifti.reader import build
from gen_radiology.reader_options import NiftiReader

DATA = Path(__file__).parents[3] / "data"
TRUTH = json.loads((DATA / "truth.json").read_text())
FILES = {f"{folder}/{name}": truth for folder in ("nibabel", "nifti_rs") for name, truth in TRUTH[folder].items()}
STS = {m: TRUTH["sts_002"][m]["nifti"]["image"] for m in ("CT", "MR_T1")}
FILES |= {f"sts_002/{m}/nifti/image/{truth['file']}": truth for m, truth in STS.items()}
READER = build(NiftiReader())
OBLIQUE = np.array([[-0.9, 0.2, 0.5, 11.0], [0.3, 1.6, -0.4, -7.0], [0.1, 0.5, 2.8, 5.0], [0, 0, 0, 1.0]])
# where the fields of NIfTI-1 are, and how they are stored
FIELDS = {
    "dim": (40, "8h"),
    "datatype": (70, "h"),
    "bitpix": (72, "h"),
    "pixdim": (76, "8f"),
    "vox_offset": (108, "f"),
    "scl_slope": (112, "f"),
    "scl_inter": (116, "f"),
    "xyzt_units": (123, "b"),
    "qform_code": (252, "h"),
    "sform_code": (254, "h"),
    "quatern_b": (256, "f"),
    "srow_x": (280, "4f"),
    "magic": (344, "4s"),
}


def sha(array):
    return hashlib.sha256(np.ascontiguousarray(array, "<f4").tobytes()).hexdigest()


def write(path, array, affine=OBLIQUE, code=1):
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code)
    image.set_qform(affine if code == 2 else None, code if code == 2 else 0)
    nib.save(image, path)
    return path


def patched(path, **fields):
    """The same file with header fields overwritten, byte by byte."""
    packed = path.name.endswith(".gz")
    data = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    for name, value in fields.items():
        at, form = FIELDS[name]
        struct.pack_into(f"<{form}", data, at, *(value if isinstance(value, tuple) else (value,)))
    out = path.with_name(f"patched-{path.name}")
    out.write_bytes(gzip.compress(bytes(data)) if packed else bytes(data))
    return out


@pytest.fixture
def volume():
    return np.random.default_rng(0).integers(-900, 900, (5, 7, 3)).astype(np.int16)


@pytest.fixture
def file(tmp_path, volume):
    return write(tmp_path / "scan.nii", volume)


@pytest.mark.parametrize("name", FILES)
def test_real_files_have_the_published_numbers_in_nibabels_axes(name):
    truth, raw = FILES[name], READER.open(DATA / name)
    assert list(raw.array.shape) == truth["shape"] and raw.axes == "xyzt"[: raw.array.ndim]
    assert sha(raw.array) == truth["sha_f32"]
    assert raw.array.mean(dtype=np.float64) == pytest.approx(truth["mean"], rel=1e-6, abs=1e-5)
    assert [raw.array.min(), raw.array.max()] == pytest.approx([truth["min"], truth["max"]], rel=1e-7)
    assert np.allclose(raw.meta["affine_ras"], truth["affine"], atol=1e-4)
    assert raw.meta["axcodes"] == truth["axcodes"] and raw.meta["stored_dtype"] == truth["stored_dtype"]
    assert raw.meta["spacing_mm"] == pytest.approx(truth["zooms"][:3], abs=1e-4) and raw.warnings == []


@pytest.mark.parametrize("name", ["nibabel/functional.nii", "nibabel/example_nifti2.nii.gz", "nifti_rs/27/int64.nii"])
def test_the_reader_keeps_its_contract(name):
    check_reader(READER, DATA / name, nib.load(DATA / name).get_fdata().astype(np.float32))


@pytest.mark.parametrize("modality", ["CT", "MR_T1"])
def test_the_published_image_and_the_dicom_series_it_came_from_are_one(modality):
    sitk = pytest.importorskip("SimpleITK")
    folder = DATA / "sts_002" / modality
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder / "dicom/image")))
    series = reader.Execute()
    (image,) = read_images(folder / "nifti/image/image.nii.gz")
    assert np.array_equal(image.array, sitk.GetArrayFromImage(series).astype(np.float32))
    assert image.origin == pytest.approx(series.GetOrigin(), abs=1e-4)
    assert image.spacing[::-1] == pytest.approx(series.GetSpacing(), abs=1e-4)


def test_every_voxel_lies_where_simpleitk_puts_it_in_lps_mm(file, volume):
    sitk = pytest.importorskip("SimpleITK")
    q, _ = np.linalg.qr(OBLIQUE[:3, :3])  # ITK takes orthogonal axes only
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = q * [1.5, 0.7, 3.0], [4, -5, 6]
    path = write(file.with_name("turned.nii.gz"), volume, affine, code=2)
    (image,), truth = read_images(path), sitk.ReadImage(str(path))
    assert image.array.shape == (3, 7, 5) and image.array.flags.c_contiguous and image.array.dtype == np.float32
    assert np.array_equal(image.array, sitk.GetArrayFromImage(truth))
    for index in ((0, 0, 0), (2, 6, 4), (1, 3, 2)):
        place = truth.TransformIndexToPhysicalPoint(index[::-1])
        assert image.affine[:3] @ [*index, 1] == pytest.approx(place, abs=1e-4)


def test_a_sheared_sform_is_kept_as_it_is(file, volume):
    (image,) = read_images(file)
    ras = OBLIQUE @ [4, 6, 2, 1]
    assert image.affine @ [2, 6, 4, 1] == pytest.approx(ras * [-1, -1, 1, 1], abs=1e-5)
    assert image.array[2, 6, 4] == volume[4, 6, 2] and (image.id, image.subject) == ("scan", "scan")
    assert image.files == (file,) and image.warnings == []


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_values_are_scaled_in_float64_in_either_byte_order(tmp_path, volume, order, suffix):
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(np.int16)
    image = nib.Nifti1Image(volume, OBLIQUE, header)
    image.header.set_slope_inter(0.3717, -1024.25)
    path = tmp_path / f"scaled{suffix}"
    image.to_filename(path)
    data = bytearray(gzip.decompress(path.read_bytes()) if suffix == ".nii.gz" else path.read_bytes())
    data[-volume.nbytes :] = volume.astype(f"{order}i2").tobytes("F")  # nibabel had divided by the slope
    path.write_bytes(gzip.compress(bytes(data)) if suffix == ".nii.gz" else bytes(data))
    expected = (volume.astype(np.float64) * np.float32(0.3717) + np.float32(-1024.25)).astype(np.float32)
    assert np.array_equal(READER.open(path).array, expected) and READER.open(path).array.dtype == np.float32
    assert np.array_equal(read_images(path)[0].array, expected.T)


def test_a_plain_unscaled_file_is_mapped_and_not_read(file):
    assert isinstance(READER.open(file).array.base, np.memmap) and READER.open(file).array.dtype == np.int16


def test_a_series_in_time_is_split_into_volumes():
    images = read_images(DATA / "nibabel/functional.nii")
    truth = nib.load(DATA / "nibabel/functional.nii").get_fdata()
    assert len(images) == 20 and images[7].id == "functional-t007" and images[7].meta["time_index"] == 7
    assert all(np.array_equal(v.array, truth[..., t].T.astype(np.float32)) for t, v in enumerate(images))
    assert len({v.id for v in images}) == 20 and {v.subject for v in images} == {"functional"}


@pytest.mark.parametrize("shape, kept", [((5, 7), (1, 7, 5)), ((5, 7, 3, 1), (3, 7, 5)), ((5, 7, 3, 1, 2), (3, 7, 5))])
def test_slices_and_axes_of_one_voxel(tmp_path, shape, kept):
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    images = read_images(write(tmp_path / "a.nii.gz", values))
    assert [v.array.shape for v in images] == [kept] * (2 if len(shape) == 5 else 1)
    assert np.array_equal(images[-1].array.ravel(), values[..., -1:].T.ravel() if len(shape) == 5 else values.T.ravel())


def test_two_axes_beside_space_are_refused(tmp_path):
    path = write(tmp_path / "tensor.nii", np.zeros((2, 3, 4, 5, 6), np.float32))
    with pytest.raises(DataError, match="tensor.nii: field 'dim'"):
        read_images(path)
    assert READER.open(path).axes == "xyztu"


def test_values_that_are_not_finite_are_counted(tmp_path, volume):
    values = volume.astype(np.float32)
    values[1, 2, :2] = np.nan, np.inf
    (image,) = read_images(write(tmp_path / "holes.nii", values))
    assert image.warnings == ["2 of 105 values are not finite"]


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"dim": (0, 5, 7, 3, 1, 1, 1, 1)}, "field 'dim.0.' is 0"),
        ({"dim": (3, 5, -7, 3, 1, 1, 1, 1)}, "every axis needs at least one voxel"),
        ({"dim": (3, 32767, 32767, 32767, 1, 1, 1, 1)}, "need 70362301923678 bytes"),
        ({"dim": (7, *[32767] * 7)}, "voxels of int16 need"),
        ({"datatype": 32}, "field 'datatype' is 32 .complex64."),
        ({"datatype": 128}, "is 128 .RGB."),
        ({"datatype": 4711}, "is 4711 .unknown."),
        ({"vox_offset": float("nan")}, "field 'vox_offset' is nan"),
        ({"vox_offset": -352.0}, "field 'vox_offset' is -352"),
        ({"vox_offset": 1e12}, "need 99999[0-9]* bytes"),
        ({"scl_slope": 2.0, "scl_inter": float("nan")}, "field 'scl_inter' is nan"),
        ({"sform_code": 0, "pixdim": (1, 0, 2, 2, 0, 0, 0, 0)}, "field 'pixdim' is .* no voxel size"),
        ({"sform_code": 0, "pixdim": (1, 2, float("nan"), 2, 0, 0, 0, 0)}, "field 'pixdim'"),
        ({"magic": b"ni1\0"}, "the header of a pair"),
        ({"magic": b"what"}, "field 'magic' is b'what', expected 'n.1'"),
    ],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_header_that_lies_is_one_line_with_file_and_field(tmp_path, volume, fields, message, suffix):
    path = patched(write(tmp_path / f"bad{suffix}", volume), **fields)
    with pytest.raises(DataError, match=message) as caught:
        read_images(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "fields, warning, source",
    [
        ({"srow_x": (float("nan"), 0, 0, 0)}, "field 'sform' has no usable numbers", "qform"),
        ({"srow_x": (0, 0, 0, 0)}, "field 'sform' has no usable numbers", "qform"),
        ({"sform_code": 0}, None, "qform"),
        ({"sform_code": 0, "qform_code": 0}, "left and right are a guess", "pixdim"),
        ({"sform_code": 0, "quatern_b": 9.0}, "field 'qform' has no usable numbers", "pixdim"),
        ({"sform_code": 0, "quatern_b": float("nan")}, "left and right are a guess", "pixdim"),
        ({"srow_x": (1.5, 0, 0, 44.0)}, "sform and qform differ", "sform"),
        ({"pixdim": (1, 1.5, 9.9, 3, 0, 0, 0, 0)}, "field 'pixdim' says 1.5, 9.9, 3", "sform"),
        ({"vox_offset": 0.0}, "field 'vox_offset' is 0", "sform"),
        ({"bitpix": 8}, "field 'bitpix' is 8", "sform"),
    ],
)
def test_a_doubtful_header_is_read_with_a_warning(tmp_path, volume, fields, warning, source):
    affine = np.diag([1.5, 0.7, 3.0, 1.0])
    affine[:3, 3] = [4, -5, 6]
    path = patched(write(tmp_path / "odd.nii", volume, affine, code=2), **fields)
    (image,) = read_images(path)
    assert image.meta["affine_from"] == source and np.array_equal(image.array, volume.T)
    assert any(warning in told for told in image.warnings) if warning else image.warnings == []
    if source == "pixdim":  # what nibabel does without a form
        assert np.allclose(image.meta["affine_ras"], nib.volumeutils.shape_zoom_affine((5, 7, 3), (1.5, 0.7, 3)))
    elif source == "qform":
        assert np.allclose(image.meta["affine_ras"], affine, atol=1e-6)


def test_qforms_of_random_rotations_equal_nibabels(tmp_path, volume):
    rng = np.random.default_rng(5)
    for i in range(8):
        q, _ = np.linalg.qr(rng.normal(size=(3, 3)))  # rotations and mirrorings
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = q * [1.5, 0.7, 3.0], rng.normal(size=3)
        path = patched(write(tmp_path / f"{i}.nii", volume, affine, code=2), sform_code=0)
        assert np.allclose(open_nifti(path).affine, nib.load(path).affine, atol=1e-5)
    half_turn = patched(write(tmp_path / "half.nii", volume, np.diag([-1.0, 1, -1, 1]), code=2), sform_code=0)
    assert np.allclose(open_nifti(half_turn).affine, np.diag([-1.0, 1, -1, 1]), atol=1e-6)


def test_metres_become_millimetres_with_a_warning(file):
    image = read_images(patched(file, xyzt_units=1))[0]
    assert image.affine[:3] == pytest.approx(1000 * read_images(file)[0].affine[:3])
    assert any("metres" in told for told in image.warnings)


def test_a_cut_packed_file_and_one_with_a_wrong_checksum_are_refused(tmp_path, volume):
    path = write(tmp_path / "a.nii.gz", np.random.default_rng(1).integers(0, 9000, (31, 37, 29)).astype(np.int16))
    whole = path.read_bytes()
    for name, data in {
        "half": whole[: len(whole) // 2],
        "crc": whole[:-8] + b"\1\2\3\4" + whole[-4:],
        "middle": whole[:3000] + bytes(99) + whole[3099:],
        "head": whole[:20],
        "empty": b"",
    }.items():
        bad = tmp_path / f"{name}.nii.gz"
        bad.write_bytes(data)
        with pytest.raises(DataError, match=f"{name}.nii.gz: ") as caught:
            read_images(bad)
        assert "\n" not in str(caught.value)


def test_a_cut_plain_file_and_trailing_bytes(file, volume):
    longer = file.with_name("longer.nii")
    longer.write_bytes(file.read_bytes() + b"more")
    (image,) = read_images(longer)
    assert image.warnings == ["there are more bytes than the header says: ignored"]
    assert np.array_equal(image.array, volume.T)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match="scan.nii: 5x7x3 voxels of int16 need 562 bytes, it has 561"):
        READER.open(file)
    with pytest.raises(DataError, match="none.nii: cannot be read: No such file"):
        read_images(file.with_name("none.nii"))


def test_contents_are_recognized_whatever_the_suffix_says(tmp_path, file):
    packed = tmp_path / "packed.nii"  # said to be plain
    packed.write_bytes(gzip.compress(file.read_bytes()))
    assert np.array_equal(read_images(packed)[0].array, read_images(file)[0].array)
    bare = tmp_path / "scan"
    bare.write_bytes(file.read_bytes())
    assert READER.recognizes(bare) and not READER.recognizes(tmp_path / "nothing") and not READER.recognizes(tmp_path)
