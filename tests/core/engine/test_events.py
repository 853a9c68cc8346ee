"""The diary survives kills and has no doubles."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from gen_core.engine.events import EventLog, read_events
from gen_core.errors import RunError


def test_lines_are_json_with_kind_stage_step_and_values(tmp_path):
    log = EventLog(tmp_path / "run" / "events.jsonl")
    log.write("train", "fit.codec", 3, {"loss": torch.tensor(0.5), "n": np.float32(2)}, note="ok", of=(1, 2))
    (line,) = (tmp_path / "run" / "events.jsonl").read_text().splitlines()
    event = json.loads(line)
    assert event.pop("time") > 1.6e9 and len(event.pop("crc")) == 8
    assert event == {"kind": "train", "stage": "fit.codec", "step": 3, "values": {"loss": 0.5, "n": 2.0},
                     "note": "ok", "of": [1, 2]}  # fmt: skip


def test_nan_becomes_null(tmp_path):
    log = EventLog(tmp_path / "e.jsonl")
    log.write("train", values={"a": float("nan"), "b": torch.tensor(float("inf"))})
    assert log.read()[0]["values"] == {"a": None, "b": None}


def test_a_torn_last_line_is_ignored_and_not_glued_to_the_next(tmp_path):
    path = tmp_path / "e.jsonl"
    EventLog(path).write("train", "a", 1)
    with path.open("a") as file:
        file.write('{"kind": "train", "stage": "a", "st')
    assert [e["step"] for e in read_events(path)] == [1]
    EventLog(path).write("train", "a", 2)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2]


def test_a_damaged_line_is_left_out(tmp_path):
    path = tmp_path / "e.jsonl"
    log = EventLog(path)
    for step, loss in ((1, 0.25), (2, 0.5), (3, 0.75)):
        log.write("train", "a", step, {"loss": loss}, note="a line\u2028of two")
    path.write_text(path.read_text().replace('"loss": 0.5', '"loss": 0.6'))
    assert [(e["step"], e["values"]["loss"]) for e in log.read()] == [(1, 0.25), (3, 0.75)]
    assert log.drop_after("a", 1) == 1 and [e["step"] for e in log.read()] == [1]


def test_a_file_of_one_torn_line_becomes_empty(tmp_path):
    path = tmp_path / "e.jsonl"
    path.write_bytes(b'{"ki')
    assert EventLog(path).read() == [] and path.stat().st_size == 0


def test_lines_beyond_the_checkpoint_are_dropped_for_that_stage_only(tmp_path):
    log = EventLog(tmp_path / "e.jsonl")
    for stage in ("fit.codec", "fit.prior"):
        for step in (2, 4, 6):
            log.write("train", stage, step)
    log.write("epoch", "fit.codec", 4)
    assert log.drop_after("fit.codec", 4) == 1
    assert log.drop_after("fit.codec", 4, at=["epoch"]) == 1
    kept = [(e["kind"], e["stage"], e["step"]) for e in log.read()]
    assert kept == [("train", "fit.codec", 2), ("train", "fit.codec", 4)] + [
        ("train", "fit.prior", step) for step in (2, 4, 6)
    ]


def test_an_unwritable_diary_is_a_run_error_naming_the_file(tmp_path):
    log = EventLog(tmp_path / "e.jsonl")
    (tmp_path / "e.jsonl").mkdir()
    with pytest.raises(RunError, match="e.jsonl: cannot write"):
        log.write("train")
