"""The data set: contract, splits without leaks, scale, crops, masks, cache, and each thing a user can get wrong."""

import json
import time
from pathlib import Path

import cattrs
import matplotlib.image
import numpy as np
import pytest
from attrs import evolve

from gen_core.dataset import DatasetContext
from gen_core.errors import DataError, RecipeError
from gen_core.options import SplitOptions, VolumeOptions
from gen_core.testing import check_dataset
from gen_core.volume import VolumeSpec
from gen_hyperspectral.dataset.dataset import build
from gen_hyperspectral.dataset_options import Crop, CubeScale, Hyperspectral
from gen_hyperspectral.prepare.area_resize import area_resize
from gen_hyperspectral.writers.envi import EnviFiles
from gen_hyperspectral.writers.npy import NpyFiles

SALTON = Path(__file__).parents[3] / "data" / "mat_salton" / "salton_sea_roi.mat"
WAVELENGTH = np.array([450.0, 480, 500, 530, 560])
Y, X, B = 14, 11, 5
TARGETS = (452.0, 501.0, 559.0)


def write(folder, name, seed, **extra):
    """One cube (y, x, band) as .npy with a sidecar; returns it."""
    cube = np.random.default_rng(seed).random((Y, X, B)).astype(np.float32) * 100 + 10 * np.arange(B, dtype=np.float32)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, cube)
    path.with_suffix(".json").write_text(json.dumps({"axes": "yxb", "wavelength_nm": WAVELENGTH.tolist(), **extra}))
    return cube


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "cubes"
    for i in range(6):
        write(folder, f"p{i // 2}/eye{i}.npy", i)
    return folder


@pytest.fixture
def make(root, tmp_path):
    def make(size=(3, 7, 4), targets=TARGETS, split=None, seed=5, limit=0, cache="cache", **options):
        context = DatasetContext(
            VolumeOptions(size, targets), split or SplitOptions(val=0.34), seed, tmp_path / cache, limit
        )
        return build(Hyperspectral(**{"root": str(root), **options}), context)

    return make


def test_the_contract_is_kept(make):
    check_dataset(make(augment=("flip_h", "flip_v")))
    check_dataset(make(size=(3, 5, 5), crop=Crop((5, 6), 4), augment=("rot90",), split=SplitOptions(val=0.2, test=0.2)))


def test_building_reads_nothing_and_is_quick(make):
    began = time.perf_counter()
    make(root="/nowhere/at/all")
    assert time.perf_counter() - began < 0.1


def test_a_volume_is_bands_then_area_then_scale(make, root):
    dataset = make(scale=CubeScale("fixed", lo=(0.0,), hi=(150.0,)))
    sample = next(s for s in dataset.split("train"))
    cube = np.load(root / f"{sample.id}.npy")
    expected = area_resize(cube[:, :, [0, 2, 4]].transpose(2, 0, 1), (7, 4))
    assert sample.x[0] == pytest.approx(expected / 75 - 1, abs=1e-5)
    assert sample.scale.to_physical(sample.x)[0] == pytest.approx(expected, rel=1e-4)
    assert dataset.spec.wavelength_nm == TARGETS and dataset.spec.shape == (1, 3, 7, 4)
    assert sample.masks["valid"].all() and sample.subject == Path(sample.id).name


def test_gaussian_bands_are_weighted(make, root):
    dataset = make(bands="gaussian", fwhm_nm=30.0, targets=(480.0, 530.0), size=(2, Y, X))
    sample = dataset.split("train")[0]
    cube = np.load(root / f"{sample.id}.npy").astype(np.float64)
    w = (
        np.exp(-0.5 * ((WAVELENGTH[:, None] - [480.0, 530.0]) / (30 / 2.354820045)) ** 2)
        * np.gradient(WAVELENGTH)[:, None]
    )
    expected = np.einsum("yxb,bd->dyx", cube, w / w.sum(axis=0))
    physical = dataset.cached.volume(next(s for s in dataset.sources if s.id == sample.id))[0]
    assert physical == pytest.approx(expected, rel=1e-3)


