"""Photographs as volumes: contract, splits, the field, file kinds, and the real photographs of tests/data/chase."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gen_core.dataset import DatasetContext
from gen_core.errors import DataError, RecipeError
from gen_core.options import SplitOptions, VolumeOptions
from gen_core.testing import check_dataset
from gen_hyperspectral.dataset_options import CubeScale
from gen_hyperspectral.photographs.dataset import build
from gen_hyperspectral.photographs.dataset_options import FundusPhotographs

CHASE = Path(__file__).parents[3] / "data" / "chase"
Y, X = 18, 22
TRUTH = {  # vessel pixels of the first and second observer, Dice between them
    "01L": (66885, 63058, 0.817),
    "02R": (74890, 60221, 0.739),
    "03R": (72421, 57059, 0.743),
}


def picture(seed, h=Y, w=X):
    """(h, w, 3) uint8 RGB: a bright round field on black."""
    y, x = np.mgrid[:h, :w]
    field = np.hypot((y + 0.5 - h / 2) / h, (x + 0.5 - w / 2) / w) < 0.45
    image = np.random.default_rng(seed).integers(60, 250, (h, w, 3), np.uint8)
    return image * field[..., None].astype(np.uint8)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "photographs"
    (folder / "manual").mkdir(parents=True)
    for i in range(6):
        Image.fromarray(picture(i)).save(folder / f"child{i // 2}_{'LR'[i % 2]}.png")
        Image.fromarray(picture(i)[..., 0] > 150).save(folder / "manual" / f"child{i // 2}_{'LR'[i % 2]}_1.png")
    return folder


@pytest.fixture
def make(root, tmp_path):
    def make(size=(3, 9, 11), split=None, limit=0, wavelengths_nm=None, **options):
        context = DatasetContext(
            VolumeOptions(size, wavelengths_nm), split or SplitOptions(val=0.34), 5, tmp_path / "cache", limit
        )
        given = {"root": str(root), "subject": r"child(\d)", "masks": {"vessel": "manual/{stem}_1.png"}}
        return build(FundusPhotographs(**{**given, **options}), context)

    return make


def test_the_contract_is_kept(make):
    check_dataset(make(augment=("flip_h", "flip_v")))
    check_dataset(make(fold=1, scale=CubeScale()))


def test_planes_are_blue_green_red_and_masks_are_no_photographs(make, root):
    dataset = make(size=None, fold=0)
    assert dataset.spec.size == (3, Y, X) and dataset.spec.wavelength_nm == (460.0, 540.0, 610.0)
    assert [p.id for p in dataset.photographs] == [f"child{i}_{s}" for i in range(3) for s in "LR"]
    sample = dataset.split("val")[1]
    rgb = np.asarray(Image.open(root / "child0_R.png")) / 255.0
    inside = rgb.max(2) > 0.06
    assert np.array_equal(sample.masks["valid"][0], inside)
    assert np.allclose(sample.x[0][:, inside], 2 * rgb.transpose(2, 0, 1)[::-1][:, inside] - 1, atol=1e-6)
    assert (sample.x[0][:, ~inside] == -1).all()
    assert np.array_equal(sample.masks["vessel"][0], np.asarray(Image.open(root / "manual" / "child0_R_1.png")) > 0)


def test_reduction_is_the_mean_over_whole_blocks_inside_the_field(make, root):
    dataset = make(size=(3, 9, 11), fold=0)
    sample = dataset.split("val")[0]
    rgb = np.asarray(Image.open(root / "child0_L.png")) / 255.0
    blocks = rgb.reshape(9, 2, 11, 2, 3).mean((1, 3)).transpose(2, 0, 1)[::-1]
    whole = (rgb.max(2) > 0.06).reshape(9, 2, 11, 2).all((1, 3))
    assert whole.sum() > 20
    assert np.allclose(sample.x[0][:, whole], 2 * blocks[:, whole] - 1, atol=1e-5)


def test_every_fold_leaves_one_subject_out(make):
    for fold in range(3):
        dataset = make(fold=fold)
        assert {s.subject for s in dataset.split("val")} == {str(fold)} and len(dataset.split("val")) == 2
        assert {s.subject for s in dataset.split("train")} == {"0", "1", "2"} - {str(fold)}
        assert len(dataset.split("test")) == 0
    with pytest.raises(DataError, match="dataset.fold = 3: there are 3 subjects"):
        make(fold=3).split("val")
    with pytest.raises(DataError, match="subjects cannot be split"):
        make(split=SplitOptions(val=0.4, test=0.7)).split("val")


def test_views_mirror_masks_along_and_only_in_training(make):
    dataset = make(augment=("flip_h", "flip_v"), fold=0)
    train = dataset.split("train")
    plain, views = train[0], [train.view(0, draw) for draw in range(12)]
    corners = {v.x[0, 1].tobytes() for v in views}
    assert 2 <= len(corners) <= 4
    for view in views:
        assert np.array_equal(view.x[0, 0] > -1, view.masks["valid"][0])
        assert view.masks["vessel"].sum() == plain.masks["vessel"].sum()
    assert np.array_equal(dataset.split("val").view(0, 3).x, dataset.split("val")[0].x)


def test_a_mask_named_valid_is_the_field(make, root):
    for path in (root / "manual").glob("*_1.png"):
        field = np.zeros((Y, X), bool)
        field[6:12, 8:14] = True
        Image.fromarray(field).save(path.with_name(path.name.replace("_1.png", "_field.png")))
    dataset = make(size=None, fold=0, masks={"valid": "manual/{stem}_field.png"}, pattern="*.png")
    sample = dataset.split("val")[0]
    assert sample.masks["valid"][0].sum() == 36 and sample.masks["valid"][0, 6:12, 8:14].all()
    assert dataset.spec.masks == ("valid",)


def test_what_the_user_can_get_wrong_is_named(make, root, tmp_path):
    with pytest.raises(RecipeError, match="volume.size has depth 4"):
        make(size=(4, 9, 11))
    with pytest.raises(RecipeError, match="volume.wavelengths_nm: the planes of photographs"):
        make(wavelengths_nm=(450.0, 550.0, 650.0))
    with pytest.raises(RecipeError, match="rot90 needs square volumes"):
        make(augment=("rot90",))
    with pytest.raises(ValueError, match="three rising wavelengths"):
        FundusPhotographs(wavelengths_nm=(610.0, 540.0, 460.0))
    with pytest.raises(DataError, match="dataset.root is not set"):
        make(root="").split("train")
    with pytest.raises(DataError, match="is no folder"):
        make(root=str(tmp_path / "nowhere")).split("train")
    with pytest.raises(DataError, match="no photograph"):
        make(pattern="*.jpg").split("train")
    Image.fromarray(picture(0) // 30).save(root / "child0_L.png")
    with pytest.raises(DataError, match="child0_L.png: no field brighter than dataset.surround = 0.06"):
        make(fold=0).prepare()


def test_missing_masks_and_enlargement_are_said(make, root):
    (root / "manual" / "child1_L_1.png").unlink()
    notes = make(size=(3, 20, 11), fold=0).prepare()["notes"]
    assert "mask 'vessel' is missing for 1 photographs" in notes
    assert sum("enlarged by linear interpolation" in n for n in notes) == 6


def test_equal_photographs_in_two_splits_are_refused(make, root):
    (root / "child2_R.png").write_bytes((root / "child0_L.png").read_bytes())
    with pytest.raises(DataError, match="have the same content"):
        make(fold=2).prepare()


def test_the_fingerprint_changes_with_a_mask(make, root):
    before = make().fingerprint()
    Image.fromarray(np.ones((Y, X), bool)).save(root / "manual" / "child1_R_1.png")
    assert make().fingerprint() != before and make(root="").fingerprint() == {}


def test_the_chase_photographs_are_as_their_reference_says(tmp_path):
    options = FundusPhotographs(
        root=str(CHASE),
        pattern="images/*.jpg",
        subject=r"Image_(\d+)",
        masks={"vessel": "manual/{stem}_1stHO.png", "observer2": "manual/{stem}_2ndHO.png"},
    )
    dataset = build(options, DatasetContext(VolumeOptions(), SplitOptions(), 0, tmp_path))
    assert dataset.spec.size == (3, 960, 999) and sorted({p.subject for p in dataset.photographs}) == ["01", "02", "03"]
    by_id = {p.id.removeprefix("images/Image_"): p for p in dataset.photographs}
    for eye, (first, second, dice) in TRUTH.items():
        a, b = (dataset.mask(by_id[eye], name) for name in ("vessel", "observer2"))
        assert (int(a.sum()), int(b.sum())) == (first, second)
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) == pytest.approx(dice, abs=5e-4)
    volume, _ = dataset.volume(by_id["01L"])
    valid = np.isfinite(volume[0])
    assert 0.69 < valid.mean() < 0.70 and (dataset.mask(by_id["01L"], "vessel") & ~valid).mean() < 1e-3
    assert volume[2][valid].mean() > 2 * volume[1][valid].mean() > 3 * volume[0][valid].mean()  # red, green, blue
