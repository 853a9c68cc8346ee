"""An MLflow run in a database, read back with MLflow's own client."""

from __future__ import annotations

import json

import pytest

from gen_core.testing import check_tracker
from gen_core.tracker import Point, Score, TrackedRun
from gen_trackers.mlflow_run import MlflowRun
from gen_trackers.tracker_options import Mlflow

pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("default")  # its libraries' own


@pytest.fixture
def sitting(tmp_path):
    """sitting(recipe, **options): a tracker at the start of a sitting."""

    def begin(settings=None, **options):
        tracker = MlflowRun(Mlflow(**options), None)
        tracker.start(TrackedRun("small", "id", tmp_path, settings or {}))
        return tracker

    return begin


def read(folder):
    """Client, the run, and the history of each metric as (step, value)."""
    from mlflow import MlflowClient

    kept = json.loads((folder / "run.json").read_text())
    client = MlflowClient(tracking_uri=kept["uri"])
    run = client.get_run(kept["run"])
    told = {key: client.get_metric_history(kept["run"], key) for key in run.data.metrics}
    return client, run, {key: [(m.step, m.value) for m in metrics] for key, metrics in told.items()}


def points(*found):
    return [Point("train", step, {"loss": step / 8}, time=1.7e9 + step) for step in found]


def test_it_keeps_the_contract(tmp_path):
    check_tracker(lambda: MlflowRun(Mlflow(), None), tmp_path)


def test_a_run_that_was_killed_goes_on_in_the_same_run_without_doubles_or_gaps(sitting, tmp_path):
    first = sitting({"codec": {"fit": {"lr": 0.5}}, "seed": 3})
    first.points("fit.codec", points(2, 4), True)
    first.flush()
    first.points("fit.codec", points(6), False)  # and killed: never flushed
    second = sitting({"codec": {"fit": {"lr": 0.5}}, "seed": 3})
    second.points("fit.codec", points(2, 4), True)
    second.points("fit.codec", points(2), True)
    second.points("fit.codec", points(4, 6, 8), False)
    second.end("stopped", None)
    client, run, history = read(tmp_path)
    assert history == {"fit.codec/train/loss": [(2, 0.25), (4, 0.5), (6, 0.75), (8, 1.0)]}
    assert run.info.status == "KILLED" and run.info.run_name == "small"
    assert run.data.params == {"codec.fit.lr": "0.5", "seed": "3"}
    assert len(client.search_runs([run.info.experiment_id])) == 1
    sitting().end("done", None)
    assert read(tmp_path)[1].info.status == "FINISHED"


def test_scores_are_written_once_unless_they_changed(sitting, tmp_path):
    fid = Score("fid", "fid", 12.5, "synthetic", "train", low=11.0, high=14.0)
    for score in (fid, fid, Score("fid", "fid", 9.0, "synthetic", "train", low=8.0, high=14.0)):
        tracker = sitting()
        tracker.scores([score])
        tracker.end("done", None)
    at = "scores/fid/fid/synthetic/train"
    wanted = {at: [(0, 12.5), (0, 9.0)], f"{at}/low": [(0, 11.0), (0, 8.0)], f"{at}/high": [(0, 14.0)]}
    assert read(tmp_path)[2] == wanted


def test_nothing_names_the_user_or_this_machine(sitting, tmp_path):
    sitting({"seed": 3}).end("done", None)
    _, run, _ = read(tmp_path)
    assert run.data.tags == {"gen.run": "id", "mlflow.runName": "small"} and run.info.user_id == "unknown"


def test_a_server_that_is_not_there_is_an_error_soon(sitting):
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match="max retries|Max retries|failed"):
        sitting(uri="http://127.0.0.1:9")
