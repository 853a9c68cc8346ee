"""The dataset `retina-phantom` as recipes see it: contract, purity, splits, views, sizes, errors."""

import numpy as np
import pytest

from gen_core.dataset import DatasetContext
from gen_core.errors import DataError, RecipeError
from gen_core.options import SplitOptions, VolumeOptions
from gen_core.testing.data import check_dataset
from gen_core.volume import check_sample
from gen_hyperspectral.phantom.dataset import build
from gen_hyperspectral.phantom.dataset_options import RetinaPhantom
from gen_hyperspectral.phantom.volume import default_wavelengths

SIZE = (5, 34, 41)


@pytest.fixture
def make(tmp_path):
    def make(size=SIZE, nm=None, split=None, seed=0, limit=0, **options):
        options = {"subjects": 9, "workers": 1, **options}
        split = split or SplitOptions(val=0.34, seed=2)
        context = DatasetContext(VolumeOptions(size, nm), split, seed, tmp_path, limit)
        return build(RetinaPhantom(**options), context)

    return make


@pytest.mark.parametrize("size", [SIZE, (1, 33, 33), (16, 64, 64), (3, 57, 40), (2, 8, 9)])
def test_samples_keep_the_contract_at_any_size(make, size):
    d = make(size, subjects=4)
    assert d.spec.shape == (1, *size) and len(d.spec.wavelength_nm) == size[0]
    for name in ("train", "val"):
        sample = d.split(name)[0]
        check_sample(sample, d.spec)
        assert set(sample.masks) == set(d.spec.masks) == {"vein", "artery", "onh", "fovea", "valid"}
        outside = np.broadcast_to(~sample.masks["valid"], sample.x.shape[1:])
        assert (sample.x[0][outside] == -1).all()
        assert sample.x[0][~outside].std() > 0.05


def test_the_dataset_keeps_cores_contract(make):
    check_dataset(make())


def test_the_default_is_sixteen_bands_of_64_by_64(make):
    d = make(None)
    assert d.spec.size == (16, 64, 64)
    np.testing.assert_allclose(d.spec.wavelength_nm, np.linspace(450, 900, 16))
    assert default_wavelengths(1) == (555.0,)


def test_bands_use_their_range(make):
    d = make((16, 64, 64), subjects=16)
    x = np.stack([s.x[0][:, s.masks["valid"][0]] for s in d.split("train")])
    assert (x >= 1).mean() < 0.002
    high = np.quantile(x, 0.999, axis=(0, 2))
    assert (high > 0.0).all()


@pytest.mark.parametrize("seed", range(4))
def test_splits_are_disjoint_by_subject_and_seeded(make, seed):
    d = make(split=SplitOptions(val=0.3, test=0.2, seed=seed), subjects=10, volumes_per_subject=2)
    who = {name: {s.subject for s in d.split(name)} for name in ("train", "val", "test")}
    assert [len(who[n]) for n in ("train", "val", "test")] == [5, 3, 2]
    assert len(set.union(*who.values())) == 10
    assert all(len(d.split(n)) == 2 * len(who[n]) for n in who)
    other = make(split=SplitOptions(val=0.3, test=0.2, seed=seed + 1), subjects=10)
    assert other.subjects != d.subjects


def test_prepare_prints_the_splits_and_volumes_are_unique(make):
    d = make()
    calls = []

    class Display:
        def update(self, stage, step, total, values, speed):
            calls.append((stage, step, total))

    record = d.prepare(Display())
    assert record["splits"]["train"]["volumes"] == 6 and record["splits"]["val"]["volumes"] == 3
    assert not set(record["splits"]["train"]["subjects"]) & set(record["splits"]["val"]["subjects"])
    assert calls[-1] == ("prepare val", 3, 3)
    hashes = [s.hash for n in ("train", "val") for s in d.split(n)]
    assert len(set(hashes)) == 9


def test_repeat_visits_show_the_same_eye_under_other_light(make):
    d = make(volumes_per_subject=2)
    a, b = d.split("train")[0], d.split("train")[1]
    assert a.subject == b.subject and a.id != b.id and a.hash != b.hash
    np.testing.assert_array_equal(a.masks["vein"], b.masks["vein"])
    assert a.condition == b.condition


def test_views_flip_volume_and_masks_together(make):
    split = make(augment=("flip",)).split("train")
    sample = split[1]
    flipped = 0
    for draw in range(20):
        view, again = split.view(1, draw), split.view(1, draw)
        np.testing.assert_array_equal(view.x, again.x)
        turn = (lambda a: a[..., ::-1]) if (view.x != sample.x).any() else (lambda a: a)
        flipped += (view.x != sample.x).any()
        np.testing.assert_array_equal(view.x, turn(sample.x))
        for name in sample.masks:
            np.testing.assert_array_equal(view.masks[name], turn(sample.masks[name]))
    assert 4 < flipped < 16


def test_without_augmentation_views_are_the_volumes(make):
    split = make(augment=()).split("train")
    assert all((split.view(0, draw).x == split[0].x).all() for draw in range(8))


def test_limit_takes_the_first_volumes_of_each_split(make):
    d, whole = make(limit=2), make()
    for name in ("train", "val"):
        assert [s.id for s in d.split(name)] == [s.id for s in whole.split(name)][:2]


def test_large_splits_are_rendered_at_each_access(make, tmp_path):
    d = make(cache_gib=0.0)
    assert "rendered at each access" in d.prepare()["notes"][0]
    assert not list(tmp_path.iterdir())
    stored = make()
    np.testing.assert_array_equal(d.split("val")[1].x, stored.split("val")[1].x)
    assert d.split("val")[1].hash == stored.split("val")[1].hash


def test_scale_brings_samples_back_to_reflectance(make):
    d = make()
    physical = d.spec.scale.to_physical(d.split("train")[0].x)
    assert physical.min() >= 0 and 0.01 < physical.max() < 0.5
    assert d.spec.units == "reflectance"


@pytest.mark.parametrize(
    ("size", "nm", "message"),
    [
        ((3, 32, 32), (500.0, 600.0), "wavelengths_nm has 2 values"),
        ((2, 32, 32), (600.0, 500.0), "must rise"),
        ((2, 32, 32), (300.0, 500.0), "400 to 1000 nm"),
        ((2, 4, 32), None, "H, W >= 8"),
    ],
)
def test_bad_volumes_are_refused(make, size, nm, message):
    with pytest.raises(RecipeError, match=message):
        make(size, nm)


def test_bad_splits_are_refused(make):
    with pytest.raises(RecipeError, match="nothing is left"):
        make(split=SplitOptions(val=0.5, test=0.5))
    with pytest.raises(RecipeError, match="too few"):
        make(split=SplitOptions(val=0.3, test=0.3), subjects=2)
    with pytest.raises(DataError, match="no split 'dev'"):
        make().split("dev")


def test_options_refuse_nonsense():
    for bad in ({"subjects": 0}, {"fov_mm": 40.0}, {"vessel_scale": 0.0}, {"noise": -1.0}, {"seed": -1}):
        with pytest.raises(ValueError):
            RetinaPhantom(**bad)
