"""The tracker `wandb`: a Weights & Biases run kept in the run's folder; `wandb sync` sends it when you want that.

No network is used. Each sitting writes the whole run from its first point, under the run's own id, and removes what
earlier sittings left: what was killed leaves neither doubles nor gaps. It asks for no `resume`, so `wandb sync` sends
the run from its first line again, over what an earlier one sent. W&B only appends, so within a sitting a step that
comes again behind a checkpoint is passed over. Left out of what it collects by itself: code, git, host, command line,
installed packages, hardware, console.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gen_core.tracker import Point, Score, TrackedRun, Tracker
from gen_trackers.tracker_options import WeightsAndBiases

BLOCK, HEADER = 32768, 7  # bytes of a .wandb file: of a block, and of the head of each piece in it
EXIT_CODES = {"done": 0, "stopped": 75, "failed": 1}


class WandbOffline(Tracker):
    """trackers/wandb/wandb/offline-run-*."""

    def __init__(self, options: WeightsAndBiases, context: Any) -> None:
        os.environ["WANDB_ERROR_REPORTING"] = "false"  # to W&B itself
        import wandb

        self._wandb, self._options = wandb, options
        self._sent: set[tuple[str, str, int]] = set()  # (stage, kind, step)
        self._stages: set[str] = set()

    def start(self, run: TrackedRun) -> None:
        o = self._options
        shutil.rmtree(run.folder / "wandb", ignore_errors=True)
        os.environ["WANDB_CACHE_DIR"] = str(run.folder / "cache")
        quiet = self._wandb.Settings(
            silent=True,
            console="off",
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            host="",
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        self._run = self._wandb.init(
            project=o.project,
            entity=o.entity or None,
            group=o.group or None,
            name=run.name,
            id=run.id,
            dir=str(run.folder),
            mode="offline",
            config=run.recipe if o.recipe else None,
            settings=quiet,
        )
        self._file = Path(self._run.dir).parent / f"run-{run.id}.wandb"

    def points(self, stage: str, points: list[Point], anew: bool) -> None:
        at = _name(stage)
        if stage not in self._stages:
            self._stages.add(stage)
            self._run.define_metric(f"{at}/*", step_metric=f"{at}/step")
        for point in points:
            key = (stage, point.kind, point.step)
            if key in self._sent:
                continue
            self._sent.add(key)
            named = {_name(f"{stage}/{name}"): value for name, value in point.named().items()}
            self._run.log({**named, f"{at}/step": point.step})

    def scores(self, scores: list[Score]) -> None:
        for score in scores:
            ends = {"": score.value, "/low": score.low, "/high": score.high}
            told = {_name(f"scores/{score.key}{end}"): value for end, value in ends.items() if value is not None}
            self._run.summary.update(told)

    def end(self, state: str, report: Path | None) -> None:
        self._run.finish(exit_code=EXIT_CODES[state])
        self._wandb.teardown()  # only then its own process has written everything
        if not any(record.WhichOneof("record_type") == "exit" for record in records(self._file)):
            raise OSError(f"{self._file}: not whole; is the disk full?")  # W&B itself does not say so


def _name(text: str) -> str:
    """A name without dots: in W&B they part a name in two."""
    return text.replace(".", "-")


def records(path: Path) -> Iterator[Any]:
    """The records of a .wandb file, up to one that is not whole: a LevelDB log behind a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, parts = path.read_bytes(), HEADER, b""
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:  # too little for another piece
            at += BLOCK - at % BLOCK
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + HEADER])  # checksum, bytes, 1: whole, 2 to 4: pieces
        at += HEADER + size
        if at > len(data):
            return
        parts += data[at - size : at]
        if kind in (1, 4):
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""
