"""Throughput from the run's measured times."""

from types import SimpleNamespace

import pytest

from gen_metrics.metric_options import Throughput as Options
from gen_metrics.throughput import Throughput


def test_rates_come_from_the_sample_step_and_go_to_the_cost(context, one):
    result = Throughput(Options(), context).compute()
    assert result.timing
    assert one(result, "samples a second", "synthetic").value == pytest.approx(22 / 4)
    assert one(result, "samples a second, without decoding", "synthetic").value == pytest.approx(22 / 3)
    assert one(result, "seconds, prepare", "").value == 2.0


@pytest.mark.parametrize("cost", [{}, {"sample": {}}, {"sample": {"seconds": 0.0, "volumes": 3}}, {"note": "text"}])
def test_a_run_without_samples_has_no_rate(cost):
    names = [v.name for v in Throughput(Options(), SimpleNamespace(cost=cost)).compute().values]
    assert "samples a second" not in names
