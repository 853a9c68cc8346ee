"""What holds for every metric: independence of order and batching, merging, honest JSON."""

import importlib
import json
import random

import pytest

from gen_core.metric import SOURCES
from gen_metrics import metric_options
from gen_metrics.plugin import METRICS, register_metrics

SETTINGS = {
    "hyperspectral-fid": {"features": "colours", "triplets": 9},
    "ms-ssim": {"volumes": 10, "pairs": 12},
    "memorization": {"planted": 12},
    "bits-per-dim": {"volumes": 5},
    "mask-agreement": {"mask": "onh", "least_voxels": 1},
    "utility": {"probes": ("features.real", "features.both")},
    "segmentation": {"classes": {"vessel": ("vein", "artery"), "onh": ("onh",)}},
}


@pytest.fixture
def build(context):
    def make(name):
        module, cls, _ = METRICS[name]
        options = getattr(metric_options, cls)(**SETTINGS.get(name, {}))
        return getattr(importlib.import_module(f"gen_metrics.{module}"), cls)(options, context)

    return make


def test_the_door_registers_every_metric_by_strings_that_resolve():
    seen = {}
    register_metrics(lambda name, **kw: seen.update({name: kw}))
    assert set(seen) == set(METRICS)
    for row in seen.values():
        for target in (row["options"], row["build"]):
            module, attribute = target.split(":")
            assert hasattr(importlib.import_module(module), attribute)


def same(a, b):
    """Equal JSON up to rounding."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for k in a:
            same(a[k], b[k])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b):
            same(x, y)
    elif isinstance(a, float):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-5)
    else:
        assert a == b


@pytest.mark.parametrize("name", METRICS)
def test_order_and_size_of_batches_do_not_matter_and_parts_merge(name, build, batches, feed, world):
    whole = feed(build(name), 5)
    first, second = build(name), build(name)
    shuffler = random.Random(0)
    for source in reversed(whole.sources):
        order = list(range(len(world[source][0])))
        shuffler.shuffle(order)
        for n, batch in enumerate(batches(source, 3, order)):
            (first if n % 2 else second).update(batch, source)
    first.merge(second)
    same(whole.compute().to_json(), first.compute().to_json())


@pytest.mark.parametrize("name", METRICS)
def test_results_are_json_without_nan_and_computing_twice_changes_nothing(name, build, feed):
    metric = feed(build(name))
    result = metric.compute()
    assert result.values and result.protocol["definition" if "definition" in result.protocol else "disc"]
    assert json.dumps(result.to_json(), allow_nan=False) == json.dumps(metric.compute().to_json(), allow_nan=False)
    assert set(metric.sources) <= set(SOURCES)
    for v in result.values:
        assert v.low is None or v.low <= v.value <= v.high, v


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_that_saw_nothing_or_one_volume_still_answers(name, build, batches):
    metric = build(name)
    json.dumps(metric.compute().to_json(), allow_nan=False)
    for source in metric.sources:
        metric.update(batches(source, 1)[0], source)
    json.dumps(metric.compute().to_json(), allow_nan=False)
