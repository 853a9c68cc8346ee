"""The data sets: contract, values, regions of one subject, slices, policies, cache, and real series."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from gen_core.dataset import DatasetContext
from gen_core.errors import DataError, RecipeError
from gen_core.options import SplitOptions, VolumeOptions
from gen_core.testing import check_dataset
from gen_radiology.dataset_options import Crop, Dicom, Intensity, Lidc, Nifti
from gen_radiology.datasets import cached_volumes as module
from gen_radiology.datasets.dataset import build

DATA = Path(__file__).parents[3] / "data"
TRUTH = json.loads((DATA / "truth.json").read_text())
Z, Y, X = 6, 9, 11
SPACING = (2.5, 0.8, 1.2)
LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def affine_ras(spacing=SPACING, origin=(-20.0, -30.0, 40.0)):
    """x leftwards, y backwards, z headwards: stored as the data set wants it."""
    affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
    affine[:3, 3] = origin
    return affine


def save(path, array, affine=None):
    """array (z, y, x) as NIfTI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = array.astype(np.uint8) if array.dtype == bool else array
    image = nib.Nifti1Image(np.ascontiguousarray(array.T), affine_ras() if affine is None else affine)
    nib.save(image, path)


def volume(i, shape=(Z, Y, X)):
    return np.random.default_rng(i).uniform(-900, 900, shape).astype(np.float32)


