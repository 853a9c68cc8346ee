"""The tracker `mlflow`: a run in a database of the run's folder, or on the server that [trackers.mlflow] uri names.

The MLflow run goes on with the run: its id lies in `run.json`. MLflow only appends, so each curve is asked once which
steps it has, and those that come again are passed over: what it has is what was sent, whatever was killed when.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

from gen_core import atomic
from gen_core.tracker import Point, Score, TrackedRun, Tracker
from gen_trackers.tracker_options import Mlflow

FILE = "run.json"
STATUS = {"done": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
AT_ONCE = 1000  # metrics of a call; 100 of parameters
LONGEST = 500  # letters of a parameter


class MlflowRun(Tracker):
    """`mlflow ui --backend-store-uri sqlite:///runs/NAME/trackers/mlflow/mlflow.db` shows it."""

    def __init__(self, options: Mlflow, context: Any) -> None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # a server that is not there is soon told
        import mlflow
        from mlflow.entities import Metric, Param

        self._client_of, self._metric, self._param = mlflow.MlflowClient, Metric, Param
        self._options = options
        self._steps: dict[str, set[int]] = {}  # that the run has, by metric
        self._waiting: list[Any] = []

    def start(self, run: TrackedRun) -> None:
        uri = self._options.uri or f"sqlite:///{run.folder / 'mlflow.db'}"
        self._client = self._client_of(tracking_uri=uri)
        former = self._former(run.folder / FILE, uri)
        self._goes_on = former is not None
        self._run = former or self._begin(run, uri)
        if self._options.recipe:
            there = self._client.get_run(self._run).data.params
            told = {_name(key): str(value)[:LONGEST] for key, value in _flat(run.recipe).items()}
            new = [self._param(key, value) for key, value in told.items() if key not in there]
            for first in range(0, len(new), 100):
                self._client.log_batch(self._run, params=new[first : first + 100])

    def points(self, stage: str, points: list[Point], anew: bool) -> None:
        for point in points:
            for name, value in point.named().items():
                self._add(_name(f"{stage}/{name}"), value, point.step, point.time)

    def flush(self) -> None:
        while self._waiting:
            self._client.log_batch(self._run, metrics=self._waiting[:AT_ONCE])
            del self._waiting[:AT_ONCE]

    def scores(self, scores: list[Score]) -> None:
        for score in scores:
            for end, value in (("", score.value), ("/low", score.low), ("/high", score.high)):
                key = _name(f"scores/{score.key}{end}")
                if value is not None and [m.value for m in self._history(key)][-1:] != [value]:
                    self._waiting.append(self._metric(key, value, int(time.time() * 1000), 0))

    def end(self, state: str, report: Path | None) -> None:
        self.flush()
        self._client.set_terminated(self._run, STATUS[state])

    def _former(self, path: Path, uri: str) -> str | None:
        """The id of the run that an earlier sitting began there, which now goes on."""
        from mlflow.exceptions import MlflowException

        try:
            kept = atomic.json_object(path)
        except (OSError, ValueError):
            return None
        if kept.get("uri") != uri:
            return None
        try:
            self._client.update_run(kept["run"], status="RUNNING")
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return kept["run"]

    def _begin(self, run: TrackedRun, uri: str) -> str:
        name = self._options.experiment
        found = self._client.get_experiment_by_name(name)
        place = None if self._options.uri else (run.folder / "artifacts").as_uri()
        experiment = found.experiment_id if found else self._client.create_experiment(name, artifact_location=place)
        begun = self._client.create_run(experiment, run_name=run.name, tags={"gen.run": run.id}).info.run_id
        atomic.write_json(run.folder / FILE, {"uri": uri, "run": begun})
        return begun

    def _history(self, key: str) -> list[Any]:
        return self._client.get_metric_history(self._run, key) if self._goes_on else []

    def _add(self, key: str, value: float, step: int, at: float) -> None:
        if key not in self._steps:
            self._steps[key] = {metric.step for metric in self._history(key)}
        if step not in self._steps[key]:
            self._steps[key].add(step)
            self._waiting.append(self._metric(key, value, int(at * 1000), step))


def _name(text: str) -> str:
    """A name as MLflow takes them."""
    return re.sub(r"[^\w\-. :/]", "_", text)[:250]


def _flat(recipe: dict[str, Any], before: str = "") -> dict[str, Any]:
    """{"codec": {"fit": {"lr": 1}}} -> {"codec.fit.lr": 1}"""
    found: dict[str, Any] = {}
    for key, value in recipe.items():
        found |= _flat(value, f"{before}{key}.") if isinstance(value, dict) else {f"{before}{key}": value}
    return found
