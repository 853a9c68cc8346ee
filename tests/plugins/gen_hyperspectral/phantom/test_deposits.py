"""Deposits: a label of its own stream, a map beside vessels, a known best observer; without them nothing changes."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from gen_core.dataset import DatasetContext
from gen_core.options import SplitOptions, VolumeOptions
from gen_core.testing.data import check_dataset
from gen_hyperspectral.phantom import optics
from gen_hyperspectral.phantom.dataset import build
from gen_hyperspectral.phantom.dataset_options import RetinaPhantom
from gen_hyperspectral.phantom.deposits import amount_auc, auc, ceiling_record, deposit_map, draw_deposits
from gen_hyperspectral.phantom.eye import draw_eye, draw_vessels
from gen_hyperspectral.phantom.fields import fields
from gen_hyperspectral.phantom.volume import default_wavelengths, describe, render

SIZE = (5, 34, 41)
ON = RetinaPhantom(deposits=0.4)


def maps(subject, size, options=ON):
    eye = draw_eye(options.seed, subject)
    f = fields(eye, draw_vessels(options.seed, eye, options.vessel_scale), options.seed, size, options.fov_mm)
    return f, deposit_map(options, subject, f)


@pytest.mark.parametrize(
    ("size", "subject", "golden", "veins"),
    [
        # as rendered before there were deposits: single voxels with their noise, and a band's mean
        ((5, 34, 41), 0, [-0.794521, -0.712108, -0.000150, 0.189302, -0.300525], 0),
        ((5, 34, 41), 3, [-0.733870, -0.531046, 0.464358, 0.675225, -0.0683716], 21),
        ((16, 64, 64), 3, [-0.752414, -0.733942, -0.735211, -0.481121, -0.645791], 261),
    ],
)
def test_without_deposits_eyes_are_the_same_as_before_there_were_any(size, subject, golden, veins):
    x, m = render(RetinaPhantom(), size, default_wavelengths(size[0]), subject)
    found = [x[0, 0, 17, 20], x[0, 1, 9, 13], x[0, 2, 20, 25], x[0, 4, 12, 30], x[0, 3].mean(dtype=float)]
    np.testing.assert_allclose(found, golden, atol=2e-6)  # the last bits are those of the machine's exp
    assert m["vein"].sum() == veins


def test_deposits_of_no_amount_leave_every_byte_as_it_was():
    silent = RetinaPhantom(deposits=0.5, deposit_strength=0.0, deposit_spread=0.0)
    nm = default_wavelengths(SIZE[0])
    for subject in range(3):
        assert render(silent, SIZE, nm, subject)[0].tobytes() == render(RetinaPhantom(), SIZE, nm, subject)[0].tobytes()


def test_without_deposits_a_cache_entry_keeps_its_name(tmp_path):
    def entry(**options):
        context = DatasetContext(VolumeOptions(SIZE), SplitOptions(val=0.34, seed=2), 0, tmp_path)
        return build(RetinaPhantom(subjects=9, **options), context).split("train").cache.folder.name

    assert entry() == entry(deposit_strength=0.2) == "train-4ba097b5baf3954fdae9"
    assert entry(deposits=0.5) != entry() and entry(deposits=0.5, deposit_strength=0.2) != entry(deposits=0.5)


def test_the_label_is_drawn_by_prevalence_and_a_higher_one_takes_none_back():
    marked = [{s for s in range(400) if draw_deposits(RetinaPhantom(deposits=p), s).present} for p in (0.2, 0.5, 1.0)]
    assert abs(len(marked[0]) - 80) < 25 and abs(len(marked[1]) - 200) < 30 and len(marked[2]) == 400
    assert marked[0] < marked[1] < marked[2]
    assert draw_deposits(RetinaPhantom(), 3) is None


def test_amounts_are_two_gaussians_of_one_spread():
    o = RetinaPhantom(deposits=0.5, deposit_strength=0.3, deposit_spread=0.1)
    drawn = [draw_deposits(o, s) for s in range(2000)]
    for present, mean in ((False, 0.0), (True, 0.3)):
        amounts = np.array([d.amount for d in drawn if d.present == present])
        assert amounts.mean() == pytest.approx(mean, abs=0.012) and amounts.std() == pytest.approx(0.1, abs=0.008)


def test_the_map_lies_beside_vessels_off_the_disc_and_at_the_same_place_in_finer_pictures():
    f, fine = maps(2, (96, 128))
    _, coarse = maps(2, (48, 64))
    halved = fine.reshape(48, 2, 64, 2).mean((1, 3))
    assert np.corrcoef(halved.ravel(), coarse.ravel())[0, 1] > 0.95
    assert fine.min() >= 0 and 0.8 < fine.max() <= 1
    assert fine[f.masks["onh"]].mean() < 0.05
    vessel = f.masks["vein"] | f.masks["artery"]
    far = f.masks["valid"] & (fine < 0.02)
    assert fine[vessel].mean() > 1.5 * fine[f.masks["valid"] & ~vessel].mean()
    assert 0.05 < far.mean() < 0.6


def test_deposits_dim_the_blue_by_a_few_per_cent_where_they_lie_and_leave_the_red_alone():
    o = RetinaPhantom(deposits=0.5, noise=0.0)
    nm = (450.0, 570.0, 700.0)
    losses = []
    for s in range(6):
        f, where = maps(s, (48, 57), o)
        where = where[:, ::-1] if draw_eye(o.seed, s).mirrored else where
        valid = f.masks["valid"][:, ::-1] if draw_eye(o.seed, s).mirrored else f.masks["valid"]
        with_, without = ((render(o, (3, 48, 57), nm, s, present=p)[0][0] + 1) for p in (True, False))
        inside = valid & (where > 0.3)
        losses.append(1 - with_[:, inside].mean(1) / without[:, inside].mean(1))
        assert np.abs(with_ - without)[:, valid & (where < 1e-4)].max(initial=0) < 0.02
    blue, yellow, red = np.mean(losses, 0)
    assert 0.03 < blue < 0.09
    assert yellow / blue == pytest.approx(optics.deposit_density(570.0), rel=0.5)
    assert abs(red) < 0.002


def test_samples_carry_the_label_as_a_number_only_where_there_are_deposits(tmp_path):
    def first(**options):
        context = DatasetContext(VolumeOptions(SIZE), SplitOptions(val=0.34), 0, tmp_path)
        return build(RetinaPhantom(subjects=9, workers=1, **options), context)

    assert set(first().split("train")[0].condition) == {"age", "melanin"}
    d = first(deposits=0.5)
    for (subject, _), sample in zip(d.split("train").keys, d.split("train")):
        label = sample.condition["deposits"]
        assert label.dtype == np.float32 and label == draw_deposits(d.options, subject).present
        assert describe(d.options, subject)["deposits"]["present"] == bool(label)
    assert "deposits" in d.split("train").view(0, 3).condition
    check_dataset(d)


def test_prepare_records_the_ceiling_of_the_label(tmp_path):
    context = DatasetContext(VolumeOptions(SIZE), SplitOptions(val=0.4), 0, tmp_path)
    assert "ceilings" not in build(RetinaPhantom(subjects=9, workers=1), context).prepare()
    d = build(RetinaPhantom(subjects=40, workers=1, deposits=0.5), context)
    ceiling = d.prepare()["ceilings"]["deposits"]
    assert ceiling["auc"] == amount_auc(d.options)
    drawn = [draw_deposits(d.options, s) for s in d.subjects["val"]]
    a, b = ([v.amount for v in drawn if v.present == p] for p in (True, False))
    assert ceiling["splits"]["val"] == pytest.approx(mannwhitneyu(a, b).statistic / (len(a) * len(b)))


def test_a_split_with_one_class_has_no_ceiling_of_its_own():
    assert ceiling_record(RetinaPhantom(deposits=1.0), {"train": [0, 1, 2]})["splits"] == {}
    assert np.isnan(auc([1.0, 2.0], [True, True]))


def test_the_bound_is_the_binormal_area_of_the_amounts():
    o = RetinaPhantom(deposits=0.5)
    drawn = [draw_deposits(o, s) for s in range(4000)]
    assert auc([d.amount for d in drawn], [d.present for d in drawn]) == pytest.approx(amount_auc(o), abs=0.012)
    assert amount_auc(RetinaPhantom(deposit_strength=0.0)) == 0.5
    assert amount_auc(RetinaPhantom(deposit_spread=0.0)) == 1.0


def test_options_refuse_nonsense():
    for bad in ({"deposits": 1.2}, {"deposits": -0.1}, {"deposit_strength": 0.9}, {"deposit_spread": -0.1}):
        with pytest.raises(ValueError):
            RetinaPhantom(**bad)
