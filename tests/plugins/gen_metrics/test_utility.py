"""Usefulness of pre-training: areas of probes, gains over the first, the ceiling, what is flagged and refused."""

import numpy as np
import pytest
import torch

from gen_core.batch import Batch
from gen_core.errors import RecipeError
from gen_core.testing import check_metric
from gen_metrics.metric_options import Utility as Options
from gen_metrics.utility import Utility

PROBES = ("features.real", "features.both", "features.none")


@pytest.fixture
def make(context):
    return lambda probes=PROBES, **options: Utility(Options(probes, **options), context)


def test_areas_and_their_interval(make, feed, world, one, batches):
    from sklearn.metrics import roc_auc_score

    result = feed(make()).compute()
    batch = batches("val", 24)[0]
    label = batch.condition["deposits"].numpy()
    for name, bands in (("real", [0]), ("both", [0, 4]), ("none", [3])):
        value = one(result, f"auc, {name}", "val")
        assert value.value == pytest.approx(roc_auc_score(label, batch.x[:, 0, bands].mean((1, 2, 3)).numpy()))
        assert value.low < value.value < value.high and value.n == 24 and value.interval == "95 %, DeLong"
    gain = one(result, "auc gain, both over real", "val")
    assert gain.value == pytest.approx(one(result, "auc, both", "val").value - one(result, "auc, real", "val").value)
    rows = result.extra["comparisons"]
    assert [(r["probe"], r["over"]) for r in rows] == [("features.both", PROBES[0]), ("features.none", PROBES[0])]
    assert all(r["p"] <= r["p_holm"] <= 1 for r in rows)
    assert result.protocol["probes"]["features.both"]["label"] == "deposits"


def test_order_size_and_shards_do_not_matter(make, batches):
    check_metric(make, [("val", b) for b in batches("val", 5)])


def test_the_ceiling_of_the_data_set_stands_beside(make, context, feed, one):
    context.prepared = {
        "ceilings": {"deposits": {"auc": 0.92, "splits": {"val": 0.95}, "definition": "x"}},
        "volumes": {"val": 24},
    }
    result = feed(make()).compute()
    assert one(result, "auc, ceiling", "").value == 0.92
    assert one(result, "auc, ceiling on these volumes", "val").value == 0.95
    context.prepared["volumes"]["val"] = 99  # a part of the split was scored: its own ceiling is another
    names = [v.name for v in feed(make()).compute().values]
    assert "auc, ceiling" in names and "auc, ceiling on these volumes" not in names


def labelled(scores, labels):
    x = torch.zeros(len(scores), 1, 5, 20, 24)
    x[:, :, 0] = torch.tensor(scores)[:, None, None, None]
    return Batch(x, [f"v{i}" for i in range(len(x))], condition={"deposits": torch.tensor(labels)})


def test_few_volumes_of_a_class_are_flagged(make, one):
    metric = make(("features.real",))
    metric.update(labelled(list(np.linspace(-1, 1, 30)), [0.0] * 21 + [1.0] * 3 + [0.0] * 6), "val")
    value = one(metric.compute(), "auc, real", "val")
    assert "only 3 present (under 10)" in value.flag


def test_classes_that_do_not_overlap_are_flagged_because_the_interval_has_no_width(make, one):
    metric = make(("features.real",))
    metric.update(labelled(list(np.linspace(-1, 1, 30)), [0.0] * 15 + [1.0] * 15), "val")
    value = one(metric.compute(), "auc, real", "val")
    assert value.value == value.low == value.high == 1.0 and "do not overlap" in value.flag


def test_one_class_alone_has_no_area(make):
    metric = make(("features.real",))
    metric.update(labelled([0.1, 0.2, 0.3], [1.0, 1.0, 1.0]), "val")
    result = metric.compute()
    assert not result.values and "with and without" in result.protocol["note"]


def test_what_is_no_probe_of_the_label_is_refused(make, batches):
    with pytest.raises(RecipeError, match=r"\[features\] is no probe of 'deposits'"):
        make(("features",)).update(batches("val", 4)[0], "val")
    with pytest.raises(RecipeError, match="no such condition; they have deposits"):
        make(label="age").update(batches("val", 4)[0], "val")
    other = batches("val", 4)[0]
    other.condition["age"] = other.condition["deposits"]
    with pytest.raises(RecipeError, match="no probe of 'age'"):
        make(label="age").update(other, "val")


def test_options_want_tables_each_once():
    for bad in ((), ("a", "a")):
        with pytest.raises(ValueError, match="at least one table, each once"):
            Options(bad)