def test_subjects_come_from_stem_pattern_or_path_part(make):
    assert {s.subject for s in make().sources} == {f"eye{i}" for i in range(6)}
    for how in (r"(p\d)/", "0", "-2"):
        dataset = make(subject=how)
        assert {s.subject for s in dataset.sources} == {"p0", "p1", "p2"}
        record = dataset.prepare()
        train, val = (set(record["splits"][n]["subjects"]) for n in ("train", "val"))
        assert not train & val and train | val == {"p0", "p1", "p2"}
        assert len(dataset.split("train")) == 4 and len(dataset.split("val")) == 2
    for how, word in (("(q)", "finds no group"), ("p", "finds no group"), ("(", "no regular"), ("5", "no such part")):
        with pytest.raises(DataError, match=rf"dataset\.subject = .*{word}"):
            make(subject=how).split("train")


def test_the_scale_sees_training_volumes_only(make, root):
    dataset = make(scale=CubeScale("minmax"))
    train = [np.load(root / f"{s.id}.npy") for s in dataset.split("train")]
    small = [area_resize(c[:, :, [0, 2, 4]].transpose(2, 0, 1), (7, 4)) for c in train]
    assert dataset.scale.lo.ravel() == pytest.approx(np.min(small, axis=(0, 2, 3)), rel=1e-6)
    assert dataset.scale.hi.ravel() == pytest.approx(np.max(small, axis=(0, 2, 3)), rel=1e-6)
    for s in dataset.split("train"):
        assert s.x.min() >= -1 and s.x.max() <= 1
    assert min(s.x.min() for s in dataset.split("train")) == -1


def test_a_scale_can_be_handed_to_another_folder(make, tmp_path):
    dataset = make()
    scale = dataset.spec.scale
    for i, s in enumerate(dataset.split("train")):
        for writer, folder in ((NpyFiles(), "npy"), (EnviFiles(), "envi")):
            (tmp_path / folder).mkdir(exist_ok=True)
            writer.write(tmp_path / folder / f"sample-{i}", scale.to_physical(s.x), dataset.spec, {"synthetic": True})
    fixed = CubeScale("fixed", lo=tuple(scale.lo.ravel().tolist()), hi=tuple(scale.hi.ravel().tolist()))
    for folder in ("npy", "envi"):
        other = make(root=str(tmp_path / folder), split=SplitOptions(val=0.0), scale=fixed)
        assert len(other.split("train")) == len(dataset.split("train")) and len(other.split("val")) == 0
        for a, b in zip(dataset.split("train"), other.split("train")):
            assert a.x == pytest.approx(b.x, abs=2e-6)


def test_equal_content_in_two_splits_is_refused_in_whatever_format(make, root):
    dataset = make()
    twin = dataset.split("val")[0].id
    cube = np.load(root / f"{twin}.npy")
    spec = VolumeSpec(size=(B, Y, X), wavelength_nm=tuple(WAVELENGTH))
    for i in range(12):  # some of the copies fall into training
        EnviFiles().write(root / f"copy{i}", cube.transpose(2, 0, 1)[None], spec, {})
    with pytest.raises(DataError, match=r"(train|val).* and .*(train|val).* have the same content"):
        make().prepare()


def test_the_cache_is_reused_keyed_and_mended(make, root, monkeypatch):
    import gen_hyperspectral.dataset.cached_cubes as module

    calls = []
    real = module.preprocess
    monkeypatch.setattr(module, "preprocess", lambda *a, **k: calls.append(1) or real(*a, **k))
    first = make()
    first.prepare()
    assert len(calls) == 6
    kept = [s.x for s in first.split("val")]
    again = make()
    again.prepare()
    assert len(calls) == 6 and all(np.array_equal(a, s.x) for a, s in zip(kept, again.split("val")))
    make(size=(3, 6, 4)).prepare()
    make(targets=(452.0, 501.0, 530.0)).prepare()
    assert len(calls) == 18
    write(root, "p0/eye0.npy", 99)
    changed = make()
    changed.prepare()
    assert len(calls) == 19
    entries = sorted((changed.cache.folder).rglob("*.npy"))
    for entry in entries:
        entry.write_bytes(entry.read_bytes()[:-3])
    with pytest.warns(UserWarning, match="made again"):
        mended = make()
        mended.prepare()
    assert [s.x.tolist() for s in mended.split("val")] == [s.x.tolist() for s in changed.split("val")]


