"""The tracker `tensorboard`: event files in the run's folder, one board run a fit and one for the scores.

A fit that goes on is written whole again behind a `SessionLog.START` at step 0, by which TensorBoard forgets all points
of that board run: neither doubles nor gaps, whatever was killed when. The files of earlier sittings are removed then.
Written with tensorboard's own records; torch is not loaded.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from gen_core.tracker import Point, Score, TrackedRun, Tracker
from gen_trackers.tracker_options import TensorBoard

RUN = "run"  # the board run of settings and scores


class TensorBoardEvents(Tracker):
    """`tensorboard --logdir runs` shows trackers/tensorboard/<fit> of each run."""

    def __init__(self, options: TensorBoard, context: Any) -> None:
        import tensorboard.summary.writer.record_writer  # noqa: F401 (that it is installed)

        self._options = options
        self._files: dict[str, EventFile] = {}

    def start(self, run: TrackedRun) -> None:
        self._folder = run.folder
        self._anew(RUN)
        if self._options.recipe:
            self._text("recipe", "    " + json.dumps(run.recipe, indent=1).replace("\n", "\n    "))

    def points(self, stage: str, points: list[Point], anew: bool) -> None:
        if anew:
            self._anew(stage)
        for point in points:
            self._scalars(stage, point.named(), point.step, point.time)

    def flush(self) -> None:
        for file in self._files.values():
            file.flush()

    def scores(self, scores: list[Score]) -> None:
        for score in scores:
            ends = {"value": score.value, "low": score.low, "high": score.high}
            named = {f"{score.key}/{end}": value for end, value in ends.items() if value is not None}
            self._scalars(RUN, named, 0, time.time())

    def end(self, state: str, report: Path | None) -> None:
        for file in self._files.values():
            file.close()

    def _anew(self, name: str) -> None:
        """A file whose reader forgets what was there."""
        from tensorboard.compat.proto.event_pb2 import SessionLog

        if name not in self._files:
            shutil.rmtree(self._folder / name, ignore_errors=True)
            self._files[name] = EventFile(self._folder / name)
        self._files[name].write(0, time.time(), session_log=SessionLog(status=SessionLog.START))

    def _scalars(self, name: str, values: dict[str, float], step: int, at: float) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        found = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._files[name].write(step, at, summary=Summary(value=found))

    def _text(self, tag: str, text: str) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
        from tensorboard.compat.proto.types_pb2 import DT_STRING

        shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
        tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode()], tensor_shape=shape)
        about = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
        value = Summary.Value(tag=tag, metadata=about, tensor=tensor)
        self._files[RUN].write(0, time.time(), summary=Summary(value=[value]))


class EventFile:
    """One event file, in a folder of its own. What cannot be written is an OSError at once, not lost in a thread."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True)
        now = time.time()
        self._records = RecordWriter((folder / f"events.out.tfevents.{int(now):010d}.{os.getpid()}").open("wb"))
        self.write(0, now, file_version="brain.Event:2")
        self.flush()

    def write(self, step: int, at: float, **what: Any) -> None:
        """Append an event; at: seconds since 1970."""
        from tensorboard.compat.proto.event_pb2 import Event

        self._records.write(Event(step=step, wall_time=at, **what).SerializeToString())

    def flush(self) -> None:
        self._records.flush()

    def close(self) -> None:
        self._records.close()