@pytest.fixture(autouse=True)
def _no_flushing(monkeypatch):
    """Hundreds of small cache entries: without it the disk's pace is what the tests take."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "scans"
    for i in range(6):
        save(folder / f"p{i}" / "image.nii.gz", volume(i))
        if i != 4:
            save(folder / f"p{i}" / "lesion.nii.gz", volume(i) > 600)
    return folder


@pytest.fixture
def make(root, tmp_path):
    def make(size=(Z, Y, X), split=None, limit=0, kind=Nifti, **options):
        context = DatasetContext(VolumeOptions(size), split or SplitOptions(val=0.34), 5, tmp_path / "cache", limit)
        given = {"root": str(root)}
        if kind is Nifti:
            given |= {"pattern": "**/image*.nii.gz", "subject": "0", "modality": "CT"}
            given |= {"mask_files": {"lesion": "{folder}/lesion.nii.gz"}, "masks": ("lesion",)}
        return build(kind(**{**given, **options}), context)

    return make


def stored(dataset, name, i):
    """The source array of a sample, by its id."""
    return volume(int(dataset.split(name)[i].id[1]))


# the contract


@pytest.mark.parametrize(
    "options",
    [
        {"augment": ("flip_d", "flip_h", "flip_w"), "shift": (1, 2, 3)},
        {"modality": "MR", "size": (5, 8, 12), "spacing_mm": (2.0, 1.0, 1.0)},
        {"modality": "MR", "scale": Intensity(of="training"), "sizing": "resize", "size": (4, 10, 7)},
        {"slices": True, "size": (1, 8, 12), "augment": ("flip_w",)},
        {"size": None, "crop": Crop(size=(3, 5, 4), per_volume=2, at_mask="lesion"), "augment": ("flip_h",)},
    ],
)
def test_the_contract_is_kept(make, options):
    check_dataset(make(**options))


def test_options_are_read_without_numpy_or_torch():
    code = "import sys, gen_radiology.dataset_options; print(sorted({'numpy', 'torch', 'pydicom'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# values


def test_a_volume_is_its_values_in_the_window_with_place_and_masks(make):
    dataset = make()
    sample, raw = dataset.split("train")[1], stored(dataset, "train", 1)
    assert np.allclose(sample.x[0], raw / 1000, atol=1e-6) and sample.masks["valid"].all()
    assert np.allclose(sample.scale.to_physical(sample.x)[0], raw, atol=1e-3)
    assert np.array_equal(sample.masks["lesion"], raw > 600) and sample.masks["lesion"].any()
    spec = dataset.spec
    assert (spec.size, spec.depth, spec.units, spec.spacing_mm) == ((Z, Y, X), "slices", "HU", SPACING)
    assert spec.masks == ("valid", "lesion")
    assert np.allclose(sample.geometry.affine[:3, 3], [20, 30, 40])  # LPS
    assert np.allclose(sample.geometry.affine @ [1, 0, 0, 1], [20, 30, 42.5, 1])
    assert np.allclose(sample.geometry.affine @ [0, 0, 1, 1], [21.2, 30, 40, 1])


def test_axes_are_turned_to_the_patient_unless_asked_otherwise(make, root):
    shutil.rmtree(root)
    array = volume(0)
    for i, code in enumerate(("RAS", "LPS", "SAR", "PSL")):
        image = nib.Nifti1Image((array + i).T, affine_ras())  # stored LPS, then reoriented: the same patient
        ornt = nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("LPS"), nib.orientations.axcodes2ornt(code)
        )
        (root / f"p{i}").mkdir(parents=True)
        nib.save(image.as_reoriented(ornt), root / f"p{i}" / "image.nii.gz")
    dataset = make(masks=())
    for name in ("train", "val"):
        for sample in dataset.split(name):
            assert np.allclose(sample.x[0], (array + int(sample.id[1])) / 1000, atol=1e-5), sample.id
            assert np.allclose(sample.geometry.affine[:3, 3], [20, 30, 40], atol=1e-5)
    plain = make(masks=(), orientation="stored")
    assert [s.read(False)[0].array.shape for s in plain.sources] == [(Z, Y, X), (Z, Y, X), (X, Y, Z), (X, Z, Y)]


def test_a_smaller_volume_is_padded_where_it_is_not_valid(make):
    dataset = make(size=(8, 9, 7), pad=250.0)
    sample, raw = dataset.split("train")[0], stored(dataset, "train", 0)
    assert np.allclose(sample.x[0, 1:7], raw[:, :, 2:9] / 1000, atol=1e-6)
    assert (sample.x[0, [0, 7]] == 0.25).all() and not sample.masks["valid"][[0, 7]].any()
    assert sample.masks["valid"][1:7].all() and not sample.masks["lesion"][[0, 7]].any()
    assert np.allclose(sample.geometry.affine[:3, 3], [20 + 2 * 1.2, 30, 40 - 2.5])
    assert (make(size=(8, 9, 7)).split("train")[0].x[0, 0] == -1).all()  # by default the lower end
    assert any("voxels of mask 'lesion' lie outside the crop" in note for note in dataset.prepare()["notes"])


def test_a_crop_can_be_centred_on_a_mask(make, root):
    for i in range(6):
        mask = np.zeros((Z, Y, X), bool)
        mask[1:4, 6:8, 2 + i % 2 : 5] = True
        save(root / f"p{i}" / "lesion.nii.gz", mask)
    dataset = make(size=(3, 4, 5), at="lesion")
    sample, raw = dataset.split("val")[0], stored(dataset, "val", 0)
    low = int(round((sample.geometry.affine[0, 3] - 20) / 1.2))
    assert low in (1, 2) and np.allclose(sample.x[0], raw[1:4, 5:9, low : low + 5] / 1000, atol=1e-6)
    whole = np.zeros((Z, Y, X), bool)
    whole[1:4, 6:8, 2 + int(sample.id[1]) % 2 : 5] = True
    assert sample.masks["lesion"].sum() == whole.sum()


def thorax(i):
    """A CT of air, a body with two lungs at a place of its own, and a table below it: (24, 40, 48) voxels of 5 mm."""
    array = np.full((24, 40, 48), -1000, np.float32)
    z, y, x = np.indices(array.shape)
    dy, dx = (i % 3) * 3 - 3, (i % 2) * 4 - 2
    array[((y - 18 - dy) / 12) ** 2 + ((x - 23.5 - dx) / 18) ** 2 < 1] = 40
    lungs = np.zeros(array.shape, bool)
    for side in (-8, 8):
        lungs |= ((z - 11) / 8) ** 2 + ((y - 18 - dy) / 8) ** 2 + ((x - 23.5 - dx - side) / 6) ** 2 < 1
    array[lungs] = -850
    array[:, 37:39, 6:42] = 200
    return array, lungs


def test_volumes_are_aligned_by_their_lungs_and_freed_from_the_table(make, root):
    for i in range(6):
        array, lungs = thorax(i)
        save(root / f"p{i}" / "image.nii.gz", array, affine_ras((5.0, 5.0, 5.0)))
        save(root / f"p{i}" / "lesion.nii.gz", lungs, affine_ras((5.0, 5.0, 5.0)))
    centred = make(size=(20, 30, 32), at="lungs", remove_table=True)
    aligned = make(size=(20, 22, 36), sizing="lungs", lung_extent_mm=(100.0, 110.0, 180.0))
    fitted = make(size=(10, 12, 14), sizing="lungs", lung_margin_mm=(10.0, 10.0, 10.0))
    for dataset in (centred, aligned, fitted):
        for name in ("train", "val"):
            for sample in dataset.split(name):
                ends = np.argwhere(sample.masks["lesion"])
                middle = (ends.min(0) + ends.max(0)) / 2
                assert np.abs(middle - (np.array(dataset.size) - 1) / 2).max() <= 1.0, (sample.id, middle)
    assert aligned.spec.spacing_mm == (5.0, 5.0, 5.0) and fitted.spec.spacing_mm is None
    bright = [(s.scale.to_physical(s.x)[0] > 150).sum() for s in centred.split("train")]
    assert not any(bright) and (make(size=None).split("train")[0].x > 0.15).any()
    with pytest.raises(DataError, match="lungs are found in CT"):
        make(size=(20, 30, 32), at="lungs", modality="MR").prepare()


def test_lungs_are_found_along_the_axes_as_stored(make, root):
    for i in range(6):
        array, lungs = thorax(i)
        flip = affine_ras((5.0, 5.0, 5.0)) @ np.array([[-1, 0, 0, 47], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
        save(root / f"p{i}" / "image.nii.gz", array[:, :, ::-1], flip)
        save(root / f"p{i}" / "lesion.nii.gz", lungs[:, :, ::-1], flip)
    for orientation in ("stored", "patient"):
        for sample in make(size=(20, 30, 32), at="lungs", orientation=orientation).split("train"):
            middle = np.mean(np.nonzero(sample.masks["lesion"]), axis=1)
            assert np.allclose(middle, [9.5, 14.5, 15.5], atol=1.1), (orientation, sample.id)
    with pytest.raises(RecipeError, match='dataset.sizing = "lungs" needs dataset.orientation = "patient"'):
        make(size=(10, 12, 14), sizing="lungs", orientation="stored").split("train")[0]


def test_resampling_keeps_the_place_and_says_so(make):
    dataset = make(size=None, spacing_mm=(5.0, 1.6, 1.2))
    assert dataset.spec.size == (3, 5, 11) and dataset.spec.spacing_mm == (5.0, 1.6, 1.2)
    sample, raw = dataset.split("train")[0], stored(dataset, "train", 0)
    middle = lambda affine, shape: affine @ [*((np.array(shape) - 1) / 2), 1]
    old = np.eye(4)
    old[:3, :3], old[:3, 3] = np.fliplr(np.diag(SPACING[::-1])), (20, 30, 40)
    assert np.allclose(middle(sample.geometry.affine, (3, 5, 11)), middle(old, raw.shape))
    assert any("resampled 6 x 9 x 11 -> 3 x 5 x 11" in line for line in sample.geometry.history)
    resized = make(size=(3, 3, 11), sizing="resize")
    blocks = stored(resized, "train", 0).reshape(3, 2, 3, 3, 11).mean(axis=(1, 3)) / 1000
    assert np.allclose(resized.split("train")[0].x[0], blocks, atol=1e-5)
    assert resized.spec.spacing_mm == (5.0, 2.4, 1.2)


def test_spacings_that_differ_are_told(make, root):
    save(root / "p3" / "image.nii.gz", volume(3), affine_ras((3.5, 0.8, 1.2)))
    dataset = make(masks=())
    assert dataset.spec.spacing_mm is None
    assert any("spacing differs" in note for note in dataset.prepare()["notes"])


def test_views_move_masks_and_affine_with_the_values(make):
    dataset = make(augment=("flip_d", "flip_h", "flip_w"), shift=(1, 2, 2))
    split = dataset.split("train")
    raw = stored(dataset, "train", 0)
    back = np.linalg.inv(split[0].geometry.affine)
    seen = set()
    for draw in range(12):
        view = split.view(0, draw)
        z, y, x = np.indices((Z, Y, X)).reshape(3, -1)
        where = np.rint((back @ view.geometry.affine @ np.stack([z, y, x, np.ones_like(z)]))[:3]).astype(int)
        inside = ((where >= 0) & (where < np.array([[Z], [Y], [X]]))).all(0)
        at = tuple(where[:, inside])
        assert np.array_equal(view.masks["valid"].ravel(), inside)
        assert np.allclose(view.x[0].ravel()[inside], raw[at] / 1000, atol=1e-6)
        assert np.array_equal(view.masks["lesion"].ravel()[inside], (raw > 600)[at])
        seen.add((inside.sum(), tuple(np.sign(np.diag(back @ view.geometry.affine)[:3]))))
    assert len(seen) > 4
    assert np.array_equal(dataset.split("val").view(0, 3).x, dataset.split("val")[0].x)


# scales


def test_mr_is_scaled_by_percentiles_of_each_volume_or_of_the_training_set(make):
    own = make(modality="MR", scale=Intensity(low=0.1, high=0.8, foreground="all"))
    assert own.spec.units == ""
    for i in range(2):
        raw = stored(own, "train", i)
        lo, hi = np.quantile(raw, [0.1, 0.8])
        assert np.allclose(own.split("train")[i].x[0], np.clip(2 * (raw - lo) / (hi - lo) - 1, -1, 1), atol=1e-5)
    ends = np.array([np.quantile(stored(own, "train", i), [0.1, 0.8]) for i in range(len(own.split("train")))])
    assert np.allclose([own.spec.scale.lo.item(), own.spec.scale.hi.item()], np.median(ends, axis=0), rtol=1e-5)
    pooled = make(modality="MR", scale=Intensity(of="training", low=0.1, high=0.8, foreground="all"))
    every = np.concatenate([stored(pooled, "train", i).ravel() for i in range(len(pooled.split("train")))])
    expected = np.quantile(every, [0.1, 0.8], method="lower")
    assert np.allclose([pooled.spec.scale.lo.item(), pooled.spec.scale.hi.item()], expected)
    assert pooled.split("val")[0].scale is pooled.scale


def test_ct_can_have_another_window(make):
    dataset = make(scale=Intensity(lo=-160.0, hi=240.0))
    raw = stored(dataset, "val", 0)
    assert np.allclose(dataset.split("val")[0].x[0], np.clip((raw + 160) / 200 - 1, -1, 1), atol=1e-6)
    assert dataset.prepare()["scale"]["lo"] == [[[[-160.0]]]]


# splits


def test_subjects_are_not_divided_between_splits(make, root):
    for i in range(3):
        save(root / f"p{i}" / "image_2.nii.gz", volume(10 + i))
    dataset = make(masks=())
    record = dataset.prepare()
    parts = {name: set(record["splits"][name]["subjects"]) for name in ("train", "val")}
    assert parts["train"].isdisjoint(parts["val"]) and len(parts["train"] | parts["val"]) == 6
    assert record["splits"]["train"]["volumes"] + record["splits"]["val"]["volumes"] == 9


def test_equal_content_in_two_splits_is_refused(make, root):
    for i in range(1, 6):
        shutil.copy(root / "p0" / "image.nii.gz", root / f"p{i}" / "image.nii.gz")
    with pytest.raises(DataError, match=r"image.nii.gz \(train\) and .*image.nii.gz \(val\) have the same content"):
        make(masks=()).prepare()


def only_one(root):
    """One subject, one volume whose values are its voxel numbers."""
    for i in range(1, 6):
        shutil.rmtree(root / f"p{i}")
    shape = (20, 10, 12)
    save(root / "p0" / "image.nii.gz", np.arange(np.prod(shape), dtype=np.float32).reshape(shape))
    mask = np.zeros(shape, bool)
    mask[3, 4, 5] = mask[18, 2:5, 2] = True
    save(root / "p0" / "lesion.nii.gz", mask)
    return shape


def voxels(sample):
    return set(np.rint(sample.scale.to_physical(sample.x)).astype(int).ravel().tolist())


def test_one_subject_is_cut_into_regions_with_a_gap(make, root):
    shape = only_one(root)
    with pytest.raises(DataError, match=r"all 1 volumes belong to one subject \('p0'\): set dataset.crop.size"):
        make().split("train")
    crop = {"size": None, "crop": Crop(size=(4, 6, 7), per_volume=6), "scale": Intensity(lo=0.0, hi=2400.0)}
    dataset = make(split=SplitOptions(val=0.3, gap=2), **crop)
    seen = {name: set().union(*map(voxels, dataset.split(name))) for name in ("train", "val")}
    views = set().union(*(voxels(dataset.split("train").view(i, d)) for i in range(6) for d in range(8)))
    z = lambda found: np.array(sorted(found)) // (shape[1] * shape[2])
    assert z(seen["val"]).min() - z(seen["train"] | views).max() > 2
    assert len(views) > len(seen["train"]) * 0.9 and dataset.spec.size == (4, 6, 7)
    record = dataset.prepare()
    assert any("one subject" in note for note in record["notes"]) and set(record["regions"]["p0/image"]) == {
        "train", "val"
    }  # fmt: skip
    assert len({s.id for s in dataset.split("train")} | {s.id for s in dataset.split("val")}) == 12
    check_dataset(dataset)


def test_scans_of_one_subject_may_not_show_the_same_part_in_two_splits(make, root):
    shape = only_one(root)
    options = {"size": None, "crop": Crop(size=(4, 6, 7)), "split": SplitOptions(val=0.3), "masks": ()}
    save(root / "p0" / "image_2.nii.gz", volume(1, shape))  # the same grid: the same cut
    assert make(**options).prepare()["splits"]["train"]["scans"] == 2
    shifted = affine_ras(origin=(-20.0, -30.0, 40.0 + 6 * SPACING[0]))
    save(root / "p0" / "image_2.nii.gz", volume(1, shape), shifted)
    with pytest.raises(DataError, match=r"image.nii.gz \(val\) and .*image_2.nii.gz \(train\) show the same part"):
        make(**options).prepare()
    save(root / "p0" / "image_2.nii.gz", volume(1, shape), affine_ras(origin=(-20.0, -30.0, 400.0)))
    assert make(**options).prepare()["splits"]["val"]["scans"] == 2  # elsewhere in the patient


def test_blocks_for_training_can_be_drawn_about_a_mask(make, root):
    only_one(root)
    crop = Crop(size=(4, 5, 6), per_volume=2, at_mask="lesion", at_share=1.0)
    split = make(size=None, crop=crop).split("train")
    assert all(split.view(i, d).masks["lesion"].any() for i in range(2) for d in range(10))
    corners = {split.view(0, d).id for d in range(30)}
    assert len(corners) > 15  # anywhere about the voxel, not at its centre
    rare = make(size=None, crop=Crop(size=(4, 5, 6), per_volume=2)).split("train")
    assert not all(rare.view(0, d).masks["lesion"].any() for d in range(10))


def test_slices_are_volumes_of_depth_one(make, root):
    dataset = make(size=None, slices=True)
    train = dataset.split("train")
    assert dataset.spec.size == (1, Y, X) and len(train) == Z * len(dataset.prepare()["splits"]["train"]["subjects"])
    raw = volume(int(train[2].id[1]))
    assert train[2].id.endswith("@2") and np.allclose(train[2].x[0, 0], raw[2] / 1000, atol=1e-6)
    assert np.allclose(train[2].geometry.affine[2, 3], 40 + 2 * 2.5)
    wide = make(size=(1, 12, 8), slices=True).split("train")[0]
    assert wide.x.shape == (1, 1, 12, 8) and wide.masks["valid"].sum() == Y * 8
    only_one(root)
    dataset = make(size=(1, 10, 12), slices=True, split=SplitOptions(val=0.25, gap=3))
    numbers = {n: [int(s.id.rsplit("@")[1]) for s in dataset.split(n)] for n in ("train", "val")}
    assert min(numbers["val"]) - max(numbers["train"]) == 4 and len(numbers["train"]) + len(numbers["val"]) == 17


def test_one_slice_and_odd_sizes_are_volumes_too(make, root):
    for i in range(6):
        save(root / f"p{i}" / "image.nii.gz", volume(i, (1, 7, 5)))
    dataset = make(size=None, masks=())
    assert dataset.spec.size == (1, 7, 5)
    assert make(size=(3, 9, 9), masks=()).split("train")[0].masks["valid"].sum() == 35
    resized = make(size=(2, 7, 5), masks=(), sizing="resize").split("train")[0].x
    assert np.allclose(resized[0, 0], resized[0, 1])


def test_a_limit_holds_for_every_split(make):
    dataset = make(limit=1)
    assert (len(dataset.split("train")), len(dataset.split("val"))) == (1, 1)


def test_a_block_larger_than_a_volume_is_told(make):
    with pytest.raises(
        DataError, match=r"image.nii.gz: 6 x 9 x 11 voxels are fewer than dataset.crop.size \[7, 3, 3\]"
    ):
        make(size=None, crop=Crop(size=(7, 3, 3))).split("train")


# policies


def test_a_missing_mask_is_empty_and_told_or_refused_or_skipped(make):
    dataset = make()
    by_id = {s.id: s for name in ("train", "val") for s in dataset.split(name)}
    assert not by_id["p4/image"].masks["lesion"].any() and len(by_id) == 6
    assert "mask 'lesion' is missing for 1 volumes: empty there" in dataset.prepare()["notes"]
    with pytest.raises(DataError, match=r"p4/image.nii.gz: mask 'lesion' is missing, and dataset.require_masks is set"):
        make(require_masks=True).prepare()
    skipping = make(require_masks=True, unreadable="skip")
    ids = [s.id for name in ("train", "val") for s in skipping.split(name)]
    assert len(ids) == 5 and "p4/image" not in ids
    assert any("passed over p4/image" in note for note in skipping.prepare()["notes"])


def test_values_that_are_not_finite_are_refused_or_masked(make, root):
    array = volume(2)
    array[1, 2, 3:5] = np.nan
    array[0, 0, 0] = np.inf
    save(root / "p2" / "image.nii.gz", array)
    with pytest.raises(DataError, match=r"p2/image.nii.gz: 3 of 594 voxels are not finite \(dataset.nan = \"mask\""):
        make().prepare()
    dataset = make(nan="mask")
    sample = next(s for name in ("train", "val") for s in dataset.split(name) if s.id == "p2/image")
    assert np.array_equal(sample.masks["valid"], np.isfinite(array)) and (sample.x[0, 1, 2, 3:5] == -1).all()
    check_dataset(dataset)


def test_a_damaged_file_is_refused_or_skipped(make, root):
    path = root / "p1" / "image.nii.gz"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=r"p1/image.nii.gz.*dataset.unreadable = \"skip\""):
        make().prepare()
    dataset = make(unreadable="skip")
    record = dataset.prepare()
    assert list(record["skipped"]) == ["p1/image"]
    assert sum(record["splits"][n]["volumes"] for n in ("train", "val")) == 5
    for i in range(6):
        (root / f"p{i}" / "image.nii.gz").write_bytes(b"nothing")
    with pytest.raises(DataError, match="none of the 6 volumes can be read|nothing is left for the split"):
        make(unreadable="skip", size=None).prepare()


def test_what_a_recipe_cannot_ask_for_is_refused_at_once(make):
    block = Crop(size=(1, 2, 3))
    for message, options in (
        ("exclude each other", {"slices": True, "crop": block}),
        ("'crop.at_mask' is 'node'", {"crop": Crop(size=(1, 2, 3), at_mask="node")}),
        ("'tumour' is in neither 'mask_files' nor 'labels'", {"masks": ("tumour",)}),
        ("columns of 'table'", {"scalars": ("age",)}),
        ("without 'at', 'sizing'", {"at": "foreground", "crop": block}),
        ("'shift' has no effect", {"shift": (0, 1, 0), "crop": block}),
        ("'sizing' = resize sets the spacing", {"sizing": "resize", "spacing_mm": (1.0, 1.0, 1.0)}),
        ("'sizing' = resize leaves nothing", {"sizing": "resize", "at": "foreground"}),
        ("'at' is 'liver'", {"at": "liver"}),
        ("goes without 'slices'", {"sizing": "lungs", "slices": True}),
        ("'valid' is always there", {"masks": ("valid",)}),
        ("masks' names something twice", {"masks": ("lesion", "lesion")}),
        ("no mask 'gtv'; LIDC has nodule", {"kind": Lidc, "masks": ("gtv",)}),
        ("places its own blocks", {"kind": Lidc, "unit": "nodule", "slices": True}),
    ):
        with pytest.raises(ValueError, match=message):
            make(**options)
    for message, options in (
        ("depth 4: dataset.slices", {"slices": True, "size": (4, 5, 6)}),
        ("volume.size is not set", {"kind": Lidc, "unit": "nodule", "size": None}),
        ("volume.size is not set", {"sizing": "lungs", "size": None}),
    ):
        with pytest.raises(RecipeError, match=message):
            make(**options)
    with pytest.raises(RecipeError, match="volume.size is not set: dataset.geometry = 'resample'"):
        make(kind=Dicom, root=str(DATA / "torchio_dcm"), geometry="resample", size=None).spec  # noqa: B018


def test_a_folder_without_volumes_is_told(make, tmp_path):
    with pytest.raises(DataError, match="dataset.root is not set"):
        make(root="").prepare()
    with pytest.raises(DataError, match="does not exist"):
        make(root=str(tmp_path / "absent")).prepare()
    (tmp_path / "empty").mkdir()
    for kind in (Nifti, Dicom, Lidc):
        with pytest.raises(DataError, match="dataset.root: no .* in"):
            make(kind=kind, root=str(tmp_path / "empty"), masks=()).prepare()
    assert make(root=str(tmp_path / "empty")).fingerprint() == {}


def test_a_recipe_without_a_folder_can_be_planned_but_not_prepared(make):
    spec = make(root="", size=(4, 6, 8), spacing_mm=(3.0, 1.0, 1.0), table="t.csv", classes={"grade": ("I", "II")}).spec
    assert (spec.units, spec.spacing_mm, spec.classes) == ("HU", (3.0, 1.0, 1.0), {"grade": ("I", "II")})
    assert spec.masks == ("valid", "lesion") and spec.scale.lo.item() == -1000
    assert make(kind=Lidc, root="", size=(4, 6, 8)).spec.classes["nodule"][0] == "none"
    with pytest.raises(DataError, match="dataset.root is not set"):
        make(root="", size=None).spec  # noqa: B018
    with pytest.raises(DataError, match="dataset.root is not set"):
        make(root="", size=(4, 6, 8)).split("train")


# conditions


def test_conditions_come_from_a_table(make, root):
    (root / "c.csv").write_text("subject,age,grade\np0,61,II\np1,,I\np2,50,II\np3,40,I\np4,30,\n")
    dataset = make(table="c.csv", scalars=("age",), classes={"grade": ()})
    assert dataset.spec.classes == {"grade": ("I", "II")}
    found = {s.subject: s.condition for name in ("train", "val") for s in dataset.split(name)}
    assert found["p0"] == {"age": 61.0, "grade": 1} and found["p3"] == {"age": 40.0, "grade": 0}
    assert np.isnan(found["p1"]["age"]) and found["p4"]["grade"] == -1
    assert np.isnan(found["p5"]["age"]) and found["p5"]["grade"] == -1
    notes = dataset.prepare()["notes"]
    assert "condition 'age' is unknown for 2 of 6 scans" in notes
    assert "condition 'grade' is unknown for 2 of 6 scans" in notes


# cache and record


def test_a_volume_is_read_once_and_again_when_anything_changes(make, root, monkeypatch):
    read = []
    true = module.prepared
    monkeypatch.setattr(module, "prepared", lambda s, *rest: (read.append(s.id), true(s, *rest))[1])
    make().prepare()
    assert len(set(read)) == 6
    read.clear()
    first = make()
    first.prepare()
    assert read == [] and first.split("train")[0].x.shape == (1, Z, Y, X)
    make(scale=Intensity(lo=-50.0, hi=50.0)).prepare()
    assert read == []  # the window comes after the cache
    make(spacing_mm=(2.0, 1.0, 1.0)).prepare()
    assert len(set(read)) == 6
    read.clear()
    before = first.fingerprint()
    save(root / "p2" / "image.nii.gz", volume(77))
    changed = make()
    changed.prepare()
    assert set(read) == {"p2/image"} and changed.fingerprint() != before
    read.clear()
    save(root / "p3" / "lesion.nii.gz", volume(3) > 800)
    dataset = make()
    dataset.prepare()
    sample = next(s for name in ("train", "val") for s in dataset.split(name) if s.id == "p3/image")
    assert set(read) == {"p3/image"} and np.array_equal(sample.masks["lesion"], volume(3) > 800)


def test_the_fingerprint_follows_files_and_table(make, root):
    (root / "c.csv").write_text("subject,age\np0,61\n")
    one = make(table="c.csv", scalars=("age",)).fingerprint()
    assert one == make(table="c.csv", scalars=("age",)).fingerprint()
    (root / "c.csv").write_text("subject,age\np0,62\n")
    assert make(table="c.csv", scalars=("age",)).fingerprint() != one
    shutil.copytree(root, root.parent / "moved")
    assert make().fingerprint() == make(root=str(root.parent / "moved")).fingerprint()


# real files


def test_a_ct_series_with_its_structures(make):
    root = str(DATA / "sts_002")
    with pytest.raises(DataError, match=r"dataset.modality is not set, .* holds CT \(1 series\), MR \(1 series\)"):
        make(kind=Dicom, root=root).prepare()
    dataset = make(
        size=None, kind=Dicom, root=root, modality="CT", masks=("gtv",), header=("age", "sex", "slice_spacing_mm"),
        split=SplitOptions(val=0.0), scale=Intensity(lo=-1000.0, hi=1156.0),
    )  # fmt: skip
    sample = dataset.split("train")[0]
    assert dataset.spec.size == (48, 143, 161) and dataset.spec.units == "HU"
    assert np.allclose(dataset.spec.spacing_mm, (3.27, 0.976562, 0.976562), atol=1e-5)
    hu = sample.scale.to_physical(sample.x)
    assert abs(float(hu.astype(np.float64).mean()) - -291.535) < 1e-2 and sample.masks["gtv"].sum() == 17090
    assert abs(float(hu[0][sample.masks["gtv"]].mean()) - 59.021) < 1e-2
    assert np.allclose(sample.geometry.affine[:3, 3], (1.953, 59.5702, -629.04), atol=1e-3)
    assert sample.subject == "subject-0001" and sample.condition["sex"] == 1 and np.isnan(sample.condition["age"])
    assert abs(sample.condition["slice_spacing_mm"] - 3.27) < 1e-6 and dataset.spec.classes["sex"] == ("F", "M", "O")
    notes = dataset.prepare()["notes"]
    assert any("its modality is MR" in note for note in notes)
    assert any("mask/RS.dcm: taken for" in note and "the nearest folder" in note for note in notes)


def test_a_ct_of_one_subject_is_trained_and_validated_on_its_parts(make):
    dataset = make(
        size=None, kind=Dicom, root=str(DATA / "sts_002" / "CT"), masks=("gtv",), split=SplitOptions(val=0.25),
        crop=Crop(size=(16, 40, 36), per_volume=3, at_mask="gtv"), augment=("flip_w",),
    )  # fmt: skip
    check_dataset(dataset)
    assert any(dataset.split("train").view(0, d).masks["gtv"].any() for d in range(8))


def test_an_mr_series_and_its_nifti_agree(make):
    mr = {"size": None, "split": SplitOptions(val=0.0), "masks": ("gtv",)}
    dicom = make(kind=Dicom, root=str(DATA / "sts_002"), modality="mr", **mr).split("train")[0]
    nifti = make(
        root=str(DATA / "sts_002" / "MR_T1" / "nifti"), pattern="image/*.nii.gz", modality="MR",
        mask_files={"gtv": "mask/mask.nii.gz"}, **mr,
    ).split("train")[0]  # fmt: skip
    assert np.allclose(dicom.x, nifti.x, atol=1e-4) and np.array_equal(dicom.masks["gtv"], nifti.masks["gtv"])
    assert dicom.masks["gtv"].sum() == 17090 and np.allclose(dicom.geometry.affine, nifti.geometry.affine, atol=1e-3)
    values = dicom.scale.to_physical(dicom.x)
    assert values.min() >= 0 and values.max() <= 1198


def test_a_series_with_reversed_axes_is_turned_as_simpleitk_does(make):
    sitk = pytest.importorskip("SimpleITK")
    folder = DATA / "torchio_dcm"
    dataset = make(
        size=None, kind=Dicom, root=str(folder), split=SplitOptions(val=0.0), scale=Intensity("window", 0.0, 696.0)
    )
    sample = dataset.split("train")[0]
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(next(folder.rglob("*.dcm")).parent))
    image = sitk.DICOMOrient(sitk.ReadImage(names), "LPS")
    ours = sample.scale.to_physical(sample.x)[0]
    assert np.allclose(ours, sitk.GetArrayFromImage(image).astype(np.float32), atol=1e-3)
    assert np.allclose(sample.geometry.affine[:3, 3], image.GetOrigin(), atol=1e-3)


def test_four_dimensional_images_are_split_and_stay_with_their_subject(make):
    options = {"root": str(DATA / "nibabel"), "pattern": "functional.nii", "modality": "MR", "masks": (), "subject": ""}
    with pytest.raises(DataError, match="all 20 volumes belong to one subject"):
        make(size=None, **options).split("train")
    split = make(size=None, split=SplitOptions(val=0.0), **options).split("train")
    assert len(split) == 20 and split[7].id == "functional-t007" and split[7].subject == "functional"
    raw = np.asanyarray(nib.load(DATA / "nibabel" / "functional.nii").dataobj)[..., 7]
    image = nib.Nifti1Image(raw, nib.load(DATA / "nibabel" / "functional.nii").affine)
    target = nib.orientations.axcodes2ornt(("L", "P", "S"))
    turn = nib.orientations.ornt_transform(nib.orientations.io_orientation(image.affine), target)
    expected = np.asarray(image.as_reoriented(turn).dataobj).T
    lo, hi = split[7].scale.lo.item(), split[7].scale.hi.item()
    assert np.allclose(split[7].scale.to_physical(split[7].x)[0], np.clip(expected, lo, hi), rtol=1e-4)


def test_lidc_scans_and_nodules(make):
    root = str(DATA / "lidc3")
    scans = make(size=None, kind=Lidc, root=root, split=SplitOptions(val=0.0))
    sample = scans.split("train")[0]
    assert sample.x.shape == (1, 11, 512, 512) and sample.masks["nodule"].sum() == 3241
    assert scans.spec.classes == {"nodule": ("none", "solid", "part-solid", "ground-glass")}
    assert sample.condition["nodule"] == 1 and sample.condition["malignancy"] == (5 + 5 + 3 + 4) / 4
    assert 25 < sample.condition["diameter_mm"] < 40
    notes = " ".join(scans.prepare()["notes"])
    assert "chest X-rays" in notes and "nodule-2" in notes  # the three nodules that lie elsewhere
    nodules = make(size=(11, 56, 48), kind=Lidc, root=root, unit="nodule", split=SplitOptions(val=0.0))
    assert len(nodules.split("train")) == 1
    block = nodules.split("train")[0]
    centre = np.argwhere(block.masks["nodule"]).mean(0)
    assert block.masks["nodule"].sum() == 3241 and np.abs(centre[1:] - (27.5, 23.5)).max() < 6
    z, y, x = TRUTH["lidc3"]["xml"][0]["clusters_on_given_slices"][0]["centroid_zyx_consensus"]
    there = np.linalg.inv(sample.geometry.affine) @ block.geometry.affine @ [*centre, 1]
    assert np.allclose(there[:3], (z, y, x), atol=0.02)
    slices = make(size=(1, 64, 72), kind=Lidc, root=root, slices=True, split=SplitOptions(val=0.0)).split("train")
    assert len(slices) == 11 and all(s.condition["nodule"] == 0 for s in slices)  # the middle of the image has none
    wide = make(size=None, kind=Lidc, root=root, slices=True, split=SplitOptions(val=0.0)).split("train")
    classes = [s.condition["nodule"] for s in wide]
    assert (
        set(classes) == {0, 1} and [s.masks["nodule"].any() <= (c == 1) for s, c in zip(wide, classes)] == [True] * 11
    )


def test_uneven_stacks_are_refused_stacked_or_interpolated(make, tmp_path):
    series = tmp_path / "uneven"
    shutil.copytree(DATA / "sts_002" / "CT" / "dicom" / "image", series)
    for name in ("000010.dcm", "000011.dcm", "000030.dcm"):
        (series / name).unlink()
    options = {"kind": Dicom, "root": str(series), "split": SplitOptions(val=0.0)}
    with pytest.raises(DataError, match=r"uneven.*geometry = \"warn\""):
        make(size=(48, 30, 32), **options).prepare()
    warned = make(size=None, geometry="warn", **options)
    assert warned.spec.size == (45, 143, 161) and any("stacked as they are" in n for n in warned.prepare()["notes"])
    even = make(size=(48, 143, 161), geometry="resample", **options)
    sample = even.split("train")[0]
    whole = make(size=None, kind=Dicom, root=str(DATA / "sts_002" / "CT"), split=SplitOptions(val=0.0)).split("train")[
        0
    ]
    same = [np.abs(a - b).mean() for a, b in zip(sample.x[0], whole.x[0])]
    assert np.median(same) < 1e-6 and max(same) < 0.05 and sample.masks["valid"].all()
    sliced = make(size=(1, 143, 161), geometry="resample", slices=True, **options)
    assert len(sliced.split("train")) == 48  # known once it was read


def test_a_damaged_series_of_one_patient_is_refused_or_skipped(make, tmp_path):
    import pydicom

    root = tmp_path / "archive"
    for i in range(4):
        shutil.copytree(DATA / "dcmqi_seg" / "ct-3slice", root / f"p{i}")
        for path in (root / f"p{i}").iterdir():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of values in this file that are none of ours
                data = pydicom.dcmread(path)
                data.PatientID, data.SeriesInstanceUID = f"patient {i}", f"1.2.{i}"
                data.PixelData = bytes(data.PixelData[2 * i :]) + bytes(2 * i)  # no two with equal content
                data.save_as(path)
    victim = sorted((root / "p1").iterdir())[1]
    victim.write_bytes(victim.read_bytes()[:-5000])
    options = {"size": (3, 64, 72), "kind": Dicom, "root": str(root)}
    with pytest.raises(DataError, match=f"{victim.name}.*dataset.unreadable"):
        make(**options).prepare()
    dataset = make(unreadable="skip", **options)
    record = dataset.prepare()
    seen = sorted(s for n in ("train", "val") for s in record["splits"][n]["subjects"])
    assert seen == ["subject-0001", "subject-0003", "subject-0004"] and len(record["skipped"]) == 1
    assert any(victim.name in note and note.startswith("passed over") for note in record["notes"])
    check_dataset(dataset)