def test_the_fingerprint_follows_content_and_not_the_clock(make, root):
    before = make().fingerprint()
    assert before == make().fingerprint() and before["cubes"] == 6
    path = root / "p0" / "eye0.npy"
    path.touch()
    assert make().fingerprint() == before
    write(root, "p0/eye0.npy", 99)
    assert make().fingerprint() != before
    assert make(root="/nowhere").fingerprint() == {}


def test_views_are_crops_of_the_training_region_and_move_masks_along(make, root):
    for i in range(6):
        mask = np.zeros((Y, X), bool)
        mask[3:9, 2:6] = True
        np.save(root / f"p{i // 2}" / f"eye{i}_vein.npy", mask)
    options = dict(size=(3, 6, 6), crop=Crop((6, 6), 5), augment=("flip_h", "flip_v", "rot90"))
    options["masks"] = {"vein": "{stem}_vein.npy"}
    dataset = make(**options, scale=CubeScale("fixed", lo=(0.0,), hi=(200.0,)))
    assert len(dataset.sources) == 6, "mask files are no cubes"
    train = dataset.split("train")
    assert len(train) == 4 * 5
    seen = set()
    for draw in range(8):
        view = train.view(2, draw)
        seen.add(view.id)
        source = next(s for s in dataset.sources if view.id.startswith(s.id))
        y, x = map(int, view.id.split("@")[1].split(","))
        cube = np.load(source.path)[y : y + 6, x : x + 6, [0, 2, 4]].transpose(2, 0, 1) / 100 - 1
        mask = np.load(source.path.with_name(source.path.stem + "_vein.npy"))[y : y + 6, x : x + 6]
        moves = [
            (np.rot90(c, k, (-2, -1)), np.rot90(m, k, (-2, -1)))
            for c, m in ((cube, mask), (cube[..., ::-1], mask[..., ::-1]))
            for k in range(4)
        ]
        fitting = [m for c, m in moves if np.allclose(view.x[0], c, atol=1e-5)]
        assert len(fitting) == 1 and np.array_equal(view.masks["vein"][0], fitting[0])
    assert len(seen) > 2
    assert np.array_equal(dataset.split("val").view(0, 3).x, dataset.split("val")[0].x)
    other = make(**options, seed=6).split("train")
    assert any(other.view(2, d).id != train.view(2, d).id for d in range(4))


def test_masks_are_images_too_and_are_resized(make, root):
    mask = np.zeros((Y, X), np.uint8)
    mask[:, :5] = 255
    for i in range(5):
        matplotlib.image.imsave(root / f"p{i // 2}" / f"eye{i}.png", np.stack([mask] * 3, -1))
    dataset = make(size=(3, 7, 4), masks={"left": "{stem}.png"})
    record = dataset.prepare()
    assert any("mask 'left' is missing beside 1 cube" in n for n in record["notes"])
    samples = [s for n in ("train", "val") for s in dataset.split(n)]
    given = [s.masks["left"] for s in samples if "left" in s.masks]
    assert len(given) == 5 and dataset.spec.masks == ("valid", "left")
    expected = area_resize((mask > 0).astype(float), (7, 4)) >= 0.5
    assert all(np.array_equal(m, expected[None]) for m in given)
    matplotlib.image.imsave(root / "p0" / "eye0.png", np.zeros((3, 4, 3), np.uint8))
    with pytest.raises(DataError, match=r"eye0\.png: mask is \[3, 4\], its cube \[14, 11\]"):
        make(masks={"left": "{stem}.png"}).prepare()


def test_missing_values_follow_the_policy_down_to_the_mask_valid(make, root):
    cube = write(root, "p1/eye3.npy", 3)
    cube[0:4, 0:6, 2] = np.nan
    np.save(root / "p1" / "eye3.npy", cube)
    with pytest.raises(DataError, match=r"eye3\.npy: NaN.*dataset\.nan"):
        make().prepare()
    everything = SplitOptions(val=0.0)
    masked = next(s for s in make(nan="mask", split=everything).split("train") if s.id.endswith("eye3"))
    assert not masked.masks["valid"][0, :2, :2].any() and masked.masks["valid"][0, 2:].all()
    assert (masked.x[0][:, ~masked.masks["valid"][0]] == -1).all()
    filled = next(s for s in make(nan="fill", split=everything).split("train") if s.id.endswith("eye3"))
    assert filled.masks["valid"].all()


