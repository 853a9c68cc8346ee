"""Recovery rates: against scikit-learn's neighbours, blind and sharp features."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from gen_core.batch import Batch
from gen_metrics.alterations import QUERIES, altered
from gen_metrics.metric_options import Recovery as Options
from gen_metrics.recovery import Recovery, pixels


class Levels:
    """Each band's mean and sd: what a shift or a rotation hardly moves."""

    takes, dim = "volume", 10

    def eval(self):
        return self

    def features(self, x):
        return torch.cat((x.mean((1, 3, 4)), x.std((1, 3, 4))), 1)

    def protocol(self):
        return {"name": "levels", "sha256": "3" * 64}


class Blind(Levels):
    def features(self, x):
        return torch.ones(len(x), 4)


def volumes(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    coarse = torch.nn.functional.interpolate(0.2 * torch.randn(n, 5, 5, 6, generator=g), (20, 24), mode="bilinear")
    return (coarse + 0.3 * torch.randn(n, 5, 1, 1, generator=g))[:, None].clamp(-1, 1)


@pytest.fixture
def recover(context):
    def run(options, x, networks, size=7):
        ctx = SimpleNamespace(**{**vars(context), "counts": {"train": len(x)}, "features": networks.__getitem__})
        metric = Recovery(options, ctx)
        for start in range(0, len(x), size):
            part = x[start : start + size]
            metric.update(Batch(part, [f"t{start + i:03d}" for i in range(len(part))]), "train")
        return metric

    return run


def test_rates_are_those_of_scikit_learn(recover, one):
    x = volumes(60)
    options = Options(features=("levels",), queries=60, neighbours=4, pixels=5)
    metric = recover(options, x, {"levels": Levels()})
    result = metric.compute()
    queries = torch.stack(
        [altered(v, kind, a, metric.seed + 6, f"t{i:03d}") for i, v in enumerate(x) for kind, a in QUERIES.items()]
    )
    spaces = {
        "levels": (Levels().features(x).numpy(), Levels().features(queries).numpy()),
        "pixels": (pixels(x, 5).numpy(), pixels(queries, 5).numpy()),
    }
    true = np.repeat(np.arange(60), len(QUERIES))
    for space, (base, rows) in spaces.items():
        for distance, name in (("l1", "manhattan"), ("l2", "euclidean"), ("cosine", "cosine")):
            at = NearestNeighbors(n_neighbors=4, metric=name, algorithm="brute").fit(base).kneighbors(rows)[1]
            want = (at == true[:, None]).any(1).mean()
            got = one(result, f"recovered, {space}, {distance}", "train")
            assert got.value == pytest.approx(want, abs=2.5 / len(rows)) and got.low <= got.value <= got.high
            first = one(result, f"recovered first, {space}, {distance}", "train")
            assert first.value == pytest.approx((at[:, 0] == true).mean(), abs=2.5 / len(rows))


def test_features_that_see_nothing_recover_by_chance_alone(recover, one):
    result = recover(Options(features=("blind",), queries=40, pixels=0), volumes(40), {"blind": Blind()}).compute()
    assert one(result, "recovered, blind, l1", "train").value == pytest.approx(10 / 40, abs=0.01)
    assert one(result, "recovered first, blind, l1", "train").value == pytest.approx(1 / 40, abs=0.01)


def test_every_alteration_has_its_rate_and_stronger_ones_are_no_easier(recover):
    networks = {"levels": Levels()}
    extra = recover(Options(features=("levels",), queries=80, neighbours=3), volumes(80), networks).compute().extra
    rates = extra["recovery"]["levels"]["l2"]
    assert list(rates) == list(QUERIES) and extra["dim"] == {"levels": 10, "pixels": 5 * 16 * 16}
    assert rates["flipped"] == {"recovered": 1.0, "first": 1.0}
    assert rates["cropped to 75 %"]["recovered"] <= rates["cropped to 90 %"]["recovered"]
    assert rates["shifted 10 %"]["recovered"] <= rates["shifted 3 %"]["recovered"]


def test_about_as_many_volumes_are_altered_as_asked_and_order_does_not_matter(recover):
    networks, options = {"levels": Levels()}, Options(features=("levels",), queries=20)
    one, other = recover(options, volumes(90), networks, 7), recover(options, volumes(90), networks, 30)
    assert 8 <= len(one.queries["levels"]) <= 36
    assert one.compute().to_json() == other.compute().to_json()


def test_distances_are_checked():
    for wrong in ((), ("l3",), ("l1", "l1")):
        with pytest.raises(ValueError, match="must name l1, l2 or cosine"):
            Options(distances=wrong)