def test_one_subject_is_cut_into_regions_and_the_record_says_so(tmp_path):
    context = DatasetContext(VolumeOptions((16, 24, 24)), SplitOptions(), 0, tmp_path)
    dataset = build(Hyperspectral(root=str(SALTON), variable="I", crop=Crop((24, 24), 9)), context)
    check_dataset(dataset)
    record = dataset.prepare()
    assert "one subject: train and validation are regions of the same cube, with a gap between them" in record["notes"]
    assert sum("micrometres" in note for note in record["notes"]) == 1
    regions = record["regions"]["salton_sea_roi"]
    assert regions["train"]["x1"] < regions["val"]["x0"]
    columns = {"train": set(), "val": set()}
    for name in columns:
        split = dataset.split(name)
        assert len(split) == 9
        for i in range(9):
            for sample in (split[i], split.view(i, 1)):
                x = int(sample.id.split(",")[1])
                columns[name] |= set(range(x, x + 24))
    assert not columns["train"] & columns["val"]
    assert len(dataset.spec.wavelength_nm) == 16
    bad = range(107, 113)
    stored = [round(w, 6) for w in dataset.first.wavelength_nm]
    assert all(stored.index(round(w, 6)) not in bad for w in dataset.spec.wavelength_nm)


def test_the_real_scene_without_its_bad_band_list_is_refused_for_its_nan(tmp_path):
    context = DatasetContext(VolumeOptions((224, 24, 24)), SplitOptions(), 0, tmp_path)
    options = Hyperspectral(root=str(SALTON), variable="I", crop=Crop((24, 24)), use_bbl=False)
    with pytest.raises(DataError, match=r"salton_sea_roi\.mat: NaN"):
        build(options, context).prepare()
    filled = build(evolve(options, nan="fill"), context)
    assert filled.split("train")[0].masks["valid"].all()


def test_size_and_bands_come_from_the_first_cube_when_the_recipe_is_silent(make):
    dataset = make(size=None, targets=None)
    assert dataset.spec.size == (B, Y, X) and dataset.spec.wavelength_nm == tuple(WAVELENGTH)
    assert make(size=None, targets=None, bad_bands=(1,)).spec.size == (B - 1, Y, X)
    assert make(size=None).spec.size == (3, Y, X)
    dataset = make(size=(3, 20, 20), targets=None)
    assert dataset.spec.wavelength_nm == (450.0, 500.0, 560.0)
    assert any("enlarged by linear interpolation" in n for n in dataset.prepare()["notes"])


def test_wavelengths_of_the_recipe_fill_in_for_silent_files(make, root):
    for sidecar in root.rglob("*.json"):
        sidecar.write_text('{"axes": "yxb"}')
    with pytest.raises(DataError, match=r"eye\d\.npy: its wavelengths are unknown; give dataset\.wavelengths_nm"):
        make().prepare()
    assert make(wavelengths_nm=tuple(WAVELENGTH)).prepare()["wavelength_nm"] == list(TARGETS)
    with pytest.raises(DataError, match=r"dataset\.wavelengths_nm has 2 values for 5 bands"):
        make(wavelengths_nm=(1.0, 2.0)).prepare()
    unknown = make(targets=None)
    assert unknown.spec.wavelength_nm is None and unknown.split("train")[0].x.shape == (1, 3, 7, 4)


def test_units_of_the_recipe_settle_a_guess(make, root):
    for sidecar in root.rglob("*.json"):
        sidecar.write_text(json.dumps({"axes": "yxb", "wavelengths": (WAVELENGTH / 1000).tolist()}))
    assert any("guessed" in n for n in make().prepare()["notes"])
    dataset = make(wavelength_units="um")
    assert not any("guessed" in n for n in dataset.prepare()["notes"])
    assert dataset.first.wavelength_nm == pytest.approx(WAVELENGTH)


def test_unreadable_files_are_refused_or_passed_over_aloud(make, root):
    (root / "p9").mkdir()
    (root / "p9" / "broken.npy").write_bytes(b"\x93NUMPY\x01\x00")
    with pytest.raises(DataError, match=r"broken\.npy.*dataset\.unreadable"):
        make(split=SplitOptions(val=0.0)).prepare()
    dataset = make(split=SplitOptions(val=0.0), unreadable="skip")
    record = dataset.prepare()
    assert list(record["skipped"]) == ["p9/broken"] and len(dataset.split("train")) == 6
    assert any(note.startswith("passed over p9/broken: ") for note in record["notes"])


def test_a_limit_bounds_each_split(make):
    dataset = make(limit=1)
    assert dataset.prepare()["splits"]["train"]["volumes"] == 1
    assert len(dataset.split("train")) == len(dataset.split("val")) == 1


@pytest.mark.parametrize("root", ["", "/nowhere/at/all"])
def test_without_data_the_message_names_the_root_and_the_phantom(root, make):
    for use in (lambda d: d.spec, lambda d: d.split("train"), lambda d: d.prepare()):
        with pytest.raises(DataError, match=r"dataset\.root.*--set dataset\.use=retina-phantom") as error:
            use(make(root=root))
        assert error.value.exit_code == 4


def test_a_folder_without_cubes_names_the_pattern(make, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("nothing")
    with pytest.raises(DataError, match=r"no cube.*dataset\.pattern = '\*\*/\*\.hdr'.*retina-phantom"):
        make(root=str(tmp_path / "empty"), pattern="**/*.hdr").prepare()


def test_one_subject_without_crops_is_refused_with_both_ways_out(make):
    with pytest.raises(DataError, match=r"one subject \('eye'\).*dataset\.crop\.size.*dataset\.subject"):
        make(subject="(eye)").split("train")


def test_settings_that_contradict_are_told_at_once(make):
    with pytest.raises(RecipeError, match=r"volume\.size has depth 4, volume\.wavelengths_nm 3 values"):
        make(size=(4, 7, 5))
    with pytest.raises(RecipeError, match="must rise"):
        make(targets=(500.0, 450.0, 600.0))
    with pytest.raises(RecipeError, match="rot90 needs square volumes"):
        make(augment=("rot90",))
    with pytest.raises(RecipeError, match="rot90 needs square volumes, these are 14 x 11"):
        make(size=None, augment=("rot90",)).spec  # noqa: B018
    with pytest.raises(DataError, match=r"14 x 11 pixels are smaller than dataset\.crop\.size \[20, 20\]"):
        make(crop=Crop((20, 20))).split("train")
    with pytest.raises(DataError, match=r"eye\d\.npy: no good band within 20 nm of 700 nm"):
        make(targets=(450.0, 500.0, 700.0)).prepare()


@pytest.mark.parametrize(
    "table, word",
    [
        ({"scale": {"mode": "fixed"}}, "scale.lo"),
        ({"scale": {"low": 0.9, "high": 0.5}}, "scale.high"),
        ({"fwhm_nm": 0}, "fwhm_nm"),
        ({"augment": ["flip_h", "flip_h"]}, "twice"),
        ({"crop": {"size": [0, 4]}}, "size"),
        ({"nan": "zero"}, "nan|Literal|zero"),
    ],
)
def test_options_are_checked_when_they_are_read(table, word):
    with pytest.raises(Exception) as error:  # cattrs wraps; the recipe turns it into one line
        cattrs.structure(table, Hyperspectral)
    lines = []
    stack = [error.value]
    while stack:
        e = stack.pop()
        lines.append(str(e))
        stack += list(getattr(e, "exceptions", []))
    assert any(part in line for part in word.split("|") for line in lines)


def test_options_come_from_toml_tables():
    table = {
        "root": "x",
        "crop": {"size": [4, 5]},
        "scale": {"mode": "fixed", "lo": [0, 1], "hi": [1, 2]},
        "augment": ["rot90"],
    }
    options = cattrs.structure(table, Hyperspectral)
    assert options.crop == Crop((4, 5)) and options.scale.hi == (1.0, 2.0) and options.augment == ("rot90",)
